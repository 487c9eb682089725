"""A picture of a real RViz window, drawn from the live topics of our node with our own configuration.

RViz 2 is in no package index, so this feeds RViz 1 of Debian (the same displays and the same renderer): each display's
topic is subscribed in ROS 2 with exactly the QoS of the .rviz file, and handed on to ROS 1; a wrong topic, type or QoS
gives an empty panel, as it would in RViz 2. The camera is MuJoCo, which is given the same actions as the imagination.

Once, as root: apt-get install --no-install-recommends rviz xvfb libgl1-mesa-dri imagemagick python3-rospy \
    python3-rosmaster python3-{visualization,sensor,nav,tf2}-msgs
Then: .venv/bin/python ros2_ws/tools/rviz_picture.py --out docs/images/rviz.png
      .venv/bin/python ros2_ws/tools/rviz_picture.py --out docs/images/rviz_shadow.png --mode shadow
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
import yaml
from genie_robot_ros.client import SimulatorClient
from genie_robot_ros.convert import image_to_frame, stamp_to_ns
from genie_robot_ros.rviz import rviz_config
from nav_msgs.msg import Path as PathMessage
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from visualization_msgs.msg import MarkerArray

import genie_robot
from genie_robot.data.commands import STEP_M
from genie_robot.evaluation.pictures import read_image, write_png
from genie_robot.simulation.mujoco.env import TabletopEnv

ROOT = Path(__file__).resolve().parents[2]
SINK = Path(__file__).with_name("ros1_sink.py")
ACTIONS = ("left", "left", "back", "back", "down", "down", "forward", "right", "right", "right", "right")
SEED = 20_000_005  # of the scene, far from those of the training data
PATIENCE_S = 120.0
TYPES = {
    "Image": ("sensor_msgs/Image", Image),
    "MarkerArray": ("visualization_msgs/MarkerArray", MarkerArray),
    "Path": ("nav_msgs/Path", PathMessage),
}
STATUS_LINE = 30  # pixels at the bottom of the window that hold its clock


def free_port() -> int:
    """A TCP port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ros1_environment(display: str, master_port: int) -> dict[str, str]:
    """For Debian's programs: without the venv's libraries, and with a software renderer."""
    ours = {"LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return kept | {
        "ROS_MASTER_URI": f"http://127.0.0.1:{master_port}",
        "ROS_HOSTNAME": "localhost",
        "DISPLAY": display,
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "QT_X11_NO_MITSHM": "1",
    }


