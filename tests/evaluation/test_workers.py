"""An evaluation on several processes: the same file, byte for byte; and one whose process is killed says so in a line."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genie_robot.errors import ConfigError, GenieError
from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.evaluation.evaluation_parts import open_parts
from genie_robot.evaluation.policy_eval import PolicyEvaluation

CONFIG = EvaluationConfig(
    policies=("expert-1.0", "no-op"), seeds=2, horizons=(3,), block=2, maskgit_steps=2, i_know=True
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> PolicyEvaluation:
    evaluation = PolicyEvaluation(CONFIG, tmp_path_factory.mktemp("alone"), open_parts(CONFIG))
    evaluation.run()
    return evaluation


def test_rows_do_not_depend_on_the_number_of_processes(alone: PolicyEvaluation, tmp_path: Path) -> None:
    evaluation = PolicyEvaluation(CONFIG, tmp_path, alone.parts)
    seen: list[int] = []
    evaluation.run(lambda episodes, what: seen.append(episodes), workers=2)
    assert evaluation.csv_path.read_bytes() == alone.csv_path.read_bytes()
    assert sum(seen) == CONFIG.episodes
    films = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.mp4"))
    assert films == sorted(path.relative_to(alone.out_dir) for path in alone.out_dir.rglob("*.mp4"))


def test_a_worker_leaves_the_settings_to_the_process_that_opened_the_folder(
    alone: PolicyEvaluation, tmp_path: Path
) -> None:
    PolicyEvaluation(CONFIG, tmp_path, alone.parts, is_worker=True)
    assert not list(tmp_path.iterdir())


def test_a_killed_process_is_one_line_and_loses_nothing(
    alone: PolicyEvaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluation = PolicyEvaluation(CONFIG, tmp_path, alone.parts)

    def kill_one(episodes: int, what: str) -> None:
        workers = multiprocessing.active_children()
        if workers:  # none is left where this is told of a block that was played before
            workers[0].kill()

    with pytest.raises(GenieError, match="give the same command again"):
        evaluation.run(kill_one, workers=2)
    assert evaluation.rows()
    evaluation.run()
    assert sorted(map(str, evaluation.rows())) == sorted(map(str, alone.rows()))
    assert not multiprocessing.active_children()


KILLED_AT_WORK = """
import multiprocessing, os, signal, sys
from pathlib import Path
from tests.evaluation.test_workers import CONFIG, PolicyEvaluation, open_parts

def kill_me(episodes, what):
    print(*(process.pid for process in multiprocessing.active_children()), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

PolicyEvaluation(CONFIG, Path(sys.argv[1]), open_parts(CONFIG)).run(kill_me, workers=2)
"""


def test_a_killed_run_leaves_no_process_behind(repository_root: Path, tmp_path: Path) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED_AT_WORK, str(tmp_path)],
        cwd=repository_root,
        stdout=subprocess.PIPE,  # which the workers hold too: read to its end only when they are gone, or TimeoutExpired
        text=True,
        timeout=60,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(killed.stdout.split()) == 2, "there were two workers"


def test_the_model_is_opened_in_the_precision_that_was_asked_for() -> None:
    parts = open_parts(replace(CONFIG, dtype="bfloat16"))
    assert parts.model is not None and parts.model.dynamics.head.weight.dtype == torch.bfloat16


def test_workers_of_the_command_line() -> None:
    from genie_robot.cli._evaluate_policies import _workers

    threads = torch.get_num_threads()
    try:
        assert _workers(3, CONFIG) == 3 and 1 <= _workers(0, CONFIG) <= 8
        with pytest.raises(ConfigError, match="wanted 1 or more"):
            _workers(-1, CONFIG)
        node = EvaluationConfig(policies=("ros:/mine",))
        assert _workers(0, node) == 1
        with pytest.raises(ConfigError, match="one memory"):
            _workers(2, node)
    finally:
        torch.set_num_threads(threads)
