"""What goes wrong at the node's inputs and in its lifecycle, each with the outcome that docs/ros2_faults.md states."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import NODE, PATIENCE_S, NodeProcess, service_client
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from genie_robot_interfaces.action import Rollout
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction, RobotAction
from genie_robot_interfaces.srv import Fork, Reset, Step
from genie_robot_ros import convert
from genie_robot_ros.client import SimulatorClient
from geometry_msgs.msg import Vector3
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Header, Int32
from std_srvs.srv import Trigger
from test_modes import infos_where, set_parameters
from test_node import call, listen, picture, wait_for_level
from test_rollout import result_of, rollouts, send  # noqa: F401

MAX_GROWTH_MIB = 20.0
STORM = 1000
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def memory_mib(node: NodeProcess) -> float:
    """Resident memory of the process."""
    fields = Path(f"/proc/{node.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE") / 2**20


def value_of(status: DiagnosticStatus, key: str) -> str:
    return next(pair.value for pair in status.values if pair.key == key)


def change_state(client: SimulatorClient, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return call(client, ChangeState, "change_state", request).success


def state_of(client: SimulatorClient) -> int:
    return call(client, GetState, "get_state", GetState.Request()).current_state.id


def imagine(client: SimulatorClient, *codes: int) -> list[np.ndarray]:
    """Frames by the service ~/step."""
    frames = []
    for code in codes:
        answer = call(client, Step, "step", Step.Request(action=LatentAction(code=code)))
        assert answer.success, answer.message
        frames.append(convert.image_to_frame(answer.image))
    return frames


@pytest.fixture
def statuses(live_client: SimulatorClient) -> list[DiagnosticArray]:
    return listen(live_client, DiagnosticArray, "/diagnostics")


@pytest.fixture
def with_parameters(live_client: SimulatorClient) -> Iterator[Callable[..., None]]:
    """Set parameters of the shared node; they are put back after the test."""
    put_back = {"mode": "step", "rate_hz": 0.0, "late_policy": "slow", "camera_timeout_s": 2.0, "seed": 0}
    put_back |= {"command_timeout_s": 1.0, "temperature": 0.3, "jpeg_quality": 90}
    yield lambda **values: set_parameters(live_client, **values)
    set_parameters(live_client, **put_back)


def test_the_camera_stops(
    live_client: SimulatorClient, statuses: list[DiagnosticArray], with_parameters: Callable[..., None]
) -> None:
    with_parameters(camera_timeout_s=0.2)
    wanted, _ = live_client.reset_from_camera([picture(1)], dt_s=0.2)
    silent = wait_for_level(live_client, statuses, "camera", WARN, "no image on /image_raw")
    assert "is the camera running?" in silent.message
    answer = call(live_client, Trigger, "reset_latest", Trigger.Request())
    assert answer.success
    assert "the camera's latest image came" in answer.message and "s ago" in answer.message
    with_parameters(mode="shadow")
    wait_for_level(live_client, statuses, "camera", ERROR, "no image on /image_raw")
    with_parameters(mode="step", camera_timeout_s=30.0)
    np.testing.assert_array_equal(live_client.reset_from_camera([picture(1)], dt_s=0.2)[0], wanted)
    wait_for_level(live_client, statuses, "camera", OK)


def test_the_resolution_changes_in_flight(live_client: SimulatorClient) -> None:
    """What was seen at another size belongs to another view: the prompt begins at the change."""
    large = picture(7, 480, 640)
    live_client.reset(3, frames=[large])
    wanted = imagine(live_client, 2, 4)
    live_client.reset_from_camera([picture(5), picture(6)], dt_s=0.2)
    live_client.reset_from_camera([large], dt_s=0.2, seed=3)
    np.testing.assert_array_equal(imagine(live_client, 2, 4), wanted)
    for seed, (height, width) in enumerate([(64, 64), (90, 160), (1, 1), (2, 900), (900, 2), (480, 640)]):
        seen, _ = live_client.reset_from_camera([picture(seed, height, width)], dt_s=0.2)
        assert seen.shape == (64, 64, 3)


def bad_images() -> list[Image]:
    sound = convert.frame_to_image(picture(), Header(frame_id="camera_optical_frame"))
    changes: list[dict] = [
        {"step": 10},
        {"data": sound.data[:100]},
        {"height": 0},
        {"width": 2**31, "height": 2**31},
    ]
    changes += [{"encoding": ""}, {"encoding": "32FC1"}, {"step": 2**32 - 1}, {"data": sound.data[:0]}]
    messages = []
    for change in changes:
        message = convert.frame_to_image(picture(), Header(frame_id="camera_optical_frame"))
        for name, value in change.items():
            setattr(message, name, value)
        messages.append(message)
    return messages


def test_garbage_images_are_dropped_and_counted(
    live_client: SimulatorClient, statuses: list[DiagnosticArray]
) -> None:
    wanted, _ = live_client.reset_from_camera([picture(1)], dt_s=0.2)
    statuses.clear()
    live_client.spin_until(lambda: bool(statuses), PATIENCE_S, "diagnostics")
    before = int(value_of(statuses[-1].status[1], "bad_images"))
    messages = bad_images()
    for message in messages:
        live_client.camera.publish(message)
        # the camera's history is five images deep: give the node time to look at each
        call(live_client, GetState, "get_state", GetState.Request())

    def counted() -> bool:
        return int(value_of(statuses[-1].status[1], "bad_images")) == before + len(messages)

    live_client.spin_until(counted, PATIENCE_S, "every bad image to be counted")
    wait_for_level(live_client, statuses, "camera", WARN, "camera image dropped: ")
    np.testing.assert_array_equal(live_client.reset()[0], wanted)  # the last good one still stands


def test_bytes_that_are_no_message_are_dropped_by_the_middleware(live_client: SimulatorClient) -> None:
    """Such as a peer with another version of our interfaces sends."""
    live_client.reset(0, frames=[picture()])
    robot = live_client.create_publisher(RobotAction, "robot_action", 10)
    live_client.spin_until(lambda: robot.get_subscription_count() > 0, PATIENCE_S, "robot_action")
    noise = np.random.default_rng(0)
    for length in (0, 1, 4, 9, 60, 3000):
        for publisher in (live_client.camera, live_client.actions, robot):
            publisher.publish(noise.bytes(length))
            publisher.publish(b"\x00\x01\x00\x00" + noise.bytes(length))  # a sound head
    assert len(imagine(live_client, 3)) == 1


@pytest.mark.parametrize("mode", ["step", "realtime"])
def test_unknown_codes_and_numbers_that_are_none(
    live_client: SimulatorClient, with_parameters: Callable[..., None], mode: str
) -> None:
    """They are rejected one by one and change nothing: not the world, nor the command in force."""
    robot = live_client.create_publisher(RobotAction, "robot_action", 10)
    index = live_client.create_publisher(Int32, f"{NODE}/action_index", 10)
    for publisher in (robot, index):
        live_client.spin_until(lambda p=publisher: p.get_subscription_count() > 0, PATIENCE_S, "a match")
    live_client.reset(0, frames=[picture()])
    with_parameters(mode=mode, rate_hz=20.0, command_timeout_s=0.0)
    live_client.received.infos.clear()
    live_client.send(2)
    live_client.spin_until(lambda: bool(infos_where(live_client, code=2)), PATIENCE_S, "the good command")
    for code in (8, -1, 2**31 - 1):
        live_client.send(code)
        index.publish(Int32(data=code))
    for number in (float("nan"), float("inf"), -float("inf")):
        robot.publish(RobotAction(translation=Vector3(x=number)))
        robot.publish(RobotAction(gripper=number))

    def rejected() -> list[ImaginedFrameInfo]:
        return infos_where(live_client, status=ImaginedFrameInfo.STATUS_REJECTED)

    live_client.spin_until(lambda: len(rejected()) == 12, PATIENCE_S, "twelve rejections")
    assert sum("codes 0 to 7" in info.message for info in rejected()) == 6
    assert sum("7 finite numbers" in info.message and info.code == -1 for info in rejected()) == 6
    live_client.received.infos.clear()
    if mode == "step":
        live_client.send(2)
    live_client.spin_until(lambda: bool(infos_where(live_client, status=0)), PATIENCE_S, "the next frame")
    assert {info.code for info in infos_where(live_client, status=0)} == {2}


@pytest.mark.parametrize("steps", [2**32 - 1, 65])
def test_a_fork_beyond_all_bounds_is_refused_at_once(live_client: SimulatorClient, steps: int) -> None:
    live_client.reset(0, frames=[picture()])
    begun_s = time.monotonic()
    answer = call(live_client, Fork, "fork", Fork.Request(steps=steps))
    assert not answer.success and "at most 512 codes and 64 steps" in answer.message
    assert time.monotonic() - begun_s < 10.0  # not the minute that it takes to write so many codes down


def test_a_storm_of_resets(
    live_client: SimulatorClient, live_node: NodeProcess, statuses: list[DiagnosticArray]
) -> None:
    live_client.reset(5, frames=[picture(2)])
    wanted = imagine(live_client, 1, 6)
    services = [service_client(live_client, Reset, "reset") for _ in range(2)]
    image = convert.frame_to_image(picture(3), Header())

    def storm(count: int) -> None:
        """With four resets under way all the time, and commands that each of them drops."""
        answers: list = []
        for number in range(count):
            if number % 4 == 0:
                live_client.send(number % 8)
            answers.append(services[number % 2].call_async(Reset.Request(seed=number, frames=[image])))
            live_client.spin_until(
                lambda: sum(not a.done() for a in answers[-8:]) < 4, PATIENCE_S, "an answer"
            )
        live_client.spin_until(lambda: all(a.done() for a in answers), PATIENCE_S, "the last answers")
        assert all(answer.result().success for answer in answers)
        live_client.received.images.clear()
        live_client.received.infos.clear()

    storm(STORM // 10)
    before_mib = memory_mib(live_node)
    begun_s = time.monotonic()
    storm(STORM)
    growth_mib = memory_mib(live_node) - before_mib
    print(f"{STORM} resets: {time.monotonic() - begun_s:.1f} s, memory {growth_mib:+.1f} MiB")
    assert growth_mib < MAX_GROWTH_MIB
    live_client.reset(5, frames=[picture(2)])
    np.testing.assert_array_equal(imagine(live_client, 1, 6), wanted)
    statuses.clear()
    live_client.spin_until(lambda: len(statuses) > 1, PATIENCE_S, "diagnostics")
    assert value_of(statuses[-1].status[0], "queue") == "0"


def test_a_storm_of_parameters(
    live_client: SimulatorClient, live_node: NodeProcess, with_parameters: Callable[..., None]
) -> None:
    live_client.reset(5, frames=[picture(2)])
    wanted = imagine(live_client, 1, 6)
    service = service_client(live_client, SetParameters, "set_parameters")
    modes = ("step", "realtime", "shadow")
    refused = 0
    before_mib = memory_mib(live_node)
    for number in range(300):
        values = {"mode": modes[number % 3], "rate_hz": float(number % 50), "temperature": 0.1 * (number % 5)}
        values |= {
            "seed": number - 1,
            "late_policy": ("slow", "drop", "never")[number % 3],
            "jpeg_quality": 200,
        }
        messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
        answer = live_client._call(service, SetParameters.Request(parameters=messages), PATIENCE_S)
        refused += sum(not result.successful for result in answer.results)
        live_client.send(number % 8)
    assert refused == 300 + 100 + 1  # jpeg_quality, late_policy, seed -1
    assert memory_mib(live_node) - before_mib < MAX_GROWTH_MIB
    with_parameters(mode="step", temperature=0.3, late_policy="slow")
    live_client.reset(5, frames=[picture(2)])
    np.testing.assert_array_equal(imagine(live_client, 1, 6), wanted)


def test_transitions_that_cannot_be_are_refused(live_client: SimulatorClient) -> None:
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_CLEANUP, 99):
        assert not change_state(live_client, transition)
    assert state_of(live_client) == State.PRIMARY_STATE_ACTIVE


def test_deactivated_and_freed_in_a_rollout(
    live_client: SimulatorClient,
    rollouts,  # noqa: F811
    live_node: NodeProcess,
) -> None:
    live_client.reset(0, frames=[picture()])
    handle, feedback = send(live_client, rollouts, Rollout.Goal(codes=[1] * 5000))
    live_client.spin_until(lambda: bool(feedback), PATIENCE_S, "the first frame")
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert change_state(live_client, transition)
    _, result = result_of(live_client, handle)
    assert (result.success, result.termination) == (False, Rollout.Result.TERMINATION_DEACTIVATED)
    refused, _ = send(live_client, rollouts, Rollout.Goal(codes=[1]))
    assert not refused.accepted

    def command_is_refused() -> bool:
        live_client.send(1)  # again and again: a refusal less than a second after another one is not logged
        return live_node.text().count("not active") > 1

    live_client.spin_until(command_is_refused, PATIENCE_S, "the refusal")
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert change_state(live_client, transition)
    answer = call(live_client, Step, "step", Step.Request())
    assert not answer.success and "no prompt yet" in answer.message
    live_client.reset(0, frames=[picture()])
    handle, _ = send(live_client, rollouts, Rollout.Goal(codes=[1]))
    assert handle.accepted and result_of(live_client, handle)[1].success


def test_a_hundred_lives_leave_nothing_behind(live_client: SimulatorClient, live_node: NodeProcess) -> None:
    """With a camera and commands coming in all the while."""
    process = Path(f"/proc/{live_node.process.pid}")
    services = service_client(live_client, ChangeState, "change_state")
    camera = live_client.create_timer(0.01, lambda: live_client.show_camera([picture()], 0.0))
    commands = live_client.create_timer(0.01, lambda: live_client.send(1))

    def live(times: int) -> tuple[float, int, int]:
        for _ in range(times):
            for transition in (
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CLEANUP,
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_ACTIVATE,
            ):
                request = ChangeState.Request(transition=Transition(id=transition))
                assert live_client._call(services, request, PATIENCE_S).success
        threads, files = len(list((process / "task").iterdir())), len(list((process / "fd").iterdir()))
        return memory_mib(live_node), threads, files

    before_mib, *before = live(10)
    after_mib, *after = live(90)
    live_client.destroy_timer(camera)
    live_client.destroy_timer(commands)
    print(
        f"90 lives after 10: memory {after_mib - before_mib:+.1f} MiB, threads and files {before} -> {after}"
    )
    assert after_mib - before_mib < MAX_GROWTH_MIB
    assert after == before
    live_client.reset(0, frames=[picture()])
    assert len(imagine(live_client, 3)) == 1
