"""Demo steps on the model in the box: held-out numbers and pictures, and the cache against re-running."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.demo.steps import Context, Result
from genie_robot.report.pictures import save_png, sheet, strip

GRID_PROMPTS, GRID_STEPS, STRIPS, RECONSTRUCTIONS = 4, 5, 4, 8
DIVIDER_PIXELS = 6
CACHE_EPISODES = 4


def judge_model(
    context: Context,
    *,
    model_folder: Path,
    probe_folder: Path,
    dataset: Path,
    clips: int,
    prompts: int,
    draws: int,
) -> Result:
    """Numbers by the evaluation package, and the pictures of the report, on episodes that training never saw."""
    from genie_robot import load
    from genie_robot.data.open import open_dataset
    from genie_robot.evaluation.heldout import collect_clips, collect_prompts
    from genie_robot.evaluation.latent_actions import mean_code_cosine, measure_codes
    from genie_robot.evaluation.model_eval import ModelEvalConfig, evaluate_model
    from genie_robot.evaluation.probe import load_probe

    model = load(model_folder)
    config = ModelEvalConfig(draws=draws)
    episodes = list(open_dataset(dataset).episodes("test", actions=True, state=True))
    held_out = collect_clips(episodes, clips=clips, frames=config.clip_frames)
    whole = collect_clips(episodes, clips=len(episodes), frames=min(e.num_frames for e in episodes))
    evaluation = evaluate_model(model, held_out, config, progress=context.say, label_clips=whole)
    context.say("what does each action do? imagined from many prompts, read by the judge")
    prompt_frames, _ = collect_prompts(episodes, prompts=prompts)
    measured, films = measure_codes(model, load_probe(probe_folder).judge, prompt_frames)
    metrics = {**evaluation.metrics, "code_cosine": _finite(mean_code_cosine(measured))}
    names = [action.name or str(action.code) for action in model.latent_actions]
    codes = _codes_table(model, measured, metrics, names)
    context.say("pictures")
    grid = _grid(model, _varied(prompt_frames, GRID_PROMPTS), names, context.folder)
    return {
        "folder": str(model_folder.name),
        "hash": model.hash,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens_per_frame": model.config.tokens_per_frame,
        "held_out": {"episodes": len(episodes), "clips": len(held_out)},
        "prompt_frames": config.prompt_frames,
        "random_draws": draws,
        "metrics": metrics,
        "psnr_by_frame": {
            "imagined, true actions": _by_frame(metrics["psnr_per_horizon_db"]),
            "copy the last frame": _by_frame(metrics["copy_last_psnr_per_horizon_db"]),
            "tokenizer alone (best possible)": _by_frame(metrics["tokenizer_psnr_per_horizon_db"]),
            "imagined, random actions (measured at t = 4)": [(4, metrics["random_psnr_t4_db"])],
        },
        "codes": codes,
        "strips": _strips(evaluation, names, context.folder),
        "grid": grid,
        "pictures": {"reconstructions": _reconstructions(evaluation, context.folder)},
        "code_films": len(films),
    }


def _by_frame(values: list[float]) -> list[tuple[int, float]]:
    return [(index + 1, value) for index, value in enumerate(values) if value is not None]


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _codes_table(
    model: Any, measured: list[Any], metrics: dict[str, Any], names: list[str]
) -> list[dict[str, Any]]:
    """One row a code: the stored name, what it did here, how often it is used, and the true motion of its label."""
    rows = []
    for measurement, name in zip(measured, names, strict=True):
        label = metrics.get("label_table", {}).get(str(measurement.code), {})
        directions = sorted(label.get("directions", {}).items(), key=lambda item: -item[1])
        rows.append(
            {
                "code": measurement.code,
                "name": name,
                "direction_here": measurement.direction,
                "displacement_m": [
                    round(float(v) / measurement.steps, 4) for v in measurement.mean_displacement_m
                ],
                "gripper": round(float(measurement.gripper_effect), 3),
                "moves": bool(measurement.moves),
                "cosine": _finite(measurement.cosine) if measurement.moves else None,
                "usage": metrics["code_usage"][measurement.code],
                "true_directions": dict(directions),
            }
        )
    assert len(rows) == model.num_actions
    return rows


def _varied(prompts: np.ndarray, count: int) -> np.ndarray:
    """`count` prompts spread over all of them (the first ones have the gripper open, the last ones closed)."""
    return prompts[np.linspace(0, len(prompts) - 1, count).round().astype(int)]


def _grid(model: Any, prompts: np.ndarray, names: list[str], folder: Path) -> Result:
    """Every action given GRID_STEPS times from every prompt: a strip PNG for each pair."""
    from genie_robot import WorldSession

    rows = []
    for code, name in enumerate(names):
        session = WorldSession(model, seed=0)
        frames = [session.reset(prompts, seed=0)]
        frames += [session.step(np.full(len(prompts), code)) for _ in range(GRID_STEPS)]
        films = np.stack(frames, axis=1)
        cells = [
            save_png(folder / f"grid_{code}_{index}.png", strip(film)) for index, film in enumerate(films)
        ]
        rows.append({"code": code, "name": name, "cells": cells})
    return {"rows": rows, "frames": GRID_STEPS + 1}


def _strips(evaluation: Any, names: list[str], folder: Path) -> list[Result]:
    """Truth and imagination of the clips in which most moves, each as films and as one still picture."""
    change = np.abs(np.diff(evaluation.truth.astype(np.int16), axis=1)).mean(axis=(1, 2, 3, 4))
    # Neither the liveliest nor the dullest: evenly over the livelier half, so that nobody can say they were picked.
    order = np.argsort(-change, kind="stable")[: max(STRIPS, len(change) // 2)]
    chosen = order[np.linspace(0, len(order) - 1, min(STRIPS, len(order))).round().astype(int)]
    strips = []
    for place, clip in enumerate(chosen):
        truth, imagined = evaluation.truth[clip], evaluation.imagined[clip]
        picture = _with_divider(sheet([truth, imagined]), evaluation.truth.shape[3])
        strips.append(
            {
                "frames": len(truth),
                "truth": save_png(folder / f"strip_{place}_truth.png", strip(truth)),
                "imagined": save_png(folder / f"strip_{place}_imagined.png", strip(imagined)),
                "sheet": save_png(folder / f"strip_{place}.png", picture),
                "names": [names[code] for code in evaluation.codes[clip]],
            }
        )
    return strips


def _with_divider(picture: np.ndarray, frame_width: int) -> np.ndarray:
    """A dark line between the prompt and the imagined frames of a strip picture."""
    left, right = picture[:, :frame_width], picture[:, frame_width:]
    line = np.full((len(picture), DIVIDER_PIXELS, 3), 255, np.uint8)
    line[:, DIVIDER_PIXELS // 2 : DIVIDER_PIXELS // 2 + 2] = (30, 58, 138)
    return np.ascontiguousarray(np.concatenate([left, line, right], axis=1))


def _reconstructions(evaluation: Any, folder: Path) -> str:
    clips = np.linspace(0, len(evaluation.truth) - 1, RECONSTRUCTIONS).round().astype(int)
    rows = [evaluation.truth[clips, -1], evaluation.reconstructed[clips, -1]]
    return save_png(folder / "reconstructions.png", sheet(rows))


def compare_cache(context: Context, *, model_folder: Path, dataset: Path) -> Result:
    """Generation with the temporal cache against re-running all frames: same tokens, and how much faster."""
    from genie_robot import load
    from genie_robot.data.open import open_dataset
    from genie_robot.sampling import benchmark

    model = load(model_folder)
    episodes = list(open_dataset(dataset).episodes("test"))[:CACHE_EPISODES]
    video = np.stack([episode.frames_TYXC[: model.config.video.num_frames] for episode in episodes])
    return dict(benchmark.compare_cache(model, video))
