"""Read RLDS datasets in TFDS on-disk form (tfrecord shards) without TensorFlow.

    for episode in open_dataset("rt1_rlds").episodes("train"): ...

Actions are not read unless asked for: the parser steps over their bytes (`example_proto.find_features`).
`gs://...` and `tfds:name[:version]` go through TFDS (`tfds_door.py`), which needs the extra `data`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from genie_robot.data.assemble import ActionChoice, EpisodeKeys, assemble_episode, layout_name, rate_hz_of
from genie_robot.data.episode import Episode
from genie_robot.data.example_proto import ProtoError, parse_example
from genie_robot.data.registry import OBSERVATION, image_keys, image_path
from genie_robot.data.rlds_features import features_from_json
from genie_robot.data.tfrecord import BadRecord, corrupt_record_error, scan_records
from genie_robot.errors import CorruptRecordError, DataError, ImageError

log = logging.getLogger(__name__)


class EpisodeSource(Protocol):
    """What `open_dataset` returns, whichever door it goes through.

    `copy.copy(source)` can be read in another thread at the same time. `bad` says what the last call of `episodes` has
    passed over (each names file, record and offset), `bad_records` how many records were lost by that.
    """

    name: str
    version: str
    dt_s: float
    bad_records: int
    bad: list[CorruptRecordError]

    @property
    def folder(self) -> Path | str:
        """Where it is: a folder, a file or an address."""
        ...

    @property
    def cameras(self) -> Collection[str]:
        """What `image_key` can be."""
        ...

    def camera(self, image_key: str | None = None) -> str:
        """The camera that is read for an `image_key`; DataError lists what is there."""
        ...

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes."""
        ...

    def parts(self, split: str) -> list[range]:
        """All episode numbers of a split, in consecutive pieces that can be read independently (`numbers`)."""
        ...

    @property
    def records(self) -> dict[str, int]:
        """Split -> what `bad_records` counts: episodes, or the messages of a bag."""
        ...

    def recordings(self, split: str) -> list[range] | None:
        """Episode numbers by recording, where several episodes were recorded in one go; None where each stands alone."""
        ...

    def episodes(
        self,
        split: str = "train",
        actions: ActionChoice = False,
        state: bool = False,
        image_key: str | None = None,
        *,
        image_hw: tuple[int, int] | None = None,
        skip_bad: bool = False,
        numbers: Collection[int] | None = None,
        stride: int = 1,
    ) -> Iterator[Episode]:
        """Episodes in stored order; see `RldsDataset.episodes`."""
        ...


class Shard(NamedTuple):
    """A file and the numbers of the episodes in it."""

    path: Path
    numbers: range


