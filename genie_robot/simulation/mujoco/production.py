"""Make many episodes: random streams by episode number, shares of behaviours, worker processes.

An episode depends on nothing but (seed, split, its number), so the result is the same for any number of workers.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from genie_robot.errors import ConfigError

SPLITS: tuple[str, ...] = ("train", "val", "test")


def random_streams(seed: int, split: str, index: int, *more: int) -> list[np.random.Generator]:
    """Return independent generators for scene, choices and behaviour; the splits never share a stream."""
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}, wanted one of {', '.join(SPLITS)}; choose one of these")
    if seed < 0 or index < 0:
        raise ConfigError(f"got seed {seed} and episode {index}, wanted numbers from 0; choose others")
    root = np.random.SeedSequence([seed, SPLITS.index(split), index, *more])
    return [np.random.default_rng(child) for child in root.spawn(3)]


def check_mix(mix: Mapping[str, float] | None, default: Mapping[str, float]) -> dict[str, float]:
    """Return the mix, `default` for None, with shares that add up to one; ConfigError for unknown names."""
    mix = dict(default if mix is None else mix)
    total = sum(mix.values())
    if not set(mix) <= set(default) or not total > 0 or min(mix.values()) < 0:
        raise ConfigError(
            f"mix is {mix}, wanted shares from 0 of {', '.join(default)}; correct the names or shares"
        )
    return {name: share / total for name, share in mix.items()}


def check_counts(train: int, val: int, test: int) -> dict[str, int]:
    """Return the episodes of each split that has any; ConfigError for none at all or less than none."""
    counts = dict(zip(SPLITS, (train, val, test), strict=True))
    if min(counts.values()) < 0 or max(counts.values()) < 1:
        raise ConfigError(f"got {counts} episodes; wanted at least one in all and none below zero")
    return {split: count for split, count in counts.items() if count}


def produce(
    make: Callable[[int], dict[str, Any]],
    num: int,
    *,
    label: str,
    workers: int = 1,
    progress: bool = False,
    encoded: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield `make(0)` to `make(num - 1)` in order; `encoded` gives PNG bytes instead of pixels."""
    if num < 0 or workers < 0:
        raise ConfigError(
            f"got {num} episodes with {workers} workers; wanted at least 0 of each (0 workers: one per core)"
        )
    if encoded:
        make = partial(_encoded, make)
    with _mapper(min(workers or os.cpu_count() or 1, max(num, 1))) as mapped:
        yield from tqdm(mapped(make, range(num)), total=num, desc=label, disable=None if progress else True)


def _encoded(make: Callable[[int], dict[str, Any]], index: int) -> dict[str, Any]:
    """Make an episode and encode its frames, in the worker."""
    episode = make(index)
    frames = episode.pop("frames_TYXC")
    episode["encoded"] = [cv2.imencode(".png", frame[..., ::-1])[1].tobytes() for frame in frames]
    return episode


@contextmanager
def _mapper(workers: int) -> Iterator[Any]:
    """Give a lazy, ordered map over `workers` processes (spawned, so no thread or lock is inherited)."""
    if workers == 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(workers, initializer=_ignore_interrupt) as pool:
        yield partial(pool.imap, chunksize=4)


def _ignore_interrupt() -> None:
    """Leave Ctrl-C to the parent, which ends the pool; else every worker prints its own traceback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
