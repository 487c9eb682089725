"""What the dynamics knows of the past while it refines a frame: cached, or run again in full.

Both give the same logits (tested); `CachedContext` is the one to use, `RecomputedContext` is the yardstick
that every other Genie implementation pays for. Shapes: B batch, T frames, N tokens per frame, V codebook; actions
are codes, or vectors with one axis more.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genie_robot.models.dynamics import Dynamics


class CachedContext:
    """Finished frames live in the temporal cache; a pass runs the new frame alone.

    When the window is full, the older half is dropped and the rest is run again as a fresh window, so that
    every state is one that training has seen (rolling keys would carry traces of dropped frames). A dynamics that was
    trained with a remembered frame keeps the very first one: what it shows is not forgotten when it is hidden for long.
    """

    def __init__(self, dynamics: Dynamics) -> None:
        self.dynamics = dynamics
        self.cache = dynamics.transformer.new_cache()
        self.tokens_BTN: Tensor | None = None
        self.actions_BT: Tensor | None = None

    @property
    def num_frames(self) -> int:
        """Finished frames in the window."""
        return 0 if self.tokens_BTN is None else self.tokens_BTN.shape[1]

    def append(self, tokens_BTN: Tensor, actions_BT: Tensor) -> None:
        """Add finished frames; `actions_BT[:, t]` led to frame t."""
        self._extend_window(tokens_BTN, actions_BT)
        self.dynamics.remember(tokens_BTN, actions_BT, self.cache)

    def _extend_window(self, tokens_BTN: Tensor, actions_BT: Tensor) -> None:
        if self.tokens_BTN is None or self.actions_BT is None:
            self.tokens_BTN, self.actions_BT = tokens_BTN, actions_BT
        else:
            self.tokens_BTN = torch.cat([self.tokens_BTN, tokens_BTN], dim=1)
            self.actions_BT = torch.cat([self.actions_BT, actions_BT], dim=1)

    def make_room(self) -> None:
        """Drop the older half of a full window, but for the first frame where it is to be remembered."""
        if self.num_frames < self.cache.capacity:
            return
        assert self.tokens_BTN is not None and self.actions_BT is not None
        keep = self.cache.capacity // 2
        tokens, actions = self.tokens_BTN[:, -keep:], self.actions_BT[:, -keep:].clone()
        if self.dynamics.config.memory_share:
            actions[:, 0] = self.dynamics.after_gap(actions[:, 0])
            tokens = torch.cat([self.tokens_BTN[:, :1], tokens], dim=1)
            actions = torch.cat([self.actions_BT[:, :1], actions], dim=1)
        actions[:, 0] = self.dynamics.without_action(actions[:, 0])
        self.cache, self.tokens_BTN, self.actions_BT = self.dynamics.transformer.new_cache(), None, None
        self.append(tokens, actions)

    def logits(self, tokens_BN: Tensor, action_B: Tensor) -> Tensor:
        """Logits (B,N,V) of the frame after the window."""
        return self.dynamics.logits(tokens_BN[:, None], action_B[:, None], cache=self.cache)[:, 0]

    def fork(self, copies: int) -> CachedContext:
        """A context with each batch row repeated `copies` times."""
        other = CachedContext(self.dynamics)
        other.cache = self.cache.fork(copies)
        if self.tokens_BTN is not None and self.actions_BT is not None:
            other.tokens_BTN = self.tokens_BTN.repeat_interleave(copies, dim=0)
            other.actions_BT = self.actions_BT.repeat_interleave(copies, dim=0)
        return other


class RecomputedContext(CachedContext):
    """The same window without a cache: every pass runs all frames. For tests and benchmarks."""

    def append(self, tokens_BTN: Tensor, actions_BT: Tensor) -> None:
        """Add finished frames to the window alone."""
        self._extend_window(tokens_BTN, actions_BT)

    def logits(self, tokens_BN: Tensor, action_B: Tensor) -> Tensor:
        """Logits (B,N,V) of the frame after the window, from all frames."""
        assert self.tokens_BTN is not None and self.actions_BT is not None
        tokens = torch.cat([self.tokens_BTN, tokens_BN[:, None]], dim=1)
        actions = torch.cat([self.actions_BT, action_B[:, None]], dim=1)
        return self.dynamics.logits(tokens, actions)[:, -1]
