"""How long an imagination stays true: curves over the horizon h = 1, 2, ... against two baselines.

"Copy last" repeats the last true prompt frame: whoever is worse than that knows nothing. "Tokenizer" shows the true
frames through the tokenizer: nobody can be better than that. Pictures are compared by PSNR and SSIM; what is in them, by the state that
a probe reads from them against the simulator's true state (evaluation.md, section 2, "Action following" and "Drift").
Shapes: B clips, H imagined frames, S entries of the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.errors import DataError
from genie_robot.evaluation.frechet import LEAST_CLIPS, fd_state
from genie_robot.evaluation.heldout import HeldOut
from genie_robot.evaluation.imagination import ModelEvalConfig, films, reconstruct
from genie_robot.evaluation.latent_probes import crossfit, halves, predict, ridge, state_pairs
from genie_robot.evaluation.probe import ProbePair
from genie_robot.evaluation.video import psnr_per_frame, ssim_per_frame
from genie_robot.simulation.mujoco.tasks import EE, OBJECT

HORIZONS = (1, 4, 8, 16, 32, 64)
LOST_M = 0.02
"""H_eps: the first h at which the median gripper error is larger than this."""
FALLEN_M = -0.05
"""An object whose centre is lower has fallen off the table, out of every picture: where it is cannot be compared."""
KNOWN_SHARE = 0.99
"""Share of true frames in which the object counts as there: sets how unsure the probe may be of its place."""
FD_WINDOW = 8

Reader = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Drift:
    """`metrics` is ready for JSON; `curves` name -> kind -> value of each h (None: not measured); films (B, 1+H, ...)."""

    metrics: dict[str, Any]
    curves: dict[str, dict[str, list[float | None]]]
    film_BTYXC: np.ndarray


def measure_drift(
    model: Any,
    clips: HeldOut,
    inputs_BH: np.ndarray,
    config: ModelEvalConfig,
    probes: ProbePair | None = None,
) -> Drift:
    """Imagine clips of prompt_frames + H true frames under `inputs_BH` (codes (B, H) or rows (B, H, W)).

    With `probes` and true states: errors of gripper and object, object permanence, H_eps and, from 40 clips on,
    Frechet distances of states in windows of 8 frames.
    """
    video, start = clips.video_BTYXC, config.prompt_frames
    future, last = video[:, start:], video[:, start - 1 : start]
    film = films(model, video[:, :start], inputs_BH, config)
    shown = {
        "imagined": film[:, 1:],
        "tokenizer": reconstruct(model, video, config.batch_size)[:, start:],
        "copy_last": np.broadcast_to(last, future.shape),
    }
    curves = {
        "psnr_db": {kind: _mean_curve(psnr_per_frame(future, frames)) for kind, frames in shown.items()},
        "ssim": {kind: _mean_curve(ssim_per_frame(future, frames)) for kind, frames in shown.items()},
    }
    metrics: dict[str, Any] = {"clips": len(video), "horizon": future.shape[1]}
    if probes is not None and clips.states_BTS is not None:
        states_BHS = clips.states_BTS[:, start:]
        read = {kind: probes.judge(np.ascontiguousarray(frames)) for kind, frames in shown.items()}
        read["true_frames"] = probes.judge(future)
        curves |= _state_curves(states_BHS, read)
        curves["object_permanence"] = object_permanence(probes, future, shown)
        metrics |= lost_after(states_BHS, read["imagined"])
        if len(video) >= LEAST_CLIPS:
            metrics["fd_state_windows"] = _windowed_fd(read["true_frames"], read["imagined"], config.seed)
    metrics["at"] = at_horizons(curves, future.shape[1])
    return Drift(metrics, curves, film)


def _mean_curve(values_BH: np.ndarray) -> list[float | None]:
    return [round(float(v), 4) for v in values_BH.mean(axis=0)]


def errors_m(states_BHS: np.ndarray, read_BHS: np.ndarray) -> dict[str, np.ndarray]:
    """Distances (B, H) in metres of the gripper and of the object from where they truly are."""
    # The columns of every suite's state begin alike, so that a probe of another suite is compared where it can be.
    places = (("ee", EE), ("object", OBJECT))
    return {
        name: np.linalg.norm(read_BHS[..., at].astype(np.float64) - states_BHS[..., at], axis=-1)
        for name, at in places
    }


def on_table(states_BHS: np.ndarray) -> np.ndarray:
    """Whether the object is where pictures can show it, bool (B, H)."""
    return states_BHS[..., OBJECT][..., 2] > FALLEN_M


def _state_curves(
    states_BHS: np.ndarray, read: dict[str, np.ndarray]
) -> dict[str, dict[str, list[float | None]]]:
    """Root mean square and median distances in cm, for each kind of frames that was read; None where nothing counts."""
    seen_BH = on_table(states_BHS)
    counted = {"ee": np.ones_like(seen_BH), "object": seen_BH}
    curves: dict[str, dict[str, list[float | None]]] = {
        "object_on_table": {"true_frames": _mean_curve(seen_BH.astype(float))}
    }
    for kind, states in read.items():
        for name, error_BH in errors_m(states_BHS, states).items():
            known = [100 * e[at] for e, at in zip(error_BH.T, counted[name].T, strict=True)]
            curves.setdefault(f"{name}_rmse_cm", {})[kind] = [
                _rounded(_rms(cm)) if len(cm) else None for cm in known
            ]
            curves.setdefault(f"{name}_median_cm", {})[kind] = [
                _rounded(np.median(cm)) if len(cm) else None for cm in known
            ]
    return curves


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def _rounded(value: Any) -> float:
    return round(float(value), 3)


def lost_after(states_BHS: np.ndarray, read_BHS: np.ndarray) -> dict[str, Any]:
    """H_eps: the first h with a median gripper error above 2 cm; None when that never comes within the horizon."""
    median_H = np.median(errors_m(states_BHS, read_BHS)["ee"], axis=0)
    lost = np.flatnonzero(median_H > LOST_M)
    return {"h_eps": int(lost[0]) + 1 if len(lost) else None, "eps_cm": 100 * LOST_M}


def object_permanence(
    probes: ProbePair, future: np.ndarray, shown: dict[str, np.ndarray]
) -> dict[str, list[float | None]]:
    """Share of frames at each h in which the object is still there, in the imagined and in the tokenizer's frames.

    It is there when the probe is as sure of its place as in 99 % of the true frames (`object_doubt`).
    """
    limit = np.quantile(object_doubt(probes, future), KNOWN_SHARE)
    kinds = ("imagined", "tokenizer")
    return {kind: _mean_curve((object_doubt(probes, shown[kind]) <= limit).astype(float)) for kind in kinds}


def object_doubt(probes: ProbePair, frames: np.ndarray) -> np.ndarray:
    """How unsure the probes are of the object's place in frames (...), in metres: large where there is none to see.

    The error that the judge expects of itself; for nets that do not estimate it, how far the two places are apart
    that judge and eyes read, which were trained independently. The second sees a missing object far less well.
    """
    frames = np.ascontiguousarray(frames)
    places, expected = probes.judge.read(frames)
    if np.isfinite(expected).all():
        return np.linalg.norm(expected[..., OBJECT], axis=-1)
    return np.linalg.norm(places[..., OBJECT] - probes.eyes(frames)[..., OBJECT], axis=-1)


def _windowed_fd(truth_BHS: np.ndarray, imagined_BHS: np.ndarray, seed: int) -> dict[str, Any]:
    """`fd_state` in [h, h + 8) for h = 1, 9, 17, ...: key "h"."""
    starts = range(0, truth_BHS.shape[1] - FD_WINDOW + 1, FD_WINDOW)
    return {
        str(k + 1): fd_state(truth_BHS[:, k : k + FD_WINDOW], imagined_BHS[:, k : k + FD_WINDOW], seed)
        for k in starts
    }


def at_horizons(curves: dict[str, dict[str, list[float | None]]], horizon: int) -> dict[str, Any]:
    """The curves at h = 1, 4, 8, ... 64; None beyond the horizon of the clips."""
    return {
        name: {
            kind: {str(h): values[h - 1] if h <= horizon else None for h in HORIZONS}
            for kind, values in kinds.items()
        }
        for name, kinds in curves.items()
    }


def inverse_dynamics_excess(
    probe: Reader, clips: HeldOut, film_BTYXC: np.ndarray, config: ModelEvalConfig, seed: int = 0
) -> dict[str, Any]:
    """E|a - IDM(imagined step)| - E|a - IDM(true step)|: what of the robot's action is not to be seen in imagination.

    IDM: ridge regression from the probed states of two true frames, fitted on one half of the episodes and used on the
    other, so its own error is in both terms. film: imagined under the clips' robot actions, prompt first.
    Raises DataError without actions and for fewer than 4 clips.
    """
    if clips.actions_BSA is None:
        raise DataError("the clips have no actions; wanted them for inverse dynamics; give data with actions")
    start = config.prompt_frames - 1
    actions = clips.actions_BSA[:, start:]
    true_pairs = state_pairs(probe(clips.video_BTYXC[:, start:]))
    seen = state_pairs(probe(film_BTYXC))
    on_truth = crossfit(true_pairs, actions, seed)
    on_film = np.empty(actions.shape)
    for fit, score in halves(len(actions), seed):
        width = true_pairs.shape[-1]
        weights = ridge(true_pairs[fit].reshape(-1, width), actions[fit].reshape(-1, actions.shape[-1]))
        on_film[score] = predict(weights, seen[score])
    true_error, film_error = (np.abs(actions - guess).mean(axis=(0, 2)) for guess in (on_truth, on_film))
    return {
        "true_error": float(true_error.mean()),
        "imagined_error": float(film_error.mean()),
        "excess": float((film_error - true_error).mean()),
        "excess_per_horizon": [round(float(v), 4) for v in film_error - true_error],
    }
