"""The shipped RViz files, checked against what RViz 2 knows and what the live node publishes; and a real RViz with them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from conftest import NODE, PATIENCE_S, ROOT
from genie_robot_ros.client import SimulatorClient
from genie_robot_ros.parameters import PARAMETERS
from genie_robot_ros.rviz import CAMERA_TOPIC, rviz_config, rviz_remaps
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.topic_endpoint_info import TopicEndpointTypeEnum

from genie_robot.evaluation.pictures import read_image

FILES = {mode: yaml.safe_load(Path(rviz_config(mode)).read_text()) for mode in ("step", "shadow")}
MANAGERS: dict[str, dict[str, Any]] = {mode: file["Visualization Manager"] for mode, file in FILES.items()}
each_mode = pytest.mark.parametrize("mode", FILES)
DISPLAY_TYPES = {
    "Image": "sensor_msgs/msg/Image",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
    "Path": "nav_msgs/msg/Path",
}
# The properties of each display in RViz 2 (jazzy): it leaves out a misspelt one without a word.
COMMON = {"Class", "Enabled", "Name", "Value"}
PROPERTIES = {
    "Grid": COMMON
    | {"Alpha", "Cell Size", "Color", "Line Style", "Normal Cell Count", "Offset", "Plane"}
    | {"Plane Cell Count", "Reference Frame"},
    "Axes": COMMON | {"Length", "Radius", "Reference Frame"},
    "TF": COMMON
    | {"Frame Timeout", "Frames", "Marker Scale", "Show Arrows", "Show Axes", "Show Names", "Tree"}
    | {"Update Interval"},
    "MarkerArray": COMMON | {"Namespaces", "Topic"},
    "Path": COMMON
    | {"Alpha", "Buffer Length", "Color", "Line Style", "Line Width", "Offset", "Pose Style", "Topic"},
    "Image": COMMON | {"Max Value", "Median window", "Min Value", "Normalize Range", "Topic"},
}
TOOLS = {
    "MoveCamera",
    "Select",
    "FocusCamera",
    "Interact",
    "Measure",
    "SetInitialPose",
    "SetGoal",
    "PublishPoint",
}
RELIABILITY = {"Reliable": ReliabilityPolicy.RELIABLE, "Best Effort": ReliabilityPolicy.BEST_EFFORT}
DURABILITY = {"Volatile": DurabilityPolicy.VOLATILE, "Transient Local": DurabilityPolicy.TRANSIENT_LOCAL}
HISTORY = {"Keep Last": HistoryPolicy.KEEP_LAST, "Keep All": HistoryPolicy.KEEP_ALL}


def displays(mode: str) -> dict[str, dict[str, Any]]:
    """By their names."""
    return {display["Name"]: display for display in MANAGERS[mode]["Displays"]}


def plain(name: str) -> str:
    package, plugin = name.split("/")
    assert package == "rviz_default_plugins"
    return plugin


def qos_of(topic: dict[str, Any]) -> QoSProfile:
    return QoSProfile(
        depth=topic["Depth"],
        reliability=RELIABILITY[topic["Reliability Policy"]],
        durability=DURABILITY[topic["Durability Policy"]],
        history=HISTORY[topic["History Policy"]],
        liveliness=LivelinessPolicy.AUTOMATIC,  # what the middleware makes of RViz's default
    )


@each_mode
def test_every_class_and_property_is_one_of_rviz2(mode: str) -> None:
    manager = MANAGERS[mode]
    for display in manager["Displays"]:
        assert display["Enabled"] and display["Value"]
        assert set(display) <= PROPERTIES[plain(display["Class"])], display["Name"]
    assert {plain(tool["Class"]) for tool in manager["Tools"]} <= TOOLS
    assert plain(manager["Transformation"]["Current"]["Class"]) == "TF"
    assert plain(manager["Views"]["Current"]["Class"]) == "Orbit"
    assert all(panel["Class"].startswith("rviz_common/") for panel in FILES[mode]["Panels"])


@each_mode
def test_fixed_frame_is_the_frame_of_the_markers(mode: str) -> None:
    default = next(p.default for p in PARAMETERS if p.name == "marker_frame")
    assert MANAGERS[mode]["Global Options"]["Fixed Frame"] == default
    assert displays(mode)["Latent actions"]["Namespaces"] == {"codes": True, "labels": True}


@each_mode
def test_each_picture_has_its_place_in_the_window(mode: str) -> None:
    """RViz keeps the layout as Qt's own bytes, which name each dock; one that they do not name ends up anywhere."""
    geometry = FILES[mode]["Window Geometry"]
    state = bytes.fromhex(geometry["QMainWindow State"])
    pictures = [name for name, display in displays(mode).items() if plain(display["Class"]) == "Image"]
    for name in ["Displays", *pictures]:
        assert name.encode("utf-16-be") in state, name
        assert name in geometry


