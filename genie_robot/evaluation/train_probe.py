"""Train the two state probes: `python -m genie_robot.evaluation.train_probe --data DIR --out weights/tabletop-probe`.

The probes learn from frames with known simulator states, roughened as a world model roughens them (noise, blur, flat
patches, stale patches), and, given `--world-model`, from that model's own tokenizer reconstructions as well.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from genie_robot.errors import DataError, GenieError
from genie_robot.evaluation.probe import (
    ProbeErrors,
    ProbeNet,
    ProbePair,
    StateProbe,
    load_probe,
    probe_errors,
    save_probe,
)
from genie_robot.simulation.mujoco.tasks import OBJECT, OBJECT_REST_Z_M, OPENING, STATE_NAMES

#: metres, and gripper opening: scales below this would blow up a number that hardly varies
_SMALLEST_SCALE = 0.005
#: an object this much above its rest counts as lifted when batches are drawn
_LIFTED_M = 0.025


PROMPT, IMAGINED = 3, 5  # frames of a clip that the probe sees in part imagined


def roughen(images_BCYX: Tensor, generator: torch.Generator) -> Tensor:
    """Spoil float images (0..1) as a small world model does; each image is left clean with probability 0.3."""
    x = images_BCYX
    batch = x.shape[0]

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    gain = 1.0 + 0.1 * (2 * draw(batch, 3, 1, 1) - 1)
    y = x * gain + 0.04 * (2 * draw(batch, 1, 1, 1) - 1)
    soft = functional.avg_pool2d(functional.pad(y, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    y = torch.lerp(y, soft, draw(batch, 1, 1, 1))
    # Tokenizer-like: some 4x4 patches lose part of their detail, or take on a slightly wrong colour.
    flat = functional.interpolate(functional.avg_pool2d(y, 4), scale_factor=4)
    patch = functional.interpolate(
        (draw(batch, 1, 16, 16) < 0.25 * draw(batch, 1, 1, 1)).float(), scale_factor=4
    )
    tint = functional.interpolate(0.06 * (2 * draw(batch, 3, 16, 16) - 1), scale_factor=4)
    y = torch.lerp(y, flat + tint, 0.7 * patch)
    y = y + 0.04 * draw(batch, 1, 1, 1) * torch.randn(x.shape, generator=generator)
    clean = draw(batch, 1, 1, 1) < 0.3
    return torch.where(clean, x, y.clamp(0.0, 1.0))


def train_probe(
    frames: np.ndarray,
    states: np.ndarray,
    *,
    seed: int,
    steps: int,
    batch_size: int = 128,
    learning_rate: float = 2e-3,
    init: StateProbe | None = None,
    progress: bool = True,
) -> StateProbe:
    """Train one probe, from scratch or onwards from `init` (whose output scales it keeps).

    A quarter of each batch shows a lifted object, however rare that is in the data: without it the probe learns that
    objects lie on the table and reads a height of 11 cm as 6 cm, and no lift is ever judged a success.

    frames: uint8 (F, 64, 64, 3) or (V, F, 64, 64, 3), V versions of every frame (true, reconstructed ...) of which one
    is drawn each time; states: float32 (F, 9). The same arguments give the same weights on one machine.
    """
    versions = frames if frames.ndim == 5 else frames[None]
    if len(states) != versions.shape[1] or states.shape[-1] != len(STATE_NAMES):
        raise DataError(
            f"frames {frames.shape} and states {states.shape}; wanted one state of 9 for each frame"
        )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ProbeNet()
    mean = states.mean(axis=0).astype(np.float32)
    scale = np.maximum(states.std(axis=0), _SMALLEST_SCALE).astype(np.float32)
    if init is not None:
        net.load_state_dict(init.net.state_dict())
        mean, scale = init.mean_S, init.scale_S
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    lifted = torch.from_numpy(np.flatnonzero(states[:, OBJECT][:, 2] > OBJECT_REST_Z_M + _LIFTED_M))
    targets = torch.from_numpy(((states - mean) / scale).astype(np.float32))
    weight = _column_weights(scale)
    optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.01)
    warm = max(1, min(100, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    )
    net.train()
    bar = tqdm(range(steps), desc=f"probe seed {seed}", disable=not progress, mininterval=2.0)
    for step in bar:
        index = _balanced_batch(len(states), lifted, batch_size, generator)
        version = torch.randint(len(versions), (batch_size,), generator=generator).numpy()
        images = (
            torch.from_numpy(versions[version, index]).permute(0, 3, 1, 2).float() / 255.0
        )  # channels last
        output = net(roughen(images, generator))
        loss = (weight * functional.smooth_l1_loss(output, targets[index], beta=0.1, reduction="none")).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    # Keep exactly what the folder will hold (fp16), so that every figure we print is the stored probe's.
    net.load_state_dict({name: value.half().float() for name, value in net.state_dict().items()})
    return StateProbe(net.eval(), mean, scale, seed)


def _balanced_batch(count: int, lifted: Tensor, batch_size: int, generator: torch.Generator) -> np.ndarray:
    """Indices of a batch: any frame for three quarters, frames with a lifted object (if any) for the rest."""
    index = torch.randint(count, (batch_size,), generator=generator)
    if len(lifted):
        share = batch_size // 4
        index[:share] = lifted[torch.randint(len(lifted), (share,), generator=generator)]
    return index.numpy()


def _column_weights(scale: np.ndarray) -> Tensor:
    """Loss weights (9,) of the normalised columns: between equal in metres, as distances are judged, and equal in spread.

    Gripper opening: 1. The object's height hardly varies, so it does not count in the mean.
    """
    lengths = [index for index in range(len(scale)) if index not in (OPENING, OBJECT.stop - 1)]
    weight = torch.from_numpy(np.sqrt(scale / scale[lengths].mean()).clip(0.5, 2.0).astype(np.float32))
    weight[OPENING] = 1.0
    return weight


def load_states(data: Path, split: str, limit: int | None = None) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """All frames (F, Y, X, 3) and states (F, 9) of a split of an RLDS dataset, and the length of each episode."""
    from genie_robot.data.open import open_dataset

    frames, states = [], []
    for episode in open_dataset(data).episodes(split=split, state=True):
        if episode.state_TS is None or episode.state_TS.shape[-1] != len(STATE_NAMES):
            raise DataError(
                f"{data} has no 9-number states; wanted a tabletop dataset from `genie-robot data generate`"
            )
        frames.append(episode.frames_TYXC)
        states.append(episode.state_TS)
        if limit is not None and len(frames) >= limit:
            break
    if not frames:
        raise DataError(f"split {split!r} of {data} has no episodes; generate the dataset again")
    return np.concatenate(frames), np.concatenate(states).astype(np.float32), [len(part) for part in frames]


def reconstruct(world_model: str, frames: np.ndarray, clip: int = 8, batch: int = 16) -> np.ndarray:
    """Tokenizer reconstructions of frames (F, Y, X, 3), in clips of `clip` consecutive frames."""
    import genie_robot

    model = genie_robot.load(world_model)
    count = len(frames)
    padded = np.concatenate([frames, frames[-1:].repeat(-count % clip, axis=0)])
    clips = padded.reshape(-1, clip, *frames.shape[1:])
    parts = [
        model.decode(model.encode(clips[k : k + batch]))
        for k in tqdm(range(0, len(clips), batch), "reconstruct")
    ]
    return np.concatenate(parts).reshape(padded.shape)[:count]


def imagine_over(
    world_model: str, frames: np.ndarray, rough: np.ndarray, lengths: list[int], windows: int, seed: int = 0
) -> np.ndarray:
    """`rough` with the ends of random clips imagined: PROMPT true frames, then IMAGINED with the true film's own codes.

    Few steps only, so that the true state is still a fair label of what is imagined.
    """
    import genie_robot

    model = genie_robot.load(world_model)
    clip = PROMPT + IMAGINED
    ends = np.cumsum(lengths)
    starts = np.concatenate(
        [np.arange(end - size, end - clip + 1) for size, end in zip(lengths, ends, strict=True)]
    )
    rng = np.random.default_rng(seed)
    starts = rng.choice(starts, min(windows, len(starts)), replace=False)
    mixed = rough.copy()
    for k in tqdm(range(0, len(starts), 64), "imagine"):
        batch = starts[k : k + 64]
        video = np.stack([frames[start : start + clip] for start in batch])
        codes, _ = model.infer_actions(video)
        session = genie_robot.WorldSession(model, seed=seed + k)
        session.reset(video[:, :PROMPT])
        for t in range(PROMPT, clip):
            mixed[batch + t] = session.step(codes[:, t - 1])
    return mixed


def card_text(errors: dict[str, ProbeErrors], arguments: Mapping[str, object], seconds: float) -> str:
    """The model card: what it is, how it was made, held-out errors."""
    rows = "\n".join(
        f"| {name} | {e.ee_cm:.2f} | {e.object_cm:.2f} | {e.goal_cm:.2f} | {e.gripper:.3f} | {e.lifted_z_cm:+.2f} | {e.frames} |"
        for name, e in errors.items()
    )
    recipe = "\n".join(f"- {key}: {value}" for key, value in arguments.items())
    return (
        "# State probe of the tabletop scenes\n\n"
        "Two conv nets (about 0.24 M parameters each, stored fp16) that read gripper, object and goal positions from\n"
        "one 64x64 image. `judge` decides success in imagination and in MuJoCo pictures; `eyes` let the test policies\n"
        "see. They differ in seed only.\n\n"
        "## Mean errors on held-out episodes\n\n"
        "| probe | gripper position cm | object cm | goal cm | opening 0..1 | height of lifted objects, signed cm | frames |\n"
        "|---|---|---|---|---|---|---|\n"
        f"{rows}\n\n## Recipe\n\n{recipe}\n- seconds: {seconds:.0f}\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genie_robot.evaluation.train_probe", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="RLDS dataset with states")
    parser.add_argument(
        "--out", type=Path, default=Path("weights/tabletop-probe"), help="probe folder to write"
    )
    parser.add_argument(
        "--steps", type=int, default=2500, help="optimiser steps of each probe (0.2 s each on one core)"
    )
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0, help="the judge's seed; the eyes take seed + 1000")
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument(
        "--init", type=Path, help="probe folder to go on from instead of starting from scratch"
    )
    parser.add_argument("--episodes", type=int, help="training episodes (default: all)")
    parser.add_argument("--world-model", help="model folder: train on its tokenizer reconstructions as well")
    parser.add_argument(
        "--imagined",
        type=int,
        default=3000,
        help="clips of which that model imagines the end (default: 3000)",
    )
    parser.add_argument("--train-split", default="train")
    parser.add_argument("--test-split", default="test", help="held-out split for the errors in the card")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train both probes, print held-out errors, write the folder."""
    args = _parser().parse_args(argv)
    started = time.monotonic()
    frames, states, lengths = load_states(args.data, args.train_split, args.episodes)
    test_frames, test_states, _ = load_states(args.data, args.test_split)
    versions = frames[None]
    if args.world_model:
        rough = reconstruct(args.world_model, frames)
        imagined = imagine_over(args.world_model, frames, rough, lengths, args.imagined, args.seed)
        versions = np.stack([frames, rough, imagined])
    start = load_probe(args.init) if args.init else None
    probes = [
        train_probe(
            versions,
            states,
            seed=seed,
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            init=getattr(start, role) if start else None,
        )
        for role, seed in (("judge", args.seed), ("eyes", args.seed + 1000))
    ]
    pair = ProbePair(judge=probes[0], eyes=probes[1])
    errors = {name: probe_errors(getattr(pair, name), test_frames, test_states) for name in ("judge", "eyes")}
    if args.world_model:
        rough = reconstruct(args.world_model, test_frames)
        errors |= {
            f"{n}, reconstructed": probe_errors(getattr(pair, n), rough, test_states)
            for n in ("judge", "eyes")
        }
    recipe = {key: str(value) for key, value in vars(args).items()} | {"training frames": len(frames)}
    digest = save_probe(args.out, pair, card_text(errors, recipe, time.monotonic() - started))
    for name, error in errors.items():
        print(name, {k: round(v, 4) for k, v in asdict(error).items()})
    print(f"wrote {args.out} (weights {digest[:12]})")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GenieError as failure:
        print(f"train_probe: {failure}", file=sys.stderr)
        sys.exit(failure.exit_code)
