"""`genie-robot label`: which latent action leads from each frame of a video or dataset to the next."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EPILOG = """examples:
  genie-robot label robot.mp4
  genie-robot label outputs/tabletop --split test --episodes 3 --json labels.json
  genie-robot label ../shared/data/rt1_rlds --episodes 1 --model weights/tabletop-tiny

A video is thinned to the model's rate and cut to its size. Columns: episode, step, code, name, probability.
"""


def add_parser(subparsers: Any) -> None:
    """Add `label`."""
    parser = subparsers.add_parser(
        "label",
        help="latent action of each step of a video or dataset",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", help="video file, or dataset folder")
    parser.add_argument(
        "--model", default="weights/tabletop-tiny", help="model folder (default: %(default)s)"
    )
    parser.add_argument("--split", default="test", help="split of a dataset (default: %(default)s)")
    parser.add_argument(
        "--episodes", type=int, default=1, metavar="N", help="episodes of a dataset (default: 1)"
    )
    parser.add_argument("--json", metavar="FILE", help="write the labels as JSON (- for the screen)")


def run(args: argparse.Namespace) -> int:
    """Label and print; returns the exit code."""
    import numpy as np

    from genie_robot.cli._evaluation import check_counts, load_episodes, open_model, write_json
    from genie_robot.data.resize import resize_frame
    from genie_robot.errors import DataError
    from genie_robot.evaluation.pictures import read_video

    check_counts(args, "episodes")
    model = open_model(args.model)
    size = model.image_height, model.image_width
    if Path(args.source).is_file():
        videos = [(args.source, read_video(args.source, model.dt_s))]
    else:
        episodes = load_episodes(args.source, args.split, limit=args.episodes, image_hw=size)
        videos = [(episode.source, episode.frames_TYXC) for episode in episodes]
    names = {action.code: action.name for action in model.latent_actions}
    labels = []
    for source, frames in videos:
        if len(frames) < 2:
            raise DataError(
                f"{source} has {len(frames)} frame; wanted 2 or more, since an action lies between two"
            )
        video = np.stack([resize_frame(np.ascontiguousarray(frame), *size) for frame in frames])
        codes, chances = _infer(model, video)
        steps = [
            {
                "step": t,
                "code": int(code),
                "name": names[int(code)],
                "probability": round(float(chance[code]), 4),
            }
            for t, (code, chance) in enumerate(zip(codes, chances, strict=True))
        ]
        labels.append({"source": source, "steps": steps})
    if args.json != "-":
        for entry in labels:
            print(f"# {entry['source']}")
            for step in entry["steps"]:
                print(
                    f"{step['step']:4d}  {step['code']}  {step['name'] or '-':14s} {step['probability']:.2f}"
                )
    write_json(args.json, {"model": model.hash, "dt_s": model.dt_s, "videos": labels})
    return 0


def _infer(model: Any, video: Any) -> tuple[Any, Any]:
    """Codes (T-1,) and probabilities (T-1, A) of a video (T, Y, X, 3), in clips of the model's window."""
    import numpy as np

    window = model.config.video.num_frames
    parts = [model.infer_actions(video[None, k : k + window]) for k in range(0, len(video) - 1, window - 1)]
    return np.concatenate([p[0][0] for p in parts]), np.concatenate([p[1][0] for p in parts])
