"""What does each latent action do? Measured, never typed.

Two measurements, both on episodes the model never saw:
* `measure_codes`: imagine each code from many prompts and let the judge probe say where the gripper went;
* `label_table`: let the latent action model label true transitions and compare with the true motion.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.evaluation.agreement import normalised_mutual_information
from genie_robot.simulation.mujoco.behaviours import KEYS
from genie_robot.simulation.mujoco.tasks import EE, OPENING

Probe = Callable[[np.ndarray], np.ndarray]

DIRECTIONS: tuple[str, ...] = (*KEYS, "still")
"""Directions of the robot frame (REP-103): x forward, y left, z up; then the gripper; then no motion."""

TOGGLE = "close/open"
"""A code that stands for "the fingers move": which way depends on how they are."""

MOVES_M = 0.008
"""A step is motion when the gripper travels more than this in it: a fifth of a full-size key (4 cm)."""
FINGERS_MOVE = 0.15
"""A true step works the fingers when it changes their opening (0..1) by more than this."""
CODE_FINGERS_MOVE = 0.3
"""A code works the fingers when it changes their opening by more than this in its first step."""
KEY_PRESSED = 0.25
"""A robot action presses a key when its largest entry is more than this."""


def dominant_direction(
    displacement_m: np.ndarray, gripper: np.ndarray, *, moves_m: float, gripper_moves: float
) -> np.ndarray:
    """Index into DIRECTIONS of displacements (..., 3) in metres and changes of opening (...): the dominant effect.

    Displacement and fingers are compared as multiples of their thresholds; below both thresholds it is "still".
    """
    displacement_m, gripper = np.asarray(displacement_m, float), np.asarray(gripper, float)
    distance = np.linalg.norm(displacement_m, axis=-1)
    axis = np.abs(displacement_m).argmax(axis=-1)
    along = np.take_along_axis(displacement_m, axis[..., None], axis=-1)[..., 0]
    move = 2 * axis + (along < 0)
    fingers = np.where(gripper < 0, DIRECTIONS.index("close"), DIRECTIONS.index("open"))
    move_score, finger_score = distance / moves_m, np.abs(gripper) / gripper_moves
    still = (move_score <= 1.0) & (finger_score <= 1.0)
    return np.where(still, DIRECTIONS.index("still"), np.where(move_score >= finger_score, move, fingers))


def direction_of_motion(states: np.ndarray) -> np.ndarray:
    """True direction (..., T-1) of each transition of true states (..., T, 9), from the state difference."""
    change = np.diff(np.asarray(states, dtype=np.float64), axis=-2)
    return dominant_direction(change[..., :3], change[..., 3], moves_m=MOVES_M, gripper_moves=FINGERS_MOVE)


def direction_of_action(actions: np.ndarray) -> np.ndarray:
    """Direction (...) that robot actions (..., 7) command: the largest entry, "still" below KEY_PRESSED."""
    actions = np.asarray(actions, dtype=np.float64)
    opening = -actions[..., 6]
    return dominant_direction(actions[..., :3], opening, moves_m=KEY_PRESSED, gripper_moves=KEY_PRESSED)


@dataclass(frozen=True)
class CodeMeasurement:
    """What one code did from each of P prompts.

    Displacement (P, 3) in metres after all `steps`; change of the opening (P,) after the first step, in which the
    fingers close or open fully (a code that toggles them would undo it in the second); opening of the prompt (P,).
    """

    code: int
    displacement_m_P3: np.ndarray
    gripper_P: np.ndarray
    start_opening_P: np.ndarray
    steps: int

    @property
    def mean_displacement_m(self) -> np.ndarray:
        """Mean over prompts of the gripper's displacement, (3,), metres."""
        return self.displacement_m_P3.mean(axis=0)

    @property
    def typical_distance_m(self) -> float:
        """Median over prompts of the distance that the gripper moved; direction plays no part in it."""
        return float(np.median(np.linalg.norm(self.displacement_m_P3, axis=1)))

    @property
    def moves(self) -> bool:
        """Whether this code moves the gripper: typical distance above MOVES_M a step, consistent or not."""
        return self.typical_distance_m > MOVES_M * self.steps

    @property
    def cosine(self) -> float:
        """Mean pairwise cosine of the displacements from different prompts, -1..1; 1 is the same way every time."""
        unit = (
            self.displacement_m_P3 / np.maximum(np.linalg.norm(self.displacement_m_P3, axis=1), 1e-9)[:, None]
        )
        count = len(unit)
        return float(((unit.sum(axis=0) ** 2).sum() - (unit**2).sum()) / (count * (count - 1)))

    @property
    def closing(self) -> float:
        """Mean change of the opening from the prompts with an open gripper; 0 without such prompts."""
        could = self.start_opening_P > 0.5
        return float(self.gripper_P[could].mean()) if could.any() else 0.0

    @property
    def opening(self) -> float:
        """Mean change of the opening from the prompts with a closed gripper; 0 without such prompts."""
        could = self.start_opening_P <= 0.5
        return float(self.gripper_P[could].mean()) if could.any() else 0.0

    @property
    def gripper_effect(self) -> float:
        """The larger of closing (negative) and opening (positive), each from the prompts in which it is possible."""
        closing, opening = min(self.closing, 0.0), max(self.opening, 0.0)
        return closing if -closing >= opening else opening

    @property
    def direction(self) -> str:
        """Name of the dominant effect: one of DIRECTIONS, TOGGLE, or "mixed" if it moves another way each time.

        TOGGLE closes an open gripper and opens a closed one; both at least by CODE_FINGERS_MOVE.
        """
        index = dominant_direction(
            self.mean_displacement_m / self.steps,
            np.asarray(self.gripper_effect),
            moves_m=MOVES_M,
            gripper_moves=CODE_FINGERS_MOVE,
        )
        name = DIRECTIONS[int(index)]
        if (
            name in ("close", "open")
            and self.closing < -CODE_FINGERS_MOVE
            and self.opening > CODE_FINGERS_MOVE
        ):
            return TOGGLE
        return "mixed" if name == "still" and self.moves else name


