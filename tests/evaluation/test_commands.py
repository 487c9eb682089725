"""evaluate, actions, imagine and label, run as a user runs them, on a real (random) model folder."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.cli.imagine import parse_actions
from genie_robot.errors import ActionError
from genie_robot.evaluation.pictures import read_image, read_video
from genie_robot.evaluation.probe import save_probe

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def place(tmp_path_factory, model, probes, adapter, episodes) -> Path:
    """A folder with model/, probe/ and a dataset made by the generator's own writer."""
    from genie_robot.data.rlds_writer import write_dataset
    from genie_robot.simulation.mujoco.tasks import STATE_NAMES

    folder = tmp_path_factory.mktemp("place")
    model.save(folder / "model")
    adapter.save(folder / "model")
    save_probe(folder / "probe", probes, "card")
    steps = [
        {"frames_TYXC": e.frames_TYXC, "actions": e.actions_TA, "state": e.state_TS, "is_terminal": False}
        for e in episodes
    ]
    write_dataset(
        folder / "data",
        "tabletop",
        "1.0.0",
        {"train": steps * 2, "test": steps, "more": steps * 2},
        (64, 64),
        5.0,
        state_names=STATE_NAMES,
    )
    return folder


def run(*arguments: object) -> int:
    return main([str(a) for a in arguments])


