"""The numbers of `evaluate model`: how well a world model shows and follows, on episodes it never saw.

Protocol. A clip is `prompt_frames` true frames and `horizon` more. The latent action model infers a code for each
step of the true clip; the session is prompted with the true prompt frames and driven with these codes. "t = 4" is the
4th imagined frame after the prompt. "Copy last" repeats the last true prompt frame. Moving pixels are those of the
true frame that differ from the last prompt frame by more than 12/255 in any channel. Delta PSNR is PSNR with the
inferred codes minus PSNR with codes drawn at random from the marginal of the used codes, with the same sampling seed
in both arms (Genie, section 3; evaluation.md, section 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from genie_robot.config import TEMPERATURE
from genie_robot.errors import ConfigError
from genie_robot.evaluation.heldout import HeldOut
from genie_robot.evaluation.latent_actions import label_agreement
from genie_robot.evaluation.pictures import grid
from genie_robot.evaluation.video import moving_psnr_per_frame, psnr_per_frame, ssim
from genie_robot.simulation.action_interface import infer_codes
from genie_robot.simulation.world_session import WorldSession

Progress = Callable[[str], None]
T4 = 4


@dataclass(frozen=True)
class ModelEvalConfig:
    """How a model is evaluated; `seed` fixes clips' sampling noise and the random codes."""

    prompt_frames: int = 1
    horizon: int = 8
    draws: int = 5
    seed: int = 0
    maskgit_steps: int = 8
    temperature: float = TEMPERATURE
    batch_size: int = 32

    def __post_init__(self) -> None:
        if self.prompt_frames < 1 or self.horizon < T4 or self.draws < 1 or self.batch_size < 1:
            raise ConfigError(
                f"prompt_frames {self.prompt_frames}, horizon {self.horizon}, draws {self.draws}, batch_size "
                f"{self.batch_size}; wanted prompt_frames, draws and batch_size >= 1 and horizon >= {T4}"
            )

    @property
    def clip_frames(self) -> int:
        """True frames that a clip needs."""
        return self.prompt_frames + self.horizon


@dataclass(frozen=True)
class ModelEvaluation:
    """`metrics` is ready for JSON; the videos (clips, 1 + horizon, Y, X, 3) start with the last prompt frame."""

    metrics: dict[str, Any]
    truth: np.ndarray
    imagined: np.ndarray
    reconstructed: np.ndarray
    codes: np.ndarray
    extras: dict[str, Any] = field(default_factory=dict)


def imagine(model: Any, prompts: np.ndarray, codes_BH: np.ndarray, config: ModelEvalConfig) -> np.ndarray:
    """Imagined frames (B, H, Y, X, 3) from prompts (B, T, Y, X, 3) under codes (B, H), in batches of fixed seeds."""
    films = []
    for start in range(0, len(prompts), config.batch_size):
        part = slice(start, start + config.batch_size)
        world = WorldSession(model, maskgit_steps=config.maskgit_steps, temperature=config.temperature)
        # The session gives world i the seed + i, so a clip's noise does not depend on the batch size.
        world.reset(prompts[part], seed=config.seed + start)
        films.append(np.stack([world.step(codes) for codes in codes_BH[part].T], axis=1))
    return np.concatenate(films)


def reconstruct(model: Any, video_BTYXC: np.ndarray, batch_size: int = 32) -> np.ndarray:
    """Tokenizer round trip of a video (B, T, Y, X, 3), in clips no longer than the model's window."""
    window = int(model.config.video.num_frames)
    parts = []
    for start in range(0, len(video_BTYXC), batch_size):
        video = video_BTYXC[start : start + batch_size]
        pieces = [
            model.decode(model.encode(video[:, k : k + window])) for k in range(0, video.shape[1], window)
        ]
        parts.append(np.concatenate(pieces, axis=1))
    return np.concatenate(parts)


