"""`genie-robot ros rerun`: what stands in the Rerun recording of a bag, read back with Rerun itself."""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from genie_robot_interfaces.msg import ImaginedFrameInfo, LatentAction, Surprise
from genie_robot_ros import convert
from genie_robot_ros.markers import latent_action_markers
from genie_robot_ros.path import gripper_path
from genie_robot_ros.share import message_definition
from rclpy.serialization import serialize_message
from std_msgs.msg import Header, String

import genie_robot
from genie_robot.cli import main
from genie_robot.data.bags.file import BagWriter

BEGIN_NS, STEP_NS, STEPS = 1_795_000_000_000_000_000, 200_000_000, 5
FRAMES_TYXC = np.random.default_rng(0).integers(0, 256, (STEPS, 64, 64, 3), dtype=np.uint8)


@pytest.fixture
def without_rerun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rerun", None)  # what Python itself does for "cannot be imported"


@pytest.fixture
def rerun_chunk() -> Any:
    return pytest.importorskip("rerun.chunk", reason="pip install 'genie_robot[rerun]'")


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """What a recorder gets from the node in five steps of mode shadow."""
    path = tmp_path / "bag"
    actions = [
        genie_robot.LatentAction(0, "left", (0, 0.04, 0)),
        genie_robot.LatentAction(1, "close", gripper=-0.4),
    ]
    with BagWriter(path, message_definition) as writer:

        def write(topic: str, message: Any, received_ns: int) -> None:
            writer.add_topic(topic, f"{type(message).__module__.split('.')[0]}/msg/{type(message).__name__}")
            writer.write_raw(topic, received_ns, serialize_message(message))

        for step, frame_YXC in enumerate(FRAMES_TYXC):
            now_ns = BEGIN_NS + step * STEP_NS
            header = Header(stamp=convert.ns_to_stamp(now_ns), frame_id="camera")
            ahead = Header(stamp=convert.ns_to_stamp(now_ns + STEP_NS), frame_id="camera")
            write("/a/image_raw", convert.frame_to_image(frame_YXC, header), now_ns)
            write("/a/imagined/image_raw", convert.frame_to_image(frame_YXC[::-1], ahead), now_ns)
            write("/a/imagined/image_raw/compressed", convert.frame_to_compressed(frame_YXC, ahead), now_ns)
            info = ImaginedFrameInfo(header=ahead, code=1, name="close", model_ms=12.5 + step)
            write("/a/imagined/info", info, now_ns)
            dropped = ImaginedFrameInfo(status=ImaginedFrameInfo.STATUS_DROPPED, code=0, name="left")
            write("/a/imagined/info", dropped, now_ns)
            write("/a/inferred_action", LatentAction(header=header, code=0, name="left"), now_ns)
            write("/a/surprise", Surprise(header=header, distance=0.25, still_distance=0.5), now_ns)
            write("/a/latent_actions", latent_action_markers(actions, step % 2, "base_link"), now_ns)
            positions_m_T3 = np.ones((step + 1, 3)) * 0.1
            write(
                "/a/imagined/gripper_path",
                gripper_path(positions_m_T3, [0] * (step + 1), "base_link"),
                now_ns,
            )
            write("/a/talk", String(data="not for Rerun"), now_ns)
    return path


def columns(rerun_chunk: Any, path: Path) -> dict[str, dict[str, list[Any]]]:
    """Entity path -> column (component or timeline) -> values in the order of time."""
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for chunk in rerun_chunk.RrdReader(str(path)).stream():
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            column = batch.column(name)
            if str(column.type).startswith("timestamp"):
                column = column.cast("int64")
            found[chunk.entity_path][name.rsplit(":", 1)[-1]] += column.to_pylist()
    return found