@contextmanager
def process(
    command: list[str], log: Path, environment: dict[str, str], **pipes: Any
) -> Iterator[subprocess.Popen]:
    """A program that logs to a file and does not outlive the block."""
    with log.open("w") as file:
        child = subprocess.Popen(command, **{"stdout": file, "stderr": file, "env": environment} | pipes)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGINT)
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def to_rviz1(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration in the words of RViz 1."""
    text = json.dumps(config).replace("rviz_default_plugins", "rviz").replace("rviz_common", "rviz")
    config = json.loads(text)
    manager = config["Visualization Manager"]
    del manager["Transformation"]
    for display in manager["Displays"]:
        topic = display.pop("Topic", None)
        kind = display["Class"].split("/")[1]
        if kind == "Image":
            display |= {"Image Topic": topic["Value"], "Transport Hint": "raw", "Queue Size": 2}
        elif kind == "MarkerArray":
            display |= {"Marker Topic": topic["Value"], "Queue Size": 100}
        elif kind == "Path":
            display |= {"Topic": topic["Value"], "Queue Size": 10}
    return config


def qos_of(topic: dict[str, Any]) -> QoSProfile:
    """The profile that RViz 2 makes of a display's Topic."""
    return QoSProfile(
        depth=topic["Depth"],
        reliability=ReliabilityPolicy[topic["Reliability Policy"].upper().replace(" ", "_")],
        durability=DurabilityPolicy[topic["Durability Policy"].upper().replace(" ", "_")],
        history=HistoryPolicy[topic["History Policy"].upper().replace(" ", "_")],
    )


def plain(value: Any) -> Any:
    """A ROS 2 message as what JSON can hold; uint8 arrays as base64."""
    if hasattr(value, "get_fields_and_field_types"):
        return {name: plain(getattr(value, name)) for name in value.get_fields_and_field_types()}
    if getattr(value, "typecode", "") == "B":
        return base64.b64encode(value.tobytes()).decode()
    if isinstance(value, (list, tuple)) or hasattr(value, "typecode"):
        return [plain(item) for item in value]
    return value


class Tap:
    """Subscribes what the displays show, with their QoS, and writes every message to the ROS 1 side."""

    def __init__(self, node: SimulatorClient, displays: list[dict[str, Any]], sink: subprocess.Popen) -> None:
        self._sink = sink
        self.latest: dict[str, Any] = {}
        self.topics: dict[str, str] = {}  # topic -> ROS 1 type
        for display in displays:
            ros1_type, message_type = TYPES[display["Class"].split("/")[1]]
            name = display["Topic"]["Value"]
            self.topics[name] = ros1_type

            def hand_on(message: Any, name: str = name, ros1_type: str = ros1_type) -> None:
                self.latest[name] = message
                self._write({"topic": name, "type": ros1_type, "message": plain(message)})

            node.create_subscription(message_type, name, hand_on, qos_of(display["Topic"]))
        self._write({"topics": self.topics})

    def _write(self, line: dict[str, Any]) -> None:
        self._sink.stdin.write(json.dumps(line) + "\n")
        self._sink.stdin.flush()

    def shows(self, topic: str, stamp_ns: int) -> bool:
        """Whether every display has a message, and the one of `topic`, the slowest, that of this moment."""
        return (
            len(self.latest) == len(self.topics) and stamp_to_ns(self.latest[topic].header.stamp) == stamp_ns
        )


def film(model: genie_robot.WorldModel) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(code, camera frame before, after) of each of ACTIONS, carried out by MuJoCo."""
    env = TabletopEnv()
    before_YXC, _ = env.reset(seed=SEED)
    by_name = {action.name: action for action in model.latent_actions}
    for name in ACTIONS:
        robot = np.zeros(7, np.float32)
        robot[:3] = np.round(np.asarray(by_name[name].displacement_m) / STEP_M)
        after_YXC = env.step(robot)[0]
        yield by_name[name].code, before_YXC, after_YXC
        before_YXC = after_YXC


def play_step(client: SimulatorClient, tap: Tap, model: genie_robot.WorldModel) -> None:
    """Reset from the first image, then one frame for each action; the camera shows what really came of them."""
    for number, (code, before_YXC, after_YXC) in enumerate(film(model), start=1):
        if number == 1:
            client.reset_from_camera([before_YXC], model.dt_s, seed=0)
        client.send(code)
        client.spin_until(lambda n=number: len(client.received.images) > n, PATIENCE_S, f"frame {number}")
        client.show_camera([after_YXC], model.dt_s)
    present_ns = stamp_to_ns(client.received.images[-1][2].header.stamp)
    client.spin_until(lambda: tap.shows("/imagined/contact_sheet", present_ns), PATIENCE_S, "all displays")


def play_shadow(client: SimulatorClient, tap: Tap, model: genie_robot.WorldModel) -> None:
    """Each action is told to the simulator as it is told to the robot; it follows the camera and foresees."""
    for code, before_YXC, _ in film(model):
        client.send(code)
        shown_ns = client.show_camera([before_YXC], model.dt_s)
        client.spin_until(lambda ns=shown_ns: tap.shows("/imagined/horizon", ns), PATIENCE_S, "all displays")
        next_s = time.monotonic() + model.dt_s
        client.spin_until(lambda s=next_s: time.monotonic() > s, PATIENCE_S, "the next step")


def settled_picture(client: SimulatorClient, path: Path, environment: dict[str, str]) -> np.ndarray:
    """The X display as RGB (Y, X, 3), as soon as two pictures on end are equal but for the clock."""
    last: list[np.ndarray] = []

    def settled() -> bool:
        subprocess.run(["import", "-window", "root", str(path)], check=True, env=environment)
        last.append(read_image(path))
        del last[:-2]
        return len(last) == 2 and bool((last[0][:-STATUS_LINE] == last[1][:-STATUS_LINE]).all())

    client.spin_until(settled, PATIENCE_S, "RViz to come to rest")
    return last[-1]


def take(model_path: Path, probe_path: Path, mode: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Start everything and play the actions -> the picture of the window, and the last imagined frame."""
    config = yaml.safe_load(Path(rviz_config(mode)).read_text())
    displays = [d for d in config["Visualization Manager"]["Displays"] if "Topic" in d]
    (folder / "config.rviz").write_text(yaml.safe_dump(to_rviz1(config)))
    size = f"{config['Window Geometry']['Width']}x{config['Window Geometry']['Height']}x24"
    simulator = [sys.executable, "-m", "genie_robot_ros.simulator_node", "--ros-args"]
    for setting in (f"model_path:={model_path}", f"probe_path:={probe_path}", f"mode:={mode}"):
        simulator += ["-p", setting]
    with ExitStack() as stack:

        def start(name: str, *command: str, environment: dict[str, str], **pipes: Any) -> subprocess.Popen:
            return stack.enter_context(process(list(command), folder / f"{name}.log", environment, **pipes))

        start("simulator", *simulator, environment=dict(os.environ))
        # the X server chooses a free display and prints its number
        x_server = ["Xvfb", "-displayfd", "1", "-screen", "0", size]
        display = start("xvfb", *x_server, environment=dict(os.environ), stdout=subprocess.PIPE, text=True)
        port = free_port()
        ros1 = ros1_environment(f":{display.stdout.readline().strip()}", port)
        start("rosmaster", "rosmaster", "--core", "-p", str(port), environment=ros1)
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        sink = start("sink", "/usr/bin/python3", str(SINK), environment=ros1, **pipes)
        start("rviz", "rviz", "-d", str(folder / "config.rviz"), environment=ros1)
        client = SimulatorClient("rviz_picture")
        stack.callback(client.close)
        tap = Tap(client, displays, sink)
        client.wait_for_simulator(PATIENCE_S)
        (play_shadow if mode == "shadow" else play_step)(client, tap, genie_robot.load(model_path))
        if "connected\n" not in sink.stdout:  # rospy writes its own lines there too
            raise SystemExit(
                f"rviz_picture: the ROS 1 side failed: {(folder / 'sink.log').read_text()[-400:]}"
            )
        return settled_picture(client, folder / "shot.png", ros1), image_to_frame(
            tap.latest["/imagined/image_raw"]
        )


def main() -> int:
    """Take the picture and write it as PNG."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, default=ROOT / "docs/images/rviz.png")
    options.add_argument("--mode", choices=("step", "shadow"), default="step", help="of the simulator")
    options.add_argument("--model", type=Path, default=ROOT / "weights/tabletop-tiny")
    options.add_argument("--probe", type=Path, default=ROOT / "weights/tabletop-probe")
    options.add_argument("--keep", type=Path, help="folder for the logs and the last imagined frame")
    args = options.parse_args()
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"  # by default discovery leaves the machine
    others = {
        int(os.environ.get("ROS_DOMAIN_ID", 0))
    }  # whoever started this may have a simulator in its own domain
    os.environ["ROS_DOMAIN_ID"] = str(random.SystemRandom().choice(sorted(set(range(1, 102)) - others)))
    begun = time.monotonic()
    rclpy.init()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if args.keep is None else args.keep
        folder.mkdir(parents=True, exist_ok=True)
        picture_YXC, frame_YXC = take(args.model.resolve(), args.probe.resolve(), args.mode, folder)
        write_png(folder / "imagined.png", frame_YXC)
    rclpy.try_shutdown()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    small = [cv2.IMWRITE_PNG_COMPRESSION, 9]  # it goes into the documentation
    cv2.imwrite(str(args.out), np.ascontiguousarray(picture_YXC[..., ::-1]), small)
    print(f"{args.out}: {args.out.stat().st_size / 1000:.0f} kB, {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
