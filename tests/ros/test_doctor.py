"""`genie-robot ros doctor`: each fault is made for real, and the finding names it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from conftest import PACKAGE, PATIENCE_S, ROOT, NodeProcess, model_arguments
from genie_robot_ros import convert, doctor, loopback
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
from genie_robot.cli import _ros_environment as environment
from genie_robot.cli import _ros_shared_memory as shared_memory

BEST_EFFORT = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
PROFILE = PACKAGE / "config" / "fastdds_large_images.xml"
HOLDER = "import rclpy; rclpy.init(); node = rclpy.create_node('holder'); print(flush=True); input()"


def findings(check: str, found) -> list[tuple[str, ...]]:
    return [one for one in found if one[0] == check]


# The environment


@pytest.mark.parametrize(
    ("variable", "value", "check", "level", "words"),
    [
        ("ROS_DOMAIN_ID", "seven", "domain", "FAIL", "'seven'"),
        ("ROS_DOMAIN_ID", "233", "domain", "FAIL", "'233'"),
        ("ROS_DOMAIN_ID", "150", "domain", "WARN", "ports"),
        ("ROS_DOMAIN_ID", "42", "domain", "OK", "42"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", "discovery", "OK", "this machine"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET", "discovery", "WARN", "every machine"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF", "discovery", "FAIL", "no other node"),
        ("ROS_AUTOMATIC_DISCOVERY_RANGE", "localhost", "discovery", "FAIL", "'localhost'"),
        ("AMENT_PREFIX_PATH", "/opt/ros/humble:/opt/ros/jazzy", "installation", "FAIL", "/opt/ros/humble"),
        ("RMW_IMPLEMENTATION", "rmw_of_nobody", "rclpy", "FAIL", "rmw_of_nobody"),
        ("ROS_LOG_DIR", "/proc/version/log", "logs", "FAIL", "/proc/version/log"),
    ],
)
def test_variables(
    variable: str, value: str, check: str, level: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    first = findings(check, environment.check_environment())[0]
    assert first.level == level and words in first.found
    assert bool(first.advice) == (level != "OK")
    assert "\n" not in first.line()


def test_a_sourced_ros_for_another_python(tmp_path: Path) -> None:
    (tmp_path / "lib/python3.99/site-packages/rclpy").mkdir(parents=True)
    code = "import sys; from genie_robot.cli import main; sys.exit(main(['ros', 'doctor']))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],  # -S: none of the packages of this environment
        env=os.environ | {"AMENT_PREFIX_PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "built for Python 3.99" in done.stdout and "genie_robot_interfaces is not built" in done.stdout


def test_interfaces_built_from_other_sources(tmp_path: Path) -> None:
    sources, place = tmp_path / "src", tmp_path / "installed"
    (sources / "genie_robot_ros").mkdir(parents=True)
    place.mkdir()
    for folder in (sources / "genie_robot_ros", place):
        (folder / "node.py").write_text("x = 1\n")
    assert environment.stale_source("genie_robot_ros", place, sources) is None
    (place / "node.py").write_text("x = 2\n")
    assert environment.stale_source("genie_robot_ros", place, sources) == "node.py"
    changed = tmp_path / "genie_robot_interfaces"
    (changed / "msg").mkdir(parents=True)
    (changed / "msg" / "RobotAction.msg").write_text("float32 gripper\n")
    assert environment.stale_source("genie_robot_interfaces", place, changed) == "RobotAction.msg"


def test_segments_of_a_killed_process_are_stale_and_those_of_a_living_one_are_not() -> None:
    def segments() -> set[Path]:
        return {path for path in Path("/dev/shm").glob("fastrtps_*") if not path.name.endswith("_el")}

    before = segments()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        holder.stdout.readline()
        maps = Path(f"/proc/{holder.pid}/maps").read_text()
        own = {path for path in segments() - before if str(path) in maps}
        assert own
        assert not own & set(shared_memory.stale_segments(Path("/dev/shm")))
    finally:
        holder.kill()
        holder.communicate()
    stale = own & set(shared_memory.stale_segments(Path("/dev/shm")))
    assert stale
    for path in stale:
        path.unlink()
        path.with_name(f"{path.name}_el").unlink()


@pytest.mark.parametrize(
    ("content", "level", "words"),
    [
        (PROFILE.read_text(), "OK", "32 MiB"),
        (PROFILE.read_text().replace("33554432", "524288"), "WARN", "524288 bytes"),
        (PROFILE.read_text()[:-20], "FAIL", "XML"),
        (PROFILE.read_text().replace('is_default_profile="true"', ""), "FAIL", "no default participant"),
        (None, "FAIL", "No such file"),
    ],
)
def test_profiles(
    content: str | None, level: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "profile.xml"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(path))
    finding = shared_memory.profile()
    assert finding.level == level and words in finding.found


def test_a_loopback_profile_in_an_open_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTRTPS_DEFAULT_PROFILES_FILE", str(PROFILE))
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    assert shared_memory.profile().level == "WARN"


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
        assert seen(graph, simulators, "/watched/genie_simulator does not answer")[1] == "FAIL"
    finally:
        simulator.process.send_signal(signal.SIGCONT)


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
