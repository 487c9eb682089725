"""Tables that share FSQ levels: the sum of each token's own row and those of its digits, in embedding and logits alike."""

from __future__ import annotations

import torch

from genie_robot.nn.level_tables import LevelEmbedding, LevelHead
from genie_robot.nn.quantize_fixed import FiniteScalarQuantizer

LEVELS = (8, 6, 5)
TOKENS = torch.arange(240)


def multi_hot() -> torch.Tensor:
    """Which level rows each token has, by the quantizer's own digits."""
    quantizer = FiniteScalarQuantizer(LEVELS, 4)
    digits = torch.div(TOKENS[:, None], quantizer.stride_Q, rounding_mode="floor") % quantizer.levels_Q
    offsets = torch.tensor([0, 8, 14])
    hot = torch.zeros(240, sum(LEVELS))
    return hot.scatter_(1, digits + offsets, 1.0)


def test_an_embedding_is_the_tokens_row_and_those_of_its_digits() -> None:
    table = LevelEmbedding(LEVELS, 16)
    assert torch.allclose(table(TOKENS), table.weight[:240] + multi_hot() @ table.levels_LD, atol=1e-6)
    assert table(torch.tensor([[240]])).shape == (1, 1, 16)  # the mask


def test_logits_are_those_of_the_same_sum() -> None:
    head, x = LevelHead(LEVELS, 16), torch.randn(2, 3, 16)
    weight = head.weight + multi_hot() @ head.levels_LD
    assert torch.allclose(head(x), x @ weight.T, atol=1e-5)


def test_what_is_learned_of_one_token_reaches_those_that_share_levels_with_it() -> None:
    torch.manual_seed(0)
    head, x = LevelHead(LEVELS, 16), torch.randn(1, 16)
    before = head(x).detach()
    head(x)[0, 17].backward()
    with torch.no_grad():
        for parameter in head.parameters():
            assert parameter.grad is not None
            parameter += 0.1 * parameter.grad
    shared = multi_hot() @ multi_hot()[17]
    rise = (head(x) - before)[0].detach()
    assert torch.allclose(rise[shared == 0], torch.zeros(1), atol=1e-5)
    assert rise[17] > rise[shared == 2].max() > rise[shared == 1].max() > 0
