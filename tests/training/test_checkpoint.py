"""Checkpoints: whole or not at all, retained, readable in part."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from genie_robot.errors import CheckpointError, DiskFullError
from genie_robot.training.checkpoint import Checkpoints, checkpoints, load_newest, load_weights, newest_run


def _save(folder: Path, step: int, size: int = 10, keep: int = 2) -> None:
    store = Checkpoints(folder, keep)
    store.save(step, {"model": {"x": torch.full((size,), float(step))}}, {"step": step})
    store.wait()


def _load(folder: Path, size: int = 10) -> tuple[dict[str, int] | None, torch.Tensor]:
    x = torch.zeros(size)
    return load_newest(folder, {"model": {"x": x}}), x


def test_a_saved_state_comes_back(tmp_path: Path) -> None:
    assert _load(tmp_path)[0] is None and newest_run(tmp_path) is None
    _save(tmp_path, 7)
    run, x = _load(tmp_path)
    assert run == {"step": 7} and (x == 7).all()


def test_the_copy_is_taken_at_once_though_it_is_written_later(tmp_path: Path) -> None:
    x = torch.ones(200_000)
    store = Checkpoints(tmp_path, 2)
    store.save(1, {"model": {"x": x}}, {"step": 1})
    x.zero_()  # training goes on
    store.wait()
    assert (_load(tmp_path, len(x))[1] == 1).all()


def test_nothing_appears_under_its_name_before_it_is_whole(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    store = Checkpoints(tmp_path, 2)
    store.save(2, {"model": {"x": torch.zeros(3_000_000)}}, {"step": 2})
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000001"]
    assert (tmp_path / "latest").resolve().name == "step_00000001"
    store.wait()
    assert (tmp_path / "latest").resolve().name == "step_00000002"


SAVING = """
import os, sys, time, pathlib, torch
from genie_robot.training.checkpoint import Checkpoints
store = Checkpoints(pathlib.Path(sys.argv[1]), keep=2)
store.save(1, {"model": {"x": torch.ones(10)}}, {"step": 1})
store.wait()
os.fsync = lambda fd: time.sleep(600)  # the disk is slow: the save hangs in the middle
store.save(2, {"model": {"x": torch.zeros(1_000_000)}}, {"step": 2})
store.wait()
"""


def test_killed_in_the_middle_of_a_save_the_one_before_is_intact(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", SAVING, str(tmp_path)])
    partial, deadline = tmp_path / "step_00000002.partial", time.monotonic() + 90
    while not list(partial.glob("*.distcp")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert partial.exists()
    run, x = _load(tmp_path)
    assert run == {"step": 1} and (x == 1).all()
    _save(tmp_path, 2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000001", "step_00000002"]


def test_what_a_kill_left_is_removed_and_not_read(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    (tmp_path / "step_00000002.partial").mkdir()
    assert newest_run(tmp_path) == {"step": 1}
    Checkpoints(tmp_path, 2)
    assert not list(tmp_path.glob("*.partial"))


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))  # writes beyond fail, as on a full disk
    try:
        with pytest.raises(DiskFullError, match=r"step 2.*step_00000001"):
            _save(tmp_path, 2, size=1_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000001"]
    assert not list(tmp_path.glob("*.partial"))
    assert _load(tmp_path)[0] == {"step": 1}


def test_old_checkpoints_go_and_a_damaged_newest_is_passed_over(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _save(tmp_path, step)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_00000002", "step_00000003"]
    for shard in checkpoints(tmp_path)[-1].glob("*.distcp"):
        shard.write_bytes(shard.read_bytes()[:20])
    run, x = _load(tmp_path)
    assert run == {"step": 2} and (x == 2).all()
    for path in checkpoints(tmp_path):
        (path / "run.json").write_text("{")
    with pytest.raises(CheckpointError, match="none of 2"):
        _load(tmp_path)


def test_weights_of_one_network_are_read_alone_and_averaged_on_request(tmp_path: Path) -> None:
    part = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2, affine=False))
    weights = {f"part.{name}": tensor.clone() for name, tensor in part.state_dict().items()}
    average = {"part.0.weight": torch.full((2, 2), 5.0)}
    store = Checkpoints(tmp_path, 2)
    store.save(3, {"model": weights | {"other.x": torch.ones(4)}, "average": average}, {"step": 3})
    store.wait()
    with torch.no_grad():
        part[0].weight.zero_()  # type: ignore[union-attr]
    load_weights(tmp_path, "part", part, averaged=False)
    torch.testing.assert_close(part.state_dict()["0.weight"], weights["part.0.weight"])
    load_weights(tmp_path, "part", part, averaged=True)
    assert (part.state_dict()["0.weight"] == 5).all()
