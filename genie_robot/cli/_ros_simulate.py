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

from genie_robot.cli._ros_network import add_open_network, say, set_network
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
    add_open_network(parser)
    parser.set_defaults(run_ros=run)


@dataclass(frozen=True)
class _Child:
    """A process we started; `needed`: a recording or simulation without it is no success."""

    name: str
    process: subprocess.Popen[bytes]
    needed: bool


def run(args: argparse.Namespace) -> int:
    """Start everything and wait; returns 0 after Ctrl-C, the simulator's own code when it failed, else 1 for the recorder."""
    _check(args)
    share = ros_module("share")
    environment = dict(os.environ)
    set_network(environment, args.open_network, share)
    children: list[_Child] = []
    with _stop_event() as stop:
        try:
            for name, command, needed in _commands(args):
                children.append(_start(name, command, environment, needed))
            code = _wait(children, stop)
        finally:
            ended_well = [_end(child) for child in children]
    return code or (0 if all(ended_well) else 1)


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
        say("rviz", "rviz2 is not on the PATH: going on without it")
        return
    rviz = ros_module("rviz")
    given = dict(setting.split(":=", 1) for setting in args.param).get("mode")
    for namespace in args.namespace or [""]:
        mode = given or (rviz.mode_in(args.params, namespace) if args.params is not None else "")
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
    say(name, f"process {process.pid}: {' '.join(command)}")
    return _Child(name, process, needed)


def _wait(children: list[_Child], stop: threading.Event) -> int:
    """Until Ctrl-C or the simulator's end; returns 0, or the exit code for the needed process that failed."""
    failed, running = 0, list(children)
    while not stop.wait(0.2):
        for child in [child for child in running if child.process.poll() is not None]:
            running.remove(child)
            code = child.process.returncode
            ending = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
            say(child.name, f"{ending}{'; what it said is above' if code > 0 else ''}")
            if child is children[0]:
                return max(code, 1) if code else failed
            failed = 1 if child.needed and code else failed
    return failed


def _end(child: _Child) -> bool:
    """End a process in order; returns whether it went well, if it ran and was needed."""
    if child.process.poll() is not None:
        return True
    child.process.send_signal(signal.SIGINT)
    try:
        code = child.process.wait(_END_S)
    except subprocess.TimeoutExpired:
        say(child.name, f"did not end within {_END_S:g} s: killed")
        child.process.kill()
        code = child.process.wait()
    return code == 0 or not child.needed
