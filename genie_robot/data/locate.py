"""Where a dataset is: a folder, a registered name in one of the usual roots, or the public bucket.

    locate("bridge_dataset", root="/data/oxe")    ->  /data/oxe/bridge_dataset/1.0.0, read without TensorFlow

Roots, in this order: the one given, $GENIE_ROBOT_DATA, $TFDS_DATA_DIR, ~/tensorflow_datasets. Files lie there as TFDS
puts them: NAME/VERSION or NAME/CONFIG/VERSION. tfrecord files are read by `rlds.py`, other formats by `tfds_door.py`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from genie_robot.data.bags.places import natural_order
from genie_robot.data.registry import BUCKET, FACTS, DatasetFacts
from genie_robot.data.rlds import file_format
from genie_robot.errors import DatasetNotFoundError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".webm")
_SEARCH_DEPTH = 3
_NAME = re.compile(r"(?P<name>\w+)(?:[:/](?P<version>\d+\.\d+\.\d+))?")


@dataclass(frozen=True)
class Location:
    """A dataset that was found: its folder or address, whether TFDS has to read it, and in words how it is read."""

    place: str
    through_tfds: bool
    how: str


def data_roots(root: str | Path | None = None) -> list[Path]:
    """Folders that are searched for a name, the one given first; whether they exist or not."""
    places = [root, os.environ.get("GENIE_ROBOT_DATA"), os.environ.get("TFDS_DATA_DIR")]
    home = Path.home() / "tensorflow_datasets"
    return list(dict.fromkeys([*(Path(place).expanduser() for place in places if place), home]))


def locate(place: str | Path, root: str | Path | None = None) -> Location:
    """Find what `place` means; DatasetNotFoundError says where was looked.

    An address (`gs://`, `tfds:`) goes to TFDS. A folder with a dataset is taken; else NAME, NAME:VERSION or NAME/VERSION is
    searched in the roots (without a version: the registry's, else the highest); else a registered name is read from
    Google Cloud. Nothing here touches the network.
    """
    text = str(place)
    if text.startswith(("gs://", "tfds:")):
        return Location(text, True, "through TensorFlow Datasets")
    parts = _NAME.fullmatch(text)
    if parts is None or builder_directories(place):
        return _local(find_builder_directory(place))
    name, version = parts["name"], parts["version"]
    roots = data_roots(root)
    for folder in roots:
        for other in _names(name):
            found = _versions(folder / other)
            if found and (version is None or version in found):
                return _local(_choose(name, version, found))
    looked = ", ".join(str(folder) for folder in roots)
    if name not in FACTS:
        if Path(place).exists():
            find_builder_directory(place)  # says what is there instead of a dataset
        raise DatasetNotFoundError(
            f"{text} is no folder, no data set in {looked}, and not registered: give a folder, or see `genie-robot data list`"
        )
    facts = facts_of_version(FACTS[name], version)
    if facts.server != BUCKET or not facts.path:
        raise DatasetNotFoundError(
            f"{text} is not in {looked}, and not on Google Cloud: `genie-robot data fetch {name}`, or give --root or a folder"
        )
    address = f"gs://gresearch/robotics/{facts.path}"
    return Location(address, True, f"from Google Cloud through TensorFlow Datasets (it is not in {looked})")


def facts_without_files(place: str | Path, root: str | Path | None = None) -> DatasetFacts | None:
    """The registry's facts when `place` is a registered name of which no file is here, else None."""
    facts = registered(place)
    if facts is None or (Path(place).exists() and (Path(place).is_file() or any(Path(place).iterdir()))):
        return None
    try:
        away = locate(place, root).place.startswith("gs://")
    except DatasetNotFoundError:
        away = True
    return facts if away else None


def registered(place: str | Path) -> DatasetFacts | None:
    """The registry's facts of NAME, NAME:VERSION or NAME/VERSION; None when no such name is registered."""
    parts = _NAME.fullmatch(str(place))
    if parts is None or parts["name"] not in FACTS:
        return None
    return facts_of_version(FACTS[parts["name"]], parts["version"])


def facts_of_version(facts: DatasetFacts, version: str | None) -> DatasetFacts:
    """The same dataset in another version, whose number of files and size are not known."""
    if version is None or version == facts.version:
        return facts
    path = f"{facts.path.partition('/')[0]}/{version}"
    return replace(facts, path=path, shards={}, episodes={}, gib=None)


def _names(name: str) -> list[str]:
    """Folders that hold the dataset `name`: its own, the one it has on the server, and its other names."""
    if name not in FACTS:
        return [name]
    facts = FACTS[name]
    return list(dict.fromkeys([name, facts.path.partition("/")[0] or name, facts.name, *facts.aliases]))


def _versions(folder: Path) -> dict[str, list[Path]]:
    """Version -> builder directories of that version in `folder` (several when it has configurations)."""
    found: dict[str, list[Path]] = {}
    for info in sorted([*folder.glob("*/dataset_info.json"), *folder.glob("*/*/dataset_info.json")]):
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name):
            found.setdefault(info.parent.name, []).append(info.parent)
    return found


def _choose(name: str, version: str | None, found: dict[str, list[Path]]) -> Path:
    if version is None and name in FACTS and FACTS[name].version in found:
        version = FACTS[name].version
    version = version or max(found, key=lambda text: tuple(int(number) for number in text.split(".")))
    if len(found[version]) > 1:
        places = ", ".join(str(folder) for folder in found[version])
        raise DatasetNotFoundError(f"{name} {version} is there in several forms: give one of {places}")
    return found[version][0]


def _local(folder: Path) -> Location:
    kind = file_format(folder)
    if kind == "tfrecord":
        return Location(str(folder), False, "without TensorFlow")
    return Location(str(folder), True, f"through TensorFlow Datasets, because its files are {kind}")


def find_builder_directory(path: str | Path) -> Path:
    """The builder directory at `path` or the only one at most three folders below; else DatasetNotFoundError."""
    root = Path(path)
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DatasetNotFoundError(
            f"{root} {what}; wanted an RLDS folder (dataset_info.json in it or below), ROS bags, "
            "a LeRobot folder, videos, a registered name, gs://... or tfds:NAME"
        )
    found = builder_directories(root)
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


def builder_directories(path: str | Path) -> list[Path]:
    """The builder directories at `path`, or on the first level of folders below it that has some; three levels at most."""
    level = [Path(path)] if Path(path).is_dir() else []
    for _ in range(_SEARCH_DEPTH + 1):
        found = [folder for folder in level if (folder / "dataset_info.json").is_file()]
        if found:
            return found
        level = sorted(child for folder in level for child in _folders(folder))
    return []


def is_videos(path: str | Path) -> bool:
    """Whether `path` is a video by its name, or a folder with one somewhere below and no TFDS dataset."""
    return next(video_files(path), None) is not None and not builder_directories(path)


def video_files(path: str | Path) -> Iterator[Path]:
    """Files named as videos at `path` or at any depth below, in the order of their paths, 2 before 10; none that is hidden."""
    place = Path(path)
    if place.is_file() and place.suffix.lower() in VIDEO_SUFFIXES:
        yield place
    elif place.is_dir():
        for child in sorted(place.iterdir(), key=natural_order):
            if not child.name.startswith("."):
                yield from video_files(child)


def _folders(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
