from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.interface_fitting import draw_labels, fit_interface, interface_names
from genie_robot.evaluation.interface_measures import latent_measures, passage_measures, probe_r2
from genie_robot.evaluation.label_efficiency import CurveConfig, LabelCurve, read_cells
from genie_robot.evaluation.label_report import html_report, text_table
from genie_robot.simulation.interfaces import (
    ImageFeatures,
    LatentSpace,
    NativeInterface,
    Transitions,
    load_interface,
)
from tests.small_models import small_world_model

QUICK = CurveConfig(("m0", "m1:8x2"), (20, 60), draws=2, ceiling=None)


@pytest.fixture(autouse=True)
def _short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genie_robot.simulation.interfaces.networks._STEPS", 600)


@pytest.fixture(scope="module")
def mixed() -> Any:
    return small_world_model(robot_action_dim=7, num_codebooks=3)


def make_episodes(count: int, seed: int) -> list[Transitions]:
    """Codes that say the halves of x, y and z, then their quarters; some steps close or open the gripper."""
    rng, result = np.random.default_rng(seed), []
    for _ in range(count):
        actions_NA = np.zeros((16, 7), np.float32)
        actions_NA[:, :3] = rng.uniform(-1, 1, (16, 3))
        actions_NA[::4, 6] = rng.choice([-1, 1], 4)
        move = actions_NA[:, :3]
        codes = np.stack(
            [(move > 0) @ [1, 2, 4], (move > np.sign(move) / 2) @ [1, 2, 4], (move > 2) @ [1, 2, 4]], axis=1
        )
        vectors = np.concatenate([0.1 * move, np.zeros((16, 5))], axis=1).astype(np.float32)
        images = rng.integers(0, 255, (16, 16, 16, 3)).astype(np.uint8)
        result.append(Transitions(images, actions_NA, rng.random(16) < 0.5, codes, vectors))
    return result


TRAIN, HELDOUT = make_episodes(20, 0), make_episodes(4, 1)


def test_labels_are_whole_episodes_in_random_order() -> None:
    drawn = draw_labels(TRAIN, 40, seed=1)
    assert len(drawn) == 40
    whole = [any(np.array_equal(drawn.actions_NA[s : s + 16], e.actions_NA) for e in TRAIN) for s in (0, 16)]
    assert all(whole)
    np.testing.assert_array_equal(draw_labels(TRAIN, 40, seed=1).actions_NA, drawn.actions_NA)
    assert not np.array_equal(draw_labels(TRAIN, 40, seed=2).actions_NA, drawn.actions_NA)
    assert len(draw_labels(TRAIN, 320, seed=0)) == 320
    with pytest.raises(DataError, match="hold 320 labelled transitions; wanted 321"):
        draw_labels(TRAIN, 321, seed=0)


def test_names_follow_the_model(mixed: Any) -> None:
    assert interface_names(mixed) == ("m0", "m1:8", "m1:8x2", "m1:8x3", "m1:continuous")
    assert interface_names(small_world_model()) == ("m0", "m1:8")
    with pytest.raises(ConfigError, match=r"wanted one of m0, m1:8$"):
        fit_interface("m1:8x2", small_world_model(), TRAIN[0], ImageFeatures())


def test_more_labels_and_levels_keep_more(mixed: Any) -> None:
    features, tests = ImageFeatures.fit(TRAIN[0].images_NYXC), Transitions.joined(HELDOUT)
    kept = {}
    for name, labels in (("m1:8x2", 16), ("m1:8x2", 320), ("m1:8", 320)):
        fitted = fit_interface(name, mixed, draw_labels(TRAIN, labels, 0), features)
        assert set(fitted.variants) == {name, f"{name} dictionary", f"{name} no feedback"}
        kept[name, labels] = latent_measures(fitted.main, tests)
    assert kept["m1:8x2", 320]["label_r2"] > kept["m1:8x2", 16]["label_r2"]
    assert kept["m1:8x2", 320]["top1"] > kept["m1:8x2", 16]["top1"]
    assert kept["m1:8x2", 320]["label_r2"] > kept["m1:8", 320]["label_r2"] + 0.05
    assert kept["m1:8", 320]["nll"] < np.log(8)
    assert kept["m1:8", 320]["majority"] < 0.3


def test_what_passes_by_hand() -> None:
    whole = passage_measures(NativeInterface(), HELDOUT)
    assert whole == {"passed_r2": 1.0, "grip": 1.0, "drift_cm": 0.0}

    class Short(NativeInterface):
        def executed(
            self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray
        ) -> np.ndarray:
            return actions_BA - np.array([0.1, 0, 0, 0, 0, 0, 0.6 * np.sign(actions_BA[0, 6])], np.float32)

    part = passage_measures(Short(), HELDOUT)
    assert part["drift_cm"] == pytest.approx(
        16 * 0.1 * 4, rel=1e-4
    )  # 16 steps, a tenth of 4 cm missing in each
    assert part["grip"] == 0  # commands of 0.4 move nothing
    assert part["passed_r2"] < 1


def test_the_probe_finds_what_is_in_the_codes_and_nothing_in_chance() -> None:
    found = probe_r2(LatentSpace(8, 2, 8), Transitions.joined(TRAIN), Transitions.joined(HELDOUT))
    assert set(found["r2"]) == {"x", "y", "z", "gripper"}  # rotations never change here
    assert min(found["r2"][name] for name in "xyz") > 0.6
    assert max(found["floor"].values()) < 0.2