def random_codes(codes: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Codes of `shape` drawn from the marginal of `codes`."""
    return rng.choice(codes.reshape(-1), size=shape)


def _rounded(values: np.ndarray) -> list[float | None]:
    return [round(float(v), 3) if np.isfinite(v) else None for v in values]


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _column_means(values: np.ndarray) -> np.ndarray:
    return np.asarray([_mean(column) for column in values.T])


def evaluate_model(
    model: Any,
    clips: HeldOut,
    config: ModelEvalConfig | None = None,
    progress: Progress | None = None,
    *,
    label_clips: HeldOut | None = None,
) -> ModelEvaluation:
    """Evaluate on clips of `config.clip_frames` frames; keys as in design.md section 4 (`model.*`), and more.

    label_clips: clips of any length for code usage and its agreement with the true motion (default: `clips`). Mutual
    information of few transitions is biased upwards, shuffled or not (0.03 at 512, 0.15 at 96): give whole episodes.
    `code_cosine` is not here: it comes from `latent_actions.measure_codes`, which needs the judge probe.
    """
    config = config or ModelEvalConfig()
    say = progress or (lambda _: None)
    video = clips.video_BTYXC
    if video.shape[1] != config.clip_frames:
        raise ConfigError(
            f"clips have {video.shape[1]} frames; wanted prompt_frames + horizon = {config.clip_frames}"
        )
    prompts, future = video[:, : config.prompt_frames], video[:, config.prompt_frames :]
    last = video[:, config.prompt_frames - 1 : config.prompt_frames]
    say("tokenizer")
    rebuilt = reconstruct(model, video, config.batch_size)
    say("latent actions")
    all_codes = infer_codes(model, video)
    codes = all_codes[:, config.prompt_frames - 1 :]
    say(f"imagining {len(video)} clips x {config.horizon} frames")
    imagined = imagine(model, prompts, codes, config)
    psnr_BH = psnr_per_frame(future, imagined)
    delta_D, random_D = _delta_psnr(model, prompts, future, codes, psnr_BH, config, say)
    metrics: dict[str, Any] = {
        "tokenizer_psnr_db": float(psnr_per_frame(video, rebuilt).mean()),
        "tokenizer_ssim": ssim(video, rebuilt),
        **_frame_metrics(future, imagined, rebuilt[:, config.prompt_frames :], last),
        "random_psnr_t4_db": float(random_D.mean()),
        "delta_psnr_t4_db": float(delta_D.mean()),
        "delta_psnr_t4_interval_db": _rounded(np.asarray(_clip_bootstrap(delta_D.mean(axis=0), config.seed))),
        "delta_psnr_t4_draws_db": _rounded(delta_D.mean(axis=1)),
        "clips": len(video),
        "prompt_frames": config.prompt_frames,
        "draws": config.draws,
        "maskgit_steps": config.maskgit_steps,
        "temperature": config.temperature,
        "seed": config.seed,
        "model_hash": str(model.hash),
        **_labels(model, label_clips or clips, config),
    }
    first = slice(config.prompt_frames - 1, None)
    return ModelEvaluation(
        metrics,
        truth=video[:, first],
        imagined=np.concatenate([last, imagined], axis=1),
        reconstructed=rebuilt[:, first],
        codes=codes,
    )


def _frame_metrics(
    future: np.ndarray, imagined: np.ndarray, rebuilt: np.ndarray, last: np.ndarray
) -> dict[str, Any]:
    """PSNR and SSIM of imagined against true frames (B, H, Y, X, 3), beside copying the last prompt frame."""
    t = T4 - 1
    copied = np.broadcast_to(last, future.shape)
    psnr_BH, copy_BH = psnr_per_frame(future, imagined), psnr_per_frame(future, copied)
    moving_BH = moving_psnr_per_frame(future, imagined, last)
    moving_copy_BH = moving_psnr_per_frame(future, copied, last)
    return {
        "psnr_t4_db": float(psnr_BH[:, t].mean()),
        "copy_last_psnr_t4_db": float(copy_BH[:, t].mean()),
        "moving_psnr_t4_db": _mean(moving_BH[:, t]),
        "moving_copy_last_psnr_t4_db": _mean(moving_copy_BH[:, t]),
        "ssim_t4": ssim(future[:, t], imagined[:, t]),
        "copy_last_ssim_t4": ssim(future[:, t], copied[:, t]),
        "psnr_per_horizon_db": _rounded(psnr_BH.mean(axis=0)),
        "copy_last_psnr_per_horizon_db": _rounded(copy_BH.mean(axis=0)),
        "moving_psnr_per_horizon_db": _rounded(_column_means(moving_BH)),
        "moving_copy_last_psnr_per_horizon_db": _rounded(_column_means(moving_copy_BH)),
        "tokenizer_psnr_per_horizon_db": _rounded(psnr_per_frame(future, rebuilt).mean(axis=0)),
    }


def strip_picture(evaluation: ModelEvaluation, *, clips: int = 4, scale: int = 2) -> np.ndarray:
    """Picture: for a few clips the true frames, the tokenizer's view of them, and the imagined ones below."""
    frames = evaluation.truth.shape[1]
    # The clips with the most motion say most; take them spread over the upper half.
    motion = np.abs(evaluation.truth[:, -1].astype(int) - evaluation.truth[:, 0]).mean(axis=(1, 2, 3))
    order = np.argsort(-motion)[: max(1, len(motion) // 2)]
    chosen = order[np.linspace(0, len(order) - 1, min(clips, len(order))).round().astype(int)]
    cells, labels = [], []
    for clip in chosen:
        cells += [
            list(video[clip]) for video in (evaluation.truth, evaluation.reconstructed, evaluation.imagined)
        ]
        labels += [["true"], ["tokenizer"], ["imagined"]]
    head = ["prompt", *(f"t = {k}" for k in range(1, frames))]
    return grid(cells, labels, head, scale=scale, label_width=84)


def _delta_psnr(
    model: Any,
    prompts: np.ndarray,
    future: np.ndarray,
    codes: np.ndarray,
    psnr_BH: np.ndarray,
    config: ModelEvalConfig,
    say: Progress,
) -> tuple[np.ndarray, np.ndarray]:
    """PSNR(inferred) - PSNR(random) at t = 4 for each draw and clip, and PSNR(random): both (draws, B)."""
    rng = np.random.default_rng(config.seed)
    values = []
    for draw in range(config.draws):
        say(f"random codes, draw {draw + 1} of {config.draws}")
        other = imagine(model, prompts, random_codes(codes, codes[:, :T4].shape, rng), config)
        values.append(psnr_per_frame(future[:, T4 - 1], other[:, T4 - 1]))
    random_DB = np.stack(values)
    return psnr_BH[None, :, T4 - 1] - random_DB, random_DB


def _clip_bootstrap(per_clip: np.ndarray, seed: int, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of a mean over clips."""
    rng = np.random.default_rng(seed)
    means = per_clip[rng.integers(len(per_clip), size=(draws, len(per_clip)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def _labels(model: Any, clips: HeldOut, config: ModelEvalConfig) -> dict[str, Any]:
    """Code usage, and agreement with the true motion where the states are known."""
    num_codes, size = int(model.num_actions), config.batch_size
    parts = [infer_codes(model, clips.video_BTYXC[k : k + size]) for k in range(0, len(clips), size)]
    codes = np.concatenate(parts)
    usage = np.bincount(codes.reshape(-1), minlength=num_codes) / codes.size
    result: dict[str, Any] = {
        "codes_used": int((usage >= 0.01).sum()),
        "code_usage": _rounded(usage),
    }
    if clips.states_BTS is None:
        return result
    agreement = label_agreement(codes, clips.states_BTS, clips.actions_BSA, num_codes, seed=config.seed)
    result |= {
        "code_perplexity": agreement.perplexity,
        "nmi_direction": agreement.nmi_direction,
        "nmi_shuffled": agreement.nmi_shuffled,
        "nmi_action": agreement.nmi_action,
        "label_transitions": agreement.transitions,
        "label_table": {str(code): row for code, row in agreement.table.items()},
    }
    return result
