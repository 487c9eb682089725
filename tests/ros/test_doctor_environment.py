"""`genie-robot ros doctor` on the installation, the variables, ports and shared memory of this machine."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import rclpy
from conftest import PACKAGE, ROOT, free_domain
from rclpy.context import Context

from genie_robot.cli import _ros_environment as environment
from genie_robot.cli import _ros_shared_memory as shared_memory

PROFILE = PACKAGE / "config" / "fastdds_large_images.xml"
HOLDER = "import rclpy; rclpy.init(); node = rclpy.create_node('holder'); print(flush=True); input()"


def findings(check: str, found) -> list[tuple[str, ...]]:
    return [one for one in found if one[0] == check]


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


@pytest.mark.parametrize(
    ("offsets", "named"),
    [
        ((0, 1), True),  # multicast, as CycloneDDS has it
        ((10, 11), True),  # a participant of Fast DDS
        ((16, 17), True),  # the fourth one, when the first ones have ended
        ((225,), False),  # such as 8125 of statsd, 225 after the first port of domain 2
        ((225, 226), False),
        ((0,), False),
        ((10,), False),
        ((11, 12), False),
    ],
)
def test_only_ports_as_discovery_lays_them_out_name_a_domain(offsets: tuple[int, ...], named: bool) -> None:
    domain = free_domain()
    with contextlib.ExitStack() as sockets:
        for offset in offsets:
            one = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind(("127.0.0.1", 7400 + 250 * domain + offset))
        assert (domain in environment.domains_in_use()) == named


def test_a_node_names_its_domain() -> None:
    context = Context()
    domain = free_domain()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("somebody", context=context)
    [finding] = [one for one in findings("domain", environment.check_environment()) if "too" in one[2]]
    assert str(domain) in re.findall(r"\d+", finding[2])
    node.destroy_node()
    context.shutdown()


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
