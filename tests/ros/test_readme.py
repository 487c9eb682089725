"""ros2_ws/README.md names every topic, service and parameter that the running node has, and no other."""

from __future__ import annotations

import re

from conftest import NODE, PATIENCE_S, ROOT, NodeProcess
from genie_robot_ros.client import SimulatorClient
from genie_robot_ros.parameters import PARAMETERS

README = (ROOT / "ros2_ws" / "README.md").read_text()
OF_EVERY_NODE = re.compile(
    r"rosout|transition_event|parameter|type_description|/(change|get)_.*state|get_available|get_transition_graph"
)


def test_parameters_and_their_defaults() -> None:
    rows = re.findall(r"^\| `(\w+)`( \\\*)? \| `([^`]*)` \|", README, re.MULTILINE)
    documented = {name: (default, bool(star)) for name, star, default in rows}

    def text(value: object) -> str:
        return str(value).lower() if isinstance(value, bool) else str(value) or '""'

    assert documented == {p.name: (text(p.default), p.live) for p in PARAMETERS}


def test_topics_services_and_actions(live_client: SimulatorClient, live_node: NodeProcess) -> None:
    documented = set(
        re.findall(r"^\| (?:in|out|srv|action) \| `([^`]+)` \| ([\w/]+) \|", README, re.MULTILINE)
    )
    names = {
        (name.replace("~", NODE) if name[0] == "~" else f"/{name.lstrip('/')}", kind)
        for name, kind in documented
    }
    node = (NODE.lstrip("/"), "/")
    live_client.spin_until(
        lambda: node in live_client.get_node_names_and_namespaces(), PATIENCE_S, "the node's name"
    )
    offered: list[tuple[str, list[str]]] = []
    for listed in (
        live_client.get_publisher_names_and_types_by_node,
        live_client.get_subscriber_names_and_types_by_node,
        live_client.get_service_names_and_types_by_node,
    ):
        offered += listed(*node)
    real = {
        (name, kind.replace("/msg/", "/").replace("/srv/", "/"))
        for name, kinds in offered
        for kind in kinds
        if not OF_EVERY_NODE.search(name) and "/_action/" not in name
    }
    real |= {(f"{NODE}/rollout", "genie_robot_interfaces/Rollout")}
    only_when_asked = {
        ("/clock", "rosgraph_msgs/Clock"),
        ("/image_raw/compressed", "sensor_msgs/CompressedImage"),
    }
    assert names - only_when_asked == real