class RldsDataset:
    """A builder directory (dataset_info.json, features.json, tfrecord shards) on this machine."""

    def __init__(self, folder: Path, rate_hz: float | None = None) -> None:
        self.folder = folder
        self.info = _read_json(folder / "dataset_info.json")
        self.features = features_from_json(_read_json(folder / "features.json"))
        optional = folder / "metadata.json"
        self.metadata = _read_json(optional) if optional.exists() else {}
        self.name = str(self.info.get("name", folder.parent.name))
        self.version = str(self.info.get("version", folder.name))
        self.layout = layout_name(self.name, self.metadata)
        self.dt_s = 1.0 / rate_hz_of(self.name, self.metadata, rate_hz)
        self.bad_records = 0
        self.bad: list[CorruptRecordError] = []
        kind = self.info.get("fileFormat") or "tfrecord"
        if kind != "tfrecord":
            raise DataError(
                f"{folder} holds {kind} files; wanted tfrecord: open_dataset reads others through TFDS"
            )

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes, as dataset_info.json says."""
        return {name: sum(lengths) for name, lengths in self._shard_lengths().items()}

    @property
    def cameras(self) -> list[str]:
        """Keys of the colour images under steps/observation (or steps)."""
        return image_keys(self.features)

    def camera(self, image_key: str | None = None) -> str:
        """The camera that is read for an `image_key`: that one, else the registry's, else by rule (`registry.image_path`)."""
        return image_path(self.layout, self.features, image_key).removeprefix(OBSERVATION)

    @property
    def state_names(self) -> list[str]:
        """Names of the state's numbers, where metadata.json gives them."""
        return list(self.metadata.get("state_names", []))

    def _shard_lengths(self) -> dict[str, list[int]]:
        try:
            return {
                str(split["name"]): [int(length) for length in split.get("shardLengths", [])]
                for split in self.info.get("splits", [])
            }
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{self.folder / 'dataset_info.json'}: splits cannot be read ({error!r})"
            ) from error

    @property
    def records(self) -> dict[str, int]:
        """Same as `splits`: a record is an episode."""
        return self.splits

    def recordings(self, split: str) -> None:
        """Every episode stands alone."""
        return

    def parts(self, split: str) -> list[range]:
        """The episode numbers of each shard of a split."""
        return [shard.numbers for shard in self.shards(split)]

    def shards(self, split: str) -> list[Shard]:
        """File and episode numbers of each shard of a split, whether the file is there or not; DataError for another split."""
        lengths = self._shard_lengths()
        if split not in lengths:
            raise DataError(f"{self.folder} has no split {split!r}; wanted one of {sorted(lengths)}")
        template = next(s for s in self.info["splits"] if s["name"] == split).get("filepathTemplate")
        template = template or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        count, result = len(lengths[split]), []
        for index, (first, end) in enumerate(pairwise(accumulate(lengths[split], initial=0))):
            fields = {
                "DATASET": self.name,
                "SPLIT": split,
                "FILEFORMAT": "tfrecord",
                "SHARD_INDEX": f"{index:05d}",
                "NUM_SHARDS": f"{count:05d}",
                "SHARD_X_OF_Y": f"{index:05d}-of-{count:05d}",
            }
            try:
                path = self.folder / template.format(**fields)
            except (KeyError, IndexError, ValueError) as error:
                raise DataError(
                    f"{self.folder}: file name template {template!r} is not TFDS's ({error!r})"
                ) from error
            result.append(Shard(path, range(first, end)))
        return result

    def episodes(
        self,
        split: str = "train",
        actions: ActionChoice = False,
        state: bool = False,
        image_key: str | None = None,
        *,
        image_hw: tuple[int, int] | None = None,
        skip_bad: bool = False,
        numbers: Collection[int] | None = None,
        stride: int = 1,
    ) -> Iterator[Episode]:
        """Yield the episodes of a split in stored order; nothing but image and instruction is parsed unless asked.

        `actions`: Episode.actions_TA in the common convention (`actions.py`), of all episodes, or of those whose source a
        function accepts; None for others, whose actions are not parsed. `image_hw`: every frame through `resize_frame`
        (default: as stored). `numbers`: only the episodes with these numbers in the split; shards without any of them are
        not opened, and `Episode.source` stays the same. `stride`: only every such frame, with the actions in between added
        up (`resample.py`). A broken record raises CorruptRecordError with file, record and offset; with `skip_bad` it is
        logged, kept in `self.bad`, counted in `self.bad_records` (both are new with each call) and passed over, and so are
        records that a truncated shard has lost. Missing shards and features raise DataError at the call.
        """
        keys = EpisodeKeys(self.name, self.features, actions, state, image_key, self.metadata)
        shards = self.shards(split)
        if numbers is not None:
            low, high = min(numbers, default=0), max(numbers, default=-1)
            near = [s for s in shards if s.numbers.start <= high and low < s.numbers.stop]
            shards = [shard for shard in near if any(number in numbers for number in shard.numbers)]
        for shard in shards:
            if not shard.path.is_file():
                raise DataError(
                    f"{shard.path} is missing ({len(shards)} shards of {split!r} wanted); fetch it again"
                )

        def decode(payload: bytes, number: int) -> Episode:
            source = f"{self.name}/{split}/{number}"
            own = keys.of(source)
            values = parse_example(payload, own.wanted)
            return assemble_episode(values, self.features, own, self.dt_s, source, image_hw, stride)

        self.bad_records, self.bad = 0, []
        return chain.from_iterable(self._read(shard, numbers, decode, skip_bad) for shard in shards)

    def _read(
        self,
        shard: Shard,
        numbers: Collection[int] | None,
        decode: Callable[[bytes, int], Episode],
        skip_bad: bool,
    ) -> Iterator[Episode]:
        first, count = shard.numbers.start, len(shard.numbers)
        wanted = None if numbers is None else {n - first for n in shard.numbers if n in numbers}
        left = count if wanted is None else len(wanted)
        for record in scan_records(shard.path, wanted):
            if record.number >= count:
                error = DataError(f"dataset_info.json says that there are {count} records")
                self._bad(shard.path, record.number, record.offset, error, 0, skip_bad)
                return
            lost = 1
            try:
                if isinstance(record, BadRecord):
                    lost = left if record.ends_file else 1
                    raise DataError(record.reason)
                episode = decode(record.payload, first + record.number)
            except (ProtoError, DataError) as error:
                self._bad(shard.path, record.number, record.offset, error, lost, skip_bad)
            else:
                yield episode
            left -= lost
            if not left and wanted is not None:
                return  # what follows was not asked for
        if left > 0:
            error = DataError(f"file ends {left} records before the {count} of dataset_info.json")
            self._bad(shard.path, count - left, shard.path.stat().st_size, error, left, skip_bad)

    def _bad(self, path: Path, number: int, offset: int, error: Exception, lost: int, skip_bad: bool) -> None:
        """Raise the error with its place, or note it and go on."""
        corrupt = corrupt_record_error(path, number, offset, str(error))
        if not skip_bad:
            if isinstance(error, ImageError):
                raise ImageError(f"{path}: record {number}: {error}") from error
            raise corrupt from error
        self.bad_records += lost
        self.bad.append(corrupt)
        log.warning("%d record(s) lost: %s", lost, corrupt)


def _has_some(own: range, wanted: range) -> bool:
    """Whether an episode is in both; the borders are looked at first, for a dataset may have a thousand shards."""
    overlap = own.start < wanted.stop and wanted.start < own.stop
    return overlap and any(number in wanted for number in own)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing; wanted a TFDS builder directory: fetch the file again"
        ) from error
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch the file again") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds {type(content).__name__}; wanted a JSON object: fetch the file again")
    return content


def file_format(folder: Path) -> str:
    """Format of the files of a builder directory as dataset_info.json says: tfrecord, array_record, ..."""
    return str(_read_json(folder / "dataset_info.json").get("fileFormat") or "tfrecord")