def measure_codes(
    model: Any,
    probe: Probe,
    prompts: np.ndarray,
    *,
    steps: int = 2,
    seed: int = 0,
    maskgit_steps: int = 8,
    temperature: float = TEMPERATURE,
    session: Callable[..., Any] | None = None,
) -> tuple[list[CodeMeasurement], np.ndarray]:
    """Imagine every code from the same prompts with the same sampling seed; the judge reads where the gripper went.

    prompts: uint8 (P, T, 64, 64, 3). The displacement is between the prompt's last frame as the model itself
    reconstructs it and the last imagined frame, so the tokenizer's blur enters both sides.
    Returns the measurements and all frames, uint8 (codes, P, 1 + steps, Y, X, 3), the reconstructed prompt first.
    """
    if session is None:
        from genie_robot.simulation.world_session import WorldSession as session
    prompts = np.asarray(prompts)
    if prompts.ndim != 5 or len(prompts) < 2:
        raise ValueError(
            f"prompts have shape {prompts.shape}; wanted (P, T, Y, X, 3) with at least 2 prompts"
        )
    measurements, frames = [], []
    for code in range(int(model.num_actions)):
        world = session(model, maskgit_steps=maskgit_steps, temperature=temperature, seed=seed)
        film = [world.reset(prompts, seed=seed)]
        film += [world.step(np.full(len(prompts), code)) for _ in range(steps)]
        before, one_step, after = (probe(np.asarray(film[k])).astype(np.float64) for k in (0, 1, -1))
        fingers = one_step[:, OPENING] - before[:, OPENING]
        measurements.append(
            CodeMeasurement(code, (after - before)[:, EE], fingers, before[:, OPENING], steps)
        )
        frames.append(np.stack(film, axis=1))
    return measurements, np.stack(frames)


def name_codes(measurements: Sequence[CodeMeasurement]) -> list[str]:
    """A name for each code from its dominant effect; names are unique.

    Of several codes with one direction the strongest keeps the plain name; the others become "left (slow)" if they
    reach less than 70 % of it, else "left (2)", "left (3)" ...
    """
    names = [""] * len(measurements)
    groups: dict[str, list[int]] = {}
    for index, m in enumerate(measurements):
        groups.setdefault(m.direction, []).append(index)

    def strength(index: int) -> float:
        m = measurements[index]
        return abs(m.gripper_effect) if m.direction in ("close", "open", TOGGLE) else m.typical_distance_m

    for direction, members in groups.items():
        members = sorted(members, key=lambda i: (-strength(i), i))
        strongest = strength(members[0])
        slow = 0
        for place, index in enumerate(members):
            if place == 0:
                names[index] = direction
            elif direction != "still" and strength(index) < 0.7 * strongest:
                slow += 1
                names[index] = f"{direction} (slow)" if slow == 1 else f"{direction} (slow {slow})"
            else:
                names[index] = f"{direction} ({place + 1})"
    return names


