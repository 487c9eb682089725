"""The lifecycle node `genie_simulator`: wires topics, services and the rollout action to a `Simulator`.

All model work happens in one thread (`model_thread`), in the order of arrival; callbacks only enqueue, and never block.
Camera and commands have an executor of their own (`spin`): with a MultiThreadedExecutor a command costs twice the time.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any

import rclpy
import torch
from rcl_interfaces.msg import SetParametersResult
from rclpy.callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from rclpy.exceptions import InvalidNamespaceException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.task import Future as RosFuture
from rclpy.utilities import remove_ros_args
from rclpy.validate_namespace import validate_namespace
from sensor_msgs.msg import Image

from genie_robot.config import SamplingConfig
from genie_robot_ros import convert
from genie_robot_ros.background import Background
from genie_robot_ros.camera_buffer import Prompt
from genie_robot_ros.commands import Commands
from genie_robot_ros.diagnostics import ProblemLog, one_line
from genie_robot_ros.inputs import CameraInput
from genie_robot_ros.model_thread import Lane, RefusedError
from genie_robot_ros.outputs import Outputs, info_of, letterbox
from genie_robot_ros.parameters import PARAMETERS, combination_refusal, declare_parameters, refusal
from genie_robot_ros.rollout_server import RolloutServer
from genie_robot_ros.services import Services
from genie_robot_ros.simulator import ImaginedFrame, Simulator
from genie_robot_ros.spin import run_nodes
from genie_robot_ros.status import StatusPublisher
from genie_robot_ros.transitions import refuse_impossible_transitions
from genie_robot_ros.world import Worlds, WorldSettings

INACTIVE = "the simulator is not active; configure and activate it (or start it with autostart:=true)"


class GenieSimulator(LifecycleNode):
    """Camera images and actions in, imagined frames out. See ros2_ws/README.md for topics and parameters.

    `worlds` are the models of this process, which several nodes share.
    """

    def __init__(self, worlds: Worlds, **node_arguments: Any) -> None:
        super().__init__("genie_simulator", **node_arguments)
        self._worlds = worlds
        self._mode = ""
        self.simulator: Simulator | None = None
        self.camera: CameraInput | None = None
        self.lane: Lane | None = None
        self.error: str | None = None
        self.world_problems, self.camera_problems = ProblemLog(), ProblemLog()
        # Served by an executor of their own, see spin.NodeExecutor: camera, commands, and the services of the control loop
        self.streams = MutuallyExclusiveCallbackGroup()
        self.quick_groups: set[CallbackGroup] = {self.streams}
        refuse_impossible_transitions(self)
        declare_parameters(self)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        self.outputs = Outputs(self, publish_clock=self.value("publish_clock"))
        self.commands = Commands(self)
        self.rollout = RolloutServer(self)
        self._background = Background(self)
        self._service_set = Services(self)
        StatusPublisher(self)
        if self.value("autostart"):
            self._autostart_timer = self.create_timer(0.0, self._autostart)

    def value(self, name: str) -> Any:
        """The present value of a parameter."""
        return self.get_parameter(name).value

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and warm it up; a bad model folder is one ERROR line and leaves the node unconfigured."""
        names = ("model_path", "probe_path", "device", "dtype")
        settings = WorldSettings(**{name: self.value(name) for name in names})
        try:
            self._check_parameters()
            world = self._worlds.load(settings)
            simulator = Simulator(world, self._sampling())
            # in the model thread, as all model work: another session may be at work on the same model
            warm_up = self._worlds.thread.lane(1, self._background.failed)
            try:
                warm_up.submit(lambda _: simulator.warm_up()).result()
            finally:
                warm_up.close("")
            self.camera = CameraInput(self, simulator.model, self._background.on_camera_frame)
        except Exception as error:  # any, such as torch's AssertionError for cuda: rclpy would be silent
            what = (
                ""
                if isinstance(error, RefusedError)
                else f"cannot load the model from {settings.model_path!r}: "
            )
            self.error = what + (str(error) if isinstance(error, RefusedError) else one_line(error))
            self.get_logger().error(self.error)
            error.__traceback__ = None  # its frames hold what was loaded so far
            self._release()
            return TransitionCallbackReturn.FAILURE
        self.error = None
        self.simulator = simulator
        model = world.model
        gc.collect()
        gc.freeze()  # else each full collection walks all of torch and holds a frame back by tens of ms
        self.get_logger().info(
            f"loaded {settings.model_path} on {settings.device}: {model.num_actions} latent actions, "
            f"{model.image_width}x{model.image_height} px, one step {model.dt_s:g} s"
        )
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open a lane in the model thread: commands are answered from here on."""
        result = super().on_activate(state)
        self.lane = self._worlds.thread.lane(self.value("command_queue_size"), self._background.failed)
        self._background.publish_markers(None)
        self.commands.start()
        assert self.camera is not None
        self.get_logger().info(
            f"active: camera {self.camera.topic}, commands latent_action, mode {self.value('mode')}"
        )
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Finish the frame in work; commands that still wait are dropped and counted."""
        self.end_work()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything, from any state."""
        self.end_work()
        self._release()
        return super().on_shutdown(state)

    def end_work(self) -> None:
        """Leave the model thread, once its frame in work is done."""
        self.commands.stop()
        lane, self.lane = self.lane, None
        if lane is not None:
            lane.close("the simulator was deactivated before this request's turn")

    def close(self) -> None:
        """Before the node is destroyed: end its threads and servers."""
        self.end_work()
        self._service_set.close()
        self.rollout.close()

    def _release(self) -> None:
        if self.camera is not None:
            self.camera.close()
        self.camera = self.simulator = None
        self._worlds.give_back_clock(self)
        self._background.forget()
        gc.unfreeze()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _autostart(self) -> None:
        self._autostart_timer.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    # Parameters

    def _on_set_parameters(self, parameters: list[rclpy.Parameter]) -> SetParametersResult:
        for parameter in parameters:
            reason = refusal(parameter.name, parameter.value, configured=self.simulator is not None)
            if reason is not None:
                return SetParametersResult(successful=False, reason=reason)
        wanted = {parameter.name: parameter.value for parameter in parameters}
        reason = combination_refusal(lambda name: wanted.get(name, self.value(name)))
        if reason is not None and self.simulator is not None:  # before, one may be set after the other
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _on_parameters_set(self, parameters: list[rclpy.Parameter]) -> None:
        names = {parameter.name for parameter in parameters}
        if self.simulator is not None and names & {"maskgit_steps", "temperature"}:
            self.simulator.sampling = self._sampling()
        if self.lane is not None and names & {"mode", "rate_hz"}:
            self.commands.start()
        if "mode" in names and self.value("mode") != self._mode:
            self.commands.forget("the mode changed")
            self._background.forget()
            if self._mode == "shadow" and self.lane is not None:
                # its frames are the camera's future: whoever steps on wants a prompt of his own
                self.submit(lambda _: self.require_simulator().end_episode())
            self._mode = self.value("mode")

    def _sampling(self) -> SamplingConfig:
        return SamplingConfig(self.value("maskgit_steps"), self.value("temperature"))

    def _check_parameters(self) -> None:
        """RefusedError for values that the node was started with and that `refusal` would not have let in later."""
        self._mode = self.value("mode")
        reasons = [
            refusal(parameter.name, self.value(parameter.name), configured=False) for parameter in PARAMETERS
        ]
        for reason in (*reasons, combination_refusal(self.value)):
            if reason is not None:
                raise RefusedError(reason)
        if self.value("publish_clock"):
            self._worlds.take_clock(self)

    # What the parts of the node ask of it

    def require_simulator(self) -> Simulator:
        """The simulator; RefusedError while the node is not configured."""
        if self.simulator is None:
            raise RefusedError(self.error or INACTIVE)
        return self.simulator

    def require_active(self) -> Simulator:
        """The simulator; RefusedError while the node is not active."""
        if self.lane is None:
            raise RefusedError(INACTIVE)
        return self.require_simulator()

    def require_free(self, what: str) -> None:
        """RefusedError while the world is moved by something else than single commands."""
        if self.value("mode") == "shadow":
            raise RefusedError(
                f"{what} has no meaning in mode shadow, which follows the camera; set mode to step"
            )
        if self.rollout.is_running:
            raise RefusedError(f"{what} came while a rollout is running; wait for its end, or cancel it")

    def submit(self, job: Callable[[float], Any]) -> Future:
        """Give a job to the model thread; RefusedError while inactive, or when too many wait."""
        lane = self.lane
        if lane is None:
            raise RefusedError(INACTIVE)
        return lane.submit(job)

    async def wait_for(self, future: Future) -> Any:
        """Wait for another thread's work without holding the executor's thread."""
        executor = self.executor
        done = RosFuture(executor=executor)

        def wake(_: Future) -> None:
            done.set_result(None)
            executor.wake()

        future.add_done_callback(wake)
        await done
        return future.result()  # raises what the job raised

    def now_ns(self) -> int:
        """The present: imagined time where this node makes the time, else the node's clock [ns]."""
        if self.value("publish_clock") and self.outputs.clock_ns:
            return self.outputs.clock_ns
        return self.get_clock().now().nanoseconds

    def camera_prompt(self) -> Prompt:
        """What the camera shows; RefusedError before its first image."""
        camera = self.camera
        prompt = camera.prompt() if camera is not None else None
        if prompt is None:
            topic = camera.topic if camera is not None else "image_raw"
            raise RefusedError(f"no camera image yet on {topic}; publish one, or give frames")
        return prompt

    async def reset(self, prompt: Prompt, seed: int) -> Image:
        """Begin an episode, ahead of the commands that wait: those are dropped, they meant the old one."""
        lane = self.lane
        if lane is None:  # deactivated while the prompt was read
            raise RefusedError(INACTIVE)
        lane.drop_waiting("a reset began another episode")
        self.commands.forget("a reset began another episode")

        answered: Future = Future()  # before all that belongs to the frame is published: that takes longer

        def run(queue_ms: float) -> None:
            self.publish_frame(self.require_active().reset(prompt, seed), 0, queue_ms, answered.set_result)

        def pass_on(job: Future) -> None:
            error = job.exception()
            if error is not None and not answered.done():
                answered.set_exception(error)

        self.submit(run).add_done_callback(pass_on)
        return await self.wait_for(answered)

    # What goes out

    def publish_frame(
        self,
        imagined: ImaginedFrame,
        command_stamp_ns: int,
        queue_ms: float,
        on_image: Callable[[Image], None] = lambda _: None,
    ) -> Image:
        """In the model thread: publish a frame, call `on_image`, publish all that belongs to the frame."""
        frame_YXC = letterbox(imagined.frame_YXC, *self.output_size)
        image = self.outputs.publish_image(imagined, frame_YXC)
        on_image(image)
        self.outputs.publish_info(info_of(imagined, convert.ns_to_stamp(command_stamp_ns), queue_ms))
        camera = self.camera
        if camera is not None and self.outputs.camera_info_wanted:
            self.outputs.publish_camera_info(camera.calibration(*self.output_size, image.header))
        if self.outputs.compressed_wanted:
            self.outputs.publish_compressed(frame_YXC, image.header, self.value("jpeg_quality"))
        self._background.on_frame(imagined)
        return image

    def fail(self, what: str, error: Exception) -> None:
        """An error nobody foresaw: one line, and the node goes on. Without memory it frees the model and stops."""
        if not self.context.ok():  # shutting down: publishing fails, and that is nobody's problem
            return
        message = f"{what} failed: {one_line(error)}"
        self.world_problems.add("failures", message)
        self.get_logger().error(message, throttle_duration_sec=1.0)
        if isinstance(error, torch.OutOfMemoryError) and self.error is None:
            self.error = (
                f"out of memory on {self.value('device')} while {what}; the model was freed; use a smaller model, "
                "dtype:=bfloat16 or another device, then configure and activate the node again"
            )
            self.get_logger().error(self.error)
            self.executor.create_task(self._give_up)

    def _give_up(self) -> None:
        """In the executor's thread: back to unconfigured, with the error on /diagnostics."""
        if self.lane is not None:
            self.trigger_deactivate()
        if self.simulator is not None:
            self.trigger_cleanup()

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the images that go out [pixels]."""
        model = self.require_simulator().model
        return (
            self.value("output_height") or model.image_height,
            self.value("output_width") or model.image_width,
        )


def _namespace(name: str) -> str:
    try:
        validate_namespace(f"/{name.lstrip('/')}")
    except InvalidNamespaceException as error:
        raise argparse.ArgumentTypeError(" ".join(str(error).split())) from None
    return name


def _parser() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="genie_simulator",
        description="A learned robot simulator: camera images and actions in, imagined frames out.",
        epilog="example: genie_simulator --namespaces robot_1 robot_2 --ros-args -p model_path:=/path/to/model",
    )
    options.add_argument(
        "--namespaces",
        nargs="+",
        default=[None],
        metavar="NS",
        type=_namespace,
        help="one node in each of these namespaces; they share one model in memory",
    )
    return options


def main() -> int:
    """Console script `genie_simulator`."""
    args = _parser().parse_args(remove_ros_args(sys.argv)[1:])
    return run_nodes(
        [
            partial(GenieSimulator, namespace=namespace) if namespace else GenieSimulator
            for namespace in args.namespaces
        ],
        Worlds,
    )


if __name__ == "__main__":
    sys.exit(main())
