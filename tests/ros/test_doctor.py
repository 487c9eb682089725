"""`genie-robot ros doctor`: each fault is made for real, and the finding names it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from conftest import PACKAGE, PATIENCE_S, NodeProcess, model_arguments
from genie_robot_ros import convert, doctor, loopback
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.type_hash import TypeHash
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header, Int32, String

from genie_robot import cli

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PROFILE = PACKAGE / "config" / "fastdds_large_images.xml"


# Two processes


def test_loopback_with_the_shipped_profile() -> None:
    code = "from genie_robot_ros.loopback import check_loopback; print(*next(check_loopback()))"
    said: list[str] = []
    while not said or (
        " WARN " in said[-1] and len(said) < 3
    ):  # a starved machine may lose some; the defaults lose most
        done = subprocess.run(
            [sys.executable, "-c", code],  # a process of its own: the profile is read once
            env=os.environ | {"FASTRTPS_DEFAULT_PROFILES_FILE": str(PROFILE)},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stdout)
    assert said[-1].startswith("loopback OK none of 30 images"), said


def test_loopback_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    monkeypatch.setattr(loopback, "FIND_S", 1.0)
    monkeypatch.setattr(loopback, "RECEIVE_S", 1.0)
    [finding] = loopback.check_loopback()
    assert finding[1] == "FAIL" and "do not find each other" in finding[2]


@pytest.mark.parametrize(
    ("small", "level", "found", "advice"),
    [
        (29, "WARN", "all 30 images of 0.9 MB lost", "profile for large"),
        (0, "FAIL", "no image arrives", "stale shared"),
    ],
)
def test_large_images_lost_or_all(small: int, level: str, found: str, advice: str) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as publisher:
        finding = loopback._finding(publisher, 0.5, [], small)
    assert finding[1] == level and found in finding[2] and advice in finding[3]


# The running nodes


@pytest.fixture
def graph() -> Iterator[doctor.Graph]:
    """Nodes of this test, in a process-wide graph that other tests may share, and the doctor's view of it."""
    context = Context()
    context.init()
    node = rclpy.create_node("genie_doctor", context=context, start_parameter_services=False)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    yield doctor.Graph(node, executor)
    executor.shutdown()
    node.destroy_node()
    context.shutdown()


@pytest.fixture
def make(graph: doctor.Graph) -> Iterator:
    made: list[Node] = []

    def node(name: str, **arguments) -> Node:
        made.append(rclpy.create_node(name, **{"context": graph.node.context} | arguments))
        return made[-1]

    yield node
    for one in made:
        one.destroy_node()


