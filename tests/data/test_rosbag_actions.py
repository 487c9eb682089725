"""Actions of four message types and joint positions, aligned with a bag's frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.bags import dataset as bag_dataset
from genie_robot.data.bags.dataset import BagDataset
from genie_robot.data.resample import combine_actions
from genie_robot.errors import CorruptRecordError, DataError
from tests.bags import (
    SECOND,
    START_NS,
    STORE,
    camera_messages,
    joints,
    pose,
    robot_action,
    twist,
    write_bag,
)


def test_robot_actions_belong_to_the_step_they_begin(tmp_path: Path) -> None:
    """Two commands within one step are one action; a step without a command is zeros: keep still."""
    actions = [
        robot_action(START_NS + ms * 1_000_000, row)
        for ms, row in (
            (0, [0.01, 0, 0, 0, 0, 0.1, 1]),
            (50, [0.02, 0, 0, 0, 0, 0.2, 0]),
            (100, [0, 0.03, 0, 0.3, 0, 0, -1]),
            (299, [0, 0, 0.04, 0, 0, 0, 0]),
            (300, [9, 9, 9, 0, 0, 0, 0]),  # begins at the last frame: padding
        )
    ]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*camera_messages(4), *actions]))
    [episode] = dataset.episodes(actions=True)
    wanted = [[0.03, 0, 0, 0, 0, 0.3, 1], [0, 0.03, 0, 0.3, 0, 0, -1], [0, 0, 0.04, 0, 0, 0, 0], [0] * 7]
    assert episode.actions_TA is not None
    np.testing.assert_allclose(episode.actions_TA, wanted, atol=1e-6)
    [without] = dataset.episodes(actions=lambda source: False)
    assert without.actions_TA is None


def test_velocities_are_integrated_and_stop_when_commands_stop(tmp_path: Path) -> None:
    commands = [twist(START_NS, [1, 0, 0], [0, 0, 0.5]), twist(START_NS + SECOND // 4, [0, 2, 0], [0, 0, 0])]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*camera_messages(11), *commands]))
    [episode] = dataset.episodes(actions=True)
    assert episode.actions_TA is not None
    np.testing.assert_allclose(episode.actions_TA[:3, 0], [0.1, 0.1, 0.05], atol=1e-6)
    np.testing.assert_allclose(episode.actions_TA[:3, 5], [0.05, 0.05, 0.025], atol=1e-6)
    # the second command holds for half a second: from 0.25 to 0.75
    np.testing.assert_allclose(
        episode.actions_TA[:, 1], [0, 0, 0.1, 0.2, 0.2, 0.2, 0.2, 0.1, 0, 0, 0], atol=1e-6
    )
    assert (episode.actions_TA[:, 6] == 0).all()


def test_poses_become_deltas_in_the_base_frame(tmp_path: Path) -> None:
    poses = [pose(START_NS + k * SECOND // 20, [0.02 * k, 0, 1], [0, 0, 0.1 * k]) for k in range(9)]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*camera_messages(5), *poses]))
    [episode] = dataset.episodes(actions=True)
    assert episode.actions_TA is not None
    np.testing.assert_allclose(episode.actions_TA[:-1, :3], [[0.04, 0, 0]] * 4, atol=1e-6)
    np.testing.assert_allclose(episode.actions_TA[:-1, 3:6], [[0, 0, 0.2]] * 4, atol=1e-6)


def test_which_action_topic(tmp_path: Path) -> None:
    messages = [*camera_messages(3), twist(START_NS, [1, 0, 0], [0, 0, 0])]
    other = ("/cmd_2", *twist(START_NS, [5, 0, 0], [0, 0, 0])[1:])
    dataset = BagDataset(write_bag(tmp_path / "bag", [*messages, other]))
    with pytest.raises(DataError, match=r"2 action topics \(/cmd .*, /cmd_2 .*wanted one: name it"):
        dataset.episodes(actions=True)
    named = BagDataset(tmp_path / "bag", action_topic="/cmd_2")
    episode = next(named.episodes(actions=True))
    assert episode.actions_TA is not None and episode.actions_TA[0, 0] == pytest.approx(0.5)
    with pytest.raises(DataError, match="no actions on '/joy'"):
        BagDataset(tmp_path / "bag", action_topic="/joy").episodes(actions=True)
    with pytest.raises(DataError, match="has no action topic; wanted genie_robot_interfaces"):
        BagDataset(write_bag(tmp_path / "mute", camera_messages(3))).episodes(actions=True)


def test_one_bad_action_message_costs_its_step(tmp_path: Path) -> None:
    """Not the bag: it is dropped and counted, and only the steps it has a part in are without a label."""
    actions = [robot_action(START_NS + k * SECOND // 10, [0.01 * k, 0, 0, 0, 0, 0.1, 1]) for k in range(8)]
    actions[2] = robot_action(START_NS + 2 * SECOND // 10, [np.nan, 0, 0, 0, 0, 0, 0])
    topic, msgtype, receive_ns, content = actions[5]
    actions[5] = topic, msgtype, receive_ns, bytes(STORE.serialize_cdr(content, msgtype))[:-20]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*camera_messages(8), *actions]))
    with pytest.raises(CorruptRecordError, match=r"message 2 of /robot_action: \[nan.*wanted finite numbers"):
        list(dataset.episodes(actions=True))
    for _ in range(2):  # counted anew each time
        [episode] = dataset.episodes(actions=True, skip_bad=True)
        assert dataset.bad_records == 2 and "message 5 of /robot_action: no genie_robot" in str(
            dataset.bad[1]
        )
    assert episode.actions_TA is not None
    lost = np.isnan(episode.actions_TA)
    assert lost.any(axis=1).tolist() == [False, False, True, False, False, True, False, False]
    assert lost[[2, 5]].all()
    np.testing.assert_allclose(episode.actions_TA[[0, 1, 3, 4, 6], 0], [0, 0.01, 0.03, 0.04, 0.06], atol=1e-6)
    [without] = dataset.episodes()  # who does not ask for actions does not meet them
    assert without.num_frames == 8
    [thin] = dataset.episodes(actions=True, skip_bad=True, stride=2)
    assert thin.actions_TA is not None
    assert np.isnan(thin.actions_TA).any(axis=1).tolist() == [False, True, True, False]


def test_how_far_a_lost_command_reaches(tmp_path: Path) -> None:
    """A velocity holds until the next one, a pose has a part in the steps before and behind it."""
    twists = [twist(START_NS + k * SECOND // 5, [1, 0, 0], [0, 0, 0]) for k in range(5)]
    poses = [pose(START_NS + k * SECOND // 5, [0.02 * k, 0, 1], [0, 0, 0]) for k in range(5)]
    wanted = {"twist": [4, 5], "pose": [2, 3, 4, 5]}
    for name, messages in (("twist", twists), ("pose", poses)):
        topic, msgtype, receive_ns, content = messages[2]
        messages[2] = topic, msgtype, receive_ns, bytes(STORE.serialize_cdr(content, msgtype))[:-20]
        dataset = BagDataset(write_bag(tmp_path / name, [*camera_messages(9), *messages]))
        [episode] = dataset.episodes(actions=True, skip_bad=True)
        assert episode.actions_TA is not None
        assert np.flatnonzero(np.isnan(episode.actions_TA[:, 0])).tolist() == wanted[name], name


def test_a_bad_joint_message_is_left_out(tmp_path: Path) -> None:
    messages = [joints(START_NS + k * SECOND // 40, elbow=k) for k in range(13)]
    topic, msgtype, receive_ns, content = messages[4]
    messages[4] = topic, msgtype, receive_ns, bytes(STORE.serialize_cdr(content, msgtype))[:-24]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*camera_messages(4), *messages]))
    [episode] = dataset.episodes(state=True, skip_bad=True)
    assert episode.state_TS is not None and dataset.bad_records == 1
    assert episode.state_TS[1, 0] in (3, 5)  # the nearest that is left
    np.testing.assert_array_equal(episode.state_TS[[0, 2, 3], 0], [0, 8, 12])


def test_joint_positions_are_the_state(tmp_path: Path) -> None:
    """At another rate, in another order, and some messages with only some of the joints."""
    messages = camera_messages(4)
    for k in range(13):
        stamp = START_NS + k * SECOND // 40
        messages.append(joints(stamp, elbow=k, wrist=-k) if k % 2 else joints(stamp, elbow=k))
    dataset = BagDataset(write_bag(tmp_path / "bag", messages))
    assert dataset.state_names == ["elbow", "wrist"]
    [episode] = dataset.episodes(state=True)
    assert episode.state_TS is not None
    np.testing.assert_array_equal(episode.state_TS, [[0, -1], [4, -3], [8, -7], [12, -11]])
    with pytest.raises(DataError, match="no sensor_msgs/msg/JointState topic"):
        BagDataset(write_bag(tmp_path / "mute", camera_messages(3))).episodes(state=True)


def test_a_stride_is_applied_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = [
        robot_action(START_NS + k * SECOND // 10, [0.01 * k, 0, 0, 0.3, 0.2 * k, 0, 1]) for k in range(9)
    ]
    dataset = BagDataset(write_bag(tmp_path / "bag", [*camera_messages(9), *commands]))
    [full] = dataset.episodes(actions=True)
    decoded: list[int] = []
    original = bag_dataset.decode_frame
    monkeypatch.setattr(bag_dataset, "decode_frame", lambda message: decoded.append(1) or original(message))
    [episode] = dataset.episodes(actions=True, stride=3)
    assert len(decoded) == 3 and episode.source == full.source
    assert episode.dt_s == pytest.approx(3 * full.dt_s)
    np.testing.assert_array_equal(episode.frames_TYXC, full.frames_TYXC[::3])
    assert episode.actions_TA is not None and full.actions_TA is not None
    np.testing.assert_array_equal(episode.actions_TA, combine_actions(full.actions_TA, 3))
    # turns are made one after another, whichever way the rate is lowered
    [slow] = BagDataset(tmp_path / "bag", rate_hz=10 / 3).episodes(actions=True)
    assert slow.actions_TA is not None
    np.testing.assert_allclose(slow.actions_TA[:2], episode.actions_TA[:2], atol=1e-5)
