"""The transformer: causal and exact with a cache for every kind of attention; extra tokens, conditions, costs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from genie_robot.config import TransformerConfig
from genie_robot.models.masking import two_stream_mask
from genie_robot.nn.st_transformer import Norm, STBlock, STTransformer

GRID, EXTRA, FRAMES = (2, 3), 1, 5
NUM_TOKENS = EXTRA + GRID[0] * GRID[1]
KINDS = ("space_time", "space", "full")


def make(
    kind: str, *, local_conv: bool = True, extra_tokens: int = EXTRA, conditioned: bool = True
) -> STTransformer:
    config = TransformerConfig(num_layers=2, dim=8, num_heads=2, local_conv=local_conv, attention=kind)
    return STTransformer(config, GRID, FRAMES, extra_tokens=extra_tokens, conditioned=conditioned).double()


def shake(module: nn.Module) -> None:
    """Random weights everywhere: zero-initialised projections would hide every leak."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))


@pytest.fixture(params=KINDS)
def transformer(request: pytest.FixtureRequest) -> STTransformer:
    """Local convolution, one extra token, conditioned: all parts at once."""
    result = make(request.param)
    shake(result)
    return result


@pytest.fixture
def clip() -> Callable[[], tuple[Tensor, Tensor]]:
    """Tokens (2,T,N,D) and conditions (2,T,D)."""
    return lambda: (
        torch.randn(2, FRAMES, NUM_TOKENS, 8, dtype=torch.float64),
        torch.randn(2, FRAMES, 8, dtype=torch.float64),
    )


Clip = Callable[[], tuple[Tensor, Tensor]]


