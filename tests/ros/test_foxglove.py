"""The shipped Foxglove layout: whole, and every topic and message path in it is one that the live node has."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import PACKAGE, PATIENCE_S
from genie_robot_ros.client import SimulatorClient

LAYOUT = json.loads((PACKAGE / "config" / "foxglove_layout.json").read_text())
PANELS: dict[str, dict[str, Any]] = LAYOUT["configById"]
IMAGE = "sensor_msgs/msg/Image"
IN_3D = {"visualization_msgs/msg/MarkerArray", "nav_msgs/msg/Path"}


def leaves(node: str | dict[str, Any]) -> Iterator[str]:
    """The panels of a layout, left to right and top to bottom."""
    if isinstance(node, str):
        yield node
        return
    assert node["direction"] in ("row", "column")
    assert 0 < node["splitPercentage"] < 100
    yield from leaves(node["first"])
    yield from leaves(node["second"])


def topics() -> Iterator[tuple[str, str, set[str]]]:
    """(panel, topic or message path, types the panel takes; empty: any)."""
    for name, panel in PANELS.items():
        kind = name.split("!")[0]
        if kind == "Image":
            yield name, panel["imageMode"]["imageTopic"], {IMAGE}
        elif kind == "3D":
            yield from ((name, topic, IN_3D) for topic in panel["topics"])
        elif kind == "DiagnosticSummary":
            yield name, panel["topicToRender"], {"diagnostic_msgs/msg/DiagnosticArray"}
        else:
            assert kind in ("Plot", "StateTransitions")
            yield from ((name, path["value"], set()) for path in panel["paths"])


def field_type(message_type: str, path: list[str]) -> str:
    """Type of a field of a message, "info.name" -> "string"; KeyError for one that it does not have."""
    for field in path:
        package, _, name = message_type.split("/")
        message = getattr(importlib.import_module(f"{package}.msg"), name)
        message_type = message.get_fields_and_field_types()[field].replace("/", "/msg/")
    return message_type


def test_every_panel_has_one_place_and_a_configuration() -> None:
    placed = list(leaves(LAYOUT["layout"]))
    assert sorted(placed) == sorted(set(placed)) == sorted(PANELS)


@pytest.mark.parametrize(("panel", "path", "wanted"), [pytest.param(*t, id=t[1]) for t in topics()])
def test_panel_fits_the_live_node(
    live_client: SimulatorClient, panel: str, path: str, wanted: set[str]
) -> None:
    topic, *fields = path.split(".")

    def types() -> list[str]:
        return dict(live_client.get_topic_names_and_types()).get(topic, [])

    live_client.spin_until(lambda: bool(types()), PATIENCE_S, topic)
    (message_type,) = types()
    if wanted:
        assert message_type in wanted
    else:
        kind = "string" if panel.startswith("StateTransitions!") else "float"
        assert field_type(message_type, fields) == kind
