"""The three stages: what each trains, on what loss, and how it is judged on held-out clips.

Shapes: B batch, T frames, S = T - 1 steps, Y X pixels, C channels, N tokens per frame, K action vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from genie_robot.config import DYNAMICS_HORIZON, TrainConfig
from genie_robot.evaluation.video import psnr
from genie_robot.models.action_embedding import MixedEmbedding
from genie_robot.models.discriminator import FrameDiscriminator, adversarial_losses
from genie_robot.models.perceptual import PerceptualLoss
from genie_robot.models.world_model import WorldModel, to_uint8
from genie_robot.nn.quantize import code_digits
from genie_robot.sampling.rollout import imagine
from genie_robot.training.action_rows import KnownActions, drawn_rows, robot_rows
from genie_robot.training.batch import Batch

VALIDATION_PART = 8  # clips that validation takes at once

Pictures = list[np.ndarray]
Generators = Sequence[torch.Generator]


class Term(NamedTuple):
    """A loss that is a mean, and the weight it was divided by: so means over micro-batches and processes stay exact."""

    loss: Tensor
    weight: Tensor


class Losses(NamedTuple):
    """What one micro-batch gives: a term for each trained network that has its own, and numbers to log."""

    terms: dict[str, Term]
    metrics: dict[str, Tensor]


class Validation(NamedTuple):
    """What a few held-out clips show. `codes` are of `num_codes` kinds; their usage is counted over all clips."""

    metrics: dict[str, float]
    pictures: Pictures
    codes: Tensor | None = None
    num_codes: int = 0


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str
    model: WorldModel
    networks: nn.ModuleDict  # trained; the first one's term is "the loss"
    frozen: tuple[str, ...]  # networks of the model that must be finished before

    def losses(self, batch: Batch, generators: Generators) -> Losses:
        """Terms and metrics of one micro-batch; `generators` are one a clip."""
        ...

    def validate(self, batch: Batch) -> Validation:
        """Metrics of held-out clips, which are means over them, their codes, and rows of pictures."""
        ...

    def flops_per_clip(self, frames: int) -> int:
        """Floating point operations of one training clip, forward and backward."""
        ...


def _clips(batch: Batch, like: Tensor) -> Tensor:
    return torch.tensor(float(len(batch)), device=like.device)


def _usage(codes: Tensor, num_codes: int) -> dict[str, float]:
    share = torch.bincount(codes.flatten(), minlength=num_codes).double() / codes.numel()
    entropy = -(share[share > 0] * share[share > 0].log()).sum()
    return {"codes_used": int((share > 0.01 / num_codes).sum()), "perplexity": float(entropy.exp())}


def validate(stage: Stage, held_out: Batch) -> tuple[dict[str, float], Pictures]:
    """Means over held-out clips, a few at a time so that they need no more memory than training; the first pictures."""
    parts = [(len(part), stage.validate(part)) for part in held_out.split(VALIDATION_PART)]
    metrics = {
        name: sum(clips * found.metrics[name] for clips, found in parts) / len(held_out)
        for name in parts[0][1].metrics
    }
    codes = [found.codes.flatten() for _, found in parts if found.codes is not None]
    if codes:
        metrics |= _usage(torch.cat(codes), parts[0][1].num_codes)
    return metrics, parts[0][1].pictures


def _shuffled(actions: Tensor) -> Tensor:
    """The same actions (B,S) or (B,S,K), each at another clip and step: what a wrong action does."""
    flat = actions.flatten(0, 1)
    order = torch.randperm(len(flat), generator=torch.Generator().manual_seed(1)).to(flat.device)
    return flat[order].view(actions.shape)


class TokenizerStage:
    """Frames -> tokens -> frames, with a perceptual loss and a discriminator where they are asked for."""

    name = "tokenizer"
    frozen: tuple[str, ...] = ()

    def __init__(self, model: WorldModel) -> None:
        self.model, self.config = model, model.config.tokenizer
        self.networks = nn.ModuleDict({"tokenizer": model.tokenizer})
        if self.config.adversarial_weight:
            self.networks["discriminator"] = FrameDiscriminator(self.config.discriminator_channels)
        self.networks.requires_grad_(True)
        self.perceptual = (
            PerceptualLoss(self.config.perceptual_network) if self.config.perceptual_weight else None
        )

    def losses(self, batch: Batch, generators: Generators) -> Losses:
        """Reconstruction, perceptual and adversarial loss of the tokenizer; the discriminator's own."""
        real = batch.video_BTYXC
        assert real is not None
        out = self.networks["tokenizer"](real)
        loss, weight = out["loss"], _clips(batch, out["loss"])
        metrics: dict[str, Tensor] = {}
        if self.perceptual is not None:
            metrics["perceptual_loss"] = self.perceptual.to(real.device)(out["reconstruction"], real)
            loss = loss + self.config.perceptual_weight * metrics["perceptual_loss"]
        if "discriminator" not in self.networks:
            return Losses({"tokenizer": Term(loss, weight)}, metrics)
        adversarial = adversarial_losses(self.networks["discriminator"], real, out["reconstruction"])
        loss = loss + self.config.adversarial_weight * adversarial.generator_term
        metrics |= {
            "generator_loss": adversarial.generator_loss,
            "discriminator_loss": adversarial.discriminator_loss,
        }
        terms = {
            "tokenizer": Term(loss, weight),
            "discriminator": Term(adversarial.discriminator_loss, weight),
        }
        return Losses(terms, metrics)

    def validate(self, batch: Batch) -> Validation:
        """PSNR of reconstructions, code usage, and the share of tokens that change from frame to frame."""
        video_BTYXC = batch.video_BTYXC
        assert video_BTYXC is not None
        out = self.networks["tokenizer"](video_BTYXC)
        codes_BTN = out["codes"]
        metrics = {
            "psnr_db": psnr(to_uint8(out["reconstruction"]), to_uint8(video_BTYXC)),
            "tokens_changed": float((codes_BTN[:, 1:] != codes_BTN[:, :-1]).float().mean()),
        }
        rows = [row for b in range(3) for row in (video_BTYXC[b : b + 1], out["reconstruction"][b : b + 1])]
        pictures = [to_uint8(row[0]) for row in rows if len(row)]
        return Validation(metrics, pictures, codes_BTN, self.config.codebook_size)

    def flops_per_clip(self, frames: int) -> int:
        """Encoder and decoder, forward and backward."""
        return self.model.tokenizer.training_flops(frames)


