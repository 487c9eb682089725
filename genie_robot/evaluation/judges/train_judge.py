"""Train the second judge: `python -m genie_robot.evaluation.judges.train_judge --data DIR... --out weights/manipulation-judge`.

It learns from other episodes than the probe (`--skip`), spoiled as a world model spoils them, and, given `--world-model`,
from that model's reconstructions and imagined frames.

Shape legend: F frames of all episodes one after the other, E episodes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm import tqdm

from genie_robot.errors import run_script
from genie_robot.evaluation.judges.calibration import calibration_table, films_by_task, judge_films
from genie_robot.evaluation.judges.classifier import (
    ClassifierJudge,
    FrameClassifier,
    load_classifier,
    save_classifier,
)
from genie_robot.evaluation.judges.floors import Floors
from genie_robot.evaluation.probe import round_weights
from genie_robot.evaluation.probe_data import (
    LabelledFrames,
    imagine_over,
    load_frames,
    recipe_of,
    reconstruct,
)
from genie_robot.evaluation.roughen import roughen


def frame_labels(data: LabelledFrames) -> tuple[np.ndarray, np.ndarray]:
    """Whether each frame fulfils its film's task, bool (F,), and its progress, float32 (F,).

    Progress is 1 where the task is fulfilled, else the share of the way from the film's start to the goal.
    """
    fulfilled, progress = np.zeros(len(data.states_FS), bool), np.zeros(len(data.states_FS), np.float32)
    for task, index_BT in films_by_task(data):
        for index_T in index_BT:
            states = data.states_FS[index_T]
            fulfilled[index_T] = [data.suite.task_success(task, state) for state in states]
            distance = np.array([data.suite.goal_distance_m(task, state) for state in states])
            progress[index_T] = np.clip(1.0 - distance / max(distance[0], 1e-3), 0.0, 1.0)
    return fulfilled, np.where(fulfilled, 1.0, progress).astype(np.float32)


def train_classifier(
    versions: Sequence[np.ndarray],
    data: LabelledFrames,
    *,
    seed: int,
    steps: int,
    batch_size: int = 96,
    learning_rate: float = 2e-3,
    init: ClassifierJudge | None = None,
    progress: bool = True,
) -> ClassifierJudge:
    """Train the classifier, from scratch or onwards from `init`. A third of each batch shows fulfilled tasks.

    versions: of the data's frames (true, reconstructed ...), each uint8 (F, 64, 64, 3); every time one is drawn. The same
    arguments give the same weights on one machine.
    """
    fulfilled_F, progress_F = frame_labels(data)
    first_F = np.repeat(data.starts_E, data.lengths_E)
    task_F = np.repeat([data.suite.tasks.index(task) for task in data.tasks_E], data.lengths_E)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = FrameClassifier(len(data.suite.tasks))
    if init is not None:
        net.load_state_dict(init.net.state_dict())
    net = net.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, learning_rate, steps, pct_start=0.1)
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    good = np.flatnonzero(fulfilled_F)
    for _ in tqdm(range(steps), desc=f"judge seed {seed}", disable=not progress, mininterval=2.0):
        index = rng.integers(len(fulfilled_F), size=batch_size)
        if len(good):
            index[: batch_size // 3] = rng.choice(good, batch_size // 3)
        both = [_images(versions, chosen, rng) for chosen in (index, first_F[index])]
        frames, firsts = roughen(torch.cat(both), generator).chunk(2)
        with torch.autocast("cpu", torch.bfloat16):
            logit, done = net(frames, firsts, torch.from_numpy(task_F[index]))
        loss = functional.binary_cross_entropy_with_logits(
            logit.float(), torch.from_numpy(fulfilled_F[index]).float()
        )
        loss = loss + 2.0 * functional.mse_loss(done.float(), torch.from_numpy(progress_F[index]))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    round_weights(net)
    return ClassifierJudge(net, data.suite.name, seed)


def _images(versions: Sequence[np.ndarray], index: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    version = rng.integers(len(versions), size=len(index))
    images = np.stack([versions[v][i] for v, i in zip(version, index, strict=True)])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m genie_robot.evaluation.judges.train_judge", description=__doc__
    )
    parser.add_argument(
        "--data", type=Path, required=True, nargs="+", help="RLDS datasets with states, one a task"
    )
    parser.add_argument("--out", type=Path, required=True, help="judge folder to write")
    parser.add_argument(
        "--skip", type=int, default=300, help="episodes of each that the probe has (default: 300)"
    )
    parser.add_argument("--episodes", type=int, help="episodes of each dataset after those (default: all)")
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--init", type=Path, help="judge folder to go on from instead of starting from scratch"
    )
    parser.add_argument(
        "--world-model",
        type=Path,
        help="model folder: train on its reconstructions and imagined frames as well",
    )
    parser.add_argument(
        "--imagined", type=int, default=3000, help="clips of which it imagines the end (default: 3000)"
    )
    parser.add_argument("--test-split", default="test", help="held-out split for the figures in the card")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train the judge, print held-out figures, write the folder."""
    args = _parser().parse_args(argv)
    started = time.monotonic()
    data = load_frames(args.data, "train", args.episodes, args.skip)
    test = load_frames(args.data, args.test_split)
    versions, tests = [data.frames_FYXC], {"True frames": test.frames_FYXC}
    if args.world_model:
        versions.append(reconstruct(args.world_model, data))
        versions.append(imagine_over(args.world_model, data, versions[1], args.imagined, args.seed))
        tests["Reconstructed frames"] = reconstruct(args.world_model, test)
    judge = train_classifier(
        versions,
        data,
        seed=args.seed,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        init=load_classifier(args.init, data.suite.name) if args.init else None,
    )
    tables = "\n\n".join(
        f"### {name}\n\n{calibration_table(judge_films(judge, test, frames))}"
        for name, frames in tests.items()
    )
    recipe = "\n".join(f"- {key}: {value}" for key, value in recipe_of(vars(args)).items())
    card = (
        f"# Second judge of the {data.suite.name} tasks\n\n"
        "A conv net that says of each frame, beside the film's first one, whether the task is fulfilled and how far it is\n"
        "done. Independent of the state probe: another net, seed and episodes.\n\n"
        f"## On held-out episodes\n\n{tables}\n\n## Recipe\n\n{recipe}\n- seconds: {time.monotonic() - started:.0f}\n"
    )
    digest = save_classifier(args.out, judge, card)
    Floors.fit(data).save(args.out)
    print(tables)
    print(f"wrote {args.out} (weights {digest[:12]})")
    return 0


if __name__ == "__main__":
    run_script("train_judge", main)
