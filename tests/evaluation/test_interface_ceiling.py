from __future__ import annotations

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.evaluation.agreement import passes_gate
from genie_robot.evaluation.interface_ceiling import CeilingConfig, compare, roll_out_scripts
from genie_robot.simulation.interfaces import NativeInterface

pytest.importorskip("mujoco")

QUICK = CeilingConfig("tabletop", ("push",), seeds=1)


class Deaf(NativeInterface):
    """Lets nothing through, and notes how it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.resets = self.steps = 0

    def reset(self, batch: int, poses_BP: np.ndarray | None = None) -> None:
        self.resets += 1

    def executed(self, actions_BA: np.ndarray, images_BYXC: np.ndarray, is_open_B: np.ndarray) -> np.ndarray:
        self.steps += 1
        return np.zeros_like(actions_BA)


def test_the_ceiling_by_hand() -> None:
    # Two tasks, three policies, two seeds; rates .5 1 0 and 1 .5 0 in truth.
    truth = np.array([[[1, 0], [1, 1], [0, 0]], [[1, 1], [1, 0], [0, 0]]], dtype=bool)
    through = np.array([[[0, 0], [1, 1], [0, 0]], [[1, 1], [0, 0], [0, 0]]], dtype=bool)
    found = compare(truth, through, ("push", "lift"))
    assert found["r"] == pytest.approx(1)  # means over tasks: .75 .75 0 and .5 .5 0
    assert found["task_r"] == pytest.approx(np.sqrt(3) / 2)
    assert found["bias"] == pytest.approx(-2 / 12)
    assert found["agreement"] == pytest.approx(10 / 12)
    assert found["tasks"]["push"]["mmrv"] == pytest.approx(0.5 / 3)  # the first policy ties with the last
    assert found["episodes"] == 12


def test_the_same_outcomes_are_a_ceiling_of_one() -> None:
    truth = np.random.default_rng(0).random((3, 8, 10)) < np.linspace(0, 1, 8)[:, None]
    found = compare(truth, truth, ("a", "b", "c"))
    assert found["r"] == pytest.approx(1)
    assert (found["mmrv"], found["bias"], found["agreement"], found["kappa"]) == (0, 0, 1, 1)
    assert passes_gate(found["r"], found["mmrv"])


def test_an_unknown_suite_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match="suite is 'kitchen'"):
        CeilingConfig("kitchen")


@pytest.mark.parametrize(
    ("r", "mmrv", "fit"),
    [(0.98, 0.03, True), (0.979, 0.0, False), (1.0, 0.031, False), (None, 0.0, False), (np.nan, 0.0, False)],
)
def test_the_gate(r: float | None, mmrv: float, fit: bool) -> None:
    assert passes_gate(r, mmrv) is fit


def test_no_spread_has_no_correlation() -> None:
    nothing = np.zeros((1, 3, 2), dtype=bool)
    found = compare(nothing, nothing, ("push",))
    assert found["r"] is None
    assert found["task_r"] is None
    assert not passes_gate(found["r"], found["mmrv"])


def test_an_interface_that_passes_everything_changes_nothing() -> None:
    truth = roll_out_scripts(QUICK, None)
    np.testing.assert_array_equal(roll_out_scripts(QUICK, NativeInterface()), truth)
    deaf, episodes = Deaf(), []
    assert truth.any()  # a script can push
    assert not roll_out_scripts(QUICK, deaf, episodes.append).any()
    assert deaf.resets == QUICK.episodes == len(episodes) == 6
    assert deaf.steps == 6 * 40  # nothing succeeded, so every step was taken


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="task is 'fly'"):
        CeilingConfig("tabletop", ("fly",))
    with pytest.raises(ConfigError, match="seeds is 0"):
        CeilingConfig("tabletop", seeds=0)


def test_a_dozen_policies_of_the_manipulation_suite() -> None:
    config = CeilingConfig()
    assert len(config.policies) >= 12
    assert config.episodes == 5 * len(config.policies) * 20
