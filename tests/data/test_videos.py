"""Folders of plain videos, written here with PyAV in four containers, and the real ones where they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.mixture import Mixture, Part, open_parts
from genie_robot.data.open import is_recording, open_dataset
from genie_robot.data.rlds import EpisodeSource
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError

av = pytest.importorskip("av")

Write = Callable[..., Path]
Shared = Callable[[str], Path]
CODECS = {".mp4": "libx264", ".mkv": "libx264", ".avi": "mpeg4", ".webm": "libvpx-vp9"}
HW = (48, 64)


def scene(number: int, hw: tuple[int, int] = HW) -> np.ndarray:
    """Frame `number`: one of 16 by 16 places is white (codecs keep that), over grey."""
    frame = np.full((*hw, 3), 90, np.uint8)
    y, x = divmod(number % 48, 8)
    frame[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8] = 255
    frame[:2] = (255, 0, 0)  # up is red
    return frame


def number_of(frame: np.ndarray) -> int:
    grey = frame[2:].astype(int).sum(axis=2)
    blocks = np.array(
        [[grey[max(0, y * 8 - 2) : y * 8 + 6, x * 8 : x * 8 + 8].mean() for x in range(8)] for y in range(6)]
    )
    return int(blocks.argmax())


def numbers_of(frames_TYXC: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in frames_TYXC]


def write_video(
    path: Path, numbers: Sequence[int], rate_hz: int = 10, times: Sequence[int] | None = None
) -> Path:
    """A video that shows `scene` of each number; `times`: when, in frames (default: one after another)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(CODECS[path.suffix.lower()], rate=rate_hz, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = HW[1], HW[0], "yuv420p"
        stream.bit_rate, stream.gop_size = 4_000_000, 12
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(scene(number), format="rgb24")
            frame.pts = times[place] if times else place
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def wanted(first: int, stop: int, step: int = 1) -> list[int]:
    return [number % 48 for number in range(first, stop, step)]


@pytest.mark.parametrize("suffix", CODECS)
def test_every_frame_of_every_container_is_read_in_order(tmp_path: Path, suffix: str) -> None:
    place = write_video(tmp_path / f"one{suffix}", range(37))
    for source in (open_dataset(place), open_dataset(tmp_path)):
        assert source.dt_s == pytest.approx(0.1)
        (episode,) = source.episodes()
        assert (source.splits, episode.source.split("/")[1:]) == ({"train": 1}, ["train", "0"])
        assert episode.frames_TYXC.shape == (37, *HW, 3)
        assert numbers_of(episode.frames_TYXC) == wanted(0, 37)
        error = np.abs(episode.frames_TYXC[5, 2:].astype(int) - scene(5)[2:])
        assert error.mean() < 4
        assert (episode.frames_TYXC[:, 0, :, 0] > episode.frames_TYXC[:, 0, :, 2] + 100).all()  # RGB, upright


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """phone/day_2/a.mkv, phone/day_10/b.mp4 (1100 frames: three episodes), phone/day_10/late/c.avi; and what is no video."""
    root = tmp_path / "phone"
    write_video(root / "day_2" / "a.mkv", range(20))
    write_video(root / "day_10" / "b.MP4".lower(), range(1100))
    write_video(root / "day_10" / "late" / "c.avi", range(5, 30))
    write_video(root / ".trash" / "d.mp4", range(9))
    (root / "day_2" / "._a.mkv").write_bytes(b"a file manager's")
    (root / "notes.txt").write_text("kitchen")
    return root


def test_folders_are_read_in_natural_order_and_long_videos_cut(nested: Path) -> None:
    assert is_recording(nested)
    source = open_dataset(nested)
    assert source.splits == source.records == {"train": 5}
    assert source.parts("train") == source.recordings("train") == [range(1), range(1, 4), range(4, 5)]
    episodes = list(source.episodes(image_hw=(48, 64)))
    assert [episode.num_frames for episode in episodes] == [20, 366, 367, 367, 25]
    frames = np.concatenate([episode.frames_TYXC for episode in episodes])
    assert numbers_of(frames) == wanted(0, 20) + wanted(0, 1100) + wanted(5, 30)


def test_any_episodes_strides_and_copies(nested: Path) -> None:
    source = open_dataset(nested)
    for numbers in (range(2, 4), frozenset({3, 0}), range(0, 5, 2)):
        got = [episode.source for episode in copy.copy(source).episodes(numbers=numbers)]
        assert got == [f"phone/train/{number}" for number in sorted(numbers)]
    (episode,) = source.episodes(numbers=[2], stride=7, image_hw=(24, 32))
    assert episode.dt_s == pytest.approx(0.7)
    assert episode.frames_TYXC.shape == (53, 24, 32, 3)
    assert numbers_of(episode.frames_TYXC.repeat(2, 1).repeat(2, 2)) == wanted(366, 733, 7)


def test_folders_with_the_same_views_are_one_recording_each(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        for view in (0, 1):
            write_video(tmp_path / folder / f"{view}.mp4", range(3))
    assert open_dataset(tmp_path).recordings("train") == [range(2), range(2, 4), range(4, 6)]
    write_video(tmp_path / "c" / "2.mp4", range(3))
    assert open_dataset(tmp_path).recordings("train") == [range(n, n + 1) for n in range(7)]


def test_a_rate_mends_lying_headers_and_different_ones_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", range(12), rate_hz=20)
    write_video(tmp_path / "b.mkv", range(9), rate_hz=5)
    with pytest.raises(DataError, match=r"several frame rates \(20 in a.mp4, 5 in b.mkv\)"):
        open_dataset(tmp_path).splits  # noqa: B018
    source = open_dataset(tmp_path, rate_hz=5.0)
    assert [(e.dt_s, e.num_frames) for e in source.episodes()] == [
        (0.2, 12),
        (0.2, 9),
    ]  # no frame more or less
    with pytest.raises(DataError, match="above 0"):
        open_dataset(tmp_path, rate_hz=-1.0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_dropped_frames_are_bridged_and_long_gaps_are_not(tmp_path: Path, suffix: str) -> None:
    times = [n for n in range(100) if n not in (11, 40, 41)]
    write_video(tmp_path / f"a{suffix}", times, times=times)
    (episode,) = open_dataset(tmp_path).episodes()
    shown = np.array(numbers_of(episode.frames_TYXC))
    slots = np.arange(len(shown)) * episode.dt_s * 10  # when each slot is, in frames of the writer
    off = (shown - slots + 24) % 48 - 24
    assert np.abs(off).max() <= 1.6
    assert len(shown) * episode.dt_s == pytest.approx(10, abs=0.3)
    gap = [n for n in range(100) if not 40 <= n < 60]
    write_video(tmp_path / f"a{suffix}", gap, times=gap)
    with pytest.raises(CorruptRecordError, match=r"episode 0: .*nearest frame at 3\.9"):
        list(open_dataset(tmp_path).episodes())


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("left", [0.6, 0.85])
def test_a_video_that_is_cut_off_is_a_bad_record(tmp_path: Path, suffix: str, left: float) -> None:
    write_video(tmp_path / "a.mp4", range(20))
    broken = write_video(tmp_path / f"b{suffix}", range(80))
    write_video(tmp_path / "c.mp4", range(7))
    broken.write_bytes(broken.read_bytes()[: int(left * broken.stat().st_size)])
    source = open_dataset(tmp_path)
    assert source.records == {"train": 3}
    episodes = list(source.episodes(skip_bad=True))
    assert [episode.num_frames for episode in episodes] == [20, 7]
    assert source.bad_records == len(source.bad) == 1
    assert str(broken) in str(source.bad[0]) and "\n" not in str(source.bad[0])
    with pytest.raises(CorruptRecordError, match="b" + suffix):
        list(source.episodes())


def test_only_the_episodes_behind_the_cut_are_lost(tmp_path: Path) -> None:
    place = write_video(tmp_path / "a.mp4", range(1100))
    content = place.read_bytes()
    place.write_bytes(content[: (content.index(b"mdat") + len(content)) // 2])
    source = open_dataset(place)
    assert [episode.source for episode in source.episodes(skip_bad=True)] == ["a/train/0"]
    assert (source.bad_records, source.records) == (2, {"train": 3})


def test_files_that_are_no_videos_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.avi").write_bytes(b"no video" * 100)
    with pytest.raises(DataError, match=r"a\.mp4 cannot be decoded \(Invalid data"):
        open_dataset(tmp_path)
    write_video(tmp_path / "c.webm", range(8))
    source = open_dataset(tmp_path)
    assert (source.splits, source.records) == ({"train": 1}, {"train": 3})
    assert [episode.num_frames for episode in source.episodes(skip_bad=True)] == [8]
    assert source.bad_records == 2
    assert [episode.num_frames for episode in source.episodes(numbers=[0], skip_bad=True)] == [8]
    with pytest.raises(CorruptRecordError, match=r"a\.mp4"):
        list(source.episodes())


def test_what_videos_do_not_have_is_said(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", range(5))
    source = open_dataset(tmp_path)
    for wrong, message in (
        ({"actions": True}, "holds videos, no actions"),
        ({"actions": lambda _: True}, "holds videos, no actions"),
        ({"state": True}, "no state"),
        ({"image_key": "wrist"}, "no camera 'wrist'; wanted 'video'"),
        ({"split": "val"}, "no split 'val'"),
    ):
        with pytest.raises(DataError, match=message):
            source.episodes(**wrong)  # type: ignore[arg-type]
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetNotFoundError):
        open_dataset(tmp_path / "empty")


def test_a_picture_stored_turned_is_turned_upright(tmp_path: Path) -> None:
    """As phones do: the header of the track holds a matrix (ISO 14496-12, tkhd)."""
    place = write_video(tmp_path / "a.mp4", range(6))
    content = bytearray(place.read_bytes())
    matrix = content.index(b"tkhd") + 4 + 4 + 5 * 4 + 8 + 8
    quarter = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # clockwise by 90 degrees
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter)
    place.write_bytes(content)
    (episode,) = open_dataset(place).episodes()
    assert episode.frames_TYXC.shape == (6, HW[1], HW[0], 3)
    np.testing.assert_allclose(episode.frames_TYXC[3], np.rot90(scene(3), -1), atol=70)
    assert np.abs(episode.frames_TYXC[3].astype(int) - np.rot90(scene(3), -1)).mean() < 8


def test_a_tfds_folder_with_a_video_beside_stays_one(write: Write) -> None:
    folder = write("toy", train=[3])
    write_video(folder.parent / "preview.mp4", range(4))
    for place in (folder, folder.parent, folder.parent.parent):
        assert not is_recording(place)
        assert open_dataset(place).name == "toy"


def test_videos_train_and_mix(nested: Path, tmp_path: Path) -> None:
    sources: list[EpisodeSource] = open_parts(Mixture((Part(str(nested)), Part(str(nested / "day_2")))))
    train = build_clip_cache(sources[0], tmp_path / "train", 24, 32)
    held_out = build_clip_cache(sources[0], tmp_path / "val", 24, 32, "val")
    assert train.num_frames == 1120 and held_out.num_frames == 25
    with pytest.raises(DataError, match="no actions"):
        build_clip_cache(sources[0], tmp_path / "labels", 24, 32, label_share=1.0)


def test_the_commands_take_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_video(tmp_path / "in" / f"{number}.mp4", range(number, number + 9), rate_hz=20)
    command = [
        "data",
        "import",
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        "--name",
        "phone",
        "--rate-hz",
        "5",
    ]
    assert main([*command, "--lossless", "--val-share", "0.3"]) == 0
    made = open_dataset(tmp_path / "out")
    assert (made.name, made.splits, made.dt_s) == ("phone", {"train": 2, "val": 1}, 0.2)
    for split, first in (("train", 0), ("val", 2)):
        episode = next(iter(made.episodes(split)))
        assert numbers_of(episode.frames_TYXC) == wanted(first, first + 9)
    capsys.readouterr()
    sheet = tmp_path / "sheet.png"
    assert main(["data", "inspect", str(tmp_path / "in"), "--sheet", str(sheet), "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["episodes"], content["frames"], content["rate_hz"], content["bad_records"]) == (
        3,
        27,
        20,
        0,
    )
    assert sheet.stat().st_size > 0


@pytest.mark.parametrize(
    ("name", "rate_hz", "lengths"),
    [
        ("rt1_vpp", None, [57, 29]),
        ("bridge_vpp", 5.0, [24, 37]),
        ("bridge_wme", 5.0, [40, 22, 23, 41, 49, 49]),
        ("droid_ctrlworld", None, [n for n in (56, 137, 124, 39, 121, 72) for _ in range(3)]),
    ],
)
def test_every_real_video_reads(
    shared_dataset: Shared, name: str, rate_hz: float | None, lengths: list[int]
) -> None:
    source = open_dataset(shared_dataset(name), rate_hz)
    episodes = list(source.episodes())
    assert [episode.num_frames for episode in episodes] == lengths
    assert source.dt_s == pytest.approx(1 / 3 if name == "rt1_vpp" else 1 / 5)
    assert len(source.recordings("train") or []) == (6 if name == "droid_ctrlworld" else len(lengths))
    for number, path in enumerate(sorted(shared_dataset(name).glob("*.mp4"), key=lambda p: int(p.stem))):
        with av.open(str(path)) as container:  # frame by frame, without times and seeking
            plain = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        np.testing.assert_array_equal(episodes[number].frames_TYXC, np.stack(plain))
