"""100,000 damaged messages through every reader of `convert`: a value or the documented error, in bounded memory.

Half of them are wire bytes damaged before rclpy takes them apart, half are well-formed messages with absurd fields or
damaged picture files. The seed is fixed: the same messages in every run.
"""

from __future__ import annotations

import array
import random
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import simplejpeg
from genie_robot_interfaces.msg import RobotAction
from genie_robot_ros import convert
from rclpy._rclpy_pybind11 import RMWError
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, RegionOfInterest
from std_msgs.msg import Header

from genie_robot.errors import ActionError, ImageError

MAX_PIXELS = 1_000_000  # 3 MB a frame
MEMORY_GROWTH_MB = 64  # several frames of that size, and what the allocator keeps
EXTREME = (0, 1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1)
ENCODINGS = {
    "rgb8": 3,
    "bgra8": 4,
    "mono8": 1,
    "mono16": 2,
    "rgba16": 8,
    "yuyv": 2,
    "nv21": 1,
    "bayer_rggb8": 1,
}
# no encoding of ours, and the last one no UTF-8
STRANGE = ("", "rgb8 ", "32FC1", "16UC1", "RGB8", "x" * 300, "\udcff")

Reader = Callable[[Any], np.ndarray | CameraInfo]


def damaged(wire: bytes, rng: random.Random) -> bytes:
    """Bytes changed, set to extreme numbers, left out, put in, cut off."""
    content = bytearray(wire)
    for _ in range(rng.randint(1, 3)):
        position = rng.randrange(len(content))
        kind = rng.randrange(8)
        if kind < 4:
            content[position] = rng.randrange(256)
        elif kind < 6:
            aligned = position & ~3  # CDR keeps its 32-bit fields, lengths too, at multiples of four
            content[aligned : aligned + 4] = rng.choice(EXTREME).to_bytes(4, "little")
        elif kind == 6:
            del content[position : position + rng.randrange(16)]
        else:
            content[position:position] = rng.randbytes(rng.randrange(16))
        if len(content) < 8:
            break
    return bytes(content[: rng.randint(0, len(content))]) if rng.random() < 0.05 else bytes(content)


