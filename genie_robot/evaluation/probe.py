"""The state probe: a small conv net that reads the state vector (gripper, object, goal ...) from one 64x64 camera image.

It is the judge of policy evaluation (its state estimate goes into the same success predicate that MuJoCo uses), the
measuring stick of what a latent action does, and, as a second net of another seed, the eyes of the test policies.
The two nets of a folder are trained on the same data by the same recipe from different seeds: a policy does not see with
the judge's own net, but the two may share mistakes that data and recipe cause.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genie_robot.errors import ImageError, ModelFolderError
from genie_robot.evaluation.probe_net import IMAGE_SIZE, NETS, PointNet
from genie_robot.simulation.suites import SUITES

CONFIG_FILE, WEIGHTS_FILE, CARD_FILE = "config.yaml", "model.safetensors", "README.md"
FORMAT = 2
"""Format 1 (`weights/tabletop-probe`) had GridNets and no name of the net."""


@dataclass
class StateProbe:
    """A trained net with the mean and scale of its outputs. Callable: images -> states.

    state_names: what the S numbers are, as in `Suite.state_names`; positions in metres.
    limits: of what films it can read, frozen on validation films (judges/validity.py); None without.
    """

    net: nn.Module
    mean_S: np.ndarray
    scale_S: np.ndarray
    seed: int
    state_names: tuple[str, ...]
    limits: Mapping[str, float] | None = None
    batch_size: int = 256

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """State of each image. images: uint8 (..., 64, 64, 3). Returns float32 (..., S), units of `state_names`."""
        return self.read(images)[0]

    @torch.no_grad()
    def read(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """States of images uint8 (..., 64, 64, 3) and the absolute errors that the net expects of itself.

        Both float32 (..., S), units of `state_names`. The errors are NaN for a net that does not estimate them. Films
        (B, T, 64, 64, 3) are read one by one: kernels are chosen by batch size and differ in the last bits, and what is
        read of a film must not depend on whom it shares the batch with.
        """
        images = check_images(images, "the state probe")
        if images.ndim > 4 and len(images):
            states, errors = zip(*(self.read(film) for film in images), strict=True)
            return np.stack(states), np.stack(errors)
        flat = torch.from_numpy(np.ascontiguousarray(images.reshape(-1, IMAGE_SIZE, IMAGE_SIZE, 3)))
        self.net.eval()
        states, errors = [np.zeros((0, len(self.mean_S)))], [np.zeros((0, len(self.mean_S)))]
        for part in flat.split(self.batch_size) if len(flat) else ():
            state_BS, doubt_BS = self.net(part.permute(0, 3, 1, 2).float() / 255.0)
            states.append(state_BS.numpy() * self.scale_S + self.mean_S)
            doubt = np.full(state_BS.shape, np.nan) if doubt_BS is None else doubt_BS.exp().numpy()
            errors.append(doubt * self.scale_S)
        shape = (*images.shape[:-3], len(self.mean_S))
        state, error = (np.concatenate(parts).astype(np.float32).reshape(shape) for parts in (states, errors))
        return state, error


@dataclass(frozen=True)
class ProbePair:
    """What a probe folder holds: `judge` scores rollouts, `eyes` let the test policies see."""

    judge: StateProbe
    eyes: StateProbe
    hash: str = ""


def check_images(images: np.ndarray, who: str) -> np.ndarray:
    """Return `images` if they are uint8 (..., 64, 64, 3), else raise ImageError."""
    images = np.asarray(images)
    if images.dtype != np.uint8 or images.shape[-3:] != (IMAGE_SIZE, IMAGE_SIZE, 3):
        raise ImageError(
            f"{who} got {images.dtype} images of shape {images.shape}; "
            f"it wants uint8 (..., {IMAGE_SIZE}, {IMAGE_SIZE}, 3); resize them first"
        )
    return images


def save_probe(folder: Path | str, pair: ProbePair, card: str) -> str:
    """Write `pair` with its model card to `folder`; returns the hash of the weights. Weights are stored as fp16."""
    tensors: dict[str, Tensor] = {}
    config: dict[str, object] = {
        "format": FORMAT,
        "state_names": list(pair.judge.state_names),
        "image_size": IMAGE_SIZE,
    }
    for role in ("judge", "eyes"):
        probe: StateProbe = getattr(pair, role)
        tensors.update({f"{role}.{k}": v for k, v in stored_weights(probe.net).items()})
        config[role] = {
            "net": next(name for name, kind in NETS.items() if isinstance(probe.net, kind)),
            "seed": probe.seed,
            "mean": [float(v) for v in probe.mean_S],
            "scale": [float(v) for v in probe.scale_S],
            "limits": dict(probe.limits) if probe.limits else None,
        }
    return write_weights(folder, tensors, config, card)


def load_probe(folder: Path | str) -> ProbePair:
    """Open a probe folder. Raises ModelFolderError for a missing, altered or foreign file."""
    config, tensors = read_weights(folder, "state probe", "python -m genie_robot.evaluation.train_probe")
    known = [suite.state_names for suite in SUITES.values()]
    try:
        if tuple(config["state_names"]) not in known or config["format"] not in (1, FORMAT):
            raise ModelFolderError(
                f"{folder} holds a probe of another format; train it again with this version"
            )
        probes = {role: _restore(role, config, tensors) for role in ("judge", "eyes")}
    except (KeyError, TypeError, RuntimeError) as error:
        raise ModelFolderError(
            f"{folder} holds no whole state probe ({type(error).__name__}: {str(error).splitlines()[0]}); "
            "restore the folder or train the probe again"
        ) from error
    return ProbePair(judge=probes["judge"], eyes=probes["eyes"], hash=config["weights_sha256"])


def _restore(role: str, config: dict, tensors: dict[str, Tensor]) -> StateProbe:
    settings, names = config[role], tuple(config["state_names"])
    net = NETS[settings.get("net", "grid")](len(names))
    prefix = f"{role}."
    net.load_state_dict({k[len(prefix) :]: v.float() for k, v in tensors.items() if k.startswith(prefix)})
    mean, scale = (np.asarray(settings[key], dtype=np.float32) for key in ("mean", "scale"))
    return StateProbe(net.eval(), mean, scale, int(settings["seed"]), names, settings.get("limits"))


def untrained_probe(
    state_names: Sequence[str], mean_S: np.ndarray, scale_S: np.ndarray, seed: int
) -> StateProbe:
    """A probe of random weights drawn from `seed`, whose outputs have the given mean and scale (S,)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = PointNet(len(state_names))
    round_weights(net)
    mean_S, scale_S = (np.asarray(values, dtype=np.float32) for values in (mean_S, scale_S))
    return StateProbe(net.eval(), mean_S, scale_S, seed, tuple(state_names))


