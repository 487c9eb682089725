"""The short-range numbers of `evaluate model`: how well a world model shows and follows, on episodes it never saw.

Protocol. A clip is `prompt_frames` true frames and `horizon` more. The latent action model infers a code for each
step of the true clip; the session is prompted with the true prompt frames and driven with these codes. "t = 4" is the
4th imagined frame after the prompt. "Copy last" repeats the last true prompt frame. Moving pixels are those of the
true frame that differ from the last prompt frame by more than 12/255 in any channel. Delta PSNR is PSNR with the
inferred codes minus PSNR with codes drawn at random from the marginal of the used codes, with the same sampling seed
in both arms (Genie, section 3; evaluation.md, section 2). The other numbers are in `model_protocol`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation.controllability import measure_delta, random_codes
from genie_robot.evaluation.heldout import HeldOut
from genie_robot.evaluation.imagination import T4, ModelEvalConfig, Progress, films, imagine, reconstruct
from genie_robot.evaluation.latent_actions import label_agreement
from genie_robot.evaluation.pictures import grid
from genie_robot.evaluation.st_lpips import ShiftTolerantLpips, st_lpips_per_frame
from genie_robot.evaluation.video import moving_psnr_per_frame, psnr_per_frame, ssim, ssim_per_frame
from genie_robot.simulation.action_interface import infer_codes

__all__ = ["ModelEvalConfig", "ModelEvaluation", "evaluate_model", "imagine", "random_codes", "reconstruct"]

MOST_LISTED_CODES = 64
"""A model with more codes (several codebooks) has no table of each one."""


@dataclass(frozen=True)
class ModelEvaluation:
    """`metrics` is ready for JSON; the videos (clips, 1 + horizon, Y, X, 3) start with the last prompt frame.

    `film` is `imagined` with that prompt frame as the tokenizer shows it.
    """

    metrics: dict[str, Any]
    truth: np.ndarray
    imagined: np.ndarray
    reconstructed: np.ndarray
    codes: np.ndarray
    film: np.ndarray


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
    network: ShiftTolerantLpips | None = None,
) -> ModelEvaluation:
    """Evaluate on clips of `config.clip_frames` frames; keys as in design.md section 4 (`model.*`), and more.

    label_clips: clips of any length for code usage and its agreement with the true motion (default: `clips`). Mutual
    information of few transitions is biased upwards, shuffled or not (0.03 at 512, 0.15 at 96): give whole episodes.
    network: of ST-LPIPS, whose numbers are left out without it. `code_cosine` is not here: it needs the judge probe.
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
    film = films(model, prompts, codes, config)
    imagined = film[:, 1:]
    delta = _steering(model, prompts, codes, future, imagined, config, network, say)
    metrics: dict[str, Any] = {
        "tokenizer_psnr_db": float(psnr_per_frame(video, rebuilt).mean()),
        "tokenizer_ssim": ssim(video, rebuilt),
        **_frame_metrics(future, imagined, rebuilt[:, config.prompt_frames :], last),
        **{name.replace("other_", "random_"): value for name, value in delta.items()},
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
        film=film,
    )


def _steering(
    model: Any,
    prompts: np.ndarray,
    codes: np.ndarray,
    future: np.ndarray,
    imagined: np.ndarray,
    config: ModelEvalConfig,
    network: ShiftTolerantLpips | None,
    say: Progress,
) -> dict[str, Any]:
    """What the inferred codes are worth against random ones at frame T4, and with a network ST-LPIPS over the horizon."""
    rng = np.random.default_rng(config.seed)
    draws = [random_codes(codes, codes[:, :T4].shape, rng) for _ in range(config.draws)]
    delta = measure_delta(
        model, prompts, future[:, T4 - 1], imagined[:, T4 - 1], draws, config, network=network, say=say
    ).metrics(config.seed)
    if network is not None:
        lpips_BH = st_lpips_per_frame(network, future, imagined)
        delta["st_lpips_alex_per_horizon"] = _rounded(lpips_BH.mean(axis=0))
    return delta


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
        "ssim_per_horizon": _rounded(ssim_per_frame(future, imagined).mean(axis=0)),
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


def _labels(model: Any, clips: HeldOut, config: ModelEvalConfig) -> dict[str, Any]:
    """Code usage, and agreement with the true motion where the states are known."""
    num_codes, size = int(model.num_actions), config.batch_size
    parts = [infer_codes(model, clips.video_BTYXC[k : k + size]) for k in range(0, len(clips), size)]
    codes = np.concatenate(parts)
    usage = np.bincount(codes.reshape(-1), minlength=num_codes) / codes.size
    result: dict[str, Any] = {"codes_used": int((usage >= 0.01).sum())}
    if num_codes <= MOST_LISTED_CODES:
        result["code_usage"] = _rounded(usage)
    if clips.states_BTS is None:
        return result
    agreement = label_agreement(codes, clips.states_BTS, clips.actions_BSA, num_codes, seed=config.seed)
    result |= {
        "code_perplexity": agreement.perplexity,
        "nmi_direction": agreement.nmi_direction,
        "nmi_shuffled": agreement.nmi_shuffled,
        "nmi_action": agreement.nmi_action,
        "label_transitions": agreement.transitions,
    }
    if num_codes <= MOST_LISTED_CODES:
        result["label_table"] = {str(code): row for code, row in agreement.table.items()}
    return result
