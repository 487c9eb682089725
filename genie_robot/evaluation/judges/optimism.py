"""The optimism test: films that failed in MuJoCo, imagined again from their first frame with their own actions.

A world model that likes to see success shows it although the actions led to none; published ones do so for 80 % of
failures (evaluation.md section 1.2, CureWM). Open loop, on labelled films: no policy is needed, so that it can be run
while a model is trained. `evaluate policies` has the same figure for its own policies (world `replay`).

Shape legend: B films, T frames, Y X pixels, C channels, A numbers of an action.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import genie_robot
from genie_robot.evaluation.judges.calibration import films_by_task
from genie_robot.evaluation.judges.protocol import Judge
from genie_robot.evaluation.judges.state_judge import is_success
from genie_robot.evaluation.probe_data import SAMPLING, LabelledFrames
from genie_robot.models.world_model import WorldModel


@dataclass(frozen=True)
class Optimism:
    """Films of one task, replayed. failures, successes: by the true states; judged_*: of those, judged a success."""

    failures: int
    judged_failures: int
    successes: int
    judged_successes: int
    invalid: int

    @property
    def rate(self) -> float:
        """Share of true failures that are judged a success in imagination; NaN without failures."""
        return self.judged_failures / self.failures if self.failures else float("nan")


def replay(
    model: WorldModel,
    frames_BTYXC: np.ndarray,
    robot_BTR: np.ndarray,
    *,
    seed: int = 0,
    maskgit_steps: int = SAMPLING["maskgit_steps"],
) -> np.ndarray:
    """Films imagined from the first frames of true ones with their actions, open loop; uint8 (B, T, Y, X, 3).

    robot_BTR: as by `LabelledFrames.robot_actions` for the model. It is led by them where it takes robot actions, else by the
    latent actions that it infers from the true films, which tells it more: then the figure is a lower bound.
    """
    if model.config.dynamics.robot_action_dim:
        steps = model.action_rows(robot_BR=robot_BTR)
    else:
        steps, _ = model.infer_actions(frames_BTYXC)
    session = genie_robot.WorldSession(
        model, seed=seed, maskgit_steps=maskgit_steps, temperature=SAMPLING["temperature"]
    )
    films = [session.reset(frames_BTYXC[:, :1])]
    films += [session.step(steps[:, t]) for t in range(frames_BTYXC.shape[1] - 1)]
    return np.stack(films, axis=1)


def optimism(
    model: WorldModel,
    judge: Judge,
    data: LabelledFrames,
    *,
    seed: int = 0,
    batch: int = 16,
    maskgit_steps: int = SAMPLING["maskgit_steps"],
) -> dict[str, Optimism]:
    """Replay labelled films and judge them, by task. Failures are verified: they fail by MuJoCo's own states."""
    result, robot_FR = {}, data.robot_actions(model.config.dynamics.robot_action_dim)
    for task, index_BT in films_by_task(data):
        true_B = is_success(data.suite, task, data.states_FS[index_BT])
        judged, invalid = [], []
        for k in range(0, len(index_BT), batch):
            part = index_BT[k : k + batch]
            films = replay(
                model,
                data.frames_FYXC[part],
                robot_FR[part],
                seed=seed + k,
                maskgit_steps=maskgit_steps,
            )
            verdicts = judge.judge(films, task)
            judged.append(verdicts.success_B)
            invalid.append(verdicts.invalid_B)
        judged_B = np.concatenate(judged)
        result[task] = Optimism(
            failures=int((~true_B).sum()),
            judged_failures=int((judged_B & ~true_B).sum()),
            successes=int(true_B.sum()),
            judged_successes=int((judged_B & true_B).sum()),
            invalid=int(np.concatenate(invalid).sum()),
        )
    return result