class LatentActionStage:
    """Pairs of frames -> one of a few codes."""

    name = "latent_action"

    def __init__(self, model: WorldModel) -> None:
        self.model = model
        self.networks = nn.ModuleDict({"latent_action": model.latent_action}).requires_grad_(True)
        self.on_tokens = model.config.latent_action.input == "tokens"
        self.frozen: tuple[str, ...] = ("tokenizer",) if self.on_tokens else ()

    @torch.no_grad()
    def _clip(self, batch: Batch) -> Tensor:
        assert batch.video_BTYXC is not None
        return self.model.action_input(batch.video_BTYXC)

    def losses(self, batch: Batch, generators: Generators) -> Losses:
        """Loss of predicting the next frame through the code."""
        out = self.networks["latent_action"](self._clip(batch), generators, batch.labels_BSA)
        return Losses({"latent_action": Term(out["loss"], _clips(batch, out["loss"]))}, {})

    def validate(self, batch: Batch) -> Validation:
        """Next frame with the inferred actions and with shuffled ones (the gap is what they say), code usage."""
        module, clip = self.model.latent_action, self._clip(batch)
        actions, _ = module.infer(clip)
        scores = {
            name: self._score(module.predict(clip[:, :-1], given), clip[:, 1:])
            for name, given in (("", actions), ("shuffled_", _shuffled(actions)))
        }
        unit = "accuracy" if self.on_tokens else "psnr_db"
        metrics = {
            unit: scores[""],
            f"delta_{unit}": scores[""] - scores["shuffled_"],
            f"copy_last_{unit}": self._copy_last(clip),
        }
        codes = None if self.model.config.latent_action.is_continuous else actions
        return Validation(metrics, self._pictures(clip, actions), codes, self.model.num_actions)

    def _score(self, predicted: Tensor, wanted: Tensor) -> float:
        if self.on_tokens:
            return float((predicted == wanted).float().mean())
        return psnr(to_uint8(predicted), to_uint8(wanted))

    def _copy_last(self, clip: Tensor) -> float:
        if self.on_tokens:
            return float((clip[:, 1:] == clip[:, :-1]).float().mean())
        return psnr(to_uint8(clip[:, :-1]), to_uint8(clip[:, 1:]))

    def _pictures(self, clip: Tensor, actions: Tensor) -> Pictures:
        """Three prompts, each followed by what eight actions make of it."""
        rows = []
        for first in clip[:3, :1]:
            first = first[None]
            choices = actions.flatten(0, 1)[:8]
            if not actions.is_floating_point():
                choices = torch.arange(min(8, self.model.num_actions), device=clip.device)
            futures = [self.model.latent_action.predict(first, choice[None, None]) for choice in choices]
            if self.on_tokens:
                row = torch.cat([self.model.tokenizer.decode(tokens) for tokens in (first, *futures)], dim=1)
            else:
                row = torch.cat([first, *futures], dim=1)
            rows.append(to_uint8(row[0]))
        return rows

    def flops_per_clip(self, frames: int) -> int:
        """Encoder and decoder, forward and backward; reading tokens where it works on them."""
        encode = self.model.tokenizer.encode_flops(frames) if self.on_tokens else 0
        return encode + self.model.latent_action.training_flops(frames)