def png_from(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG file whose checksums are right, whatever its chunks are."""
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, content in chunks:
        parts += [
            len(content).to_bytes(4, "big"),
            kind,
            content,
            zlib.crc32(kind + content).to_bytes(4, "big"),
        ]
    return b"".join(parts)


def damaged_png(png: bytes, rng: random.Random) -> bytes:
    """Chunks changed, swapped, doubled or left out, with right checksums: these reach the decoder."""
    chunks, position = [], 8
    while position < len(png):
        length = int.from_bytes(png[position : position + 4], "big")
        chunks.append((png[position + 4 : position + 8], png[position + 8 : position + 8 + length]))
        position += 12 + length
    which = rng.randrange(len(chunks))
    kind, content = chunks[which]
    action = rng.randrange(4)
    if action == 0 and content:
        chunks[which] = (kind, damaged(content, rng))
    elif action == 1:
        chunks.insert(rng.randrange(len(chunks)), (kind, damaged(content, rng) if content else b""))
    elif action == 2:
        rng.shuffle(chunks)
    else:
        del chunks[which]
    return png_from([*chunks, (b"IEND", b"")])


def image(rng: random.Random) -> Image:
    """Small; sound half the time, else with fields from anywhere."""
    encoding = rng.choice(list(ENCODINGS))
    height, width = 2 * rng.randint(1, 6), 2 * rng.randint(1, 6)
    step = width * ENCODINGS[encoding] + rng.choice((0, 0, 1, 5))
    size = step * (height + height // 2 if encoding == "nv21" else height)
    message = Image(
        height=height, width=width, encoding=encoding, step=step, is_bigendian=rng.choice((0, 1, 255))
    )
    message.data = array.array("B", rng.randbytes(size))
    if rng.random() < 0.5:
        field = rng.choice(("height", "width", "step", "encoding", "data"))
        if field == "encoding":
            message.encoding = rng.choice((*ENCODINGS, *STRANGE[:-1]))
        elif field == "data":
            message.data = message.data[: rng.randrange(size + 1)]
        else:
            setattr(message, field, rng.choice((*EXTREME, getattr(message, field) + 1)))
    return message


def picture_files() -> list[bytes]:
    frame = np.random.default_rng(0).integers(0, 256, (14, 18, 3), dtype=np.uint8)
    wide = frame.astype(np.uint16) << 8
    pngs = (frame, frame[..., 0], wide, np.dstack([frame, frame[..., :1]]))
    cmyk = np.dstack([frame, frame[..., :1]])
    animation = cv2.Animation()
    animation.frames, animation.durations = [frame, frame[::-1].copy()], [100, 100]
    return [
        *(cv2.imencode(".png", picture)[1].tobytes() for picture in pngs),
        cv2.imencodeanimation(".png", animation)[1].tobytes(),
        simplejpeg.encode_jpeg(frame, quality=80, colorsubsampling="420"),
        simplejpeg.encode_jpeg(frame[..., :1].copy(), colorspace="GRAY", colorsubsampling="Gray"),
        simplejpeg.encode_jpeg(cmyk, colorspace="CMYK"),
    ]


FILES = picture_files()


def compressed(rng: random.Random) -> CompressedImage:
    """A picture file, damaged most of the time; PNG half the time with its checksums right again."""
    encoded = rng.choice(FILES)
    if rng.random() < 0.9:
        chunkwise = encoded.startswith(b"\x89PNG") and rng.random() < 0.5
        encoded = damaged_png(encoded, rng) if chunkwise else damaged(encoded, rng)
    name = rng.choice(("jpeg", "png", "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth", *STRANGE[:-1]))
    return CompressedImage(format=name, data=array.array("B", encoded))


def number(rng: random.Random) -> float:
    return rng.choice((0.0, 1.0, -1.0, rng.gauss(0, 300), 1e308, float("nan"), float("inf"), 5e-324))


def calibration(rng: random.Random) -> CameraInfo:
    """Ordinary in most fields, absurd in some."""

    def pick(ordinary: int) -> int:
        return ordinary if rng.random() < 0.8 else rng.choice(EXTREME)

    strange = rng.random() < 0.4
    k = [number(rng) for _ in range(9)] if strange else [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
    p = [number(rng) for _ in range(12)] if strange else [500.0, 0, 320, 0, 0, 500, 240, 0, 0, 0, 1, 0]
    roi = RegionOfInterest(
        x_offset=pick(0),
        y_offset=pick(0),
        height=pick(0) % 2**32,
        width=pick(0),
        do_rectify=rng.random() < 0.5,
    )
    return CameraInfo(
        height=pick(480), width=pick(640), k=[float(x) for x in k], p=[float(x) for x in p],
        d=[number(rng) for _ in range(rng.randrange(9))] if strange else [0.1],
        binning_x=pick(1), binning_y=pick(2), roi=roi,
    )  # fmt: skip


def action(rng: random.Random) -> RobotAction:
    message = RobotAction()
    for part in (message.translation, message.rotation):
        part.x, part.y, part.z = (number(rng) if rng.random() < 0.2 else rng.gauss(0, 1) for _ in range(3))
    message.gripper = rng.choice((0.0, 1.0, -0.5, float("nan"), float("-inf")))
    return message


def read_calibration(message: CameraInfo) -> CameraInfo:
    return convert.scaled_camera_info(message, 128, 96, 64, 64, Header())


def check(message: Any, result: Any) -> None:
    """What came out is what the function promises."""
    if isinstance(message, (Image, CompressedImage)):
        assert result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3
        assert 1 <= result.shape[0] * result.shape[1] <= MAX_PIXELS
        assert not isinstance(message, Image) or result.shape == (message.height, message.width, 3)
    elif isinstance(message, CameraInfo):
        assert all(np.isfinite(numbers).all() for numbers in (result.k, result.p, result.d, result.r))
    else:
        assert result.shape == (7,) and np.isfinite(result).all()


CASES: dict[type, tuple[int, Callable[[random.Random], Any], Reader]] = {
    Image: (40_000, image, lambda message: convert.image_to_frame(message, MAX_PIXELS)),
    CompressedImage: (30_000, compressed, lambda message: convert.compressed_to_frame(message, MAX_PIXELS)),
    CameraInfo: (10_000, calibration, read_calibration),
    RobotAction: (20_000, action, convert.robot_action_to_vector),
}


def messages(kind: type, count: int, make: Callable[[random.Random], Any]) -> Iterator[Any]:
    """`count` messages, None where rclpy itself refuses the wire bytes: it drops such a message before any callback."""
    rng = random.Random(f"{kind.__name__} 5")
    wires = [serialize_message(make(rng)) for _ in range(100)]
    for index in range(count):
        if index % 2:
            yield make(rng)
            continue
        try:
            yield deserialize_message(damaged(rng.choice(wires), rng), kind)
        except RMWError:
            yield None


def peak_memory_mb() -> float:
    """Highest resident memory of this process since it was last reset."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_damaged_messages_give_a_value_or_the_documented_error(kind: type, monkeypatch) -> None:
    monkeypatch.setenv("ROS_PYTHON_CHECK_FIELDS", "0")  # as in a running node
    count, make, read = CASES[kind]
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before_mb = peak_memory_mb()
    outcomes: Counter[str] = Counter()
    refusals: set[str] = set()
    documented = ActionError if kind is RobotAction else ImageError
    for message in messages(kind, count, make):
        if message is None:
            outcomes["not deserialised"] += 1
            continue
        try:
            check(message, read(message))
            outcomes["read"] += 1
        except documented as error:
            refusals.add(str(error))
            outcomes["refused"] += 1
    assert outcomes.total() == count
    assert outcomes["read"] > 0.1 * count, outcomes  # neither all noise
    assert outcomes["refused"] > 0.2 * count, outcomes  # nor all sound
    assert not any("\n" in said or len(said) > 500 for said in refusals)
    assert peak_memory_mb() - before_mb < MEMORY_GROWTH_MB
    print(kind.__name__, dict(outcomes), f"{peak_memory_mb() - before_mb:.1f} MB")
