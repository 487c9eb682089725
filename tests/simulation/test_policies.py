"""Pixel policies: one random stream for all worlds, shared eyes, known names."""

from __future__ import annotations

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import Expert, action_key
from genie_robot.simulation.policies import POLICY_NAMES, Resources, act_all, make_policy
from tests.simulation.fixed_eyes import FixedEyes

STATE = np.array([0.40, 0.0, 0.12, 0.0, 0.40, 0.05, 0.028, 0.40, 0.17])
UNKNOWN = np.full(9, np.nan)
IMAGES = np.zeros((4, 64, 64, 3), dtype=np.uint8)
eyes = FixedEyes(STATE)


def play(name: str, seed: int, steps: int = 30, task: str = "push") -> np.ndarray:
    policy = make_policy(name, "tabletop", task, Resources(eyes=eyes))
    policy.reset(seed)
    return np.stack([policy.act(IMAGES[0]) for _ in range(steps)])


def test_at_least_six_graded_policies() -> None:
    assert len(POLICY_NAMES) >= 6 and len(set(POLICY_NAMES)) == len(POLICY_NAMES)
    for task in ("push", "lift"):
        for name in POLICY_NAMES:
            assert play(name, 0, task=task).shape == (30, 7)


@pytest.mark.parametrize("name", POLICY_NAMES)
def test_a_seed_fixes_the_stream(name: str) -> None:
    assert np.array_equal(play(name, 7), play(name, 7))
    if name in ("expert-0.4", "random-keys"):
        assert not np.array_equal(play(name, 7), play(name, 8))


def test_perfect_expert_does_what_the_expert_on_the_state_does() -> None:
    expert = Expert("push", skill=1.0)
    expert.reset(np.random.default_rng(0))
    assert np.array_equal(play("expert-1.0", 0, steps=5), np.stack([expert.act(STATE) for _ in range(5)]))


def test_less_skill_means_more_other_keys() -> None:
    perfect = play("expert-1.0", 0, 300)
    differing = [
        np.mean(
            [
                action_key(a) != action_key(b)
                for a, b in zip(play(f"expert-{s}", 1, 300), perfect, strict=True)
            ]
        )
        for s in (0.8, 0.2)
    ]
    assert 0 < differing[0] < differing[1]


def test_no_op_does_nothing_and_random_keys_press_all() -> None:
    assert not play("no-op", 0).any()
    assert {action_key(a) for a in play("random-keys", 0, 200)} >= {
        "left",
        "right",
        "up",
        "down",
        "close",
        "open",
    }


def test_batched_acting_equals_acting_alone() -> None:
    policies = [make_policy("expert-0.4", "tabletop", "push", Resources(eyes=eyes)) for _ in range(4)]
    for seed, policy in enumerate(policies):
        policy.reset(seed)
    together = np.stack([act_all(policies, IMAGES) for _ in range(10)], axis=1)
    for seed in range(4):
        assert np.array_equal(together[seed], play("expert-0.4", seed, 10))


def test_the_goal_is_averaged_over_what_was_seen() -> None:
    seen = []

    class Spy:
        def reset(self, rng: np.random.Generator) -> None: ...

        def act(self, state: np.ndarray) -> np.ndarray:
            seen.append(state[7:].copy())
            return np.zeros(7)

    policy = make_policy("no-op", "tabletop", "push", Resources(eyes=eyes))
    policy._controller = Spy()
    policy.reset(0)
    for offset in (0.0, 0.02):
        policy.act_on(STATE + offset, UNKNOWN)
    assert np.allclose(seen[1], STATE[7:] + 0.01)
    policy.reset(0)
    policy.act_on(STATE, UNKNOWN)
    assert np.allclose(seen[2], STATE[7:])


@pytest.mark.parametrize("name", ["expert", "expert-2", "expert-x", "clever", "", "expert--1", "expert-nan"])
def test_unknown_policies_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="expert-<skill"):
        make_policy(name, "tabletop", "push", Resources(eyes=eyes))
