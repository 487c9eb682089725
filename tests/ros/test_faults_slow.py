"""A model that takes a second a step: the node stays responsive, and says what it could not do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import NODE, PATIENCE_S, ROOT, NodeProcess, model_arguments, service_client
from diagnostic_msgs.msg import DiagnosticArray
from genie_robot_interfaces.action import Rollout
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction
from genie_robot_interfaces.srv import Fork, GetCodebook, Reset, Step
from genie_robot_ros import convert
from genie_robot_ros.client import ClientError, SimulatorClient
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import GetParameters
from rclpy.action import ActionClient
from std_msgs.msg import Header
from test_faults import change_state, value_of
from test_modes import infos_where, set_parameters
from test_node import listen, picture
from test_rollout import result_of, send

HERE = Path(__file__).parent
STEP_S = 1.0
QUEUE = 5
SLOW_NODE = (str(ROOT / "ros2_ws" / "tools" / "slow_simulator.py"),)
# A client's death is noticed when its lease ends: 20 s by default, here 3 s. The test need not wait longer for DDS.
SHORT_LEASE = """<profiles xmlns="http://www.eprosima.com"><participant profile_name="mortal" is_default_profile="true">
<rtps><builtin><discovery_config><leaseDuration><sec>3</sec></leaseDuration>
<leaseAnnouncement><sec>1</sec></leaseAnnouncement></discovery_config></builtin></rtps></participant></profiles>"""


@pytest.fixture(scope="module")
def slow_node(
    model_folder: Path, tmp_path_factory: pytest.TempPathFactory, own_domain
) -> Iterator[NodeProcess]:
    """Shared by the tests of this module, of which the last one ends it."""
    log = tmp_path_factory.mktemp("slow") / "node.log"
    node = NodeProcess(log, model_arguments(model_folder, f"command_queue_size:={QUEUE}"), SLOW_NODE)
    try:
        node.wait_for("active: camera")
        yield node
    finally:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()


@pytest.fixture
def slow_client(slow_node: NodeProcess, own_client: SimulatorClient) -> SimulatorClient:
    """A client of the slow node in mode step, where nothing waits any more."""
    own_client.wait_for_simulator(PATIENCE_S)
    set_parameters(own_client, mode="step")
    own_client.reset(0, frames=[picture()])
    own_client.received.infos.clear()
    return own_client


@pytest.fixture
def statuses(slow_client: SimulatorClient) -> list[DiagnosticArray]:
    """Diagnostics from before any traffic on: what is counted later came after the first of them."""
    heard = listen(slow_client, DiagnosticArray, "/diagnostics")
    slow_client.spin_until(lambda: bool(heard), PATIENCE_S, "diagnostics")
    slow_client.received.infos.clear()
    return heard


@pytest.fixture
def traffic(slow_client: SimulatorClient) -> Iterator[list]:
    """A 30 Hz camera and 10 Hz commands, sent while the client waits for anything; returns the commands."""
    sent: list = []
    camera = slow_client.create_timer(1 / 30, lambda: slow_client.show_camera([picture()], 0.0))
    commands = slow_client.create_timer(1 / 10, lambda: sent.append(slow_client.send(len(sent) % 8)))
    yield sent
    slow_client.destroy_timer(camera)
    slow_client.destroy_timer(commands)


def stamps(infos: list[ImaginedFrameInfo]) -> set[int]:
    return {convert.stamp_to_ns(info.command_stamp) for info in infos}


def wait(client: SimulatorClient, seconds: float) -> None:
    """Let the traffic flow for so long."""
    over_s = time.monotonic() + seconds
    client.spin_until(lambda: time.monotonic() > over_s, 10 * seconds + PATIENCE_S, "time to pass")


def count_of(statuses: list[DiagnosticArray], key: str) -> int:
    return int(value_of(statuses[-1].status[0], key)) if statuses else -1


def test_services_answer_and_what_is_too_much_is_refused_and_counted(
    slow_client: SimulatorClient, statuses: list[DiagnosticArray], traffic: list
) -> None:
    refused_before = count_of(statuses, "commands_rejected")
    asked = [
        (service_client(slow_client, GetCodebook, "get_codebook"), GetCodebook.Request()),
        (service_client(slow_client, GetState, "get_state"), GetState.Request()),
        (service_client(slow_client, GetParameters, "get_parameters"), GetParameters.Request(names=["seed"])),
    ]  # fmt: skip
    wait(slow_client, STEP_S)  # the queue fills
    answered_ms = []
    over_s = time.monotonic() + 3 * STEP_S
    while time.monotonic() < over_s:
        for service, request in asked:
            begun_s = time.perf_counter()
            assert slow_client._call(service, request, PATIENCE_S) is not None
            answered_ms.append(1e3 * (time.perf_counter() - begun_s))
        wait(slow_client, 0.02)
    p50, p99 = np.percentile(answered_ms, [50, 99])
    print(f"{len(answered_ms)} answers: p50 {p50:.1f} ms, p99 {p99:.1f} ms, max {max(answered_ms):.1f} ms")
    assert p50 < 100 and max(answered_ms) < 1000  # starved machines are slower than the 100 ms promised

    refused = infos_where(slow_client, status=ImaginedFrameInfo.STATUS_REJECTED)
    assert len(refused) > 10
    assert all(f"{QUEUE} commands already wait" in info.message for info in refused)
    assert stamps(refused) < {command.stamp_ns for command in traffic}

    def all_counted() -> bool:
        refused = infos_where(slow_client, status=ImaginedFrameInfo.STATUS_REJECTED)
        return count_of(statuses, "commands_rejected") - refused_before == len(refused)

    slow_client.spin_until(all_counted, PATIENCE_S, "every refusal to be counted")
    assert count_of(statuses, "queue") <= QUEUE


def test_a_reset_waits_for_one_step_only(slow_client: SimulatorClient) -> None:
    def reset_in_time(busy_with: str) -> None:
        wait(slow_client, 0.3 * STEP_S)
        begun_s = time.monotonic()
        slow_client.reset(1, frames=[picture(1)])
        took_s = time.monotonic() - begun_s
        print(f"reset during {busy_with}: {took_s:.2f} s")
        assert took_s < STEP_S + 1.5

    for code in range(QUEUE):
        slow_client.send(code)
    reset_in_time("commands")
    slow_client.spin_until(
        lambda: len(infos_where(slow_client, status=ImaginedFrameInfo.STATUS_DROPPED)) >= QUEUE - 1,
        PATIENCE_S,
        "the dropped commands",
    )
    for kind, name, request in (
        (Step, "step", Step.Request(repeat=500)),
        (Fork, "fork", Fork.Request(codes=[1] * 64, steps=64)),
    ):
        service = service_client(slow_client, kind, name)
        answer = service.call_async(request)
        reset_in_time(f"~/{name}")
        slow_client.spin_until(answer.done, PATIENCE_S, "the interrupted answer")
        assert not answer.result().success and "a reset began another episode" in answer.result().message


def test_realtime_drops_what_was_superseded_and_counts_the_late_ticks(
    slow_client: SimulatorClient, traffic: list
) -> None:
    """5 ticks a second, one frame: imagined time falls behind, or it keeps pace and frames are missing."""
    statuses = listen(slow_client, DiagnosticArray, "/diagnostics")
    wait(slow_client, STEP_S)  # commands of mode step; the first diagnostics
    slow_client.spin_until(lambda: bool(statuses), PATIENCE_S, "diagnostics")
    set_parameters(slow_client, mode="realtime", late_policy="slow")
    wait(slow_client, STEP_S)  # the last command of mode step
    waited = infos_where(slow_client, status=ImaginedFrameInfo.STATUS_DROPPED)
    assert any("the mode changed before this command's turn" in info.message for info in waited)
    for policy in ("slow", "drop"):
        set_parameters(slow_client, late_policy=policy)
        before = {key: count_of(statuses, key) for key in ("ticks_late", "ticks_dropped", "commands_dropped")}
        slow_client.received.infos.clear()
        wait(slow_client, 3.5 * STEP_S)
        made = infos_where(slow_client, status=ImaginedFrameInfo.STATUS_FRAME)
        dropped = infos_where(slow_client, status=ImaginedFrameInfo.STATUS_DROPPED)
        assert 2 <= len(made) <= 4
        assert sum("a newer command came" in info.message for info in dropped) > 10
        assert not stamps(made) & stamps(dropped)
        jumps = np.diff([info.sequence for info in made])
        assert (jumps == 1).all() if policy == "slow" else (jumps > 2).any()

        def counted(policy: str, before: dict[str, int], least: int) -> bool:
            more = {key: count_of(statuses, key) - count for key, count in before.items()}
            ticks_are_right = more["ticks_dropped"] > 5 if policy == "drop" else more["ticks_dropped"] == 0
            return ticks_are_right and more["ticks_late"] > 5 and more["commands_dropped"] >= least

        condition = partial(counted, policy, before, len(dropped))
        slow_client.spin_until(condition, PATIENCE_S, "the counts on /diagnostics")


def test_deactivated_in_a_fork(slow_client: SimulatorClient) -> None:
    """The step in work is finished, the rest of the fork is not."""
    forks = service_client(slow_client, Fork, "fork")
    fork = forks.call_async(Fork.Request(codes=[1] * 64, steps=64))
    wait(slow_client, 0.3 * STEP_S)
    begun_s = time.monotonic()
    assert change_state(slow_client, Transition.TRANSITION_DEACTIVATE)
    took_s = time.monotonic() - begun_s
    slow_client.spin_until(fork.done, PATIENCE_S, "the fork's answer")
    assert change_state(slow_client, Transition.TRANSITION_ACTIVATE)
    assert not fork.result().success and "deactivated" in fork.result().message
    assert took_s < STEP_S + 1.5


def test_a_client_killed_in_a_rollout_holds_nobody_up(slow_client: SimulatorClient, tmp_path: Path) -> None:
    """Also not while another client already waits for its turn."""
    profile = tmp_path / "lease.xml"
    profile.write_text(SHORT_LEASE)
    victim = subprocess.Popen(
        [sys.executable, str(HERE / "rollout_client.py"), "1000"],
        env=os.environ | {"FASTRTPS_DEFAULT_PROFILES_FILE": str(profile)},
        stdout=subprocess.PIPE,
    )
    rollouts = None
    try:
        assert victim.stdout is not None
        assert [int(victim.stdout.readline()) for _ in range(2)] == [1, 2]
        rollouts = ActionClient(slow_client, Rollout, f"{NODE}/rollout")
        slow_client.spin_until(rollouts.server_is_ready, PATIENCE_S, "the action")
        assert not send(slow_client, rollouts, Rollout.Goal(codes=[1]))[0].accepted
        victim.kill()
        killed_s = time.monotonic()
        while not (handle := send(slow_client, rollouts, Rollout.Goal(codes=[1]))[0]).accepted:
            assert time.monotonic() - killed_s < PATIENCE_S
            wait(slow_client, 0.2)
        print(f"accepted {time.monotonic() - killed_s:.1f} s after the other client was killed (lease 3 s)")
        assert result_of(slow_client, handle)[1].success
    finally:
        victim.kill()
        victim.wait()
        victim.stdout.close()
        if rollouts is not None:
            rollouts.destroy()


def test_shut_down_in_a_rollout_and_ended_in_a_step(
    slow_node: NodeProcess, slow_client: SimulatorClient
) -> None:
    rollouts = ActionClient(slow_client, Rollout, f"{NODE}/rollout")
    slow_client.spin_until(rollouts.server_is_ready, PATIENCE_S, "the action")
    handle, feedback = send(slow_client, rollouts, Rollout.Goal(codes=[1] * 500))
    slow_client.spin_until(lambda: bool(feedback), PATIENCE_S, "the first frame")
    assert change_state(slow_client, Transition.TRANSITION_ACTIVE_SHUTDOWN)
    assert result_of(slow_client, handle)[1].termination == Rollout.Result.TERMINATION_DEACTIVATED
    rollouts.destroy()
    assert not change_state(slow_client, Transition.TRANSITION_CONFIGURE)  # finalised for good
    assert slow_node.stop(signal.SIGTERM) == 0, slow_node.text()
    assert "Traceback" not in slow_node.text()


def test_one_session_is_deactivated_while_the_other_works_and_the_process_is_ended_in_a_step(
    start_node: Callable[..., NodeProcess],
    own_client: SimulatorClient,
    model_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    step_s = 0.3
    monkeypatch.setenv("SLOW_STEP_S", str(step_s))
    client = own_client
    node = start_node(
        "--namespaces", "a", "b", "--ros-args", *model_arguments(model_folder), program=SLOW_NODE
    )
    for name in "ab":
        node.wait_for(f"[{name}.genie_simulator]: active")

    def service(name: str, kind: type, of: str):
        return service_client(client, kind, of, f"/{name}{NODE}")

    image = convert.frame_to_image(picture(), Header())
    for name in "ab":
        answer = client._call(service(name, Reset, "reset"), Reset.Request(frames=[image]), PATIENCE_S)
        assert answer.success, answer.message
    steps = {name: service(name, Step, "step") for name in "ab"}
    changes = service("b", ChangeState, "change_state")
    long = steps["a"].call_async(Step.Request(repeat=6, action=LatentAction(code=1)))
    assert client._call(steps["b"], Step.Request(), PATIENCE_S).success
    assert not long.done(), "they take turns"
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert client._call(changes, request, PATIENCE_S).success
    client.spin_until(long.done, PATIENCE_S, "the end of a's steps")
    assert long.result().success, long.result().message
    for name in "ab":
        steps[name].call_async(Step.Request(repeat=500))
    with pytest.raises(ClientError):
        client.spin_until(lambda: False, 0.5, "nothing")
    begun_s = time.monotonic()
    assert node.stop(signal.SIGTERM) == 0, node.text()
    print(f"ended {time.monotonic() - begun_s:.1f} s after SIGTERM")
    assert time.monotonic() - begun_s < step_s + 5.0
    assert "Traceback" not in node.text()
