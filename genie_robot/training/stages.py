"""The three stages: what each trains, on what loss, and how it is judged on held-out clips.

Shapes: B batch, T frames, S = T - 1 steps, Y X pixels, C channels, N tokens per frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from genie_robot.config import DYNAMICS_HORIZON, WorldModelConfig
from genie_robot.evaluation.video import psnr
from genie_robot.models.world_model import WorldModel, to_uint8
from genie_robot.sampling.rollout import imagine

Pictures = list[np.ndarray]


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str
    module: nn.Module

    def loss(self, video_BTYXC: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """`loss` and scalar metrics of one batch of float video."""
        ...

    def validate(self, video_BTYXC: Tensor) -> tuple[dict[str, float], Pictures]:
        """Metrics and rows of pictures on held-out clips."""
        ...


def _usage(codes: Tensor, num_codes: int) -> dict[str, float]:
    share = torch.bincount(codes.flatten(), minlength=num_codes).double() / codes.numel()
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    return {"codes_used": int((share > 0.01 / num_codes).sum()), "perplexity": float(entropy.exp())}


@dataclass
class TokenizerStage:
    """Frames -> tokens -> frames."""

    model: WorldModel
    name: str = "tokenizer"

    def __post_init__(self) -> None:
        self.module: nn.Module = self.model.tokenizer

    def loss(self, video_BTYXC: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Reconstruction loss."""
        return {"loss": self.module(video_BTYXC)["loss"]}

    def validate(self, video_BTYXC: Tensor) -> tuple[dict[str, float], Pictures]:
        """PSNR of reconstructions, code usage, and the share of tokens that change from frame to frame."""
        out = self.module(video_BTYXC)
        codes_BTN = out["codes"]
        metrics = {
            "psnr_db": psnr(to_uint8(out["reconstruction"]), to_uint8(video_BTYXC)),
            "tokens_changed": float((codes_BTN[:, 1:] != codes_BTN[:, :-1]).float().mean()),
            **_usage(codes_BTN, self.model.config.tokenizer.codebook_size),
        }
        rows = [row for b in range(3) for row in (video_BTYXC[b], out["reconstruction"][b])]
        return metrics, [to_uint8(row) for row in rows]


@dataclass
class LatentActionStage:
    """Pairs of frames -> one of a few codes."""

    model: WorldModel
    name: str = "latent_action"

    def __post_init__(self) -> None:
        self.module: nn.Module = self.model.latent_action

    def loss(self, video_BTYXC: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss of predicting the next frame through the code."""
        return {"loss": self.module(video_BTYXC)["loss"]}

    def validate(self, video_BTYXC: Tensor) -> tuple[dict[str, float], Pictures]:
        """PSNR with the inferred codes and with random ones (the gap is what the codes say), code usage."""
        module = self.model.latent_action
        future, past = to_uint8(video_BTYXC[:, 1:]), video_BTYXC[:, :-1]
        codes_BS, _ = module.infer(video_BTYXC)
        generator = torch.Generator(codes_BS.device).manual_seed(0)
        random_BS = torch.randint(
            self.model.num_actions, codes_BS.shape, generator=generator, device=codes_BS.device
        )
        inferred = psnr(to_uint8(module.predict(past, codes_BS)), future)
        metrics = {
            "psnr_db": inferred,
            "delta_psnr_db": inferred - psnr(to_uint8(module.predict(past, random_BS)), future),
            "copy_last_psnr_db": psnr(to_uint8(past), future),
            **_usage(codes_BS, self.model.num_actions),
        }
        first = video_BTYXC[:3, :1]
        futures = [
            module.predict(first, torch.full((len(first), 1), code, device=first.device))
            for code in range(self.model.num_actions)
        ]
        return metrics, [to_uint8(row) for row in torch.cat([first, *futures], dim=1)]


@dataclass
class DynamicsStage:
    """Tokens of the past and latent actions -> tokens of the next frame; tokenizer and codes are frozen."""

    model: WorldModel
    name: str = "dynamics"
    horizon: int = DYNAMICS_HORIZON

    def __post_init__(self) -> None:
        self.module: nn.Module = self.model.dynamics
        for frozen in (self.model.tokenizer, self.model.latent_action):
            frozen.eval().requires_grad_(False)

    @torch.no_grad()
    def _tokens_and_actions(self, video_BTYXC: Tensor) -> tuple[Tensor, Tensor]:
        return self.model.tokenizer.encode(video_BTYXC), self.model.latent_action.infer(video_BTYXC)[0]

    def loss(self, video_BTYXC: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Masked-token loss."""
        return self.module(*self._tokens_and_actions(video_BTYXC), generator)

    def validate(self, video_BTYXC: Tensor) -> tuple[dict[str, float], Pictures]:
        """Held-out loss, and PSNR `horizon` frames after the prompt: inferred codes, random codes, copy of the last frame."""
        tokens_BTN, codes_BS = self._tokens_and_actions(video_BTYXC)
        device = tokens_BTN.device
        out = self.model.dynamics(tokens_BTN, codes_BS, torch.Generator(device).manual_seed(0))
        metrics = {key: float(out[key]) for key in ("loss", "accuracy", "changed_accuracy")}
        prompt = video_BTYXC.shape[1] - self.horizon
        actions_BT = self.model.dynamics.produced_by(codes_BS)
        shuffled = actions_BT[:, prompt:].flatten()
        order = torch.randperm(len(shuffled), generator=torch.Generator().manual_seed(1)).to(device)
        videos = {}
        for name, actions in (
            ("", actions_BT[:, prompt:]),
            ("random_", shuffled[order].view(-1, self.horizon)),
        ):
            imagined = imagine(
                self.model.dynamics,
                tokens_BTN[:, :prompt],
                actions_BT[:, :prompt],
                actions,
                range(len(tokens_BTN)),
            )
            video = self.model.tokenizer.decode(torch.cat([tokens_BTN[:, :prompt], imagined], dim=1))
            videos[name] = to_uint8(video)
            metrics[f"{name}psnr_t{self.horizon}_db"] = psnr(
                videos[name][:, -1:], to_uint8(video_BTYXC[:, -1:])
            )
        metrics["delta_psnr_db"] = (
            metrics[f"psnr_t{self.horizon}_db"] - metrics[f"random_psnr_t{self.horizon}_db"]
        )
        copy = to_uint8(video_BTYXC[:, prompt - 1 : prompt])
        metrics["copy_last_psnr_db"] = psnr(copy, to_uint8(video_BTYXC[:, -1:]))
        return metrics, [row for b in range(3) for row in (to_uint8(video_BTYXC[b]), videos[""][b])]


_STAGES: dict[str, Callable[[WorldModel], Stage]] = {
    "tokenizer": TokenizerStage,
    "latent_action": LatentActionStage,
    "dynamics": DynamicsStage,
}


def build_stage(name: str, config: WorldModelConfig) -> Stage:
    """A stage with freshly initialised networks."""
    return _STAGES[name](WorldModel(config))
