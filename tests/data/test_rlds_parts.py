"""Reading some episodes of a split: `numbers`, `parts`, and several threads at once."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.open import open_dataset
from genie_robot.data.rlds import RldsDataset
from genie_robot.errors import DataError

Write = Callable[..., Path]
Spans = Callable[[Path], list[tuple[int, int]]]


def only_shard(folder: Path) -> Path:
    (shard,) = folder.glob("*-train.tfrecord*")
    return shard


@pytest.mark.parametrize("shard_bytes", [1, 12_000, 10**8])
@pytest.mark.parametrize(
    "numbers", [range(0), range(2), range(2, 3), range(1, 9, 2), range(4, 99), range(-3, 1)]
)
def test_only_the_episodes_with_the_wanted_numbers(write: Write, numbers: range, shard_bytes: int) -> None:
    dataset = open_dataset(write(shard_bytes=shard_bytes, train=[4, 5, 6, 7, 3]))
    every = {episode.source: episode for episode in dataset.episodes()}
    assert list(every) == [f"toy/train/{n}" for n in range(5)]
    got = list(dataset.episodes(numbers=numbers))
    assert [episode.source for episode in got] == [f"toy/train/{n}" for n in range(5) if n in numbers]
    for episode in got:
        np.testing.assert_array_equal(episode.frames_TYXC, every[episode.source].frames_TYXC)


def test_parts_are_the_shards_and_cover_the_split(write: Write) -> None:
    dataset = open_dataset(write(shard_bytes=12_000, train=[4, 1, 6, 1, 1, 3]))
    parts = dataset.parts("train")
    assert isinstance(dataset, RldsDataset)
    assert len(parts) == len(list(dataset.folder.glob("*-train.tfrecord*"))) > 1
    assert [number for part in parts for number in part] == list(range(6))
    in_parts = [episode.source for part in parts for episode in dataset.episodes(numbers=part)]
    assert in_parts == [episode.source for episode in dataset.episodes()]
    with pytest.raises(DataError, match="no split 'test'"):
        dataset.parts("test")


def test_other_shards_are_not_opened_and_other_records_not_read(write: Write, record_spans: Spans) -> None:
    folder = write(shard_bytes=30_000, train=[1, 1, 1, 1, 1, 1, 9])
    dataset = open_dataset(folder)
    part = next(part for part in dataset.parts("train") if len(part) > 2)
    shard = sorted(folder.glob("*.tfrecord*"))[dataset.parts("train").index(part)]
    for other in folder.glob("*.tfrecord*"):
        if other != shard:
            other.unlink()
    content, (first, *_, last) = bytearray(shard.read_bytes()), record_spans(shard)
    for start, length in (first, last):
        content[start : start + length] = bytes(length)
    shard.write_bytes(content)
    got = dataset.episodes(numbers=part[1:-1])
    assert [episode.source for episode in got] == [f"toy/train/{n}" for n in part[1:-1]]
    assert dataset.bad_records == 0
    with pytest.raises(DataError, match="is missing"):
        dataset.episodes(numbers=range(part.start, part.stop + 1))


def test_a_lost_rest_counts_only_the_wanted_numbers(write: Write, record_spans: Spans) -> None:
    folder = write(train=[1] * 8)
    shard, dataset = only_shard(folder), open_dataset(folder)
    content = bytearray(shard.read_bytes())
    content[record_spans(shard)[3][0] - 12] ^= 1  # the length of record 3: nothing behind it can be found
    shard.write_bytes(content)
    for numbers, good, lost in ((None, 3, 5), (range(5, 7), 0, 2), (range(2, 5), 1, 2), (range(3), 3, 0)):
        assert len(list(dataset.episodes(skip_bad=True, numbers=numbers))) == good
        assert (dataset.bad_records, len(dataset.bad)) == (lost, min(lost, 1))


def test_a_copy_reads_in_another_thread_at_the_same_time(write: Write, record_spans: Spans) -> None:
    folder = write(shard_bytes=1, train=[4, 5, 6, 7])
    shard = sorted(folder.glob("*.tfrecord*"))[1]
    shard.write_bytes(shard.read_bytes()[:50])
    dataset = open_dataset(folder)
    parts, found = dataset.parts("train"), {}

    def read(number: int) -> None:
        own = copy.copy(dataset)
        episodes = list(own.episodes(skip_bad=True, numbers=parts[number]))
        found[number] = ([episode.source for episode in episodes], own.bad_records)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: ([] if n == 1 else [f"toy/train/{n}"], int(n == 1)) for n in range(4)}
    assert (dataset.bad, dataset.bad_records) == ([], 0)
