"""Work of low priority, done in the model thread when no command waits: what the camera does, shadow, the futures."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from genie_robot_ros.model_thread import Lane
from genie_robot_ros.shadow import Follower
from genie_robot_ros.simulator import PROMPT_CODE, ImaginedFrame, Simulator

if TYPE_CHECKING:
    from genie_robot_ros.simulator_node import GenieSimulator

MAX_PATH_POINTS = 200
# Making the markers holds Python for 1 ms: not while a client waits for the answer that the frame belongs to
MARKER_DELAY_S = 0.03


class Background:
    """Each kind of work waits at most once: a newer frame takes the place of the older one, so no queue can grow."""

    def __init__(self, node: GenieSimulator) -> None:
        self._node = node
        self._follower: Follower | None = None
        self._last_inferred_ns = 0
        self._unseen: deque[ImaginedFrame] = deque(
            maxlen=MAX_PATH_POINTS
        )  # frames the probe has not read yet
        self._path: list[tuple[np.ndarray, int]] = []

    def forget(self) -> None:
        """The model is gone, or does something else now."""
        self._follower = None
        self._unseen.clear()
        self._path = []

    def failed(self, name: str, error: Exception) -> None:
        """An idle job raised."""
        self._node.fail(name, error)

    def on_camera_frame(self) -> None:
        """The camera showed something new."""
        node, lane = self._node, self._node.lane
        if lane is None:
            return
        if node.value("mode") == "shadow":
            lane.when_idle("following the camera", self._follow)
        if node.outputs.inferred_action_wanted:
            lane.when_idle("inferring the camera's action", self._infer_action)

    def on_frame(self, imagined: ImaginedFrame) -> None:
        """In the model thread: a frame was published."""
        node, lane = self._node, self._node.lane
        simulator = node.require_simulator()
        if lane is None:
            return
        if simulator.world.probes is not None:
            self._unseen.append(imagined)
            if node.outputs.path_wanted:
                lane.when_idle("publishing the gripper's path", self._publish_path, MARKER_DELAY_S)
        active_code = imagined.code if imagined.code != PROMPT_CODE else None
        if active_code is not None:
            simulator.uses[active_code] += 1
        if imagined.name != "hold":  # a world at rest changes no marker
            lane.when_idle(
                "publishing the markers", partial(self.publish_markers, active_code), MARKER_DELAY_S
            )
        if node.outputs.contact_sheet_wanted and node.value("mode") != "shadow":
            delay_s = node.value("contact_sheet_delay_s")
            lane.when_idle("making the contact sheet", self._make_contact_sheet, delay_s)

    def publish_markers(self, active_code: int | None) -> None:
        """The arrows of all codes with the active one lit; 1 ms of work, so a burst of commands shows the last one."""
        node = self._node
        simulator = node.require_simulator()
        frame_id, scale = node.value("marker_frame"), node.value("marker_scale")
        node.outputs.publish_markers(simulator.model, active_code, frame_id, scale, simulator.uses)

    def _follow(self) -> None:
        node = self._node
        simulator = node.require_active()
        prompt = node.camera_prompt()
        follower = self._follower or Follower(simulator)
        self._follower = follower
        if not follower.wants(prompt):
            return
        command = node.commands.held.get(node.value("command_timeout_s"))
        lane: Lane | None = node.lane
        if lane is None:
            return
        foresight = follower.follow(
            prompt,
            command,
            node.value("horizon"),
            node.value("seed"),
            stop=lambda: node.lane is not lane or lane.waiting > 0,
        )
        if foresight.judged is not None:
            node.outputs.publish_surprise(foresight.judged)
        if foresight.horizon:
            node.publish_frame(foresight.horizon[0], command.stamp_ns if command else 0, 0.0)
            node.outputs.publish_horizon(foresight.seen, foresight.horizon)

    def _infer_action(self) -> None:
        """What did the camera do in its last step?"""
        node = self._node
        simulator, prompt = node.require_active(), node.camera_prompt()
        if len(prompt.frames_TYXC) < 2:
            return
        # at most once per half step: a 30 Hz camera must not keep the model busy
        if 0 <= prompt.stamp_ns - self._last_inferred_ns < simulator.model.dt_s * 0.5e9:
            return
        self._last_inferred_ns = prompt.stamp_ns
        code, probabilities_A = simulator.infer_action(prompt)
        node.outputs.publish_inferred(prompt, code, simulator.name_of(code), probabilities_A)

    def _make_contact_sheet(self) -> None:
        """One step of every code from the present frame."""
        node = self._node
        simulator: Simulator = node.require_active()
        codes_AS = np.arange(simulator.model.num_actions)[:, None]
        frames_ASYXC = simulator.futures(codes_AS)
        node.outputs.publish_contact_sheet(simulator.present, frames_ASYXC[:, 0], simulator.model)

    def _publish_path(self) -> None:
        """Read the gripper's place in the frames since the last time, and publish all of this episode."""
        node = self._node
        probes = node.require_active().world.probes
        frames = list(self._unseen)
        if probes is None or not frames:
            return
        self._unseen.clear()
        positions_m_T3 = probes.judge(np.stack([frame.frame_YXC for frame in frames]))[:, :3]
        path = self._path
        for frame, position_m_3 in zip(frames, positions_m_T3, strict=True):
            path = [] if frame.sequence == 0 else path
            path = [*path[-MAX_PATH_POINTS + 1 :], (position_m_3, frame.stamp_ns)]
        self._path = path
        stamps_ns = [stamp_ns for _, stamp_ns in path]
        node.outputs.publish_path(
            np.stack([place for place, _ in path]), stamps_ns, node.value("marker_frame")
        )