def test_evaluate_model(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "m.json"
    code = run(
        "evaluate", "model", place / "model", "--data", place / "data", "--probe", place / "probe", "--clips", 4,
        "--horizon", 4, "--draws", 1, "--maskgit-steps", 1, "--long-horizon", 4, "--out", tmp_path / "pictures",
        "--json", out,
    )  # fmt: skip
    assert (
        code == 0
    )  # 16 prompts with room to move cannot be had from six short episodes: said, nothing else is lost
    result = json.loads(out.read_text())["model"]
    assert result["code_cosine"] is None and "prompts with room" in result["not_measured"]["consistency"]
    assert "psnr_t4_db" in result and "not measured: consistency: found" in capsys.readouterr().err
    code = run(
        "evaluate", "model", place / "model", "--data", place / "data", "--probe", "none", "--clips", 4,
        "--horizon", 4, "--draws", 1, "--maskgit-steps", 1, "--long-horizon", 4, "--out", tmp_path / "pictures",
        "--json", out,
    )  # fmt: skip
    assert code == 0
    metrics = json.loads(out.read_text())["model"]
    assert metrics["clips"] == 4 and len(metrics["psnr_per_horizon_db"]) == 4
    assert read_image(tmp_path / "pictures" / "strips.png").std() > 10


def test_actions_draws_and_writes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    import shutil

    import genie_robot

    copy = tmp_path / "model"
    shutil.copytree(place / "model", copy)
    (copy / "action_adapter.json").unlink()
    code = run(
        "actions", copy, "--data", place / "data", "--probe", place / "probe", "--prompts", 4, "--columns", 3,
        "--maskgit-steps", 1, "--out", tmp_path / "a.png", "--write", "--labels", 60, "--json", tmp_path / "a.json",
    )  # fmt: skip
    assert (
        code == 1 and "labelled transitions" in capsys.readouterr().err
    )  # 66 held-out ones are too few for a figure
    named = genie_robot.load(str(copy)).latent_actions
    assert all(action.name and action.evidence["prompts"] == 4 for action in named)
    assert read_image(tmp_path / "a.png").std() > 10


def test_an_adapter_of_tabletop_data_is_stored_with_its_unit(place: Path, tmp_path: Path) -> None:
    import shutil

    from genie_robot.simulation.action_interface import load_adapter

    copy = tmp_path / "model"
    shutil.copytree(place / "model", copy)
    code = run(
        "actions", copy, "--data", place / "data", "--split", "more", "--probe", place / "probe", "--prompts", 4,
        "--columns", 3, "--maskgit-steps", 1, "--out", tmp_path / "a.png", "--write", "--labels", 60,
    )  # fmt: skip
    assert code == 0
    assert load_adapter(copy).metres_per_unit == 0.04


def test_evaluate_policies(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = (
        "evaluate", "policies", place / "model", "--probe", place / "probe", "--policies", "random-keys,no-op",
        "--tasks", "push", "--seeds", 1, "--max-steps", 2, "--maskgit-steps", 1, "--out", tmp_path,
        "--json", tmp_path / "p.json",
    )  # fmt: skip
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert "ceiling" in said and "0/1" in said
    summary = json.loads((tmp_path / "p.json").read_text())["policies"]
    assert {"n", "tasks", "episodes", "pearson_r", "spearman_rho", "mmrv", "ceiling_r"} <= set(summary)
    assert summary["episodes"] == 6 and len(list((tmp_path / "videos").rglob("*.mp4"))) == 6
    assert (tmp_path / "report.html").is_file()


def test_imagine_writes_strip_gif_and_mp4(place: Path, tmp_path: Path) -> None:
    base = tmp_path / "film"
    code = run(
        "imagine", place / "model", "--data", place / "data", "--episode", 1, "--frame", 2, "--actions", "3*2,0",
        "--maskgit-steps", 1, "--out", base, "--json", tmp_path / "i.json",
    )  # fmt: skip
    assert code == 0
    done = json.loads((tmp_path / "i.json").read_text())
    assert done["actions"] == [3, 3, 0] and len(done["files"]) == 3
    film = read_video(f"{base}.mp4")
    assert film.shape == (4, 256, 256, 3)
    assert read_video(f"{base}.gif").shape[1:] == (256, 256, 3)
    # The first frame of the film is the prompt: far closer to it than to an empty picture.
    strip = read_image(f"{base}.png")
    assert strip.shape[0] > 128 and strip.std() > 10


def test_imagine_from_an_image_of_any_size_is_seeded(place: Path, tmp_path: Path) -> None:
    image = tmp_path / "camera.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (48, 80, 3), dtype=np.uint8))
    for name in ("a", "b"):
        run(
            "imagine",
            place / "model",
            "--prompt",
            image,
            "--actions",
            "1,2",
            "--seed",
            3,
            "--out",
            tmp_path / name,
        )
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_imagine_with_inferred_actions_shows_truth_beside(place: Path, tmp_path: Path) -> None:
    arguments = (
        "imagine",
        place / "model",
        "--data",
        place / "data",
        "--actions",
        "inferred",
        "--maskgit-steps",
        1,
    )
    assert run(*arguments, "--out", tmp_path / "x", "--json", tmp_path / "x.json") == 0
    assert len(json.loads((tmp_path / "x.json").read_text())["actions"]) == 11


def test_label_a_dataset_and_a_video(place: Path, tmp_path: Path, model, episodes) -> None:
    assert run("label", place / "data", "--model", place / "model", "--json", tmp_path / "l.json") == 0
    steps = json.loads((tmp_path / "l.json").read_text())["videos"][0]["steps"]
    from genie_robot.simulation.action_interface import infer_codes

    assert [s["code"] for s in steps] == infer_codes(model, episodes[0].frames_TYXC[None])[0].tolist()
    writer = cv2.VideoWriter(str(tmp_path / "v.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 64))
    for k in range(10):
        writer.write(np.full((64, 96, 3), 20 * k, np.uint8))
    writer.release()
    assert run("label", tmp_path / "v.mp4", "--model", place / "model", "--json", tmp_path / "v.json") == 0
    # 10 frames at 10 Hz are 5 frames at the model's 5 Hz, so 4 steps.
    assert len(json.loads((tmp_path / "v.json").read_text())["videos"][0]["steps"]) == 4


def test_action_lists() -> None:
    names = {"left": 3, "up (slow)": 1, "": 2}
    assert parse_actions("left*2, 5 ,UP (slow)", names, 8) == [3, 3, 5, 1]
    both = {"close/open": 4, "open": 6}
    assert parse_actions("close,Close/Open,open", both, 8) == [4, 4, 6], "a word of its own wins"
    for wrong in ("8", "-1", "jump", "left*0", "left*x", "", "left,,up", "²"):
        with pytest.raises(ActionError):
            parse_actions(wrong, names, 8)


@pytest.mark.parametrize(
    ("arguments", "exit_code", "says"),
    [
        (("imagine", "MODEL", "--data", "DATA", "--actions", "9"), 2, "wanted a code 0..7"),
        (("imagine", "MODEL", "--data", "DATA", "--actions", "1", "--episode", "99"), 2, "--episode is 99"),
        (("imagine", "MODEL", "--data", "DATA", "--actions", "1", "--frame", "50"), 2, "--frame is 50"),
        (("imagine", "MODEL", "--prompt", "no.png", "--actions", "1"), 2, "no.png"),
        (("imagine", "no-model", "--data", "DATA", "--actions", "1"), 2, "no-model"),
        (("label", "nothing-here", "--model", "MODEL"), 2, "nothing-here"),
        (("actions", "MODEL", "--data", "DATA", "--probe", "no-probe"), 2, "no-probe"),
        (("actions", "MODEL", "--data", "DATA", "--probe", "PROBE", "--prompts", "0"), 2, "--prompts is 0"),
        (
            ("evaluate", "model", "MODEL", "--data", "DATA", "--probe", "PROBE", "--horizon", "2"),
            2,
            "horizon >= 4",
        ),
        (
            ("evaluate", "model", "MODEL", "--data", "DATA", "--probe", "PROBE", "--seed", "-1"),
            2,
            "seed is -1; wanted 0",
        ),
        (("evaluate", "policies", "MODEL", "--probe", "PROBE", "--policies", "x"), 2, "policy is 'x'"),
        (("evaluate", "policies", "MODEL", "--probe", "PROBE", "--tasks", "fly"), 2, "fly"),
    ],
)
def test_wrong_use_is_one_line_and_the_right_exit_code(
    place: Path, arguments: tuple[str, ...], exit_code: int, says: str, capsys: pytest.CaptureFixture
) -> None:
    names = {"MODEL": place / "model", "DATA": place / "data", "PROBE": place / "probe"}
    assert run(*(names.get(a, a) for a in arguments)) == exit_code
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    "command",
    [("evaluate",), ("evaluate", "model"), ("evaluate", "policies"), ("actions",), ("imagine",), ("label",)],
)
def test_help_has_examples(command: tuple[str, ...], capsys: pytest.CaptureFixture) -> None:
    assert run(*command, "--help") == 0
    assert f"genie-robot {' '.join(command)}" in capsys.readouterr().out.split("examples:")[1]
