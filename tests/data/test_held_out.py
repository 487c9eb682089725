from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.data.held_out import chosen_episodes
from genie_robot.errors import DataError


@dataclass
class Source:
    """As much of an EpisodeSource as the rule looks at; `lengths`: pieces of each recording of train."""

    splits: dict[str, int]
    lengths: list[int] = field(default_factory=list)
    name: str = "toy"

    def recordings(self, split: str) -> list[range] | None:
        assert split == "train"
        ends = [sum(self.lengths[: n + 1]) for n in range(len(self.lengths))]
        return [range(end - length, end) for end, length in zip(ends, self.lengths, strict=True)] or None


def chosen(split: str, splits: dict[str, int], *lengths: int) -> list[int]:
    source: Any = Source(splits, list(lengths))
    return chosen_episodes(source, split)[1]


@given(st.lists(st.integers(1, 4), min_size=2, max_size=50))
def test_no_recording_lies_on_both_sides(lengths: list[int]) -> None:
    splits = {"train": sum(lengths)}
    train, val = chosen("train", splits, *lengths), chosen("val", splits, *lengths)
    assert sorted(train + val) == list(range(sum(lengths)))
    recording_of = [n for n, length in enumerate(lengths) for _ in range(length)]
    assert val and not {recording_of[n] for n in train} & {recording_of[n] for n in val}


def test_of_one_recording_the_last_piece_is_held_out_behind_a_guard() -> None:
    assert chosen("train", {"train": 6}, 6) == [0, 1, 2, 3]
    assert chosen("val", {"train": 6}, 6) == [5]
    assert (chosen("train", {"train": 2}, 2), chosen("val", {"train": 2}, 2)) == ([0], [1])
    assert chosen("train", {"train": 1}, 1) == [0]
    with pytest.raises(DataError, match="wanted 2 to hold one out"):
        chosen("val", {"train": 1}, 1)


def test_empty_splits_are_as_good_as_none() -> None:
    assert chosen("val", {"train": 3, "val": 0}) == [2]
    with pytest.raises(DataError, match=r"no split 'train'; wanted one of \[\]"):
        chosen("train", {"train": 0})
    with pytest.raises(DataError, match="no split 'tset'"):
        chosen("tset", {"train": 3, "test": 1})
    assert chosen("test", {"train": 3, "test": 2}) == [0, 1]
