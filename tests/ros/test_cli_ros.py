"""`genie-robot ros simulate` as a user starts it: real processes that come and go together."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from conftest import PATIENCE_S, free_domain
from genie_robot_ros import share
from genie_robot_ros.rviz import mode_in, rviz_config, rviz_remaps
from rclpy.context import Context

from genie_robot import cli
from genie_robot.cli._ros_network import set_network
from genie_robot.data.bags.file import BagFile
from genie_robot.errors import DataError

PROFILE = str(share.share_path("genie_robot_ros", "config", "fastdds_large_images.xml"))
FAKE_RVIZ = '#!/bin/sh\necho "rviz: $*"\nexec sleep 1000\n'


class Simulation:
    """The command as a process; its output goes to a file."""

    def __init__(self, log: Path, arguments: list[str], environment: dict[str, str]) -> None:
        self.log = log
        command = [sys.executable, "-m", "genie_robot.cli", "ros", "simulate", *arguments]
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def text(self) -> str:
        return self.log.read_text()

    def wait_for(self, *texts: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not all(text in self.text() for text in texts):
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, f"no {texts} in:\n{self.text()}"
            time.sleep(0.05)

    def child(self, name: str) -> int:
        """Process id of a child."""
        found = re.search(rf"^\[{name}\] process (\d+)", self.text(), re.MULTILINE)
        assert found, self.text()
        return int(found[1])

    def end(self, number: int = signal.SIGINT) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@pytest.fixture
def simulate(model_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Simulation]]:
    started: list[Simulation] = []

    def start(*arguments: str, **environment: str) -> Simulation:
        wanted = [str(model_folder), "--param", "maskgit_steps:=2", *arguments]
        one = Simulation(tmp_path / f"simulate{len(started)}.log", wanted, os.environ | environment)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.process.poll() is None:
            one.end()


def runs(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


def environment_of(process: int) -> dict[str, str]:
    pairs = Path(f"/proc/{process}/environ").read_text().split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def topics_in(bag: Path) -> set[str]:
    try:
        return set(BagFile(bag).topics)
    except DataError:  # nothing is in it yet
        return set()


def test_simulator_recorder_and_rviz_come_and_go_together(
    simulate: Callable[..., Simulation], tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "rviz2"
    program.parent.mkdir()
    program.write_text(FAKE_RVIZ)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    bag, parameters = tmp_path / "bag", tmp_path / "parameters.yaml"
    parameters.write_text("/left/genie_simulator: {ros__parameters: {mode: shadow}}\n")
    one = simulate(
        *("--namespace", "left", "right", "--record", str(bag), "--rviz", "--params", str(parameters)),
        PATH=f"{program.parent}:{os.environ['PATH']}",
    )
    one.wait_for(
        "left.genie_simulator]: active", "right.genie_simulator]: active", "recording /right/latent_actions"
    )
    one.wait_for("recording /diagnostics")
    children = [one.child(name) for name in ("simulator", "rviz", "recorder")]
    environment = environment_of(children[0])
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == PROFILE
    for namespace, mode in (("left", "shadow"), ("right", "")):
        arguments = [part for pair in rviz_remaps(namespace, mode=mode) for part in ("-r", ":=".join(pair))]
        assert f"rviz: -d {rviz_config(mode)} --ros-args {' '.join(arguments)}\n" in one.text()

    recorded = {"/left/latent_actions", "/right/latent_actions", "/diagnostics"}
    deadline = time.monotonic() + PATIENCE_S
    while not recorded <= topics_in(bag / "bag.mcap") and time.monotonic() < deadline:
        time.sleep(0.1)
    assert one.end() == 0, one.text()
    assert not any(map(runs, children))
    assert (bag / "metadata.yaml").is_file()
    assert recorded <= topics_in(bag)
    assert "recording /left/imagined/image_raw" in one.text()
    assert "recording /left/imagined/contact_sheet" not in one.text(), "only made while somebody listens"
    assert "Traceback" not in one.text()


def test_a_simulator_that_dies_is_one_line_and_ends_all(
    simulate: Callable[..., Simulation], tmp_path: Path
) -> None:
    one = simulate("--record", str(tmp_path / "bag"))
    one.wait_for("active: camera", "recording /diagnostics")
    recorder = one.child("recorder")
    os.kill(one.child("simulator"), signal.SIGKILL)
    assert one.process.wait(PATIENCE_S) == 1
    assert one.text().count("[simulator] was ended by signal 9") == 1 and "Traceback" not in one.text()
    assert not runs(recorder)
    assert (tmp_path / "bag" / "metadata.yaml").is_file()


def test_a_recorder_that_dies_is_one_line_and_the_simulator_goes_on(
    simulate: Callable[..., Simulation], tmp_path: Path
) -> None:
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text("/**: {ros__parameters: {mode: realtime, rate_hz: 2.0}}\n")
    one = simulate(
        *("--record", str(tmp_path / "bag"), "--params", str(parameters), "--image-topic", "/cam/image_raw"),
        "--rviz",
        PATH="/usr/bin:/bin",
    )
    one.wait_for("active: camera /cam/image_raw", "mode realtime", "recording /diagnostics")
    assert "rviz2 is not on the PATH" in one.text()
    os.kill(one.child("recorder"), signal.SIGKILL)
    one.wait_for("[recorder] was ended by signal 9")
    assert runs(one.child("simulator"))
    assert one.end(signal.SIGTERM) == 1, "the recording is not what was asked for"


REACH, HERE_ONLY, PROFILES = (
    "ROS_AUTOMATIC_DISCOVERY_RANGE",
    "ROS_LOCALHOST_ONLY",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
)


@pytest.mark.parametrize(
    ("given", "open_network", "wanted", "words"),
    [
        ({}, False, {REACH: "LOCALHOST", PROFILES: PROFILE}, "this machine only"),
        ({REACH: "SUBNET"}, False, {REACH: "SUBNET"}, "SUBNET"),
        ({REACH: "LOCALHOST", PROFILES: "/my.xml"}, False, {REACH: "LOCALHOST", PROFILES: "/my.xml"}, "only"),
        ({REACH: "LOCALHOST"}, True, {}, "every machine"),
        (
            {REACH: "SUBNET", HERE_ONLY: "1"},
            False,
            {REACH: "SUBNET", HERE_ONLY: "1", PROFILES: PROFILE},
            "this machine only",
        ),
        ({HERE_ONLY: "1"}, True, {}, "every machine"),
    ],
)
def test_the_network_is_opened_on_purpose_only(
    given: dict[str, str],
    open_network: bool,
    wanted: dict[str, str],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = dict(given)
    set_network(environment, open_network, share)
    assert environment == wanted
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no/such/model"], "is no folder"),
        (["MODEL", "--params", "no.yaml"], "--params is no.yaml"),
        (["MODEL", "--param", "mode=shadow"], "NAME:=VALUE"),
        (["MODEL", "--record", "MODEL"], "exists already"),
    ],
)
def test_wrong_use_is_one_line(
    arguments: list[str], words: str, model_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [str(model_folder) if word == "MODEL" else word for word in arguments]
    assert cli.main(["ros", "simulate", *given]) == 2
    captured = capfd.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--param", "horizon:=900"], "horizon"), (["--namespace", "bad-name"], "/bad-name")],
)
def test_what_the_simulator_refuses_is_its_line_and_exit_code(
    arguments: list[str], words: str, simulate: Callable[..., Simulation]
) -> None:
    one = simulate(*arguments)
    assert one.process.wait(PATIENCE_S) == 2
    said = [line for line in one.text().splitlines() if words in line and not line.startswith("[")]
    assert len(said) == 1, one.text()
    assert one.text().endswith("[simulator] ended with code 2; what it said is above\n")
    assert "Traceback" not in one.text()


@pytest.mark.parametrize(
    ("parameters", "namespace", "wanted"),
    [
        ("/**: {ros__parameters: {mode: shadow}}", "", "shadow"),
        ("/**: {ros__parameters: {mode: shadow}}", "/left/", "shadow"),
        ("genie_simulator: {ros__parameters: {mode: shadow}}", "", "shadow"),
        ("genie_simulator: {ros__parameters: {mode: shadow}}", "left", ""),
        ("/left/genie_simulator: {ros__parameters: {mode: shadow}}", "left", "shadow"),
        ("left: {genie_simulator: {ros__parameters: {mode: shadow}}}", "left", "shadow"),
        ("/*/genie_simulator: {ros__parameters: {mode: shadow}}", "left", "shadow"),
        ("/*/genie_simulator: {ros__parameters: {mode: shadow}}", "", ""),
        (
            "/**: {ros__parameters: {mode: shadow}}\n/genie_simulator: {ros__parameters: {mode: step}}",
            "",
            "step",
        ),
        ("/other: {ros__parameters: {mode: shadow}}", "", ""),
        ("/**: {ros__parameters: {horizon: 3}}", "", ""),
        ("/**: [ros__parameters", "", ""),
        ("a(: {ros__parameters: {mode: shadow}}", "", ""),
        ("", "", ""),
    ],
)
def test_the_mode_in_a_parameter_file(parameters: str, namespace: str, wanted: str, tmp_path: Path) -> None:
    """As the node itself reads it."""
    path = tmp_path / "parameters.yaml"
    path.write_text(parameters)
    assert mode_in(path, namespace) == wanted
    assert (mode_of_a_node(path, namespace) or "") == wanted


def mode_of_a_node(path: Path, namespace: str) -> str | None:
    context = Context()
    try:
        rclpy.init(args=["--ros-args", "--params-file", str(path)], context=context, domain_id=free_domain())
    except RuntimeError:  # no YAML
        return None
    node = rclpy.create_node(
        "genie_simulator",
        context=context,
        namespace=namespace.rstrip("/"),
        automatically_declare_parameters_from_overrides=True,
    )
    mode = node.get_parameter_or("mode").value
    node.destroy_node()
    context.shutdown()
    return mode


def test_without_the_ros_packages_it_says_what_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code = "import sys; from genie_robot.cli import main; sys.exit(main(['ros', 'record', sys.argv[1]]))"
    done = subprocess.run(
        [
            sys.executable,
            "-S",
            "-c",
            code,
            str(tmp_path / "bag"),
        ],  # -S: without the packages of this environment
        env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and "make ros" in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["doctor", "simulate", "record"])
def test_each_has_help_with_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ros", command, "--help"]) == 0
    assert f"genie-robot ros {command}" in capsys.readouterr().out.split("examples:")[1]
