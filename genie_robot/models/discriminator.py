"""A discriminator that judges frames, and both sides of its game in one backward pass (VQGAN, arXiv 2012.09841).

Shapes: B batch, T frames, Y X pixels, C channels, H W patches that are judged. Video is float in [0, 1].
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F


class FrameDiscriminator(nn.Module):
    """PatchGAN (pix2pix, arXiv 1611.07004): is each patch of a frame real (above 0) or made (below 0)?

    Three halvings, so one logit an 8x8 patch, each of which sees 54 pixels a side; frames of 8 pixels and more.

    It has no normalisation. Batch norm would let a frame's logit depend on the frames beside it, and so on micro-batch
    and process. Spectral norm keeps vectors that every forward pass changes (there are two a step, and more with
    micro-batches), so a step would depend on how its batch was cut. The hinge loss keeps the logits small without.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3, channels, 2 * channels, 4 * channels)
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Conv2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(widths[-1], widths[-1], 3, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, video_BTYXC: Tensor) -> Tensor:
        """Video (B,T,Y,X,3) -> logits (B,T,H,W), H = Y // 8, W = X // 8."""
        frames = rearrange(2 * video_BTYXC - 1, "b t y x c -> (b t) c y x")  # channels last in memory already
        return rearrange(self.layers(frames), "(b t) 1 h w -> b t h w", t=video_BTYXC.shape[1])


class AdversarialLosses(NamedTuple):
    """Scalars of `adversarial_losses`; only the first two have gradients."""

    generator_term: Tensor
    discriminator_loss: Tensor
    generator_loss: Tensor


def adversarial_losses(discriminator: nn.Module, real_BTYXC: Tensor, fake_BTYXC: Tensor) -> AdversarialLosses:
    """Both losses of the hinge GAN (arXiv 1705.02894) for one backward pass and one optimizer over both networks.

    `discriminator_loss` = mean(relu(1 - D(real))) + mean(relu(1 + D(fake))): its gradient reaches the discriminator only.
    `generator_term` has the value and the gradient of the usual generator loss -mean(D(fake)), but that gradient
    reaches the fake frames only: it is computed here, and enters as a constant times the frames. So the discriminator
    passes each frame once, and no parameter has to be frozen and freed. `generator_loss` is its value, for the log.
    """
    seen_BTYXC = fake_BTYXC.detach().requires_grad_()
    fake_logits = discriminator(seen_BTYXC).float()
    generator_loss = -fake_logits.mean()
    (slope_BTYXC,) = torch.autograd.grad(generator_loss, seen_BTYXC, retain_graph=True)
    moved = (
        slope_BTYXC * (fake_BTYXC - seen_BTYXC.detach())
    ).sum()  # 0, with the gradient `slope` to the frames
    real_logits = discriminator(real_BTYXC.detach()).float()
    discriminator_loss = F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()
    return AdversarialLosses(generator_loss.detach() + moved, discriminator_loss, generator_loss.detach())
