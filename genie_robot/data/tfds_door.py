"""The one file that imports tensorflow_datasets: `gs://` folders, registered names and array_record, as the same `Episode`.

Images, instruction and (when asked) actions are taken still encoded and go through the code of `rlds.py`, so both
doors give the same pixels. Everything else in a step is left undecoded or is not fetched (PartialDecoding does not
reach into `steps`, so TFDS itself does look at the other features; `rlds.py` does not).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.assemble import ActionChoice, EpisodeKeys, assemble_episode, layout_name, rate_hz_of
from genie_robot.data.episode import Episode
from genie_robot.data.example_proto import ProtoError, parse_example
from genie_robot.data.registry import OBSERVATION, image_keys, image_path
from genie_robot.data.rlds_features import FeatureSpec
from genie_robot.errors import ConfigError, CorruptRecordError, DataError, DatasetNotFoundError, ImageError

log = logging.getLogger(__name__)

_ARRAY_RECORD = "array_record"
# What TensorFlow and array_record raise for a record that is broken or not there, rather than out of reach.
_BROKEN = {"DataLossError", "InvalidArgumentError", "OutOfRangeError", "StopIteration", "RuntimeError"}


def _import_tfds(path: str) -> Any:
    """tensorflow_datasets, and unless it can do without TensorFlow too, with the GPUs hidden from that; else ConfigError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(
        "TF_ENABLE_ONEDNN_OPTS", "0"
    )  # saves its notice on stderr; nothing is computed here
    try:
        if not _is_array_record(path):
            import tensorflow as tf

            tf.config.set_visible_devices([], "GPU")  # it would take all of the memory that training needs
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed; wanted it for {path}: pip install 'genie_robot[data]'"
        ) from error
    return tfds


def _is_array_record(path: str) -> bool:
    """Whether `path` is a folder on this machine with array_record files, which TFDS reads by itself."""
    info = Path(path) / "dataset_info.json"
    return info.is_file() and _ARRAY_RECORD in info.read_text(encoding="utf-8", errors="replace")


