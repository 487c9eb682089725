"""One backward pass must train both sides of the game exactly as the usual two would."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_robot.models.discriminator import FrameDiscriminator, adversarial_losses


class Painter(nn.Module):
    """A generator with one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, noise_BTYXC: Tensor) -> Tensor:
        return torch.sigmoid(self.layer(noise_BTYXC))


def _game() -> tuple[Painter, FrameDiscriminator, Tensor, Tensor]:
    torch.manual_seed(0)
    painter, discriminator = Painter(), FrameDiscriminator(4)
    with torch.no_grad():  # so that the hinge cuts some logits and not others
        for parameter in discriminator.parameters():
            parameter.mul_(3)
    real, noise = torch.rand(2, 2, 3, 16, 24, 3)
    return painter, discriminator, real, noise


def _gradients(*modules: nn.Module) -> list[Tensor | None]:
    return [parameter.grad for module in modules for parameter in module.parameters()]


def test_the_generator_term_reaches_the_frames_only_as_the_usual_loss_does() -> None:
    painter, discriminator, real, noise = _game()
    fake = painter(noise).detach().requires_grad_()
    losses = adversarial_losses(discriminator, real, fake)
    losses.generator_term.backward()
    assert _gradients(discriminator) == [None] * len(list(discriminator.parameters()))
    got = fake.grad
    fake.grad = None
    usual = -discriminator(fake).mean()
    usual.backward()
    assert got is not None and fake.grad is not None and fake.grad.abs().max() > 0
    torch.testing.assert_close(got, fake.grad)
    torch.testing.assert_close(losses.generator_term, usual)
    torch.testing.assert_close(losses.generator_loss, usual.detach())


def test_the_discriminator_loss_is_the_hinge_loss_and_does_not_reach_the_generator() -> None:
    painter, discriminator, real, noise = _game()
    fake = painter(noise)
    losses = adversarial_losses(discriminator, real, fake)
    on_real, on_fake = discriminator(real), discriminator(fake.detach())
    assert 0 < (on_real < 1).double().mean() < 1 or 0 < (on_fake > -1).double().mean() < 1
    hinge = (1 - on_real).clamp_min(0).mean() + (1 + on_fake).clamp_min(0).mean()
    torch.testing.assert_close(losses.discriminator_loss, hinge)
    losses.discriminator_loss.backward()
    assert _gradients(painter) == [None, None]


def test_one_backward_pass_equals_two() -> None:
    painter, discriminator, real, noise = _game()
    losses = adversarial_losses(discriminator, real, painter(noise))
    (0.3 * losses.generator_term + losses.discriminator_loss).backward()
    together = _gradients(painter, discriminator)
    painter.zero_grad()
    discriminator.zero_grad()
    (-0.3 * discriminator(painter(noise)).mean()).backward()
    of_painter = [gradient.clone() for gradient in _gradients(painter) if gradient is not None]
    discriminator.zero_grad()
    adversarial_losses(discriminator, real, painter(noise).detach()).discriminator_loss.backward()
    for got, wanted in zip(together, [*of_painter, *_gradients(discriminator)], strict=True):
        torch.testing.assert_close(got, wanted)


def test_a_frame_is_judged_alone_patch_by_patch() -> None:
    discriminator = FrameDiscriminator(4)
    video = torch.rand(2, 3, 24, 40, 3)
    logits = discriminator(video)
    assert logits.shape == (2, 3, 3, 5)
    alone = discriminator(video[1:, 2:])
    torch.testing.assert_close(logits[1:, 2:], alone)


def test_the_game_is_played_to_its_draw_with_one_optimizer() -> None:
    """A painter of one grey and its judge: the grey moves to that of the real frames, where nothing is left to judge."""
    torch.manual_seed(0)
    grey = nn.Parameter(torch.tensor(-2.0))
    discriminator = FrameDiscriminator(4)
    optimizer = torch.optim.Adam([grey, *discriminator.parameters()], lr=0.02, betas=(0.5, 0.9))
    real = torch.full((2, 1, 16, 16, 3), 0.7)
    for _ in range(240):
        losses = adversarial_losses(discriminator, real, torch.sigmoid(grey).expand_as(real))
        optimizer.zero_grad()
        (losses.generator_term + losses.discriminator_loss).backward()
        optimizer.step()
    assert abs(torch.sigmoid(grey).item() - 0.7) < 0.05
    assert 1.5 < losses.discriminator_loss.item() < 2.5
