"""The services: reset, reset_latest, step, fork, get_codebook. Coroutines that wait for the model thread."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from genie_robot_interfaces.msg import CodebookEntry
from genie_robot_interfaces.srv import Fork, GetCodebook, Reset, Step
from geometry_msgs.msg import Vector3
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from genie_robot.data.open import open_dataset
from genie_robot.errors import ActionError, DataError, GenieError
from genie_robot_ros import convert
from genie_robot_ros.camera_buffer import Prompt
from genie_robot_ros.diagnostics import one_line
from genie_robot_ros.model_thread import RefusedError
from genie_robot_ros.outputs import header_of, letterbox
from genie_robot_ros.realtime import Command
from genie_robot_ros.simulator import ImaginedFrame, Simulator

if TYPE_CHECKING:
    from genie_robot_ros.simulator_node import GenieSimulator

MAX_REPEAT = 1000
MAX_FORK_FRAMES = 512
MAX_FORK_MIB = 64  # of images in one answer
MAX_FORK_STEPS = 64


class Services:
    """All services of one simulator node."""

    def __init__(self, node: GenieSimulator) -> None:
        self._node = node
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="dataset_reader")
        # Coroutines wait for the model; a group for each kind lets the others go on meanwhile.
        for kind, name, callback in (
            (Reset, "~/reset", self._on_reset),
            (Trigger, "~/reset_latest", self._on_reset_latest),
            (Step, "~/step", self._on_step),
            (Fork, "~/fork", self._on_fork),
        ):
            group = MutuallyExclusiveCallbackGroup()
            # with the streams: then an image that came before the request is taken before it
            node.quick_groups.add(group)
            node.create_service(kind, name, callback, callback_group=group)
        node.create_service(GetCodebook, "~/get_codebook", self._on_get_codebook)

    def close(self) -> None:
        """End the reading thread."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    async def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        node = self._node

        async def run() -> None:
            node.require_active()
            prompt = await self._prompt_of(request)
            seed = request.seed if request.seed >= 0 else node.value("seed")
            response.image = await node.reset(prompt, seed)
            response.message = self._age_of(request)

        return await self._answer("~/reset", run, response)

    async def _on_reset_latest(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        answer = await self._on_reset(Reset.Request(seed=-1, use_latest_frames=True), Reset.Response())
        response.success, response.message = answer.success, answer.message
        return response

    def _age_of(self, request: Reset.Request) -> str:
        node = self._node
        camera = node.camera
        silent_s = camera.silent_s() if camera is not None and request.use_latest_frames else None
        if silent_s is None or silent_s <= node.value("camera_timeout_s"):
            return ""
        return f"note: the camera's latest image came {silent_s:.1f} s ago"

    async def _prompt_of(self, request: Reset.Request) -> Prompt:
        node = self._node
        given = [bool(request.use_latest_frames), bool(request.frames), bool(request.dataset)]
        if sum(given) != 1:
            raise RefusedError(
                f"{sum(given)} of use_latest_frames, frames and dataset were given; give one of them to prompt with"
            )
        if request.use_latest_frames:
            return node.camera_prompt()
        if request.dataset:
            read = partial(_dataset_prompt, request, node.require_simulator(), node.now_ns())
            return await node.wait_for(self._reader.submit(read))
        max_pixels = node.value("max_image_pixels")
        frames = [convert.image_to_frame(image, max_pixels) for image in request.frames]
        header = request.frames[-1].header
        stamp_ns, frame_id = convert.stamp_to_ns(header.stamp) or node.now_ns(), header.frame_id
        return Prompt(node.require_simulator().fit_frames(frames), stamp_ns, frame_id)

    async def _on_step(self, request: Step.Request, response: Step.Response) -> Step.Response:
        node = self._node

        def step(command: Command, queue_ms: float) -> Generator[None, None, None]:
            for number in range(max(1, request.repeat)):
                if number:
                    yield
                imagined = node.require_active().step(command)
                response.image = node.publish_frame(imagined, command.stamp_ns, queue_ms)
                response.model_ms += imagined.model_ms

        async def run() -> None:
            if request.repeat > MAX_REPEAT:
                raise RefusedError(f"repeat is {request.repeat}, at most {MAX_REPEAT} is allowed")
            node.require_free("~/step")
            await node.wait_for(node.submit(partial(step, _command_of(request))))

        return await self._answer("~/step", run, response)

    async def _on_fork(self, request: Fork.Request, response: Fork.Response) -> Fork.Response:
        node = self._node

        async def run() -> None:
            codes_FS = _fork_codes(request, node.require_active().model.num_actions, node.output_size)
            steps = range(codes_FS.shape[1] - 1 if request.last_frames_only else 0, codes_FS.shape[1])
            future = node.submit(lambda _: self._fork(codes_FS, steps))
            response.images, response.model_ms = await node.wait_for(future)
            response.futures = len(codes_FS)

        return await self._answer("~/fork", run, response)

    def _fork(self, codes_FS: np.ndarray, steps: range) -> Generator[None, None, tuple[list[Image], float]]:
        """A job of the model thread: images of `steps` of each future, future by future, and the model's time [ms]."""
        node = self._node
        simulator = node.require_active()
        futures = simulator.futures_by_step(codes_FS)
        images: list[list[Image]] = [[] for _ in codes_FS]
        model_ms = 0.0
        for step in range(codes_FS.shape[1]):
            if step:
                yield
            begun_s = time.perf_counter()
            frames_FYXC = next(futures)
            model_ms += 1e3 * (time.perf_counter() - begun_s)
            if step in steps:
                for row, frame_YXC in zip(images, frames_FYXC, strict=True):
                    row.append(self._image_after(simulator.present, step + 1, frame_YXC))
        return [image for row in images for image in row], model_ms

    def _image_after(self, present: ImaginedFrame, steps: int, frame_YXC: np.ndarray) -> Image:
        """The message of a frame that follows `present` by so many steps."""
        header = header_of(present)
        step_ns = round(self._node.require_simulator().model.dt_s * 1e9)
        header.stamp = convert.ns_to_stamp(present.stamp_ns + steps * step_ns)
        return convert.frame_to_image(letterbox(frame_YXC, *self._node.output_size), header)

    async def _answer(self, service: str, run: Callable[[], Awaitable[None]], response: Any) -> Any:
        """Run a service's work; the user's mistakes come back as success false and one WARN line."""
        node = self._node
        try:
            await run()
            response.success = True
        except (GenieError, RefusedError) as error:
            response.message = str(error)
            node.world_problems.add("requests_rejected", f"{service} rejected: {error}")
            node.get_logger().warning(f"{service} rejected: {error}", throttle_duration_sec=1.0)
        except Exception as error:
            response.message = one_line(error)
            node.fail(service, error)
        return response

    def _on_get_codebook(
        self, _: GetCodebook.Request, response: GetCodebook.Response
    ) -> GetCodebook.Response:
        node = self._node
        try:
            simulator = node.require_simulator()
        except RefusedError as error:
            response.message = str(error)
            return response
        for action in simulator.model.latent_actions:
            x, y, z = (float(value) for value in action.displacement_m)
            entry = CodebookEntry(code=action.code, name=action.name, displacement=Vector3(x=x, y=y, z=z))
            entry.gripper = float(action.gripper)
            response.entries.append(entry)
        response.success = True
        response.model, response.model_hash = node.value("model_path"), simulator.world.model_hash
        response.dt_s = float(simulator.model.dt_s)
        response.height, response.width = simulator.model.image_height, simulator.model.image_width
        response.takes_robot_actions = simulator.world.adapter is not None
        return response


def _command_of(request: Step.Request) -> Command:
    if request.use_robot_action:
        action = request.robot_action
        return Command(
            convert.stamp_to_ns(action.header.stamp), vector=convert.robot_action_to_vector(action)
        )
    return Command(convert.stamp_to_ns(request.action.header.stamp), request.action.code)


def _fork_codes(request: Fork.Request, num_actions: int, image_size: tuple[int, int]) -> np.ndarray:
    """Codes (F, S) of a request; each code held, if it names none."""
    steps = max(1, request.steps)
    size = len(request.codes) or num_actions * steps
    if size % steps or size > MAX_FORK_FRAMES or steps > MAX_FORK_STEPS:
        raise ActionError(
            f"fork has {size} codes for futures of {steps} steps; wanted a multiple of steps, at most "
            f"{MAX_FORK_FRAMES} codes and {MAX_FORK_STEPS} steps"
        )
    codes = np.asarray(request.codes, np.int64) if request.codes else np.repeat(np.arange(num_actions), steps)
    images = size // steps if request.last_frames_only else size
    if (size_mib := images * image_size[0] * image_size[1] * 3 / 2**20) > MAX_FORK_MIB:
        raise ActionError(
            f"fork would answer with {size_mib:.0f} MiB of images; wanted at most {MAX_FORK_MIB}; ask for fewer futures or "
            "steps, for last_frames_only, or set a smaller output_height and output_width"
        )
    return codes.reshape(-1, steps)


def _dataset_prompt(request: Reset.Request, simulator: Simulator, stamp_ns: int) -> Prompt:
    """The prompt from a recorded episode, read and resized in a thread of its own."""
    source = open_dataset(request.dataset)
    split = request.split or next(iter(source.splits))
    numbers = range(request.episode, request.episode + 1)
    episode = next(iter(source.episodes(split, numbers=numbers)), None)
    first = request.first_frame
    if episode is None or first >= episode.num_frames:
        length = f"{episode.num_frames} frames" if episode is not None else "no such episode"
        raise DataError(
            f"{request.dataset}: frame {first} of episode {request.episode} in split {split!r}: {length}; the split has "
            f"{source.splits.get(split, 0)} episodes"
        )
    frames_TYXC = episode.frames_TYXC[
        first : first + (request.num_frames or simulator.model.max_prompt_frames)
    ]
    return Prompt(simulator.fit_frames(frames_TYXC), stamp_ns, request.dataset)