def test_the_modes_differ_by_one_picture() -> None:
    """The futures of each action where a person chooses it; what is foreseen where the camera is followed."""
    step, shadow = displays("step"), displays("shadow")
    assert step.pop("Contact sheet")["Topic"]["Value"] == "/imagined/contact_sheet"
    assert shadow.pop("Horizon")["Topic"]["Value"] == "/imagined/horizon"
    assert step == shadow


SHOWN = {
    display["Topic"]["Value"]: display
    for mode in FILES
    for display in displays(mode).values()
    if "Topic" in display
}


@pytest.mark.parametrize("topic", SHOWN)
def test_display_fits_the_live_node(live_client: SimulatorClient, topic: str) -> None:
    kind, policies = DISPLAY_TYPES[plain(SHOWN[topic]["Class"])], SHOWN[topic]["Topic"]
    if topic == CAMERA_TOPIC:  # the one that the node does not publish, but listens to as well
        ends = live_client.get_subscriptions_info_by_topic
        # RViz sees each camera that the node sees: it asks for no more than best effort and volatile
        assert (policies["Reliability Policy"], policies["Durability Policy"]) == ("Best Effort", "Volatile")
    else:
        ends = live_client.get_publishers_info_by_topic

    def of_the_node() -> list[Any]:
        return [end for end in ends(topic) if f"/{end.node_name}" == NODE]

    live_client.spin_until(lambda: bool(of_the_node()), PATIENCE_S, topic)
    (end,) = of_the_node()
    assert end.topic_type == kind
    if end.endpoint_type == TopicEndpointTypeEnum.PUBLISHER:
        compatibility, reason = qos_check_compatible(end.qos_profile, qos_of(policies))
        assert compatibility == QoSCompatibility.OK, reason


def test_nothing_that_rviz_could_show_is_left_out(live_client: SimulatorClient) -> None:
    def pictures() -> set[str]:
        """Topics of the node that a display could show."""
        topics = [
            name
            for name, types in live_client.get_topic_names_and_types()
            if set(types) & set(DISPLAY_TYPES.values())
        ]
        ends = {name: live_client.get_publishers_info_by_topic(name) for name in topics}
        return {name for name in topics if any(f"/{end.node_name}" == NODE for end in ends[name])}

    expected = set(SHOWN) - {CAMERA_TOPIC}
    live_client.spin_until(lambda: expected <= pictures(), PATIENCE_S, "the node's topics")
    assert pictures() == expected


def test_remaps_lead_to_the_namespace_and_to_the_camera() -> None:
    assert rviz_remaps("") == rviz_remaps("", "image_raw") == []
    assert rviz_remaps("", "camera/image_raw") == [("/image_raw", "/camera/image_raw")]
    assert rviz_remaps("robot_1", "/camera/image_raw")[0] == ("/image_raw", "/camera/image_raw")
    remaps = dict(rviz_remaps("robot_1", mode="shadow"))
    assert remaps["/image_raw"] == "/robot_1/image_raw"
    assert remaps["/imagined/horizon"] == "/robot_1/imagined/horizon"


def near(picture_YXC: np.ndarray, color: tuple[int, int, int], within: int = 45) -> int:
    """How many pixels are of about this colour."""
    return int((np.abs(picture_YXC.astype(int) - color).max(axis=2) <= within).sum())


@pytest.mark.skipif(
    not all(map(shutil.which, ("rviz", "rosmaster", "Xvfb", "import"))),
    reason="no RViz of Debian here; ros2_ws/tools/rviz_picture.py says what to install",
)
@each_mode
def test_a_real_rviz_shows_it_all(mode: str, tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    tool, out = ROOT / "ros2_ws" / "tools" / "rviz_picture.py", tmp_path / "rviz.png"
    # a process of its own, in a ROS domain of its own: the simulator of the other tests has the same name
    command = [sys.executable, str(tool), "--mode", mode, "--out", str(out), "--keep", str(tmp_path)]
    subprocess.run(command, check=True)
    picture_YXC, frame_YXC = read_image(out), read_image(tmp_path / "imagined.png")
    assert near(picture_YXC, (255, 115, 13)) > 500  # the arrow of the active code and its name
    assert near(picture_YXC, (90, 150, 215)) > 500  # the other arrows
    assert near(picture_YXC, (64, 224, 160), 25) > 200  # the gripper's path
    right_half = np.ascontiguousarray(picture_YXC[:, picture_YXC.shape[1] // 2 :])
    scores = [
        cv2.matchTemplate(right_half, cv2.resize(frame_YXC, (side, side)), cv2.TM_CCOEFF_NORMED).max()
        for side in range(320, 420, 5)
    ]
    assert max(scores) > 0.9  # the imagined frame stands in its panel