def test_an_interrupted_curve_goes_on(mixed: Any, tmp_path: Path) -> None:
    def stop(what: str, after: int = 3) -> None:
        if len(read_cells(tmp_path / "a" / "cells.jsonl")) >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        LabelCurve(QUICK, tmp_path / "a", mixed, TRAIN, HELDOUT).run(stop)
    cells = tmp_path / "a" / "cells.jsonl"
    with cells.open("a") as file:
        file.write('{"key": "fit m0 20 1", "va')  # cut while writing
    measured: list[str] = []
    resumed = LabelCurve(QUICK, tmp_path / "a", mixed, TRAIN, HELDOUT)
    result = resumed.run(measured.append)
    assert len(measured) == resumed.num_cells() - 3
    assert result == LabelCurve(QUICK, tmp_path / "b", mixed, TRAIN, HELDOUT).run()
    assert resumed.run(measured.append) == result
    assert len(measured) == resumed.num_cells() - 3
    assert "m1:8x2" in text_table(result)
    page = html_report(result)
    assert page.count("<svg") == 2
    assert "nan" not in page
    with pytest.raises(ConfigError, match="cells with another seed"):
        LabelCurve(replace(QUICK, seed=5), tmp_path / "a", mixed, TRAIN, HELDOUT)
    LabelCurve(
        replace(QUICK, labels=(20, 60, 90)), tmp_path / "a", mixed, TRAIN, HELDOUT
    )  # growing is allowed


def test_what_cannot_be_measured_is_null_and_never_nan(mixed: Any, tmp_path: Path) -> None:
    still = [
        replace(e, actions_NA=e.actions_NA * np.array([1] * 6 + [0], np.float32)) for e in HELDOUT
    ]  # nothing is gripped
    result = LabelCurve(replace(QUICK, names=("m0",)), tmp_path, mixed, TRAIN, still).run()
    assert all(row["grip"] == {"mean": None, "low": None, "high": None} for row in result["curve"])
    json.dumps(result, allow_nan=False)
    assert "NaN" not in (tmp_path / "cells.jsonl").read_text()
    assert LabelCurve(replace(QUICK, names=("m0",)), tmp_path, mixed, TRAIN, still).run() == result
    assert "nan" not in html_report(result) + text_table(result)


def test_cut_settings_and_foreign_cells_are_one_line(mixed: Any, tmp_path: Path) -> None:
    (tmp_path / "settings.json").write_text('{"names": ["m')
    (tmp_path / "cells.jsonl").write_text('{"key": "probe m0"}\n')
    with pytest.raises(ConfigError, match=r"settings.json cannot be read .*; give another --out"):
        LabelCurve(QUICK, tmp_path, mixed, TRAIN, HELDOUT)
    for line in ('{"key": "probe m0"}', "[1]", "{"):
        (tmp_path / "cells.jsonl").write_text(line + "\n")
        with pytest.raises(DataError, match="a line that is no result"):
            read_cells(tmp_path / "cells.jsonl")


def test_settings_are_replaced_whole(mixed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LabelCurve(QUICK, tmp_path, mixed, TRAIN, HELDOUT)
    before = (tmp_path / "settings.json").read_bytes()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        LabelCurve(replace(QUICK, seed=5), tmp_path, mixed, TRAIN, HELDOUT)
    assert (tmp_path / "settings.json").read_bytes() == before


def test_too_few_labels_are_said_at_once(mixed: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="wanted 1000"):
        LabelCurve(replace(QUICK, labels=(1000,)), tmp_path, mixed, TRAIN, HELDOUT)
    with pytest.raises(ConfigError, match="labels"):
        CurveConfig(labels=(0,))


def test_the_command(model: Any, episodes: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genie_robot.data.rlds_writer import write_dataset
    from genie_robot.simulation.mujoco.tasks import STATE_NAMES

    model.save(tmp_path / "model")
    steps = [
        {"frames_TYXC": e.frames_TYXC, "actions": e.actions_TA, "state": e.state_TS, "is_terminal": False}
        for e in episodes
    ]
    parts = {"train": steps, "test": steps[:3]}
    write_dataset(tmp_path / "data", "tabletop", "1.0.0", parts, (64, 64), 5.0, state_names=STATE_NAMES)
    words = [
        "evaluate",
        "interfaces",
        str(tmp_path / "model"),
        "--data",
        str(tmp_path / "data"),
        "--labels",
        "30",
    ]
    words += [
        "--heldout",
        "30",
        "--draws",
        "1",
        "--suite",
        "tabletop",
        "--tasks",
        "push",
        "--ceiling-seeds",
        "1",
    ]
    words += [
        "--interfaces",
        "m0,m1:8",
        "--out",
        str(tmp_path / "out"),
        "--write",
        "--json",
        str(tmp_path / "r.json"),
    ]
    assert main(words) == 0
    assert "fit to score" in capsys.readouterr().out
    result = json.loads((tmp_path / "r.json").read_text())["interfaces"]
    rolled = {row["interface"] for row in result["ceilings"]}
    assert rolled == {"m0", "m1:8", "m1:8 dictionary", "m1:8 no feedback"}
    page = (tmp_path / "out" / "interfaces.html").read_text()
    assert "fit to score" in page and f"Made with commit {result['made_with'][0]['commit']}" in page
    for name in ("m0", "m1:8"):
        assert load_interface(tmp_path / "model", name, model).name == name
    assert main([*words[:6], "many"]) == 2
