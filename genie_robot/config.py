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


def _at_least_zero(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        _require(value >= 0, f"{type(config).__name__}.{name}", value, "0 or more")


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
    # "space_time": within a frame, then through time (ST-ViViT); "space": frames alone (ViT);
    # "full": every token sees all tokens of its own and earlier frames (C-ViViT)
    attention: str = "space_time"

    def __post_init__(self) -> None:
        _positive(self, "num_layers", "dim", "num_heads", "ffn_ratio")
        _one_of(self, "attention", ("space_time", "space", "full"))
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
    # "st_transformer": ST-ViViT, ViT or C-ViViT, by encoder_transformer.attention; "patch_mlp": a patch sees only
    # itself, so far tokens never flicker; "causal_conv": 3-D convolutions that look back only (MAGVIT-2)
    encoder: str = "st_transformer"
    encoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoder_head: str = "linear"  # or "conv": a convolutional upsampler that hides the patch borders
    quantizer: str = "vq"  # or "fsq", "lfq"
    codebook_size: int = 1024
    code_dim: int = 32
    fsq_levels: tuple[int, ...] = ()
    commitment_weight: float = 0.25
    change_weight: float = 0.0  # extra loss weight of pixels that change between frames
    decoder: str = "st_transformer"  # or "causal_conv"
    conv_channels: int = 64  # of causal_conv at full resolution; doubled at each halving, up to 4x
    conv_blocks: int = 2  # residual blocks of causal_conv at each resolution
    entropy_weight: float = 0.1  # of lfq: sure about each token, even over all of them
    perceptual_weight: float = 0.0
    perceptual_network: str = "efficientnet_lite0"  # or a TorchScript file that maps frames to feature maps
    adversarial_weight: float = 0.0  # of a discriminator that judges frames
    discriminator_channels: int = 32

    def __post_init__(self) -> None:
        _positive(self, "patch_size", "codebook_size", "code_dim", "conv_channels", "conv_blocks")
        _positive(self, "discriminator_channels")
        _at_least_zero(self, "commitment_weight", "change_weight", "entropy_weight")
        _at_least_zero(self, "perceptual_weight", "adversarial_weight")
        _one_of(self, "encoder", ("st_transformer", "patch_mlp", "causal_conv"))
        _one_of(self, "decoder", ("st_transformer", "causal_conv"))
        _one_of(self, "decoder_head", ("linear", "conv"))
        _one_of(self, "quantizer", ("vq", "fsq", "lfq"))
        if self.quantizer == "lfq":
            _require(
                self.codebook_size & (self.codebook_size - 1) == 0 and self.codebook_size > 1,
                "TokenizerConfig.codebook_size",
                self.codebook_size,
                "a power of two for quantizer=lfq (one bit a code dimension)",
            )
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
        if self.decoder_head == "conv" or "causal_conv" in (self.encoder, self.decoder):
            _require(
                self.patch_size & (self.patch_size - 1) == 0,
                "TokenizerConfig.patch_size",
                self.patch_size,
                "a power of two for decoder_head=conv and for causal_conv",
            )


@dataclass(frozen=True)
class LatentActionConfig:
    """Latent action model: frames t and t+1 -> one of a few codes (Genie, section 2.1 and Table 5)."""

    num_actions: int = 8  # codes of one codebook
    code_dim: int = 32
    encoder: str = "st_transformer"  # or "conv": pairs of frames, the choice that learns on two cores
    patch_size: int = 16
    encoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    decoder_transformer: TransformerConfig = field(default_factory=TransformerConfig)
    conv_channels: int = 32
    commitment_weight: float = 0.25
    change_weight: float = 0.0  # extra loss weight of pixels that change between frames
    input: str = "pixels"  # or "tokens" of the frozen tokenizer (the paper's ablation, Table 2)
    # "vq"; "rvq": num_codebooks codes a step, each on what the ones before left; "gaussian": continuous
    quantizer: str = "vq"
    num_codebooks: int = 1  # rvq: 2 or 3 give 64 or 512 actions of 8 codes each
    kl_weight: float = 2e-4  # of gaussian (the beta of AdaWorld, arXiv 2503.18938)
    reset_share: float = 0.5  # a code used less than this share of a uniform one is moved onto data; 0: never
    decoder_history: str = "all"  # or "first": the decoder sees the first frame alone (TinyWorlds)
    variance_weight: float = 0.0  # hinge that keeps the encoder's outputs apart (TinyWorlds)
    label_weight: float = 0.0  # auxiliary head that predicts the robot action of labelled steps
    label_dim: int = 7

    def __post_init__(self) -> None:
        _positive(
            self, "num_actions", "code_dim", "patch_size", "conv_channels", "num_codebooks", "label_dim"
        )
        _at_least_zero(self, "commitment_weight", "change_weight", "kl_weight", "reset_share")
        _at_least_zero(self, "variance_weight", "label_weight")
        _one_of(self, "encoder", ("st_transformer", "conv"))
        _one_of(self, "input", ("pixels", "tokens"))
        _one_of(self, "quantizer", ("vq", "rvq", "gaussian"))
        _one_of(self, "decoder_history", ("all", "first"))
        name = "LatentActionConfig.num_codebooks"
        if self.quantizer == "rvq":
            _require(2 <= self.num_codebooks <= 4, name, self.num_codebooks, "2 to 4 for quantizer=rvq")
        else:
            _require(self.num_codebooks == 1, name, self.num_codebooks, "1 (more needs quantizer=rvq)")

    @property
    def is_continuous(self) -> bool:
        """True when an action is a vector of `code_dim` numbers, not a code."""
        return self.quantizer == "gaussian"

    @property
    def total_actions(self) -> int:
        """Different actions that codes can name; 0 when actions are continuous."""
        return 0 if self.is_continuous else self.num_actions**self.num_codebooks


@dataclass(frozen=True)
class DynamicsConfig:
    """MaskGIT dynamics on tokens and latent actions (Genie, section 2.1 and Tables 9-12)."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    full_mask_probability: float = 0.3  # share of training frames that start from nothing, as generation does
    changed_token_weight: float = 1.0  # loss weight of tokens that differ from the frame before
    token_noise: float = 0.0  # share of history tokens replaced at random: robustness against own mistakes
    share_levels: bool = (
        False  # tokens with FSQ levels in common share part of embedding and logit; without FSQ: none do
    )
    # How the action enters: "add" to each token (the paper), "prepend" as one more token of the frame (Jasmine),
    # "adaln": scale and shift of every norm
    action_mode: str = "add"
    # "clean": each clip passes as finished frames and as masked copies, which is what the sampler does;
    # "masked": frames are masked in place and later ones see the holes (the paper), half the compute a clip
    history: str = "clean"
    mask_schedule: str = "cosine"  # rates cos(u pi/2); or "uniform": between 0.5 and 1 (the paper)
    mask_rate_per: str = "frame"  # what shares one rate; or "sample", "batch" (the clips that pass at once)
    clean_share: float = 0.0  # history=masked: share of clips that hide only frames after a random one
    own_history: float = (
        0.0  # history=clean: share of clips that go on from the model's own guess of their past
    )
    # Numbers of a robot action that the dynamics takes beside latent ones; 0: latent ones alone. A training clip is then
    # led by the robot's action, by the vector before the quantizer, by nothing, or by the codes of 1 to all codebooks
    robot_action_dim: int = 0
    robot_share: float = 0.5
    vector_share: float = 0.1
    no_action_share: float = 0.05

    def __post_init__(self) -> None:
        _at_least_zero(self, "robot_action_dim")
        shares = self.robot_share + self.vector_share + self.no_action_share
        _require(
            shares <= 1, "DynamicsConfig: robot_share + vector_share + no_action_share", shares, "at most 1"
        )
        _require(
            not self.own_history or self.history == "clean",
            "DynamicsConfig.own_history",
            self.own_history,
            "0 with history=masked",
        )
        _one_of(self, "action_mode", ("add", "prepend", "adaln"))
        _one_of(self, "history", ("clean", "masked"))
        _one_of(self, "mask_schedule", ("cosine", "uniform"))
        _one_of(self, "mask_rate_per", ("frame", "sample", "batch"))
        shares_of_clips = ("clean_share", "own_history", "robot_share", "vector_share", "no_action_share")
        for name in ("full_mask_probability", "token_noise", *shares_of_clips):
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
        _require(
            not (self.dynamics.robot_action_dim and self.latent_action.is_continuous),
            "dynamics.robot_action_dim",
            self.dynamics.robot_action_dim,
            f"0 with latent_action.quantizer={self.latent_action.quantizer}: robot actions stand beside codes (vq or rvq)",
        )
        patches = [("tokenizer", self.tokenizer.patch_size)]
        if self.latent_action.encoder == "st_transformer" and self.latent_action.input == "pixels":
            patches.append(("latent_action", self.latent_action.patch_size))
        for name, patch in patches:
            for side in ("height", "width"):
                pixels = getattr(self.video, side)
                low = pixels // patch * patch
                near = f"{low} or {low + patch}" if low else str(patch)
                _require(
                    pixels % patch == 0,
                    f"video.{side}",
                    pixels,
                    f"a multiple of {name}.patch_size ({patch}), like {near}; frames of any size are resized to it",
                )

    @property
    def tokens_per_frame(self) -> int:
        """N, the tokens of one frame."""
        patch = self.tokenizer.patch_size
        return (self.video.height // patch) * (self.video.width // patch)


@dataclass(frozen=True)
class SamplingConfig:
    """How the tokens of one imagined frame are drawn (Genie, section 2.2; MaskGIT, arXiv 2202.04200)."""

    steps: int = MASKGIT_STEPS  # passes a frame
    temperature: float = TEMPERATURE  # of the tokens; 0 takes the likeliest
    order: str = "random"  # or "confidence", "halton" (spread evenly over the frame, arXiv 2503.17076)
    schedule: str = "cosine"  # or "arccos": how many tokens each pass reveals
    choice_temperature: float = 1.0  # confidence order: Gumbel noise on the confidence, falling to 0

    def __post_init__(self) -> None:
        _require(self.steps >= 1, "maskgit_steps", self.steps, "1 or more")
        for name in ("temperature", "choice_temperature"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _one_of(self, "order", ("random", "confidence", "halton"))
        _one_of(self, "schedule", ("cosine", "arccos"))


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
    keep_checkpoints: int = 2  # newest ones that stay on disk
    ema_decay: float = 0.0  # of averaged weights, which validation and the model folder then use; 0: none
    spike_factor: float = 20.0  # a loss above this multiple of the recent median stops the run; 0: never

    def __post_init__(self) -> None:
        _positive(
            self, "steps", "batch_size", "learning_rate", "validate_every", "checkpoint_every", "clip_norm"
        )
        _positive(self, "keep_checkpoints")
        _require(0 <= self.ema_decay < 1, "StageConfig.ema_decay", self.ema_decay, "0 to below 1")
        spike = self.spike_factor
        _require(spike == 0 or spike > 1, "StageConfig.spike_factor", spike, "0 (off) or a number above 1")
        _require(self.num_frames >= 2, "StageConfig.num_frames", self.num_frames, "2 or more")
        _one_of(self, "optimizer", ("adamw", "muon"))
        _require(0 <= self.decay_share <= 1, "StageConfig.decay_share", self.decay_share, "0 to 1")


@dataclass(frozen=True)
class DataConfig:
    """Where episodes come from, and what is done to them before a model sees them."""

    path: str = (
        ""  # RLDS folder or one above it, rosbag2 or LeRobot folder, registered name, gs://..., tfds:NAME
    )
    mixture: str = ""  # instead of a path: name of a mixture (genie-robot data list) or a YAML file
    root: str = (
        ""  # where registered names lie; empty: $GENIE_ROBOT_DATA, $TFDS_DATA_DIR, ~/tensorflow_datasets
    )
    cache: str = ""  # folder of the uint8 clip cache; empty: <output>/cache
    image_key: str = ""  # empty: chosen from the dataset's features
    max_episodes: int = 0  # of each dataset; 0: all
    max_bad_share: float = 0.01  # records that cannot be read are left out, up to this share of a dataset
    still_share: float = 1.0  # share of the windows in which nothing moves that is kept
    crop: float = 0.0  # random crop of whole clips: largest share of each side that is cut away
    colour: float = 0.0  # random brightness, contrast and saturation of whole clips: largest change
    workers: int = 0  # threads that decode and fill batches; 0: one per core
    validation_split: str = ""  # empty: the dataset's own, else every 20th episode
    tokens: bool = False  # dynamics: encode all clips once into a token cache and train from it
    label_share: float = (
        0.0  # share of episodes whose robot actions are read, for label_weight or robot_action_dim
    )

    def __post_init__(self) -> None:
        _require(self.max_episodes >= 0, "DataConfig.max_episodes", self.max_episodes, "0 (all) or more")
        for name in ("label_share", "still_share", "max_bad_share"):
            _require(0 <= getattr(self, name) <= 1, f"DataConfig.{name}", getattr(self, name), "0 to 1")
        for name in ("crop", "colour"):
            _require(0 <= getattr(self, name) < 1, f"DataConfig.{name}", getattr(self, name), "0 to below 1")
        _require(self.workers >= 0, "DataConfig.workers", self.workers, "0 (one per core) or more")
        both = bool(self.path and self.mixture)
        _require(
            not both,
            "data.mixture",
            self.mixture,
            f"nothing beside data.path={self.path}: give one of the two",
        )


@dataclass(frozen=True)
class HardwareConfig:
    """What the work runs on."""

    device: str = "auto"  # "cpu", "cuda", or "auto"
    precision: str = "auto"  # "bf16" where the processor multiplies it natively, else "fp32"
    threads: int = 0  # 0: torch's own choice
    compile: bool = False
    shard: int = 0  # processes that share one copy of the weights (FSDP2); 0: all of them, 1: none (DDP)
    # activations computed again in the backward pass: "none", "selective" (all but matrix products), "full"
    recompute: str = "none"
    micro_batch_size: int = 0  # clips that one process takes at once; 0: its whole share of the batch
    float8: bool = False  # matrix products of the blocks in float8 (torchao, Hopper GPUs and later)
    peak_tflops: float = 0.0  # of one device, for MFU; 0: looked up, else measured

    def __post_init__(self) -> None:
        _at_least_zero(self, "threads", "shard", "micro_batch_size", "peak_tflops")
        _one_of(self, "recompute", ("none", "selective", "full"))
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
    # "none": the latent action model is trained first and frozen; "parallel": beside the dynamics, each on its own
    # loss (the paper); "end_to_end": the dynamics' loss also reaches the action encoder (Jasmine)
    co_training: str = "none"

    def __post_init__(self) -> None:
        _one_of(self, "co_training", ("none", "parallel", "end_to_end"))

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages of stage=all, in order."""
        return STAGES if self.co_training == "none" else ("tokenizer", "dynamics")


STAGES = ("tokenizer", "latent_action", "dynamics")


@dataclass(frozen=True)
class TrainConfig:
    """Everything `train.py` needs."""

    stage: str = (
        "all"  # or one of STAGES, or "assemble": only bundle the newest checkpoints as a model folder
    )
    output: str = "outputs/train"
    seed: int = 0
    wandb: str = ""  # Weights & Biases project; empty: no
    data: DataConfig = field(default_factory=DataConfig)
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def __post_init__(self) -> None:
        _one_of(self, "stage", (*STAGES, "all", "assemble"))
        if self.training.co_training == "end_to_end" and self.model.latent_action.label_weight:
            raise ConfigError(
                f"model.latent_action.label_weight: got {self.model.latent_action.label_weight}, wanted 0 with "
                "training.co_training=end_to_end (no loss of the latent action model is used there)"
            )
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
        weight, width = self.model.latent_action.label_weight, self.model.dynamics.robot_action_dim
        if (self.data.label_share > 0) != (weight > 0 or width > 0):
            raise ConfigError(
                f"data.label_share: got {self.data.label_share} with model.latent_action.label_weight {weight} and "
                f"model.dynamics.robot_action_dim {width}, wanted it above 0 with one of these above 0 (use labels), "
                "or all 0 (none)"
            )
        if width and (self.training.co_training != "none" or self.data.tokens):
            raise ConfigError(
                f"model.dynamics.robot_action_dim: got {width} with training.co_training={self.training.co_training} "
                f"and data.tokens={self.data.tokens}, wanted co_training=none and data.tokens=false (labels are read "
                "with the pictures, the latent actions are finished before)"
            )
        if self.training.co_training != "none" and self.data.tokens:
            raise ConfigError(
                f"data.tokens: got True, wanted False with training.co_training={self.training.co_training} "
                "(the latent action model needs the pictures)"
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
