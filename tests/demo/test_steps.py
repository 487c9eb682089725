"""Steps are done once, again when what they were made from changed, and an interruption loses none of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from genie_robot.demo import steps as steps_module
from genie_robot.demo.memory import MemoryWatch, tree_memory_gib
from genie_robot.demo.process import run_child
from genie_robot.demo.steps import Context, Step, hash_files, run_steps, write_json
from genie_robot.errors import DiskFullError


class Work:
    """Two steps, the second on the result of the first, that count how often they ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def first(self, context: Context) -> dict:
        self.ran.append("first")
        (context.folder / "made.txt").write_text("made")
        return {"value": 2}

    def second(self, context: Context) -> dict:
        self.ran.append("second")
        return {"value": context.results["first"]["value"] * 10}

    def steps(self, size: int = 1, other: int = 1) -> list[Step]:
        return [
            Step("first", "first", self.first, {"size": size}),
            Step("second", "second", self.second, {"other": other}, needs=("first",)),
        ]


def test_second_run_reuses(tmp_path: Path) -> None:
    work = Work()
    records = run_steps(work.steps(), tmp_path)
    assert records["second"].result == {"value": 20}
    again = run_steps(work.steps(), tmp_path)
    assert work.ran == ["first", "second"]
    assert again["second"].result == {"value": 20}
    assert again["second"].reused and not records["second"].reused
    assert again["first"].duration_s == records["first"].duration_s


def test_changed_input_runs_again_with_all_that_needs_it(tmp_path: Path) -> None:
    work = Work()
    run_steps(work.steps(), tmp_path)
    run_steps(work.steps(other=2), tmp_path)
    assert work.ran == ["first", "second", "second"]
    run_steps(work.steps(size=2, other=2), tmp_path)
    assert work.ran == ["first", "second", "second", "first", "second"]


def test_force_runs_everything(tmp_path: Path) -> None:
    work = Work()
    run_steps(work.steps(), tmp_path)
    run_steps(work.steps(), tmp_path, force=True)
    assert work.ran == ["first", "second"] * 2


def test_interruption_keeps_finished_steps(tmp_path: Path) -> None:
    work = Work()

    def interrupted(context: Context) -> dict:
        raise KeyboardInterrupt

    stopping = [work.steps()[0], Step("second", "second", interrupted, {}, needs=("first",))]
    with pytest.raises(KeyboardInterrupt):
        run_steps(stopping, tmp_path)
    run_steps(work.steps(), tmp_path)
    assert work.ran == ["first", "second"]


@pytest.mark.parametrize("resumable", [True, False])
def test_half_done_folder_is_kept_for_resumable_steps_only(resumable: bool, tmp_path: Path) -> None:
    found: list[bool] = []

    def work(context: Context) -> dict:
        half = context.folder / "half.txt"
        found.append(half.exists())
        if len(found) == 1:
            half.write_text("half")
            raise KeyboardInterrupt
        return {}

    step = Step("work", "work", work, {}, resumable=resumable)
    with pytest.raises(KeyboardInterrupt):
        run_steps([step], tmp_path)
    run_steps([step], tmp_path)
    assert found == [False, resumable]


def test_record_of_another_version_is_made_again(tmp_path: Path) -> None:
    work = Work()
    run_steps(work.steps(), tmp_path)
    (tmp_path / "steps" / "first" / "step.json").write_text('{"unknown": 1}')
    run_steps(work.steps(), tmp_path)
    assert work.ran == ["first", "second", "first"]


def test_full_disk_is_one_line_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"old": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(steps_module.os, "replace", full)
    with pytest.raises(DiskFullError, match="No space left"):
        write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_hash_sees_content_and_names_and_not_caches(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = hash_files([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert hash_files([tmp_path]) == before
    (tmp_path / "a.py").write_text("2")
    assert hash_files([tmp_path]) != before


def test_child_gets_ctrl_c_once_and_time_to_save(tmp_path: Path) -> None:
    saved = tmp_path / "saved"
    child = (
        "import signal, sys, time, pathlib\n"
        "count = []\n"
        "signal.signal(signal.SIGINT, lambda *_: count.append(1))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "while not count: time.sleep(0.02)\n"
        "time.sleep(0.4)\n"
        f"pathlib.Path({str(saved)!r}).write_text(str(len(count)))\n"
    )
    parent = (
        "import sys\nfrom genie_robot.demo.process import run_child\n"
        f"try:\n    run_child([sys.executable, '-c', {child!r}])\nexcept KeyboardInterrupt:\n    sys.exit(130)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent], start_new_session=True) as process:
        limit = time.monotonic() + 60
        while not (tmp_path / "ready").exists():
            assert time.monotonic() < limit
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        assert process.wait(60) == 130
    assert saved.read_text() == "1"


def test_child_that_never_ends_is_stopped() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        run_child([sys.executable, "-c", "import time; time.sleep(600)"], timeout_s=0.5)
    assert time.monotonic() - started < 30


def test_exit_code_of_the_child_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert run_child([sys.executable, "-c", "print('hello'); raise SystemExit(3)"], log=log) == 3
    assert log.read_text() == "hello\n"


def test_memory_counts_children() -> None:
    size_gib = 0.2
    child = f"import time; x = bytearray({int(size_gib * 2**30)}); print('ready', flush=True); time.sleep(60)"
    before = tree_memory_gib()
    with subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        grown = tree_memory_gib() - before
        process.kill()
    assert size_gib * 0.8 < grown < size_gib * 2


def test_memory_watch_sees_a_short_peak() -> None:
    before = tree_memory_gib()
    with MemoryWatch(interval_s=0.02) as memory:
        block = np.ones(2**25, np.float64)  # 0.25 GiB
        time.sleep(0.5)
        del block
    assert memory.peak_gib - before > 0.2
