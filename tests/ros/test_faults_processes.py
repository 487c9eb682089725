"""Processes that die, meet, miss each other, or lose their files and their memory (docs/ros2_faults.md)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import NODE, PATIENCE_S, NodeProcess, free_domain, make_model, model_arguments
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction
from genie_robot_interfaces.srv import Step
from genie_robot_ros.client import ClientError, SimulatorClient
from lifecycle_msgs.msg import State, Transition
from test_faults import change_state, imagine, state_of, value_of
from test_modes import infos_where, set_parameters
from test_node import call, listen, picture, wait_for_level

ERROR, WARN, OK = DiagnosticStatus.ERROR, DiagnosticStatus.WARN, DiagnosticStatus.OK
StartNode = Callable[..., NodeProcess]


def test_the_model_folder_is_truncated_removed_and_replaced(
    start_node: StartNode, own_client: SimulatorClient, model_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(model_folder, tmp_path / "model")
    node = start_node(*model_arguments(folder))
    statuses = listen(own_client, DiagnosticArray, "/diagnostics")
    old_hash = own_client.wait_for_simulator(PATIENCE_S).model_hash

    def frame() -> np.ndarray:
        own_client.reset(1, frames=[picture()])
        return imagine(own_client, 3)[0]

    wanted = frame()
    os.truncate(folder / "model.safetensors", 1000)
    np.testing.assert_array_equal(frame(), wanted)  # what is loaded needs its files no more
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert change_state(own_client, transition)
    assert not change_state(own_client, Transition.TRANSITION_CONFIGURE)
    wait_for_level(own_client, statuses, "world model", ERROR, "copy the model folder again")
    set_parameters(own_client, device="cuda:99")
    assert not change_state(own_client, Transition.TRANSITION_CONFIGURE)
    wait_for_level(own_client, statuses, "world model", ERROR, "cannot load the model")
    set_parameters(own_client, device="cpu")
    shutil.rmtree(folder)
    assert not change_state(own_client, Transition.TRANSITION_CONFIGURE)
    wait_for_level(own_client, statuses, "world model", ERROR, "wanted a model folder")
    assert state_of(own_client) == State.PRIMARY_STATE_UNCONFIGURED
    make_model(folder, seed=1)
    for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
        assert change_state(own_client, transition)
    new_hash = own_client.wait_for_simulator(PATIENCE_S).model_hash
    assert new_hash != old_hash
    assert (frame() != wanted).any()
    active = wait_for_level(own_client, statuses, "world model", OK, "active")
    assert active.hardware_id == new_hash
    errors = [line for line in node.text().splitlines() if "[ERROR]" in line]
    assert len(errors) == 3 and all(str(folder) in line for line in errors)
    assert node.stop() == 0
    assert "Traceback" not in node.text()


def test_out_of_memory_frees_the_model_and_can_be_mended(
    start_node: StartNode, own_client: SimulatorClient, model_folder: Path
) -> None:
    node = start_node(
        *model_arguments(model_folder), program=(str(Path(__file__).with_name("faulty_node.py")),)
    )
    statuses = listen(own_client, DiagnosticArray, "/diagnostics")
    own_client.wait_for_simulator(PATIENCE_S)
    for way in ("topic", "service"):
        own_client.reset(0, frames=[picture()])
        if way == "topic":
            own_client.send(7)
            own_client.spin_until(
                lambda: any("out of memory" in info.message for info in own_client.received.infos),
                PATIENCE_S,
                "the refused command",
            )
            [refused] = infos_where(own_client, status=ImaginedFrameInfo.STATUS_REJECTED)
            assert refused.code == 7
        else:
            answer = call(own_client, Step, "step", Step.Request(action=LatentAction(code=7)))
            assert not answer.success and "out of memory" in answer.message
        failed = wait_for_level(own_client, statuses, "world model", ERROR, "out of memory on cpu")
        assert "configure and activate the node again" in failed.message
        own_client.spin_until(
            lambda: state_of(own_client) == State.PRIMARY_STATE_UNCONFIGURED, PATIENCE_S, "the end of it"
        )
        answer = call(own_client, Step, "step", Step.Request())
        assert not answer.success and "not active" in answer.message
        for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
            assert change_state(own_client, transition)
        assert state_of(own_client) == State.PRIMARY_STATE_ACTIVE
    own_client.reset(0, frames=[picture()])
    assert len(imagine(own_client, 7)) == 1
    mended = wait_for_level(own_client, statuses, "world model", WARN, "~/step rejected")  # an error no more
    assert value_of(mended, "state") == "active"
    set_parameters(
        own_client, mode="shadow", camera_timeout_s=0.1
    )  # which needs a camera; there never was one
    wait_for_level(own_client, statuses, "camera", ERROR, "no image on /image_raw")
    assert node.stop() == 0
    assert "Traceback" not in node.text()


def test_killed_restarted_and_one_too_many(
    start_node: StartNode, own_client: SimulatorClient, model_folder: Path
) -> None:
    """The same client goes on with the new node after a reset; a second node of the name is a warning on both."""
    first = start_node(*model_arguments(model_folder))
    own_client.wait_for_simulator(PATIENCE_S)
    own_client.reset(4, frames=[picture()])
    wanted = imagine(own_client, 1, 2)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    with pytest.raises(ClientError, match=r"waited 0\.5 s for the answer of genie_simulator/reset"):
        own_client.reset(4, frames=[picture()], timeout_s=0.5)
    second = start_node(*model_arguments(model_folder))
    second.wait_for("active: camera")
    own_client.wait_for_simulator(PATIENCE_S)
    answer = call(own_client, Step, "step", Step.Request())
    assert not answer.success and "no prompt yet" in answer.message
    own_client.reset(4, frames=[picture()])
    np.testing.assert_array_equal(imagine(own_client, 1, 2), wanted)

    statuses = listen(own_client, DiagnosticArray, "/diagnostics")
    twin = start_node(*model_arguments(model_folder, "autostart:=false"))
    said = f"named {NODE}; rename or stop one of them"
    for _ in range(2):  # each of the two says so
        statuses.clear()
        wait_for_level(own_client, statuses, "world model", WARN, said)
    assert twin.stop(signal.SIGTERM) == 0
    assert second.stop() == 0
    assert "Traceback" not in second.text() + twin.text()


def test_a_client_in_another_domain_says_what_to_look_at(tmp_path: Path, own_domain) -> None:
    """Whether there is a node in another domain makes no difference: it cannot be seen."""
    other = str(free_domain())
    assert other != os.environ["ROS_DOMAIN_ID"]
    prompt = tmp_path / "prompt.png"
    cv2.imwrite(str(prompt), picture())
    command = [sys.executable, "-m", "genie_robot_ros.round_trip", "--prompt", str(prompt), "--wait", "0.5"]
    ended = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        env=os.environ | {"ROS_DOMAIN_ID": other},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert "waited 0.5 s for the service get_codebook" in line
    assert f"same ROS_DOMAIN_ID ({other} here) and ROS_AUTOMATIC_DISCOVERY_RANGE (LOCALHOST here)" in line