def mean_code_cosine(measurements: Sequence[CodeMeasurement]) -> float:
    """Mean over the codes that move the gripper of their pairwise cosine; NaN when no code moves it."""
    values = [m.cosine for m in measurements if m.moves]
    return float(np.mean(values)) if values else float("nan")


def latent_action_records(
    measurements: Sequence[CodeMeasurement], labels: dict[int, dict[str, Any]] | None = None, **evidence: Any
) -> list[dict[str, Any]]:
    """The content of `latent_actions.json`: code, name, displacement_m and gripper of one step, evidence."""
    records = []
    for name, m in zip(name_codes(measurements), measurements, strict=True):
        proof = {
            "prompts": len(m.displacement_m_P3),
            "steps": m.steps,
            "spread_m": [round(float(v), 4) for v in m.displacement_m_P3.std(axis=0) / m.steps],
            "mean_pairwise_cosine": round(m.cosine, 3),
            "typical_distance_m": round(m.typical_distance_m, 4),
            "direction": m.direction,
            "opening_change_from_open": round(m.closing, 3),
            "opening_change_from_closed": round(m.opening, 3),
            **evidence,
        }
        if labels and m.code in labels:
            proof["true_motion_of_this_label"] = labels[m.code]
        records.append(
            {
                "code": m.code,
                "name": name,
                "displacement_m": [round(float(v) / m.steps, 4) for v in m.mean_displacement_m],
                "gripper": round(m.gripper_effect, 4),
                "evidence": proof,
            }
        )
    return records


@dataclass(frozen=True)
class LabelAgreement:
    """How the model's labels of true transitions agree with the true motion."""

    nmi_direction: float
    nmi_shuffled: float
    nmi_action: float | None
    codes_used: int
    usage: list[float]
    perplexity: float
    transitions: int
    table: dict[int, dict[str, Any]]


def label_agreement(
    codes: np.ndarray,
    states: np.ndarray,
    actions: np.ndarray | None,
    num_codes: int,
    *,
    seed: int = 0,
    shuffles: int = 20,
) -> LabelAgreement:
    """Compare codes (B, T-1) with the true motion in states (B, T, 9), and with robot actions (B, T-1, 7) if given.

    `nmi_direction` uses the true motion (state difference, 9 classes), `nmi_action` the commanded key: they differ
    where a command has no effect, such as closing a closed gripper. A code is used when it has at least 1 % of labels.
    """
    codes = np.asarray(codes)
    motion = direction_of_motion(states)
    if codes.shape != motion.shape:
        raise ValueError(
            f"codes {codes.shape} and transitions {motion.shape}; wanted one code for each transition"
        )
    flat, truth = codes.reshape(-1), motion.reshape(-1)
    rng = np.random.default_rng(seed)
    shuffled = [normalised_mutual_information(rng.permutation(flat), truth) for _ in range(shuffles)]
    usage = np.bincount(flat, minlength=num_codes) / max(1, len(flat))
    used = usage[usage > 0]
    nmi_action = None
    if actions is not None:
        nmi_action = normalised_mutual_information(flat, direction_of_action(actions).reshape(-1))
    return LabelAgreement(
        nmi_direction=normalised_mutual_information(flat, truth),
        nmi_shuffled=float(np.mean(shuffled)),
        nmi_action=nmi_action,
        codes_used=int((usage >= 0.01).sum()),
        usage=[round(float(u), 4) for u in usage],
        perplexity=float(np.exp(-(used * np.log(used)).sum())),
        transitions=len(flat),
        table=label_table(flat, states, num_codes),
    )


def label_table(codes_flat: np.ndarray, states: np.ndarray, num_codes: int) -> dict[int, dict[str, Any]]:
    """For each code: transitions with this label, their mean true displacement (m per step) and share of directions."""
    change = np.diff(np.asarray(states, dtype=np.float64), axis=-2).reshape(-1, states.shape[-1])
    directions = direction_of_motion(states).reshape(-1)
    table: dict[int, dict[str, Any]] = {}
    for code in range(num_codes):
        mine = codes_flat == code
        if not mine.any():
            table[code] = {"transitions": 0}
            continue
        shares = np.bincount(directions[mine], minlength=len(DIRECTIONS)) / mine.sum()
        table[code] = {
            "transitions": int(mine.sum()),
            "displacement_m": [round(float(v), 4) for v in change[mine, :3].mean(axis=0)],
            "gripper": round(float(change[mine, 3].mean()), 3),
            "directions": {DIRECTIONS[k]: round(float(s), 3) for k, s in enumerate(shares) if s >= 0.02},
        }
    return table
