"""The simulator without ROS: prompts and actions in, imagined frames out. For the model thread alone."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from genie_robot import WorldSession
from genie_robot.config import SamplingConfig
from genie_robot.data.resize import resize_frame
from genie_robot.errors import ActionError, ImageError
from genie_robot_ros.camera_buffer import Prompt
from genie_robot_ros.realtime import Command
from genie_robot_ros.world import World

PROMPT_CODE = -1  # stands where a latent action's code would, for frames that no action made


@dataclass(frozen=True)
class ImaginedFrame:
    """One frame that the world model made, and where it stands."""

    frame_YXC: np.ndarray
    stamp_ns: int
    frame_id: str
    sequence: int
    episode: int
    seed: int
    code: int
    name: str
    model_ms: float


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
    """One imagined world with stamps, names, counts and statistics. Deterministic: prompt, seed and actions decide."""

    def __init__(self, world: World, sampling: SamplingConfig) -> None:
        self.world, self.model = world, world.model
        self.latency = LatencyStatistics()
        self.uses: Counter[int] = Counter()
        self.episode = 0
        self.sequence = 0
        self._session = WorldSession(
            self.model, maskgit_steps=sampling.steps, temperature=sampling.temperature
        )
        self._names = {action.code: action.name for action in self.model.latent_actions}
        self._prompt: Prompt | None = None
        self._present: ImaginedFrame | None = None
        self._seed = 0

    @property
    def prompt(self) -> Prompt:
        """What the episode began from; ActionError if none has begun."""
        if self._prompt is None:
            raise ActionError(
                "no prompt yet; publish a camera image and call ~/reset with use_latest_frames, "
                "or give it frames"
            )
        return self._prompt

    @property
    def present(self) -> ImaginedFrame:
        """The newest frame; ActionError before the first reset."""
        _ = self.prompt
        assert self._present is not None
        return self._present

    @property
    def has_begun(self) -> bool:
        """Whether there was a reset."""
        return self._prompt is not None

    @property
    def sampling(self) -> SamplingConfig:
        """How frames are drawn; may be set at any time, from any thread, and holds from the next frame on."""
        return self._session.sampling

    @sampling.setter
    def sampling(self, sampling: SamplingConfig) -> None:
        self._session.sampling = sampling

    def warm_up(self) -> None:
        """One step on a black frame, so that the first real one is not the slow one."""
        black_TYXC = np.zeros((1, self.model.image_height, self.model.image_width, 3), np.uint8)
        self._session.reset(black_TYXC)
        self._session.step(0)

    def fit_frames(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """RGB frames of any size, oldest first -> uint8 (T, Y, X, 3) at the model's size."""
        if len(frames) == 0:
            raise ImageError(
                "no prompt frames; give at least one in `frames`, a `dataset`, or set use_latest_frames"
            )
        return np.stack(
            [resize_frame(frame, self.model.image_height, self.model.image_width) for frame in frames]
        )

    def reset(self, prompt: Prompt, seed: int) -> ImaginedFrame:
        """Start an episode; returns the last prompt frame as the model sees it (sequence 0)."""
        begun = time.perf_counter()
        frame_YXC = self._session.reset(prompt.frames_TYXC, seed=seed)
        self._prompt, self._seed = prompt, seed
        self.sequence = 0
        self.episode += 1
        return self._imagined(frame_YXC, PROMPT_CODE, "prompt", begun)

    def code_of(self, command: Command) -> int:
        """The latent action of a command; ActionError for an unknown code or a robot action that cannot be one."""
        if command.vector is None:
            if not 0 <= command.code < self.model.num_actions:
                raise ActionError(
                    f"unknown action code {command.code}; the model has codes 0 to {self.model.num_actions - 1} "
                    "(see ~/get_codebook)"
                )
            return command.code
        adapter = self.world.adapter
        if adapter is None:
            raise ActionError(
                "this model has no action_adapter.json, so it takes latent actions only; fit one with `genie-robot "
                "actions MODEL --data FOLDER --write` on a dataset that has actions"
            )
        return int(adapter.code(adapter.from_si(command.vector)))

    def step(self, command: Command) -> ImaginedFrame:
        """Imagine the next frame; ActionError for an unknown code or without a prompt."""
        _ = self.prompt
        code = self.code_of(command)
        begun = time.perf_counter()
        frame_YXC = self._session.step(code)
        self.sequence += 1
        imagined = self._imagined(frame_YXC, code, self.name_of(code), begun)
        self.latency.add(imagined.model_ms)
        return imagined

    def hold(self) -> ImaginedFrame:
        """The present frame once more, a step later: what a camera shows of a world in which nothing acts."""
        frame_YXC = self.present.frame_YXC
        self.sequence += 1
        return self._imagined(frame_YXC, PROMPT_CODE, "hold", time.perf_counter())

    def end_episode(self) -> None:
        """Forget the prompt: no step until the next reset."""
        self._prompt = self._present = None

    def skip(self, ticks: int) -> None:
        """Let the stamps jump over ticks for which no frame was made."""
        self.sequence += ticks

    def futures(self, codes_FS: np.ndarray) -> np.ndarray:
        """Frames (F, S, Y, X, 3) of F futures of S codes each, with one noise for all; the world does not move."""
        return np.stack(list(self.futures_by_step(codes_FS)), axis=1)

    def futures_by_step(self, codes_FS: np.ndarray) -> Iterator[np.ndarray]:
        """The same, frames (F, Y, X, 3) of one step after the other."""
        _ = self.prompt
        for code in np.unique(codes_FS):
            self.code_of(Command(0, int(code)))
        session = self._session.fork(len(codes_FS))
        for codes_F in codes_FS.T:
            yield session.step(codes_F)

    def name_of(self, code: int) -> str:
        """The measured name of a code, "" if it has none."""
        return self._names.get(code, "")

    def infer_action(self, prompt: Prompt) -> tuple[int, np.ndarray]:
        """The latent action between the last two frames of a prompt (T >= 2), and the probability of each."""
        codes_BT, probabilities_BTA = self.model.infer_actions(prompt.frames_TYXC[None, -2:])
        return int(codes_BT[0, -1]), np.asarray(probabilities_BTA[0, -1], np.float32)

    def _imagined(self, frame_YXC: np.ndarray, code: int, name: str, begun_s: float) -> ImaginedFrame:
        model_ms = 1e3 * (time.perf_counter() - begun_s)
        stamp_ns = self.prompt.stamp_ns + self.sequence * round(self.model.dt_s * 1e9)
        self._present = ImaginedFrame(
            frame_YXC=frame_YXC,
            stamp_ns=stamp_ns,
            frame_id=self.prompt.frame_id,
            sequence=self.sequence,
            episode=self.episode,
            seed=self._seed,
            code=code,
            name=name,
            model_ms=model_ms,
        )
        return self._present
