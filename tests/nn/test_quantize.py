"""Quantizers: codes name vectors, gradients pass, losses are those of the papers, dead codes come back to life."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from genie_robot.nn.quantize import (
    FiniteScalarQuantizer,
    GaussianBottleneck,
    LookupFreeQuantizer,
    ResidualVectorQuantizer,
    VectorQuantizer,
    code_digits,
    entropy_penalty,
)

Quantizer = VectorQuantizer | ResidualVectorQuantizer | FiniteScalarQuantizer | LookupFreeQuantizer
QUANTIZERS: dict[str, Callable[[], Quantizer]] = {
    "vq": lambda: VectorQuantizer(8, 6, 0.25),
    "rvq": lambda: ResidualVectorQuantizer(4, 3, 6, 0.25),
    "fsq": lambda: FiniteScalarQuantizer((5, 5), 6),
    "lfq": lambda: LookupFreeQuantizer(5, 6, 0.25, 0.1),
}


@given(st.lists(st.integers(2, 6), min_size=1, max_size=4))
def test_fsq_codes_name_the_vectors_they_come_from(levels: list[int]) -> None:
    torch.manual_seed(0)
    _check_codes(FiniteScalarQuantizer(tuple(levels), 8), math.prod(levels))


@given(st.integers(1, 40))
def test_vq_codes_name_the_vectors_they_come_from(num_codes: int) -> None:
    torch.manual_seed(0)
    _check_codes(VectorQuantizer(num_codes, 8, 0.25), num_codes)


@given(st.integers(1, 8))
def test_lfq_codes_name_the_vectors_they_come_from(bits: int) -> None:
    torch.manual_seed(0)
    _check_codes(LookupFreeQuantizer(bits, 8, 0.25, 0.1), 2**bits)


@given(st.integers(2, 8), st.integers(1, 3))
def test_rvq_codes_name_the_vectors_they_come_from(num_codes: int, num_codebooks: int) -> None:
    torch.manual_seed(0)
    quantizer = ResidualVectorQuantizer(num_codes, num_codebooks, 8, 0.25)
    _check_codes(quantizer, num_codes**num_codebooks)
    codes = torch.arange(num_codes**num_codebooks)
    digits = code_digits(codes, quantizer.num_codes, quantizer.num_codebooks)
    assert torch.equal((digits * num_codes ** torch.arange(num_codebooks)).sum(-1), codes)
    assert int(digits.max()) == num_codes - 1 and int(digits.min()) == 0


def _check_codes(quantizer: Quantizer, size: int) -> None:
    out = quantizer(3 * torch.randn(20, 10, 8))
    assert out.codes.shape == (20, 10) and out.codes.dtype == torch.int64
    assert int(out.codes.min()) >= 0 and int(out.codes.max()) < size
    torch.testing.assert_close(quantizer.lookup(out.codes), out.vectors)
    assert len(quantizer.lookup(torch.arange(size)).detach().unique(dim=0)) == size


def test_fsq_uses_its_levels_from_the_start() -> None:
    quantizer = FiniteScalarQuantizer((8, 5, 5, 5), 32)
    codes = quantizer(0.01 * torch.randn(5000, 32) + 3).codes  # a shy encoder: small spread, large mean
    assert len(codes.unique()) > 600


@pytest.mark.parametrize("name", QUANTIZERS)
def test_straight_through_gradients_reach_the_input(name: str) -> None:
    x = torch.randn(20, 6, requires_grad=True)
    (QUANTIZERS[name]()(x).vectors * torch.randn(6)).sum().backward()
    assert x.grad is not None and x.grad.abs().amin(0).max() > 0


@pytest.mark.parametrize("rvq", [False, True])
def test_codes_learn_from_inputs_and_inputs_from_codes_by_the_commitment_weight(rvq: bool) -> None:
    x = nn.functional.normalize(torch.randn(30, 6), dim=-1).requires_grad_()
    to_input, to_codes = [], []
    for weight in (0.0, 0.25, 0.5):
        torch.manual_seed(0)
        quantizer = ResidualVectorQuantizer(8, 1, 6, weight) if rvq else VectorQuantizer(8, 6, weight)
        out = quantizer(x)
        torch.testing.assert_close(out.loss, (1 + weight) * (x - out.vectors).square().mean())
        gradients = torch.autograd.grad(out.loss, [next(quantizer.parameters()), x])
        to_codes.append(gradients[0])
        to_input.append(gradients[1])
    assert to_codes[0].abs().max() > 1e-3
    assert torch.equal(to_codes[0], to_codes[1])
    assert to_input[0].abs().max() == 0
    assert to_input[1].abs().max() > 1e-3
    torch.testing.assert_close(to_input[2], 2 * to_input[1])


def test_the_loss_of_lfq_is_commitment_plus_entropy() -> None:
    x = torch.randn(30, 6)
    for commitment, entropy in [(0.0, 0.1), (0.25, 0.0), (0.25, 0.1)]:
        torch.manual_seed(0)
        quantizer = LookupFreeQuantizer(5, 6, commitment, entropy)
        values = quantizer.project(x)
        expected = commitment * (values.abs() - 1).square().mean() + entropy * entropy_penalty(values)
        torch.testing.assert_close(quantizer(x).loss, expected)


@pytest.mark.parametrize("name", ["vq", "rvq"])
def test_probabilities_add_up_and_are_highest_for_the_code(name: str) -> None:
    quantizer, x = QUANTIZERS[name](), torch.randn(7, 30, 6)
    assert isinstance(quantizer, VectorQuantizer | ResidualVectorQuantizer)
    probabilities = quantizer.probabilities(x)
    torch.testing.assert_close(probabilities.sum(-1), torch.ones(7, 30))
    assert torch.equal(probabilities.argmax(-1), quantizer(x).codes)


def test_rvq_probabilities_on_the_unit_sphere_are_those_of_vq() -> None:
    vq, rvq = VectorQuantizer(8, 6, 0.25), ResidualVectorQuantizer(8, 1, 6, 0.25)
    rvq.codebooks[0].load_state_dict(vq.state_dict())
    x = nn.functional.normalize(torch.randn(40, 6), dim=-1)
    torch.testing.assert_close(rvq.probabilities(x), vq.probabilities(x))


def test_the_length_of_a_vector_does_not_matter_to_rvq() -> None:
    quantizer, x = ResidualVectorQuantizer(8, 3, 6, 0.25), torch.randn(40, 6)
    near, far = quantizer(0.01 * x), quantizer(x)
    assert torch.equal(near.codes, far.codes)
    torch.testing.assert_close(near.loss, far.loss)


def test_each_codebook_of_rvq_tells_what_the_ones_before_left_over() -> None:
    quantizer = ResidualVectorQuantizer(8, 3, 3, 0.25, reset_every=10)
    x = nn.functional.normalize(torch.randn(2000, 3), dim=-1)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        quantizer(x).loss.backward()
        optimizer.step()
        for level in quantizer.codebooks:
            level.after_step()
    codes = quantizer.eval()(x).codes
    digits = code_digits(codes, quantizer.num_codes, quantizer.num_codebooks)
    left, errors = x, [float(x.square().mean())]
    for level, digit in zip(quantizer.codebooks, digits.unbind(-1), strict=True):
        left = left - level.codebook[digit].detach()
        errors.append(float(left.square().mean()))
    assert all(after < 0.35 * before for before, after in itertools.pairwise(errors)), errors
    torch.testing.assert_close(x - quantizer.lookup(codes).detach(), left, rtol=0, atol=1e-6)
    assert len(codes.unique()) > 128  # of 512; two codebooks alone would give at most 64


def test_lfq_codes_are_the_signs() -> None:
    quantizer = LookupFreeQuantizer(3, 3, 0.25, 0.1)
    with torch.no_grad():
        quantizer.project.weight.copy_(torch.eye(3))
        quantizer.project.bias.zero_()
    x = torch.tensor([[-1.0, -2, -3], [0.1, -2, -3], [-1, 0.2, -3], [1, 2, 3]])
    assert quantizer(x).codes.tolist() == [0, 1, 2, 7]


def test_lfq_entropy_of_known_distributions() -> None:
    """Numbers by hand; ln 3 / 4 makes a bit 1 with probability 3/4."""
    log2, h = math.log(2), 0.75 * math.log(4 / 3) + 0.25 * math.log(4)
    sure = 10 * torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    lean = torch.tensor(math.log(3) / 4)
    cases: list[tuple[Tensor, float]] = [
        (sure, -4 * log2),  # each code once, no doubt: the best there is
        (sure[:1].expand(16, 4), 0),  # collapsed onto one code
        (sure[[0, 15]], -log2),  # two codes
        (torch.zeros(16, 4), 0),  # no token is sure of anything
        (torch.stack([lean, -lean])[:, None], h - log2),
        (lean.expand(5, 1), 0),
    ]
    for values, expected in cases:
        assert float(entropy_penalty(values)) == pytest.approx(expected, abs=1e-5)


def test_lfq_entropy_is_that_of_the_softmax_over_all_codes() -> None:
    values = 0.5 * torch.randn(50, 5, dtype=torch.float64)
    codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=5)), dtype=torch.float64)
    q = torch.distributions.Categorical(logits=-torch.cdist(values, codes).square())
    mean = torch.distributions.Categorical(q.probs.mean(0))
    torch.testing.assert_close(entropy_penalty(values), q.entropy().mean() - mean.entropy())


def test_lfq_entropy_of_many_bits_is_the_sum_over_groups() -> None:
    values = torch.randn(30, 18)
    left, right = entropy_penalty(values[:, :9]), entropy_penalty(values[:, 9:])
    torch.testing.assert_close(entropy_penalty(values), left + right)


def test_lfq_entropy_has_a_gradient_where_bits_are_certain() -> None:
    values = torch.tensor([[-100.0, 100.0], [0.1, 0.0]], requires_grad=True)
    entropy_penalty(values).backward()
    assert values.grad is not None and values.grad.isfinite().all() and values.grad[1].abs().max() > 0


def test_dead_codes_are_moved_onto_inputs() -> None:
    quantizer, x = _collapsed(reset_share=0.5)
    used = len(quantizer(x).codes.unique())
    for _ in range(200):  # a code's share must fade first
        quantizer(x)
        quantizer.after_step()
    assert len(quantizer(x).codes.unique()) == 8 > used
    unit = nn.functional.normalize(x, dim=-1)
    nearest = torch.cdist(quantizer.codebook.detach(), unit).amin(-1)
    assert int((nearest < 1e-3).sum()) >= 6  # the codes that were dead lie on inputs


def test_a_moved_code_gets_time_to_be_used() -> None:
    quantizer, x = _collapsed(reset_share=0.5)
    before = quantizer.codebook.detach().clone()
    while torch.equal(before, quantizer.codebook):
        quantizer(x)
        quantizer.after_step()
    moved = (before != quantizer.codebook).any(-1)
    assert bool(moved.any()) and bool((quantizer.usage_V[moved] == 1 / 8).all())


def test_without_a_reset_share_no_code_is_moved() -> None:
    quantizer, x = _collapsed(reset_share=0.0)
    before = quantizer.codebook.clone()
    for _ in range(200):
        quantizer(x)
        quantizer.after_step()
    assert torch.equal(before, quantizer.codebook)
    assert int(quantizer.calls) == 200


def test_a_forward_pass_only_counts_and_in_evaluation_not_even_that() -> None:
    quantizer, x = _collapsed(reset_share=0.5)
    before = {name: value.clone() for name, value in quantizer.state_dict().items()}
    for _ in range(30):
        quantizer(x)
    assert quantizer.counts_V.sum() == 30 * len(x)
    assert all(torch.equal(before[name], value) for name, value in quantizer.state_dict().items())
    quantizer.after_step()
    assert int(quantizer.calls) == 1 and quantizer.counts_V.sum() == 0
    assert not torch.equal(before["usage_V"], quantizer.usage_V)
    assert float(quantizer.usage_V.sum()) == pytest.approx(1)
    quantizer.eval()(x)
    assert quantizer.counts_V.sum() == 0
    quantizer.after_step()  # nothing was counted
    assert int(quantizer.calls) == 1


def test_usage_does_not_depend_on_how_a_batch_is_split() -> None:
    whole, x = _collapsed(reset_share=0.5)
    parts, _ = _collapsed(reset_share=0.5)
    whole(x)
    for part in x.split(100):
        parts(part)
    for quantizer in (whole, parts):
        quantizer.after_step()
    assert torch.equal(whole.usage_V, parts.usage_V)
    assert not torch.equal(whole.usage_V, torch.full((8,), 1 / 8))


def test_equal_counts_and_candidates_give_equal_codebooks_whatever_the_random_state() -> None:
    """What keeps processes together: they share counts and candidates, nothing else."""
    results = []
    for seed in (1, 2):
        quantizer, x = _collapsed(reset_share=0.5)
        torch.manual_seed(seed)
        for _ in range(100):
            quantizer(x)
            quantizer.after_step()
        results.append(quantizer.codebook)
    assert torch.equal(*results)


def _collapsed(reset_share: float) -> tuple[VectorQuantizer, Tensor]:
    quantizer = VectorQuantizer(8, 4, 0.25, reset_share, reset_every=10)
    with torch.no_grad():
        quantizer.codebook[:] = torch.tensor([1.0, 0, 0, 0])
        quantizer.codebook[1:] = torch.tensor([-1.0, 0, 0, 0])
    torch.manual_seed(0)
    x = torch.randn(400, 4) * torch.tensor([0.2, 1, 1, 1]) + torch.tensor([1.0, 0, 0, 0])
    return quantizer.train(), x


def test_candidates_come_from_all_rows_and_columns_of_the_frames() -> None:
    quantizer = VectorQuantizer(64, 2, 0.25)
    place = torch.arange(256)  # 8 frames of 16x16 tokens
    angle = place.repeat(8) / 256 * math.pi
    quantizer(torch.stack([angle.cos(), angle.sin()], -1))
    candidates = quantizer.candidates_VK
    picked = (torch.atan2(candidates[:, 1], candidates[:, 0]) / math.pi * 256).round().long()
    assert len((picked % 16).unique()) == 16 and len((picked // 16).unique()) == 16


def test_gaussian_divergence_is_that_of_torch() -> None:
    x = torch.randn(5, 3, 8)
    normal = torch.distributions.Normal(x[..., :4], (0.5 * x[..., 4:]).exp())
    divergence = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    loss = GaussianBottleneck(4, 0.7)(x).loss
    torch.testing.assert_close(loss, 0.7 * divergence.sum(-1).mean())


def test_gaussian_samples_follow_mean_and_variance() -> None:
    x = torch.cat([torch.full((2, 4000, 1), 3.0), torch.full((2, 4000, 1), math.log(0.25))], dim=-1)
    samples = GaussianBottleneck(1, 1.0)(x, [torch.Generator().manual_seed(row) for row in range(2)]).vectors
    assert float(samples.mean()) == pytest.approx(3, abs=0.02)
    assert float(samples.std()) == pytest.approx(0.5, abs=0.02)
    assert not torch.equal(samples[0], samples[1])


def test_gaussian_noise_of_a_row_is_its_own_and_absent_in_evaluation() -> None:
    bottleneck, x = GaussianBottleneck(4, 1.0), torch.randn(3, 5, 8)

    def sample(rows: list[int]) -> Tensor:
        return bottleneck(x[rows], [torch.Generator().manual_seed(row) for row in rows]).vectors

    assert torch.equal(sample([2, 0]), sample([0, 1, 2])[[2, 0]])
    assert torch.equal(bottleneck(x).vectors, x[..., :4])
    bottleneck.eval()
    assert torch.equal(sample([0, 1, 2]), x[..., :4])
