from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.order import BLOCK, Order, mixture_weights
from genie_robot.errors import ConfigError

SIZES, WEIGHTS = [1000, 37, 5], [0.6, 0.3, 0.1]


def test_a_mixture_has_the_shares_it_was_given_in_every_block() -> None:
    order = Order(SIZES, WEIGHTS)
    datasets, _ = order.draw(np.arange(3 * BLOCK), seed=5)
    for block in datasets.reshape(3, BLOCK):
        counts = np.bincount(block, minlength=3)
        np.testing.assert_allclose(counts / BLOCK, WEIGHTS, atol=1 / BLOCK)
        np.testing.assert_allclose(counts / BLOCK, order.shares)
    assert not np.array_equal(datasets[:BLOCK], datasets[BLOCK : 2 * BLOCK])
    assert abs(np.corrcoef(datasets[:-1], datasets[1:])[0, 1]) < 0.05, "no runs of one dataset"


def test_no_window_of_a_mixture_is_drawn_more_than_once_more_than_another() -> None:
    order = Order(SIZES, WEIGHTS)
    datasets, windows = order.draw(np.arange(4 * BLOCK), seed=5)
    for dataset, size in enumerate(SIZES):
        counts = np.bincount(windows[datasets == dataset], minlength=size)
        assert len(counts) == size
        assert counts.max() - counts.min() <= 1


@given(st.integers(0, 3 * BLOCK), st.integers(1, 40), st.integers(0, 9))
def test_any_piece_of_the_order_can_be_drawn_alone(first: int, count: int, seed: int) -> None:
    """What makes resuming, processes and threads exact: no sample depends on those before it having been drawn."""
    order = Order(SIZES, WEIGHTS)
    datasets, windows = order.draw(np.arange(first, first + count), seed)
    for number in range(count):
        alone = order.draw(np.array([first + number]), seed)
        assert (alone[0][0], alone[1][0]) == (datasets[number], windows[number])


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=60))
def test_quotas_add_up_and_none_is_zero(weights: list[float]) -> None:
    order = Order([7] * len(weights), weights)
    assert order.quotas.sum() == BLOCK
    assert order.quotas.min() >= 1


def test_weights_count_windows_or_shares() -> None:
    assert mixture_weights([10, 30], None, balanced=True) == [10, 30]
    assert mixture_weights([10, 30], [0.5, 1.0], balanced=True) == [5, 30]
    assert mixture_weights([10, 30], [0.5, 1.0], balanced=False) == [0.5, 1.0]


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0, 1.0], [1.0, float("nan"), 1.0], [1.0, -1.0, 1.0]])
def test_wrong_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="wanted a number above 0 for each"):
        Order(SIZES, weights)


def test_other_data_has_another_fingerprint() -> None:
    names = {Order(sizes, weights).fingerprint for sizes in ([5, 6], [6, 5]) for weights in ([1, 1], [1, 3])}
    assert len(names) == 4
