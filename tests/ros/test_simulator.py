"""The simulator without ROS: prompts cut from a camera's frames, stamps, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from genie_robot_ros.camera_buffer import CameraBuffer, Prompt
from genie_robot_ros.realtime import Command
from genie_robot_ros.simulator import PROMPT_CODE, Simulator
from genie_robot_ros.world import Worlds, WorldSettings

from genie_robot.config import SamplingConfig
from genie_robot.errors import ActionError, ImageError

SECOND = 1_000_000_000
DT_NS = SECOND // 5


def frame(value: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


@pytest.fixture(scope="module")
def simulator(model_folder: Path) -> Simulator:
    return Simulator(Worlds().load(WorldSettings(str(model_folder))), SamplingConfig(2))


def test_prompt_takes_frames_one_step_apart_from_a_faster_camera() -> None:
    camera = CameraBuffer(64, 64, dt_s=0.2, max_frames=16)
    for k in range(31):  # 30 Hz for one second
        camera.add(frame(k), SECOND + k * SECOND // 30, "camera")
    prompt = camera.prompt()
    assert prompt is not None
    assert prompt.frames_TYXC[:, 0, 0, 0].tolist() == [0, 6, 12, 18, 24, 30]
    assert prompt.stamp_ns == 2 * SECOND
    assert prompt.frame_id == "camera"


def test_prompt_stops_at_a_gap() -> None:
    camera = CameraBuffer(64, 64, dt_s=0.2, max_frames=16)
    for value, step in enumerate((0, 1, 4, 5, 6)):
        camera.add(frame(value), SECOND + step * DT_NS, "camera")
    assert camera.prompt().frames_TYXC[:, 0, 0, 0].tolist() == [2, 3, 4]


def test_time_going_back_or_another_camera_starts_afresh() -> None:
    camera = CameraBuffer(64, 64, dt_s=0.2, max_frames=16)
    assert camera.prompt() is None
    camera.add(frame(1), 9 * SECOND, "camera")
    camera.add(frame(2), SECOND, "camera")
    assert camera.prompt().frames_TYXC[:, 0, 0, 0].tolist() == [2]
    camera.add(frame(3), SECOND + DT_NS, "other")
    assert camera.prompt().frames_TYXC[:, 0, 0, 0].tolist() == [3]


def test_memory_is_bounded_and_frames_are_made_small() -> None:
    camera = CameraBuffer(64, 64, dt_s=0.2, max_frames=16)
    for k in range(400):
        camera.add(frame(k % 256, 120, 160), k * DT_NS // 4, "camera")
    assert camera.prompt().frames_TYXC.shape == (16, 64, 64, 3)
    assert len(camera._frames) <= 16 * 4 + 1


def test_a_camera_whose_clock_stands_still_shows_its_newest_frame_in_bounded_memory() -> None:
    camera = CameraBuffer(64, 64, dt_s=0.2, max_frames=4)
    for k in range(300):
        camera.add(frame(k % 250), SECOND, "camera")
    assert len(camera._frames) == 1
    assert camera.prompt().frames_TYXC[0, 0, 0, 0] == 299 % 250
    for k in range(1000):
        camera.add(frame(0), SECOND + k, "camera")  # a nanosecond each
    assert len(camera._frames) <= 4 * 60


def test_stamps_count_steps_from_the_prompt(simulator: Simulator) -> None:
    start = simulator.reset(Prompt(frame(90)[None], 7 * SECOND, "camera"), seed=3)
    assert (start.sequence, start.code, start.stamp_ns) == (0, PROMPT_CODE, 7 * SECOND)
    for k in (1, 2, 3):
        imagined = simulator.step(Command(0, 2))
        assert (imagined.sequence, imagined.stamp_ns) == (k, 7 * SECOND + k * DT_NS)
        assert (imagined.frame_id, imagined.name, imagined.episode) == ("camera", "left", start.episode)
        assert imagined.frame_YXC.shape == (64, 64, 3)
        assert imagined.model_ms > 0


def test_a_session_continues_past_the_models_window(simulator: Simulator) -> None:
    simulator.reset(Prompt(frame(90)[None], SECOND, "camera"), seed=3)
    assert [simulator.step(Command(0, k % 8)).sequence for k in range(20)] == list(range(1, 21))


@pytest.mark.parametrize("code", [-1, 8, 2**31 - 1])
def test_unknown_codes_are_refused_and_change_nothing(simulator: Simulator, code: int) -> None:
    prompt = Prompt(frame(90)[None], SECOND, "camera")
    simulator.reset(prompt, seed=3)
    wanted = [simulator.step(Command(0, 1)).frame_YXC for _ in range(2)]
    simulator.reset(prompt, seed=3)
    first = simulator.step(Command(0, 1)).frame_YXC
    with pytest.raises(ActionError, match="codes 0 to 7"):
        simulator.step(Command(0, code))
    np.testing.assert_array_equal([first, simulator.step(Command(0, 1)).frame_YXC], wanted)


def test_no_prompt_no_step(model_folder: Path) -> None:
    fresh = Simulator(Worlds().load(WorldSettings(str(model_folder))), SamplingConfig(2))
    fresh.warm_up()
    with pytest.raises(ActionError, match="reset"):
        fresh.step(Command(0, 0))


def test_no_frames_no_prompt(simulator: Simulator) -> None:
    with pytest.raises(ImageError, match="use_latest_frames"):
        simulator.fit_frames([])