def test_everything_comes_back(rerun_chunk: Any, bag: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "new" / "out.rrd"
    assert main(["ros", "rerun", str(bag), str(out)]) == 0
    printed = capsys.readouterr().out
    assert "/a/image_raw: 5\n" in printed and "not shown: std_msgs/msg/String (5)" in printed
    read = columns(rerun_chunk, out)
    for topic, frames_TYXC in (
        ("/a/image_raw", FRAMES_TYXC),
        ("/a/imagined/image_raw", FRAMES_TYXC[:, ::-1]),
    ):
        for [png], frame_YXC in zip(read[topic]["blob"], frames_TYXC, strict=True):
            decoded = cv2.imdecode(np.array(png, np.uint8), cv2.IMREAD_COLOR)
            np.testing.assert_array_equal(decoded[..., ::-1], frame_YXC)
    assert read["/a/imagined/image_raw/compressed"]["media_type"] == [["image/jpeg"]] * STEPS
    assert read["/a/imagined/info"]["state"] == [["1 close"]] * STEPS  # the dropped command was no frame
    assert read["/a/imagined/info/model_ms"]["scalars"] == [[12.5 + step] for step in range(STEPS)]
    assert read["/a/inferred_action"]["state"] == [["0 left"]] * STEPS
    assert read["/a/surprise/distance"]["scalars"] == [[0.25]] * STEPS
    assert read["/a/surprise/still_distance"]["scalars"] == [[0.5]] * STEPS
    assert read["/a/latent_actions/codes/0"]["vectors"][0][0][1] > 0  # to the left
    assert [label for [label] in read["/a/latent_actions/labels/1"]["labels"]] == ["1 close"] * STEPS
    assert [len(strips[0]) for strips in read["/a/imagined/gripper_path"]["strips"] if strips] == [2, 3, 4, 5]


def test_large_images_are_made_small(rerun_chunk: Any, tmp_path: Path) -> None:
    frame_YXC = cv2.resize(FRAMES_TYXC[0][:8, :8], (640, 480))
    with BagWriter(tmp_path / "bag", message_definition) as writer:
        writer.add_topic("/image_raw", "sensor_msgs/msg/Image")
        writer.write_raw(
            "/image_raw", BEGIN_NS, serialize_message(convert.frame_to_image(frame_YXC, Header()))
        )
    main(["ros", "rerun", str(tmp_path / "bag"), str(tmp_path / "out.rrd")])
    [[jpeg]] = columns(rerun_chunk, tmp_path / "out.rrd")["/image_raw"]["blob"]
    assert len(jpeg) < frame_YXC.nbytes / 10
    decoded = cv2.imdecode(np.array(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.abs(decoded.astype(int) - frame_YXC).mean() < 4


def test_both_timelines(rerun_chunk: Any, bag: Path, tmp_path: Path) -> None:
    main(["ros", "rerun", str(bag), str(tmp_path / "out.rrd")])
    read = columns(rerun_chunk, tmp_path / "out.rrd")

    steps = [BEGIN_NS + step * STEP_NS for step in range(STEPS)]
    assert read["/a/imagined/image_raw"]["received"] == read["/a/image_raw"]["stamp"] == steps
    assert read["/a/imagined/image_raw"]["stamp"] == [step + STEP_NS for step in steps]
    assert "stamp" not in read["/a/latent_actions/codes/0"]  # markers have no time of their own


def test_a_bag_that_cannot_be_shown_leaves_the_old_recording(
    rerun_chunk: Any, tmp_path: Path, capsys
) -> None:
    with BagWriter(tmp_path / "bag", message_definition) as writer:
        writer.add_topic("/talk", "std_msgs/msg/String")
        writer.write_raw("/talk", BEGIN_NS, serialize_message(String(data="hello")))
    out = tmp_path / "out.rrd"
    out.write_bytes(b"kept")
    assert main(["ros", "rerun", str(tmp_path / "bag"), str(out)]) == 1
    assert "holds nothing that Rerun is shown (std_msgs/msg/String)" in capsys.readouterr().err
    assert out.read_bytes() == b"kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "out.rrd"]


def test_a_full_disk_is_one_line_and_leaves_the_old_recording(
    rerun_chunk: Any, bag: Path, tmp_path: Path, capsys
) -> None:
    out = tmp_path / "out.rrd"
    out.write_bytes(b"kept")
    (tmp_path / "out.rrd.part").symlink_to(
        "/dev/full"
    )  # on which the system refuses every write: no space left
    assert main(["ros", "rerun", str(bag), str(out)]) == 1
    error = capsys.readouterr().err
    assert "no space left" in error and error.count("\n") == 1
    assert out.read_bytes() == b"kept"


def test_damaged_messages_are_counted(rerun_chunk: Any, tmp_path: Path, capsys) -> None:
    with BagWriter(tmp_path / "bag", message_definition) as writer:
        for step, frame_YXC in enumerate(FRAMES_TYXC):
            image = convert.frame_to_image(frame_YXC, Header())
            image.step += step == 2  # one that does not fit its data
            writer.add_topic("/image_raw", "sensor_msgs/msg/Image")
            writer.write_raw("/image_raw", BEGIN_NS + step, serialize_message(image))
    assert main(["ros", "rerun", str(tmp_path / "bag"), str(tmp_path / "out.rrd")]) == 0
    printed = capsys.readouterr().out
    assert "/image_raw: 4\n" in printed and "1 damaged" in printed
    assert len(columns(rerun_chunk, tmp_path / "out.rrd")["/image_raw"]["blob"]) == 4


def test_without_the_package_it_says_what_to_install(
    without_rerun: None, bag: Path, tmp_path: Path, capsys
) -> None:
    assert main(["ros", "rerun", str(bag), str(tmp_path / "out.rrd")]) == 2
    error = capsys.readouterr().err
    assert "genie_robot[rerun]" in error and error.count("\n") == 1


def test_no_bag(rerun_chunk: Any, tmp_path: Path, capsys) -> None:
    assert main(["ros", "rerun", str(tmp_path / "none"), str(tmp_path / "out.rrd")]) in (1, 2)
    assert capsys.readouterr().err.count("\n") == 1