class TfdsDataset:
    """A dataset read by TFDS; same attributes and `episodes` as `RldsDataset`.

    `path` is `gs://bucket/.../name/version`, any builder directory, or `tfds:name[:version][?data_dir=FOLDER]`.
    """

    def __init__(self, path: str, rate_hz: float | None = None) -> None:
        self._tfds = _import_tfds(path)
        try:
            if path.startswith("tfds:"):
                name, _, data_dir = path.removeprefix("tfds:").partition("?data_dir=")
                self._builder = self._tfds.builder(name, data_dir=data_dir or None)
            else:
                self._builder = self._tfds.builder_from_directory(path)
        except Exception as error:  # TFDS raises about twenty kinds here: network, names, versions, files
            raise DatasetNotFoundError(
                f"TFDS cannot open {path} ({_first_line(error)}); wanted a builder directory, or name:version with the data there"
            ) from error
        info = self._builder.info
        self.folder = str(self._builder.data_path)
        self.name, self.version = str(info.name), str(info.version)
        self.features = _flatten(self._tfds, info.features)
        self.metadata = dict(info.metadata or {})
        self.layout = layout_name(self.name, self.metadata)
        self.dt_s = 1.0 / rate_hz_of(self.name, self.metadata, rate_hz)
        self.bad_records = 0
        self.bad: list[CorruptRecordError] = []

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes."""
        return {str(name): int(split.num_examples) for name, split in self._builder.info.splits.items()}

    @property
    def cameras(self) -> list[str]:
        """As `RldsDataset.cameras`."""
        return image_keys(self.features)

    def camera(self, image_key: str | None = None) -> str:
        """As `RldsDataset.camera`."""
        return image_path(self.layout, self.features, image_key).removeprefix(OBSERVATION)

    @property
    def records(self) -> dict[str, int]:
        """Same as `splits`: a record is an episode."""
        return self.splits

    def recordings(self, split: str) -> None:
        """Every episode stands alone."""
        return

    def parts(self, split: str) -> list[range]:
        """The episode numbers of each shard of a split."""
        self._check(split)
        lengths = self._builder.info.splits[split].shard_lengths
        return [range(first, end) for first, end in pairwise(accumulate(map(int, lengths), initial=0))]

    def _check(self, split: str) -> None:
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}; wanted one of {sorted(self.splits)}")

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
        """As `RldsDataset.episodes`; a record that TFDS finds broken is passed over by opening its shard again behind it."""
        keys = EpisodeKeys(self.name, self.features, actions, state, image_key, self.metadata)
        self._check(split)
        wanted = range(self.splits[split]) if numbers is None else numbers
        self.bad_records, self.bad = 0, []
        return self._read(split, wanted, keys, image_hw, skip_bad, stride)

    def _read(
        self,
        split: str,
        numbers: Collection[int],
        keys: EpisodeKeys,
        image_hw: tuple[int, int] | None,
        skip_bad: bool,
        stride: int,
    ) -> Iterator[Episode]:
        for number, record in self._stored(split, numbers, skip_bad):
            source = f"{self.name}/{split}/{number}"
            own = keys.of(source)
            try:
                if isinstance(record, bytes):
                    values = parse_example(record, own.wanted)
                else:
                    values = {path: _as_values(_at(record, path)) for path in own.wanted}
                episode = assemble_episode(values, self.features, own, self.dt_s, source, image_hw, stride)
            except (ProtoError, DataError) as error:
                self._bad(source, error, skip_bad)
            else:
                yield episode

    def _stored(self, split: str, numbers: Collection[int], skip_bad: bool) -> Iterator[tuple[int, Any]]:
        """(number, record) of the wanted episodes; behind a broken record the split is opened again."""
        records: Iterator[Any] | None = None
        first, stop = min(numbers, default=0), min(max(numbers, default=-1) + 1, self.splits[split])
        for number in range(first, stop):
            try:
                records = records or self._records(split, number, stop)
                record = next(records)
            except Exception as error:
                records = None
                if type(error).__name__ not in _BROKEN:
                    raise DataError(
                        f"TFDS cannot read {self.name}/{split}/{number} ({_first_line(error)})"
                    ) from error
                if number in numbers:
                    self._bad(f"{self.name}/{split}/{number}", error, skip_bad)
            else:
                if number in numbers:
                    yield number, record

    def _records(self, split: str, first: int, stop: int) -> Iterator[Any]:
        """Records of the split from number `first` on, in stored order; other shards are not opened.

        bytes where the format has random access (array_record), else what TFDS makes of them with the images undecoded.
        """
        part = f"{split}[{first}:{min(stop, self.splits[split])}]"
        if self._builder.info.file_format.value == _ARRAY_RECORD:
            raw = self._tfds.decode.DeserializeMethod.RAW_BYTES
            source = self._builder.as_data_source(split=part, deserialize_method=raw)
            return (source[number] for number in range(len(source)))
        return self._builder.as_dataset(
            split=part,
            decoders={"steps": self._tfds.decode.SkipDecoding()},
            shuffle_files=False,
            read_config=self._tfds.ReadConfig(interleave_cycle_length=1),
        ).as_numpy_iterator()

    def _bad(self, source: str, error: Exception, skip_bad: bool) -> None:
        """Raise the error with its place, or note it and go on."""
        if isinstance(error, ImageError) and not skip_bad:
            raise error
        reason = "the shard ends before it" if isinstance(error, StopIteration) else _first_line(error)
        corrupt = CorruptRecordError(
            f"{source} cannot be read ({reason}); fetch the shard again, or skip bad records"
        )
        if not skip_bad:
            raise corrupt from error
        self.bad_records += 1
        self.bad.append(corrupt)
        log.warning("1 record(s) lost: %s", corrupt)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:200]


def _at(record: Any, path: str) -> np.ndarray:
    for name in path.split("/"):
        record = record[name]
    return np.asarray(record)


def _as_values(array: np.ndarray) -> list[bytes] | np.ndarray:
    return [bytes(item) for item in array.reshape(-1)] if array.dtype.kind in "OS" else array.reshape(-1)


def _flatten(tfds: Any, feature: Any, path: str = "") -> dict[str, FeatureSpec]:
    """TFDS feature tree -> leaves by path, as `features_from_json` gives them."""
    if isinstance(feature, tfds.features.FeaturesDict):
        leaves: dict[str, FeatureSpec] = {}
        for name, child in feature.items():
            leaves |= _flatten(tfds, child, f"{path}/{name}" if path else name)
        return leaves
    if isinstance(feature, tfds.features.Dataset):
        return _flatten(tfds, feature.feature, path)
    shape = tuple(-1 if size is None else int(size) for size in feature.shape)
    if isinstance(feature, tfds.features.Image):
        return {path: FeatureSpec("image", shape, "uint8", feature._encoding_format or "")}
    is_text = np.dtype(feature.np_dtype).kind in "OSU"
    return {
        path: FeatureSpec("text")
        if is_text
        else FeatureSpec("tensor", shape, np.dtype(feature.np_dtype).name)
    }
