"""The camera's latest frames, from which a prompt is cut. No ROS in here."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from genie_robot.data.resize import resize_frame

MAX_FRAMES_A_STEP = 60  # memory is bounded for a camera with mad stamps too; 300 Hz at steps of 0.2 s


@dataclass(frozen=True)
class Prompt:
    """Frames to start from, oldest first, one step apart; the stamp is the last frame's."""

    frames_TYXC: np.ndarray
    stamp_ns: int
    frame_id: str


class CameraBuffer:
    """The camera's latest frames at the model's size, so that a prompt of up to `max_frames` can be cut at its rate."""

    def __init__(self, height: int, width: int, dt_s: float, max_frames: int) -> None:
        self._height, self._width, self._max_frames = height, width, max_frames
        self._dt_ns = round(dt_s * 1e9)
        self._frames: deque[tuple[int, np.ndarray]] = deque(maxlen=MAX_FRAMES_A_STEP * max_frames)
        self._camera: tuple[str, int, int] | None = None
        self._lock = threading.Lock()

    def add(self, frame_YXC: np.ndarray, stamp_ns: int, frame_id: str) -> None:
        """Keep a frame (uint8, any size).

        A stamp older than the last one, another camera or another resolution starts afresh: what was seen before
        belongs to another view.
        """
        small_YXC = resize_frame(frame_YXC, self._height, self._width)
        camera = (frame_id, *frame_YXC.shape[:2])
        with self._lock:
            if self._frames and (stamp_ns < self._frames[-1][0] or camera != self._camera):
                self._frames.clear()
            if self._frames and stamp_ns == self._frames[-1][0]:
                self._frames.pop()  # a camera whose clock stands still shows only its newest frame
            self._frames.append((stamp_ns, small_YXC))
            self._camera = camera
            while self._frames[0][0] < stamp_ns - self._max_frames * self._dt_ns:
                self._frames.popleft()

    def prompt(self) -> Prompt | None:
        """The latest frame and those one, two ... steps before it, as far back as there is no gap."""
        with self._lock:
            frames, camera = list(self._frames), self._camera
        if not frames or camera is None:
            return None
        stamp_ns, latest_YXC = frames[-1]
        chosen = [latest_YXC]
        while len(chosen) < self._max_frames:
            wanted_ns = stamp_ns - len(chosen) * self._dt_ns
            nearest_ns, frame_YXC = min(frames, key=lambda item: abs(item[0] - wanted_ns))
            if abs(nearest_ns - wanted_ns) > self._dt_ns // 4:
                break
            chosen.append(frame_YXC)
        return Prompt(np.stack(chosen[::-1]), stamp_ns, camera[0])
