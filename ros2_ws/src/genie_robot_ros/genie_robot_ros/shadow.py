"""Mode shadow: follow the live camera, imagine what comes, and say how far the camera was from it. No ROS in here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from genie_robot_ros.camera_buffer import Prompt
from genie_robot_ros.realtime import Command
from genie_robot_ros.simulator import ImaginedFrame, Simulator

COMMANDED = ("latent_action", "robot_action")
INFERRED = "inferred_action"


@dataclass(frozen=True)
class Judged:
    """A foreseen frame and what the camera then showed; distances are root mean square pixel differences, 0 to 1."""

    stamp_ns: int
    frame_id: str
    distance: float
    still_distance: float
    steps_ahead: int
    code: int
    name: str
    action_source: str


@dataclass(frozen=True)
class Foresight:
    """The camera's frame as the model sees it, the frames that should follow, and the judgement of earlier ones."""

    seen: ImaginedFrame
    horizon: list[ImaginedFrame]
    judged: Judged | None


class Follower:
    """Keeps the last foresight until the camera has caught up with it."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator
        self._last: Foresight | None = None
        self._source = INFERRED

    def wants(self, prompt: Prompt) -> bool:
        """Whether the camera is a step further than at the last foresight (or has begun afresh)."""
        if self._last is None:
            return True
        passed_ns = prompt.stamp_ns - self._last.seen.stamp_ns
        return passed_ns < 0 or passed_ns >= 0.85e9 * self._simulator.model.dt_s

    def follow(
        self,
        prompt: Prompt,
        command: Command | None,
        horizon: int,
        seed: int,
        stop: Callable[[], bool] = lambda: False,
    ) -> Foresight:
        """Judge the last foresight by the prompt's newest frame, and imagine `horizon` frames from here.

        The action is the command in force; without one, what the camera was seen to do goes on (one frame has no
        action: then nothing is imagined). `stop` ends the work early.
        """
        simulator = self._simulator
        seen = simulator.reset(prompt, seed)
        judged = self._judge(seen)
        frames: list[ImaginedFrame] = []
        if command is None and len(prompt.frames_TYXC) > 1:
            command, self._source = Command(0, simulator.infer_action(prompt)[0]), INFERRED
        elif command is not None:
            self._source = COMMANDED[command.vector is not None]
        while command is not None and len(frames) < horizon and not stop():
            frames.append(simulator.step(command))
        self._last = Foresight(seen, frames, judged)
        return self._last

    def _judge(self, seen: ImaginedFrame) -> Judged | None:
        """The foreseen frame nearest to the new one in time, if it is within a quarter of a step."""
        last = self._last
        if last is None or last.seen.frame_id != seen.frame_id:
            return None
        dt_ns = self._simulator.model.dt_s * 1e9
        foreseen = [frame for frame in last.horizon if abs(frame.stamp_ns - seen.stamp_ns) <= dt_ns / 4]
        if not foreseen:
            return None
        frame = foreseen[0]
        return Judged(
            stamp_ns=seen.stamp_ns,
            frame_id=seen.frame_id,
            distance=_distance(frame.frame_YXC, seen.frame_YXC),
            still_distance=_distance(last.seen.frame_YXC, seen.frame_YXC),
            steps_ahead=frame.sequence,
            code=frame.code,
            name=frame.name,
            action_source=self._source,
        )


def _distance(one_YXC: np.ndarray, other_YXC: np.ndarray) -> float:
    difference = one_YXC.astype(np.float32) - other_YXC.astype(np.float32)
    return float(np.sqrt((difference**2).mean()) / 255.0)
