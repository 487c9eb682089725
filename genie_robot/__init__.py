"""genie_robot: a Genie world model for robots.

import genie_robot
model = genie_robot.load("weights/tabletop-tiny")
session = genie_robot.WorldSession(model)
frame = session.reset(camera_frames)      # uint8 (T, Y, X, 3)
frame = session.step(3)                   # latent action code -> imagined frame, uint8 (Y, X, 3)
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genie_robot.models.world_model import LatentAction, WorldModel
    from genie_robot.simulation.world_session import WorldSession

__version__ = "0.1.0"
__all__ = ["LatentAction", "WorldModel", "WorldSession", "__version__", "load"]

_HOMES = {
    "LatentAction": "genie_robot.models.world_model",
    "WorldModel": "genie_robot.models.world_model",
    "WorldSession": "genie_robot.simulation.world_session",
}


def load(path: str | Path, device: str = "cpu", dtype: str = "float32") -> WorldModel:
    """Open a world model folder on `device` ("cpu", "cuda") in `dtype` ("float32", "bfloat16")."""
    from genie_robot.models.world_model import WorldModel

    return WorldModel.load(path, device=device, dtype=dtype)


def __getattr__(name: str) -> Any:
    """Public names are imported at first use: data readers and simulator workers start without torch."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
