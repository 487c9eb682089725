"""The user's own policy, by name: `my_module:MyPolicy`, a name of the entry point group `genie_robot.policies`, or a
LeRobot folder, `lerobot:FOLDER`. (A ROS 2 node is `ros:/namespace`, see `ros_policy`.)

What the name points to is called once an episode, `factory(suite="manipulation", task="push")`, and may return

* an object with `reset(seed)` and `act(image) -> 7 numbers`: the protocol of `simulation.policies`;
* an object with `predict(observation)`, as Stable-Baselines3 and many others have it;
* a function image -> 7 numbers.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genie_robot.errors import ConfigError
from genie_robot.simulation.policies import Policy

GROUP = "genie_robot.policies"
LEROBOT_PREFIX = "lerobot:"
_ATTRIBUTE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

PolicyFactory = Callable[[str], Policy]
"""Task -> a policy of its own for one episode."""


class PredictPolicy:
    """An object with `predict(observation, ...)` as a policy.

    predict: returns an action, or (action, state) as Stable-Baselines3 does; a recurrent one takes `state` and
    `episode_start`. `deterministic=True` is asked of a predict that knows it. Whatever is random in it must draw from
    torch's global stream, which is that of the episode while it runs.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        known = inspect.signature(model.predict).parameters
        self._knows = {name for name in ("state", "episode_start", "deterministic") if name in known}

    def reset(self, seed: int) -> None:
        """Start the episode `seed`."""
        self._state, self._is_first = None, True
        self._stream = TorchStream(seed)

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action (7,) for an image uint8 (Y, X, 3)."""
        now = {
            "state": self._state,
            "episode_start": np.array([self._is_first]),
            "deterministic": True,
        }
        with self._stream:
            answer = self._model.predict(image, **{name: now[name] for name in self._knows})
        action, self._state = answer if isinstance(answer, tuple) else (answer, None)
        self._is_first = False
        return np.asarray(action)


class FunctionPolicy:
    """A function image -> action as a policy without memory."""

    def __init__(self, function: Callable[[np.ndarray], Any]) -> None:
        self._function = function

    def reset(self, seed: int) -> None:
        """Start the episode `seed`."""
        self._stream = TorchStream(seed)

    def act(self, image: np.ndarray) -> np.ndarray:
        """Robot action (7,) for an image uint8 (Y, X, 3)."""
        with self._stream:
            return np.asarray(self._function(image))


class TorchStream:
    """Torch's global random stream as it is in one episode: inside `with`, draws go on where that episode's ended."""

    def __init__(self, seed: int) -> None:
        self._state = torch.Generator().manual_seed(seed).get_state()

    def __enter__(self) -> None:
        self._outside = torch.get_rng_state()
        torch.set_rng_state(self._state)

    def __exit__(self, *_: object) -> None:
        self._state = torch.get_rng_state()
        torch.set_rng_state(self._outside)


def is_user_policy(name: str) -> bool:
    """Whether `name` is a user's policy rather than one that `make_policy` knows."""
    if name.startswith(LEROBOT_PREFIX) or _ATTRIBUTE.fullmatch(name):
        return True
    return bool(entry_points(group=GROUP, name=name))


def open_user_policy(name: str, suite: str) -> PolicyFactory:
    """What makes the episodes' policies of a user's policy; imports it, or loads its weights, now and once.

    ConfigError when it cannot be found. What the factory itself raises later is the policy's own mistake.
    """
    if name.startswith(LEROBOT_PREFIX):
        from genie_robot.simulation.lerobot_policy import open_lerobot_policy

        return open_lerobot_policy(name.removeprefix(LEROBOT_PREFIX), suite)
    found = list(entry_points(group=GROUP, name=name))
    make = _import(found[0].value if found else name, name)
    return lambda task: as_policy(make(suite=suite, task=task), name)


def as_policy(made: Any, name: str) -> Policy:
    """Whatever a factory returned as a policy; ConfigError when it is none."""
    if callable(getattr(made, "reset", None)) and callable(getattr(made, "act", None)):
        return made
    if callable(getattr(made, "predict", None)):
        return PredictPolicy(made)
    if callable(made):
        return FunctionPolicy(made)
    raise ConfigError(
        f"policy {name} made a {type(made).__name__}; wanted an object with reset(seed) and act(image), one with "
        "predict(observation), or a function image -> action"
    )


def _import(target: str, name: str) -> Callable[..., Any]:
    module_name, _, attribute = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # the command is a script elsewhere; `python -m` would have it
    try:
        found = importlib.import_module(module_name)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"policy {name} cannot be found ({error}); wanted module:attribute of a module that can be imported from here"
        ) from error
    except Exception as error:  # any mistake in the user's module
        raise ConfigError(
            f"policy {name} cannot be imported ({type(error).__name__}: {error}); mend the module"
        ) from error
    if not callable(found):
        raise ConfigError(
            f"policy {name} is a {type(found).__name__}; wanted a class or function that makes a policy, called as "
            "factory(suite=..., task=...)"
        )
    return found
