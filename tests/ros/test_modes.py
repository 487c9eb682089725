"""Commands, modes, forks, clocks and sessions of the node as a process, driven over DDS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import NODE, PATIENCE_S, NodeProcess, model_arguments, service_client
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction, RobotAction, Surprise
from genie_robot_interfaces.srv import Fork, GetCodebook, Reset, Step
from genie_robot_ros import convert
from genie_robot_ros.client import SimulatorClient
from geometry_msgs.msg import Vector3
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header
from test_node import call, listen, picture

DT_NS = 200_000_000


def set_parameters(client: SimulatorClient, **values: object) -> None:
    messages = [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]
    answer = call(client, SetParameters, "set_parameters", SetParameters.Request(parameters=messages))
    for result in answer.results:
        assert result.successful, result.reason


@pytest.fixture
def with_mode(live_client: SimulatorClient) -> Iterator:
    """Set live parameters of the shared node; they are put back after the test."""
    put_back = {"mode": "step", "rate_hz": 0.0, "late_policy": "slow", "command_timeout_s": 1.0, "horizon": 4}
    yield lambda **values: set_parameters(live_client, **values)
    set_parameters(live_client, **put_back)


def infos_where(client: SimulatorClient, **wanted: object) -> list[ImaginedFrameInfo]:
    return [i for i in client.received.infos if all(getattr(i, k) == v for k, v in wanted.items())]


def move(x: float = 0.0, y: float = 0.0, z: float = 0.0, gripper: float = 0.0) -> RobotAction:
    return RobotAction(translation=Vector3(x=x, y=y, z=z), gripper=gripper)


def test_a_robot_action_in_metres_becomes_the_code_that_does_it(live_client: SimulatorClient) -> None:
    live_client.reset(0, frames=[picture()])
    publisher = live_client.create_publisher(RobotAction, "robot_action", 10)
    live_client.spin_until(lambda: publisher.get_subscription_count() > 0, PATIENCE_S, "robot_action")
    for action in (move(y=0.04), move(z=-0.04), move(gripper=1.0), move(x=float("nan"))):
        publisher.publish(action)
    infos = live_client.received.infos
    live_client.spin_until(
        lambda: sum(i.sequence > 0 or i.status > 0 for i in infos) >= 4, PATIENCE_S, "three frames and a no"
    )
    assert [(i.sequence, i.name) for i in infos if i.sequence] == [(1, "left"), (2, "down"), (3, "close")]
    [refused] = [i for i in infos if i.status == ImaginedFrameInfo.STATUS_REJECTED]
    assert "nan" in refused.message and refused.code == -1


def test_a_robot_action_through_the_service_is_the_same_as_its_code(live_client: SimulatorClient) -> None:
    def frame_after(request: Step.Request) -> np.ndarray:
        live_client.reset(4, frames=[picture()])
        answer = call(live_client, Step, "step", request)
        assert answer.success, answer.message
        return convert.image_to_frame(answer.image)

    by_code = frame_after(Step.Request(action=LatentAction(code=4)))
    by_motion = frame_after(Step.Request(use_robot_action=True, robot_action=move(z=0.04)))
    np.testing.assert_array_equal(by_motion, by_code)


def test_fork_shows_futures_and_leaves_the_present_alone(live_client: SimulatorClient) -> None:
    def steps(*codes: int) -> list[np.ndarray]:
        live_client.reset(7, frames=[picture()])
        return [step(code) for code in codes]

    def step(code: int) -> np.ndarray:
        answer = call(live_client, Step, "step", Step.Request(action=LatentAction(code=code)))
        assert answer.success, answer.message
        return convert.image_to_frame(answer.image)

    wanted = steps(1, 3, 5)
    steps(1)
    fork = call(live_client, Fork, "fork", Fork.Request(codes=[3, 5, 2, 2], steps=2))
    assert fork.success, fork.message
    assert (fork.futures, len(fork.images)) == (2, 4)
    frames = [convert.image_to_frame(image) for image in fork.images]
    np.testing.assert_array_equal(frames[:2], wanted[1:])
    assert [step(3).tolist(), step(5).tolist()] == [frame.tolist() for frame in wanted[1:]]
    stamps = [convert.stamp_to_ns(image.header.stamp) for image in fork.images]
    assert stamps[1] - stamps[0] == DT_NS and stamps[0] == stamps[2]

    held = call(live_client, Fork, "fork", Fork.Request(steps=3, last_frames_only=True))
    assert (held.futures, len(held.images)) == (8, 8)
    wrong = call(live_client, Fork, "fork", Fork.Request(codes=[1, 2, 3], steps=2))
    assert not wrong.success and "multiple of steps" in wrong.message
    wrong = call(live_client, Fork, "fork", Fork.Request(codes=[1, 9]))
    assert not wrong.success and "codes 0 to 7" in wrong.message


def test_the_contact_sheet_shows_every_future_once_the_commands_pause(live_client: SimulatorClient) -> None:
    live_client.reset(0, frames=[picture()])
    sheets = listen(live_client, Image, "imagined/contact_sheet")
    live_client.send(1)
    live_client.spin_until(lambda: bool(sheets), PATIENCE_S, "a contact sheet")
    sheet = convert.image_to_frame(sheets[-1])
    assert sheet.shape[0] >= 2 * 128 and sheet.shape[1] >= 4 * 128
    assert sheets[-1].header == infos_where(live_client, sequence=1)[-1].header


def test_realtime_follows_the_clock_and_the_command_in_force(live_client: SimulatorClient, with_mode) -> None:
    live_client.reset(0, frames=[picture()])
    live_client.received.infos.clear()
    with_mode(mode="realtime", rate_hz=20.0, command_timeout_s=0.4)
    live_client.send(2)
    held = lambda: infos_where(live_client, name="hold", status=0)  # noqa: E731
    live_client.spin_until(
        lambda: infos_where(live_client, code=2) and held() and held()[-1].sequence > 12, PATIENCE_S, "ticks"
    )
    frames = [i for i in live_client.received.infos if i.status == ImaginedFrameInfo.STATUS_FRAME]
    assert [i.sequence for i in frames] == list(range(1, len(frames) + 1))  # slow: nothing is skipped
    codes = [i.code for i in frames]
    begun, over = codes.index(2), len(codes) - codes[::-1].index(2)
    assert (
        set(codes[begun:over]) == {2} and 2 <= over - begun <= 9
    )  # in force for 0.4 s of 20 Hz, then it holds
    assert set(codes[over:]) == {-1}
    stamps = {i.sequence: convert.stamp_to_ns(i.header.stamp) for i in frames}
    assert all(stamps[k] - stamps[1] == (k - 1) * DT_NS for k in stamps)


def test_realtime_takes_the_newest_command_and_says_which_were_superseded(
    live_client: SimulatorClient, with_mode
) -> None:
    live_client.reset(0, frames=[picture()])
    with_mode(mode="realtime", rate_hz=2.0)
    live_client.received.infos.clear()
    sent = [live_client.send(code) for code in (1, 2, 3, 4)]
    live_client.spin_until(lambda: infos_where(live_client, code=4, status=0), PATIENCE_S, "the newest")
    dropped = infos_where(live_client, status=ImaginedFrameInfo.STATUS_DROPPED)
    stamps = [convert.stamp_to_ns(i.command_stamp) for i in dropped]
    assert stamps and set(stamps) <= {command.stamp_ns for command in sent[:3]}
    assert "newer command" in dropped[0].message
    made = [i.code for i in live_client.received.infos if i.status == 0 and i.code > 0]
    assert len(dropped) + len(set(made)) == 4


def test_shadow_publishes_horizon_and_surprise(live_client: SimulatorClient, with_mode) -> None:
    strips = listen(live_client, Image, "imagined/horizon")
    surprises: list[Surprise] = listen(live_client, Surprise, "surprise")
    with_mode(mode="shadow", horizon=3)
    start_ns = live_client.get_clock().now().nanoseconds

    def show(k: int) -> None:
        header = Header(stamp=convert.ns_to_stamp(start_ns + k * DT_NS), frame_id="wrist")
        live_client.camera.publish(convert.frame_to_image(picture(k), header))

    def foreseen_from(k: int) -> bool:
        return any(convert.stamp_to_ns(strip.header.stamp) == start_ns + k * DT_NS for strip in strips)

    show(0)  # one frame shows no action: there is no horizon yet
    for k in (1, 2, 3):
        show(k)
        live_client.spin_until(lambda k=k: foreseen_from(k), PATIENCE_S, f"the horizon of camera frame {k}")
    live_client.spin_until(lambda: len(surprises) >= 2, PATIENCE_S, "surprises")
    surprise = surprises[-1]
    assert 0 < surprise.distance < 1 and 0 < surprise.still_distance < 1
    assert (surprise.action_source, surprise.header.frame_id) == ("inferred_action", "wrist")
    assert convert.stamp_to_ns(surprise.header.stamp) == start_ns + 3 * DT_NS
    assert strips[-1].width > 4 * 64  # the camera's frame and three imagined ones, side by side
    refused = call(live_client, Step, "step", Step.Request())
    assert not refused.success and "shadow" in refused.message
    with_mode(mode="step")  # its frames are the camera's future: whoever steps on wants a prompt of his own
    refused = call(live_client, Step, "step", Step.Request())
    assert not refused.success and "no prompt yet" in refused.message
    with_mode(mode="realtime")  # and no tick would ever take a command
    live_client.received.infos.clear()
    live_client.send(1)
    live_client.spin_until(lambda: infos_where(live_client, status=1), PATIENCE_S, "the no")
    assert "no prompt yet" in infos_where(live_client, status=1)[0].message


def test_an_episode_of_a_dataset_is_a_prompt(live_client: SimulatorClient, tmp_path: Path) -> None:
    from genie_robot.data.rlds_writer import write_dataset

    frames = np.stack([picture(k) for k in range(6)])
    episodes = [
        {"frames_TYXC": frames[:3], "is_terminal": False},
        {"frames_TYXC": frames, "is_terminal": False},
    ]
    folder = write_dataset(tmp_path, "toy", "1.0.0", {"train": episodes}, (64, 64), 5.0, description="a toy")
    wanted = call(live_client, Reset, "reset", Reset.Request(frames=[
        convert.frame_to_image(frame, Header()) for frame in frames[2:5]], seed=1))  # fmt: skip
    request = Reset.Request(dataset=str(folder), episode=1, first_frame=2, num_frames=3, seed=1)
    got = call(live_client, Reset, "reset", request)
    assert got.success, got.message
    assert bytes(got.image.data) == bytes(wanted.image.data)
    wanted = live_client.reset(1, frames=list(frames[1:]))[0]
    request.first_frame, request.num_frames = 1, 0  # as many as there are, or the model takes: from there on
    answer = call(live_client, Reset, "reset", request)
    assert answer.success, answer.message
    np.testing.assert_array_equal(convert.image_to_frame(answer.image), wanted)
    request.episode = 2
    answer = call(live_client, Reset, "reset", request)
    assert not answer.success and "2 episodes" in answer.message


def test_the_cameras_calibration_is_brought_to_the_imagined_size(live_client: SimulatorClient) -> None:
    infos: list[CameraInfo] = listen(live_client, CameraInfo, "imagined/camera_info")
    publisher = live_client.create_publisher(CameraInfo, "camera_info", qos_profile_sensor_data)
    live_client.spin_until(lambda: publisher.get_subscription_count() > 0, PATIENCE_S, "camera_info")
    k = [320.0, 0.0, 159.5, 0.0, 320.0, 119.5, 0.0, 0.0, 1.0]
    live_client.reset(0, frames=[picture()])

    def calibrated() -> bool:
        publisher.publish(CameraInfo(height=240, width=320, k=k, distortion_model="plumb_bob"))
        live_client.send(1)
        live_client.spin_until(lambda: bool(infos), PATIENCE_S, "camera_info")
        return infos[-1].k[0] > 0

    live_client.spin_until(calibrated, PATIENCE_S, "a calibration")
    assert infos[-1].k[0] == pytest.approx(320 * 64 / 240)
    assert infos[-1].k[2] == pytest.approx(31.5, abs=0.01)  # the middle stays in the middle


def test_two_sessions_share_a_process_and_not_a_world(
    start_node, client: SimulatorClient, model_folder: Path, tmp_path: Path
) -> None:
    """Also: the simulator makes the time on /clock, and imagined images at the camera's own size."""
    from rclpy.qos import qos_profile_sensor_data as best_effort

    only_a = tmp_path / "a.yaml"
    only_a.write_text("/a/genie_simulator: {ros__parameters: {publish_clock: true}}")
    settings = ("output_height:=48", "output_width:=96")
    node: NodeProcess = start_node(
        "--namespaces",
        "a",
        "b",
        "--ros-args",
        *model_arguments(model_folder, *settings),
        "--params-file",
        str(only_a),
    )
    for name in ("a", "b"):
        node.wait_for(f"[{name}.genie_simulator]: active")
    clocks: list[Clock] = listen(client, Clock, "/clock", best_effort)

    def ask(name: str, kind: type, service: str, request):
        return client._call(service_client(client, kind, service, f"/{name}{NODE}"), request, PATIENCE_S)

    def reset(name: str, seed: int) -> np.ndarray:
        image = convert.frame_to_image(picture(seed), Header(stamp=convert.ns_to_stamp(50 * 10**9)))
        answer = ask(name, Reset, "reset", Reset.Request(frames=[image], seed=seed))
        assert answer.success, answer.message
        return convert.image_to_frame(answer.image)

    def step(name: str, code: int) -> Image:
        answer = ask(name, Step, "step", Step.Request(action=LatentAction(code=code)))
        assert answer.success, answer.message
        return answer.image

    hashes = {ask(name, GetCodebook, "get_codebook", GetCodebook.Request()).model_hash for name in ("a", "b")}
    assert len(hashes) == 1
    alone = [reset("a", 1)] + [convert.image_to_frame(step("a", code)) for code in (3, 4)]
    reset("b", 2)
    between = [reset("a", 1)]
    for code in (3, 4):
        step("b", 6)
        between.append(convert.image_to_frame(step("a", code)))
    np.testing.assert_array_equal(between, alone)
    assert alone[0].shape == (48, 96, 3)
    assert not alone[1][:, :24].any() and not alone[1][:, 72:].any() and alone[1][:, 24:72].any()
    client.spin_until(
        lambda: convert.stamp_to_ns(clocks[-1].clock) == 50 * 10**9 + 2 * DT_NS if clocks else False,
        PATIENCE_S,
        "imagined time",
    )
    assert node.stop() == 0, node.text()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (("publish_clock:=true", "use_sim_time:=true"), "set one of them to false"),
        (("output_height:=48",), "give both"),
        (("publish_clock:=true", "mode:=shadow"), "no meaning in mode shadow"),
        (("mode:=never",), "one of step, realtime, shadow"),
        (("image_reliability:=relaible",), "one of best_effort, reliable"),
    ],
)
def test_parameters_that_contradict_each_other_are_one_error(
    start_node, model_folder: Path, settings: tuple[str, ...], said: str
) -> None:
    node: NodeProcess = start_node(*model_arguments(model_folder, *settings))
    node.wait_for("[ERROR]")
    assert said in node.text()
    assert node.stop() == 0


