"""ROS 2 tests: own domain on the loopback, a small real world model, node and client as real processes."""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest


def free_domain() -> int:
    """A domain in which no process of this machine is: each one there holds a UDP port of the domain's range."""

    def is_free(domain: int) -> bool:
        with contextlib.ExitStack() as sockets:
            for participant in range(10):
                one = sockets.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                try:
                    one.bind(("", 7410 + 250 * domain + 2 * participant))
                except OSError:
                    return False
        return True

    return next(domain for domain in random.SystemRandom().sample(range(1, 102), 101) if is_free(domain))


# Before rclpy is imported: by default discovery leaves the machine, and two test runs would meet.
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
os.environ["ROS_DOMAIN_ID"] = str(free_domain())
os.environ["ROS_PYTHON_CHECK_FIELDS"] = "1"

HOW_TO_BUILD = "the ROS 2 packages are not built in this environment; run: make ros"
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        # the field checks use the parser lark, which imports deprecated modules
        for name in ("lark", "genie_robot_interfaces.msg", "genie_robot_ros", "genie_policy_client"):
            importlib.import_module(name)
    import rclpy
except ImportError:
    rclpy = None

if TYPE_CHECKING:
    from genie_robot_ros.client import SimulatorClient
    from rclpy.client import Client

    from genie_robot.simulation.action_interface import ActionAdapter

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "ros2_ws" / "src" / "genie_robot_ros"
NODE = "/genie_simulator"
PATIENCE_S = 300.0  # for what takes a second on an idle machine: a starved one must not fail a test


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without the built packages the modules cannot be imported; `test_ros_is_built` then says what to run."""
    missing = (
        rclpy is None
        and collection_path.name.startswith("test_")
        and collection_path.parent == Path(__file__).parent
    )
    return True if missing and collection_path.name != "test_built.py" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test of this folder is marked `ros`; starved machines need more than the default time to start nodes."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.ros)
            item.add_marker(pytest.mark.timeout(3 * PATIENCE_S))


def make_model(folder: Path, seed: int = 0) -> Path:
    """A small world model with random weights and named codes, saved as a real model folder."""
    import torch

    from genie_robot.config import (
        DynamicsConfig,
        LatentActionConfig,
        TokenizerConfig,
        TransformerConfig,
        VideoConfig,
        WorldModelConfig,
    )
    from genie_robot.models.world_model import LatentAction, WorldModel

    torch.manual_seed(seed)
    small = TransformerConfig(num_layers=1, dim=16, num_heads=2)
    model = WorldModel(
        WorldModelConfig(
            name="ros-test",
            video=VideoConfig(height=64, width=64, num_frames=8, rate_hz=5.0),
            tokenizer=TokenizerConfig(
                patch_size=8,
                encoder_transformer=small,
                decoder_transformer=small,
                codebook_size=64,
                code_dim=8,
            ),
            latent_action=LatentActionConfig(
                code_dim=8,
                encoder="conv",
                encoder_transformer=small,
                decoder_transformer=small,
                conv_channels=8,
            ),
            dynamics=DynamicsConfig(transformer=small),
        )
    )
    named = [
        ("forward", (0.04, 0.0, 0.0), 0.0),
        ("back", (-0.04, 0.0, 0.0), 0.0),
        ("left", (0.0, 0.038, 0.0), 0.0),
        ("right", (0.0, -0.038, 0.001), 0.0),
        ("up", (0.0, 0.0, 0.035), 0.0),
        ("down", (0.0, 0.0, -0.035), 0.0),
        ("close", (0.0, 0.001, 0.0), -0.4),
        ("open", (0.001, 0.0, 0.0), 0.4),
    ]
    model.latent_actions = tuple(LatentAction(code, *action) for code, action in enumerate(named))
    saved = model.save(folder)
    make_adapter().save(saved)
    return saved


def make_adapter() -> ActionAdapter:
    """Robot actions of -1..1 (1 = 4 cm) along +-x, +-y, +-z and the gripper's two ways -> codes 0 to 7, as named above."""
    import numpy as np

    from genie_robot.simulation.action_interface import fit_adapter

    columns = (0, 0, 1, 1, 2, 2, 6, 6)
    signs = (1, -1, 1, -1, 1, -1, 1, -1)
    actions = np.zeros((8, 7), np.float32)
    actions[range(8), columns] = signs
    return replace(fit_adapter(actions, np.arange(8), 8), metres_per_unit=0.04)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("world") / "ros-test")


