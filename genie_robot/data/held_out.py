"""Which episodes are held out for validation, where a dataset does not say so itself.

`split="val"` is the dataset's own `val` or `validation` split. A dataset without one is divided by number: of every k
recordings (k = 20 or, in a smaller dataset, their number) the last is held out, and `split="train"` is the rest. A recording
is an episode, or for bags and videos all the pieces that were recorded in one go: frames of the same minute must not lie on both
sides. Of a single recording in pieces the last is held out, and the one before it belongs to neither split.
Any other split name is taken as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

from genie_robot.data.rlds import EpisodeSource
from genie_robot.errors import DataError

HELD_OUT_EVERY = 20
_OWN_HELD_OUT = ("val", "validation")


def chosen_episodes(source: EpisodeSource, split: str, limit: int | None = None) -> tuple[str, list[int]]:
    """The dataset's own split, and the episode numbers in it (at most `limit`), that `split` means. DataError for none."""
    splits = {name: count for name, count in source.splits.items() if count}
    own = next((name for name in _OWN_HELD_OUT if name in splits), None)
    if split == "val" and own:
        split = own
    if split not in splits and not (split == "val" and "train" in splits):
        raise DataError(f"{source.name} has no split {split!r}; wanted one of {sorted(splits)}")
    if own or split not in ("train", "val"):
        return split, list(range(splits[split]))[:limit]
    recordings = source.recordings("train") or [range(n, n + 1) for n in range(splits["train"])]
    numbers = _divided(recordings, split)
    if not numbers:
        raise DataError(
            f"{source.name} has {splits['train']} training episode(s) and no val split; wanted 2 to hold one out"
        )
    return "train", numbers[:limit]


def _divided(recordings: Sequence[range], split: str) -> list[int]:
    period = min(HELD_OUT_EVERY, len(recordings))
    if period < 2:
        pieces = list(recordings[0])
        if len(pieces) < 2:
            return pieces if split == "train" else []
        return pieces[-1:] if split == "val" else pieces[: max(1, len(pieces) - 2)]
    chosen = [r for n, r in enumerate(recordings) if (n % period == period - 1) == (split == "val")]
    return [number for recording in chosen for number in recording]