def test_only_one_session_of_a_process_makes_the_time(start_node, model_folder: Path) -> None:
    arguments = model_arguments(model_folder, "publish_clock:=true")
    node: NodeProcess = start_node("--namespaces", "a", "b", "--ros-args", *arguments)
    node.wait_for("[ERROR]")
    node.wait_for("active: camera")
    assert "another session of this process" in node.text()
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--namespaces", "bad-name"), "bad-name"),
        (("-p", "horizon:=900"), "horizon"),
        (("-p", "horizon:=abc"), "horizon"),
    ],
)
def test_a_wrong_name_or_start_value_is_one_line_and_exit_code_2(
    start_node, arguments: tuple[str, ...], said: str
) -> None:
    node: NodeProcess = start_node(*(("--ros-args",) if arguments[0] == "-p" else ()), *arguments,
                                   *(() if arguments[0] == "-p" else ("--ros-args",)))  # fmt: skip
    assert node.process.wait(PATIENCE_S) == 2
    assert said in node.text().splitlines()[-1]
    assert "Traceback" not in node.text()


def test_a_rate_that_no_timer_can_keep_is_refused_and_the_node_lives(live_client: SimulatorClient) -> None:
    message = Parameter("rate_hz", value=1e-12).to_parameter_msg()
    request = SetParameters.Request(parameters=[message])
    result = call(live_client, SetParameters, "set_parameters", request).results[0]
    assert not result.successful and "0.01 to 1000" in result.reason
    assert call(live_client, GetCodebook, "get_codebook", GetCodebook.Request()).success
