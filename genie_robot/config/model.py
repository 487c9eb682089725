"""What a world model is: its three networks, the video they work on, and how frames are sampled."""

from __future__ import annotations

from dataclasses import dataclass, field

from genie_robot.config.checks import at_least_zero, one_of, positive, require

# How frames are sampled unless told otherwise. Measured on held-out validation episodes of weights/tabletop-tiny:
# 8 passes are as good as 16, and PSNR falls as the temperature rises (benchmarks/sampling.py).
MASKGIT_STEPS = 8
TEMPERATURE = 0.3
DYNAMICS_HORIZON = 4  # the t of the paper's controllability metric (Genie, section 3.1)


@dataclass(frozen=True)
class VideoConfig:
    """What one clip is: size in pixels, frames in a window, frames a second."""

    height: int = 64
    width: int = 64
    num_frames: int = 16
    rate_hz: float = 5.0

    def __post_init__(self) -> None:
        positive(self, "height", "width", "rate_hz")
        require(self.num_frames >= 2, "VideoConfig.num_frames", self.num_frames, "2 or more")


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
        positive(self, "num_layers", "dim", "num_heads", "ffn_ratio")
        one_of(self, "attention", ("space_time", "space", "full"))
        require(
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
        positive(self, "patch_size", "codebook_size", "code_dim", "conv_channels", "conv_blocks")
        positive(self, "discriminator_channels")
        at_least_zero(self, "commitment_weight", "change_weight", "entropy_weight")
        at_least_zero(self, "perceptual_weight", "adversarial_weight")
        one_of(self, "encoder", ("st_transformer", "patch_mlp", "causal_conv"))
        one_of(self, "decoder", ("st_transformer", "causal_conv"))
        one_of(self, "decoder_head", ("linear", "conv"))
        one_of(self, "quantizer", ("vq", "fsq", "lfq"))
        if self.quantizer == "lfq":
            require(
                self.codebook_size & (self.codebook_size - 1) == 0 and self.codebook_size > 1,
                "TokenizerConfig.codebook_size",
                self.codebook_size,
                "a power of two for quantizer=lfq (one bit a code dimension)",
            )
        if self.quantizer == "fsq":
            size = 1
            for level in self.fsq_levels:
                size *= level
            require(
                size == self.codebook_size,
                "TokenizerConfig.fsq_levels",
                self.fsq_levels,
                f"levels whose product is codebook_size ({self.codebook_size})",
            )
        if self.decoder_head == "conv" or "causal_conv" in (self.encoder, self.decoder):
            require(
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
        positive(self, "num_actions", "code_dim", "patch_size", "conv_channels", "num_codebooks", "label_dim")
        at_least_zero(self, "commitment_weight", "change_weight", "kl_weight", "reset_share")
        at_least_zero(self, "variance_weight", "label_weight")
        one_of(self, "encoder", ("st_transformer", "conv"))
        one_of(self, "input", ("pixels", "tokens"))
        one_of(self, "quantizer", ("vq", "rvq", "gaussian"))
        one_of(self, "decoder_history", ("all", "first"))
        name = "LatentActionConfig.num_codebooks"
        if self.quantizer == "rvq":
            require(2 <= self.num_codebooks <= 4, name, self.num_codebooks, "2 to 4 for quantizer=rvq")
        else:
            require(self.num_codebooks == 1, name, self.num_codebooks, "1 (more needs quantizer=rvq)")

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
    memory_share: float = (
        0.0  # share of clips whose first frame is an earlier one of the film; above 0 the sampler keeps it
    )
    # Numbers of a robot action that the dynamics takes beside latent ones; 0: latent ones alone; 7: the action; 12: the action
    # and the gripper pose that it commands (simulated data). A training clip is then led by the robot's action, by the
    # vector before the quantizer, by nothing, or by the codes of 1 to all codebooks
    robot_action_dim: int = 0
    robot_share: float = 0.5
    vector_share: float = 0.1
    no_action_share: float = 0.05

    def __post_init__(self) -> None:
        at_least_zero(self, "robot_action_dim")
        shares = self.robot_share + self.vector_share + self.no_action_share
        require(
            shares <= 1, "DynamicsConfig: robot_share + vector_share + no_action_share", shares, "at most 1"
        )
        require(
            not self.own_history or self.history == "clean",
            "DynamicsConfig.own_history",
            self.own_history,
            "0 with history=masked",
        )
        one_of(self, "action_mode", ("add", "prepend", "adaln"))
        one_of(self, "history", ("clean", "masked"))
        one_of(self, "mask_schedule", ("cosine", "uniform"))
        one_of(self, "mask_rate_per", ("frame", "sample", "batch"))
        shares_of_clips = (
            "clean_share",
            "own_history",
            "memory_share",
            "robot_share",
            "vector_share",
            "no_action_share",
        )
        for name in ("full_mask_probability", "token_noise", *shares_of_clips):
            value = getattr(self, name)
            require(0 <= value <= 1, f"DynamicsConfig.{name}", value, "a share between 0 and 1")
        positive(self, "changed_token_weight")


@dataclass(frozen=True)
class WorldModelConfig:
    """The three networks of a world model and the video they work on."""

    name: str = "unnamed"
    video: VideoConfig = field(default_factory=VideoConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    latent_action: LatentActionConfig = field(default_factory=LatentActionConfig)
    dynamics: DynamicsConfig = field(default_factory=DynamicsConfig)

    def __post_init__(self) -> None:
        require(
            not (self.dynamics.robot_action_dim and self.latent_action.is_continuous),
            "dynamics.robot_action_dim",
            self.dynamics.robot_action_dim,
            f"0 with latent_action.quantizer={self.latent_action.quantizer}: robot actions stand beside codes (vq or rvq)",
        )
        require(
            self.video.num_frames >= 3 or not self.dynamics.memory_share,
            "dynamics.memory_share",
            self.dynamics.memory_share,
            "0 with video.num_frames below 3, where a window has no room for a remembered frame",
        )
        patches = [("tokenizer", self.tokenizer.patch_size)]
        if self.latent_action.encoder == "st_transformer" and self.latent_action.input == "pixels":
            patches.append(("latent_action", self.latent_action.patch_size))
        for name, patch in patches:
            for side in ("height", "width"):
                pixels = getattr(self.video, side)
                low = pixels // patch * patch
                near = f"{low} or {low + patch}" if low else str(patch)
                require(
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
        require(self.steps >= 1, "maskgit_steps", self.steps, "1 or more")
        for name in ("temperature", "choice_temperature"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        one_of(self, "order", ("random", "confidence", "halton"))
        one_of(self, "schedule", ("cosine", "arccos"))
