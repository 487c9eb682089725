"""The one file that imports tensorflow_datasets: `gs://` folders and registered names, as the same `Episode`.

Images, instruction and (when asked) actions are taken still encoded and go through the code of `rlds.py`, so both
doors give the same pixels. Everything else in a step is left undecoded or is not fetched (PartialDecoding does not
reach into `steps`, so TFDS itself does look at the other features; `rlds.py` does not).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.data.rlds import ActionChoice, EpisodeKeys, assemble_episode, rate_hz_of
from genie_robot.data.rlds_features import FeatureSpec
from genie_robot.errors import ConfigError, DataError, DatasetNotFoundError


def _import_tfds() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault(
        "TF_ENABLE_ONEDNN_OPTS", "0"
    )  # saves its notice on stderr; nothing is computed here
    try:
        import tensorflow as tf
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed; wanted it for gs:// and tfds: datasets: pip install 'genie_robot[data]'"
        ) from error
    tf.config.set_visible_devices([], "GPU")  # TensorFlow would take all of the memory that training needs
    return tfds


class TfdsDataset:
    """A dataset read by TFDS; same attributes and `episodes` as `RldsDataset`.

    `path` is `gs://bucket/.../name/version`, any builder directory, or `tfds:name[:version][?data_dir=FOLDER]`.
    """

    def __init__(self, path: str, rate_hz: float | None = None) -> None:
        self._tfds = _import_tfds()
        try:
            if path.startswith("tfds:"):
                name, _, data_dir = path.removeprefix("tfds:").partition("?data_dir=")
                self._builder = self._tfds.builder(name, data_dir=data_dir or None)
            else:
                self._builder = self._tfds.builder_from_directory(path)
        except Exception as error:  # TFDS raises about twenty kinds here: network, names, versions, files
            reason = (
                f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
            )
            raise DatasetNotFoundError(
                f"TFDS cannot open {path} ({reason[:200]}); wanted a builder directory, or name:version with the data there"
            ) from error
        info = self._builder.info
        self.name, self.version = str(info.name), str(info.version)
        self.features = _flatten(self._tfds, info.features)
        self.dt_s = 1.0 / rate_hz_of(self.name, dict(info.metadata or {}), rate_hz)
        self.bad_records = 0

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes."""
        return {str(name): int(split.num_examples) for name, split in self._builder.info.splits.items()}

    def episodes(
        self,
        split: str = "train",
        actions: ActionChoice = False,
        state: bool = False,
        image_key: str | None = None,
        *,
        image_hw: tuple[int, int] | None = None,
        skip_bad: bool = False,
    ) -> Iterator[Episode]:
        """As `RldsDataset.episodes`; TFDS cannot pass over broken records, so `skip_bad` skips bad images only."""
        keys = EpisodeKeys(self.name, self.features, actions, state, image_key)
        if split not in self.splits:
            raise DataError(f"{self.name} has no split {split!r}; wanted one of {sorted(self.splits)}")
        self.bad_records = 0
        return self._read(split, keys, image_hw, skip_bad)

    def _read(
        self, split: str, keys: EpisodeKeys, image_hw: tuple[int, int] | None, skip_bad: bool
    ) -> Iterator[Episode]:
        skip = {"steps": self._tfds.decode.SkipDecoding()}
        read_config = self._tfds.ReadConfig(interleave_cycle_length=1)  # stored order
        records = self._builder.as_dataset(
            split=split, decoders=skip, shuffle_files=False, read_config=read_config
        )
        iterator = records.as_numpy_iterator()
        for number in range(self.splits[split]):
            try:
                record = next(iterator)
            except StopIteration:
                break
            except Exception as error:
                raise DataError(
                    f"TFDS cannot read {self.name}/{split}/{number} ({str(error)[:200]})"
                ) from error
            source = f"{self.name}/{split}/{number}"
            own = keys.of(source)
            values = {path: _as_values(_at(record, path)) for path in own.wanted}
            try:
                yield assemble_episode(values, self.features, own, self.dt_s, source, image_hw)
            except DataError:
                if not skip_bad:
                    raise
                self.bad_records += 1


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
