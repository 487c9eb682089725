"""Train the small networks of cloning: the same arguments give the same weights on one machine."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from genie_robot.evaluation.cloning.demonstrations import Demonstrations
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS
from genie_robot.simulation.policies.clone_net import GRIPS, MOVES, CloneNet, to_input

BATCH = 64
SHIFT = 1
"""Pictures are moved by up to so many pixels, all of a batch alike."""
_NORMALISED_BY = 1000
_GRIP_SHARE, _GRIP_WEIGHT = 0.3, 4.0
Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs (B, O), rows (B,) of the demonstrations) -> mean loss."""


def train_net(
    demonstrations: Demonstrations,
    loss: Loss,
    *,
    outputs: int,
    steps: int,
    seed: int,
    pairs: bool = False,
    learning_rate: float = 2e-3,
    label: str = "clone",
    progress: bool = True,
) -> CloneNet:
    """A network (image, task) -> outputs, by AdamW on random batches; with `pairs` it sees the next image too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = CloneNet(len(TASKS), outputs, channels=6 if pairs else 3)
    some = np.linspace(0, len(demonstrations) - 1, min(_NORMALISED_BY, len(demonstrations))).astype(int)
    net.normalise(to_input(_pictures(demonstrations, some, pairs)))
    net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimiser = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=0.02)
    warm = max(1, min(100, steps // 10))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / steps)))
    )
    task_N = torch.from_numpy(demonstrations.task_N)
    net.train()
    bar = tqdm(range(steps), label, disable=None if progress else True, mininterval=5.0)
    for _ in bar:
        rows = torch.randint(len(demonstrations), (BATCH,), generator=generator)
        images = torch.from_numpy(_pictures(demonstrations, rows.numpy(), pairs))
        value = loss(net(_vary(images, generator), task_N[rows]), rows)
        optimiser.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    # Keep exactly what a folder will hold (fp16), so that every figure is the stored policy's.
    net.load_state_dict({name: value.half().float() for name, value in net.state_dict().items()})
    return net.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]


def _pictures(demonstrations: Demonstrations, rows: np.ndarray, pairs: bool) -> np.ndarray:
    """Images uint8 (B, Y, X, 3) of some steps, or (B, Y, X, 6) with the next ones."""
    images = demonstrations.images_NYXC[rows]
    return np.concatenate([images, demonstrations.next_NYXC[rows]], axis=-1) if pairs else images


def _vary(images_BYXC: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 images as a float batch (B, C, Y, X) in 0..1, moved by a few pixels and tinted a little."""
    x = images_BYXC.permute(0, 3, 1, 2).float() / 255.0
    size = x.shape[-1]
    padded = functional.pad(x, (SHIFT,) * 4, mode="replicate")
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
    x = padded[..., down : down + size, right : right + size]
    tint = 1.0 + 0.08 * (2 * torch.rand((len(x), 3, 1, 1), generator=generator) - 1)
    return (x * tint.repeat(1, x.shape[1] // 3, 1, 1)).contiguous(memory_format=torch.channels_last)


def action_loss(actions_N7: np.ndarray) -> Loss:
    """Loss of robot actions (N, 7): Huber of the moves, cross-entropy of the grip, whose rare commands count more."""
    moves_N4 = torch.from_numpy(np.ascontiguousarray(actions_N7[:, MOVES], dtype=np.float32))
    grip_N = torch.from_numpy(grip_class(actions_N7[:, 6]))
    weight = torch.tensor([1.0, _GRIP_WEIGHT, _GRIP_WEIGHT])

    def loss(outputs: Tensor, rows: Tensor) -> Tensor:
        move = functional.smooth_l1_loss(outputs[:, : len(MOVES)], moves_N4[rows], beta=0.1)
        grip = functional.cross_entropy(outputs[:, len(MOVES) :], grip_N[rows], weight)
        return move + _GRIP_SHARE * grip

    return loss


def grip_class(commands_N: np.ndarray) -> np.ndarray:
    """Class (N,) of gripper commands: the nearest of GRIPS."""
    return np.abs(commands_N[:, None] - GRIPS[None]).argmin(axis=1)
