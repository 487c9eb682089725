"""How many tokens a pass reveals, and the Halton order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.errors import ConfigError
from genie_robot.sampling.schedule import halton_ranks, reveal_counts

SCHEDULES = st.sampled_from(["cosine", "arccos"])


@given(st.integers(1, 1000), SCHEDULES, st.data())
def test_every_token_is_revealed_once_and_each_step_reveals_some(
    num_tokens: int, schedule: str, data: st.DataObject
) -> None:
    steps = data.draw(st.integers(1, num_tokens))
    counts = reveal_counts(num_tokens, steps, schedule)
    assert len(counts) == steps
    assert sum(counts) == num_tokens
    assert min(counts) >= 1


def test_the_cosine_schedule_starts_slowly() -> None:
    counts = reveal_counts(256, 8)
    assert counts == [5, 15, 24, 31, 39, 45, 48, 49] == sorted(counts)


def test_the_arccos_schedule_is_even_until_a_large_last_step() -> None:
    counts = reveal_counts(256, 8, "arccos")
    assert counts[0] > 2 * reveal_counts(256, 8)[0]
    assert counts == sorted(counts) and counts[-1] > 2 * counts[0]
    hidden = 256 - np.cumsum(counts)
    np.testing.assert_allclose(hidden, 256 * np.arccos(np.arange(1, 9) / 8) * 2 / np.pi, atol=1)


@pytest.mark.parametrize("steps", [0, -1, 65])
def test_a_wrong_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(ConfigError, match="maskgit_steps"):
        reveal_counts(64, steps)


@given(st.integers(1, 60), st.integers(1, 60))
def test_halton_visits_each_cell_once(rows: int, columns: int) -> None:
    assert sorted(halton_ranks(rows, columns)) == list(range(rows * columns))


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (24, 32), (23, 40)])
def test_the_first_quarter_of_a_halton_order_is_more_even_than_random(rows: int, columns: int) -> None:
    rng = np.random.default_rng(0)
    random = [_unevenness(rng.permutation(rows * columns), rows, columns) for _ in range(20)]
    assert _unevenness(halton_ranks(rows, columns), rows, columns) < 0.6 * min(random)


def _unevenness(ranks: np.ndarray, rows: int, columns: int) -> float:
    """Star discrepancy of the cells of the first quarter: over boxes at a corner, share of cells minus share of area."""
    revealed = (ranks < rows * columns // 4).reshape(rows, columns)
    share = revealed.cumsum(0).cumsum(1) / revealed.sum()
    area = np.arange(1, rows + 1)[:, None] * np.arange(1, columns + 1) / (rows * columns)
    return float(np.abs(share - area).max())
