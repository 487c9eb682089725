"""Cloning from video: all cells, going on after a stop, refused settings, the report. Real simulator, random model."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genie_robot.cli.__main__ import main
from genie_robot.cli._evaluate_cloning import add_cloning_parser
from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.cloning.cells import Cell, append_cell, read_cells
from genie_robot.evaluation.cloning.from_video import CloningConfig, VideoCloning
from genie_robot.evaluation.cloning.video_labels import label_video
from genie_robot.evaluation.cloning.video_report import summarise, text_table, write_report
from genie_robot.evaluation.intervals import wilson_interval
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import infer_codes

pytest.importorskip("mujoco")

CONFIG = CloningConfig(
    tasks=("reach",), labels=(4, 6), seeds=1, video=2, labelled_from=1, steps=2, episodes=2, horizon=2
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model: WorldModel) -> VideoCloning:
    experiment = VideoCloning(CONFIG, model, tmp_path_factory.mktemp("cloning"))
    experiment.run()
    return experiment


def test_every_method_and_number_of_labels_has_its_cell(finished: VideoCloning) -> None:
    keys = [cell.key for cell in finished.cells()]
    assert keys == CONFIG.cells and len(set(keys)) == 2 + 3 * 2
    assert all(len(cell.outcomes["reach"]) == 2 for cell in finished.cells())


def test_labels_are_the_models_own_and_see_no_action(finished: VideoCloning, model: WorldModel) -> None:
    video, rest = finished._data()
    codes = label_video(model, video)
    assert codes.shape == (len(video), 1)
    second = video.between(1, 2)
    film = np.concatenate([second.images_NYXC, second.next_NYXC[-1:]])
    assert np.array_equal(codes[-len(second) :, 0], infer_codes(model, film[None])[0])
    assert not set(video.episode_N) & set(rest.episode_N)


def test_finished_cells_and_networks_are_not_made_again(
    finished: VideoCloning, tmp_path: Path, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from genie_robot.evaluation.cloning import from_video

    shutil.copytree(finished.out_dir, tmp_path / "cut")
    path = tmp_path / "cut" / "cells.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + lines[-2][:25])  # killed while writing
    monkeypatch.setattr(from_video, "train_net", lambda *a, **k: pytest.fail("trained again"))
    ran = []
    again = VideoCloning(CONFIG, model, tmp_path / "cut")
    evaluate = again._evaluate
    monkeypatch.setattr(again, "_evaluate", lambda *key: ran.append(key) or evaluate(*key))
    assert again.run() == finished.cells()
    assert ran == CONFIG.cells[-2:]
    assert path.read_bytes() == (finished.out_dir / "cells.jsonl").read_bytes()


def test_other_settings_are_refused_and_more_seeds_are_not(finished: VideoCloning, model: WorldModel) -> None:
    with pytest.raises(ConfigError, match="another steps"):
        VideoCloning(replace(CONFIG, steps=3), model, finished.out_dir)
    VideoCloning(replace(CONFIG, seeds=2), model, finished.out_dir)
    VideoCloning(CONFIG, model, finished.out_dir)
    with pytest.raises(ConfigError, match="numbers from 1"):
        replace(CONFIG, labels=(0,))
    with pytest.raises(ConfigError, match="wanted one of reach"):
        replace(CONFIG, tasks=("lift",))


def test_cut_settings_are_one_line(model: WorldModel, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"tasks": ["re')
    with pytest.raises(ConfigError, match=r"settings.json cannot be read .*; give another --out"):
        VideoCloning(CONFIG, model, tmp_path)


def test_more_labels_than_there_are_is_said(tmp_path: Path, finished: VideoCloning) -> None:
    with pytest.raises(ConfigError, match="9999 labels asked of 7"):
        finished._draw(7, 9999, 0)
    assert set(finished._draw(100, 5, 1)) < set(finished._draw(100, 20, 1))


def test_too_many_labels_are_said_before_anything_is_trained(
    tmp_path: Path, model: WorldModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_robot.evaluation.cloning import from_video

    monkeypatch.setattr(from_video, "train_net", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(ConfigError, match="9999 labels asked of"):
        VideoCloning(replace(CONFIG, labels=(4, 9999)), model, tmp_path).run()


def test_rates_and_intervals_by_hand(tmp_path: Path) -> None:
    config = replace(CONFIG, tasks=("reach", "push"), labels=(10,), seeds=2)
    cells = [
        Cell("oracle", 0, 0, {"reach": (True, True), "push": (True, False)}),
        Cell("oracle", 0, 1, {"reach": (True, False), "push": (False, False)}),
        Cell("latent decoder", 10, 0, {"reach": (False, False), "push": (False, True)}),
        Cell("inverse dynamics", 10, 0, {"reach": (False, False), "push": (True, True)}),
    ]
    summary = summarise(config, cells, "abc")
    oracle, latent, inverse = summary["rows"]
    (gain,) = summary["differences"]
    assert (gain["method"], gain["labels"], gain["gain"]) == ("latent decoder", 10, -0.25)
    assert gain["bootstrap"] == [-0.5, 0.0], "of the task push both starts, one or none lose"
    assert oracle["bootstrap"][0] < 0.5 < oracle["bootstrap"][1] and inverse["bootstrap"] == [0.5, 0.5]
    assert (oracle["all"]["successes"], oracle["all"]["trials"]) == (4, 8)
    assert oracle["all"]["wilson"] == list(wilson_interval(4, 8)) and oracle["of_seeds"] == [0.25, 0.75]
    assert oracle["tasks"]["push"]["rate"] == 0.25 and latent["all"]["rate"] == 0.25
    text = text_table(summary)
    assert "oracle" in text and "0.50 [0.22, 0.78]" in text
    written, page = write_report(tmp_path, summary)
    assert json.loads(written.read_text()) == json.loads(json.dumps(summary))
    html = page.read_text()
    assert "latent decoder over inverse dynamics, 10 labels: -0.25 [-0.50, +0.00]" in text
    assert (
        "-0.25" in html and "latent decoder" in html and "0.22 to 0.78" in html and "8 episodes a row" in html
    )


def test_cells_survive_a_cut_and_refuse_what_is_none(tmp_path: Path) -> None:
    path, cell = tmp_path / "cells.jsonl", Cell("random", 0, 0, {"reach": (True,)})
    assert read_cells(path) == []
    append_cell(path, cell)
    path.write_text(path.read_text() + '{"method": "ora')
    assert read_cells(path) == [cell]
    append_cell(path, cell)
    assert read_cells(path) == [cell, cell]
    path.write_text('{"method": 3}\n')
    with pytest.raises(DataError, match="no result"):
        read_cells(path)


def test_the_command(
    finished: VideoCloning, model: WorldModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = model.save(tmp_path / "model"), str(finished.out_dir)
    command = ["evaluate", "cloning", str(folder), "--out", out, "--tasks", "reach", "--labels", "4,6"]
    sizes = {"seeds": 1, "video": 2, "labelled-from": 1, "steps": 2, "episodes": 2, "horizon": 2}
    options = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    assert main([*command, *options]) == 0
    assert "latent dictionary" in capsys.readouterr().out
    commit = json.loads((finished.out_dir / "cloning.json").read_text())["made_with"][0]["commit"]
    assert f"Made with commit {commit}" in (finished.out_dir / "cloning.html").read_text()
    assert main([*command, *options, "--labels", "few"]) == 2
    assert "--labels is 'few'" in capsys.readouterr().err


def test_the_command_and_the_library_have_the_same_defaults() -> None:
    parser = argparse.ArgumentParser()
    add_cloning_parser(parser)
    args = parser.parse_args(["MODEL"])
    config = CloningConfig()
    assert args.tasks.split(",") == list(config.tasks) and args.labels == ",".join(map(str, config.labels))
    for name in ("seeds", "video", "labelled_from", "steps", "episodes", "horizon"):
        assert getattr(args, name) == getattr(config, name), name
