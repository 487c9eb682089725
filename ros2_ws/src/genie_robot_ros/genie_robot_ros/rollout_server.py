"""The action ~/rollout: a list of actions in, a frame of feedback for each, cancel before the next frame."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from genie_robot_interfaces.action import Rollout
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup

from genie_robot.errors import GenieError
from genie_robot_ros import convert
from genie_robot_ros.diagnostics import one_line
from genie_robot_ros.model_thread import DroppedError, RefusedError
from genie_robot_ros.outputs import info_of
from genie_robot_ros.realtime import Command
from genie_robot_ros.simulator import ImaginedFrame

if TYPE_CHECKING:
    from genie_robot_ros.simulator_node import GenieSimulator

MAX_ACTIONS = 10_000
RESULT_KEPT_S = 10  # an image each: rclpy's 900 s would be a gigabyte under many short rollouts
LOOK_EVERY_S = 1.0


class _Stop(Exception):
    """The rollout ends before its last action."""

    def __init__(self, termination: str, message: str) -> None:
        super().__init__(message)
        self.termination = termination


class _Listeners:
    """Those who listened to the feedback when the rollout began, or a moment later: discovery takes its time.

    The client is one of them, and nothing tells which one. Who comes later (another client that waits for its turn)
    does not count, so that a client that died is noticed: at its process's end, or, killed, after the DDS lease.
    """

    def __init__(self, node: GenieSimulator, topic: str) -> None:
        self._node, self._topic = node, topic
        self._first, self._is_complete = self._present(), False
        self._next_look_s = time.monotonic() + LOOK_EVERY_S

    def are_gone(self) -> bool:
        """Whether there were some and none of them is left; looks once a second."""
        if time.monotonic() < self._next_look_s:
            return False
        self._next_look_s = time.monotonic() + LOOK_EVERY_S
        present = self._present()
        if not self._is_complete:
            self._first |= present
            self._is_complete = True
        return bool(self._first) and not self._first & present

    def _present(self) -> set[bytes]:
        infos = self._node.get_subscriptions_info_by_topic(self._topic)
        return {bytes(info.endpoint_gid) for info in infos}


class RolloutServer:
    """One goal at a time. While one runs, no other command moves the world."""

    def __init__(self, node: GenieSimulator) -> None:
        self._node = node
        self.is_running = False
        self._server = ActionServer(
            node,
            Rollout,
            "~/rollout",
            self._execute,
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
            result_timeout=RESULT_KEPT_S,
        )
        self._feedback_topic = f"{node.get_fully_qualified_name()}/rollout/_action/feedback"

    def close(self) -> None:
        """Leave the graph."""
        self._server.destroy()

    def _on_goal(self, goal: Rollout.Goal) -> GoalResponse:
        """An action server cannot say why it refuses a goal: the log and the diagnostics do."""
        node = self._node
        try:
            _check(goal)
            node.require_free("~/rollout")
            for command in _commands(goal):
                node.require_active().code_of(command)
        except (GenieError, RefusedError) as error:
            node.world_problems.add("requests_rejected", f"~/rollout rejected: {error}")
            node.get_logger().warning(f"~/rollout rejected: {error}")
            return GoalResponse.REJECT
        return GoalResponse.ACCEPT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        """Not reached when the client went away before it heard of its goal's acceptance."""
        self.is_running = True
        handle.execute()

    async def _execute(self, handle: ServerGoalHandle) -> Rollout.Result:
        result = Rollout.Result()
        try:
            await self._run(handle, result)
            result.success, result.termination = True, Rollout.Result.TERMINATION_FINISHED
            handle.succeed()
        except _Stop as stop:
            result.message, result.termination = str(stop), stop.termination
            if stop.termination == Rollout.Result.TERMINATION_CANCELED:
                handle.canceled()
            else:
                handle.abort()
        except (GenieError, RefusedError) as error:
            result.message, result.termination = str(error), self._why_refused(error)
            handle.abort()
        except Exception as error:
            self._node.fail("~/rollout", error)
            result.message, result.termination = one_line(error), Rollout.Result.TERMINATION_FAILED
            handle.abort()
        finally:
            self.is_running = False
        return result

    def _why_refused(self, error: Exception) -> str:
        if self._node.lane is None:
            return Rollout.Result.TERMINATION_DEACTIVATED
        if isinstance(error, DroppedError):
            return Rollout.Result.TERMINATION_RESET
        return Rollout.Result.TERMINATION_FAILED

    async def _run(self, handle: ServerGoalHandle, result: Rollout.Result) -> None:
        node, goal = self._node, handle.request
        if goal.restart:
            seed = goal.seed if goal.seed >= 0 else node.value("seed")
            await node.reset(node.require_active().prompt, seed)
        episode = node.require_active().episode
        listeners = _Listeners(node, self._feedback_topic)
        for number, command in enumerate(_commands(goal), start=1):
            if listeners.are_gone():
                kind = Rollout.Result.TERMINATION_CLIENT_GONE
                raise _Stop(kind, f"nobody listens to {self._feedback_topic} any more")
            if handle.is_cancel_requested:
                raise _Stop(Rollout.Result.TERMINATION_CANCELED, f"canceled after {result.steps} frames")
            info, image = await node.wait_for(node.submit(partial(self._step, command, episode)))
            result.steps, result.image = number, image
            result.model_ms += info.model_ms
            handle.publish_feedback(Rollout.Feedback(step=number, info=info, image=image))

    def _step(self, command: Command, episode: int, queue_ms: float) -> tuple[Any, Any]:
        """One frame in the model thread."""
        node = self._node
        simulator = node.require_active()
        if simulator.episode != episode:
            raise _Stop(Rollout.Result.TERMINATION_RESET, "a reset began another episode")
        imagined: ImaginedFrame = simulator.step(command)
        image = node.publish_frame(imagined, command.stamp_ns, queue_ms)
        return info_of(imagined, convert.ns_to_stamp(command.stamp_ns), queue_ms), image


def _check(goal: Rollout.Goal) -> None:
    counts = (len(goal.codes), len(goal.robot_actions))
    if min(counts) != 0 or not 1 <= max(counts) <= MAX_ACTIONS:
        raise RefusedError(
            f"goal has {counts[0]} codes and {counts[1]} robot_actions; give one of the two lists, with 1 to "
            f"{MAX_ACTIONS} actions"
        )


def _commands(goal: Rollout.Goal) -> list[Command]:
    if goal.robot_actions:
        return [
            Command(convert.stamp_to_ns(action.header.stamp), vector=convert.robot_action_to_vector(action))
            for action in goal.robot_actions
        ]
    return [Command(0, int(code)) for code in goal.codes]
