"""The lifecycle node `genie_simulator`: a thin shell over `Simulator`, `Worker` and the converters.

All model work happens in one worker thread, in the order of arrival; callbacks only enqueue. So one executor thread
is enough, and faster: with MultiThreadedExecutor a command costs twice the CPU time.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from genie_robot_interfaces.msg import CodebookEntry, LatentAction
from genie_robot_interfaces.srv import GetCodebook, Reset, Step
from geometry_msgs.msg import Vector3
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.executors import Executor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.task import Future as RosFuture
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Int32
from std_srvs.srv import Trigger

from genie_robot.errors import GenieError
from genie_robot_ros import convert
from genie_robot_ros.diagnostics import ProblemLog, diagnostic_array, one_line
from genie_robot_ros.outputs import Outputs
from genie_robot_ros.parameters import declare_parameters, refusal
from genie_robot_ros.simulator import (
    CameraBuffer,
    ImaginedFrame,
    Prompt,
    Simulator,
    WorldSettings,
    load_world,
)
from genie_robot_ros.spin import run_node
from genie_robot_ros.worker import RefusedError, Worker

# Commands are small: a deep history costs nothing, and a burst sent faster than Python takes it is not lost.
COMMAND_DEPTH = 500
CAMERA_DEPTH = 5
MAX_REPEAT = 1000
INACTIVE = "the simulator is not active; configure and activate it (or start it with autostart:=true)"
NO_STAMP = Time()


class GenieSimulator(LifecycleNode):
    """Camera images and latent actions in, imagined frames out. See README.md for topics and parameters."""

    def __init__(self, **node_arguments: Any) -> None:
        super().__init__("genie_simulator", **node_arguments)
        self._simulator: Simulator | None = None
        self._camera: CameraBuffer | None = None
        self._camera_subscription = None
        self._camera_frames = 0
        self._worker: Worker | None = None
        self._error: str | None = None
        self._active_code: int | None = None
        self._last_inferred_ns = 0
        self._world_problems, self._camera_problems = ProblemLog(), ProblemLog()
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)

        # Services wait for the model (as coroutines); a group of their own lets all else go on meanwhile.
        services = MutuallyExclusiveCallbackGroup()
        self._outputs = Outputs(self)
        self.create_subscription(LatentAction, "latent_action", self._on_latent_action, COMMAND_DEPTH)
        self.create_subscription(Int32, "~/action_index", self._on_action_index, COMMAND_DEPTH)
        self.create_service(Reset, "~/reset", self._on_reset, callback_group=services)
        self.create_service(Trigger, "~/reset_latest", self._on_reset_latest, callback_group=services)
        self.create_service(Step, "~/step", self._on_step, callback_group=services)
        self.create_service(GetCodebook, "~/get_codebook", self._on_get_codebook)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_timer(1.0, self._publish_diagnostics)
        if self._value("autostart"):
            self._autostart_timer = self.create_timer(0.0, self._autostart)

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and warm it up; a bad model folder is one ERROR line and leaves the node unconfigured."""
        names = ("model_path", "device", "dtype", "maskgit_steps", "temperature", "seed")
        settings = WorldSettings(**{name: self._value(name) for name in names})
        try:
            model, session = load_world(settings)
            simulator = Simulator(model, session)
            simulator.warm_up()
        except (GenieError, OSError, RuntimeError) as error:
            # RuntimeError is torch's, for example for a device that is not there
            self._error = f"cannot load the model from {settings.model_path!r}: {one_line(error)}"
            self.get_logger().error(self._error)
            return TransitionCallbackReturn.FAILURE
        self._error = None
        self._simulator = simulator
        self._camera = CameraBuffer(model.image_height, model.image_width, model.dt_s)
        self._subscribe_camera()
        gc.collect()
        gc.freeze()  # else each full collection walks all of torch and holds a frame back by tens of ms
        self.get_logger().info(
            f"loaded {settings.model_path} on {settings.device}: {model.num_actions} latent actions, "
            f"{model.image_width}x{model.image_height} px, one step {model.dt_s:g} s"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Start the worker: commands are answered from here on."""
        result = super().on_activate(state)
        self._worker = Worker(self._value("command_queue_size"), idle_job=self._infer_action)
        self._publish_markers(None)
        self.get_logger().info(
            f"active: camera {self._camera_subscription.topic_name}, commands latent_action"
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the frame in work; commands that still wait are dropped and counted."""
        self.stop_worker()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self.stop_worker()
        self._release()
        return super().on_shutdown(state)

    def stop_worker(self) -> None:
        """End the worker thread, if there is one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            dropped = worker.stop()
            if dropped:
                self._world_problems.add("commands_dropped", f"{dropped} waiting commands dropped", dropped)

    def _release(self) -> None:
        if self._camera_subscription is not None:
            self.destroy_subscription(self._camera_subscription)
        self._camera_subscription = self._camera = self._simulator = None

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def _on_set_parameters(self, parameters: list[rclpy.Parameter]) -> SetParametersResult:
        for parameter in parameters:
            reason = refusal(parameter.name, parameter.value, configured=self._simulator is not None)
            if reason is not None:
                return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    # Camera

    def _subscribe_camera(self) -> None:
        reliability = ReliabilityPolicy[self._value("image_reliability").upper()]
        qos = QoSProfile(depth=CAMERA_DEPTH, reliability=reliability)
        # the remap of image_raw must hold for its compressed twin too, so that one is built from the resolved name
        topic = self.resolve_topic_name("image_raw")
        if self._value("image_transport") == "compressed":
            kind, topic, to_frame = CompressedImage, f"{topic}/compressed", convert.compressed_to_frame
        else:
            kind, to_frame = Image, convert.image_to_frame
        self._camera_subscription = self.create_subscription(
            kind, topic, partial(self._on_camera, to_frame), qos
        )

    def _on_camera(self, to_frame: Callable, msg: Image | CompressedImage) -> None:
        camera = self._camera
        if camera is None:
            return
        try:
            frame_YXC = to_frame(msg, self._value("max_image_pixels"))
        except GenieError as error:
            self._camera_problems.add("bad_images", f"camera image dropped: {error}")
            self.get_logger().warning(f"camera image dropped: {error}", throttle_duration_sec=1.0)
            return
        stamp_ns = convert.stamp_to_ns(msg.header.stamp) or self.get_clock().now().nanoseconds
        camera.add(frame_YXC, stamp_ns, msg.header.frame_id)
        self._camera_frames += 1
        worker = self._worker
        if worker is not None and self._outputs.inferred_action_wanted:
            worker.wake()

    def _infer_action(self) -> None:
        """Runs in the worker when no command waits: what did the camera do in its last step?"""
        prompt = self._camera.prompt() if self._camera is not None else None
        if prompt is None or len(prompt.frames_TYXC) < 2 or self._simulator is None:
            return
        # at most once per half step: a 30 Hz camera must not keep the model busy
        if 0 <= prompt.stamp_ns - self._last_inferred_ns < self._simulator.model.dt_s * 0.5e9:
            return
        self._last_inferred_ns = prompt.stamp_ns
        try:
            code, probabilities_A = self._simulator.infer_action(prompt)
            self._outputs.publish_inferred(prompt, code, self._simulator.name_of(code), probabilities_A)
        except Exception as error:  # the thread must live on; whatever it was is reported
            self._fail("inferring the camera's action", error)

    # Commands

    def _on_latent_action(self, msg: LatentAction) -> None:
        self._command(msg.code, msg.header.stamp)

    def _on_action_index(self, msg: Int32) -> None:
        self._command(msg.data, NO_STAMP)

    def _command(self, code: int, stamp: Time) -> None:
        try:
            self._submit(partial(self._run_command, code, stamp))
        except RefusedError as error:
            self._reject(code, stamp, str(error))

    def _submit(self, job: Callable[[float], Any]) -> Future:
        worker = self._worker
        if worker is None:
            raise RefusedError(INACTIVE)
        return worker.submit(job)

    async def _run(self, job: Callable[[float], Any]) -> None:
        """Give a job to the worker and wait for it without holding the executor's thread."""
        executor: Executor = self.executor
        done = RosFuture(executor=executor)

        def wake(_: Future) -> None:
            done.set_result(None)
            executor.wake()

        job_future = self._submit(job)
        job_future.add_done_callback(wake)
        await done
        job_future.result()  # raises what the job raised

    def _run_command(self, code: int, stamp: Time, queue_ms: float) -> None:
        try:
            self._publish_frame(self._simulator.step(code), stamp, queue_ms)
        except GenieError as error:
            self._reject(code, stamp, str(error))
        except Exception as error:
            self._fail(f"action {code}", error)
            self._outputs.publish_rejection(code, stamp, one_line(error))

    def _reject(self, code: int, stamp: Time, reason: str) -> None:
        self._world_problems.add("commands_rejected", f"command rejected: {reason}")
        self.get_logger().warning(f"command rejected: {reason}")
        self._outputs.publish_rejection(code, stamp, reason)

    def _fail(self, what: str, error: Exception) -> None:
        """An error nobody foresaw: one line, and the node goes on."""
        if not self.context.ok():  # shutting down: publishing fails, and that is nobody's problem
            return
        message = f"{what} failed: {one_line(error)}"
        self._world_problems.add("failures", message)
        self.get_logger().error(message)

    def _publish_frame(self, imagined: ImaginedFrame, stamp: Time, queue_ms: float) -> Image:
        image = self._outputs.publish_frame(imagined, stamp, queue_ms, self._value("jpeg_quality"))
        active_code = imagined.code if imagined.sequence > 0 else None
        if active_code != self._active_code:
            self._publish_markers(active_code)
        return image

    def _publish_markers(self, active_code: int | None) -> None:
        self._active_code = active_code
        frame_id, scale = self._value("marker_frame"), self._value("marker_scale")
        self._outputs.publish_markers(self._simulator.model, active_code, frame_id, scale)

    # Services

    async def _on_reset(self, request: Reset.Request, response: Reset.Response) -> Reset.Response:
        def reset(prompt: Prompt, queue_ms: float) -> None:
            seed = request.seed if request.seed >= 0 else self._value("seed")
            response.image = self._publish_frame(self._simulator.reset(prompt, seed), NO_STAMP, queue_ms)

        async def run() -> None:
            prompt = self._prompt_of(request)
            await self._run(partial(reset, prompt))

        return await self._answer("~/reset", run, response)

    async def _on_reset_latest(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        request = Reset.Request(seed=-1, use_latest_frames=True)
        answer = await self._on_reset(request, Reset.Response())
        response.success, response.message = answer.success, answer.message
        return response

    def _prompt_of(self, request: Reset.Request) -> Prompt:
        simulator, camera = self._simulator, self._camera
        if simulator is None or camera is None:
            raise RefusedError(INACTIVE)
        if request.use_latest_frames:
            if request.frames:
                raise RefusedError("both use_latest_frames and frames were given; give one of them")
            prompt = camera.prompt()
            if prompt is None:
                topic = self._camera_subscription.topic_name
                raise RefusedError(f"no camera image yet on {topic}; publish one, or give frames")
            return prompt
        frames = [convert.image_to_frame(image, self._value("max_image_pixels")) for image in request.frames]
        frames_TYXC = simulator.fit_frames(frames)
        header = request.frames[-1].header
        stamp_ns = convert.stamp_to_ns(header.stamp) or self.get_clock().now().nanoseconds
        return Prompt(frames_TYXC, stamp_ns, header.frame_id)

    async def _on_step(self, request: Step.Request, response: Step.Response) -> Step.Response:
        def step(queue_ms: float) -> None:
            for _ in range(max(1, request.repeat)):
                if self._worker is None:  # deactivated meanwhile
                    raise RefusedError(INACTIVE)
                imagined = self._simulator.step(request.action.code)
                response.image = self._publish_frame(imagined, request.action.header.stamp, queue_ms)
                response.model_ms += imagined.model_ms

        async def run() -> None:
            if request.repeat > MAX_REPEAT:
                raise RefusedError(f"repeat is {request.repeat}, at most {MAX_REPEAT} is allowed")
            await self._run(step)

        return await self._answer("~/step", run, response)

    async def _answer(self, service: str, run: Callable[[], Awaitable[None]], response: Any) -> Any:
        """Run a service's work; the user's mistakes come back as success false and one WARN line."""
        try:
            await run()
            response.success = True
        except CancelledError:
            response.message = "the simulator was deactivated before this request's turn"
        except (GenieError, RefusedError) as error:
            response.message = str(error)
            self._world_problems.add("requests_rejected", f"{service} rejected: {error}")
            self.get_logger().warning(f"{service} rejected: {error}")
        except Exception as error:
            response.message = one_line(error)
            self._fail(service, error)
        return response

    def _on_get_codebook(
        self, _: GetCodebook.Request, response: GetCodebook.Response
    ) -> GetCodebook.Response:
        simulator = self._simulator
        if simulator is None:
            response.message = self._error or INACTIVE
            return response
        for action in simulator.model.latent_actions:
            x, y, z = (float(value) for value in action.displacement_m)
            entry = CodebookEntry(code=action.code, name=action.name, displacement=Vector3(x=x, y=y, z=z))
            entry.gripper = float(action.gripper)
            response.entries.append(entry)
        response.success = True
        response.model, response.model_hash = self._value("model_path"), simulator.model_hash
        response.dt_s = float(simulator.model.dt_s)
        return response

    # Diagnostics

    def _publish_diagnostics(self) -> None:
        simulator, worker = self._simulator, self._worker
        world: dict[str, object] = {"queue": worker.waiting if worker else 0}
        for kind in ("commands_rejected", "commands_dropped", "requests_rejected", "failures"):
            world[kind] = self._world_problems.count(kind)
        if simulator is not None:
            latency = simulator.latency
            world |= {"frames": latency.frames, "model_path": self._value("model_path")}
            world |= {f"model_p{q}_ms": latency.percentile_ms(q) for q in (50, 99)}
        camera = {"frames": self._camera_frames, "bad_images": self._camera_problems.count("bad_images")}
        state = "active" if worker else "inactive" if simulator else "unconfigured"
        self._diagnostics.publish(
            diagnostic_array(
                stamp=self.get_clock().now().to_msg(),
                node_name=self.get_fully_qualified_name().lstrip("/"),
                hardware_id=simulator.model_hash if simulator is not None else "",
                error=self._error,
                world_problem=self._world_problems.recent(),
                camera_problem=self._camera_problems.recent(),
                state=state,
                world_values=world,
                camera_values=camera,
            )
        )

    def _value(self, name: str) -> Any:
        return self.get_parameter(name).value


def main() -> int:
    """Console script `genie_simulator`."""
    return run_node(GenieSimulator, GenieSimulator.stop_worker)


if __name__ == "__main__":
    sys.exit(main())
