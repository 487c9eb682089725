"""`genie-robot evaluate policies` as a user runs it: configurations, own policies, policies that fail."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from genie_robot.cli import main
from genie_robot.cli._evaluate_policies import add_policies_parser, configure
from genie_robot.errors import ConfigError
from genie_robot.evaluation.episodes import read_rows
from genie_robot.evaluation.evaluation_config import EvaluationConfig, load_config
from genie_robot.evaluation.probe import save_probe

MODULE = """
import numpy as np

class Fine:
    def __init__(self, suite, task): pass
    def reset(self, seed): pass
    def act(self, image): return np.array([0.5, 0, 0, 0, 0, 0, 0])

class Lost(Fine):
    def act(self, image): raise LookupError("where am I?")

class Unmade:
    def __init__(self, suite, task): raise OSError("no weights")
"""


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_policies_parser(parser)
    return parser.parse_args(words)


def test_without_a_configuration_it_is_the_small_table_top_scored_all_the_same() -> None:
    assert configure(options()) == EvaluationConfig(i_know=True)
    config = configure(
        options("weights/x", "--max-steps", "9", "--policies", "no-op, expert-1.0", "--seeds", "2")
    )
    assert config.model == "weights/x" and config.horizons == (9,) and config.seeds == 2
    assert config.policies == ("no-op", "expert-1.0") and config.tasks == ("push", "lift")


def test_another_suite_is_held_to_the_gate_unless_the_user_insists() -> None:
    assert not configure(options("--suite", "manipulation", "--interface", "m2")).i_know
    assert configure(options("--suite", "manipulation", "--i-know")).i_know


def test_options_override_a_configuration() -> None:
    nightly = load_config("nightly")
    assert configure(options("--config", "nightly")) == nightly
    mine = configure(options("--config", "nightly", "--policies", "my:Policy,random", "--horizons", "16,8"))
    assert mine.policies == ("my:Policy", "random") and mine.unseen_policies == ("my:Policy",)
    assert mine.horizons == (8, 16) and mine.tasks == nightly.tasks and mine.sha256 != nightly.sha256
    with pytest.raises(ConfigError, match="--horizons is '8,x'"):
        configure(options("--horizons", "8,x"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, probes) -> Path:
    """A folder with a probe and a module of policies, in which the user stands."""
    pytest.importorskip("mujoco")
    save_probe(tmp_path / "probe", probes, "card")
    (tmp_path / "lab_moody.py").write_text(MODULE)
    (tmp_path / "one.yaml").write_text(
        "suite: tabletop\nprobe: probe\npolicies: ['lab_moody:Fine', 'lab_moody:Lost', no-op]\ntasks: [push]\nseeds: 2\n"
        "horizons: [2]\nworlds: [mujoco]\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_policy_that_fails_is_told_and_the_exit_code_is_0(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["evaluate", "policies", "--config", "one.yaml", "--out", "out", "--json", "-"]
    assert main(arguments) == 0
    said, told = capsys.readouterr()
    summary = json.loads(said)["policies"]
    assert summary["policies"] == ["lab_moody:Fine", "lab_moody:Lost", "no-op"]
    assert "6 episodes to go" in told and "WARNING: in 2 of 6 episodes the policy failed" in told
    assert "lab_moody:Lost: raised in 2 episodes: LookupError: where am I?" in told
    rows = read_rows(here / "out" / "episodes.csv")
    assert [row.status for row in rows if row.policy == "lab_moody:Lost"] == ["raised", "raised"]
    before = (here / "out" / "episodes.csv").read_bytes()
    assert main(arguments) == 0
    assert (here / "out" / "episodes.csv").read_bytes() == before
    assert "to go" not in capsys.readouterr().err  # nothing was left


def test_a_policy_that_cannot_be_made_is_told_before_the_first_episode(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    code = main(["evaluate", "policies", "--config", "one.yaml", "--policies", "no-op,lab_moody:Unmade"])
    told = capsys.readouterr().err
    assert code == 1 and told.count("\n") == 1
    assert "lab_moody:Unmade could not be made for the task push (OSError: no weights)" in told
