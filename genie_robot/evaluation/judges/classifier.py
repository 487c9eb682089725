"""The second judge: a net that was never told what a position is, only which frames fulfil a task and how far it is done.

It sees each frame beside the film's first one and says whether the task is fulfilled in it, and the progress. A film is
a success by the rule of all worlds: fulfilled in SUSTAIN frames in a row, ever. It has another architecture, seed and
data split than the probe, so that its mistakes are its own (evaluation.md section 5.2). All frames are read, not eight
spread over the film: reaching may last two frames, and eight would miss many (docs/judges.md has the share).

Shape legend: B films or frames, T frames of a film, Y X pixels, C channels, K tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from genie_robot.errors import ModelFolderError
from genie_robot.evaluation.judges.protocol import Verdicts
from genie_robot.evaluation.probe import check_images, read_weights, stored_weights, write_weights
from genie_robot.simulation.success import SUSTAIN
from genie_robot.simulation.suites import get_suite

FORMAT = 1
_MAKER = "python -m genie_robot.evaluation.judges.train_judge"


class _Layer(nn.Module):
    """3x3 convolution, group norm, shift and scale by the task (FiLM; Perez et al. 2018), SiLU."""

    def __init__(self, inside: int, outside: int, num_tasks: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outside)
        self.film = nn.Embedding(num_tasks, 2 * outside)
        nn.init.zeros_(self.film.weight)

    def forward(self, x: Tensor, task_B: Tensor) -> Tensor:
        scale, shift = self.film(task_B)[..., None, None].chunk(2, dim=1)
        return functional.silu(self.norm(self.conv(x)) * (1 + scale) + shift)


class FrameClassifier(nn.Module):
    """Frame and first frame (B, 3, 64, 64) each, task (B,) -> logit of "fulfilled" and progress, (B,) each."""

    def __init__(self, num_tasks: int) -> None:
        super().__init__()
        self.fold = nn.PixelUnshuffle(4)
        self.layers = nn.ModuleList(
            [
                _Layer(96, 64, num_tasks),
                _Layer(64, 96, num_tasks, stride=2),
                _Layer(96, 96, num_tasks),
                _Layer(96, 96, num_tasks, stride=2),
            ]
        )
        self.hidden = nn.Linear(96 * 16, 96)
        self.out = nn.Linear(96, 2 * num_tasks)

    def forward(self, frame_BCYX: Tensor, first_BCYX: Tensor, task_B: Tensor) -> tuple[Tensor, Tensor]:
        """Images in 0..1. Returns the logit and the progress, 0..1."""
        x = self.fold(torch.cat([frame_BCYX - 0.5, frame_BCYX - first_BCYX], dim=1))
        for layer in self.layers:
            x = layer(x, task_B)
        out = self.out(functional.silu(self.hidden(x.flatten(1)))).unflatten(1, (-1, 2))
        logit, progress = out[torch.arange(len(out)), task_B].unbind(1)
        return logit, progress.sigmoid()


class ClassifierJudge:
    """A trained `FrameClassifier` for a suite. `judge` gives no states and calls no film invalid."""

    name = "classifier"

    def __init__(self, net: FrameClassifier, suite: str, seed: int, hash: str = "") -> None:
        self.net, self.suite, self.seed, self.hash = net.eval(), get_suite(suite), seed, hash

    def judge(self, frames_BTYXC: np.ndarray, task: str) -> Verdicts:
        """Judge films uint8 (B, T, 64, 64, 3) of `task`; ConfigError, ImageError."""
        fulfilled_BT, progress_BT = self.read(frames_BTYXC, task)
        probability_B = sustained(fulfilled_BT)
        success_B = probability_B > 0.5
        return Verdicts(
            success_B=success_B,
            score_B=progress_BT.max(axis=1),
            confidence_B=np.where(success_B, probability_B, 1.0 - probability_B),
            invalid_B=np.zeros(len(frames_BTYXC), dtype=bool),
        )

    @torch.no_grad()
    def read(self, frames_BTYXC: np.ndarray, task: str) -> tuple[np.ndarray, np.ndarray]:
        """Probability that each frame fulfils `task`, and its progress: float64 (B, T) each."""
        frames = check_images(frames_BTYXC, "the classifier judge")
        number = self.suite.tasks.index(self.suite.check_task(task))
        probabilities, progress = [], []
        for film in frames:
            images = torch.from_numpy(np.ascontiguousarray(film)).permute(0, 3, 1, 2).float() / 255.0
            tasks = torch.full((len(images),), number)
            logit, done = self.net(images, images[:1].expand_as(images), tasks)
            probabilities.append(logit.double().sigmoid().numpy())
            progress.append(done.double().numpy())
        return np.array(probabilities), np.array(progress)


def sustained(fulfilled_BT: np.ndarray) -> np.ndarray:
    """Probability (B,) that SUSTAIN frames in a row fulfil the task: of the best stretch, its weakest frame."""
    length = fulfilled_BT.shape[1]
    if length < SUSTAIN:
        return np.zeros(len(fulfilled_BT))
    stretches = [fulfilled_BT[:, k : length - SUSTAIN + 1 + k] for k in range(SUSTAIN)]
    return np.min(stretches, axis=0).max(axis=1)


def save_classifier(folder: Path | str, judge: ClassifierJudge, card: str) -> str:
    """Write `judge` with its model card to `folder`; returns the hash of the weights (fp16)."""
    config: dict[str, object] = {
        "format": FORMAT,
        "suite": judge.suite.name,
        "tasks": list(judge.suite.tasks),
        "seed": judge.seed,
    }
    return write_weights(folder, stored_weights(judge.net), config, card)


def load_classifier(folder: Path | str, suite: str) -> ClassifierJudge:
    """Open a classifier's folder for a suite. ModelFolderError for a missing, altered or foreign file."""
    config, tensors = read_weights(folder, "classifier judge", _MAKER)
    wanted: Sequence[str] = get_suite(suite).tasks
    if config.get("format") != FORMAT or config.get("suite") != suite or config.get("tasks") != list(wanted):
        raise ModelFolderError(
            f"{folder} holds a judge of the suite {config.get('suite')!r} with tasks {config.get('tasks')}; wanted {suite} "
            f"with {', '.join(wanted)}; train it with `{_MAKER}`"
        )
    net = FrameClassifier(len(wanted))
    try:
        net.load_state_dict({name: value.float() for name, value in tensors.items()})
    except RuntimeError as error:
        raise ModelFolderError(
            f"{folder} holds other weights than this version's classifier; train it with `{_MAKER}`"
        ) from error
    return ClassifierJudge(net, suite, int(config["seed"]), config["weights_sha256"])
