"""Configuration of models and training: frozen dataclasses that check themselves.

Hydra composes them in `train.py`; the library takes only these objects. A wrong value raises `ConfigError`
that names the field, the value and what is allowed, before any work starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_type_hints

from genie_robot.errors import ConfigError

T = TypeVar("T")

# How frames are sampled unless told otherwise. Measured on held-out validation episodes of weights/tabletop-tiny:
# 8 passes are as good as 16, and PSNR falls as the temperature rises (benchmarks/sampling.py).
MASKGIT_STEPS = 8
TEMPERATURE = 0.3
DYNAMICS_HORIZON = 4  # the t of the paper's controllability metric (Genie, section 3.1)


def _require(ok: bool, name: str, value: object, wanted: str) -> None:
    if not ok:
        raise ConfigError(f"{name}: got {value!r}, wanted {wanted}")


def _positive(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value > 0, f"{type(config).__name__}.{name}", value, "a number above 0")


def _one_of(config: object, name: str, allowed: tuple[str, ...]) -> None:
    value = getattr(config, name)
    _require(value in allowed, f"{type(config).__name__}.{name}", value, "one of " + ", ".join(allowed))


@dataclass(frozen=True)
class VideoConfig:
    """What one clip is: size in pixels, frames in a window, frames a second."""

    height: int = 64
    width: int = 64
    num_frames: int = 16
    rate_hz: float = 5.0

    def __post_init__(self) -> None:
        _positive(self, "height", "width", "rate_hz")
        _require(self.num_frames >= 2, "VideoConfig.num_frames", self.num_frames, "2 or more")


@dataclass(frozen=True)
class TransformerConfig:
    """A stack of spatiotemporal blocks (Genie, section 2.1)."""

    num_layers: int = 4
    dim: int = 128
    num_heads: int = 4
    ffn_ratio: float = 4.0
    local_conv: bool = False  # 3x3 depthwise convolution in each block: small models learn motion far sooner

    def __post_init__(self) -> None:
        _positive(self, "num_layers", "dim", "num_heads", "ffn_ratio")
        _require(
            self.dim % self.num_heads == 0,
            "TransformerConfig.num_heads",
            self.num_heads,
            f"a divisor of dim ({self.dim})",
        )


@dataclass(frozen=True)
class TokenizerConfig:
    """Video tokenizer: patches -> discrete codes -> frames (Genie, section 2.1 and Tables 6-8)."""

    patch_size: int = 4
    encoder: str = "st_transformer"  # or "patch_mlp": a patch sees only itself, so far tokens never flicker
    encoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoder_head: str = "linear"  # or "conv": a convolutional upsampler that hides the patch borders
    quantizer: str = "vq"  # or "fsq"
    codebook_size: int = 1024
    code_dim: int = 32
    fsq_levels: tuple[int, ...] = ()
    commitment_weight: float = 0.25
    change_weight: float = 0.0  # extra loss weight of pixels that change between frames

    def __post_init__(self) -> None:
        _positive(self, "patch_size", "codebook_size", "code_dim")
        _one_of(self, "encoder", ("st_transformer", "patch_mlp"))
        _one_of(self, "decoder_head", ("linear", "conv"))
        _one_of(self, "quantizer", ("vq", "fsq"))
        if self.quantizer == "fsq":
            size = 1
            for level in self.fsq_levels:
                size *= level
            _require(
                size == self.codebook_size,
                "TokenizerConfig.fsq_levels",
                self.fsq_levels,
                f"levels whose product is codebook_size ({self.codebook_size})",
            )
        if self.decoder_head == "conv":
            _require(
                self.patch_size & (self.patch_size - 1) == 0,
                "TokenizerConfig.patch_size",
                self.patch_size,
                "a power of two for decoder_head=conv",
            )


@dataclass(frozen=True)
class LatentActionConfig:
    """Latent action model: frames t and t+1 -> one of a few codes (Genie, section 2.1 and Table 5)."""

    num_actions: int = 8
    code_dim: int = 32
    encoder: str = "st_transformer"  # or "conv": pairs of frames, the choice that learns on two cores
    patch_size: int = 16
    encoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    conv_channels: int = 32
    commitment_weight: float = 0.25
    change_weight: float = 0.0  # extra loss weight of pixels that change between frames

    def __post_init__(self) -> None:
        _positive(self, "num_actions", "code_dim", "patch_size", "conv_channels")
        _one_of(self, "encoder", ("st_transformer", "conv"))


@dataclass(frozen=True)
class DynamicsConfig:
    """MaskGIT dynamics on tokens and latent actions (Genie, section 2.1 and Tables 9-12)."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    full_mask_probability: float = 0.3  # share of training frames that start from nothing, as generation does
    changed_token_weight: float = 1.0  # loss weight of tokens that differ from the frame before
    token_noise: float = 0.0  # share of history tokens replaced at random: robustness against own mistakes

    def __post_init__(self) -> None:
        for name in ("full_mask_probability", "token_noise"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"DynamicsConfig.{name}", value, "a share between 0 and 1")
        _positive(self, "changed_token_weight")


