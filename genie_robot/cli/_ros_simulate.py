"""`genie-robot ros simulate`: the simulator with its recorder and RViz, as the launch file starts them."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_robot.cli._ros_package import ros_module
from genie_robot.errors import ConfigError

_EPILOG = """examples:
  genie-robot ros simulate weights/tabletop-tiny --image-topic /camera/image_raw
  genie-robot ros simulate weights/tabletop-tiny --param mode:=shadow --param horizon:=8 --rviz
  genie-robot ros simulate weights/tabletop-tiny --namespace robot_1 robot_2 --record outputs/bags/two

Does what `ros2 launch genie_robot_ros genie_simulator.launch.py` does, also where there is no ros2 command. Ctrl-C ends all.

Nodes stay on this machine (ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST, and a Fast DDS profile for large images that keeps
to 127.0.0.1) unless the environment says otherwise or --open-network is given.
"""
PROFILE_VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_END_S = 30.0


def add_parser(commands: Any) -> None:
    """Add `simulate`."""
    parser = commands.add_parser(
        "simulate",
        help="start the simulator node, a recorder and RViz",
        description="Start the simulator node, and with it a recorder and RViz; end them together.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", type=Path, help="model folder")
    parser.add_argument(
        "--device", help="torch device of the model, for example cuda (default: the parameters')"
    )
    parser.add_argument("--image-topic", metavar="TOPIC", help="camera to prompt from (default: image_raw)")
    parser.add_argument("--params", metavar="FILE", type=Path, help="parameter file (YAML)")
    parser.add_argument(
        "--param", metavar="NAME:=VALUE", action="append", default=[], help="a parameter; may be given often"
    )
    parser.add_argument(
        "--namespace",
        metavar="NS",
        nargs="+",
        default=[],
        help="a session in each of these; they share the model",
    )
    parser.add_argument(
        "--record", metavar="DIR", type=Path, help="record all topics into this new bag folder"
    )
    parser.add_argument("--rviz", action="store_true", help="open RViz, where it is installed")
    parser.add_argument(
        "--open-network", action="store_true", help="let other machines see and command these nodes"
    )
    parser.set_defaults(run_ros=run)


@dataclass(frozen=True)
class _Child:
    """A process we started; `needed`: a recording or simulation without it is no success."""

    name: str
    process: subprocess.Popen[bytes]
    needed: bool


def run(args: argparse.Namespace) -> int:
    """Start everything and wait; returns 0 after Ctrl-C, 1 when the simulator or the recorder failed."""
    _check(args)
    share = ros_module("share")
    environment = child_environment(args.open_network, share)
    children: list[_Child] = []
    with _stop_event() as stop:
        try:
            for name, command, needed in _commands(args):
                children.append(_start(name, command, environment, needed))
            failed = _wait(children, stop)
        finally:
            ended_well = [_end(child) for child in children]
    return 1 if failed or not all(ended_well) else 0


def _check(args: argparse.Namespace) -> None:
    """ConfigError for what would otherwise fail in a child."""
    from genie_robot.data.export import check_new

    if not args.model.is_dir():
        raise ConfigError(f"{args.model} is no folder; wanted a model folder such as weights/tabletop-tiny")
    if args.params is not None and not args.params.is_file():
        raise ConfigError(f"--params is {args.params}, which is no file; wanted a YAML parameter file")
    for setting in args.param:
        if ":=" not in setting:
            raise ConfigError(f"--param is {setting!r}; wanted NAME:=VALUE, for example mode:=shadow")
    if args.record is not None:
        check_new(args.record)


def child_environment(open_network: bool, share: Any) -> dict[str, str]:
    """The environment of the children: on this machine, with room for large images, unless told otherwise."""
    environment = dict(os.environ)
    if open_network:
        for name in ("ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_LOCALHOST_ONLY"):
            environment.pop(name, None)
        _say("network", "open: every machine in it sees and can command these nodes")
    elif environment.get("ROS_DISTRO") == "humble":  # before Iron, discovery knows only this switch
        environment.setdefault("ROS_LOCALHOST_ONLY", "1")
    else:
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET")
    here = reach == "LOCALHOST" or environment.get("ROS_LOCALHOST_ONLY") == "1"
    domain = environment.get("ROS_DOMAIN_ID", "0")
    if not open_network:
        _say("network", f"{'this machine only' if here else reach}, ROS domain {domain}")
    if (
        here and PROFILE_VARIABLE not in environment
    ):  # the shipped profile knows no address but the loopback's
        environment[PROFILE_VARIABLE] = str(
            share.share_path(share.PACKAGE, "config", "fastdds_large_images.xml")
        )
        _say("large images", f"Fast DDS profile {environment[PROFILE_VARIABLE]}; give it to the camera too")
    return environment


def _commands(args: argparse.Namespace) -> Iterator[tuple[str, list[str], bool]]:
    """(name, command, whether it is needed) of each process, in the order in which they end."""
    module = [sys.executable, "-m"]
    simulator = [*module, "genie_robot_ros.simulator_node"]
    if args.namespace:
        simulator += ["--namespaces", *args.namespace]
    simulator += ["--ros-args"]
    if args.params is not None:
        simulator += ["--params-file", str(args.params.resolve())]
    settings = [f"model_path:={json.dumps(str(args.model.resolve()))}"]  # JSON is YAML: any path is a text
    settings += [f"device:={args.device}"] if args.device else []
    simulator += [part for setting in [*settings, *args.param] for part in ("-p", setting)]
    if args.image_topic:
        simulator += ["-r", f"image_raw:={args.image_topic}"]
    yield "simulator", simulator, True
    if args.rviz:
        yield from _rviz_commands(args)
    if args.record is not None:
        yield "recorder", [*module, "genie_robot_ros.recorder", str(args.record)], True


def _rviz_commands(args: argparse.Namespace) -> Iterator[tuple[str, list[str], bool]]:
    program = shutil.which("rviz2")
    if program is None:
        _say("rviz", "rviz2 is not on the PATH: going on without it")
        return
    rviz = ros_module("rviz")
    mode = dict(setting.split(":=", 1) for setting in args.param).get("mode", "")
    for namespace in args.namespace or [""]:
        remaps = rviz.rviz_remaps(namespace, args.image_topic or "", mode)
        arguments = [part for pair in remaps for part in ("-r", ":=".join(pair))]
        yield "rviz", [program, "-d", rviz.rviz_config(mode), "--ros-args", *arguments], False


@contextmanager
def _stop_event() -> Iterator[threading.Event]:
    """Set by Ctrl-C, SIGTERM, and the end of the terminal."""
    stop = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start(name: str, command: list[str], environment: Mapping[str, str], needed: bool) -> _Child:
    # a session of its own: Ctrl-C reaches only this process, which then ends the others in order
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    _say(name, f"process {process.pid}: {' '.join(command)}")
    return _Child(name, process, needed)


def _wait(children: list[_Child], stop: threading.Event) -> bool:
    """Until Ctrl-C or the simulator's end; returns whether a needed process failed."""
    failed, running = False, list(children)
    while not stop.wait(0.2):
        for child in [child for child in running if child.process.poll() is not None]:
            running.remove(child)
            code = child.process.returncode
            ending = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            _say(child.name, f"{ending}{'; what it said is above' if code > 0 else ''}")
            failed = failed or (child.needed and code != 0)
            if child is children[0]:
                return failed
    return failed


def _end(child: _Child) -> bool:
    """End a process in order; returns whether it went well, if it ran and was needed."""
    if child.process.poll() is not None:
        return True
    child.process.send_signal(signal.SIGINT)
    try:
        code = child.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        _say(child.name, f"did not end within {_END_S:g} s: killed")
        child.process.kill()
        code = child.process.wait()
    return code == 0 or not child.needed


def _say(name: str, text: str) -> None:
    print(f"[{name}] {text}", flush=True)
