"""The command topics, and what a command does in each mode."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction, RobotAction
from rclpy.event_handler import SubscriptionEventCallbacks
from std_msgs.msg import Int32

from genie_robot.errors import GenieError
from genie_robot_ros import convert
from genie_robot_ros.diagnostics import one_line
from genie_robot_ros.model_thread import RefusedError
from genie_robot_ros.realtime import Command, HeldCommand, Ticks

if TYPE_CHECKING:
    from genie_robot_ros.simulator_node import GenieSimulator

# Event handlers cost time at every turn of the executor (see spin.StreamExecutor), and commands fit every common QoS.
NO_EVENTS = SubscriptionEventCallbacks(use_default_callbacks=False)
# Commands are small: a deep history costs nothing, and a burst sent faster than Python takes it is not lost.
COMMAND_DEPTH = 500


class Commands:
    """Mode step: a frame for each command, in order. Modes realtime and shadow: the newest command is in force."""

    def __init__(self, node: GenieSimulator) -> None:
        self._node = node
        self.held = HeldCommand()
        self.ticks = Ticks()
        self._ticker = None
        subscribe = partial(node.create_subscription, callback_group=node.streams, event_callbacks=NO_EVENTS)
        subscribe(LatentAction, "latent_action", self._on_latent_action, COMMAND_DEPTH)
        subscribe(RobotAction, "robot_action", self._on_robot_action, COMMAND_DEPTH)
        subscribe(Int32, "~/action_index", self._on_action_index, COMMAND_DEPTH)

    def start(self) -> None:
        """Begin to tick, if the mode is realtime (at its rate)."""
        self.stop()
        node = self._node
        if node.value("mode") == "realtime":
            simulator = node.require_simulator()
            period_s = 1.0 / node.value("rate_hz") if node.value("rate_hz") else simulator.model.dt_s
            self._ticker = node.create_timer(period_s, self._on_tick, callback_group=node.streams)

    def stop(self) -> None:
        """Tick no more."""
        if self._ticker is not None:
            self._node.destroy_timer(self._ticker)
        self._ticker = None

    def forget(self, reason: str) -> None:
        """No command is in force any more, and no tick is owed."""
        self.ticks.forget_missed()
        unused = self.held.clear()
        if unused is not None:
            self.drop(unused, reason)

    def reject(self, command: Command, reason: str) -> None:
        """Say to the sender, the log and the diagnostics that a command was refused."""
        self._node.world_problems.add("commands_rejected", f"command rejected: {reason}")
        self._node.get_logger().warning(f"command rejected: {reason}", throttle_duration_sec=1.0)
        self._node.outputs.publish_no_frame(command, ImaginedFrameInfo.STATUS_REJECTED, reason)

    def drop(self, command: Command, reason: str) -> None:
        """Say to the sender and the diagnostics that a sound command gave no frame."""
        self._node.world_problems.add("commands_dropped", f"command dropped: {reason}")
        self._node.outputs.publish_no_frame(command, ImaginedFrameInfo.STATUS_DROPPED, reason)

    def _on_latent_action(self, msg: LatentAction) -> None:
        self._take(Command(convert.stamp_to_ns(msg.header.stamp), msg.code))

    def _on_action_index(self, msg: Int32) -> None:
        self._take(Command(0, msg.data))

    def _on_robot_action(self, msg: RobotAction) -> None:
        stamp_ns = convert.stamp_to_ns(msg.header.stamp)
        try:
            vector = convert.robot_action_to_vector(msg)
        except GenieError as error:
            self.reject(Command(stamp_ns), str(error))
            return
        self._take(Command(stamp_ns, vector=vector))

    def _take(self, command: Command) -> None:
        node = self._node
        try:
            if node.value("mode") == "step":
                node.require_free("a command")
                future = node.submit(partial(self._run_in_turn, command))
                # refused while it waited: by a reset, or at deactivation
                future.add_done_callback(
                    lambda done: self.drop(command, str(done.exception())) if done.exception() else None
                )
                return
            simulator = node.require_active()
            simulator.code_of(command)
            if node.value("mode") == "realtime":
                _ = simulator.prompt  # without one no tick would ever take the command
        except (GenieError, RefusedError) as error:
            self.reject(command, str(error))
            return
        superseded = self.held.put(command)
        if superseded is not None:
            self.drop(superseded, "a newer command came before the model could take this one")

    def _run_in_turn(self, command: Command, queue_ms: float) -> None:
        """One of mode step's commands in the model thread; those that still wait when the mode changes are dropped."""
        if self._node.value("mode") == "step":
            self._run(command, queue_ms)
        else:
            self.drop(command, "the mode changed before this command's turn")

    def _run(self, command: Command, queue_ms: float) -> None:
        """One command in the model thread."""
        node = self._node
        try:
            node.publish_frame(node.require_simulator().step(command), command.stamp_ns, queue_ms)
        except (GenieError, RefusedError) as error:
            self.reject(command, str(error))
        except Exception as error:
            node.fail("imagining a frame", error)
            node.outputs.publish_no_frame(command, ImaginedFrameInfo.STATUS_REJECTED, one_line(error))

    def _on_tick(self) -> None:
        if not self._node.rollout.is_running and self.ticks.begin():
            self._submit_tick()

    def _submit_tick(self) -> None:
        try:
            self._node.submit(self._run_tick).add_done_callback(lambda _: self._end_tick())
        except RefusedError:  # deactivated meanwhile
            self.ticks.end("drop")

    def _end_tick(self) -> None:
        if self.ticks.end(self._node.value("late_policy")):
            self._submit_tick()

    def _run_tick(self, queue_ms: float) -> None:
        """One tick of the clock in the model thread: the command in force, or the same picture again without one."""
        node = self._node
        simulator = node.require_simulator()
        if not simulator.has_begun:
            self.ticks.forget_missed()
            return
        if node.value("late_policy") == "drop":
            simulator.skip(self.ticks.take_missed())
        timeout_s = node.value("command_timeout_s")
        expired = self.held.take_expired(timeout_s)
        if expired is not None:
            self.drop(expired, f"the model was busy for longer than command_timeout_s ({timeout_s:g} s)")
        command = self.held.get(timeout_s)
        if command is None:
            node.publish_frame(simulator.hold(), 0, queue_ms)
        else:
            self._run(command, queue_ms)
