"""Interfaces beside their model: `<model folder>/interfaces/m1-8x2.safetensors` and `.json`; m0 is `action_adapter.json`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from genie_robot.errors import ConfigError, ModelFolderError
from genie_robot.models.world_model import WorldModel
from genie_robot.simulation.action_interface import load_adapter
from genie_robot.simulation.interfaces.adapter import LatentAdapter
from genie_robot.simulation.interfaces.decoder import StateDecoder
from genie_robot.simulation.interfaces.latent import LatentInterface, TableInterface
from genie_robot.simulation.interfaces.latent_space import LatentSpace, latent_space
from genie_robot.simulation.interfaces.native import NativeInterface
from genie_robot.simulation.interfaces.networks import ImageFeatures
from genie_robot.simulation.interfaces.protocol import ActionInterface

FOLDER = "interfaces"
FORMAT = 1
_FIT = "fit it with `genie-robot evaluate interfaces MODEL --data FOLDER --write`"


def load_interface(model_folder: Path | str, name: str, model: Any | None = None) -> ActionInterface:
    """Open the interface `name` ("m0", "m1:8", "m1:8x2", "m1:8x3", "m1:continuous", "m2") of a model folder.

    model: the folder's, where it is open already. ConfigError for a name that this model cannot have,
    ModelFolderError for one that was not fitted yet, or whose files are altered or of another model.
    """
    kind, _, space = name.partition(":")
    if kind not in ("m0", "m1", "m2") or bool(space) != (kind == "m1"):
        raise ConfigError(
            f"interface is {name!r}, wanted m0, m1:8, m1:8x2, m1:8x3, m1:continuous or m2; choose one of these"
        )
    model = WorldModel.load(model_folder) if model is None else model
    if kind == "m0":
        return TableInterface(load_adapter(model_folder), model)
    if kind == "m2":
        return NativeInterface(model)
    return _load_latent(Path(model_folder), latent_space(model, space), model)


def save_interface(
    model_folder: Path | str, interface: LatentInterface, model_hash: str, evidence: dict[str, Any]
) -> Path:
    """Write an M1 interface with a StateDecoder beside its model; returns the path of its weights.

    evidence: how it was fitted and what was measured of it.
    """
    assert isinstance(interface.decoder, StateDecoder)
    path = _path(Path(model_folder), interface.space)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for part, module in (("adapter", interface.adapter), ("decoder", interface.decoder)):
        own = {key: value for key, value in module.state_dict().items() if not key.startswith("features.")}
        tensors |= {f"{part}.{key}": value.contiguous() for key, value in own.items()}
    shared = interface.adapter.features.state_dict()
    tensors |= {f"features.{key}": value.contiguous() for key, value in shared.items()}
    save_file(tensors, path)
    record = {
        "format": FORMAT,
        "name": interface.name,
        "space": asdict(interface.space),
        "model": model_hash,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "evidence": evidence,
    }
    path.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def _path(folder: Path, space: LatentSpace) -> Path:
    return folder / FOLDER / f"m1-{space.name}.safetensors"


def _load_latent(folder: Path, space: LatentSpace, model: Any) -> LatentInterface:
    path = _path(folder, space)
    missing = [one for one in (path, path.with_suffix(".json")) if not one.is_file()]
    if missing:
        raise ModelFolderError(f"no {missing[0].name} in {path.parent}; the interface is not fitted; {_FIT}")
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        owner, wanted, stored = record["model"], record["sha256"], LatentSpace(**record["space"])
        is_known = record["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFolderError(f"{path.with_suffix('.json')} cannot be read ({error}); {_FIT}") from error
    if not is_known or stored != space or owner != model.hash:
        raise ModelFolderError(f"{path} was fitted for model {owner}, the model is {model.hash}; {_FIT}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != wanted:
        raise ModelFolderError(f"{path} was altered: its SHA-256 is not that of the .json beside it; {_FIT}")
    features = ImageFeatures()
    adapter, decoder = LatentAdapter(space, features), StateDecoder(space, features)
    try:
        tensors = load_file(path)
        for module, prefix in ((adapter, "adapter."), (decoder, "decoder.")):
            module.load_state_dict(_part(tensors, prefix) | _part(tensors, "features.", "features."))
    except (SafetensorError, OSError, RuntimeError) as error:
        line = str(error).splitlines()[0][:120]
        raise ModelFolderError(f"{path} does not fit this version ({line}); {_FIT}") from error
    return LatentInterface(adapter.requires_grad_(False), decoder.requires_grad_(False), model)


def _part(tensors: dict[str, Tensor], prefix: str, renamed: str = "") -> dict[str, Tensor]:
    return {
        renamed + key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
