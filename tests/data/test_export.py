"""Out and in again: rollouts to a bag, an RLDS dataset and MP4; bags and LeRobot folders to RLDS (`data import`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.data.export import ACTION_TOPIC, IMAGE_TOPIC, INFO_TOPIC, check_new, export_bag, export_rlds
from genie_robot.data.open import open_dataset
from genie_robot.errors import ConfigError, DataError, ImageError
from tests.bags import film
from tests.small_models import small_world_model

av = pytest.importorskip("av")
pytest.importorskip("rosbags")

from genie_robot.data.bags.file import BagFile, BagWriter  # noqa: E402 - rosbags and PyAV are an extra
from genie_robot.data.bags.mcap_scan import Damage  # noqa: E402
from genie_robot.data.video import read_frames, write_h264  # noqa: E402

CODES = [3, 3, 0, 7, 1]


def contents(bag: BagFile, topic: str) -> list[tuple[int, Any]]:
    messages = [m for m in bag.messages([topic]) if not isinstance(m, Damage)]
    return [(message.receive_ns, bag.decode(message)) for message in messages]


# --- rollouts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dt_s", [0.2, 1 / 3])
def test_a_bag_comes_back_equal(dt_s: float, tmp_path: Path) -> None:
    frames = film()
    assert export_bag(tmp_path / "roll", frames, CODES, dt_s) == tmp_path / "roll"
    assert sorted(path.name for path in (tmp_path / "roll").iterdir()) == ["metadata.yaml", "roll.mcap"]
    [episode] = open_dataset(tmp_path / "roll").episodes("train")
    np.testing.assert_array_equal(episode.frames_TYXC, frames)
    assert episode.dt_s == pytest.approx(dt_s, abs=1e-9)


def test_what_a_bag_says_beside_the_images(tmp_path: Path) -> None:
    bag = BagFile(export_bag(tmp_path / "roll", film(), CODES, 0.2))
    actions = contents(bag, ACTION_TOPIC)
    assert [(stamp, message.data) for stamp, message in actions] == [
        (k * 200_000_000, c) for k, c in enumerate(CODES)
    ]
    info = [message for _, message in contents(bag, INFO_TOPIC)]
    assert len(info) == 6 and (info[0].height, info[0].width) == (32, 48)
    assert not info[0].k.any() and info[3].header.stamp.nanosec == 600_000_000


@pytest.mark.ros
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages that rclpy imports
def test_ros_2_itself_reads_what_we_write(tmp_path: Path) -> None:
    serialization = pytest.importorskip("rclpy.serialization", reason="needs ROS 2: make ros")
    sensor_msgs = pytest.importorskip("sensor_msgs.msg")
    std_msgs = pytest.importorskip("std_msgs.msg")

    frames = film()
    bag = BagFile(export_bag(tmp_path / "roll", frames, CODES, 0.2))
    types = {IMAGE_TOPIC: sensor_msgs.Image, INFO_TOPIC: sensor_msgs.CameraInfo, ACTION_TOPIC: std_msgs.Int32}
    messages = [m for m in bag.messages(types) if not isinstance(m, Damage)]
    read = [(m.topic, serialization.deserialize_message(m.data, types[m.topic])) for m in messages]
    images = [content for topic, content in read if topic == IMAGE_TOPIC]
    np.testing.assert_array_equal([np.asarray(image.data).reshape(32, 48, 3) for image in images], frames)
    assert [content.data for topic, content in read if topic == ACTION_TOPIC] == CODES
    infos = [content for topic, content in read if topic == INFO_TOPIC]
    assert all(info.header == image.header for info, image in zip(infos, images, strict=True))


def test_a_bag_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(BagWriter, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        export_bag(tmp_path / "roll", film(), CODES, 0.2)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "roll").mkdir()
    with pytest.raises(ConfigError, match="roll exists already; wanted a new place"):
        check_new(tmp_path / "roll")


def test_rlds_comes_back_equal_with_its_codes(tmp_path: Path) -> None:
    frames = film()
    folder = export_rlds(tmp_path, frames, CODES, 0.25, {"seed": 4})
    [episode] = open_dataset(folder).episodes("train")
    np.testing.assert_array_equal(episode.frames_TYXC, frames)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert (metadata["latent_actions"], metadata["seed"], metadata["rate_hz"]) == (CODES, 4, 4.0)


def psnr_db(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((got.astype(float) - wanted) ** 2)))


@pytest.mark.parametrize("dt_s", [0.2, 1 / 3])
def test_an_mp4_comes_back_close_and_plays_in_browsers(dt_s: float, tmp_path: Path) -> None:
    frames = film(20)
    path = write_h264(tmp_path / "new" / "roll.mp4", frames, dt_s)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.frames) == ("h264", "yuv420p", 20)
        times = [frame.time for frame in container.decode(stream)]
    np.testing.assert_allclose(times, np.arange(20) * dt_s, atol=1e-4)
    assert open_dataset(path).dt_s == pytest.approx(dt_s, rel=1e-3), (
        "the last frame is shown as long as the others"
    )
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index comes first: a browser can begin at once
    back = np.stack(list(read_frames(path, np.arange(20) * dt_s, dt_s / 2)))
    assert psnr_db(back, frames) > 35
    assert [p.name for p in path.parent.iterdir()] == ["roll.mp4"]


def test_odd_sides_grow_by_a_row(tmp_path: Path) -> None:
    frames = film(3, (31, 45))
    path = write_h264(tmp_path / "odd.mp4", frames, 0.1)
    back = np.stack(list(read_frames(path, np.arange(3) * 0.1, 0.05)))
    assert back.shape == (3, 32, 46, 3) and psnr_db(back[:, :31, :45], frames) > 33
    with pytest.raises(ImageError, match="T > 0"):
        write_h264(tmp_path / "none.mp4", frames[:0], 0.1)


def test_frames_are_found_from_anywhere_in_a_video(tmp_path: Path) -> None:
    """Key frames every 250 frames and B-frames in between: seeking must not land behind the wanted frame."""
    frames = film(40, (32, 192))
    path = write_h264(tmp_path / "long.mp4", frames, 0.1)
    for chosen in ([0, 39], [17], [38, 39], [5, 5, 6, 30]):
        back = np.stack(list(read_frames(path, np.array(chosen) * 0.1, 0.05)))
        assert psnr_db(back, frames[chosen]) > 33, chosen
    with pytest.raises(DataError, match=r"the nearest frame at 3.900 s for 4.200 s"):
        list(read_frames(path, np.array([3.8, 4.2]), 0.05))


@pytest.mark.parametrize("content", [b"", b"no video at all", None])
def test_no_video_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"a.mp4 (cannot be decoded|is missing)"):
        list(read_frames(tmp_path / "a.mp4", np.zeros(1), 0.1))


# --- genie-robot imagine -----------------------------------------------------------------------------------------


def test_imagine_exports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model"
    small_world_model().save(model)
    cv2.imwrite(str(tmp_path / "prompt.png"), film(1, (64, 64))[0])
    places = {"bag": tmp_path / "bag", "mp4": tmp_path / "roll.mp4", "rlds": tmp_path / "sets"}
    options = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    command = ["imagine", str(model), "--prompt", str(tmp_path / "prompt.png"), "--actions", "2*3,5"]
    command += ["--maskgit-steps", "1", "--out", str(tmp_path / "out")]
    assert main([*command, *options, "--json", str(tmp_path / "report.json")]) == 0
    written = json.loads((tmp_path / "report.json").read_text())["files"]
    assert {str(places["bag"]), str(places["mp4"]), str(places["rlds"] / "imagined" / "1.0.0")} <= set(
        written
    )
    [by_bag] = open_dataset(places["bag"]).episodes("train")
    [by_rlds] = open_dataset(places["rlds"]).episodes("train")
    np.testing.assert_array_equal(by_bag.frames_TYXC, by_rlds.frames_TYXC)
    assert by_bag.num_frames == 5 and by_bag.dt_s == pytest.approx(by_rlds.dt_s)
    assert [message.data for _, message in contents(BagFile(places["bag"]), ACTION_TOPIC)] == [2, 2, 2, 5]
    times = np.arange(5) * by_bag.dt_s
    by_mp4 = np.stack(list(read_frames(places["mp4"], times, by_bag.dt_s / 2)))
    assert by_mp4.shape == by_bag.frames_TYXC.shape
    capsys.readouterr()
    assert main([*command, "--bag", str(places["bag"])]) == 2
    assert "exists already; wanted a new place" in capsys.readouterr().err
