"""The user's own policy by name: module:attribute, entry point, `predict` objects, functions."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_robot.errors import ConfigError
from genie_robot.simulation import user_policies
from genie_robot.simulation.user_policies import as_policy, is_user_policy, open_user_policy

IMAGE = np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
MODULE = """
import numpy as np

class Policies:
    class Good:
        def __init__(self, suite, task): self.made = suite, task
        def reset(self, seed): self.seed = seed
        def act(self, image): return np.full(7, 0.1)

def make_function(suite, task): return lambda image: np.full(7, image.mean() / 255)
def make_nothing(suite, task): return 5
number = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the user stands, with a module of policies."""
    (tmp_path / "lab_policies.py").write_text(MODULE)
    (tmp_path / "lab_broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.delitem(sys.modules, "lab_policies", raising=False)
    return tmp_path


def test_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my_policy:MyPolicy", "a.b:c.d", "lerobot:outputs/act"):
        assert is_user_policy(name)
    for name in ("scripted-0.8", "no-op", "clone-20-a", "ros:/lab"):
        assert not is_user_policy(name)


def test_module_and_attribute_from_the_present_folder(here: Path) -> None:
    make = open_user_policy("lab_policies:Policies.Good", "manipulation")
    one, other = make("push"), make("push")
    assert one is not other and one.made == ("manipulation", "push")  # type: ignore[attr-defined]
    one.reset(7)
    assert one.seed == 7 and (one.act(IMAGE) == 0.1).all()  # type: ignore[attr-defined]


def test_a_function_is_a_policy(here: Path) -> None:
    policy = open_user_policy("lab_policies:make_function", "tabletop")("push")
    policy.reset(1)
    assert policy.act(np.full((4, 4, 3), 51, np.uint8)) == pytest.approx(np.full(7, 0.2))


def test_an_entry_point_has_a_name_of_its_own(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = EntryPoint("lab-policy", "lab_policies:Policies.Good", user_policies.GROUP)

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        return [stored] if (group, name) == (user_policies.GROUP, stored.name) else []

    monkeypatch.setattr(user_policies, "entry_points", entry_points)
    assert is_user_policy("lab-policy") and not is_user_policy("other")
    assert open_user_policy("lab-policy", "tabletop")("lift").made == ("tabletop", "lift")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("lab_missing:Policy", "cannot be found (No module named 'lab_missing')"),
        ("lab_policies:Other", "cannot be found (module 'lab_policies' has no attribute 'Other')"),
        ("lab_broken:Policy", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("lab_policies:number", "is a int; wanted a class or function"),
    ],
)
def test_what_cannot_be_found_is_one_line(here: Path, name: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        open_user_policy(name, "tabletop")
    assert says in str(error.value) and "\n" not in str(error.value)


def test_something_that_is_no_policy_is_refused(here: Path) -> None:
    with pytest.raises(ConfigError, match="made a int; wanted an object with reset"):
        open_user_policy("lab_policies:make_nothing", "tabletop")("push")


class Recurrent:
    """As a recurrent policy of Stable-Baselines3: action and state, and noise from torch's global stream."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> Any:
        self.seen.append((state, episode_start.tolist(), deterministic))
        return torch.rand(7).numpy(), (state or 0) + 1


def test_predict_gets_its_state_back_and_its_noise_is_the_episodes() -> None:
    model = Recurrent()
    policy, other = as_policy(model, "x"), as_policy(Recurrent(), "x")
    policy.reset(3)
    first = [policy.act(IMAGE) for _ in range(2)]
    assert model.seen == [(None, [True], True), (1, [False], True)]
    torch.manual_seed(99)
    outside = torch.get_rng_state()
    other.reset(3)
    again = [other.act(IMAGE)]
    torch.rand(5)  # whatever else draws in between
    again.append(other.act(IMAGE))
    assert np.array_equal(first, again) and not np.array_equal(first[0], first[1])
    policy.reset(4)
    assert not np.array_equal(policy.act(IMAGE), first[0]) and model.seen[2] == (None, [True], True)
    torch.set_rng_state(outside)


def test_a_plain_predict_is_asked_for_no_more_than_it_knows() -> None:
    class Plain:
        def predict(self, image: np.ndarray) -> np.ndarray:
            return np.full(7, image[0, 0, 1] / 10)

    policy = as_policy(Plain(), "x")
    policy.reset(0)
    assert policy.act(IMAGE) == pytest.approx(np.full(7, 0.1))


def test_the_example_is_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2] / "examples")
    monkeypatch.delitem(sys.modules, "my_policy", raising=False)
    policy = open_user_policy("my_policy:MyPolicy", "manipulation")("reach")
    image = np.full((64, 64, 3), 128, np.uint8)
    image[10:14, 40:44], image[30:36, 10:16] = (
        (230, 180, 20),
        (200, 20, 20),
    )  # fingers; object below to the left
    policy.reset(5)
    action = policy.act(image)
    assert action.shape == (7,) and action[0] > 0.9 and action[1] < -0.9 and action[2] == -1.0
    policy.reset(5)
    assert np.array_equal(policy.act(image), action)
