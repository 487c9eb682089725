"""What was found in a bag, remembered on disk: a bag is looked through once, not every time that it is opened.

One file for each bag in `$GENIE_ROBOT_CACHE/bags` (default: `~/.cache/genie_robot/bags`, or below `$XDG_CACHE_HOME`): its topics,
which of them are colour cameras, and the stamps of the cameras that were read. It counts while the bag's files keep their
names, sizes and times of change. Removing it costs nothing but another look; where it cannot be written, there is none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

import numpy as np

from genie_robot.data.atomic import whole_file
from genie_robot.data.bags.mcap_scan import Damage
from genie_robot.data.bags.streams import Camera, RawMessage, Stamps, Topic, camera_kinds, read_camera

if TYPE_CHECKING:
    from genie_robot.data.bags.file import BagFile

log = logging.getLogger(__name__)

_FORMAT = 1  # to be raised when what is read from a bag changes
_SETTLED_NS = (
    2_000_000_000  # files changed later than this ago may change again within one tick of their clock
)


class IndexedBag:
    """A bag (`streams.Bag`) that is opened when a message is wanted. DataError when nothing of it can be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files = _files_of(path)
        self._bag: BagFile | None = None
        self._kinds: dict[str, int] | None = None
        self._cameras: dict[str, Camera] = {}
        self.topics: dict[str, Topic] = {}
        if not self._load():
            self.topics = self._opened().topics
            self._save()

    def messages(self, names: Iterable[str]) -> Iterator[RawMessage | Damage]:
        """As `BagFile.messages`."""
        return self._opened().messages(names)

    def decode(self, message: RawMessage) -> Any:
        """As `BagFile.decode`."""
        return self._opened().decode(message)

    @property
    def kinds(self) -> dict[str, int]:
        """As `streams.camera_kinds`."""
        if self._kinds is None:
            self._kinds = camera_kinds(self)
            self._save()
        return self._kinds

    def camera(self, topic: str) -> Camera:
        """As `streams.read_camera`."""
        if topic not in self._cameras:
            self._cameras[topic] = read_camera(self, topic)
            self._save()
        return self._cameras[topic]

    def _opened(self) -> BagFile:
        from genie_robot.data.bags.file import BagFile  # rosbags is an extra: only opening a bag needs it

        if self._bag is None:
            self._bag = BagFile(self.path)
        return self._bag

    def _load(self) -> bool:
        """Take what is remembered; False when there is nothing, or the bag is not as it was."""
        try:
            with _place(self.path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                content = json.loads(stored["index"].tobytes())
                if content["format"] != _FORMAT or content["files"] != self._files:
                    return False
                for number, (topic, damage) in enumerate(content["cameras"]):
                    stamps = Stamps(stored[f"header_{number}"], stored[f"receive_{number}"])
                    camera = Camera(topic, stamps, stored[f"numbers_{number}"], tuple(damage))
                    self._cameras[topic] = camera
            self._kinds = content["kinds"]
            self.topics = {topic["name"]: Topic(**topic) for topic in content["topics"]}
        except (
            Exception
        ) as error:  # NumPy raises many kinds for a file of another kind; all it costs is another look
            if not isinstance(error, FileNotFoundError):
                log.debug("looking through %s again: %s", self.path, error)
            self._cameras = {}
            return False
        return True

    def _save(self) -> None:
        if time.time_ns() - max(changed for _, _, changed in self._files) < _SETTLED_NS:
            return
        cameras = list(self._cameras.values())
        content = {
            "format": _FORMAT,
            "files": self._files,
            "topics": [asdict(topic) for topic in self.topics.values()],
            "kinds": self._kinds,
            "cameras": [(camera.topic, camera.damage) for camera in cameras],
        }
        arrays: dict[str, Any] = {"index": np.frombuffer(json.dumps(content).encode(), np.uint8)}
        for number, camera in enumerate(cameras):
            arrays[f"header_{number}"] = camera.stamps.header_N
            arrays[f"receive_{number}"] = camera.stamps.receive_N
            arrays[f"numbers_{number}"] = camera.numbers_N
        try:
            place = _place(self.path)
            place.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(place, f"-{os.getpid()}-{get_ident()}") as file:
                np.savez(file, **arrays)
        except Exception as error:  # a full or read-only disk must not keep anyone from reading
            log.debug("%s is not remembered: %s", self.path, error)


def _place(bag: Path) -> Path:
    """Where what is known of a bag is kept."""
    given, shared = os.environ.get("GENIE_ROBOT_CACHE"), os.environ.get("XDG_CACHE_HOME")
    root = Path(given) if given else Path(shared or Path.home() / ".cache") / "genie_robot"
    return root / "bags" / f"{hashlib.sha256(str(bag.resolve()).encode()).hexdigest()}.npz"


def _files_of(bag: Path) -> list[list[Any]]:
    """Name, size and time of change [ns] of each file of a bag."""
    paths = sorted(path for path in bag.rglob("*") if path.is_file()) if bag.is_dir() else [bag]
    return [
        [str(path.relative_to(bag.parent)), path.stat().st_size, path.stat().st_mtime_ns] for path in paths
    ]
