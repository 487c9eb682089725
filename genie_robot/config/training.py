"""How a world model is trained: stages, data, hardware, and the whole run."""

from __future__ import annotations

from dataclasses import dataclass, field

from genie_robot.config.checks import at_least_zero, one_of, positive, require
from genie_robot.config.model import DYNAMICS_HORIZON, WorldModelConfig
from genie_robot.errors import ConfigError


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
        positive(
            self, "steps", "batch_size", "learning_rate", "validate_every", "checkpoint_every", "clip_norm"
        )
        positive(self, "keep_checkpoints")
        require(0 <= self.ema_decay < 1, "StageConfig.ema_decay", self.ema_decay, "0 to below 1")
        spike = self.spike_factor
        require(spike == 0 or spike > 1, "StageConfig.spike_factor", spike, "0 (off) or a number above 1")
        require(self.num_frames >= 2, "StageConfig.num_frames", self.num_frames, "2 or more")
        one_of(self, "optimizer", ("adamw", "muon"))
        require(0 <= self.decay_share <= 1, "StageConfig.decay_share", self.decay_share, "0 to 1")


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
        require(self.max_episodes >= 0, "DataConfig.max_episodes", self.max_episodes, "0 (all) or more")
        for name in ("label_share", "still_share", "max_bad_share"):
            require(0 <= getattr(self, name) <= 1, f"DataConfig.{name}", getattr(self, name), "0 to 1")
        for name in ("crop", "colour"):
            require(0 <= getattr(self, name) < 1, f"DataConfig.{name}", getattr(self, name), "0 to below 1")
        require(self.workers >= 0, "DataConfig.workers", self.workers, "0 (one per core) or more")
        both = bool(self.path and self.mixture)
        require(
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
        at_least_zero(self, "threads", "shard", "micro_batch_size", "peak_tflops")
        one_of(self, "recompute", ("none", "selective", "full"))
        require(
            self.device in ("auto", "cpu") or self.device.startswith("cuda"),
            "HardwareConfig.device",
            self.device,
            "auto, cpu, cuda or cuda:N",
        )
        one_of(self, "precision", ("auto", "fp32", "bf16"))


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
        one_of(self, "co_training", ("none", "parallel", "end_to_end"))

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
    init_from: str = ""  # model folder whose weights a new run begins with; empty: none
    seed: int = 0
    wandb: str = ""  # Weights & Biases project; empty: no
    data: DataConfig = field(default_factory=DataConfig)
    model: WorldModelConfig = field(default_factory=WorldModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)

    def __post_init__(self) -> None:
        one_of(self, "stage", (*STAGES, "all", "assemble"))
        if self.training.co_training == "end_to_end" and self.model.latent_action.label_weight:
            raise ConfigError(
                f"model.latent_action.label_weight: got {self.model.latent_action.label_weight}, wanted 0 with "
                "training.co_training=end_to_end (no loss of the latent action model is used there)"
            )
        least = DYNAMICS_HORIZON + 1
        require(
            self.training.dynamics.num_frames >= least,
            "training.dynamics.num_frames",
            self.training.dynamics.num_frames,
            f"{least} or more (validation imagines {DYNAMICS_HORIZON} frames after a prompt)",
        )
        for name in ("tokenizer", "dynamics"):
            frames = getattr(self.training, name).num_frames
            require(
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
        memory = self.model.dynamics.memory_share
        if memory and (self.training.co_training != "none" or self.data.tokens):
            raise ConfigError(
                f"model.dynamics.memory_share: got {memory} with training.co_training={self.training.co_training} and "
                f"data.tokens={self.data.tokens}, wanted co_training=none and data.tokens=false (clips with a gap are made "
                "when they are read, and no latent action leads over a gap)"
            )
        if self.training.co_training != "none" and self.data.tokens:
            raise ConfigError(
                f"data.tokens: got True, wanted False with training.co_training={self.training.co_training} "
                "(the latent action model needs the pictures)"
            )
