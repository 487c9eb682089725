"""Read RLDS datasets in TFDS on-disk form (tfrecord shards) without TensorFlow.

    for episode in open_dataset("rt1_rlds").episodes("train"): ...

Actions are not read unless asked for: the parser steps over their bytes (`example_proto.find_features`).
`gs://...` and `tfds:name[:version]` go through TFDS (`tfds_door.py`), which needs the extra `data`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.data.example_proto import FeatureValue, ProtoError, parse_example
from genie_robot.data.registry import DEFAULT_RATE_HZ, FACTS, action_paths, image_path, instruction_path
from genie_robot.data.resize import resize_frame
from genie_robot.data.rlds_features import FeatureSpec, features_from_json
from genie_robot.data.tfrecord import BadRecord, corrupt_record_error, scan_records
from genie_robot.errors import DataError, DatasetNotFoundError, ImageError

log = logging.getLogger(__name__)

# Whose actions to read: of all episodes, of none, or of those whose `Episode.source` the function accepts.
ActionChoice = bool | Callable[[str], bool]

_SEARCH_DEPTH = 3
_DECODE_FLAGS = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION  # as TFDS: the stored pixels, EXIF or not


class EpisodeSource(Protocol):
    """What `open_dataset` returns, whichever door it goes through."""

    name: str
    version: str
    dt_s: float
    bad_records: int

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes."""
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
    ) -> Iterator[Episode]:
        """Episodes in stored order; see `RldsDataset.episodes`."""
        ...


