"""`ros:<namespace>` in the policy evaluation: a node's rows are those of the same policy in process, exactly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mujoco")

from genie_robot.cli import main
from genie_robot.errors import PolicyError
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.evaluation.evaluation_parts import open_parts
from genie_robot.evaluation.policy_eval import PolicyEvaluation
from tests.ros.conftest import PATIENCE_S, ROOT

MODEL, PROBE = ROOT / "weights" / "tabletop-tiny", ROOT / "weights" / "tabletop-probe"
POLICY, NODE = "expert-0.4", "ros:/lab/my_policy"
LAST_DIGIT = 1e-4  # of what a row holds [m]
CONFIG = EvaluationConfig(
    model=str(MODEL), probe=str(PROBE), policies=(NODE,), seeds=2, horizons=(4,), maskgit_steps=2,
    policy_timeout_s=PATIENCE_S, i_know=True,
)  # fmt: skip


class Process:
    """A policy node as a user starts it; its log goes to a file."""

    def __init__(self, log: Path, *command: object) -> None:
        self.log = log
        with log.open("w") as file:
            self.process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def end(self, signal_number: int = signal.SIGINT) -> int:
        """Signal the node if it runs; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Start policy nodes; all are killed at the end of the test."""
    started: list[Process] = []

    def start_one(*command: object) -> Process:
        started.append(Process(tmp_path / f"policy{len(started)}.log", *command))
        return started[-1]

    yield start_one
    for one in started:
        one.process.kill()
        one.process.wait()


def example(start: Callable[..., Process]) -> Process:
    return start(
        "-m", "genie_policy_client.example_policy", "--policy", POLICY, "--probe", PROBE,
        "--ros-args", "-r", "__ns:=/lab/my_policy",
    )  # fmt: skip


def evaluation(folder: Path, config: EvaluationConfig = CONFIG) -> PolicyEvaluation:
    """As the command makes it: episodes of a node one by one, of a policy in process in blocks."""
    return PolicyEvaluation(config, folder, open_parts(config))


def in_process(config: EvaluationConfig, block: int = 16) -> EvaluationConfig:
    """The same evaluation of the same policy without the node."""
    return replace(config, policies=(POLICY,), unseen_policies=(), block=block)


def renamed(rows: list[Row]) -> list[dict]:
    return [asdict(row) | {"policy": POLICY} for row in rows]


def test_a_node_has_the_rows_and_pictures_of_the_same_policy_in_process(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    node = example(start)
    of_node = evaluation(tmp_path / "node").run()
    assert node.end() == 0 and "Traceback" not in node.log.read_text()
    assert len(of_node) == CONFIG.episodes == 12
    one_by_one = evaluation(tmp_path / "same", in_process(CONFIG, block=1)).run()
    assert renamed(of_node) == renamed(one_by_one)
    # What was done and seen at every step, bit by bit; the films beside it are compressed.
    for stored in sorted((tmp_path / "node" / "trajectories").rglob("*.npz")):
        twin = str(stored).replace(str(tmp_path / "node"), str(tmp_path / "same"))
        with np.load(stored) as of_it, np.load(twin.replace("ros__lab_my_policy", POLICY)) as of_twin:
            for name in ("actions_S7", "states_TS"):
                assert np.array_equal(of_it[name], of_twin[name])
    assert len(list((tmp_path / "node" / "videos").rglob("*.mp4"))) == 12

    in_blocks = evaluation(tmp_path / "blocks", in_process(CONFIG)).run()
    for row, twin in zip(renamed(of_node), renamed(in_blocks), strict=True):
        # a batch is summed in another order: what is measured in its frames may round the other way
        assert row == twin if row["world"] != "imagined" else row == pytest.approx(twin, abs=2 * LAST_DIGIT)


def test_a_node_that_ends_is_one_error_and_the_same_command_goes_on_from_there(
    start: Callable[..., Process], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    node = example(start)
    arguments = [
        "evaluate", "policies", MODEL, "--probe", PROBE, "--policies", NODE, "--tasks", "push", "--seeds", 3,
        "--max-steps", 3, "--worlds", "mujoco", "--out", tmp_path / "out", "--policy-timeout", PATIENCE_S,
    ]  # fmt: skip
    config = replace(CONFIG, tasks=("push",), seeds=3, horizons=(3,), worlds=("mujoco",), maskgit_steps=8)
    run = evaluation(tmp_path / "out", config)

    def end_node(done: int, what: str) -> None:
        assert node.end() == 0

    with pytest.raises(PolicyError, match="policy /lab/my_policy is gone"):
        run.run(end_node)
    assert [row.seed for row in run.rows()] == [1_000_000]  # saved before
    assert main([str(a) for a in arguments[:-1]] + ["0.5"]) == 1
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "policy /lab/my_policy was not found: no subscriber" in told
    example(start)
    assert main([str(a) for a in arguments]) == 0
    assert "0/3" in capsys.readouterr().out
    same = evaluation(tmp_path / "same", in_process(config)).run()
    assert renamed(run.rows()) == renamed(same)


THE_READMES_POLICY = ROOT / "ros2_ws" / "src" / "genie_policy_client" / "README.md"


def test_the_policy_of_the_readme_is_a_policy(start: Callable[..., Process], tmp_path: Path) -> None:
    code = THE_READMES_POLICY.read_text().split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 20
    (tmp_path / "my_policy.py").write_text(code)
    node = start(tmp_path / "my_policy.py", "--ros-args", "-r", "__ns:=/lab/my_policy")
    config = replace(CONFIG, tasks=("push",), seeds=1, worlds=("mujoco",), horizons=(3,))
    rows = evaluation(tmp_path / "out", config).run()
    assert [(row.status, row.horizon) for row in rows] == [("ok", 3)]
    assert node.end() == 0


def test_a_policy_that_fails_ends_with_its_traceback_and_one_error_here(
    start: Callable[..., Process], tmp_path: Path
) -> None:
    (tmp_path / "broken.py").write_text(
        "import sys\nfrom genie_policy_client import run_policy\n\nclass Broken:\n"
        "    def reset(self, seed, task, instruction): pass\n"
        "    def act(self, image_YXC): return 1 / 0\n\nsys.exit(run_policy(Broken()))\n"
    )
    node = start(tmp_path / "broken.py", "--ros-args", "-r", "__ns:=/lab/my_policy")
    before = time.monotonic()
    with pytest.raises(PolicyError, match="is gone: its node ended; see its log"):
        evaluation(tmp_path / "out", replace(CONFIG, worlds=("mujoco",))).run()
    assert time.monotonic() - before < PATIENCE_S / 2
    assert node.process.wait(PATIENCE_S) == 1
    assert "return 1 / 0" in node.log.read_text() and "ZeroDivisionError" in node.log.read_text()