class NodeProcess:
    """The simulator as a user starts it, or `program` around it; its log goes to a file."""

    def __init__(
        self,
        log: Path,
        arguments: list[str],
        program: tuple[str, ...] = ("-m", "genie_robot_ros.simulator_node"),
    ) -> None:
        self.log = log
        if arguments and "--ros-args" not in arguments:
            arguments = ["--ros-args", *arguments]
        command = [sys.executable, *program, *arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        with log.open("w") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)

    def text(self) -> str:
        """Everything the node printed so far."""
        return self.log.read_text()

    def wait_for(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Until the node printed `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in self.text():
            assert self.process.poll() is None, f"node ended with {self.process.returncode}:\n{self.text()}"
            assert time.monotonic() < deadline, f"no {text!r} in {timeout_s} s:\n{self.text()}"
            time.sleep(0.05)

    def stop(self, signal_number: int = signal.SIGINT, timeout_s: float = PATIENCE_S) -> int:
        """Signal the node and return its exit code; it is killed if it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal_number)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"node did not end within {timeout_s} s of signal {signal_number}:\n{self.text()}")


def service_client(client: SimulatorClient, kind: type, name: str, node: str = NODE) -> Client:
    """A client of `node`'s service `name` that the node can already answer: an answer sent before it knows whom to is lost.

    DDS makes a process's endpoints known in the order of their creation: once a client made later got an answer, this one will.
    """
    from lifecycle_msgs.srv import GetState

    service = client.create_client(kind, f"{node}/{name}")
    later = client.create_client(GetState, f"{node}/get_state")
    client._ask(later, GetState.Request(), time.monotonic() + PATIENCE_S)
    client.destroy_client(later)
    client.spin_until(service.service_is_ready, PATIENCE_S, name)
    return service


def model_arguments(model_folder: Path, *more: str) -> list[str]:
    """`--ros-args` for a node on this model; `more` are further `name:=value`."""
    settings = [f"model_path:={model_folder}", "maskgit_steps:=2", *more]
    return [part for setting in settings for part in ("-p", setting)]


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes; all are stopped at the end of the test."""
    started: list[NodeProcess] = []

    def start(*arguments: str, **program: tuple[str, ...]) -> NodeProcess:
        node = NodeProcess(tmp_path / f"node{len(started)}.log", list(arguments), **program)
        started.append(node)
        return node

    yield start
    for node in started:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()
        print(f"{node.log.name}:\n{node.text()}")  # pytest shows it of the tests that failed


@pytest.fixture(scope="session")
def live_node(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    """One active node, shared by the tests that leave it as they found it."""
    node = NodeProcess(tmp_path_factory.mktemp("live") / "node.log", model_arguments(model_folder))
    try:
        node.wait_for("active: camera")
        yield node
        assert node.stop() == 0, node.text()
        assert "Traceback" not in node.text()
    finally:
        if node.process.poll() is None:
            node.process.kill()
            node.process.wait()


@pytest.fixture(scope="session")
def ros_context() -> Iterator[None]:
    """One rclpy context for all tests of this process."""
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.fixture
def client(ros_context: None) -> Iterator:
    """A client in this process; the node is another one."""
    from genie_robot_ros.client import SimulatorClient

    simulator_client = SimulatorClient("test_client")
    yield simulator_client
    simulator_client.close()


@pytest.fixture(scope="module")
def own_domain() -> Iterator:
    """A context in a domain of its own, for nodes that bear the shared node's name; processes started meanwhile are in it."""
    domain = free_domain()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        context = rclpy.Context()
        rclpy.init(context=context, domain_id=domain)
        yield context
        rclpy.try_shutdown(context=context)


@pytest.fixture(scope="module")
def own_client(own_domain) -> Iterator:
    """A client in that domain."""
    from genie_robot_ros.client import SimulatorClient

    simulator_client = SimulatorClient("test_client", context=own_domain)
    yield simulator_client
    simulator_client.close()


@pytest.fixture
def live_client(live_node: NodeProcess, client):
    """A client that has found the live node."""
    client.wait_for_simulator(PATIENCE_S)
    return client
