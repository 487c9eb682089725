from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.loader import ClipLoader
from genie_robot.data.mixture import MIXTURES, Mixture, Part, load_mixture, open_parts
from genie_robot.data.registry import REGISTRY
from genie_robot.errors import ConfigError, DataError, DatasetNotFoundError
from tests.data.test_clip_builder import Write


def test_named_mixtures_hold_registered_datasets() -> None:
    for mixture in MIXTURES.values():
        assert mixture.about
        assert mixture.parts and all(part.dataset in REGISTRY for part in mixture.parts)
    soup = {part.dataset: part.weight for part in MIXTURES["oxe_magic_soup"].parts}
    assert len(soup) >= 20
    assert soup["fractal20220817_data"] == pytest.approx(0.541, abs=1e-3)
    assert soup["bridge_dataset"] == 1.0


def test_a_mixture_file(tmp_path: Path) -> None:
    (tmp_path / "bags" / "kitchen").mkdir(parents=True)
    path = tmp_path / "mine.yaml"
    path.write_text(
        "root: oxe\nbalanced: false\nparts:\n"
        "  - {dataset: taco_play, weight: 0.5}\n"
        "  - {dataset: bags/kitchen, image_key: /camera/image_raw, max_episodes: 3}\n"
    )
    parts = (Part("taco_play", 0.5), Part(str(tmp_path / "bags/kitchen"), 1.0, "/camera/image_raw", 3))
    assert load_mixture(str(path)) == Mixture(parts, False, str(tmp_path / "oxe"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parts: []", "wanted a list of parts"),
        ("- a", "wanted a list of parts"),
        ("part: [{dataset: a}]", "wanted a list of parts"),
        ("parts: [{weight: 1}]", "wanted a dataset"),
        ("parts: [{dataset: a, wieght: 1}]", "nothing else"),
        ("parts: [{dataset: a, weight: 0}]", "a weight above 0"),
        ("parts: [{dataset: a, weight: much}]", "much"),
        ("parts: {a: [", "is no YAML"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_mixture(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"'soup', wanted one of rt1, .* or a .yaml file"):
        load_mixture("soup")
    with pytest.raises(ConfigError, match="No such file"):
        load_mixture("nowhere.yaml")


def test_clips_come_from_all_datasets_by_weight(write: Write, tmp_path: Path) -> None:
    names, lengths = ("one", "two"), ([30] * 4, [30] * 2)
    caches = [
        build_clip_cache(write(name, train=part, val=[3]), tmp_path / name, 24, 32)
        for name, part in zip(names, lengths, strict=True)
    ]

    def share(**how: object) -> float:
        loader = ClipLoader(caches, 5, 4096, seed=1, **how)  # type: ignore[arg-type]
        return float(np.mean([place.dataset == 0 for place in loader.next_places()]))

    assert share() == pytest.approx(2 / 3, abs=1e-3)
    assert share(weights=[1.0, 4.0]) == pytest.approx(1 / 3, abs=1e-3)
    assert share(weights=[0.9, 0.1], balanced=False) == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("workers", [2, 5])
def test_threads_and_resuming_change_no_batch_of_a_mixture(
    write: Write, tmp_path: Path, workers: int
) -> None:
    from genie_robot.data.augment import Augmentation

    caches = [build_clip_cache(write(n, train=[9, 8], val=[3]), tmp_path / n, 24, 32) for n in ("one", "two")]
    more = {"weights": [0.3, 0.7], "balanced": False, "augmentation": Augmentation(0.2, 0.2)}
    plain = ClipLoader(caches, 4, 12, seed=4, **more)  # type: ignore[arg-type]
    for _ in range(3):
        next(plain)
    threaded = ClipLoader(caches, 4, 12, seed=0, workers=workers, **more)  # type: ignore[arg-type]
    threaded.load_state_dict(plain.state_dict())
    for _ in range(4):
        np.testing.assert_array_equal(next(plain).video_BTYXC, next(threaded).video_BTYXC)


def test_caches_that_do_not_fit_are_refused(write: Write, tmp_path: Path) -> None:
    folder = write(train=[9, 8], val=[3])
    caches = [build_clip_cache(folder, tmp_path / str(size), size, 32) for size in (24, 12)]
    with pytest.raises(ConfigError, match="do not fit together"):
        ClipLoader(caches, 4, 2)
    with pytest.raises(ConfigError, match="at least one dataset"):
        ClipLoader([], 4, 2)
    with pytest.raises(DataError, match="has 20 frames"):
        ClipLoader(caches[:1], 20, 2)


def test_the_parts_of_a_mixture_open_in_order(write: Write, tmp_path: Path) -> None:
    write("one", train=[3])
    two = write("two", train=[4])
    mixture = Mixture((Part("one"), Part(str(two)), Part("one", 2.0)), root=str(tmp_path / "data"))
    sources = open_parts(mixture, tmp_path / "nowhere")
    assert [source.name for source in sources] == ["one", "two", "one"]
    assert sources[0] is not sources[2]  # each is read by itself


def test_all_missing_parts_are_named_in_one_line(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("GENIE_ROBOT_DATA", "TFDS_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    write("one", train=[3])
    root = tmp_path / "data"
    parts = tuple(map(Part, ("one", "bridge_dataset", "bags/kitchen", "bridge_dataset:2.0.0", "kuka")))
    with pytest.raises(DatasetNotFoundError) as caught:
        open_parts(Mixture(parts), root)
    message = str(caught.value)
    assert (
        "3 of 5 parts of the mixture cannot be opened: bridge_dataset, bags/kitchen, bridge_dataset:2.0.0 ("
        in message
    )
    assert "bags/kitchen does not exist" in message and "1 more are not here but on Google Cloud" in message
    assert f"`genie-robot data fetch bridge_dataset bridge_dataset:2.0.0 --root {root} --yes`" in message
    assert "\n" not in message
    with pytest.raises(DatasetNotFoundError, match=r"^bridge_dataset is not in .*data fetch bridge_dataset"):
        open_parts(Mixture(parts[1:2]), root)


def test_parts_that_google_cloud_does_not_give_are_all_named(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without TensorFlow nothing can be read from there."""
    write("one", train=[3])
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    parts = (Part("one"), Part("kuka"), Part("taco_play"))
    with pytest.raises(DatasetNotFoundError) as caught:
        open_parts(Mixture(parts, root=str(tmp_path / "data")))
    assert re.search(r"2 of 3 parts .*: kuka, taco_play \(.*tensorflow", str(caught.value))
    assert f"data fetch kuka taco_play --root {tmp_path / 'data'} --yes" in str(caught.value)


def test_an_empty_folder_beside_the_file_hides_no_name(tmp_path: Path) -> None:
    (tmp_path / "kuka").mkdir()
    (tmp_path / "mine.yaml").write_text("parts: [{dataset: kuka}]")
    assert load_mixture(str(tmp_path / "mine.yaml")).parts == (Part("kuka"),)
    (tmp_path / "kuka" / "bag.mcap").write_text("")
    assert load_mixture(str(tmp_path / "mine.yaml")).parts == (Part(str(tmp_path / "kuka")),)
