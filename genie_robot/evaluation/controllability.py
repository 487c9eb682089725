"""How much an imagined frame depends on the action: Delta PSNR (Genie, section 3) and Delta ST-LPIPS, at t = 4.

Delta_t PSNR = PSNR(x_t, true actions) - PSNR(x_t, other actions), from the same prompts and with the same sampling seed
in both arms, so that sampling noise does not leak in. Latent actions: those inferred from the true clip against codes
drawn from the marginal of the used ones. Robot actions: the clip's own against those of another episode.
Shapes: B clips, H steps, D draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.evaluation.imagination import T4, ModelEvalConfig, Progress, imagine
from genie_robot.evaluation.st_lpips import ShiftTolerantLpips, st_lpips_per_frame
from genie_robot.evaluation.video import psnr_per_frame


@dataclass(frozen=True)
class Delta:
    """What other actions cost at t = 4: values (D, B) of each draw and clip, and of the true actions (B,)."""

    true_psnr_B: np.ndarray
    other_psnr_DB: np.ndarray
    true_lpips_B: np.ndarray | None
    other_lpips_DB: np.ndarray | None

    @property
    def psnr_DB(self) -> np.ndarray:
        """Delta PSNR (D, B) in dB: positive when the true actions lead closer to the truth."""
        return self.true_psnr_B - self.other_psnr_DB

    def metrics(self, seed: int) -> dict[str, Any]:
        """Means over clips and draws, with a 95 % interval over clips; ready for JSON."""
        low, high = clip_bootstrap(self.psnr_DB.mean(axis=0), seed)
        result: dict[str, Any] = {
            "psnr_t4_db": float(self.true_psnr_B.mean()),
            "other_psnr_t4_db": float(self.other_psnr_DB.mean()),
            "delta_psnr_t4_db": float(self.psnr_DB.mean()),
            "delta_psnr_t4_interval_db": [round(low, 3), round(high, 3)],
            "delta_psnr_t4_draws_db": [round(float(v), 3) for v in self.psnr_DB.mean(axis=1)],
        }
        if self.true_lpips_B is not None and self.other_lpips_DB is not None:
            # Lower is better, so the sign is turned: positive is good, as with PSNR.
            delta_DB = self.other_lpips_DB - self.true_lpips_B
            low, high = clip_bootstrap(delta_DB.mean(axis=0), seed)
            result |= {
                "st_lpips_alex_t4": float(self.true_lpips_B.mean()),
                "other_st_lpips_alex_t4": float(self.other_lpips_DB.mean()),
                "delta_st_lpips_alex_t4": float(delta_DB.mean()),
                "delta_st_lpips_alex_t4_interval": [round(low, 4), round(high, 4)],
            }
        return result


def measure_delta(
    model: Any,
    prompts: np.ndarray,
    truth_t4: np.ndarray,
    frames_t4: np.ndarray,
    other_inputs: list[np.ndarray],
    config: ModelEvalConfig,
    *,
    network: ShiftTolerantLpips | None = None,
    say: Progress = lambda _: None,
) -> Delta:
    """Imagine frame t = 4 under each of `other_inputs` (4 steps or more), to compare with that of the true actions.

    prompts: uint8 (B, T, Y, X, 3); truth_t4, and frames_t4 imagined by `config` under the true actions: uint8
    (B, Y, X, 3). Without `network` there is no ST-LPIPS.
    """
    others = []
    for draw, inputs in enumerate(other_inputs):
        say(f"other actions, draw {draw + 1} of {len(other_inputs)}")
        others.append(imagine(model, prompts, inputs[:, :T4], config)[:, T4 - 1])
    if network is None:
        true_lpips, other_lpips = None, None
    else:
        true_lpips = st_lpips_per_frame(network, truth_t4, frames_t4)
        other_lpips = np.stack([st_lpips_per_frame(network, truth_t4, other) for other in others])
    return Delta(
        psnr_per_frame(truth_t4, frames_t4),
        np.stack([psnr_per_frame(truth_t4, other) for other in others]),
        true_lpips,
        other_lpips,
    )


def random_codes(codes: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Codes of `shape` drawn from the marginal of `codes`."""
    return rng.choice(codes.reshape(-1), size=shape)


def of_another_episode(count: int, rng: np.random.Generator) -> np.ndarray:
    """A random permutation (count,) that leaves none of 2 or more in its place: each clip gets another's actions."""
    order = rng.permutation(count)
    result = np.empty(count, dtype=np.int64)
    result[order] = np.roll(order, 1)
    return result


def clip_bootstrap(per_clip: np.ndarray, seed: int, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of a mean over clips."""
    rng = np.random.default_rng(seed)
    means = per_clip[rng.integers(len(per_clip), size=(draws, len(per_clip)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
