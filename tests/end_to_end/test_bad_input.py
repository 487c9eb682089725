"""What users get wrong: one clear line, the promised exit code, and nothing saved before is lost."""

from __future__ import annotations

import resource
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

from genie_robot import cli
from tests.end_to_end.conftest import ROOT, TRAIN_LIMIT_S, last_line, run_command, steps, train_command

Capture = pytest.CaptureFixture[str]

pytestmark = pytest.mark.timeout(1200)  # fixtures train; see TRAIN_LIMIT_S


def copy_of(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target


def shard(dataset: Path, split: str = "train") -> Path:
    return next(path for path in sorted(dataset.rglob("*tfrecord*")) if split in path.name)


def one_line(capture: Capture) -> str:
    """The error as the user sees it: exactly one line, no traceback."""
    text = capture.readouterr().err
    lines = [line for line in text.splitlines() if line.startswith("genie-robot: ")]
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def imagine(model: Path, dataset: Path, tmp_path: Path, actions: str = "0") -> int:
    words = ["--data", str(dataset), "--actions", actions, "--out", str(tmp_path / "film")]
    return cli.main(["imagine", str(model), *words])


def test_no_dataset(tmp_path: Path, run_folder: Path, capfd: Capture) -> None:
    assert imagine(run_folder / "world_model", tmp_path / "nowhere", tmp_path) == 2
    assert "nowhere" in one_line(capfd)


def test_missing_shard_stops_training(dataset: Path, tmp_path: Path) -> None:
    broken = copy_of(dataset, tmp_path / "data")
    gone = shard(broken)
    gone.unlink()
    done = run_command(train_command(broken, tmp_path / "run", "stage=tokenizer", *steps(2, 2)))
    assert done.returncode == 1
    assert gone.name in last_line(done.stderr)
    assert "Traceback" not in done.stderr


def test_truncated_shard_stops_imagine(
    dataset: Path, run_folder: Path, tmp_path: Path, capfd: Capture
) -> None:
    broken = copy_of(dataset, tmp_path / "data")
    cut = shard(broken, "test")
    cut.write_bytes(cut.read_bytes()[:-100])
    assert imagine(run_folder / "world_model", broken, tmp_path) == 1
    assert cut.name in one_line(capfd)


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "latent_actions.json"])
def test_model_folder_with_a_missing_file(
    name: str, dataset: Path, run_folder: Path, tmp_path: Path, capfd: Capture
) -> None:
    model = copy_of(run_folder / "world_model", tmp_path / "model")
    (model / name).unlink()
    assert imagine(model, dataset, tmp_path) == 2
    assert name in one_line(capfd)


@pytest.mark.parametrize("name", ["config.yaml", "model.safetensors", "latent_actions.json"])
def test_model_folder_with_an_altered_file(
    name: str, dataset: Path, run_folder: Path, tmp_path: Path, capfd: Capture
) -> None:
    model = copy_of(run_folder / "world_model", tmp_path / "model")
    content = bytearray((model / name).read_bytes())
    if name == "model.safetensors":
        content[-7] ^= 0x10  # one bit of one weight
    else:
        content = content[: len(content) // 2]
    (model / name).write_bytes(bytes(content))
    assert imagine(model, dataset, tmp_path) == 2
    assert name in one_line(capfd)


@pytest.mark.parametrize("actions", ["8", "-1", "sideways", "0*0", "1.5"])
def test_unknown_action(
    actions: str, dataset: Path, run_folder: Path, tmp_path: Path, capfd: Capture
) -> None:
    assert imagine(run_folder / "world_model", dataset, tmp_path, actions=actions) == 2
    assert "wanted" in one_line(capfd)


def test_prompt_that_is_no_image(run_folder: Path, tmp_path: Path, capfd: Capture) -> None:
    prompt = tmp_path / "prompt.png"
    prompt.write_text("not a picture")
    assert (
        cli.main(["imagine", str(run_folder / "world_model"), "--prompt", str(prompt), "--actions", "0"]) == 2
    )
    assert "prompt.png" in one_line(capfd)


def test_prompt_of_another_size_is_resized(run_folder: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.png"
    cv2.imwrite(str(prompt), np.full((48, 80, 3), 120, np.uint8))
    words = ["--prompt", str(prompt), "--actions", "0", "--out", str(tmp_path / "film")]
    assert cli.main(["imagine", str(run_folder / "world_model"), *words]) == 0


@pytest.mark.parametrize(
    "word", ["model.tokenizer.patch_size=7", "training.tokenizer.steps=-1", "hardware.device=abacus"]
)
def test_wrong_configuration_is_refused_before_work(word: str, dataset: Path, tmp_path: Path) -> None:
    done = run_command(train_command(dataset, tmp_path / "run", "stage=tokenizer", word))
    assert done.returncode == 2
    assert "wanted" in last_line(done.stderr)
    assert not (tmp_path / "run" / "tokenizer").exists()


def _contents(folder: Path) -> dict[str, bytes]:
    """Every file of the checkpoints; the link to the newest is none."""
    files = (path for path in folder.glob("step_*/*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_full_disk_during_a_checkpoint_keeps_the_one_before(dataset: Path, tmp_path: Path) -> None:
    output = tmp_path / "run"
    command = train_command(dataset, output, "stage=tokenizer", *steps(4, 2))
    assert run_command(command).returncode == 0
    folder = output / "tokenizer" / "checkpoints"
    newest = sorted(folder.glob("step_*"))[-1]
    shutil.rmtree(newest)  # as if the run had been killed after step 2
    before = _contents(folder)
    size = max(len(content) for content in before.values())

    def small_files_only() -> None:  # the kernel refuses to let any file grow past this, as a full disk does
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=TRAIN_LIMIT_S,
        preexec_fn=small_files_only,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "no space" in last_line(done.stderr)
    assert "Traceback" not in done.stderr
    assert _contents(folder) == before
    assert run_command(command).returncode == 0, "it does not go on after space was made"
    assert newest.is_dir()
