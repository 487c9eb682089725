"""Mode shadow without ROS: what is foreseen, when it is judged, and against what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from genie_robot_ros.camera_buffer import Prompt
from genie_robot_ros.realtime import Command
from genie_robot_ros.shadow import INFERRED, Follower
from genie_robot_ros.simulator import Simulator
from genie_robot_ros.world import Worlds, WorldSettings

from genie_robot.config import SamplingConfig

DT_NS = 200_000_000


@pytest.fixture(scope="module")
def simulator(model_folder: Path) -> Simulator:
    return Simulator(Worlds().load(WorldSettings(str(model_folder))), SamplingConfig(2))


def prompt(step: float, *seeds: int, frame_id: str = "camera") -> Prompt:
    frames = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in seeds]
    return Prompt(np.stack(frames), 10**10 + round(step * DT_NS), frame_id)


def test_the_foreseen_frame_is_judged_by_what_the_camera_then_shows(simulator: Simulator) -> None:
    follower = Follower(simulator)
    first = follower.follow(prompt(0, 1), Command(0, 3), horizon=3, seed=5)
    assert first.judged is None
    assert [frame.sequence for frame in first.horizon] == [1, 2, 3]
    assert [frame.code for frame in first.horizon] == [3, 3, 3]
    second = follower.follow(prompt(1, 1, 2), None, horizon=1, seed=5)
    judged = second.judged
    assert judged is not None
    difference = first.horizon[0].frame_YXC.astype(float) - second.seen.frame_YXC
    assert judged.distance == pytest.approx(np.sqrt((difference**2).mean()) / 255, rel=1e-5)
    still = first.seen.frame_YXC.astype(float) - second.seen.frame_YXC
    assert judged.still_distance == pytest.approx(np.sqrt((still**2).mean()) / 255, rel=1e-5)
    assert (judged.code, judged.action_source, judged.steps_ahead) == (3, "latent_action", 1)
    assert judged.stamp_ns == second.seen.stamp_ns


def test_without_a_command_the_cameras_own_action_goes_on(simulator: Simulator) -> None:
    follower = Follower(simulator)
    code, _ = simulator.infer_action(prompt(1, 1, 2))
    assert [frame.code for frame in follower.follow(prompt(1, 1, 2), None, 2, 0).horizon] == [code, code]
    judged = follower.follow(prompt(2, 1, 2, 3), None, 1, 0).judged
    assert judged is not None and judged.action_source == INFERRED
    assert follower.follow(prompt(0, 1), None, 2, 0).horizon == []  # one frame shows no action


def test_a_late_model_is_judged_by_the_frame_of_that_time(simulator: Simulator) -> None:
    follower = Follower(simulator)
    foreseen = follower.follow(prompt(0, 1), Command(0, 2), horizon=4, seed=0).horizon
    judged = follower.follow(prompt(3.1, 4), Command(0, 2), horizon=4, seed=0).judged
    assert judged is not None and judged.steps_ahead == 3
    seen = follower._last.seen.frame_YXC.astype(float)
    wanted = np.sqrt(((foreseen[2].frame_YXC - seen) ** 2).mean()) / 255
    assert judged.distance == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("later", [prompt(0.5, 2), prompt(9, 2), prompt(1, 2, frame_id="other")])
def test_nothing_is_judged_off_the_grid_or_in_another_view(simulator: Simulator, later: Prompt) -> None:
    follower = Follower(simulator)
    follower.follow(prompt(0, 1), Command(0, 2), horizon=4, seed=0)
    assert follower.follow(later, Command(0, 2), horizon=1, seed=0).judged is None


def test_it_follows_once_a_step_however_fast_the_camera_is(simulator: Simulator) -> None:
    follower = Follower(simulator)
    taken = []
    for k in range(31):  # 30 Hz, the model's step is 0.2 s
        shown = prompt(k / 6, 1)
        if follower.wants(shown):
            follower.follow(shown, Command(0, 1), horizon=1, seed=0)
            taken.append(k)
    assert taken == [0, 6, 12, 18, 24, 30]
    assert follower.wants(prompt(0, 1))  # time went back: the camera began afresh