def seen(graph: doctor.Graph, check, words: str) -> tuple[str, ...]:
    """The finding with these words: discovery may take a moment."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        found = list(check(graph))
        for one in found:
            if words in one[2]:
                return one
        assert time.monotonic() < deadline, found
        graph.spin(0.05)


def simulators(graph: doctor.Graph) -> Iterator[tuple[str, ...]]:
    return doctor.simulators(graph, graph.codebooks())


def cameras(graph: doctor.Graph) -> Iterator[tuple[str, ...]]:
    return doctor.cameras(graph, graph.codebooks())


def test_two_nodes_of_one_name(graph: doctor.Graph, make) -> None:
    make("twin", namespace="/a")
    make("twin", namespace="/b")
    assert seen(graph, doctor.nodes, "/a/twin")[1] == "OK"
    make("twin", namespace="/a")
    finding = seen(graph, doctor.nodes, "2 nodes are called /a/twin")
    assert finding[1] == "FAIL" and "__node" in finding[3]


@pytest.mark.parametrize(
    ("offered", "asked", "words"),
    [
        (BEST_EFFORT, 10, "best effort publisher and reliable"),
        (10, LATCHED, "volatile publisher and transient local"),
    ],
)
def test_qos_that_does_not_fit(offered, asked, words: str, graph: doctor.Graph, make) -> None:
    make("talker", namespace="/left").create_publisher(String, "/odd", offered)
    make("listener", namespace="/right").create_subscription(String, "/odd", print, asked)
    finding = seen(graph, doctor.connections, "/left/talker to /right/listener on /odd")
    assert finding[1] == "FAIL" and words in finding[2] and finding[3]


def test_qos_and_types_that_fit(graph: doctor.Graph, make) -> None:
    talker = make("talker")
    talker.create_publisher(String, "/even", LATCHED)
    talker.create_subscription(String, "/even", print, BEST_EFFORT)
    assert seen(graph, doctor.connections, "fit together")[1] == "OK"


def test_types_that_differ(graph: doctor.Graph, make) -> None:
    make("talker").create_publisher(String, "/mixed", 10)
    elsewhere = Context()  # one participant cannot have both
    elsewhere.init()
    listener = make("listener", context=elsewhere)
    listener.create_subscription(Int32, "/mixed", print, 10)
    finding = seen(graph, doctor.connections, "/talker to /listener on /mixed")
    assert finding[1] == "FAIL" and "std_msgs/msg/Int32" in finding[2]
    elsewhere.shutdown()


def test_definitions_that_differ(graph: doctor.Graph, make) -> None:
    talker = make("talker")
    talker.create_publisher(String, "/old", 10)
    talker.create_subscription(String, "/old", print, 10)
    seen(graph, doctor.connections, "fit together")
    [publisher], [subscription] = graph.publishers("/old"), graph.subscriptions("/old")
    assert doctor.mismatch(publisher, subscription) is None
    publisher.topic_type_hash = TypeHash(version=1, value=bytes(32))
    reason = doctor.mismatch(publisher, subscription)
    assert reason is not None and "differ" in reason[0] and "version" in reason[1]


def test_simulated_time_without_a_clock(graph: doctor.Graph, make) -> None:
    sleeper = make("sleeper", parameter_overrides=[Parameter("use_sim_time", value=True)])
    executor = graph._executor
    executor.add_node(sleeper)  # answers the question for its parameters
    finding = seen(graph, doctor.simulated_time, "/sleeper")
    assert finding[1] == "FAIL" and "nobody publishes /clock" in finding[2]
    sleeper.create_publisher(Clock, "/clock", 1)
    assert seen(graph, doctor.simulated_time, "simulated in /sleeper")[1] == "OK"


def test_the_simulator_and_its_camera(
    start_node, model_folder: Path, graph: doctor.Graph, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "CAMERA_S", 1.2)
    monkeypatch.setattr(doctor, "ANSWER_S", 1.0)
    simulator = start_node(*model_arguments(model_folder), "-r", "__ns:=/watched")
    simulator.wait_for("active: camera")
    assert seen(graph, simulators, "/watched/genie_simulator is active")[1] == "OK"
    driver = make("camera_driver")
    driver.create_publisher(Image, "/elsewhere/image_raw", 1)
    waiting = seen(graph, cameras, "waits for images on /watched/image_raw")
    assert waiting[1] == "WARN" and "/elsewhere/image_raw" in waiting[3] and "/imagined" not in waiting[3]

    camera = driver.create_publisher(Image, "/watched/image_raw", 1)
    silent = seen(graph, cameras, "no image on /watched/image_raw")
    assert silent[1] == "FAIL" and "/camera_driver" in silent[2]

    def publish() -> None:
        header = Header(stamp=driver.get_clock().now().to_msg())
        camera.publish(convert.frame_to_image(np.zeros((8, 8, 3), np.uint8), header))

    timer = driver.create_timer(1 / 20, publish)
    graph._executor.add_node(driver)
    rate = seen(graph, cameras, "/watched/image_raw at")
    assert rate[1] == "OK" and 10 < float(rate[2].split(" at ")[1].split()[0]) < 30
    timer.timer_period_ns = 10**9 // 2
    timer.reset()
    assert seen(graph, cameras, "the model steps at 5 Hz")[1] == "WARN"
    simulator.process.send_signal(signal.SIGSTOP)  # it hangs
    try:
        _, level, _, advice = seen(graph, simulators, "/watched/genie_simulator does not answer")
        assert level == "WARN" and "loads its model" in advice and "hangs or was killed" in advice
    finally:
        simulator.process.send_signal(signal.SIGCONT)


def test_a_simulator_that_waits_for_a_transition(start_node, graph: doctor.Graph, model_folder: Path) -> None:
    """The advice names the service, which works without the ros2 command: followed, it leads to an active node."""
    start_node(*model_arguments(model_folder, "autostart:=false"), "-r", "__ns:=/waiting")
    for state, label in (("unconfigured", "configure"), ("inactive", "activate")):
        _, level, _, advice = seen(graph, simulators, f"/waiting/genie_simulator is {state}")
        assert (
            level == "WARN"
            and f"with a system ROS: ros2 lifecycle set /waiting/genie_simulator {label}" in advice
        )
        found = re.search(r"call (\S+) with transition (\d+)", advice)
        assert found, advice
        request = ChangeState.Request(transition=Transition(id=int(found[2])))
        until_s = time.monotonic() + PATIENCE_S
        while (answer := graph.ask(ChangeState, {found[1]: request})[found[1]]) is None:
            assert time.monotonic() < until_s
        assert answer.success
    assert seen(graph, simulators, "/waiting/genie_simulator is active")[1] == "OK"


def test_no_simulator(graph: doctor.Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CODEBOOK_TYPE", "no_such/srv/Type")
    [finding] = simulators(graph)
    assert finding[1] == "WARN" and "ros simulate" in finding[3]


# The command


def test_the_command_prints_a_line_each_and_json(live_node: NodeProcess, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "genie_robot.cli", "ros", "doctor", "--json", str(tmp_path / "found.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    content = json.loads((tmp_path / "found.json").read_text())
    lines = done.stdout.splitlines()
    assert len(lines) == len(content["findings"]) + 1
    assert all(line.startswith(("OK  ", "WARN", "FAIL")) for line in lines[:-1]), done.stdout
    assert done.returncode == (0 if content["ok"] else 1)
    checks = {finding["check"] for finding in content["findings"]}
    assert {"installation", "rclpy", "packages", "loopback", "nodes", "simulator", "connections"} <= checks
    assert content["ok"], done.stdout


@pytest.mark.parametrize(
    ("variable", "value"), [("ROS_DOMAIN_ID", "seven"), ("RMW_IMPLEMENTATION", "rmw_of_nobody")]
)
def test_the_command_fails_when_a_check_does(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, value)
    assert cli.main(["ros", "doctor"]) == 1
    assert value in capsys.readouterr().out
