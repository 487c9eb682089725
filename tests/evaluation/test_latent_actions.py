"""Measuring codes: names, cosines and agreement with true motion, on worlds whose truth is known."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from genie_robot.evaluation.heldout import collect_clips, collect_prompts
from genie_robot.evaluation.latent_actions import (
    DIRECTIONS,
    CodeMeasurement,
    direction_of_action,
    direction_of_motion,
    label_agreement,
    latent_action_records,
    mean_code_cosine,
    measure_codes,
    name_codes,
)
from genie_robot.evaluation.measure import action_grid, measure_codebook
from genie_robot.simulation.mujoco.behaviours import KEYS, key_action

AXES = {"forward": (0, 1), "back": (0, -1), "left": (1, 1), "right": (1, -1), "up": (2, 1), "down": (2, -1)}


def write_state(state: np.ndarray) -> np.ndarray:
    """A picture that spells the state out in its pixels, two bytes a number."""
    image = np.zeros((64, 64, 3), dtype=np.uint8)
    values = np.clip(np.round((np.asarray(state) + 2) * 10000), 0, 65535).astype(int)
    image[0, : len(values), 0], image[0, : len(values), 1] = values // 256, values % 256
    return image


def read_state(images: np.ndarray) -> np.ndarray:
    pixels = np.asarray(images)[..., 0, :9, :].astype(float)
    return ((pixels[..., 0] * 256 + pixels[..., 1]) / 10000 - 2).astype(np.float32)


class KnownWorld:
    """Stands for WorldSession: code k does exactly what EFFECTS[k] says."""

    effects: tuple[str, ...] = KEYS

    def __init__(self, model: object, **_: object) -> None:
        self.state = np.zeros((0, 9))

    def reset(self, frames: np.ndarray, seed: int) -> np.ndarray:
        self.state = read_state(frames[:, -1]).astype(float)
        return np.stack([write_state(s) for s in self.state])

    def step(self, codes: np.ndarray) -> np.ndarray:
        for row, code in zip(self.state, codes, strict=True):
            effect, _, speed = self.effects[int(code)].partition("/")
            if effect in AXES:
                axis, sign = AXES[effect]
                row[axis] += 0.04 * sign * float(speed or 1)
            elif effect in ("close", "open"):
                row[3] = float(effect == "open")
            elif effect == "toggle":
                row[3] = 1.0 - row[3]
        return np.stack([write_state(s) for s in self.state])


def measured(effects: tuple[str, ...]) -> list[CodeMeasurement]:
    world = type("World", (KnownWorld,), {"effects": effects})
    rng = np.random.default_rng(0)
    states = rng.uniform(0, 0.4, (12, 9))
    states[:, 3] = np.arange(12) % 2
    prompts = np.stack([write_state(s) for s in states])[:, None]
    return measure_codes(SimpleNamespace(num_actions=len(effects)), read_state, prompts, session=world)[0]


@pytest.mark.parametrize("shift", [0, 3])
def test_names_come_from_what_codes_do_whatever_their_numbers(shift: int) -> None:
    effects = KEYS[shift:] + KEYS[:shift]
    measurements = measured(effects)
    assert tuple(name_codes(measurements)) == effects
    assert mean_code_cosine(measurements) == pytest.approx(1.0, abs=1e-3)
    assert [m.moves for m in measurements] == [effect in AXES for effect in effects]


def test_displacement_is_in_metres_a_step() -> None:
    records = latent_action_records(measured(("left", "close", "still")), probe="x")
    assert records[0]["displacement_m"] == pytest.approx([0, 0.04, 0], abs=1e-3)
    assert records[1]["gripper"] == pytest.approx(-1.0, abs=0.01)  # closes fully in its first step
    assert records[2]["name"] == "still"
    assert records[0]["evidence"]["prompts"] == 12 and records[0]["evidence"]["probe"] == "x"


def test_one_code_for_both_ways_of_the_fingers_is_called_so() -> None:
    measurements = measured(("toggle", "close", "open"))
    assert name_codes(measurements) == ["close/open", "close", "open"]
    assert measurements[0].closing == pytest.approx(-1.0, abs=0.01)
    assert measurements[0].opening == pytest.approx(1.0, abs=0.01)


def test_duplicates_are_told_apart() -> None:
    names = name_codes(measured(("left", "left/0.5", "left/0.9", "still", "still", "left/0.4")))
    assert names == ["left", "left (slow)", "left (2)", "still", "still (2)", "left (slow 2)"]


def test_a_code_that_moves_another_way_each_time_is_mixed_and_lowers_the_cosine() -> None:
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    round_about = np.stack([0.08 * np.cos(angles), 0.08 * np.sin(angles), 0 * angles], axis=1)
    wild = CodeMeasurement(0, round_about, np.zeros(12), np.ones(12), 2)
    straight = CodeMeasurement(1, np.tile([0.08, 0, 0], (12, 1)), np.zeros(12), np.ones(12), 2)
    assert wild.direction == "mixed" and wild.moves
    by_hand = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(round_about, 2)
    ]
    assert wild.cosine == pytest.approx(np.mean(by_hand))
    assert mean_code_cosine([wild, straight]) == pytest.approx((1.0 + np.mean(by_hand)) / 2)


def test_direction_of_actions_and_of_motion() -> None:
    actions = np.stack([*(key_action(key, 0.9) for key in KEYS), np.zeros(7)])
    assert [DIRECTIONS[k] for k in direction_of_action(actions)] == list(DIRECTIONS)
    states = np.zeros((3, 9))
    states[1:, 2] = 0.03  # up, then nothing
    assert [DIRECTIONS[k] for k in direction_of_motion(states)] == ["up", "still"]


def test_simulated_motion_is_what_was_commanded_nearly_always(episodes: list) -> None:
    """Ties the sign conventions to MuJoCo: x forward, y left, z up, and opening falls on "close"."""
    same = [direction_of_motion(e.state_TS) == direction_of_action(e.actions_TA[:-1]) for e in episodes]
    assert np.concatenate(same).mean() > 0.9


def test_label_agreement_on_perfect_random_and_merged_codes(episodes: list) -> None:
    clips = collect_clips(episodes, clips=6, frames=12)
    assert clips.states_BTS is not None
    motion = direction_of_motion(clips.states_BTS)
    perfect = label_agreement(motion % 8, clips.states_BTS, clips.actions_BSA, 8)
    assert perfect.nmi_direction > 0.9 and perfect.nmi_action is not None and perfect.nmi_action > 0.8
    constant = label_agreement(0 * motion, clips.states_BTS, clips.actions_BSA, 8)
    assert constant.nmi_direction == pytest.approx(0.0, abs=1e-9)
    assert constant.codes_used == 1 and constant.perplexity == pytest.approx(1.0)
    assert perfect.nmi_shuffled < 0.7 * perfect.nmi_direction
    left = perfect.table[DIRECTIONS.index("left")]
    assert left["displacement_m"][1] > 0.02 and left["directions"]["left"] == 1.0


def test_prompts_leave_room_and_show_both_gripper_states(episodes: list) -> None:
    images, states = collect_prompts(episodes, prompts=4, frames=3, seed=1)
    assert images.shape == (4, 3, 64, 64, 3)
    assert 0 < (states[:, 3] > 0.5).sum() < 4
    reach = np.concatenate([e.state_TS[:, :3] for e in episodes])
    assert (states[:, :3] > reach.min(0) + 0.04).all() and (states[:, :3] < reach.max(0) - 0.04).all()


def test_a_real_model_is_measured_repeatably_and_drawn(model, episodes: list, probes) -> None:
    book = measure_codebook(model, episodes, probes, prompts=4, maskgit_steps=2)
    again = measure_codebook(model, episodes, probes, prompts=4, maskgit_steps=2)
    assert np.array_equal(book.frames_KPTYXC, again.frames_KPTYXC)
    assert book.latent_actions == again.latent_actions and len(book.latent_actions) == 8
    assert len({action.name for action in book.latent_actions}) == 8
    picture = action_grid(book, columns=4)
    assert picture.dtype == np.uint8 and picture.std() > 10