def same(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("what", ["patch", "extra token", "condition"])
def test_a_frame_depends_on_frames_up_to_itself(transformer: STTransformer, clip: Clip, what: str) -> None:
    x, condition = clip()
    x.requires_grad_()
    condition.requires_grad_()
    out = transformer(x, condition_BTD=condition)
    place = {"patch": x, "extra token": x, "condition": condition}[what]
    for t in range(FRAMES):
        (gradient,) = torch.autograd.grad((out[:, t] * torch.randn(8)).sum(), place, retain_graph=True)
        if what != "condition":
            gradient = gradient[:, :, 0] if what == "extra token" else gradient[:, :, 1:]
        reach = gradient.flatten(2).abs().amax((0, 2)) > 1e-9
        past = transformer.config.attention != "space"
        assert reach.tolist() == [(s <= t if past else s == t) for s in range(FRAMES)]


def test_each_kind_sees_the_tokens_it_says() -> None:
    """Of a patch in the frame before: the same place alone, none, or all."""
    seen = {}
    for kind in KINDS:
        torch.manual_seed(0)
        config = TransformerConfig(num_layers=1, dim=8, num_heads=2, attention=kind)
        transformer = STTransformer(config, GRID, FRAMES).double()
        shake(transformer)
        x = torch.randn(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad((transformer(x)[0, 1, 4] * torch.randn(8)).sum(), x)
        assert gradient[0, 1].abs().amin(0).max() > 0  # all of its own frame
        seen[kind] = (gradient[0, 0].abs().amax(-1) > 0).nonzero().flatten().tolist()
    # With one block, space comes before time, so the place in the past has itself seen its whole frame.
    assert seen == {"space_time": list(range(6)), "space": [], "full": list(range(6))}


def test_through_time_space_time_meets_its_own_place_alone() -> None:
    config = TransformerConfig(num_layers=1, dim=8, num_heads=2)
    transformer = STTransformer(config, GRID, FRAMES).double()
    shake(transformer)
    block = transformer.blocks[0]
    assert isinstance(block, STBlock) and block.space is not None
    nn.init.zeros_(block.space.out.weight)
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((transformer(x)[0, 1, 4] * torch.randn(8)).sum(), x)
    assert (gradient[0, 0].abs().amax(-1) > 0).nonzero().flatten().tolist() == [4]


def test_cached_passes_equal_one_pass(transformer: STTransformer, clip: Clip) -> None:
    x, condition = clip()
    at_once = transformer(x, condition_BTD=condition)
    cache, start = transformer.new_cache(), 0
    for frames in (2, 1, 2):
        now = slice(start, start + frames)
        noise = torch.randn_like(x[:, now])
        transformer(
            noise, condition_BTD=condition[:, now], cache=cache
        )  # a pass without commit leaves no trace
        out = transformer(x[:, now], condition_BTD=condition[:, now], cache=cache, commit=True)
        same(out, at_once[:, now])
        start += frames
        assert cache.length == start
    assert cache.is_full


def test_forks_continue_from_the_same_past_and_leave_each_other_alone(
    transformer: STTransformer, clip: Clip
) -> None:
    x, condition = clip()
    cache = transformer.new_cache()
    transformer(x[:, :3], condition_BTD=condition[:, :3], cache=cache, commit=True)
    futures, conditions = x.repeat_interleave(3, 0), condition.repeat_interleave(3, 0)
    futures[:, 3:] = torch.randn_like(futures[:, 3:])
    fork = cache.fork(3)
    parts = [
        transformer(futures[:, t, None], condition_BTD=conditions[:, t, None], cache=fork, commit=True)
        for t in (3, 4)
    ]
    same(torch.cat(parts, 1), transformer(futures, condition_BTD=conditions)[:, 3:])
    assert (cache.length, fork.length) == (3, 5)
    out = transformer(x[:, 3:], condition_BTD=condition[:, 3:], cache=cache)
    same(out, transformer(x, condition_BTD=condition)[:, 3:])


def test_two_streams_equal_one_pass_for_each_frame(transformer: STTransformer, clip: Clip) -> None:
    """A masked copy of frame t sees the finished frames before t and itself, whatever the kind of attention."""
    (x, condition), (masked, _) = clip(), clip()
    steps = FRAMES - 1
    index = torch.arange(steps)
    both = transformer(
        torch.cat([x[:, :-1], masked[:, 1:]], 1),
        condition_BTD=torch.cat([condition[:, :-1], condition[:, 1:]], 1),
        frame_index_T=torch.cat([index, index + 1]),
        mask_TS=two_stream_mask(steps, index.device),
    )
    for t in range(1, FRAMES):
        alone = torch.cat([x[:, :t], masked[:, t, None]], 1)
        same(both[:, steps + t - 1], transformer(alone, condition_BTD=condition[:, : t + 1])[:, t])


def test_a_frame_seen_alone_looks_the_same_wherever_it_stands() -> None:
    transformer = make("space", extra_tokens=0, conditioned=False)
    shake(transformer)
    x = torch.randn(1, 1, 6, 8, dtype=torch.float64).expand(1, FRAMES, 6, 8)
    same(transformer(x), transformer(x[:, :1]).expand(1, FRAMES, 6, 8))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_condition_has_no_effect_until_it_is_trained(kind: str, clip: Clip) -> None:
    plain = make(kind, conditioned=False)
    shake(plain)
    conditioned = make(kind)
    missing, unexpected = conditioned.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected and all("modulate" in name for name in missing)
    x, condition = clip()
    assert torch.equal(plain(x), conditioned(x, condition_BTD=condition))
    norms = [part for part in conditioned.modules() if isinstance(part, Norm)]
    assert len(norms) == 2 * (3 if kind == "space_time" else 2)
    for norm in norms:  # each listens
        assert norm.modulate is not None
        nn.init.normal_(norm.modulate.weight)
        assert (plain(x) - conditioned(x, condition_BTD=condition)).abs().max() > 1e-6
        nn.init.zeros_(norm.modulate.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_new_extra_tokens_have_no_effect_until_they_are_trained(kind: str, clip: Clip) -> None:
    x, _ = clip()
    extended = make(kind, conditioned=False)
    plain = make(kind, extra_tokens=0, conditioned=False)
    weights = extended.state_dict()
    weights["position_space_ND"] = weights["position_space_ND"][EXTRA:]
    plain.load_state_dict(weights)
    same(extended(x)[:, :, EXTRA:], plain(x[:, :, EXTRA:]))
    shake(extended)
    other = x.clone()
    other[:, :, :EXTRA] = torch.randn_like(other[:, :, :EXTRA])
    assert (extended(x) - extended(other))[:, :, EXTRA:].abs().max() > 1e-6


def test_the_local_convolution_leaves_extra_tokens_out() -> None:
    block = make("space", conditioned=False).blocks[
        0
    ]  # attention starts at zero: the convolution alone mixes
    x = torch.randn(1, 2, NUM_TOKENS, 8, dtype=torch.float64, requires_grad=True)
    out = block(x, None)
    (to_extra,) = torch.autograd.grad((out[:, :, 0] * torch.randn(8)).sum(), x, retain_graph=True)
    assert to_extra[:, :, 1:].abs().max() == 0 and to_extra[:, :, 0].abs().max() > 0
    (to_patch,) = torch.autograd.grad((out[:, :, 1] * torch.randn(8)).sum(), x)
    reach = (to_patch[0, 0].abs().amax(-1) > 0).tolist()
    assert reach == [False, True, True, False, True, True, False]  # the corner's neighbours in the 2x3 grid


@pytest.mark.parametrize("conditioned", [False, True])
@pytest.mark.parametrize("past", [0, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_flops_are_those_that_torch_counts(kind: str, past: int, conditioned: bool) -> None:
    transformer = make(kind, conditioned=conditioned)
    x = torch.randn(1, FRAMES, NUM_TOKENS, 8, dtype=torch.float64)
    condition = torch.randn(1, FRAMES, 8, dtype=torch.float64)

    def arguments(now: slice) -> dict[str, Tensor | None]:
        return {"x_BTND": x[:, now], "condition_BTD": condition[:, now] if conditioned else None}

    cache = transformer.new_cache()
    if past:
        transformer(**arguments(slice(past)), cache=cache, commit=True)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        transformer(**arguments(slice(past, FRAMES)), cache=cache)
    assert transformer.flops(FRAMES - past, past) == counter.get_total_flops() > 0
