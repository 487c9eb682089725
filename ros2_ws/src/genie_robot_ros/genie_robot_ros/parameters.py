"""The node's parameters: defaults, descriptions, ranges. One place, from which the docs and the tests read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

MIN_RATE_HZ = 0.01


@dataclass(frozen=True)
class Parameter:
    """One parameter; `live` ones may change at any time, others only while the node is unconfigured."""

    name: str
    default: str | int | float | bool
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    live: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """As `ros2 param describe` shows it."""
        descriptor = ParameterDescriptor(description=self.description)
        if self.choices:
            descriptor.additional_constraints = "one of: " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            if isinstance(self.default, int):
                bounds = IntegerRange(from_value=int(self.minimum), to_value=int(self.maximum), step=0)
                descriptor.integer_range = [bounds]
            else:
                bounds = FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                descriptor.floating_point_range = [bounds]
        return descriptor


PARAMETERS = (
    Parameter("model_path", "", "model folder to load (config.yaml, model.safetensors, latent_actions.json)"),
    Parameter(
        "probe_path", "", "state probe that reads the gripper's place for imagined/gripper_path; empty: none"
    ),
    Parameter("device", "cpu", "torch device of the model, for example cpu, cuda or cuda:0"),
    Parameter("dtype", "float32", "number format of the model", choices=("float32", "bfloat16")),
    Parameter(
        "maskgit_steps", 8, "refinement passes per imagined frame: more is slower and finer", 1, 64, live=True
    ),
    Parameter(
        "temperature", 0.3, "sampling temperature; 0 always takes the likeliest token", 0.0, 10.0, live=True
    ),
    Parameter("seed", 0, "seed of an episode whose ~/reset gives none", 0, 2**31 - 1, live=True),
    Parameter("autostart", True, "configure and activate at start, without a lifecycle manager"),
    Parameter(
        "mode",
        "step",
        "step: a frame per command; realtime: frames at rate_hz with the command in force; shadow: follow the camera",
        choices=("step", "realtime", "shadow"),
        live=True,
    ),
    Parameter("rate_hz", 0.0, "realtime: frames per second; 0: the model's own rate", 0.0, 1000.0, live=True),
    Parameter(
        "late_policy",
        "slow",
        "realtime, when the model is late: slow (imagined time falls behind) or drop (ticks are skipped)",
        choices=("slow", "drop"),
        live=True,
    ),
    Parameter(
        "command_timeout_s",
        1.0,
        "realtime and shadow: how long a command stays in force; then the world stands still; 0: for ever",
        0.0,
        3600.0,
        live=True,
    ),
    Parameter("horizon", 4, "shadow: frames imagined from each camera frame", 1, 64, live=True),
    Parameter("publish_clock", False, "publish imagined time on /clock, for nodes with use_sim_time"),
    Parameter("image_transport", "raw", "which camera topic to read", choices=("raw", "compressed")),
    Parameter(
        "image_reliability",
        "best_effort",
        "reliability of the camera subscription; best_effort matches every publisher",
        choices=("best_effort", "reliable"),
    ),
    Parameter("max_image_pixels", 4096 * 4096, "larger camera images are dropped", 1, 2**31 - 1),
    Parameter(
        "camera_timeout_s", 2.0, "a camera silent for longer is reported as stopped", 0.01, 3600.0, live=True
    ),
    Parameter("output_height", 0, "height of the imagined images; 0: the model's", 0, 8192),
    Parameter("output_width", 0, "width of the imagined images; 0: the model's", 0, 8192),
    Parameter("jpeg_quality", 90, "quality of imagined/image_raw/compressed", 1, 100, live=True),
    Parameter(
        "contact_sheet_delay_s",
        0.5,
        "imagined/contact_sheet is made when no command came for so long, and only while somebody listens",
        0.0,
        3600.0,
        live=True,
    ),
    Parameter(
        "command_queue_size",
        100,
        "commands that may wait for the model; more are rejected and counted",
        1,
        100_000,
    ),
    Parameter(
        "marker_frame", "base_link", "frame_id of the action markers: the robot's base, x forward y left z up"
    ),
    Parameter("marker_scale", 0.12, "length of the longest action arrow [m]", 0.001, 100.0),
)


def declare_parameters(node: Node) -> None:
    """Declare all parameters with descriptors and ranges."""
    for parameter in PARAMETERS:
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())


def combination_refusal(value: Callable[[str], Any]) -> str | None:
    """Why these parameters do not go together, or None if they do; `value` gives the one of a name."""
    if value("publish_clock") and value("use_sim_time"):
        return "publish_clock makes the time on /clock and use_sim_time takes it from there; set one of them to false"
    if value("publish_clock") and value("mode") == "shadow":
        return "publish_clock has no meaning in mode shadow, which foresees a camera's time; set it to false"
    height, width = value("output_height"), value("output_width")
    if (height == 0) != (width == 0):
        return (
            f"output_height is {height} and output_width {width}; give both, or neither for the model's size"
        )
    return None


def refusal(name: str, value: object, configured: bool) -> str | None:
    """Why `name` may not be set to `value` now, or None if it may."""
    parameter = next((p for p in PARAMETERS if p.name == name), None)
    if parameter is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return f"{name} is {value}, it must be a finite number"
    if name == "rate_hz" and isinstance(value, float) and 0 < value < MIN_RATE_HZ:
        return f"rate_hz is {value:g}, it must be 0 (the model's own rate) or {MIN_RATE_HZ:g} to 1000"
    if parameter.choices and value not in parameter.choices:
        return f"{name} is {value!r}, it must be one of {', '.join(parameter.choices)}"
    if configured and not parameter.live:
        return f"{name} is read when the node is configured; deactivate and clean up first"
    return None
