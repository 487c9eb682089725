"""The action ~/rollout over DDS: feedback for each frame, cancel, refusals, and how it ends."""

from __future__ import annotations

import numpy as np
import pytest
from action_msgs.msg import GoalStatus
from conftest import NODE, PATIENCE_S
from genie_robot_interfaces.action import Rollout
from genie_robot_interfaces.msg import LatentAction, RobotAction
from genie_robot_interfaces.srv import Step
from genie_robot_ros import convert
from genie_robot_ros.client import SimulatorClient
from geometry_msgs.msg import Vector3
from rclpy.action import ActionClient
from test_node import call, picture


@pytest.fixture
def rollouts(live_client: SimulatorClient):
    action_client = ActionClient(live_client, Rollout, f"{NODE}/rollout")
    live_client.spin_until(action_client.server_is_ready, PATIENCE_S, "the action rollout")
    yield action_client
    action_client.destroy()


def send(client: SimulatorClient, rollouts: ActionClient, goal: Rollout.Goal):
    """Send a goal -> (handle, the feedback that comes in)."""
    feedback: list[Rollout.Feedback] = []
    future = rollouts.send_goal_async(
        goal, feedback_callback=lambda message: feedback.append(message.feedback)
    )
    client.spin_until(future.done, PATIENCE_S, "the goal's acceptance")
    return future.result(), feedback


def result_of(client: SimulatorClient, handle) -> tuple[int, Rollout.Result]:
    future = handle.get_result_async()
    client.spin_until(future.done, PATIENCE_S, "the result")
    return future.result().status, future.result().result


def test_every_action_gives_a_frame_equal_to_single_steps(
    live_client: SimulatorClient, rollouts: ActionClient
) -> None:
    codes = [3, 3, 1, 6, 0]
    live_client.reset(9, frames=[picture()])
    wanted = []
    for code in codes:
        answer = call(live_client, Step, "step", Step.Request(action=LatentAction(code=code)))
        wanted.append(convert.image_to_frame(answer.image))
    handle, feedback = send(live_client, rollouts, Rollout.Goal(codes=codes, restart=True, seed=9))
    assert handle.accepted
    status, result = result_of(live_client, handle)
    live_client.spin_until(lambda: len(feedback) == 5, PATIENCE_S, "feedback")  # may come after the result
    assert (status, result.success, result.termination) == (GoalStatus.STATUS_SUCCEEDED, True, "finished")
    assert (result.steps, result.model_ms > 0) == (5, True)
    assert [(f.step, f.info.code, f.info.sequence) for f in feedback] == [
        (k + 1, c, k + 1) for k, c in enumerate(codes)
    ]
    np.testing.assert_array_equal([convert.image_to_frame(f.image) for f in feedback], wanted)
    np.testing.assert_array_equal(convert.image_to_frame(result.image), wanted[-1])


def test_robot_actions_roll_out_too(live_client: SimulatorClient, rollouts: ActionClient) -> None:
    live_client.reset(9, frames=[picture()])
    actions = [RobotAction(translation=Vector3(y=-0.04)), RobotAction(gripper=-1.0)]
    handle, feedback = send(live_client, rollouts, Rollout.Goal(robot_actions=actions))
    assert result_of(live_client, handle)[1].success
    live_client.spin_until(lambda: len(feedback) == 2, PATIENCE_S, "feedback")
    assert [f.info.name for f in feedback] == ["right", "open"]


def test_cancel_ends_it_and_others_are_refused_meanwhile(
    live_client: SimulatorClient, rollouts: ActionClient
) -> None:
    live_client.reset(0, frames=[picture()])
    handle, feedback = send(live_client, rollouts, Rollout.Goal(codes=[1] * 5000))
    live_client.spin_until(lambda: bool(feedback), PATIENCE_S, "the first frame")
    second, _ = send(live_client, rollouts, Rollout.Goal(codes=[1]))
    assert not second.accepted
    answer = call(live_client, Step, "step", Step.Request())
    assert not answer.success and "rollout is running" in answer.message
    live_client.send(2)
    live_client.spin_until(
        lambda: any("rollout is running" in i.message for i in live_client.received.infos),
        PATIENCE_S,
        "the no",
    )
    seen = len(feedback)
    canceling = handle.cancel_goal_async()
    status, result = result_of(live_client, handle)
    live_client.spin_until(canceling.done, PATIENCE_S, "the cancel's answer")
    assert (status, result.success, result.termination) == (GoalStatus.STATUS_CANCELED, False, "canceled")
    assert seen <= result.steps < 5000
    third, _ = send(live_client, rollouts, Rollout.Goal(codes=[1]))
    assert third.accepted and result_of(live_client, third)[1].success


def test_a_reset_ends_it(live_client: SimulatorClient, rollouts: ActionClient) -> None:
    live_client.reset(0, frames=[picture()])
    handle, feedback = send(live_client, rollouts, Rollout.Goal(codes=[1] * 5000))
    live_client.spin_until(lambda: bool(feedback), PATIENCE_S, "the first frame")
    live_client.reset(1, frames=[picture(1)])
    status, result = result_of(live_client, handle)
    assert (status, result.termination) == (GoalStatus.STATUS_ABORTED, "reset")
    assert "episode" in result.message


@pytest.mark.parametrize(
    "goal",
    [
        Rollout.Goal(),
        Rollout.Goal(codes=[8]),
        Rollout.Goal(codes=[1], robot_actions=[RobotAction()]),
        Rollout.Goal(codes=[0] * 10_001),
        Rollout.Goal(robot_actions=[RobotAction(gripper=float("nan"))]),
    ],
    ids=["empty", "unknown code", "both lists", "too long", "nan"],
)
def test_wrong_goals_are_refused(
    live_client: SimulatorClient, rollouts: ActionClient, goal: Rollout.Goal
) -> None:
    live_client.reset(0, frames=[picture()])
    handle, _ = send(live_client, rollouts, goal)
    assert not handle.accepted
