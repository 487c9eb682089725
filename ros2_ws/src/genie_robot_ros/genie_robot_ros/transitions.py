"""Lifecycle transitions that the present state does not allow."""

from __future__ import annotations

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleNode


def refuse_impossible_transitions(node: LifecycleNode) -> None:
    """Answer them with success false and one WARN line: rclpy 7.1 raises, which would end the node's executor."""
    [service] = [service for service in node.services if service.srv_type is ChangeState]
    change_state = service.callback

    def on_change_state(request: ChangeState.Request, response: ChangeState.Response) -> ChangeState.Response:
        try:
            return change_state(request, response)
        except RuntimeError:  # base of rclpy's RCLError
            wanted = request.transition.label or request.transition.id
            node.get_logger().warning(f"transition {wanted} refused: the present state has no such one")
            response.success = False
            return response

    service.callback = on_change_state
