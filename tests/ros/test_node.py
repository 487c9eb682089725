"""The node as a process of its own, driven over DDS."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import NODE, PACKAGE, PATIENCE_S, NodeProcess, model_arguments, service_client
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction
from genie_robot_interfaces.srv import Reset, Step
from genie_robot_ros import convert
from genie_robot_ros.client import ClientError, SimulatorClient
from genie_robot_ros.parameters import PARAMETERS
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import GetParameters, ListParameters, SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, Int32
from std_srvs.srv import Trigger
from visualization_msgs.msg import Marker, MarkerArray


def picture(seed: int = 0, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def call(client: SimulatorClient, kind: type, name: str, request, timeout_s: float = PATIENCE_S):
    service = service_client(client, kind, name)
    try:
        return client._call(service, request, timeout_s)
    finally:
        client.destroy_client(service)


def listen(client: SimulatorClient, kind: type, topic: str, qos=10) -> list:
    """Subscribe, wait for the match, and return the list that fills."""
    received: list = []
    subscription = client.create_subscription(kind, topic, received.append, qos)
    client.spin_until(lambda: client.count_publishers(topic) > 0, PATIENCE_S, topic)
    received_from = subscription.topic_name
    assert received_from
    return received


def wait_for_level(
    client: SimulatorClient, statuses: list, name: str, level: bytes, said: str = ""
) -> DiagnosticStatus:
    found: list[DiagnosticStatus] = []

    def seen() -> bool:
        for array in statuses:
            found.extend(
                s for s in array.status if s.name.endswith(name) and s.level == level and said in s.message
            )
        statuses.clear()
        return bool(found)

    client.spin_until(seen, PATIENCE_S, f"diagnostics of {name} at level {level!r} with {said!r}")
    return found[-1]


def test_same_seed_same_frames_other_seed_other_frames(live_client: SimulatorClient) -> None:
    def run(seed: int) -> np.ndarray:
        live_client.reset(seed, frames=[picture()])
        request = Step.Request(action=LatentAction(code=3), repeat=3)
        answer = call(live_client, Step, "step", request)
        assert answer.success, answer.message
        assert answer.model_ms > 0
        return convert.image_to_frame(answer.image)

    first = run(5)
    np.testing.assert_array_equal(run(5), first)
    assert (run(6) != first).any()


def test_stamps_frame_id_and_companions_of_a_frame(live_client: SimulatorClient) -> None:
    infos = listen(live_client, CameraInfo, "imagined/camera_info")
    jpegs = listen(live_client, CompressedImage, "imagined/image_raw/compressed")
    _, prompt_ns = live_client.reset_from_camera([picture(1), picture(2)], dt_s=0.2)
    command = live_client.send(4)
    received = live_client.received
    wanted_ns = prompt_ns + 200_000_000

    def complete() -> bool:
        stamps = [convert.stamp_to_ns(m.header.stamp) for m in (*infos, *jpegs)]
        return stamps.count(wanted_ns) == 2 and any(i.sequence == 1 for i in received.infos)

    live_client.spin_until(complete, PATIENCE_S, "frame, camera_info and compressed")
    live_client.spin_until(
        lambda: any(s == wanted_ns for _, s, _ in received.images), PATIENCE_S, "the image"
    )
    image = next(m for _, s, m in received.images if s == wanted_ns)
    info = next(i for i in received.infos if i.sequence == 1)
    assert info.header == image.header
    assert image.header.frame_id == "camera_optical_frame"
    assert convert.stamp_to_ns(info.command_stamp) == command.stamp_ns
    assert (info.status, info.code, info.name) == (ImaginedFrameInfo.STATUS_FRAME, 4, "up")
    camera = next(m for m in infos if m.header == image.header)
    assert (camera.height, camera.width) == (64, 64)
    decoded = convert.compressed_to_frame(next(m for m in jpegs if m.header == image.header))
    assert decoded.shape == (64, 64, 3)


def test_action_index_drives_the_node_too(live_client: SimulatorClient) -> None:
    live_client.reset(0, frames=[picture()])
    publisher = live_client.create_publisher(Int32, f"{NODE}/action_index", 10)
    live_client.spin_until(lambda: publisher.get_subscription_count() > 0, PATIENCE_S, "action_index")
    publisher.publish(Int32(data=6))
    infos = live_client.received.infos
    live_client.spin_until(lambda: any(i.code == 6 for i in infos), PATIENCE_S, "the frame of action 6")
    assert [info.code for info in infos if info.code == 6] == [6]


def test_unknown_code_is_one_warning_and_the_node_goes_on(
    live_client: SimulatorClient, live_node: NodeProcess
) -> None:
    statuses = listen(live_client, DiagnosticArray, "/diagnostics")
    live_client.reset(0, frames=[picture()])
    infos = live_client.received.infos
    before = live_node.text().count("unknown action code 42")
    live_client.send(42)
    live_client.send(1)
    live_client.spin_until(
        lambda: any(i.code == 1 for i in infos), PATIENCE_S, "the frame after the unknown code"
    )
    rejected = next(i for i in infos if i.code == 42)
    assert rejected.status == ImaginedFrameInfo.STATUS_REJECTED
    assert "codes 0 to 7" in rejected.message
    assert next(i for i in infos if i.code == 1).sequence == 1  # the unknown code took no step
    assert live_node.text().count("unknown action code 42") == before + 1
    status = wait_for_level(
        live_client, statuses, "world model", DiagnosticStatus.WARN, "unknown action code 42"
    )
    assert status.hardware_id
    wait_for_level(live_client, statuses, "world model", DiagnosticStatus.OK, "active")


def test_bad_image_is_a_warning_and_the_next_good_one_works(
    live_client: SimulatorClient, live_node: NodeProcess
) -> None:
    statuses = listen(live_client, DiagnosticArray, "/diagnostics")
    message = convert.frame_to_image(picture(), Header(frame_id="camera_optical_frame"))
    message.encoding = "nonsense"
    live_client.camera.publish(message)
    wait_for_level(live_client, statuses, "camera", DiagnosticStatus.WARN, "nonsense")
    assert "camera image dropped: " in live_node.text()
    shown = picture(9, 480, 640)  # larger than the model's frames, and not square
    seen, _ = live_client.reset_from_camera([shown], dt_s=0.2)
    assert seen.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (Reset.Request(), "use_latest_frames"),
        (Reset.Request(use_latest_frames=True, frames=[Image()]), "2 of use_latest_frames"),
        (Reset.Request(use_latest_frames=True, dataset="here"), "2 of use_latest_frames"),
        (Reset.Request(dataset="/nowhere"), "/nowhere"),
        (Reset.Request(frames=[Image(encoding="rgb8", width=2, height=2, step=6)]), "data"),
    ],
)
def test_wrong_resets_are_refused(live_client: SimulatorClient, request_: Reset.Request, said: str) -> None:
    answer = call(live_client, Reset, "reset", request_)
    assert not answer.success
    assert said in answer.message


@pytest.mark.parametrize(("code", "repeat", "said"), [(8, 1, "codes 0 to 7"), (0, 1001, "at most 1000")])
def test_wrong_steps_are_refused(live_client: SimulatorClient, code: int, repeat: int, said: str) -> None:
    live_client.reset(0, frames=[picture()])
    answer = call(live_client, Step, "step", Step.Request(action=LatentAction(code=code), repeat=repeat))
    assert not answer.success
    assert said in answer.message


def test_late_rviz_gets_the_markers_and_the_active_one_is_lit(live_client: SimulatorClient) -> None:
    live_client.reset(0, frames=[picture()])
    live_client.send(2)
    live_client.spin_until(
        lambda: any(i.code == 2 for i in live_client.received.infos), PATIENCE_S, "the frame"
    )
    latched = QoSProfile(depth=5, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    arrays = listen(live_client, MarkerArray, "latent_actions", latched)

    def lit() -> list[int]:
        return [m.id for m in arrays[-1].markers if m.ns == "codes" and m.color.r > 0.9]

    live_client.spin_until(lambda: bool(arrays) and lit() == [2], PATIENCE_S, "latched markers")
    assert sorted(m.id for m in arrays[-1].markers if m.ns == "codes") == list(range(8))
    texts = {m.id: m.text for m in arrays[-1].markers if m.ns == "labels"}
    assert (texts[0].split()[1], texts[2].split()[1], texts[6].split()[1]) == ("forward", "left", "close")
    assert texts[2].split()[2].lstrip("x").isdigit()  # how often it was used
    assert all(m.action in (Marker.ADD, Marker.DELETEALL) for m in arrays[-1].markers)


def test_the_cameras_own_action_is_inferred(live_client: SimulatorClient) -> None:
    inferred = listen(live_client, LatentAction, "inferred_action")
    deadline = time.monotonic() + PATIENCE_S
    while not inferred and time.monotonic() < deadline:
        live_client.show_camera([picture(3), picture(4)], dt_s=0.2)
        try:
            live_client.spin_until(lambda: bool(inferred), 1.0, "inferred_action")
        except ClientError:
            continue
    message = inferred[-1]
    assert 0 <= message.code < 8
    assert len(message.probabilities) == 8
    assert sum(message.probabilities) == pytest.approx(1.0, abs=1e-4)
    assert message.code == int(np.argmax(message.probabilities))
    assert message.header.frame_id == "camera_optical_frame"


def test_parameters_are_declared_described_and_guarded(
    live_client: SimulatorClient, model_folder: Path
) -> None:
    listed = call(live_client, ListParameters, "list_parameters", ListParameters.Request()).result.names
    assert {p.name for p in PARAMETERS} <= set(listed)
    wrong = [("maskgit_steps", 0), ("seed", -1), ("device", "cuda"), ("temperature", float("nan"))]
    wrong += [("mode", "dream"), ("late_policy", "never"), ("rate_hz", -1.0), ("command_queue_size", 7)]
    for name, value in wrong:
        request = SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()])
        result = call(live_client, SetParameters, "set_parameters", request).results[0]
        assert not result.successful, name
        assert result.reason
    request = SetParameters.Request(parameters=[Parameter("seed", value=11).to_parameter_msg()])
    assert call(live_client, SetParameters, "set_parameters", request).results[0].successful


def test_lifecycle_by_hand_compressed_camera_and_ctrl_c_at_work(
    start_node, client: SimulatorClient, model_folder: Path
) -> None:
    """One process through its whole life: namespace, parameter file, remapped compressed camera, second life, end."""
    shipped = PACKAGE / "config" / "genie_simulator.yaml"
    own = ("autostart:=false", "image_transport:=compressed", "maskgit_steps:=16")
    # the parameter file first: later settings win
    node = start_node("--params-file", str(shipped), *model_arguments(model_folder, *own),
                      "-r", "__ns:=/cell", "-r", "image_raw:=/wrist/image")  # fmt: skip
    change_state = service_client(client, ChangeState, "change_state", f"/cell{NODE}")
    steps = service_client(client, Step, "step", f"/cell{NODE}")
    resets = service_client(client, Trigger, "reset_latest", f"/cell{NODE}")
    parameters = service_client(client, GetParameters, "get_parameters", f"/cell{NODE}")

    def change(transition: int) -> bool:
        return client._call(
            change_state, ChangeState.Request(transition=Transition(id=transition)), PATIENCE_S
        ).success

    def step_message() -> str:
        return client._call(steps, Step.Request(), PATIENCE_S).message

    assert "not active" in step_message()
    assert change(Transition.TRANSITION_CONFIGURE)
    assert "not active" in step_message()
    assert change(Transition.TRANSITION_ACTIVATE)
    assert "no prompt yet" in step_message()
    assert change(Transition.TRANSITION_DEACTIVATE)
    assert "not active" in step_message()
    assert change(Transition.TRANSITION_CLEANUP)
    assert change(Transition.TRANSITION_CONFIGURE)
    assert change(Transition.TRANSITION_ACTIVATE)

    camera = client.create_publisher(CompressedImage, "/wrist/image/compressed", 10)
    client.spin_until(lambda: camera.get_subscription_count() > 0, PATIENCE_S, "the compressed camera")
    deadline = time.monotonic() + PATIENCE_S
    while True:
        camera.publish(convert.frame_to_compressed(picture(), Header(frame_id="wrist")))
        answer = client._call(resets, Trigger.Request(), PATIENCE_S)
        if answer.success or time.monotonic() > deadline:
            break
        assert "no camera image yet on /wrist/image/compressed" in answer.message
    assert answer.success, answer.message

    values = yaml.safe_load(shipped.read_text())["/**"]["ros__parameters"]
    assert set(values) == {p.name for p in PARAMETERS}
    values |= {"model_path": str(model_folder), "autostart": False}
    values |= {"image_transport": "compressed", "maskgit_steps": 16}
    got = client._call(parameters, GetParameters.Request(names=list(values)), PATIENCE_S)
    for (name, value), message in zip(values.items(), got.values, strict=True):
        assert Parameter.from_parameter_msg(ParameterMessage(name=name, value=message)).value == value, name

    commands = client.create_publisher(LatentAction, "/cell/latent_action", 500)
    client.spin_until(lambda: commands.get_subscription_count() > 0, PATIENCE_S, "latent_action")
    for k in range(300):
        commands.publish(LatentAction(code=k % 8))
    steps.call_async(Step.Request(repeat=1000))  # a service call that waits while the node ends
    time.sleep(0.2)
    assert node.stop(signal.SIGINT) == 0, node.text()
    assert "Traceback" not in node.text()
    assert "ERROR" not in node.text()


def test_a_missing_model_is_one_clear_error(start_node, client: SimulatorClient, tmp_path: Path) -> None:
    node = start_node(*model_arguments(tmp_path / "nothing"))
    node.wait_for("[ERROR]")
    statuses = listen(client, DiagnosticArray, "/diagnostics")
    wait_for_level(client, statuses, "world model", DiagnosticStatus.ERROR, "nothing")
    lines = [line for line in node.text().splitlines() if line.strip()]
    assert len(lines) == 1, node.text()
    assert "config.yaml" in lines[0]
    assert node.stop(signal.SIGTERM) == 0
