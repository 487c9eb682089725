"""Test policies of graded skill that see pixels only, so that one object runs in MuJoCo and in imagination.

    policy = make_policy("scripted-0.8", "manipulation", "push", Resources(eyes=load_probe(folder).eyes))
    policy.reset(seed=7)
    action = policy.act(image)

All randomness of an episode comes from one stream that depends on policy, task and seed only: the same stream in every
world. `protocol` says what a policy is, `registry` which there are.
"""

from genie_robot.simulation.policies.cloned import Clones, load_clones
from genie_robot.simulation.policies.latent_clone import LatentActor
from genie_robot.simulation.policies.pixel import PixelPolicy
from genie_robot.simulation.policies.protocol import Eyes, GroupPolicy, Policy, act_all, episode_stream
from genie_robot.simulation.policies.registry import (
    MANIPULATION_POLICY_NAMES,
    POLICY_NAMES,
    Resources,
    make_policy,
    policy_names,
    was_seen_in_training,
)

__all__ = [
    "MANIPULATION_POLICY_NAMES",
    "POLICY_NAMES",
    "Clones",
    "Eyes",
    "GroupPolicy",
    "LatentActor",
    "PixelPolicy",
    "Policy",
    "Resources",
    "act_all",
    "episode_stream",
    "load_clones",
    "make_policy",
    "policy_names",
    "was_seen_in_training",
]
