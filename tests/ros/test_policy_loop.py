"""Simulator and policy coupled by topics alone: the same frames as the policy in `ImaginedEnv`, in one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import rclpy
from genie_robot_interfaces.srv import Reset, ResetPolicy
from genie_robot_ros import convert
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from genie_robot.evaluation.probe import load_probe
from genie_robot.simulation.imagined_env import ImaginedEnv
from genie_robot.simulation.policies import Resources, make_policy
from tests.ros.conftest import PATIENCE_S, NodeProcess, model_arguments
from tests.ros.test_policy_evaluation import MODEL, PROBE, Process, start  # noqa: F401 (a fixture)

POLICY, TASK, SEED, STEPS = "expert-0.4", "push", 11, 12
PROMPT_NS = 1_700_000_000_000_000_000


class Lab(Node):
    """Listens to the loop in the namespace /loop and starts its episodes."""

    def __init__(self) -> None:
        super().__init__("lab", namespace="/loop", start_parameter_services=False)
        self.is_alive: Callable[[], bool] = lambda: True
        self.frames: list[tuple[int, np.ndarray]] = []
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self)
        self.create_subscription(Image, "imagined/image_raw", self._on_image, QoSProfile(depth=500))
        self.simulator = self.create_client(Reset, "genie_simulator/reset")
        self.policy = self.create_client(ResetPolicy, "example_policy/reset")

    def close(self) -> None:
        self._executor.shutdown()
        self.destroy_node()

    def begin(self, prompt_YXC: np.ndarray) -> None:
        """Begin an episode; again where the first image came before simulator and policy had discovered each other."""
        header = Header(stamp=convert.ns_to_stamp(PROMPT_NS), frame_id="camera_optical_frame")
        image = convert.frame_to_image(prompt_YXC, header)
        answered_by = -np.inf
        while len(self.frames) < 2:
            if time.monotonic() > answered_by:
                self.call(self.policy, ResetPolicy.Request(task=TASK, seed=SEED))
                self.frames.clear()
                self.call(self.simulator, Reset.Request(seed=SEED, frames=[image]))
                answered_by = time.monotonic() + PATIENCE_S / 10
            self._executor.spin_once(timeout_sec=0.1)

    def call(self, client: rclpy.client.Client, request: object):
        self.spin_until(client.service_is_ready)
        future = client.call_async(request)
        self.spin_until(future.done)
        assert future.result().success, future.result().message

    def spin_until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < deadline, f"waited {PATIENCE_S:g} s"
            assert self.is_alive(), "a node of the loop ended"
            self._executor.spin_once(timeout_sec=0.1)

    def _on_image(self, msg: Image) -> None:
        self.frames.append((convert.stamp_to_ns(msg.header.stamp), convert.image_to_frame(msg)))


@pytest.fixture
def lab(ros_context: None) -> Iterator[Lab]:
    node = Lab()
    yield node
    node.close()


def first_image() -> np.ndarray:
    """A real camera image of the task."""
    pytest.importorskip("mujoco")
    from genie_robot.simulation.mujoco.env import TabletopEnv

    return TabletopEnv(TASK).reset(seed=SEED)[0]


def in_one_process(prompt_YXC: np.ndarray) -> list[np.ndarray]:
    """Frames of `ImaginedEnv` under the policy."""
    env = ImaginedEnv(MODEL, TASK, maskgit_steps=2, temperature=0.3)
    policy = make_policy(POLICY, "tabletop", TASK, Resources(eyes=load_probe(PROBE).eyes))
    policy.reset(SEED)
    frames = [env.reset(seed=SEED, options={"frames": prompt_YXC[None]})[0]]
    for _ in range(STEPS):
        frames.append(env.step(policy.act(frames[-1]))[0])
    return frames


def test_topics_alone_make_the_frames_of_imagined_env(
    lab: Lab,
    start_node: Callable[..., NodeProcess],
    start: Callable[..., Process],  # noqa: F811
) -> None:
    namespace = ["-r", "__ns:=/loop"]
    simulator = start_node(*model_arguments(MODEL, "mode:=step", "temperature:=0.3"), *namespace)
    policy = start(
        "-m", "genie_policy_client.example_policy", "--policy", POLICY, "--probe", PROBE,
        "--ros-args", *namespace, "-r", "image_raw:=imagined/image_raw",
    )  # fmt: skip
    simulator.wait_for("active: camera")
    lab.is_alive = lambda: policy.process.poll() is None and simulator.process.poll() is None
    # both ends of the loop, as seen from here; and each has the other one's
    lab.spin_until(lambda: lab.count_subscribers("imagined/image_raw") > 1)
    lab.spin_until(lambda: lab.count_publishers("robot_action") and lab.count_subscribers("robot_action"))
    prompt = first_image()
    lab.begin(prompt)
    lab.spin_until(lambda: len(lab.frames) > STEPS)
    assert policy.end() == 0, policy.log.read_text()
    assert simulator.stop() == 0, simulator.text()
    for log in (policy.log.read_text(), simulator.text()):
        assert "Traceback" not in log and "ERROR" not in log
    stamps_ns, frames = zip(*lab.frames[: STEPS + 1], strict=True)
    assert np.array_equal(np.diff(stamps_ns), np.full(STEPS, 200_000_000)) and stamps_ns[0] == PROMPT_NS
    for step, (got, want) in enumerate(zip(frames, in_one_process(prompt), strict=True)):
        np.testing.assert_array_equal(got, want, err_msg=f"frame {step}")