def decode_image(encoded: bytes, shape: tuple[int, ...] = ()) -> np.ndarray:
    """PNG or JPEG bytes -> uint8 RGB (Y, X, 3); ImageError for other bytes, or a size that differs from `shape`."""
    if not encoded.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
        raise ImageError(f"got an image that begins with {encoded[:8]!r}; wanted PNG or JPEG")
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), _DECODE_FLAGS)
    if image is None:
        raise ImageError(
            f"got a PNG or JPEG of {len(encoded)} bytes that does not decode; wanted a whole image"
        )
    if any(wanted not in (-1, got) for wanted, got in zip(shape[:2], image.shape, strict=False)):
        raise ImageError(
            f"got an image of {image.shape[:2]} pixels; wanted {shape[:2]} as features.json says"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def assemble_episode(
    values: Mapping[str, FeatureValue],
    tree: Mapping[str, FeatureSpec],
    keys: EpisodeKeys,
    dt_s: float,
    source: str,
    image_hw: tuple[int, int] | None,
) -> Episode:
    """Decoded features of one record -> Episode; DataError when lengths do not fit together."""
    encoded, spec = values.get(keys.image, []), tree[keys.image]
    if not isinstance(encoded, list):
        raise ImageError(f"{keys.image} holds numbers; wanted encoded images")
    frames = [decode_image(image, spec.shape) for image in encoded]
    if image_hw is not None:
        frames = [resize_frame(frame, *image_hw) for frame in frames]
    if len({frame.shape for frame in frames}) > 1:
        raise ImageError(
            f"{keys.image} changes its size within the episode; wanted one size, or give image_hw"
        )
    empty_hw = image_hw or tuple(max(size, 0) for size in spec.shape[:2]) or (0, 0)
    frames_TYXC = np.stack(frames) if frames else np.zeros((0, *empty_hw, 3), np.uint8)
    texts = values.get(keys.instruction, []) if keys.instruction else []
    instruction = texts[0].decode("utf-8", errors="replace") if isinstance(texts, list) and texts else ""
    actions_TA = state_TS = None
    if keys.actions:
        actions_TA = np.concatenate([_rows(values, tree, path, len(frames)) for path in keys.actions], axis=1)
    if keys.state:
        state_TS = _rows(values, tree, keys.state, len(frames))
    return Episode(frames_TYXC, dt_s, source, instruction, actions_TA, state_TS)


def _rows(
    values: Mapping[str, FeatureValue], tree: Mapping[str, FeatureSpec], path: str, num_frames: int
) -> np.ndarray:
    width = int(np.prod(tree[path].shape, dtype=np.int64))
    flat = values.get(path, np.zeros(0, np.float32))
    if isinstance(flat, list) and not flat:  # an empty list carries no kind
        flat = np.zeros(0, np.float32)
    if isinstance(flat, list) or flat.size != num_frames * width:
        got = "bytes" if isinstance(flat, list) else f"{flat.size} numbers"
        raise DataError(f"{path} holds {got}; wanted {num_frames} frames x {width}")
    return flat.astype(np.float32).reshape(num_frames, width)


class EpisodeKeys:
    """Paths of the features one pass reads, chosen once from the feature tree; DataError when one is missing."""

    def __init__(
        self,
        name: str,
        tree: Mapping[str, FeatureSpec],
        actions: ActionChoice,
        state: bool,
        image_key: str | None,
    ) -> None:
        self.image = image_path(name, tree, image_key)
        self.instruction = instruction_path(tree)
        self.actions: list[str] = action_paths(name, tree) if actions else []
        self._choice = actions
        self.state = "steps/observation/state" if state else None
        if state and self.state not in tree:
            observation = sorted(path for path in tree if path.startswith("steps/observation/"))
            raise DataError(
                f"{name} has no steps/observation/state; found {observation}: read it without the state"
            )

    @property
    def wanted(self) -> set[str]:
        """All paths that are parsed."""
        return {key for key in (self.image, self.instruction, self.state, *self.actions) if key}

    def of(self, source: str) -> EpisodeKeys:
        """What is read of the episode `source`: these keys, without the actions where the choice leaves it out."""
        if not callable(self._choice) or self._choice(source):
            return self
        keys = copy(self)
        keys.actions = []
        return keys


def rate_hz_of(name: str, metadata: Mapping[str, Any], given: float | None = None) -> float:
    """Control rate: as given, else metadata.json's rate_hz, else the registry's, else 5 Hz with a warning."""
    rate = given or metadata.get("rate_hz") or (FACTS[name].rate_hz if name in FACTS else 0)
    if not rate:
        log.warning("the control rate of dataset %s is not known: taking %g Hz", name, DEFAULT_RATE_HZ)
        rate = DEFAULT_RATE_HZ
    if not (isinstance(rate, int | float) and 0 < rate < float("inf")):
        raise DataError(f"the control rate of dataset {name} is {rate!r}; wanted a number of Hz above 0")
    return float(rate)


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
        self.dt_s = 1.0 / rate_hz_of(self.name, self.metadata, rate_hz)
        self.bad_records = 0
        file_format = self.info.get("fileFormat") or "tfrecord"
        if file_format != "tfrecord":
            raise DataError(f"{folder} holds {file_format} files; wanted tfrecord: convert it with TFDS")

    @property
    def splits(self) -> dict[str, int]:
        """Split name -> number of episodes, as dataset_info.json says."""
        return {name: sum(lengths) for name, lengths in self._shard_lengths().items()}

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

    def shards(self, split: str) -> list[tuple[Path, int]]:
        """(file, number of records) of each shard of a split; DataError names an unknown split or a missing file."""
        lengths = self._shard_lengths()
        if split not in lengths:
            raise DataError(f"{self.folder} has no split {split!r}; wanted one of {sorted(lengths)}")
        template = next(s for s in self.info["splits"] if s["name"] == split).get("filepathTemplate")
        template = template or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        count, result = len(lengths[split]), []
        for index, records in enumerate(lengths[split]):
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
            if not path.is_file():
                raise DataError(f"{path} is missing ({count} shards of {split!r} wanted); fetch it again")
            result.append((path, records))
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
    ) -> Iterator[Episode]:
        """Yield the episodes of a split in stored order; nothing but image and instruction is parsed unless asked.

        `actions`: Episode.actions_TA as world_vector, rotation_delta, gripper (of all episodes, or of those whose source
        a function accepts; None for others, whose actions are not parsed). `image_hw`: every frame through
        `resize_frame` (default: as stored). A broken record raises CorruptRecordError with file, record and offset;
        with `skip_bad` it is logged, counted in `self.bad_records` (set to 0 here) and passed over, and so are
        records that a truncated shard has lost. Missing shards and features raise DataError at the call.
        """
        keys = EpisodeKeys(self.name, self.features, actions, state, image_key)
        shards = self.shards(split)
        self.bad_records = 0
        return self._read(split, shards, keys, image_hw, skip_bad)

    def _read(
        self,
        split: str,
        shards: Sequence[tuple[Path, int]],
        keys: EpisodeKeys,
        image_hw: tuple[int, int] | None,
        skip_bad: bool,
    ) -> Iterator[Episode]:
        number = 0
        for path, expected in shards:
            seen = 0
            for record in scan_records(path):
                seen += 1
                if isinstance(record, BadRecord):
                    reason = record.reason
                else:
                    source = f"{self.name}/{split}/{number + seen - 1}"
                    try:
                        own = keys.of(source)
                        values = parse_example(record.payload, own.wanted)
                        episode = assemble_episode(values, self.features, own, self.dt_s, source, image_hw)
                    except (ProtoError, DataError) as error:
                        reason = str(error)
                        if isinstance(error, ImageError) and not skip_bad:
                            raise ImageError(f"{path}: record {record.number}: {error}") from error
                    else:
                        yield episode
                        continue
                self._bad(path, record.number, record.offset, reason, 1, skip_bad)
            if seen < expected:
                reason = f"file ends after {seen} of {expected} records"
                self._bad(path, seen, path.stat().st_size, reason, expected - seen, skip_bad)
            number += expected

    def _bad(self, path: Path, number: int, offset: int, reason: str, count: int, skip_bad: bool) -> None:
        error = corrupt_record_error(path, number, offset, reason)
        if not skip_bad:
            raise error
        self.bad_records += count
        log.warning("skipped %d record(s): %s", count, error)


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


def find_builder_directory(path: str | Path) -> Path:
    """The builder directory at `path` or the only one at most three folders below; else DatasetNotFoundError."""
    root = Path(path)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DatasetNotFoundError(
            f"{root} {what}; wanted a folder with dataset_info.json in it or below (or gs://..., tfds:NAME)"
        )
    found: list[Path] = []
    level = [root]
    for _ in range(_SEARCH_DEPTH + 1):
        found += [folder for folder in level if (folder / "dataset_info.json").is_file()]
        if found:
            break
        level = sorted(child for folder in level for child in _folders(folder))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(folder.relative_to(root)) for folder in found[:8])
        raise DatasetNotFoundError(
            f"{root} holds {len(found)} datasets ({names}); wanted one: give its folder"
        )
    inside = ", ".join(sorted(child.name for child in root.iterdir())[:8]) or "nothing"
    raise DatasetNotFoundError(
        f"{root} holds {inside}; wanted a folder with dataset_info.json in it or below"
    )


def _folders(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
