"""Any Python policy as a ROS 2 node (`PolicyNode`), and any such node as a Python policy (`RemotePolicy`)."""

from genie_policy_client.policy_node import Policy, PolicyNode, run_policy
from genie_policy_client.remote_policy import RemotePolicy

__all__ = ["Policy", "PolicyNode", "RemotePolicy", "run_policy"]
