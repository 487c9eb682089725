"""MaskGIT dynamics: tokens of the past and a latent action -> tokens of the next frame (Genie, section 2.1).

Unshifted: the tokens of a frame are masked and predicted in place; the action that leads to a frame is added
to the frame it produces. Shapes: B batch, T frames, N tokens per frame, D width, V codebook, A actions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genie_robot.config import DynamicsConfig
from genie_robot.nn.cache import TemporalCache
from genie_robot.nn.st_transformer import STTransformer


class Dynamics(nn.Module):
    """Predicts masked tokens. Token id V is the mask, action id A is "none" (the first frame of a window)."""

    def __init__(
        self,
        config: DynamicsConfig,
        codebook_size: int,
        num_actions: int,
        grid: tuple[int, int],
        max_frames: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.mask_id, self.no_action = codebook_size, num_actions
        dim = config.transformer.dim
        self.embed_token = nn.Embedding(codebook_size + 1, dim)
        self.embed_action = nn.Embedding(num_actions + 1, dim)
        self.transformer = STTransformer(config.transformer, grid, max_frames)
        self.head = nn.Linear(dim, codebook_size, bias=False)
        for table in (self.embed_token, self.embed_action):
            nn.init.normal_(table.weight, std=0.02)

    def _embed(self, tokens_BTN: Tensor, actions_BT: Tensor) -> Tensor:
        return self.embed_token(tokens_BTN) + self.embed_action(actions_BT)[:, :, None]

    def logits(
        self, tokens_BTN: Tensor, actions_BT: Tensor, cache: TemporalCache | None = None, commit: bool = False
    ) -> Tensor:
        """Logits (B,T,N,V). `actions_BT[:, t]` is the action that leads to frame t.

        With `cache`, the frames are those after the cached ones and `commit` says that they are finished.
        """
        x_BTND = self.transformer(self._embed(tokens_BTN, actions_BT), cache=cache, commit=commit)
        return self.head(x_BTND)

    def remember(self, tokens_BTN: Tensor, actions_BT: Tensor, cache: TemporalCache) -> None:
        """Add finished frames to the cache."""
        self.transformer(self._embed(tokens_BTN, actions_BT), cache=cache, commit=True)

    def produced_by(self, actions_BS: Tensor) -> Tensor:
        """Actions of a clip's S = T - 1 steps, moved to the frames that they produce: (B,S) -> (B,T)."""
        return F.pad(actions_BS, (1, 0), value=self.no_action)

    def forward(
        self, tokens_BTN: Tensor, actions_BS: Tensor, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Training pass: masked-token `loss`, `accuracy` and `changed_accuracy` (tokens that differ from the last frame).

        Each clip is fed twice in one pass: its finished frames, and masked copies of frames 1..T-1. A masked
        frame attends to the finished frames before it and to itself, which is exactly what the cached sampler
        does, so each clip trains T-1 generation problems with clean history instead of one.
        """
        frames = tokens_BTN.shape[1]
        history, target = tokens_BTN[:, :-1], tokens_BTN[:, 1:]
        masked = self._masked(target, generator)
        actions_BT = self.produced_by(actions_BS)
        inputs = torch.cat([self._noisy(history, generator), target.masked_fill(masked, self.mask_id)], dim=1)
        actions = torch.cat([actions_BT[:, :-1], actions_BT[:, 1:]], dim=1)
        index = torch.arange(frames - 1, device=tokens_BTN.device)
        x_BTND = self.transformer(
            self._embed(inputs, actions),
            frame_index_T=torch.cat([index, index + 1]),
            mask_TS=two_stream_mask(frames - 1, tokens_BTN.device),
        )
        logits_BSNV = self.head(x_BTND[:, frames - 1 :]).float()
        return self._loss(logits_BSNV, target, masked, target != history)

    def _loss(
        self, logits_BSNV: Tensor, target_BSN: Tensor, masked_BSN: Tensor, changed_BSN: Tensor
    ) -> dict[str, Tensor]:
        # All tokens, weight 0 where nothing was masked: a shape that never varies. Picking the masked ones
        # first would make oneDNN keep a kernel for each count, gigabytes over a run.
        weights_BSN = torch.where(changed_BSN, self.config.changed_token_weight, 1.0) * masked_BSN
        loss_BSN = F.cross_entropy(logits_BSNV.movedim(-1, 1), target_BSN, reduction="none")
        right_BSN = (logits_BSNV.argmax(-1) == target_BSN) & masked_BSN
        changed_BSN = changed_BSN & masked_BSN
        return {
            "loss": (loss_BSN * weights_BSN).sum() / weights_BSN.sum().clamp_min(1),
            "accuracy": right_BSN.sum() / masked_BSN.sum().clamp_min(1),
            "changed_accuracy": (right_BSN & changed_BSN).sum() / changed_BSN.sum().clamp_min(1),
        }

    def _masked(self, target_BSN: Tensor, generator: torch.Generator | None) -> Tensor:
        """Boolean (B,S,N): a rate per frame from the cosine schedule, some frames wholly masked."""
        device = target_BSN.device
        rate = torch.cos(torch.rand(target_BSN.shape[:2], generator=generator, device=device) * math.pi / 2)
        full = torch.rand(rate.shape, generator=generator, device=device) < self.config.full_mask_probability
        rate = torch.where(full, 1.0, rate)
        return torch.rand(target_BSN.shape, generator=generator, device=device) < rate[..., None]

    def _noisy(self, tokens_BSN: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.config.token_noise:
            return tokens_BSN
        device = tokens_BSN.device
        # The share differs from clip to clip, from none to twice the mean, so that clean history is in training.
        share = (
            torch.rand(len(tokens_BSN), 1, 1, generator=generator, device=device)
            * 2
            * self.config.token_noise
        )
        replace = torch.rand(tokens_BSN.shape, generator=generator, device=device) < share
        random = torch.randint(self.mask_id, tokens_BSN.shape, generator=generator, device=device)
        return torch.where(replace, random, tokens_BSN)


def two_stream_mask(steps: int, device: torch.device) -> Tensor:
    """Attention mask (2S, 2S) of finished frames 0..S-1 followed by masked copies of frames 1..S; True = may attend."""
    causal = torch.ones(steps, steps, dtype=torch.bool, device=device).tril()
    own = torch.eye(steps, dtype=torch.bool, device=device)
    return torch.cat([torch.cat([causal, torch.zeros_like(own)], 1), torch.cat([causal, own], 1)], 0)