def stored_weights(net: nn.Module) -> dict[str, Tensor]:
    """Weights as a folder holds them: fp16. How many batches a batch norm has seen is of no use later."""
    state = net.state_dict()
    return {k: v.half().contiguous() for k, v in state.items() if not k.endswith("num_batches_tracked")}


def round_weights(net: nn.Module) -> None:
    """Round the weights to what a folder will hold, so that every figure we print is the stored net's."""
    net.load_state_dict({name: value.float() for name, value in stored_weights(net).items()})


def write_weights(
    folder: Path | str, tensors: Mapping[str, Tensor], config: dict[str, object], card: str
) -> str:
    """Write weights, configuration with their SHA-256, and model card to `folder`; returns the SHA-256."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / WEIGHTS_FILE)
    config = config | {"weights_sha256": _sha256(folder / WEIGHTS_FILE)}
    (folder / CONFIG_FILE).write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    (folder / CARD_FILE).write_text(card, encoding="utf-8")
    return str(config["weights_sha256"])


def read_weights(folder: Path | str, what: str, maker: str) -> tuple[dict, dict[str, Tensor]]:
    """Configuration and weights of a folder that `write_weights` wrote; ModelFolderError, in one line, otherwise."""
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise ModelFolderError(f"no {name} in {folder}; wanted a {what} folder; make one with `{maker}`")
    try:
        config = yaml.safe_load((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        wanted_hash = config["weights_sha256"]
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"{folder / CONFIG_FILE} is not a {what}'s configuration ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); restore it or train it again"
        ) from error
    found = _sha256(folder / WEIGHTS_FILE)
    if found != wanted_hash:
        raise ModelFolderError(
            f"{folder / WEIGHTS_FILE} has SHA-256 {found[:12]}, its config says {str(wanted_hash)[:12]}; "
            "the file was altered or cut; restore the folder or train it again"
        )
    return config, load_file(folder / WEIGHTS_FILE)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def count_parameters(modules: Sequence[nn.Module]) -> int:
    """Number of trainable numbers in `modules`."""
    return sum(p.numel() for module in modules for p in module.parameters())