class DynamicsStage:
    """Tokens of the past and latent actions -> tokens of the next frame.

    The tokenizer is frozen; so is the latent action model, unless it is trained beside the dynamics
    (`training.co_training`): "parallel" on its own loss, with the gradient of the dynamics stopped at the action
    (Genie, section 2.1), "end_to_end" through the action by the dynamics' loss alone (Jasmine, arXiv 2510.27002).
    """

    name = "dynamics"

    def __init__(
        self,
        model: WorldModel,
        co_training: str = "none",
        from_tokens: bool = False,
        horizon: int = DYNAMICS_HORIZON,
    ) -> None:
        self.model, self.co_training, self.horizon = model, co_training, horizon
        self.from_tokens = from_tokens
        self.networks = nn.ModuleDict({"dynamics": model.dynamics})
        self.frozen: tuple[str, ...] = (
            ("tokenizer", "latent_action") if co_training == "none" else ("tokenizer",)
        )
        if co_training != "none":
            self.networks["latent_action"] = model.latent_action
        self.networks.requires_grad_(True)
        if co_training == "end_to_end":  # no loss of its own: nothing would reach these
            for part in (model.latent_action.decoder, model.latent_action.quantizer):
                part.requires_grad_(False)

    @torch.no_grad()
    def _tokens_and_actions(
        self, batch: Batch, generators: Generators | None = None
    ) -> tuple[Tensor, Tensor]:
        """Tokens (B,T,N) and what leads to them; where the robot's actions may, generators draw it anew for each clip."""
        if batch.tokens_BTN is not None and batch.actions is not None:
            return batch.tokens_BTN, batch.actions
        assert batch.video_BTYXC is not None
        tokens_BTN = self.model.tokenizer.encode(batch.video_BTYXC)
        clip = self.model.action_input(batch.video_BTYXC)
        actions, _ = self.model.latent_action.infer(clip)
        embedding = self.model.dynamics.embed_action
        if not isinstance(embedding, MixedEmbedding):
            return tokens_BTN, self._without_gaps(actions, batch)
        assert batch.labels_BSA is not None
        known = KnownActions(
            code_digits(actions, embedding.num_codes, embedding.num_codebooks),
            self.model.latent_action.vectors(clip),
            batch.labels_BSA,
        )
        if generators is None:
            return tokens_BTN, self._without_gaps(robot_rows(embedding, known), batch)
        rows_BSW = drawn_rows(embedding, self.model.config.dynamics, known, generators)
        return tokens_BTN, self._without_gaps(rows_BSW, batch)

    def _without_gaps(self, actions_BS: Tensor, batch: Batch) -> Tensor:
        """Latent actions between frames that do not follow each other say nothing: they are not known."""
        if batch.gaps_B is None or not batch.gaps_B.any():
            return actions_BS
        known, chosen_B = actions_BS.clone(), batch.gaps_B > 0
        known[chosen_B, 0] = self.model.dynamics.after_gap(actions_BS[chosen_B, 0])
        return known

    def losses(self, batch: Batch, generators: Generators) -> Losses:
        """Masked-token loss, and what co-training adds."""
        if self.co_training == "none":
            return self._dynamics_losses(
                *self._tokens_and_actions(batch, generators), generators, batch.gaps_B
            )
        assert batch.video_BTYXC is not None
        with torch.no_grad():
            tokens_BTN = self.model.tokenizer.encode(batch.video_BTYXC)
            clip = self.model.action_input(batch.video_BTYXC)
        if self.co_training == "end_to_end":
            actions = self.model.latent_action.soft_actions(clip, generators)
            return self._dynamics_losses(tokens_BTN, actions, generators)
        out = self.networks["latent_action"](clip, generators, batch.labels_BSA)
        losses = self._dynamics_losses(tokens_BTN, out["actions"].detach(), generators)
        losses.terms["latent_action"] = Term(out["loss"], _clips(batch, out["loss"]))
        losses.metrics["latent_action_loss"] = out["loss"]
        return losses

    def _dynamics_losses(
        self, tokens_BTN: Tensor, actions: Tensor, generators: Generators, gaps_B: Tensor | None = None
    ) -> Losses:
        out = self.networks["dynamics"](tokens_BTN, actions, generators, gaps_B)
        metrics = {key: out[key] for key in ("accuracy", "changed_accuracy")}
        return Losses({"dynamics": Term(out["loss"], out["weight"])}, metrics)

    def validate(self, batch: Batch) -> Validation:
        """Held-out loss, and PSNR `horizon` frames after the prompt: inferred, shuffled actions, copy of the last frame."""
        video_BTYXC = batch.video_BTYXC
        assert video_BTYXC is not None
        tokens_BTN, actions_BS = self._tokens_and_actions(batch)
        generators = [torch.Generator().manual_seed(row) for row in range(len(tokens_BTN))]
        out = self.networks["dynamics"](tokens_BTN, actions_BS, generators)
        metrics = {key: float(out[key]) for key in ("loss", "accuracy", "changed_accuracy")}
        prompt = tokens_BTN.shape[1] - self.horizon
        future = actions_BS[:, prompt - 1 :]
        produced = self.model.dynamics.produced_by(actions_BS[:, : prompt - 1])
        truth, videos = to_uint8(video_BTYXC[:, -1:]), {}
        for name, actions in (("", future), ("random_", _shuffled(future))):
            imagined = imagine(
                self.model.dynamics, tokens_BTN[:, :prompt], produced, actions, range(len(tokens_BTN))
            )
            videos[name] = self._decode(torch.cat([tokens_BTN[:, :prompt], imagined], dim=1))
            metrics[f"{name}psnr_t{self.horizon}_db"] = psnr(videos[name][:, -1:], truth)
        metrics["delta_psnr_db"] = (
            metrics[f"psnr_t{self.horizon}_db"] - metrics[f"random_psnr_t{self.horizon}_db"]
        )
        metrics["copy_last_psnr_db"] = psnr(to_uint8(video_BTYXC[:, prompt - 1 : prompt]), truth)
        pairs = zip(video_BTYXC[:3], videos[""][:3], strict=True)
        pictures = [row for real, imagined in pairs for row in (to_uint8(real), imagined)]
        codes = None if actions_BS.is_floating_point() else actions_BS
        return Validation(metrics, pictures, codes, self.model.num_actions)

    def _decode(self, tokens_BTN: Tensor) -> np.ndarray:
        return to_uint8(self.model.tokenizer.decode(tokens_BTN))

    def flops_per_clip(self, frames: int) -> int:
        """Dynamics forward and backward, and what reads tokens and actions from pictures."""
        if self.from_tokens:
            return self.model.dynamics.training_flops(frames)
        action = self.model.latent_action
        own = action.infer_flops(frames) if self.co_training == "none" else action.training_flops(frames)
        return self.model.dynamics.training_flops(frames) + self.model.tokenizer.encode_flops(frames) + own


_STAGES: dict[str, Callable[[WorldModel, TrainConfig], Stage]] = {
    "tokenizer": lambda model, config: TokenizerStage(model),
    "latent_action": lambda model, config: LatentActionStage(model),
    "dynamics": lambda model, config: DynamicsStage(model, config.training.co_training, config.data.tokens),
}


def build_stage(name: str, config: TrainConfig) -> Stage:
    """A stage with freshly initialised networks; those it does not train are frozen."""
    model = WorldModel(config.model).eval().requires_grad_(False)
    return _STAGES[name](model, config)
