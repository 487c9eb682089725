"""MaskGIT dynamics: tokens of the past and a latent action -> tokens of the next frame (Genie, section 2.1).

Unshifted: the tokens of a frame are masked and predicted in place; the action that leads to a frame enters at the
frame it produces. Shapes: B batch, T frames, S = T - 1 steps, N tokens per frame, D width, V codebook, A actions,
K numbers of a continuous action.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import DynamicsConfig, LatentActionConfig
from genie_robot.models.action_embedding import ActionMap, CodeEmbedding, MixedEmbedding, VectorEmbedding
from genie_robot.models.masking import Generators, add_noise, draw_masks, two_stream_mask, uniform
from genie_robot.nn.cache import TemporalCache
from genie_robot.nn.level_tables import LevelEmbedding, LevelHead
from genie_robot.nn.st_transformer import STTransformer


class Dynamics(nn.Module):
    """Predicts masked tokens; token id V is the mask.

    Actions are int64 codes (...); or float vectors (...,K) when they are continuous; or, to train what made them,
    straight-through one-hots (..., num_codebooks * A); or, with `robot_action_dim`, rows of `MixedEmbedding`. "No action"
    (before the first frame of a window) is the code `total_actions`, NaN, or zeros; `without_action` and `produced_by`
    write it.
    """

    def __init__(
        self,
        config: DynamicsConfig,
        codebook_size: int,
        actions: LatentActionConfig,
        grid: tuple[int, int],
        max_frames: int,
        fsq_levels: tuple[int, ...] = (),
    ) -> None:
        """fsq_levels: of the tokenizer, for `config.share_levels`; empty when its tokens have none."""
        super().__init__()
        self.config, self.grid = config, grid
        self.mask_id = codebook_size
        dim = config.transformer.dim
        shares = bool(config.share_levels and fsq_levels)
        if shares:
            self.embed_token = LevelEmbedding(fsq_levels, dim)
        else:
            self.embed_token = nn.Embedding(codebook_size + 1, dim)
            nn.init.normal_(self.embed_token.weight, std=0.02)
        self.embed_action = _embedding(config, actions)
        self.action_map = ActionMap(config.robot_action_dim, grid, dim) if config.robot_action_dim else None
        self.transformer = STTransformer(
            config.transformer,
            grid,
            max_frames,
            extra_tokens=int(config.action_mode == "prepend"),
            conditioned=config.action_mode == "adaln",
        )
        self.head = LevelHead(fsq_levels, dim) if shares else nn.Linear(dim, codebook_size, bias=False)

    def _hidden(self, tokens_BTN: Tensor, actions_BT: Tensor, **options: Any) -> Tensor:
        """Tokens and actions through the transformer: (B,T,N,D)."""
        x_BTND, action_BTD = self.embed_token(tokens_BTN), self.embed_action(actions_BT)
        if isinstance(self.embed_action, MixedEmbedding) and actions_BT.is_floating_point():
            assert self.action_map is not None
            x_BTND = x_BTND + self.action_map(self.embed_action.standardised_robot(actions_BT))
        if self.config.action_mode == "adaln":
            return self.transformer(x_BTND, condition_BTD=action_BTD, **options)
        if self.config.action_mode == "prepend":
            return self.transformer(torch.cat([action_BTD[:, :, None], x_BTND], dim=2), **options)[:, :, 1:]
        return self.transformer(x_BTND + action_BTD[:, :, None], **options)

    def logits(
        self, tokens_BTN: Tensor, actions_BT: Tensor, cache: TemporalCache | None = None, commit: bool = False
    ) -> Tensor:
        """Logits (B,T,N,V). `actions_BT[:, t]` is the action that leads to frame t.

        With `cache`, the frames are those after the cached ones and `commit` says that they are finished.
        """
        return self.head(self._hidden(tokens_BTN, actions_BT, cache=cache, commit=commit))

    def remember(self, tokens_BTN: Tensor, actions_BT: Tensor, cache: TemporalCache) -> None:
        """Add finished frames to the cache."""
        self._hidden(tokens_BTN, actions_BT, cache=cache, commit=True)

    def without_action(self, actions: Tensor) -> Tensor:
        """Actions of the same shape and kind that all say "no action"."""
        return torch.full_like(actions, self.embed_action.none(actions))

    def after_gap(self, actions: Tensor) -> Tensor:
        """What is known of actions whose frame does not follow the one before it: a robot's own, and no latent one."""
        if not (isinstance(self.embed_action, MixedEmbedding) and actions.is_floating_point()):
            return self.without_action(actions)
        actions = actions.clone()
        actions[..., : -self.embed_action.widths[2]] = float("nan")
        return actions

    def produced_by(self, actions_BS: Tensor) -> Tensor:
        """Actions of a clip's S = T - 1 steps, moved to the frames that they produce: (B,S,...) -> (B,T,...)."""
        first = actions_BS.new_empty((len(actions_BS), 1, *actions_BS.shape[2:]))
        return torch.cat([self.without_action(first), actions_BS], dim=1)

    def forward(
        self,
        tokens_BTN: Tensor,
        actions_BS: Tensor,
        generators: Generators = None,
        gaps_B: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Training pass: `loss` of masked tokens, `weight`, `accuracy`, `changed_accuracy` (tokens that differ from the last frame).

        `generators`: one on the CPU for each clip, the source of its masks and noise; without them torch's own.
        `gaps_B`: frames left out after the first one of each clip; a frame after a gap is shown and not asked for, else the
        model would learn that things go away from one frame to the next.
        The loss is a weighted mean and `weight` the sum of its weights, so that parts of a batch combine exactly to
        the whole one: sum(loss * weight) / sum(weight).
        """
        target = tokens_BTN[:, 1:]
        masked = draw_masks(self.config, target.shape, generators, target.device)
        if gaps_B is not None:
            masked[:, 0] &= (gaps_B == 0)[:, None]
        noisy = add_noise(tokens_BTN, self.config.token_noise, self.mask_id, generators)
        actions_BT = self.produced_by(actions_BS)
        if self.config.own_history and self.training:
            noisy = self._with_own_history(noisy, tokens_BTN, actions_BT, generators, gaps_B)
        if self.config.history == "clean":
            current = target.masked_fill(masked, self.mask_id)
            logits_BSNV = self.two_stream_logits(noisy[:, :-1], current, actions_BT)
        else:
            current = noisy[:, 1:].masked_fill(masked, self.mask_id)
            x_BTND = self._hidden(torch.cat([noisy[:, :1], current], dim=1), actions_BT)
            logits_BSNV = self.head(x_BTND[:, 1:])
        return self._loss(logits_BSNV.float(), target, masked, target != tokens_BTN[:, :-1])

    @torch.no_grad()
    def _with_own_history(
        self,
        noisy_BTN: Tensor,
        tokens_BTN: Tensor,
        actions_BT: Tensor,
        generators: Generators,
        gaps_B: Tensor | None = None,
    ) -> Tensor:
        """`noisy` with frames 1..T-1 of some clips replaced by the model's likeliest guess of each from true frames.

        So it learns to go on from its own mistakes, which is what it does when it imagines many frames in a row. A frame
        after a gap stays as it is: what could be guessed of it is no mistake of the kind that imagination makes.
        """
        chosen_B = (
            uniform((len(tokens_BTN), 1), generators, tokens_BTN.device)[:, 0] < self.config.own_history
        )
        # One clip goes through where none was chosen: processes that share out the weights must all make the same passes.
        shown_B = chosen_B if chosen_B.any() else torch.arange(len(chosen_B), device=chosen_B.device) == 0
        clips_BTN = tokens_BTN[shown_B]
        hidden = torch.full_like(clips_BTN[:, 1:], self.mask_id)
        guess = self.two_stream_logits(clips_BTN[:, :-1], hidden, actions_BT[shown_B]).argmax(-1)
        result = noisy_BTN.clone()
        result[shown_B] = torch.cat([clips_BTN[:, :1], guess], dim=1)
        result[~chosen_B] = noisy_BTN[~chosen_B]
        if gaps_B is not None:
            after_gap_B = gaps_B > 0
            result[after_gap_B, 1] = noisy_BTN[after_gap_B, 1]
        return result

    def two_stream_logits(self, history_BSN: Tensor, current_BSN: Tensor, actions_BT: Tensor) -> Tensor:
        """Logits (B,S,N,V) of `current`, partly masked copies of frames 1..T-1, each after the finished `history`.

        Finished frames 0..T-2 and the copies go through in one pass. A copy attends to the finished frames before it
        and to itself, which is exactly what the cached sampler does, so each clip trains T-1 generation problems
        with clean history instead of one.
        """
        steps = history_BSN.shape[1]
        index = torch.arange(steps, device=history_BSN.device)
        x_BTND = self._hidden(
            torch.cat([history_BSN, current_BSN], dim=1),
            torch.cat([actions_BT[:, :-1], actions_BT[:, 1:]], dim=1),
            frame_index_T=torch.cat([index, index + 1]),
            mask_TS=two_stream_mask(steps, history_BSN.device),
        )
        return self.head(x_BTND[:, steps:])

    def _loss(
        self, logits_BSNV: Tensor, target_BSN: Tensor, masked_BSN: Tensor, changed_BSN: Tensor
    ) -> dict[str, Tensor]:
        # All tokens, weight 0 where nothing was masked: a shape that never varies. Picking the masked ones
        # first would make oneDNN keep a kernel for each count, gigabytes over a run.
        weights_BSN = torch.where(changed_BSN, self.config.changed_token_weight, 1.0) * masked_BSN
        # Codes last, in one row for each token: torch takes a softmax over any other dimension several times as slowly.
        rows_V, wanted = logits_BSNV.flatten(0, 2), target_BSN.flatten()
        loss_BSN = F.cross_entropy(rows_V, wanted, reduction="none").view_as(target_BSN)
        right_BSN = (logits_BSNV.argmax(-1) == target_BSN) & masked_BSN
        changed_BSN = changed_BSN & masked_BSN
        weight = weights_BSN.sum()
        return {
            "loss": (loss_BSN * weights_BSN).sum() / weight.clamp_min(1e-6),  # 0 where nothing was masked
            "weight": weight,
            "accuracy": right_BSN.sum() / masked_BSN.sum().clamp_min(1),
            "changed_accuracy": (right_BSN & changed_BSN).sum() / changed_BSN.sum().clamp_min(1),
        }

    def pass_flops(self, frames: int, past: int = 0) -> int:
        """Multiply-adds times 2 of the logits of `frames` new frames after `past` cached ones, for one clip.

        Attention included; norms, activations and lookups left out.
        """
        return (
            self.transformer.flops(frames, past)
            + frames * (self.embed_action.flops() + (self.action_map.flops() if self.action_map else 0))
            + self._head_flops(frames)
        )

    def training_flops(self, frames: int) -> int:
        """Forward and backward pass of one clip of `frames` frames (backward: twice the forward pass)."""
        if self.config.history == "masked":
            return 3 * (self.pass_flops(frames) - self._head_flops(1))
        return 3 * (self.pass_flops(2 * (frames - 1)) - self._head_flops(frames - 1))

    def _head_flops(self, frames: int) -> int:
        return 2 * frames * self.grid[0] * self.grid[1] * self.head.weight.numel()

    def cache_bytes_per_frame(self, bytes_per_number: int) -> int:
        """Keys and values that one finished frame of one clip adds to the cache."""
        stack = self.config.transformer
        if stack.attention == "space":
            return 0  # no layer looks back
        tokens = self.grid[0] * self.grid[1] + int(self.config.action_mode == "prepend")
        return 2 * stack.num_layers * tokens * stack.dim * bytes_per_number


def _embedding(
    config: DynamicsConfig, actions: LatentActionConfig
) -> CodeEmbedding | VectorEmbedding | MixedEmbedding:
    dim = config.transformer.dim
    codes = 0 if actions.is_continuous else actions.num_actions
    if config.robot_action_dim:
        return MixedEmbedding(codes, actions.num_codebooks, actions.code_dim, config.robot_action_dim, dim)
    if actions.is_continuous:
        return VectorEmbedding(actions.code_dim, dim)
    return CodeEmbedding(codes, actions.num_codebooks, dim)
