"""A world model and its folder: config.yaml, model.safetensors, latent_actions.json, README.md.

Shapes: B batch, T frames, S = T - 1 steps, Y X pixels, N tokens per frame, A actions.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genie_robot.config import WorldModelConfig, from_dict, to_dict
from genie_robot.errors import ActionError, ConfigError, ImageError, ModelFolderError
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.dynamics import Dynamics
from genie_robot.models.hashing import weights_hash
from genie_robot.models.latent_action import LatentActionModel
from genie_robot.models.tokenizer import VideoTokenizer

FILES = ("config.yaml", "model.safetensors", "latent_actions.json", "README.md")


@dataclass(frozen=True)
class LatentAction:
    """What one code was measured to do. Empty name: not measured."""

    code: int
    name: str = ""
    displacement_m: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the gripper: forward, left, up
    gripper: float = 0.0  # change of its opening, -1 closes fully
    evidence: dict[str, Any] = field(default_factory=dict)


class WorldModel(nn.Module):
    """Tokenizer, latent action model and dynamics, with what their codes mean."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        video = config.video
        patch = config.tokenizer.patch_size
        self.tokenizer = VideoTokenizer(config.tokenizer, video)
        self.latent_action = LatentActionModel(config.latent_action, video, config.tokenizer)
        self.dynamics = Dynamics(
            config.dynamics,
            config.tokenizer.codebook_size,
            config.latent_action,
            (video.height // patch, video.width // patch),
            video.num_frames,
            config.tokenizer.fsq_levels if config.tokenizer.quantizer == "fsq" else (),
        )
        self.latent_actions = tuple(LatentAction(code) for code in range(self.num_actions))
        self._loaded_hash = ""

    @property
    def num_actions(self) -> int:
        """Number of latent action codes; 0 when actions are continuous."""
        return self.config.latent_action.total_actions

    def require_codes(self, what: str) -> None:
        """Raise ConfigError, in the name of `what` needs them, when this model has no action codes."""
        if self.config.latent_action.is_continuous:
            raise ConfigError(
                f"{what}: got a model with continuous latent actions, wanted one with codes "
                "(latent_action.quantizer=vq or rvq)"
            )

    @property
    def image_height(self) -> int:
        """Frame height in pixels."""
        return self.config.video.height

    @property
    def image_width(self) -> int:
        """Frame width in pixels."""
        return self.config.video.width

    @property
    def dt_s(self) -> float:
        """Seconds between frames."""
        return 1 / self.config.video.rate_hz

    @property
    def max_prompt_frames(self) -> int:
        """Frames a rollout can begin from: all of the window but the place of the first imagined one."""
        return self.config.video.num_frames - 1

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.dynamics.head.weight.device

    @property
    def hash(self) -> str:
        """First 12 hex digits of the SHA-256 of all weights as they were saved, whatever device and type they are in now."""
        return self._loaded_hash or weights_hash(self)

    def to_float(self, video: np.ndarray) -> Tensor:
        """Check a uint8 video (B,T,Y,X,3) of the model's size and scale it to [0, 1] on the model's device."""
        wanted = f"uint8 (batch, frames, {self.image_height}, {self.image_width}, 3)"
        got = f"{getattr(video, 'dtype', type(video).__name__)} {tuple(getattr(video, 'shape', ()))}"
        size = (self.image_height, self.image_width, 3)
        if (
            not isinstance(video, np.ndarray)
            or video.dtype != np.uint8
            or video.ndim != 5
            or video.shape[2:] != size
        ):
            raise ImageError(
                f"video: got {got}, wanted {wanted}; resize with genie_robot.data.resize.resize_frame"
            )
        if video.shape[1] < 1:
            raise ImageError(f"video: got {got}, wanted at least one frame")
        video_BTYXC = torch.from_numpy(np.ascontiguousarray(video)).to(self.device)
        return video_BTYXC.to(self.dynamics.head.weight.dtype) / 255

    @torch.no_grad()
    def encode(self, video_BTYXC: np.ndarray) -> Tensor:
        """Tokens (B,T,N) int64 of a uint8 video of at most `config.video.num_frames` frames."""
        return self.tokenizer.encode(self.to_float(video_BTYXC))

    @torch.no_grad()
    def decode(self, tokens_BTN: Tensor) -> np.ndarray:
        """uint8 video (B,T,Y,X,3) of tokens."""
        return to_uint8(self.tokenizer.decode(tokens_BTN))

    def action_input(self, video_BTYXC: Tensor) -> Tensor:
        """The clip that the latent action model takes: a float video itself, or its tokens (B,T,N)."""
        if self.config.latent_action.input == "pixels":
            return video_BTYXC
        with torch.no_grad():
            return self.tokenizer.encode(video_BTYXC)

    @torch.no_grad()
    def infer_actions(self, video_BTYXC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes (B,S) int64 and probabilities (B,S,A) float32 of the steps between frames.

        Raises ConfigError when actions are continuous; `latent_action.infer` gives those.
        """
        self.require_codes("infer_actions")
        codes, probabilities = self.latent_action.infer(self.action_input(self.to_float(video_BTYXC)))
        assert probabilities is not None
        return codes.cpu().numpy(), probabilities.float().cpu().numpy()

    @torch.no_grad()
    def latent_vectors(self, video_BTYXC: np.ndarray) -> np.ndarray:
        """What the steps between frames are before they are quantized: float32 (B,S,K) of a uint8 video."""
        clip = self.action_input(self.to_float(video_BTYXC))
        return self.latent_action.vectors(clip).float().cpu().numpy()

    def action_rows(
        self,
        *,
        codes_BL: np.ndarray | None = None,
        vectors_BK: np.ndarray | None = None,
        robot_BR: np.ndarray | None = None,
    ) -> np.ndarray:
        """Actions for `WorldSession.step`, float32 (B,W), in which only what is given is known.

        codes_BL: codes of the coarsest one or more codebooks. vectors_BK: as `latent_vectors` gives them. robot_BR: as in
        the training data. Leading axes may be any. ConfigError for a model that takes latent actions alone, ActionError
        for wrong widths, codes that do not exist, numbers that are not finite, and when nothing is given.
        """
        embedding = self.dynamics.embed_action
        if not isinstance(embedding, MixedEmbedding):
            raise ConfigError(
                "action_rows: this model takes latent actions alone; wanted one trained with dynamics.robot_action_dim"
            )
        given = {"codes_BL": codes_BL, "vectors_BK": vectors_BK, "robot_BR": robot_BR}
        limits = (embedding.num_codebooks, *embedding.widths[1:])
        tensors = [
            _checked(name, value, width, embedding.num_codes)
            for (name, value), width in zip(given.items(), limits, strict=True)
        ]
        if all(tensor is None for tensor in tensors):
            raise ActionError(f"action_rows: got nothing, wanted one of {', '.join(given)}")
        return embedding.rows(*(None if t is None else t.to(self.device) for t in tensors)).cpu().numpy()

    def save(self, folder: str | Path, card: str = "") -> Path:
        """Write the model folder. `card` is the text of its README.md (the model card)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(to_dict(self.config), sort_keys=False))
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / "model.safetensors", metadata={"hash": self.hash})
        (folder / "README.md").write_text(card or f"# {self.config.name}\n\nA genie_robot world model.\n")
        self.save_latent_actions(folder)
        return folder

    def save_latent_actions(self, folder: str | Path) -> None:
        """Write `latent_actions.json` alone (after measuring the codes)."""
        record = {"model": self.hash, "latent_actions": [asdict(action) for action in self.latent_actions]}
        (Path(folder) / "latent_actions.json").write_text(json.dumps(record, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", dtype: str = "float32") -> WorldModel:
        """Open a model folder. Raises ModelFolderError for missing, altered or foreign files."""
        folder = Path(folder)
        missing = [name for name in FILES if not (folder / name).is_file()]
        if missing:
            raise ModelFolderError(
                f"{folder}: got no {missing[0]}, wanted a model folder with {', '.join(FILES)}"
            )
        model = cls(_read_config(folder / "config.yaml"))
        model._load_weights(folder / "model.safetensors")
        model._load_latent_actions(folder / "latent_actions.json")
        return model.to(device=device, dtype=getattr(torch, dtype)).eval().requires_grad_(False)

    def _load_weights(self, path: Path) -> None:
        from safetensors import safe_open

        try:
            tensors = load_file(path)
            with safe_open(path, framework="pt") as file:
                stored = (file.metadata() or {}).get("hash", "")
            self.load_state_dict(tensors)
        except (SafetensorError, OSError) as error:
            raise ModelFolderError(
                f"{path}: cannot be read ({error}); copy the model folder again"
            ) from error
        except RuntimeError as error:
            line = str(error).splitlines()[-1].strip()[:120]
            raise ModelFolderError(
                f"{path}: does not fit config.yaml beside it ({line}); use the original pair"
            ) from error
        if stored != self.hash:
            raise ModelFolderError(
                f"{path}: weights have hash {self.hash}, wanted {stored or 'a stored hash'}; "
                "the file was altered, copy it again"
            )

    def _load_latent_actions(self, path: Path) -> None:
        try:
            record = json.loads(path.read_text())
            actions = tuple(
                LatentAction(**{**item, "displacement_m": tuple(item["displacement_m"])})
                for item in record["latent_actions"]
            )
            owner = record["model"]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelFolderError(
                f"{path}: cannot be read ({error}); copy the model folder again"
            ) from error
        if owner != self.hash:
            raise ModelFolderError(
                f"{path}: was measured for model {owner}, the weights are {self.hash}; "
                "use the file saved beside these weights"
            )
        if [action.code for action in actions] != list(range(self.num_actions)):
            raise ModelFolderError(
                f"{path}: got {len(actions)} codes, wanted codes 0 to {self.num_actions - 1}"
            )
        self.latent_actions = actions
        self._loaded_hash = owner


def _checked(name: str, value: np.ndarray | None, width: int, num_codes: int) -> Tensor | None:
    """A part of an action as a tensor; ActionError when it is not what `WorldModel.action_rows` says."""
    if value is None:
        return None
    array = np.asarray(value)
    is_codes = name == "codes_BL"
    if array.ndim < 1 or not (1 <= array.shape[-1] <= width if is_codes else array.shape[-1] == width):
        raise ActionError(f"action_rows: got {name} of shape {array.shape}, wanted (..., {width})")
    if is_codes:
        if array.dtype.kind not in "iu" or (array < 0).any() or (array >= num_codes).any():
            raise ActionError(f"action_rows: got codes {array!r}, wanted whole numbers in 0..{num_codes - 1}")
        return torch.from_numpy(array.astype(np.int64))
    if not np.isfinite(array).all():
        raise ActionError(f"action_rows: {name} holds a number that is not finite; wanted finite numbers")
    return torch.from_numpy(array.astype(np.float32))


def _read_config(path: Path) -> WorldModelConfig:
    try:
        values = yaml.safe_load(path.read_text())
        return from_dict(WorldModelConfig, values if isinstance(values, dict) else {})
    except (yaml.YAMLError, UnicodeDecodeError, ConfigError) as error:
        line = " ".join(str(error).split())
        raise ModelFolderError(f"{path}: {line}; use the file saved with the model") from error


def to_uint8(video: Tensor) -> np.ndarray:
    """Float [0, 1] -> uint8 array on the CPU."""
    return (video.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
