"""Train the two state probes: `python -m genie_robot.evaluation.train_probe --data DIR... --out weights/manipulation-probe`.

The probes learn from frames with known simulator states, roughened as a world model roughens them (noise, blur, flat
patches, stale patches), and, given `--world-model`, from that model's own tokenizer reconstructions as well.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from genie_robot.errors import DataError, run_script
from genie_robot.evaluation.judges.validity import Limits, film_measures, freeze_limits, place_errors
from genie_robot.evaluation.probe import (
    ProbePair,
    StateProbe,
    count_parameters,
    load_probe,
    round_weights,
    save_probe,
    untrained_probe,
)
from genie_robot.evaluation.probe_data import (
    LabelledFrames,
    imagine_over,
    load_frames,
    recipe_of,
    reconstruct,
)
from genie_robot.evaluation.probe_errors import ProbeErrors, probe_errors, shared_error
from genie_robot.evaluation.probe_loss import ProbeLoss
from genie_robot.evaluation.roughen import roughen
from genie_robot.simulation.mujoco.tasks import OBJECT, OBJECT_REST_Z_M

#: metres, and gripper opening: scales below this would blow up a number that hardly varies
_SMALLEST_SCALE = 0.005
#: an object this much above its rest counts as lifted when batches are drawn
_LIFTED_M = 0.025


def train_probe(
    versions: Sequence[np.ndarray],
    states: np.ndarray,
    state_names: Sequence[str],
    *,
    seed: int,
    steps: int,
    batch_size: int = 96,
    learning_rate: float = 3e-3,
    init: StateProbe | None = None,
    progress: bool = True,
) -> StateProbe:
    """Train one probe, from scratch or onwards from `init` (whose net and output scales it keeps).

    A quarter of each batch shows a lifted object, however rare that is in the data: without it the probe learns that
    objects lie on the table and reads a height of 11 cm as 6 cm, and no lift is ever judged a success.

    versions: of the same frames (true, reconstructed ...), each uint8 (F, 64, 64, 3); every time one is drawn. states:
    float32 (F, S), named by `state_names`. The same arguments give the same weights on one machine.
    """
    if any(len(frames) != len(states) for frames in versions) or states.shape[-1] != len(state_names):
        raise DataError(
            f"frames {[frames.shape for frames in versions]} and states {states.shape}; wanted one state of "
            f"{len(state_names)} for each frame"
        )
    probe = _probe_to_train(states, state_names, init, seed)
    generator = torch.Generator().manual_seed(seed)
    net = probe.net.to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    lifted = torch.from_numpy(np.flatnonzero(states[:, OBJECT][:, 2] > OBJECT_REST_Z_M + _LIFTED_M))
    targets = torch.from_numpy(((states - probe.mean_S) / probe.scale_S).astype(np.float32))
    loss_of = ProbeLoss(state_names, probe.scale_S)
    optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.01)
    warm = max(1, min(100, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    )
    bar = tqdm(range(steps), desc=f"probe seed {seed}", disable=not progress, mininterval=2.0)
    for step in bar:
        index = _balanced_batch(len(states), lifted, batch_size, generator)
        version = torch.randint(len(versions), (batch_size,), generator=generator).tolist()
        images = np.stack([versions[v][i] for v, i in zip(version, index, strict=True)])
        images_BCYX = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0  # channels last
        with torch.autocast("cpu", torch.bfloat16):
            state_BS, doubt_BS = net(roughen(images_BCYX, generator))
        loss = loss_of(state_BS.float(), doubt_BS.float(), targets[index])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.4f}")
    round_weights(net)
    net.eval()
    return probe


def _probe_to_train(
    states: np.ndarray, state_names: Sequence[str], init: StateProbe | None, seed: int
) -> StateProbe:
    scale = np.maximum(states.std(axis=0), _SMALLEST_SCALE)
    probe = untrained_probe(state_names, states.mean(axis=0), scale, seed)
    if init is None:
        return probe
    if not isinstance(init.net, type(probe.net)) or init.state_names != probe.state_names:
        raise DataError(
            f"the probe to go on from is a {type(init.net).__name__} for {len(init.state_names)} numbers; wanted a "
            f"{type(probe.net).__name__} for {len(state_names)}; train from scratch, without it"
        )
    probe.net.load_state_dict(init.net.state_dict())
    probe.mean_S, probe.scale_S = init.mean_S, init.scale_S
    return probe


def _balanced_batch(count: int, lifted: Tensor, batch_size: int, generator: torch.Generator) -> np.ndarray:
    """Indices of a batch: any frame for three quarters, frames with a lifted object (if any) for the rest."""
    index = torch.randint(count, (batch_size,), generator=generator)
    if len(lifted):
        share = batch_size // 4
        index[:share] = lifted[torch.randint(len(lifted), (share,), generator=generator)]
    return index.numpy()


def validity_limits(probe: StateProbe, films: LabelledFrames, versions: Sequence[np.ndarray]) -> Limits:
    """What a film may show at most, from validation films as they are and as the world model shows them."""
    measures = []
    for frames in versions:
        for start, length in zip(films.starts_E, films.lengths_E, strict=True):
            states, errors = probe.read(frames[None, start : start + length])
            measures.append(film_measures(states, place_errors(errors, probe.state_names)))
    return freeze_limits(np.concatenate(measures))


def card_text(
    suite: str,
    parameters: int,
    errors: Mapping[str, ProbeErrors],
    shared: Mapping[str, float],
    arguments: Mapping[str, object],
    seconds: float,
) -> str:
    """The model card: what it is, how it was made, held-out errors; `shared` as by `shared_error`, for each kind of frames."""
    rows = "\n".join(
        f"| {name} | {e.ee_cm:.2f} | {e.object_cm:.2f} | {e.object_p95_cm:.2f} | {e.goal_cm:.2f} | {e.touch_cm:.2f} "
        f"| {e.aim_cm:.2f} | {e.gripper:.3f} | {e.lifted_z_cm:+.2f} | {e.frames} |"
        for name, e in errors.items()
    )
    recipe = "\n".join(f"- {key}: {value}" for key, value in arguments.items())
    alike = ", ".join(f"{value:.2f} on {kind}" for kind, value in shared.items())
    return (
        f"# State probe of the {suite} scenes\n\n"
        f"Two conv nets ({parameters:,} parameters each, stored fp16) that read the state vector from one 64x64 image.\n"
        "`judge` decides success in imagination and in MuJoCo pictures; `eyes` let the test policies see. They differ in\n"
        "seed only.\n\n"
        "## Mean errors on held-out episodes\n\n"
        "| probe | gripper position cm | object cm | object, 95 % below, cm | goal cm | gripper to object cm "
        "| object to goal cm | opening 0..1 | height of lifted objects, signed cm | frames |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
        f"{rows}\n\nCorrelation of what `judge` and `eyes` get wrong about gripper and object: {alike}.\n\n"
        f"## Recipe\n\n{recipe}\n- seconds: {seconds:.0f}\n"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genie_robot.evaluation.train_probe", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, nargs="+", help="RLDS datasets with states")
    parser.add_argument("--out", type=Path, required=True, help="probe folder to write")
    parser.add_argument("--steps", type=int, default=6000, help="optimiser steps of each probe")
    parser.add_argument("--batch-size", type=int, default=96)
    parser.add_argument("--seed", type=int, default=0, help="the judge's seed; the eyes take seed + 1000")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument(
        "--init", type=Path, help="probe folder to go on from instead of starting from scratch"
    )
    parser.add_argument("--episodes", type=int, help="training episodes of each dataset (default: all)")
    parser.add_argument(
        "--world-model", type=Path, help="model folder: train on its tokenizer reconstructions as well"
    )
    parser.add_argument(
        "--imagined",
        type=int,
        default=3000,
        help="clips of which that model imagines the end (default: 3000)",
    )
    parser.add_argument("--train-split", default="train")
    parser.add_argument(
        "--validation-split", default="val", help="where the limits of valid films are frozen"
    )
    parser.add_argument("--test-split", default="test", help="held-out split for the errors in the card")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train both probes, print held-out errors, write the folder."""
    args = _parser().parse_args(argv)
    started = time.monotonic()
    data = load_frames(args.data, args.train_split, args.episodes)
    test = load_frames(args.data, args.test_split)
    probes = _train_pair(args, data)
    tests = {"": test.frames_FYXC}
    if args.world_model:
        tests[", reconstructed"] = reconstruct(args.world_model, test)
    errors = {
        role + how: probe_errors(probe, frames, test.states_FS)
        for how, frames in tests.items()
        for role, probe in probes.items()
    }
    shared = {
        f"true frames{how}": shared_error(probes["judge"], probes["eyes"], frames, test.states_FS)
        for how, frames in tests.items()
    }
    recipe = recipe_of(vars(args)) | {"training frames": len(data.states_FS)}
    size = count_parameters([probes["judge"].net])
    card = card_text(data.suite.name, size, errors, shared, recipe, time.monotonic() - started)
    digest = save_probe(args.out, ProbePair(judge=probes["judge"], eyes=probes["eyes"]), card)
    for name, error in errors.items():
        print(name, {k: round(v, 4) for k, v in asdict(error).items()})
    print(f"wrote {args.out} (weights {digest[:12]})")
    return 0


def _train_pair(args: argparse.Namespace, data: LabelledFrames) -> dict[str, StateProbe]:
    """Both probes, with their limits of valid films."""
    versions = [data.frames_FYXC]
    validation = load_frames(args.data, args.validation_split)
    shown = [validation.frames_FYXC]
    if args.world_model:
        versions.append(reconstruct(args.world_model, data))
        versions.append(imagine_over(args.world_model, data, versions[1], args.imagined, args.seed))
        shown.append(reconstruct(args.world_model, validation))
    start = load_probe(args.init) if args.init else None
    probes = {
        role: train_probe(
            versions,
            data.states_FS,
            data.suite.state_names,
            seed=seed,
            steps=args.steps,
            batch_size=args.batch_size,
            learning_rate=args.learning_rate,
            init=getattr(start, role) if start else None,
        )
        for role, seed in (("judge", args.seed), ("eyes", args.seed + 1000))
    }
    for probe in probes.values():
        probe.limits = asdict(validity_limits(probe, validation, shown))
    return probes


if __name__ == "__main__":
    run_script("train_probe", main)
