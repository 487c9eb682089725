"""Scripted keyboard teleoperation: experts of graded skill and random play.

Every behaviour presses one of eight keys a step and sees nothing but the state vector (9,), so the same
controller runs on the true state in MuJoCo and on an estimated state in imagination. Needs numpy only.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genie_robot.data.commands import STEP_M, WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT, OBJECT_XY, OPENING, check_task

KEYS: tuple[str, ...] = ("forward", "back", "left", "right", "up", "down", "close", "open")
"""The eight keys; forward is +x, left is +y, up is +z of the robot frame."""

TOLERANCE_M = 0.022
LOW_Z_M = 0.055
TRAVEL_Z_M = 0.10
STANDOFF_M = 0.078
OPEN_ABOVE = 0.75
AIM_ERROR_M = {"push": 0.040, "lift": 0.060}
RANDOM_KEY, WRONG_TIME = 0.40, 0.16


def key_action(key: str, magnitude: float = 1.0) -> np.ndarray:
    """Return the robot action, float32 (7,), of one key; gripper keys always have full size."""
    if key not in KEYS:
        raise ConfigError(f"key is {key!r}, wanted one of {', '.join(KEYS)}; choose one of these")
    action = np.zeros(7, dtype=np.float32)
    index = KEYS.index(key)
    if index < 6:
        action[index // 2] = magnitude if index % 2 == 0 else -magnitude
    else:
        action[6] = 1.0 if key == "close" else -1.0
    return action


def action_key(action: np.ndarray) -> str | None:
    """Return the key that makes `action` (7,), or None for an action that does nothing."""
    move = np.asarray(action)[[0, 1, 2, 6]]
    index = int(np.abs(move).argmax())
    if abs(move[index]) < 0.25:
        return None
    return KEYS[index * 2 + int(move[index] < 0)]


class Behaviour(Protocol):
    """A controller on the state vector."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        ...

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,), for the state (9,)."""
        ...


class _Keyboard:
    """Turns keys into actions; with noise, moves have 85 to 100 % of full size (the action box ends at 1)."""

    def __init__(self, noise: bool) -> None:
        self._noise = noise

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def press(self, key: str) -> np.ndarray:
        """Return the action of `key`, with noise on its size if asked for."""
        return key_action(key, float(self._rng.uniform(0.85, 1.0)) if self._noise else 1.0)


class Play(_Keyboard):
    """Random keys, each held one to four steps, drawn towards the object or a random place.

    Keys that would change nothing (at the edge of the workspace, opening an open gripper, pressing
    down on top of the object) are left out, since a key without effect is a wrong label.
    """

    def __init__(self, noise: bool = False) -> None:
        """Make the behaviour; `noise` varies the size of moves."""
        super().__init__(noise)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        super().reset(rng)
        self._key, self._left, self._patience = "", 0, 0
        self._place = np.zeros(3)

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,), for the state (9,)."""
        useful = self.useful(state)
        if self._left <= 0 or self._key not in useful:
            self._choose(np.asarray(state, dtype=np.float64), useful)
        self._left -= 1
        return self.press(self._key)

    def useful(self, state: np.ndarray) -> list[str]:
        """Return the keys to choose from in `state`."""
        return useful_keys(state)

    def _choose(self, state: np.ndarray, useful: list[str]) -> None:
        self._patience -= 1
        if self._patience < 0:
            self._patience = int(self._rng.integers(3, 8))
            near = self._rng.random() < 0.55
            offset = self._rng.normal(0, 0.04, 3) + (0, 0, 0.02)
            self._place = (
                state[OBJECT] + offset if near else self._rng.uniform(WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
            )
        weights = []
        for key in useful:
            index = KEYS.index(key)
            if index >= 6:
                weights.append(4.3)
                continue
            wanted = (self._place - state[EE])[index // 2] * (1 if index % 2 == 0 else -1)
            weights.append(1.0 + 1.2 * float(wanted > 0.02))
        self._key = useful[int(self._rng.choice(len(useful), p=np.array(weights) / sum(weights)))]
        self._left = 1 if self._key in ("close", "open") else int(self._rng.integers(1, 4))


def useful_keys(state: np.ndarray) -> list[str]:
    """Return the keys that visibly change something in `state` (9,); never empty."""
    state = np.asarray(state, dtype=np.float64)
    ee, is_open = state[EE], state[OPENING] > OPEN_ABOVE
    keys = []
    for index, key in enumerate(KEYS[:6]):
        axis, sign = index // 2, 1 if index % 2 == 0 else -1
        room = WORKSPACE_HIGH_M[axis] - ee[axis] if sign > 0 else ee[axis] - WORKSPACE_LOW_M[axis]
        if room > 0.6 * STEP_M and not (key == "down" and _would_press_object(state)):
            keys.append(key)
    return [*keys, "close" if is_open else "open"]


def _would_press_object(state: np.ndarray) -> bool:
    """Tell whether moving down would press a finger onto the top of the object."""
    ee, thing = state[EE], state[OBJECT]
    if thing[2] > ee[2] - 0.015:  # beside or between the fingers, or held
        return False
    if ee[2] - STEP_M - 0.025 > thing[2] + 0.035:
        return False
    across, along = abs(thing[1] - ee[1]), abs(thing[0] - ee[0])
    if along > 0.06:
        return False
    if state[OPENING] > OPEN_ABOVE:
        return bool(0.022 < across < 0.115)
    return bool(across < 0.060)


class Expert(_Keyboard):
    """A waypoint controller for one task that always moves along the axis with the largest error.

    Skill 1.0 makes no mistakes on purpose. With u = 1 - skill, an episode has an aim error on object and
    goal of N(0, 4 cm u) for push, N(0, 6 cm u) for lift, and a step is, with probability 0.40 u, a random
    key, or comes at a wrong time (closes or opens too early) with probability 0.16 u.
    """

    def __init__(self, task: str, skill: float = 1.0, noise: bool = False) -> None:
        """Make an expert; raises ConfigError for an unknown task or a skill outside [0, 1]."""
        super().__init__(noise)
        self.task = check_task(task)
        if not 0.0 <= skill <= 1.0:
            raise ConfigError(
                f"skill is {skill}, wanted a number in [0, 1]; 1 makes no mistakes, 0 nearly only"
            )
        self.skill = float(skill)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        super().reset(rng)
        self._aim = rng.normal(0, 1, 2) * AIM_ERROR_M[self.task] * (1 - self.skill)
        self._goal_aim = rng.normal(0, 1, 2) * AIM_ERROR_M[self.task] * (1 - self.skill)
        self._axis: int | None = None

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,), for the state (9,)."""
        believed = np.asarray(state, dtype=np.float64).copy()
        believed[OBJECT_XY] += self._aim
        believed[GOAL_XY] += self._goal_aim
        chance = self._rng.random()
        fault = 1 - self.skill
        if chance < RANDOM_KEY * fault:
            useful = useful_keys(state)
            return self.press(useful[int(self._rng.integers(len(useful)))])
        if chance < (RANDOM_KEY + WRONG_TIME) * fault:
            return self.press("close" if believed[OPENING] > OPEN_ABOVE else "open")
        return self.press(self._push(believed) if self.task == "push" else self._lift(believed))

    def _lift(self, state: np.ndarray) -> str:
        ee, thing = state[EE], state[OBJECT]
        apart = np.abs(thing - ee)
        if state[OPENING] <= OPEN_ABOVE:
            return "up" if _is_held(state) else "open"
        aligned = apart[0] <= TOLERANCE_M and apart[1] <= TOLERANCE_M
        low = ee[2] <= LOW_Z_M
        if aligned or (low and apart[0] < 0.032 and apart[1] < 0.032):
            return "close" if low else "down"
        if ee[2] < TRAVEL_Z_M and np.hypot(apart[0], apart[1]) < 0.13:
            return "up"
        return _towards(ee, thing[:2])

    def _push(self, state: np.ndarray) -> str:
        ee, thing = state[EE], state[OBJECT]
        if state[OPENING] > OPEN_ABOVE:
            return "close"
        axis, sign = self._push_direction(thing, state[GOAL_XY])
        other = 1 - axis
        behind = (thing[axis] - ee[axis]) * sign
        beside = abs(thing[other] - ee[other])
        if ee[2] <= LOW_Z_M and behind > 0.045 and behind < 0.16:
            if beside <= 0.028:
                return _move_key(axis, sign)
            if behind > 0.058:
                return _move_key(other, np.sign(thing[other] - ee[other]))
        stand = thing[:2].copy()
        stand[axis] -= sign * STANDOFF_M
        stand = np.clip(stand, WORKSPACE_LOW_M[:2], WORKSPACE_HIGH_M[:2])
        if np.abs(stand - ee[:2]).max() <= TOLERANCE_M:
            return "down" if ee[2] > LOW_Z_M else _move_key(axis, sign)
        if ee[2] < TRAVEL_Z_M and np.hypot(*(thing[:2] - ee[:2])) < 0.14:
            return "up"
        return _towards(ee, stand)

    def _push_direction(self, thing: np.ndarray, goal: np.ndarray) -> tuple[int, float]:
        """Return the axis to push along and its sign; keeps to one axis until that one is done."""
        error = goal - thing[:2]
        if self._axis is None or abs(error[self._axis]) < TOLERANCE_M:
            self._axis = int(np.abs(error).argmax())
        return self._axis, float(np.sign(error[self._axis]) or 1.0)


class StateFilter:
    """Steadies a state that was estimated from pictures, before an expert reads it.

    The goal never moves (running mean), the gripper moves as commanded, the object rests or is carried; a
    measurement far from what was expected is believed at once, a near one moves the estimate a little.
    """

    JUMP_M, GAIN = 0.06, 0.30

    def reset(self) -> None:
        """Forget everything; call it at the start of an episode."""
        self._state: np.ndarray | None = None
        self._count = 0

    def update(self, estimate: np.ndarray, last_action: np.ndarray | None = None) -> np.ndarray:
        """Return the steadied state (9,) after `last_action` (7,) led to the picture behind `estimate` (9,)."""
        estimate = np.asarray(estimate, dtype=np.float64)
        if self._state is None:
            self._state = estimate.copy()
        state, self._count = self._state, self._count + 1
        if last_action is not None:
            moved = state[EE] + STEP_M * np.asarray(last_action, dtype=np.float64)[:3]
            moved = np.clip(moved, WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
            if _is_held(state):
                state[OBJECT] += moved - state[EE]
            state[EE] = moved
        for part in (EE, OBJECT):
            error = estimate[part] - state[part]
            state[part] += error if np.linalg.norm(error) > self.JUMP_M else self.GAIN * error
        state[OPENING] = estimate[OPENING]
        state[GOAL_XY] += (estimate[GOAL_XY] - state[GOAL_XY]) / self._count
        return state.astype(np.float32)


def _is_held(state: np.ndarray) -> bool:
    """Tell whether the fingers are stopped by an object between them."""
    apart = np.abs(state[OBJECT] - state[EE])
    near = apart[0] < 0.05 and apart[1] < 0.04 and apart[2] < 0.045
    return bool(near and 0.2 < state[OPENING] <= OPEN_ABOVE)


def _towards(ee: np.ndarray, place_xy: np.ndarray) -> str:
    error = place_xy - ee[:2]
    axis = int(np.abs(error).argmax())
    return _move_key(axis, float(np.sign(error[axis])))


def _move_key(axis: int, sign: float) -> str:
    return KEYS[axis * 2 + int(sign < 0)]


def make_behaviour(name: str, skill: float = 1.0, noise: bool = False) -> Play | Expert:
    """Return the behaviour `name`: "play", or a task's name for its expert of the given skill."""
    return Play(noise) if name == "play" else Expert(name, skill, noise)
