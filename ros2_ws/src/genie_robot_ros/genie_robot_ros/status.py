"""What the node says of itself on /diagnostics, once a second and in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from diagnostic_msgs.msg import DiagnosticArray

from genie_robot_ros.diagnostics import ProblemLog, diagnostic_array

if TYPE_CHECKING:
    from genie_robot_ros.simulator_node import GenieSimulator

WORLD_COUNTS = ("commands_rejected", "commands_dropped", "requests_rejected", "failures")


class StatusPublisher:
    """Collects the node's counters; a status is WARN for five seconds after a problem."""

    def __init__(self, node: GenieSimulator) -> None:
        self._node = node
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        node.create_timer(1.0, self._publish)

    def _publish(self) -> None:
        node = self._node
        self._look_for_twins()
        self._publisher.publish(
            diagnostic_array(
                stamp=node.get_clock().now().to_msg(),
                node_name=node.get_fully_qualified_name().lstrip("/"),
                hardware_id=node.simulator.world.model_hash if node.simulator is not None else "",
                error=node.error,
                world_problem=node.world_problems.recent(),
                camera_problem=node.camera_problems.recent() or self._camera_silence(),
                camera_error=self._camera_silence() if node.value("mode") == "shadow" else None,
                state="active" if node.lane else "inactive" if node.simulator else "unconfigured",
                world_values=self._world_values(),
                camera_values={
                    "frames": node.camera.frames if node.camera else 0,
                    "bad_images": node.camera_problems.count("bad_images"),
                },
            )
        )

    def _look_for_twins(self) -> None:
        node = self._node
        namespace, name = node.get_namespace(), node.get_name()
        twins = node.get_node_names_and_namespaces().count((name, namespace)) - 1
        if twins > 0:
            node.world_problems.add(
                "twins",
                f"{twins} more node(s) named {node.get_fully_qualified_name()}; rename or stop one of them",
            )

    def _camera_silence(self) -> str | None:
        """Why the camera counts as stopped, or None. Only mode shadow needs one from the beginning."""
        node, camera = self._node, self._node.camera
        if camera is None or camera.silent_s() <= node.value("camera_timeout_s"):
            return None
        if camera.frames == 0 and node.value("mode") != "shadow":
            return None
        return f"no image on {camera.topic} for {camera.silent_s():.0f} s; is the camera running?"

    def _world_values(self) -> dict[str, object]:
        node = self._node
        problems: ProblemLog = node.world_problems
        values: dict[str, object] = {
            "mode": node.value("mode"),
            "queue": node.lane.waiting if node.lane else 0,
        }
        values |= {kind: problems.count(kind) for kind in WORLD_COUNTS}
        ticks = node.commands.ticks
        values |= {"ticks_late": ticks.late, "ticks_dropped": ticks.dropped}
        simulator = node.simulator
        if simulator is not None:
            latency = simulator.latency
            values |= {"frames": latency.frames, "episode": simulator.episode, "step": simulator.sequence}
            values |= {f"model_p{q}_ms": latency.percentile_ms(q) for q in (50, 99)}
            values |= {"model_path": node.value("model_path")}
            if simulator.model.device.type == "cuda":
                values["device_memory_mib"] = torch.cuda.memory_allocated(simulator.model.device) / 2**20
        return values
