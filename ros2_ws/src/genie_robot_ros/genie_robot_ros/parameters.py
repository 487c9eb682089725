"""The node's parameters: defaults, descriptions, ranges. One place, from which the docs and the tests read."""

from __future__ import annotations

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node


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
    Parameter("device", "cpu", "torch device of the model, for example cpu, cuda or cuda:0"),
    Parameter("dtype", "float32", "number format of the model", choices=("float32", "bfloat16")),
    Parameter("maskgit_steps", 8, "refinement passes per imagined frame: more is slower and finer", 1, 64),
    Parameter("temperature", 0.3, "sampling temperature; 0 always takes the likeliest token", 0.0, 10.0),
    Parameter("seed", 0, "seed of an episode whose ~/reset gives none", 0, 2**31 - 1, live=True),
    Parameter("autostart", True, "configure and activate at start, without a lifecycle manager"),
    Parameter("image_transport", "raw", "which camera topic to read", choices=("raw", "compressed")),
    Parameter(
        "image_reliability",
        "best_effort",
        "reliability of the camera subscription; best_effort matches every publisher",
        choices=("best_effort", "reliable"),
    ),
    Parameter("max_image_pixels", 4096 * 4096, "larger camera images are dropped", 1, 2**31 - 1),
    Parameter("jpeg_quality", 90, "quality of imagined/image_raw/compressed", 1, 100, live=True),
    Parameter(
        "command_queue_size", 1000, "commands that may wait for the model; more are rejected", 1, 100_000
    ),
    Parameter(
        "marker_frame", "base_link", "frame_id of the action markers: the robot's base, x forward y left z up"
    ),
    Parameter("marker_scale", 0.3, "length of the longest action arrow [m]", 0.001, 100.0),
)


def declare_parameters(node: Node) -> None:
    """Declare all parameters with descriptors and ranges."""
    for parameter in PARAMETERS:
        node.declare_parameter(parameter.name, parameter.default, parameter.descriptor())


def refusal(name: str, value: object, configured: bool) -> str | None:
    """Why `name` may not be set to `value` now, or None if it may."""
    parameter = next((p for p in PARAMETERS if p.name == name), None)
    if parameter is None:
        return None
    if parameter.choices and value not in parameter.choices:
        return f"{name} is {value!r}, it must be one of {', '.join(parameter.choices)}"
    if configured and not parameter.live:
        return f"{name} is read when the node is configured; deactivate and clean up first"
    return None
