"""The state probe: a small conv net that reads gripper, object and goal from one 64x64 camera image.

It is the judge of policy evaluation (its state estimate goes into the same success predicate that MuJoCo uses), the
measuring stick of what a latent action does, and, as a second net of another seed, the eyes of the test policies.
The two nets of a folder never share a seed, so a policy cannot agree with the judge by sharing its mistakes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genie_robot.errors import ImageError, ModelFolderError
from genie_robot.simulation.mujoco.tasks import LIFT_HEIGHT_M, OBJECT_REST_Z_M, STATE_NAMES

IMAGE_SIZE = 64
CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.yaml", "model.safetensors", "README.md"
FORMAT = 1


class _Block(nn.Module):
    """3x3 convolution, group norm, SiLU; a residual sum when the shape stays."""

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(8, outside)
        self.residual = stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.silu(self.norm(self.conv(x)))
        return x + y if self.residual else y


class ProbeNet(nn.Module):
    """Images (B, 3, 64, 64) float in 0..1 -> normalised state (B, 9). About 0.24 M parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.PixelUnshuffle(2),
            _Block(12, 24),
            _Block(24, 48, stride=2),
            _Block(48, 48),
            _Block(48, 64, stride=2),
            _Block(64, 64),
            nn.Conv2d(64, 24, 1),
            nn.SiLU(),
            nn.Flatten(),
        )
        self.head = nn.Sequential(nn.Linear(24 * 64, 72), nn.SiLU(), nn.Linear(72, len(STATE_NAMES)))

    def forward(self, images_BCYX: Tensor) -> Tensor:
        """(B, 3, 64, 64) in 0..1 -> (B, 9), normalised."""
        return self.head(self.trunk(images_BCYX - 0.5))


@dataclass
class StateProbe:
    """A trained net with the mean and scale of its nine outputs. Callable: images -> states."""

    net: ProbeNet
    mean_S: np.ndarray
    scale_S: np.ndarray
    seed: int
    batch_size: int = 256

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        """State of each image. images: uint8 (..., 64, 64, 3). Returns float32 (..., 9), units of STATE_NAMES."""
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[-3:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
            raise ImageError(
                f"the state probe got {images.dtype} images of shape {images.shape}; "
                f"it wants uint8 (..., {IMAGE_SIZE}, {IMAGE_SIZE}, 3); resize them first"
            )
        flat = torch.from_numpy(np.ascontiguousarray(images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 3)))
        self.net.eval()
        parts = [self.net(part.permute(0, 3, 1, 2).float() / 255.0) for part in flat.split(self.batch_size)]
        output = torch.cat(parts).numpy() if parts else np.zeros((0, len(STATE_NAMES)))
        states = output * self.scale_S + self.mean_S
        return states.astype(np.float32).reshape(*images.shape[:-3], len(STATE_NAMES))


@dataclass(frozen=True)
class ProbePair:
    """What a probe folder holds: `judge` scores rollouts, `eyes` let the test policies see."""

    judge: StateProbe
    eyes: StateProbe
    hash: str = ""


@dataclass(frozen=True)
class ProbeErrors:
    """Held-out errors of one probe: mean distances in cm, gripper as mean absolute opening (0..1).

    `lifted_z_cm` is the mean signed error of the height of lifted objects: negative reads them too low, and then no
    lift is ever judged a success. NaN where no object is lifted.
    """

    ee_cm: float
    object_cm: float
    goal_cm: float
    gripper: float
    lifted_z_cm: float
    frames: int


def probe_errors(probe: StateProbe, frames: np.ndarray, states: np.ndarray) -> ProbeErrors:
    """Mean error of `probe` on frames (..., 64, 64, 3) uint8 with true states (..., 9)."""
    error = (probe(frames) - states).reshape(-1, len(STATE_NAMES)).astype(np.float64)

    height = np.asarray(states).reshape(-1, len(STATE_NAMES))[:, 6] - OBJECT_REST_Z_M
    lifted = error[height > 0.5 * LIFT_HEIGHT_M, 6]

    def distance_cm(columns: slice) -> float:
        return float(100.0 * np.linalg.norm(error[:, columns], axis=1).mean())

    return ProbeErrors(
        ee_cm=distance_cm(slice(0, 3)),
        object_cm=distance_cm(slice(4, 7)),
        goal_cm=distance_cm(slice(7, 9)),
        gripper=float(np.abs(error[:, 3]).mean()),
        lifted_z_cm=float(100.0 * lifted.mean()) if len(lifted) else float("nan"),
        frames=len(error),
    )


def save_probe(folder: Path | str, pair: ProbePair, card: str) -> str:
    """Write `pair` with its model card to `folder`; returns the hash of the weights. Weights are stored as fp16."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    config: dict[str, object] = {"format": FORMAT, "state_names": list(STATE_NAMES), "image_size": IMAGE_SIZE}
    for role in ("judge", "eyes"):
        probe: StateProbe = getattr(pair, role)
        tensors.update({f"{role}.{k}": v.half().contiguous() for k, v in probe.net.state_dict().items()})
        config[role] = {
            "seed": probe.seed,
            "mean": [float(v) for v in probe.mean_S],
            "scale": [float(v) for v in probe.scale_S],
        }
    save_file(tensors, folder / WEIGHTS_FILE)
    config["weights_sha256"] = _sha256(folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return str(config["weights_sha256"])


def load_probe(folder: Path | str) -> ProbePair:
    """Open a probe folder. Raises ModelFolderError for a missing, altered or foreign file."""
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelFolderError(
                f"no {name} in {folder}; wanted a state probe folder; make one with "
                "`python -m genie_robot.evaluation.train_probe`"
            )
    try:
        config = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        names, wanted_hash = config["state_names"], config["weights_sha256"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{folder / CONFIG_FILE} is not a state probe's configuration ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); restore it or train the probe again"
        ) from error
    if list(names) != list(STATE_NAMES) or config.get("format") != FORMAT:
        raise ModelFolderError(f"{folder} holds a probe of another format; train it again with this version")
    found = _sha256(folder / WEIGHTS_FILE)
    if found != wanted_hash:
        raise ModelFolderError(
            f"{folder / WEIGHTS_FILE} has SHA-256 {found[:12]}, its config says {str(wanted_hash)[:12]}; "
            "the file was altered or cut; restore the folder or train the probe again"
        )
    tensors = load_file(folder / WEIGHTS_FILE)
    probes = {role: _restore(role, config, tensors) for role in ("judge", "eyes")}
    return ProbePair(judge=probes["judge"], eyes=probes["eyes"], hash=found)


def _restore(role: str, config: dict, tensors: dict[str, Tensor]) -> StateProbe:
    net = ProbeNet()
    prefix = f"{role}."
    net.load_state_dict({k[len(prefix) :]: v.float() for k, v in tensors.items() if k.startswith(prefix)})
    settings = config[role]
    mean, scale = (np.asarray(settings[key], dtype=np.float32) for key in ("mean", "scale"))
    return StateProbe(net.eval(), mean, scale, int(settings["seed"]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def count_parameters(modules: Sequence[nn.Module]) -> int:
    """Number of trainable numbers in `modules`."""
    return sum(p.numel() for module in modules for p in module.parameters())
