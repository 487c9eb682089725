"""Causal convolutions: what a frame sees, and the cache that carries it on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_robot.nn.causal_conv import CausalConv, ConvCache, FrameNorm, ResidualBlock, Upsample


class Stack(nn.Module):
    """Every kind of layer once: sees 2 x 5 frames back (five convolutions over three frames)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [CausalConv(2, 4, stride=2), ResidualBlock(4, 6), Upsample(6, 3), CausalConv(3, 2)]
        self.layers = nn.ModuleList(layers).double()

    def forward(self, x_BCTYX: Tensor, cache: ConvCache | None = None, commit: bool = False) -> Tensor:
        frames = x_BCTYX.shape[2]
        for layer in self.layers:
            x_BCTYX = layer(x_BCTYX, cache)
        if cache is not None and commit:
            cache.commit(frames)
        return x_BCTYX


def video(frames: int = 7, batch: int = 2) -> Tensor:
    return torch.randn(batch, 2, frames, 4, 6, dtype=torch.float64)


def test_a_frame_sees_itself_and_as_many_before_as_the_kernels_reach() -> None:
    x = video(14).requires_grad_()
    out = Stack()(x)
    assert out.shape == x.shape
    for t in (0, 5, 13):
        (gradient,) = torch.autograd.grad((out[:, :, t] * torch.randn(4, 6)).sum(), x, retain_graph=True)
        reach = gradient.abs().amax((0, 1, 3, 4)) > 0
        assert reach.tolist() == [t - 10 <= s <= t for s in range(14)]


def test_streaming_in_any_pieces_equals_one_pass_and_never_ends() -> None:
    stack, x = Stack(), video()
    at_once = stack(x)
    for pieces in ([1] * 7, [3, 1, 2, 1], [7]):
        cache, start = ConvCache(), 0
        for frames in pieces:
            stack(torch.randn_like(x[:, :, :2]), cache)  # a pass without commit leaves no trace
            out = stack(x[:, :, start : start + frames], cache, commit=True)
            torch.testing.assert_close(out, at_once[:, :, start : start + frames], rtol=0, atol=1e-12)
            start += frames
            assert cache.length == start
            assert not cache.is_full


def test_forks_continue_from_the_same_past() -> None:
    stack, x = Stack(), video()
    cache = ConvCache()
    stack(x[:, :, :4], cache, commit=True)
    fork = cache.fork(3)
    futures = x.repeat_interleave(3, 0)
    futures[:, :, 4:] = torch.randn_like(futures[:, :, 4:])
    out = stack(futures[:, :, 4:], fork, commit=True)
    torch.testing.assert_close(out, stack(futures)[:, :, 4:], rtol=0, atol=1e-12)
    assert (cache.length, fork.length) == (4, 7)
    out = stack(x[:, :, 4:], cache)
    torch.testing.assert_close(out, stack(x)[:, :, 4:], rtol=0, atol=1e-12)


def test_before_a_clip_the_world_stood_still() -> None:
    stack, x = Stack(), video(1).expand(-1, -1, 5, -1, -1)
    torch.testing.assert_close(stack(x), stack(x[:, :, :1]).expand_as(x), rtol=0, atol=1e-12)


def test_each_frame_has_its_own_norm() -> None:
    norm = FrameNorm(4).double()
    x = torch.randn(2, 4, 3, 5, 5, dtype=torch.float64)
    for t in range(3):
        torch.testing.assert_close(norm(x)[:, :, t, None], norm(x[:, :, t, None]), rtol=0, atol=1e-12)
    torch.testing.assert_close(norm(x), norm(10 * x), rtol=0, atol=1e-4)  # and it does normalise