@dataclass(frozen=True)
class WorldModelConfig:
    """The three networks of a world model and the video they work on."""

    name: str = "unnamed"
    video: VideoConfig = field(default_factory=VideoConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    latent_action: LatentActionConfig = field(default_factory=LatentActionConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)

    def __post_init__(self) -> None:
        patches = [("tokenizer", self.tokenizer.patch_size)]
        if self.latent_action.encoder == "st_transformer":
            patches.append(("latent_action", self.latent_action.patch_size))
        for name, patch in patches:
            _require(
                self.video.height % patch == 0 and self.video.width % patch == 0,
                f"{name}.patch_size",
                patch,
                f"a divisor of the frame's height and width ({self.video.height}x{self.video.width})",
            )

    @property
    def tokens_per_frame(self) -> int:
        """N, the tokens of one frame."""
        patch = self.tokenizer.patch_size
        return (self.video.height // patch) * (self.video.width // patch)


@dataclass(frozen=True)
class StageConfig:
    """How one stage trains."""

    steps: int = 1000
    batch_size: int = 8  # clips a step
    num_frames: int = 16  # frames a clip
    optimizer: str = "adamw"  # or "muon": Muon for hidden matrices, AdamW for the rest
    learning_rate: float = 3e-4
    muon_learning_rate: float = 0.02
    min_learning_rate_ratio: float = 0.1
    warmup_steps: int = 100
    decay_share: float = 0.3  # last share of the steps, in which the rate falls to the minimum
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    validate_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        _positive(
            self, "steps", "batch_size", "learning_rate", "validate_every", "checkpoint_every", "clip_norm"
        )
        _require(self.num_frames >= 2, "StageConfig.num_frames", self.num_frames, "2 or more")
        _one_of(self, "optimizer", ("adamw", "muon"))
        _require(0 <= self.decay_share <= 1, "StageConfig.decay_share", self.decay_share, "0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """Where episodes come from. `path` is a TFDS builder directory or a folder above it."""

    path: str = ""
    cache: str = ""  # folder of the uint8 clip cache; empty: <output>/cache
    image_key: str = ""  # empty: chosen from the dataset's features
    max_episodes: int = 0  # 0: all
    validation_split: str = ""  # empty: the dataset's own, else every 20th episode

    def __post_init__(self) -> None:
        _require(self.max_episodes >= 0, "DataConfig.max_episodes", self.max_episodes, "0 (all) or more")


@dataclass(frozen=True)
class HardwareConfig:
    """What the work runs on."""

    device: str = "auto"  # "cpu", "cuda", or "auto"
    precision: str = "auto"  # "bf16" where the processor multiplies it natively, else "fp32"
    threads: int = 0  # 0: torch's own choice
    compile: bool = False

    def __post_init__(self) -> None:
        _require(
            self.device in ("auto", "cpu") or self.device.startswith("cuda"),
            "HardwareConfig.device",
            self.device,
            "auto, cpu, cuda or cuda:N",
        )
        _one_of(self, "precision", ("auto", "fp32", "bf16"))


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe: one StageConfig a stage."""

    tokenizer: StageConfig = field(default_factory=StageConfig)
    latent_action: StageConfig = field(default_factory=StageConfig)
    dynamics: StageConfig = field(default_factory=StageConfig)


STAGES = ("tokenizer", "latent_action", "dynamics")


@dataclass(frozen=True)
class TrainConfig:
    """Everything `train.py` needs."""

    stage: str = "all"
    output: str = "outputs/train"
    seed: int = 0
    data: DataConfig = field(default_factory=DataConfig)
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def __post_init__(self) -> None:
        _one_of(self, "stage", (*STAGES, "all"))
        least = DYNAMICS_HORIZON + 1
        _require(
            self.training.dynamics.num_frames >= least,
            "training.dynamics.num_frames",
            self.training.dynamics.num_frames,
            f"{least} or more (validation imagines {DYNAMICS_HORIZON} frames after a prompt)",
        )
        for name in ("tokenizer", "dynamics"):
            frames = getattr(self.training, name).num_frames
            _require(
                frames <= self.model.video.num_frames,
                f"training.{name}.num_frames",
                frames,
                f"at most model.video.num_frames ({self.model.video.num_frames})",
            )


def to_dict(config: Any) -> dict[str, Any]:
    """Plain nested dict of a config, with lists instead of tuples (as YAML stores it)."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(item) for key, item in value.items()}
        return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value

    return plain(dataclasses.asdict(config))


def from_dict(cls: type[T], values: Mapping[str, Any], where: str = "") -> T:
    """Build config `cls` from nested plain values. Unknown keys and wrong types raise ConfigError."""
    hints = get_type_hints(cls)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise ConfigError(
            f"{where or cls.__name__}: unknown field {unknown[0]!r}, known are {', '.join(hints)}"
        )
    arguments: dict[str, Any] = {}
    for name, value in values.items():
        hint, path = hints[name], f"{where}.{name}" if where else name
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{path}: got {value!r}, wanted a group of fields")
            arguments[name] = from_dict(hint, value, path)  # type: ignore[arg-type]
        else:
            arguments[name] = _convert(hint, value, path)
    return cls(**arguments)


def _convert(hint: Any, value: Any, path: str) -> Any:
    if getattr(hint, "__origin__", None) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{path}: got {value!r}, wanted a list")
        return tuple(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is float and number:
        return float(value)
    if isinstance(value, hint) and (hint is not int or not isinstance(value, bool)):
        return value
    raise ConfigError(f"{path}: got {value!r}, wanted {hint.__name__}")
