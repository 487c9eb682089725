"""Who drives the robot: experts of graded skill, named ways to fail, and random play; by keys or by free motion.

All see the state vector (14,) only. `keyboard` presses one key of eight a step, as in the `tabletop` dataset; `free`
moves diagonally, turns the gripper and moves while it grips. Needs numpy only.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from genie_robot.data.commands import STEP_M, TURN_RAD, WORKSPACE_HIGH_M, WORKSPACE_LOW_M
from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.behaviours import KEYS, Behaviour, Play, key_action, useful_keys
from genie_robot.simulation.mujoco.manipulation.scripts import (
    LIFT_Z_M,
    STAGES,
    Script,
    Wish,
    is_stopped,
    path_error,
    wants_grip,
)
from genie_robot.simulation.mujoco.manipulation.tasks import (
    DISTRACTOR,
    EE_YAW,
    OBJECT_YAW,
    OPEN_ABOVE,
    check_task,
)
from genie_robot.simulation.mujoco.tasks import EE, GOAL_XY, OBJECT, OBJECT_XY, OPENING

CONTROLS: tuple[str, ...] = ("keyboard", "free")
AIM_ERROR_M: dict[str, float] = {
    "reach": 0.055,
    "push": 0.035,
    "pick_lift": 0.055,
    "drawer": 0.060,
    "pick_place": 0.030,
}
RANDOM_STEP, WRONG_TIME, WRONG_OBJECT = 0.40, 0.10, 0.50
JITTER, JITTER_PER_FAULT = 0.04, 0.20
SLIDE_SPEED = 0.6
"""Share of its speed at which a free hand pushes or pulls: a cylinder that is hit hard wedges the fingers apart."""
HOVER_Z_M = 0.15

STYLES: dict[str, tuple[str, ...]] = {
    "reach": ("miss_left", "miss_right", "wrong_object", "stops_short", "stays_high"),
    "push": ("miss_left", "miss_right", "wrong_object", "stops_short", "pushes_past"),
    "pick_lift": ("miss_left", "miss_right", "wrong_object", "stops_short", "no_grasp", "early_release"),
    "drawer": ("miss_left", "wrong_object", "stops_short", "no_grasp", "early_release", "wrong_way"),
    "pick_place": ("miss_left", "wrong_object", "stops_short", "no_grasp", "early_release", "misplaces"),
}
"""Ways to fail, by task. They are meant to fail; the generator keeps those that did."""
_STYLE_STAGES: dict[tuple[str, str], tuple[str, ...]] = {
    ("reach", "stays_high"): ("hover",),
    ("pick_lift", "stops_short"): ("grasp", "squeeze", "lift", "lower", "let_go", "away"),
    ("pick_lift", "early_release"): ("grasp", "squeeze", "lift", "let_go", "away"),
    ("pick_lift", "no_grasp"): ("grasp", "lift"),
    ("drawer", "no_grasp"): ("grasp", "pull", "away"),
    ("drawer", "stops_short"): ("grasp", "squeeze", "pull", "away"),
    ("pick_place", "stops_short"): ("grasp", "squeeze", "lift", "carry", "lower", "let_go", "away"),
    ("pick_place", "no_grasp"): ("grasp", "lift", "carry", "away"),
    ("pick_place", "early_release"): ("grasp", "squeeze", "lift", "carry_over", "let_go", "away"),
}
_MISS_M: dict[str, tuple[float, float]] = {"drawer": (0.085, 0.12)}
"""How far a miss is aside [m]; 5 to 10 cm where nothing is said. A finger that lands on the handle still drags it."""
_SHARE: dict[str, tuple[float, float]] = {
    "stops_short": (0.20, 0.60),
    "pushes_past": (1.5, 2.2),
    "early_release": (0.3, 0.8),
    "wrong_way": (-1.0, -0.6),
}
"""How much of the way from start to goal these styles go, drawn once an episode."""


class Hand(Protocol):
    """Turns wishes into robot actions."""

    tolerance_m: float

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        ...

    def towards(self, state: np.ndarray, wish: Wish) -> np.ndarray:
        """Return the action (7,) that goes on towards `wish`."""
        ...

    def random(self, state: np.ndarray) -> np.ndarray:
        """Return a random action (7,) that does something."""
        ...

    def toggle(self, state: np.ndarray) -> np.ndarray:
        """Return the action (7,) that opens a closed gripper and closes an open one."""
        ...


class Keyboard:
    """One key a step, along the axis with the largest error; moves have 85 to 100 % of full size."""

    tolerance_m = 0.022

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        self._rng = rng

    def towards(self, state: np.ndarray, wish: Wish) -> np.ndarray:
        """Return the action (7,) that goes on towards `wish`."""
        if wants_grip(state, wish):
            return key_action("close" if wish.grip > 0 else "open")
        error = path_error(state, wish, self.tolerance_m)
        axis = int(np.abs(error).argmax())
        return self._press(KEYS[2 * axis + int(error[axis] < 0)])

    def random(self, state: np.ndarray) -> np.ndarray:
        """Return a random action (7,) that does something."""
        useful = useful_keys(state[:9])
        return self._press(useful[int(self._rng.integers(len(useful)))])

    def toggle(self, state: np.ndarray) -> np.ndarray:
        """Return the action (7,) that opens a closed gripper and closes an open one."""
        return key_action("close" if state[OPENING] > OPEN_ABOVE else "open")

    def _press(self, key: str) -> np.ndarray:
        return key_action(key, float(self._rng.uniform(0.85, 1.0)))


class FreeHand:
    """Straight diagonal motion with noise that turns the gripper and moves while it opens or closes."""

    def __init__(self, jitter: float = JITTER) -> None:
        self._jitter, self.tolerance_m = (
            jitter,
            0.010 + 0.04 * jitter,
        )  # an unsteady hand is content with less

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""
        self._rng = rng
        self._speed = float(rng.uniform(0.7, 1.0))

    def towards(self, state: np.ndarray, wish: Wish) -> np.ndarray:
        """Return the action (7,) that goes on towards `wish`."""
        action = np.zeros(7)
        error = path_error(state, wish, self.tolerance_m)
        speed = self._speed * (SLIDE_SPEED if wish.slide else 1.0)
        longest = np.abs(error).max() / (STEP_M * speed)
        action[:3] = error / STEP_M / max(1.0, longest)  # keeps the direction
        action[:3] += self._rng.normal(0, self._jitter, 3)
        if wish.yaw_rad is not None:
            action[5] = (wish.yaw_rad - state[EE_YAW]) / TURN_RAD + self._rng.normal(0, self._jitter)
        if wants_grip(state, wish):
            action[6] = wish.grip
        return np.clip(action, -1, 1).astype(np.float32)

    def random(self, state: np.ndarray) -> np.ndarray:
        """Return a random action (7,) that does something."""
        action = np.zeros(7)
        action[[0, 1, 2, 5]] = self._rng.uniform(-1, 1, 4)
        return action.astype(np.float32)

    def toggle(self, state: np.ndarray) -> np.ndarray:
        """Return the action (7,) that opens a closed gripper and closes an open one."""
        return key_action("close" if state[OPENING] > OPEN_ABOVE else "open")


class Scripted:
    """Does a task with a given skill, or fails at it in a named style; afterwards plays above the table.

    Skill 1.0 makes no mistakes on purpose. With u = 1 - skill, an episode aims wrong at object and goal by
    N(0, AIM_ERROR_M u) in x and y and takes the distractor for the object with probability 0.5 u; a step is random
    with probability 0.40 u and opens or closes the gripper at a wrong time with probability 0.10 u.
    """

    def __init__(
        self, task: str, control: str = "keyboard", skill: float = 1.0, style: str | None = None
    ) -> None:
        """Make it; raises ConfigError for an unknown task, control or style or a skill outside [0, 1]."""
        self.task = check_task(task)
        if not 0.0 <= skill <= 1.0:
            raise ConfigError(
                f"skill is {skill}, wanted a number in [0, 1]; 1 makes no mistakes, 0 nearly only"
            )
        if style is not None and style not in STYLES[task]:
            raise ConfigError(
                f"style is {style!r}, wanted one of {', '.join(STYLES[task])} for {task}; choose one of these"
            )
        self.skill, self.style, self._control = float(skill), style, check_control(control)
        self._hand = make_hand(control, JITTER + JITTER_PER_FAULT * (1 - self.skill))
        self._after = make_play(control, hover=True)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        self._rng, fault = rng, 1 - self.skill
        self._hand.reset(rng)
        self._after.reset(rng)
        spread = AIM_ERROR_M[self.task] * fault
        self._aim, self._goal_aim = rng.normal(0, 1, 2) * spread, rng.normal(0, 1, 2) * spread
        self._swap = self.style == "wrong_object" or bool(rng.random() < WRONG_OBJECT * fault)
        self._share = float(rng.uniform(*_SHARE.get(self.style or "", (1.0, 1.0))))
        self._miss_m = float(rng.uniform(*_MISS_M.get(self.task, (0.05, 0.10))))
        self._start: np.ndarray | None = None
        self._script = self._make_script()

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,), for the state (14,)."""
        state = np.asarray(state, dtype=np.float64)
        chance, fault = self._rng.random(), 1 - self.skill
        if chance < RANDOM_STEP * fault:
            return self._hand.random(state)
        if chance < (RANDOM_STEP + WRONG_TIME) * fault:
            return self._hand.toggle(state)
        wish = self._script.next(self._believe(state))
        return self._after.act(state) if wish is None else self._hand.towards(state, wish)

    def _make_script(self) -> Script:
        stages = _STYLE_STAGES.get((self.task, self.style or ""), STAGES[self.task])
        lift_m = LIFT_Z_M
        if self.task == "reach":
            lift_m = float(self._rng.uniform(0.14, 0.22))
        elif self.task == "pick_lift" and self.style in ("stops_short", "early_release"):
            lift_m = 0.036 + 0.055 * self._share
        return Script(
            stages,
            self._hand.tolerance_m,
            free=self._control == "free",
            careful=self.style is None,
            lift_m=lift_m,
        )

    def _believe(self, state: np.ndarray) -> np.ndarray:
        """Return the state as this robot takes it to be, (14,)."""
        believed = state.copy()
        if self._swap:
            believed[OBJECT], believed[OBJECT_YAW] = state[DISTRACTOR], 0.0
        believed[OBJECT_XY] += self._aim
        believed[GOAL_XY] += self._goal_aim
        if self._start is None:
            start = EE if self.task == "reach" else OBJECT
            self._start = believed[start].copy()
        if self._share != 1.0 and self.task == "reach":
            believed[OBJECT] = self._start + self._share * (believed[OBJECT] - self._start)
        elif self._share != 1.0 and self.task != "pick_lift":
            believed[GOAL_XY] = self._start[:2] + self._share * (believed[GOAL_XY] - self._start[:2])
        if self.style in ("miss_left", "miss_right", "misplaces"):
            self._miss(believed, self._start[:2])
        return believed

    def _miss(self, believed: np.ndarray, start_m: np.ndarray) -> None:
        """Move the believed object (or place) aside: to the robot's left, or left of the way from start to goal."""
        left = np.array([0.0, 1.0])
        if self.task in ("push", "pick_place"):
            way = believed[GOAL_XY] - start_m
            left = np.array([-way[1], way[0]]) / max(float(np.hypot(*way)), 1e-6)
        side = -1 if self.style == "miss_right" else 1
        part = GOAL_XY if self.style == "misplaces" else OBJECT_XY
        believed[part] += side * self._miss_m * left


