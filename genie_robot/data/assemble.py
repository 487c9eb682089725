"""From the stored features of one record to an `Episode`: which features are read, and how images and numbers decode.

Both doors (`rlds.py`, `tfds_door.py`) end here, so they give the same pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np

from genie_robot.data.actions import common_actions
from genie_robot.data.decode import decode_frames
from genie_robot.data.episode import Episode
from genie_robot.data.example_proto import FeatureValue
from genie_robot.data.registry import DEFAULT_RATE_HZ, FACTS, action_paths, image_path, instruction_path
from genie_robot.data.resample import combine_actions
from genie_robot.data.rlds_features import FeatureSpec
from genie_robot.errors import DataError, ImageError

log = logging.getLogger(__name__)

# Whose actions to read: of all episodes, of none, or of those whose `Episode.source` the function accepts.
ActionChoice = bool | Callable[[str], bool]


#: "actions" in the metadata.json of files that `data import` wrote: whether it wrote actions
COMMON_ACTIONS, NO_ACTIONS = "common", "none"


def layout_name(name: str, metadata: Mapping[str, Any]) -> str:
    """The name to ask the registry by. What `data import` wrote is in our layout, whatever it is called: in no entry of it."""
    return f"{name} (imported)" if metadata.get("actions") in (COMMON_ACTIONS, NO_ACTIONS) else name


class EpisodeKeys:
    """Paths of the features one pass reads, chosen once from the feature tree; DataError when one is missing.

    `metadata`: that of the dataset's metadata.json.
    """

    def __init__(
        self,
        name: str,
        tree: Mapping[str, FeatureSpec],
        actions: ActionChoice,
        state: bool,
        image_key: str | None,
        metadata: Mapping[str, Any],
    ) -> None:
        if actions and metadata.get("actions") == NO_ACTIONS:
            raise DataError(
                f"{name} was imported without actions; wanted them: import it again with --actions, or read it without"
            )
        self.name = name = layout_name(name, metadata)
        self.image = image_path(name, tree, image_key)
        self.instruction = instruction_path(tree)
        self.actions: list[str] = action_paths(name, tree) if actions else []
        self._choice = actions
        self.drop_first = FACTS[name].drop_first if name in FACTS else 0
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


def assemble_episode(
    values: Mapping[str, FeatureValue],
    tree: Mapping[str, FeatureSpec],
    keys: EpisodeKeys,
    dt_s: float,
    source: str,
    image_hw: tuple[int, int] | None,
    stride: int = 1,
) -> Episode:
    """Stored features of one record -> Episode without its first `keys.drop_first` steps; DataError when lengths differ.

    With a `stride`, only every such frame is decoded, and the actions in between are added up (`resample.py`).
    """
    encoded, spec = values.get(keys.image, []), tree[keys.image]
    if not isinstance(encoded, list):
        raise ImageError(f"{keys.image} holds numbers; wanted encoded images")
    num_steps, dropped = len(encoded), keys.drop_first
    frames_TYXC = decode_frames(encoded[dropped::stride], spec.shape, image_hw)
    texts = values.get(keys.instruction, []) if keys.instruction else []
    instruction = texts[0].decode("utf-8", errors="replace") if isinstance(texts, list) and texts else ""
    actions_TA = state_TS = None
    if keys.actions:
        stored = {path: _rows(values, tree, path, num_steps) for path in keys.actions}
        actions_TA = combine_actions(common_actions(keys.name, stored)[dropped:], stride)
    if keys.state:
        state_TS = _rows(values, tree, keys.state, num_steps)[dropped::stride]
    return Episode(frames_TYXC, dt_s * stride, source, instruction, actions_TA, state_TS)


def _rows(
    values: Mapping[str, FeatureValue], tree: Mapping[str, FeatureSpec], path: str, num_steps: int
) -> np.ndarray:
    width = int(np.prod(tree[path].shape, dtype=np.int64))
    flat = values.get(path, np.zeros(0, np.float32))
    if isinstance(flat, list) and not flat:  # an empty list carries no kind
        flat = np.zeros(0, np.float32)
    if isinstance(flat, list) or flat.size != num_steps * width:
        got = "bytes" if isinstance(flat, list) else f"{flat.size} numbers"
        raise DataError(f"{path} holds {got}; wanted {num_steps} steps x {width}")
    return flat.astype(np.float32).reshape(num_steps, width)


def rate_hz_of(name: str, metadata: Mapping[str, Any], given: float | None = None) -> float:
    """Control rate: as given, else metadata.json's rate_hz, else the registry's, else 5 Hz with a warning."""
    rate = given or metadata.get("rate_hz") or (FACTS[name].rate_hz if name in FACTS else 0)
    if not rate:
        log.warning("the control rate of dataset %s is not known: taking %g Hz", name, DEFAULT_RATE_HZ)
        rate = DEFAULT_RATE_HZ
    if not (isinstance(rate, int | float) and 0 < rate < float("inf")):
        raise DataError(f"the control rate of dataset {name} is {rate!r}; wanted a number of Hz above 0")
    return float(rate)
