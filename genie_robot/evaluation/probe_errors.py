"""How far a state probe is off on frames whose true state is known, in the units that matter for success."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genie_robot.simulation.mujoco.tasks import (
    EE,
    GOAL_XY,
    LIFT_HEIGHT_M,
    OBJECT,
    OBJECT_REST_Z_M,
    OBJECT_XY,
    OPENING,
)


@dataclass(frozen=True)
class ProbeErrors:
    """Held-out errors of one probe: mean distances in cm, gripper as mean absolute opening (0..1).

    `object_p95_cm` is the 95th percentile. `touch_cm` and `aim_cm` are errors of differences, which the success rules
    use: fingertips from object, and object from goal seen from above. `lifted_z_cm` is the mean signed error of the
    height of lifted objects: negative reads them too low, and then no lift is ever judged a success. NaN where no object
    is lifted.
    """

    ee_cm: float
    object_cm: float
    object_p95_cm: float
    goal_cm: float
    touch_cm: float
    aim_cm: float
    gripper: float
    lifted_z_cm: float
    frames: int


def probe_errors(
    probe: Callable[[np.ndarray], np.ndarray], frames: np.ndarray, states: np.ndarray
) -> ProbeErrors:
    """Mean error of `probe` on frames (..., 64, 64, 3) uint8 with true states (..., S) of either suite."""
    width = states.shape[-1]
    error = (probe(frames) - states).reshape(-1, width).astype(np.float64)
    height = np.asarray(states).reshape(-1, width)[:, 6] - OBJECT_REST_Z_M
    lifted = error[height > 0.5 * LIFT_HEIGHT_M, 6]

    def cm(columns_FK: np.ndarray) -> np.ndarray:
        return 100.0 * np.linalg.norm(columns_FK, axis=1)

    return ProbeErrors(
        ee_cm=float(cm(error[:, EE]).mean()),
        object_cm=float(cm(error[:, OBJECT]).mean()),
        object_p95_cm=float(np.percentile(cm(error[:, OBJECT]), 95)),
        goal_cm=float(cm(error[:, GOAL_XY]).mean()),
        touch_cm=float(cm(error[:, EE] - error[:, OBJECT]).mean()),
        aim_cm=float(cm(error[:, OBJECT_XY] - error[:, GOAL_XY]).mean()),
        gripper=float(np.abs(error[:, OPENING]).mean()),
        lifted_z_cm=float(100.0 * lifted.mean()) if len(lifted) else float("nan"),
        frames=len(error),
    )


def shared_error(
    first: Callable[[np.ndarray], np.ndarray],
    second: Callable[[np.ndarray], np.ndarray],
    frames: np.ndarray,
    states: np.ndarray,
) -> float:
    """Pearson correlation of what two probes get wrong about gripper and object on the same frames.

    Mean over the coordinates. Near 1, a policy that sees by one and is judged by the other is told that it is where it
    believes to be; near 0 their mistakes have nothing to do with each other.
    """
    places = [*range(EE.start, EE.stop), *range(OBJECT.start, OBJECT.stop)]
    errors = [(probe(frames) - states).reshape(-1, states.shape[-1])[:, places] for probe in (first, second)]
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(errors[0].T, errors[1].T, strict=True)]))