class KeyPlay(Play):
    """Random keys (see `Play`) that keep off what would stop them; `hover` stays above the things on the table."""

    def __init__(self, hover: bool = False) -> None:
        super().__init__(noise=True)
        self._hover = hover

    def _choose(self, state: np.ndarray, useful: list[str]) -> None:
        near = state.copy()
        near[OBJECT] = some_thing(state, self._rng)
        super()._choose(near, useful)

    def useful(self, state: np.ndarray) -> list[str]:
        """Return the keys that visibly change something in `state` (14,); never empty."""
        if self._hover and state[2] < HOVER_Z_M:
            return ["up"]
        keys = set(useful_keys(state[:9]))
        other = np.array(state[:9])
        other[OBJECT] = state[DISTRACTOR]
        keys &= set(useful_keys(other))
        if self._hover:
            keys -= {"down"} if state[2] < HOVER_Z_M + STEP_M else set()
            keys -= {"open"} if is_stopped(state) else set()
        return [key for key in KEYS if key in keys] or ["up"]


class FreePlay:
    """Wanders between random places, a third of them near a thing, with noise, and grips now and then."""

    def __init__(self, hover: bool = False) -> None:
        self._hover, self._hand = hover, FreeHand(jitter=0.15)

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode; all later randomness comes from `rng`."""
        self._rng, self._left = rng, 0
        self._hand.reset(rng)

    def act(self, state: np.ndarray) -> np.ndarray:
        """Return the robot action, float32 (7,), for the state (14,)."""
        state = np.asarray(state, dtype=np.float64)
        if self._left <= 0:
            self._choose(state)
        self._left -= 1
        action = self._hand.towards(state, self._wish)
        if self._rng.random() < 0.10 and not (self._hover and is_stopped(state)):
            action[6] = self._hand.toggle(state)[6]
        return action

    def _choose(self, state: np.ndarray) -> None:
        place = self._rng.uniform(WORKSPACE_LOW_M, WORKSPACE_HIGH_M)
        if not self._hover and self._rng.random() < 0.35:
            place = some_thing(state, self._rng) + self._rng.normal(0, 0.05, 3) + (0, 0, 0.01)
        if self._hover:
            place[2] = self._rng.uniform(HOVER_Z_M, WORKSPACE_HIGH_M[2])
        slide = bool(self._rng.random() < 0.6) and not self._hover
        self._wish = Wish(place, 0.0, float(self._rng.uniform(-0.7, 0.7)), slide)
        self._left = int(self._rng.integers(3, 8))


def some_thing(state: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the position (3,) [m] of object, distractor or goal, drawn from `rng`."""
    goal = np.array([*state[GOAL_XY], state[OBJECT][2]])
    return (state[OBJECT], state[DISTRACTOR], goal)[int(rng.integers(3))]


def check_control(control: str) -> str:
    """Return `control` if it exists, else raise ConfigError."""
    if control not in CONTROLS:
        raise ConfigError(f"control is {control!r}, wanted one of {', '.join(CONTROLS)}; choose one of these")
    return control


def make_hand(control: str, jitter: float = JITTER) -> Hand:
    """Return the hand of a kind of control; `jitter` is the noise of free motion."""
    return Keyboard() if check_control(control) == "keyboard" else FreeHand(jitter)


def make_play(control: str, hover: bool = False) -> Behaviour:
    """Return random play of a kind of control."""
    return KeyPlay(hover) if check_control(control) == "keyboard" else FreePlay(hover)
