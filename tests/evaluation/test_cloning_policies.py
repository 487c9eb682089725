"""Demonstrations and training of cloned policies: real simulator, real (short) training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genie_robot.errors import ConfigError
from genie_robot.evaluation.cloning import demonstrations as demos
from genie_robot.evaluation.cloning import train_policies
from genie_robot.evaluation.cloning.demonstrations import (
    Demonstrations,
    demonstrate,
    join,
    load_demonstrations,
)
from genie_robot.evaluation.cloning.fitting import action_loss, grip_class, train_net
from genie_robot.evaluation.cloning.rollouts import run_episodes
from genie_robot.simulation.mujoco.manipulation.tasks import TASKS
from genie_robot.simulation.policies import load_clones
from genie_robot.simulation.policies.clone_net import NUM_OUTPUTS, CloneNet
from genie_robot.simulation.policies.cloned import Actor, Clone
from genie_robot.simulation.suites import FIRST_SEED, get_suite

pytest.importorskip("mujoco")


@pytest.fixture(scope="module")
def reaches() -> Demonstrations:
    return join([demonstrate("reach", index) for index in range(3)])


def test_a_demonstration_depends_on_its_number_alone(reaches: Demonstrations) -> None:
    again = demonstrate("reach", 1)
    same = reaches.between(1, 2)
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(same).items())
    assert not np.array_equal(reaches.between(0, 1).images_NYXC[0], again.images_NYXC[0])


def test_steps_follow_one_another_and_wanted_differs_from_done_now_and_then(reaches: Demonstrations) -> None:
    one = reaches.between(0, 1)
    assert np.array_equal(one.images_NYXC[1:], one.next_NYXC[:-1])
    longer = demonstrate("pick_lift", 0)
    disturbed = np.any(longer.wanted_N7 != longer.done_N7, axis=1)
    assert 0.0 < disturbed.mean() < 0.5
    assert np.abs(longer.done_N7).max() <= 1.0


def test_demonstrations_look_like_what_policies_are_evaluated_on(reaches: Demonstrations) -> None:
    image, _ = get_suite("manipulation").make_env("reach").reset(seed=FIRST_SEED)
    wall = (slice(0, 6), slice(0, 6))  # nothing moves there: it shows table, light and camera alone
    for number in range(3):
        assert np.array_equal(reaches.between(number, number + 1).images_NYXC[0][wall], image[wall])


def test_stored_networks_are_taken_only_if_they_were_made_just_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = []

    def train_one(data: Path, size: int, seed: int, progress: bool = True) -> Clone:
        trained.append((size, seed))
        return Clone(CloneNet(len(TASKS)), Actor())

    monkeypatch.setattr(train_policies, "train_one", train_one)
    command = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]
    threads = torch.get_num_threads()
    for _ in range(2):
        assert train_policies.main(command) == 0
    assert trained == [(5, 0), (5, 1), (20, 0), (20, 1), (100, 0), (100, 1)]
    assert list(load_clones(tmp_path / "out").clones) == [
        f"clone-{n}-{x}" for n in (5, 20, 100) for x in "ab"
    ]
    monkeypatch.setitem(train_policies.STEPS, 20, 3)
    (tmp_path / "work" / "clone-5-b" / "clones.json").write_text("{")  # cut
    assert train_policies.main(command) == 0
    assert trained[6:] == [(5, 1), (20, 0), (20, 1)]
    torch.set_num_threads(threads)


def test_files_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_demonstrations(tmp_path, ["reach"], 2, progress=False)

    def never(*_: object) -> Demonstrations:
        raise AssertionError("made again")

    monkeypatch.setattr(demos, "demonstrate", never)
    again = load_demonstrations(tmp_path, ["reach"], 2, progress=False)
    assert all(np.array_equal(getattr(again, name), value) for name, value in vars(first).items())
    with pytest.raises(ConfigError, match="at least 1"):
        load_demonstrations(tmp_path, ["reach"], 0)


def test_training_repeats_and_learns(reaches: Demonstrations) -> None:
    def clone(steps: int) -> Clone:
        loss = action_loss(reaches.wanted_N7)
        net = train_net(reaches, loss, outputs=NUM_OUTPUTS, steps=steps, seed=4, progress=False)
        return Clone(net, Actor())

    likeliest = np.zeros((len(reaches.images_NYXC), NUM_OUTPUTS))
    first, again = (clone(3).act(reaches.images_NYXC, reaches.task_N, likeliest) for _ in range(2))
    assert np.array_equal(first, again)
    moves = reaches.wanted_N7[:, :3]
    missing = clone(150).act(reaches.images_NYXC, reaches.task_N, likeliest)[:, :3] - moves
    assert (missing**2).mean() < 0.7 * moves.var(axis=0).mean()  # explains a third of what the expert does


def test_gripper_commands_become_the_nearest_class() -> None:
    assert grip_class(np.array([0.1, 0.9, -0.7, 1.0])).tolist() == [0, 1, 2, 1]


class TrueReach:
    """Knows the scene: it is the environment's own state that it acts on."""

    def __init__(self) -> None:
        from genie_robot.simulation.mujoco.manipulation.env import ManipulationEnv
        from genie_robot.simulation.policies.scripted import SteadyScript

        self.twin, self.script = ManipulationEnv("reach"), SteadyScript("reach")

    def reset(self, seed: int) -> None:
        _, info = self.twin.reset(seed=seed)
        self.state = info["state"]
        self.script.reset(np.random.default_rng(seed))

    def act(self, image: np.ndarray) -> np.ndarray:
        action = self.script.act(self.state)
        self.state = self.twin.step(action)[4]["state"]
        return action


class Still:
    def reset(self, seed: int) -> None: ...

    def act(self, image: np.ndarray) -> np.ndarray:
        return np.zeros(7, np.float32)


def test_episodes_know_success_from_failure() -> None:
    seeds = range(FIRST_SEED, FIRST_SEED + 3)
    assert run_episodes(get_suite("manipulation"), "reach", lambda task: TrueReach(), seeds, 30).all()
    assert not run_episodes(get_suite("manipulation"), "pick_lift", lambda task: Still(), seeds, 4).any()
    # the horizon counts: two frames of success are not there after one step
    assert not run_episodes(get_suite("manipulation"), "reach", lambda task: TrueReach(), seeds, 1).any()


def test_tasks_have_their_own_number_in_demonstrations(reaches: Demonstrations) -> None:
    assert set(reaches.task_N) == {TASKS.index("reach")}
