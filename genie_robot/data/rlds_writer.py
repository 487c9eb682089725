"""Write an RLDS dataset in TFDS on-disk form, without TensorFlow; `tfds.builder_from_directory` reads it back.

    write_dataset("datasets", "tabletop", "0.1.0", {"train": episodes(), "val": more()}, (64, 64), rate_hz=5.0,
                  state_names=STATE_NAMES, description="...", metadata={"seed": 0}) -> Path("datasets/tabletop/0.1.0")

Each episode is a mapping:
    frames_TYXC   uint8 RGB (T, Y, X, 3)          or   encoded: list of T PNG/JPEG byte strings, stored unchanged
    actions       float (T-1, 7) or (T, 7): world_vector 3, rotation_delta 3, gripper_closedness 1 (default: zeros);
                  actions[t] leads from frame t to frame t+1; a missing last row is filled with zeros
    rewards       float (T,)                          (default: zeros)
    instruction   str, any Unicode                    (default: "")
    state         float (T, S), S = len(state_names)  (needed when state_names is given, not allowed otherwise)
    success       bool -> aspects/success             (default: False)
    is_terminal   bool, last step ends the task       (default: True)
    attributes    mapping of fractal attributes to str or int, e.g. {"task_family_name": "push", "task_family": 0,
                  "collection_mode_name": "expert", "env_name": "...", "env": seed, "location_name": "..."}

The feature tree is the one of fractal20220817_data (`rlds_features.py`), so what reads RT-1 reads this. The rate,
the state's names and `metadata` go to metadata.json (TFDS's own place for such). Episodes are streamed: one is in
memory at a time. Everything is written into a temporary folder beside the target, which is renamed at the end, so a
run that was killed leaves no half dataset behind.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from genie_robot.data.atomic import whole_folder
from genie_robot.data.decode import decode_frames
from genie_robot.data.example_proto import serialize_example
from genie_robot.data.rlds_features import FeatureSpec, features_to_json, fractal_features
from genie_robot.data.tfrecord import write_record
from genie_robot.errors import ConfigError, DataError, ImageError

SHARD_BYTES = 100 * 1024 * 1024
_EPISODE_KEYS = {
    "frames_TYXC",
    "encoded",
    "actions",
    "rewards",
    "instruction",
    "state",
    "success",
    "is_terminal",
    "attributes",
}


def write_dataset(
    root: str | Path,
    name: str,
    version: str,
    splits: Mapping[str, Iterable[Mapping[str, Any]]],
    image_hw: tuple[int, int],
    rate_hz: float,
    *,
    encoding: str = "png",
    state_names: Sequence[str] = (),
    description: str = "",
    metadata: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
) -> Path:
    """Write `root/name/version` from iterators of episodes (see the file's docstring); returns that folder.

    `encoding` png (lossless) or jpeg (quality 95). ConfigError when the folder exists and `overwrite` is False, or
    an argument is not allowed; DataError or ImageError for an episode that does not fit; DiskFullError.
    """
    _check_arguments(name, version, splits, encoding, rate_hz, shard_bytes)
    target = Path(root) / name / version
    if target.exists() and not overwrite:
        raise ConfigError(
            f"{target} exists already; wanted a new place: remove it, give another one or overwrite it"
        )
    tree = fractal_features(image_hw, encoding, len(state_names))
    with whole_folder(target) as folder:
        split_infos = [
            _write_split(folder, name, split, episodes, tree, shard_bytes)
            for split, episodes in splits.items()
        ]
        info = {
            "description": description,
            "fileFormat": "tfrecord",
            "name": name,
            "splits": split_infos,
            "version": version,
        }
        facts = {"rate_hz": float(rate_hz), "state_names": list(state_names), **(metadata or {})}
        _write_json(folder / "dataset_info.json", info)
        _write_json(folder / "features.json", features_to_json(tree))
        _write_json(folder / "metadata.json", facts)
    return target


def _check_arguments(
    name: str, version: str, splits: Mapping[str, Any], encoding: str, rate_hz: float, shard_bytes: int
) -> None:
    for label, value in (("name", name), *(("split", split) for split in splits)):
        if not value.isidentifier():
            raise ConfigError(f"dataset {label} is {value!r}; wanted letters, digits and '_'")
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        raise ConfigError(f"dataset version is {version!r}; wanted three numbers such as '0.1.0'")
    if encoding not in ("png", "jpeg"):
        raise ConfigError(f"image encoding is {encoding!r}; wanted 'png' or 'jpeg'")
    if not rate_hz > 0 or shard_bytes < 1 or not splits:
        raise ConfigError(
            f"got rate_hz={rate_hz}, shard_bytes={shard_bytes}, {len(splits)} splits; wanted all > 0"
        )


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(
        json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _write_split(
    folder: Path,
    name: str,
    split: str,
    episodes: Iterable[Mapping[str, Any]],
    tree: Mapping[str, FeatureSpec],
    shard_bytes: int,
) -> dict[str, Any]:
    """Write the shards of one split; returns its entry for dataset_info.json."""
    shard_lengths: list[int] = []
    num_bytes, in_shard = 0, 0
    file: BinaryIO | None = None
    try:
        for number, episode in enumerate(episodes):
            payload = _serialize_episode(episode, tree, f"{split} episode {number}")
            if file is None or in_shard + len(payload) > shard_bytes:
                if file is not None:
                    file.close()
                file = (folder / f"{split}.{len(shard_lengths)}").open("wb")
                shard_lengths.append(0)
                in_shard = 0
            write_record(file, payload)
            shard_lengths[-1] += 1
            in_shard += len(payload)
            num_bytes += len(payload)
    finally:
        if file is not None:
            file.close()
    if not shard_lengths:
        raise DataError(f"split {split!r} has no episodes; wanted at least one")
    for shard in range(len(shard_lengths)):
        final = f"{name}-{split}.tfrecord-{shard:05d}-of-{len(shard_lengths):05d}"
        (folder / f"{split}.{shard}").rename(folder / final)
    return {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": split,
        "numBytes": str(num_bytes),
        "shardLengths": [str(length) for length in shard_lengths],
    }


def _encode_frames(episode: Mapping[str, Any], spec: FeatureSpec, where: str) -> list[bytes]:
    if "encoded" in episode:
        encoded = [bytes(image) for image in episode["encoded"]]
        magic = b"\x89PNG" if spec.encoding == "png" else b"\xff\xd8\xff"
        for step, image in enumerate(encoded):
            if not image.startswith(magic):
                raise ImageError(
                    f"{where}: image {step} begins with {image[:4]!r}; wanted {spec.encoding} bytes"
                )
        # One of them is enough to find a wrong size early; the reader checks them all.
        try:
            decode_frames(encoded[:1], spec.shape)
        except ImageError as error:
            raise ImageError(f"{where}: image 0: {error}") from error
        return encoded
    frames = np.asarray(episode["frames_TYXC"])
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != spec.shape:
        got = f"{frames.dtype} {frames.shape}"
        raise ImageError(f"{where}: frames are {got}; wanted uint8 (T, {', '.join(map(str, spec.shape))})")
    suffix, options = (".png", []) if spec.encoding == "png" else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 95])
    return [cv2.imencode(suffix, frame[..., ::-1], options)[1].tobytes() for frame in frames]


def _table(
    episode: Mapping[str, Any], key: str, rows: int, width: int, where: str, pad_last: bool
) -> np.ndarray:
    """Array `key` of the episode as float32 (rows, width); one missing last row is zero-filled when `pad_last`."""
    if key not in episode or episode[key] is None:
        return np.zeros((rows, width), np.float32)
    table = np.asarray(episode[key], np.float32)
    if width == 1:
        table = table.reshape(-1, 1)
    if pad_last and table.shape == (rows - 1, width):
        table = np.concatenate([table, np.zeros((1, width), np.float32)])
    if table.shape != (rows, width):
        raise DataError(f"{where}: {key} has shape {table.shape}; wanted {(rows, width)} for {rows} frames")
    if not np.isfinite(table).all():
        raise DataError(f"{where}: {key} holds NaN or infinity; wanted finite numbers")
    return table


def _serialize_episode(episode: Mapping[str, Any], tree: Mapping[str, FeatureSpec], where: str) -> bytes:
    """One episode -> one tf.train.Example with every leaf of the tree; leaves nobody gave are zero or empty."""
    unknown = set(episode) - _EPISODE_KEYS
    if unknown or ("frames_TYXC" in episode) == ("encoded" in episode):
        raise DataError(
            f"{where}: got keys {sorted(episode)}; wanted frames_TYXC or encoded, and of {sorted(_EPISODE_KEYS)}"
        )
    images = _encode_frames(episode, tree["steps/observation/image"], where)
    steps = len(images)
    values: dict[str, Any] = {"steps/observation/image": images}
    actions = _table(episode, "actions", steps, 7, where, pad_last=True)
    values["steps/action/world_vector"] = actions[:, :3]
    values["steps/action/rotation_delta"] = actions[:, 3:6]
    values["steps/action/gripper_closedness_action"] = actions[:, 6:]
    values["steps/reward"] = _table(episode, "rewards", steps, 1, where, pad_last=False)
    values["steps/observation/natural_language_instruction"] = [str(episode.get("instruction", ""))] * steps
    state = tree.get("steps/observation/state")
    if (state is None) != (episode.get("state") is None):
        wanted = (
            "no state (no state_names were given)" if state is None else "a state as state_names were given"
        )
        raise DataError(f"{where}: got state {episode.get('state') is not None}; wanted {wanted}")
    if state is not None:
        values["steps/observation/state"] = _table(
            episode, "state", steps, state.shape[0], where, pad_last=False
        )
    step = np.arange(steps)
    terminal = (step == steps - 1) & bool(episode.get("is_terminal", True))
    values["steps/is_first"], values["steps/is_last"] = step == 0, step == steps - 1
    values["steps/is_terminal"] = terminal
    values["steps/action/terminate_episode"] = np.stack([terminal, ~terminal, np.zeros(steps, bool)], axis=1)
    values["aspects/has_aspects"] = np.array([True])
    values["aspects/feasible"] = np.array([True])
    values["aspects/success"] = np.array([bool(episode.get("success", False))])
    for name, value in (episode.get("attributes") or {}).items():
        spec = tree.get(f"attributes/{name}")
        if spec is None or isinstance(value, str) != (spec.kind == "text"):
            known = sorted(
                path.removeprefix("attributes/") for path in tree if path.startswith("attributes/")
            )
            raise DataError(
                f"{where}: attribute {name}={value!r}; wanted str for *_name, int else, of {known}"
            )
        values[f"attributes/{name}"] = [value] if isinstance(value, str) else np.array([value], np.int64)
    for path, spec in tree.items():
        if path not in values:
            values[path] = _default(spec, steps if path.startswith("steps/") else 1)
    return serialize_example(values)


def _default(spec: FeatureSpec, rows: int) -> Any:
    return [b""] * rows if spec.kind == "text" else np.zeros((rows, *spec.shape), spec.dtype)
