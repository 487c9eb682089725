"""Loading what a session needs; sessions of one process that name the same folder share one model in memory."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from pathlib import Path

import genie_robot
from genie_robot import WorldModel
from genie_robot.errors import ModelFolderError
from genie_robot.evaluation.probe import ProbePair, load_probe
from genie_robot.simulation.action_interface import ADAPTER_FILE, ActionAdapter, load_adapter
from genie_robot_ros.model_thread import ModelThread, RefusedError


@dataclass(frozen=True)
class WorldSettings:
    """What to load, and where to."""

    model_path: str
    probe_path: str = ""
    device: str = "cpu"
    dtype: str = "float32"


@dataclass(frozen=True)
class World:
    """A model and what came with it; `model_hash` is kept because it is computed from all weights."""

    model: WorldModel
    model_hash: str
    adapter: ActionAdapter | None
    probes: ProbePair | None


class Worlds:
    """The models of one process and the thread that runs them."""

    def __init__(self) -> None:
        self.thread = ModelThread()
        self._models: weakref.WeakValueDictionary[tuple, WorldModel] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._clock_owner: object | None = None

    def take_clock(self, session: object) -> None:
        """From now on the session makes the time on /clock; RefusedError if another one does."""
        with self._lock:
            if self._clock_owner not in (None, session):
                raise RefusedError(
                    "publish_clock is set for another session of this process too; /clock has one time: set it for one"
                )
            self._clock_owner = session

    def give_back_clock(self, session: object) -> None:
        """The session makes no time any more."""
        with self._lock:
            if self._clock_owner is session:
                self._clock_owner = None

    def load(self, settings: WorldSettings) -> World:
        """Open a model folder (again, if its files changed since); `genie_robot.errors` if it is missing or damaged.

        The adapter for robot actions is optional; a damaged one is an error.
        """
        folder = Path(settings.model_path)
        with self._lock:
            key = (_fingerprint(folder), settings.device, settings.dtype)
            model = self._models.get(key)
            if model is None:
                model = genie_robot.load(folder, device=settings.device, dtype=settings.dtype)
                model.require_codes("the ROS 2 simulator")
                self._models[key] = model
        adapter = load_adapter(folder) if (folder / ADAPTER_FILE).is_file() else None
        if adapter is not None and adapter.num_codes != model.num_actions:
            raise ModelFolderError(
                f"{folder / ADAPTER_FILE} is for {adapter.num_codes} codes, the model has {model.num_actions}; fit it "
                "again with `genie-robot actions --write`"
            )
        probes = load_probe(settings.probe_path) if settings.probe_path else None
        return World(model, model.hash, adapter, probes)


def _fingerprint(folder: Path) -> tuple:
    """Names, sizes and times of the folder's files: another value once the model was replaced."""
    if not folder.is_dir():
        return (str(folder),)
    stats = sorted((path.name, path.stat()) for path in folder.iterdir() if path.is_file())
    return (str(folder.resolve()), *((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))
