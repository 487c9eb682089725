"""The shipped RViz file, checked against what RViz 2 knows and what the live node publishes."""

from __future__ import annotations

from typing import Any

import yaml
from conftest import PACKAGE, PATIENCE_S
from genie_robot_ros.client import SimulatorClient
from genie_robot_ros.parameters import PARAMETERS
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

RVIZ = yaml.safe_load((PACKAGE / "rviz" / "latent_actions.rviz").read_text())
MANAGER: dict[str, Any] = RVIZ["Visualization Manager"]
DISPLAY_TYPES = {
    "Grid": None,
    "Axes": None,
    "TF": None,
    "Image": "sensor_msgs/msg/Image",
    "MarkerArray": "visualization_msgs/msg/MarkerArray",
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


def plain(name: str) -> str:
    package, plugin = name.split("/")
    assert package == "rviz_default_plugins"
    return plugin


def test_every_class_is_one_of_rviz2() -> None:
    assert {plain(display["Class"]) for display in MANAGER["Displays"]} <= set(DISPLAY_TYPES)
    assert {plain(tool["Class"]) for tool in MANAGER["Tools"]} <= TOOLS
    assert plain(MANAGER["Transformation"]["Current"]["Class"]) == "TF"
    assert plain(MANAGER["Views"]["Current"]["Class"]) == "Orbit"
    assert all(panel["Class"].startswith("rviz_common/") for panel in RVIZ["Panels"])
    assert all(display["Enabled"] for display in MANAGER["Displays"])


def test_fixed_frame_is_the_frame_of_the_markers() -> None:
    default = next(p.default for p in PARAMETERS if p.name == "marker_frame")
    assert MANAGER["Global Options"]["Fixed Frame"] == default


def test_marker_namespaces_are_shown() -> None:
    display = next(d for d in MANAGER["Displays"] if d["Class"].endswith("MarkerArray"))
    assert display["Namespaces"] == {"codes": True, "labels": True}


def test_each_topic_is_published_with_the_type_and_a_fitting_qos(live_client: SimulatorClient) -> None:
    shown = 0
    for display in MANAGER["Displays"]:
        topic = display.get("Topic")
        if topic is None:
            continue
        name = topic["Value"]
        live_client.spin_until(lambda name=name: live_client.count_publishers(name) > 0, PATIENCE_S, name)
        wanted = QoSProfile(
            depth=topic["Depth"],
            reliability=RELIABILITY[topic["Reliability Policy"]],
            durability=DURABILITY[topic["Durability Policy"]],
            history=HISTORY[topic["History Policy"]],
            liveliness=LivelinessPolicy.AUTOMATIC,  # what the middleware makes of RViz's default
        )
        for publisher in live_client.get_publishers_info_by_topic(name):
            assert publisher.topic_type == DISPLAY_TYPES[plain(display["Class"])]
            compatibility, reason = qos_check_compatible(publisher.qos_profile, wanted)
            assert compatibility == QoSCompatibility.OK, reason
            shown += 1
    assert shown == 2
