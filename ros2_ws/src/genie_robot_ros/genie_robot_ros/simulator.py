"""The simulator without ROS: camera frames in, imagined frames out. Not thread-safe except `CameraBuffer`."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import genie_robot
from genie_robot import WorldModel, WorldSession
from genie_robot.data.resize import resize_frame
from genie_robot.errors import ActionError, ImageError

PROMPT_CODE = -1  # stands where a latent action's code would, for the frame that shows the prompt
MAX_PROMPT_FRAMES = 16


@dataclass(frozen=True)
class WorldSettings:
    """What to load and how to sample."""

    model_path: str
    device: str = "cpu"
    dtype: str = "float32"
    maskgit_steps: int = 8
    temperature: float = 0.3
    seed: int = 0


def load_world(settings: WorldSettings) -> tuple[WorldModel, WorldSession]:
    """Open a model folder and a session on it; `genie_robot.errors` if the folder is missing or damaged."""
    model = genie_robot.load(settings.model_path, device=settings.device, dtype=settings.dtype)
    session = WorldSession(
        model,
        maskgit_steps=settings.maskgit_steps,
        temperature=settings.temperature,
        seed=settings.seed,
    )
    return model, session


@dataclass(frozen=True)
class Prompt:
    """Frames to start from, oldest first, one step apart; the stamp is the last frame's."""

    frames_TYXC: np.ndarray
    stamp_ns: int
    frame_id: str


@dataclass(frozen=True)
class ImaginedFrame:
    """One frame that the world model made, and where it stands."""

    frame_YXC: np.ndarray
    stamp_ns: int
    frame_id: str
    sequence: int
    episode: int
    code: int
    name: str
    model_ms: float


class CameraBuffer:
    """The camera's latest frames at the model's size, so that a prompt can be cut at the model's frame rate."""

    def __init__(self, height: int, width: int, dt_s: float) -> None:
        self._height, self._width = height, width
        self._dt_ns = round(dt_s * 1e9)
        self._frames: deque[tuple[int, np.ndarray]] = deque()
        self._frame_id = ""
        self._lock = threading.Lock()

    def add(self, frame_YXC: np.ndarray, stamp_ns: int, frame_id: str) -> None:
        """Keep a frame (uint8, any size). A stamp older than the last one, or another camera, starts afresh."""
        small_YXC = resize_frame(frame_YXC, self._height, self._width)
        with self._lock:
            if self._frames and (stamp_ns < self._frames[-1][0] or frame_id != self._frame_id):
                self._frames.clear()
            self._frames.append((stamp_ns, small_YXC))
            self._frame_id = frame_id
            while self._frames[0][0] < stamp_ns - MAX_PROMPT_FRAMES * self._dt_ns:
                self._frames.popleft()

    def prompt(self) -> Prompt | None:
        """The latest frame and those one, two ... steps before it, as far back as there is no gap."""
        with self._lock:
            frames, frame_id = list(self._frames), self._frame_id
        if not frames:
            return None
        stamp_ns, latest_YXC = frames[-1]
        chosen = [latest_YXC]
        while len(chosen) < MAX_PROMPT_FRAMES:
            wanted_ns = stamp_ns - len(chosen) * self._dt_ns
            nearest_ns, frame_YXC = min(frames, key=lambda item: abs(item[0] - wanted_ns))
            if abs(nearest_ns - wanted_ns) > self._dt_ns // 4:
                break
            chosen.append(frame_YXC)
        return Prompt(np.stack(chosen[::-1]), stamp_ns, frame_id)


class LatencyStatistics:
    """Counts, and percentiles over the last 1000 frames."""

    def __init__(self) -> None:
        self.frames = 0
        self._model_ms: deque[float] = deque(maxlen=1000)

    def add(self, model_ms: float) -> None:
        """Count one imagined frame."""
        self.frames += 1
        self._model_ms.append(model_ms)

    def percentile_ms(self, q: float) -> float:
        """The q-th percentile of the time in the model; 0 if there was no frame yet."""
        values = list(self._model_ms)
        return float(np.percentile(values, q)) if values else 0.0


class Simulator:
    """A world session with stamps, names and statistics."""

    def __init__(self, model: WorldModel, session: WorldSession) -> None:
        self.model = model
        self.model_hash = model.hash  # kept: it is computed from all weights
        self.latency = LatencyStatistics()
        self._session = session
        self._names = {action.code: action.name for action in model.latent_actions}
        self._prompt: Prompt | None = None
        self._sequence = 0
        self._episode = 0

    def warm_up(self) -> None:
        """One step on a black frame, so that the first real one is not the slow one."""
        black_TYXC = np.zeros((1, self.model.image_height, self.model.image_width, 3), np.uint8)
        self._session.reset(black_TYXC)
        self._session.step(0)

    def fit_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """RGB frames of any size, oldest first -> uint8 (T, Y, X, 3) at the model's size."""
        if not frames:
            raise ImageError("no prompt frames; give at least one in `frames`, or set use_latest_frames")
        return np.stack(
            [resize_frame(frame, self.model.image_height, self.model.image_width) for frame in frames]
        )

    def reset(self, prompt: Prompt, seed: int) -> ImaginedFrame:
        """Start an episode; returns the last prompt frame as the model sees it (sequence 0)."""
        begun = time.perf_counter()
        frame_YXC = self._session.reset(prompt.frames_TYXC, seed=seed)
        self._prompt = prompt
        self._sequence = 0
        self._episode += 1
        return self._imagined(frame_YXC, PROMPT_CODE, "prompt", 1e3 * (time.perf_counter() - begun))

    def step(self, code: int) -> ImaginedFrame:
        """Imagine the next frame; ActionError for an unknown code or without a prompt."""
        if self._prompt is None:
            raise ActionError(
                "no prompt yet; publish a camera image and call ~/reset with use_latest_frames, "
                "or give it frames"
            )
        if not 0 <= code < self.model.num_actions:
            raise ActionError(
                f"unknown action code {code}; the model has codes 0 to {self.model.num_actions - 1} "
                "(see ~/get_codebook)"
            )
        begun = time.perf_counter()
        frame_YXC = self._session.step(code)
        model_ms = 1e3 * (time.perf_counter() - begun)
        self._sequence += 1
        self.latency.add(model_ms)
        return self._imagined(frame_YXC, code, self.name_of(code), model_ms)

    def name_of(self, code: int) -> str:
        """The measured name of a code, "" if it has none."""
        return self._names.get(code, "")

    def infer_action(self, prompt: Prompt) -> tuple[int, np.ndarray]:
        """The latent action between the last two frames of a prompt (T >= 2), and the probability of each."""
        codes_BT, probabilities_BTA = self.model.infer_actions(prompt.frames_TYXC[None, -2:])
        return int(codes_BT[0, -1]), np.asarray(probabilities_BTA[0, -1], np.float32)

    def _imagined(self, frame_YXC: np.ndarray, code: int, name: str, model_ms: float) -> ImaginedFrame:
        assert self._prompt is not None
        stamp_ns = self._prompt.stamp_ns + self._sequence * round(self.model.dt_s * 1e9)
        return ImaginedFrame(
            frame_YXC=frame_YXC,
            stamp_ns=stamp_ns,
            frame_id=self._prompt.frame_id,
            sequence=self._sequence,
            episode=self._episode,
            code=code,
            name=name,
            model_ms=model_ms,
        )
