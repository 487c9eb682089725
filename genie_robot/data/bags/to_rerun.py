"""A recorded bag as a Rerun recording (.rrd): images, latent actions, surprise, arrows, the gripper's path.

The one file that uses the package `rerun`. Messages are taken by type, not by name, and each keeps its topic as place:
any namespace works. Two timelines: `received`, when the recorder got a message, and `stamp`, the time it is about. On
`stamp` the camera's picture stands beside the one that was imagined for that moment.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from genie_robot.data.bags.file import BagFile
from genie_robot.data.bags.images import decode_frame, encoded_image
from genie_robot.data.bags.mcap_scan import Damage
from genie_robot.data.bags.streams import Topic
from genie_robot.errors import ConfigError, DataError, DiskFullError

_INTERFACES = "genie_robot_interfaces/msg"
_STATUS_FRAME = 0  # of ImaginedFrameInfo: a frame was imagined
# visualization_msgs/Marker
_ARROW, _SPHERE, _LINE_LIST, _TEXT = 0, 2, 5, 9
_DELETE_ALL = 3
_SHEETS = ("/contact_sheet", "/horizon")  # pictures of several frames, wider than high
_EXACT_BYTES = 2**18  # images up to this size stay exact (PNG); larger ones become JPEG, a tenth of the size
_PATH_COLOR = (64, 224, 160)


@dataclass
class Converted:
    """What went into the recording."""

    messages: Counter[str] = field(default_factory=Counter)  # of each topic
    left_out: Counter[str] = field(default_factory=Counter)  # of each type that Rerun is not shown
    damaged: int = 0  # places or messages that could not be read


def bag_to_rerun(bag_path: Path, out: Path) -> Converted:
    """Write the bag at `bag_path` as the Rerun recording `out`, replacing what was there only when it is whole.

    The recording is held in memory until its end: 1 to 2 GB for ten minutes of a 640x480 camera at 30 Hz.

    ConfigError without the package `rerun-sdk`; DataError for a bag that cannot be read or that holds nothing to show.
    """
    converter = _Converter(_rerun())
    bag = BagFile(bag_path)
    shown = [topic for topic in bag.topics.values() if topic.msgtype in converter.handlers and topic.count]
    if not shown:
        kinds = sorted({topic.msgtype for topic in bag.topics.values()})
        raise DataError(
            f"{bag_path} holds nothing that Rerun is shown ({', '.join(kinds) or 'no message'}); wanted a recording "
            f"with one of {', '.join(sorted(converter.handlers))}"
        )
    result = Converted()
    for topic in bag.topics.values():
        if topic.count and topic.msgtype not in converter.handlers:
            result.left_out[topic.msgtype] += topic.count
    encoded = _encode(bag, shown, converter, result)
    unfinished = out.with_name(out.name + ".part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(encoded)
        os.replace(unfinished, out)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        if error.errno == errno.ENOSPC:
            raise DiskFullError(f"no space left to write {out}; free some and run again") from error
        raise DataError(f"cannot write {out} ({error.strerror}); name another place") from error
    return result


def _encode(bag: BagFile, shown: Sequence[Topic], converter: _Converter, result: Converted) -> bytes:
    """All messages of these topics as an .rrd. In memory: Rerun's own way to a file hangs for ever on a full disk."""
    stream = converter.rr.RecordingStream(bag.path.name)
    encoded = stream.binary_stream()
    stream.send_blueprint(_blueprint({topic.name: topic.msgtype for topic in shown}))
    messages = bag.messages(topic.name for topic in shown)
    total = sum(topic.count for topic in shown)
    for item in tqdm(messages, total=total, unit="message", disable=None):
        _convert(bag, item, stream, converter, result)
    return encoded.read()


def _rerun() -> Any:
    try:
        import rerun  # type: ignore[import-not-found]
    except ImportError as error:
        raise ConfigError(
            "the package rerun-sdk is not installed; pip install 'genie_robot[rerun]'"
        ) from error
    return rerun


def _convert(bag: BagFile, item: Any, stream: Any, converter: _Converter, result: Converted) -> None:
    """One message into the stream; one that cannot be read is counted."""
    if isinstance(item, Damage):
        result.damaged += 1
        return
    try:
        message = bag.decode(item)
        entities = list(converter.handlers[bag.topics[item.topic].msgtype](item.topic, message))
    except DataError:
        result.damaged += 1
        return
    stream.set_time("received", timestamp=np.datetime64(item.receive_ns, "ns"))
    stamp = getattr(getattr(message, "header", None), "stamp", None)
    if stamp is not None and (stamp.sec or stamp.nanosec):
        stream.set_time("stamp", timestamp=np.datetime64(stamp.sec * 10**9 + stamp.nanosec, "ns"))
    else:
        stream.disable_timeline("stamp")
    for place, entity in entities:
        stream.log(place, entity)
    result.messages[item.topic] += 1


class _Converter:
    """Messages -> (entity path, Rerun archetype)."""

    def __init__(self, rerun: Any) -> None:
        self.rr = rerun
        self.handlers: dict[str, Callable[[str, Any], Iterator[tuple[str, Any]]]] = {
            "sensor_msgs/msg/Image": self._image,
            "sensor_msgs/msg/CompressedImage": self._compressed,
            f"{_INTERFACES}/LatentAction": self._latent_action,
            f"{_INTERFACES}/ImaginedFrameInfo": self._info,
            f"{_INTERFACES}/Surprise": self._surprise,
            "visualization_msgs/msg/MarkerArray": self._markers,
            "nav_msgs/msg/Path": self._path,
        }

    def _image(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        frame_YXC = decode_frame(message)
        kind = "png" if frame_YXC.size <= _EXACT_BYTES else "jpeg"
        encoded = cv2.imencode(f".{kind}", np.ascontiguousarray(frame_YXC[..., ::-1]))[1].tobytes()
        yield topic, self.rr.EncodedImage(contents=encoded, media_type=f"image/{kind}")

    def _compressed(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        encoded = encoded_image(message)
        kind = "image/png" if encoded.startswith(b"\x89PNG") else "image/jpeg"
        yield topic, self.rr.EncodedImage(contents=encoded, media_type=kind)

    def _latent_action(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        yield topic, self.rr.StateChange(state=f"{message.code} {message.name}".strip())

    def _info(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        if message.status != _STATUS_FRAME:
            return
        yield topic, self.rr.StateChange(state=f"{message.code} {message.name}".strip())
        yield f"{topic}/model_ms", self.rr.Scalars(message.model_ms)

    def _surprise(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        yield f"{topic}/distance", self.rr.Scalars(message.distance)
        yield f"{topic}/still_distance", self.rr.Scalars(message.still_distance)

    def _path(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        points = [_xyz(pose.pose.position) for pose in message.poses]
        strips = [points] if len(points) > 1 else []
        yield topic, self.rr.LineStrips3D(strips, colors=[_PATH_COLOR] * len(strips), radii=0.003)

    def _markers(self, topic: str, message: Any) -> Iterator[tuple[str, Any]]:
        rr = self.rr
        yield topic, rr.Clear(recursive=True)  # as in RViz: the node sends all markers each time
        for marker in message.markers:
            if marker.action == _DELETE_ALL:
                continue
            place, origin = f"{topic}/{marker.ns}/{marker.id}", np.array(_xyz(marker.pose.position))
            color = [round(255 * c) for c in (marker.color.r, marker.color.g, marker.color.b, marker.color.a)]
            points = [origin + _xyz(point) for point in marker.points]
            if marker.type == _ARROW and len(points) == 2:
                vector, radius = points[1] - points[0], marker.scale.x / 2
                yield place, rr.Arrows3D(vectors=[vector], origins=[points[0]], colors=[color], radii=radius)
            elif marker.type == _LINE_LIST:
                pairs = list(zip(points[::2], points[1::2], strict=False))
                yield place, rr.LineStrips3D(pairs, colors=[color] * len(pairs), radii=marker.scale.x / 2)
            elif marker.type == _SPHERE:
                yield place, rr.Points3D([origin], colors=[color], radii=marker.scale.x / 2)
            elif marker.type == _TEXT:
                yield place, rr.Points3D([origin], colors=[color], labels=[marker.text], radii=1e-4)


def _xyz(point: Any) -> tuple[float, float, float]:
    return point.x, point.y, point.z


def _blueprint(topics: dict[str, str]) -> Any:
    """Where each kind of topic is shown: the scene and the lines of time on the left, pictures on the right."""
    import rerun.blueprint as rrb  # type: ignore[import-not-found]

    def of(*types: str) -> list[str]:
        return [name for name, msgtype in topics.items() if msgtype.rsplit("/", 1)[1] in types]

    scene = rrb.Spatial3DView(
        name="Latent actions",
        contents=[f"{name}/**" for name in of("MarkerArray", "Path")],
        # from behind the robot and above, as in the RViz file
        eye_controls=rrb.EyeControls3D(
            position=(-0.48, -0.16, 0.42), look_target=(0.1, 0, 0), eye_up=(0, 0, 1)
        ),
    )
    lines = [
        rrb.StateTimelineView(name="Actions", contents=of("LatentAction", "ImaginedFrameInfo")),
        rrb.TimeSeriesView(name="Surprise", contents=[f"{name}/**" for name in of("Surprise")]),
        rrb.TimeSeriesView(
            name="Time in the model [ms]", contents=[f"{name}/model_ms" for name in of("ImaginedFrameInfo")]
        ),
    ]
    wanted = (of("LatentAction", "ImaginedFrameInfo"), of("Surprise"), of("ImaginedFrameInfo"))
    left = [scene] if of("MarkerArray", "Path") else []
    left += [line for line, names in zip(lines, wanted, strict=True) if names]
    raw = of("Image")
    seen = raw + [name for name in of("CompressedImage") if name.removesuffix("/compressed") not in raw]
    views = [rrb.Spatial2DView(name=name, contents=[name]) for name in sorted(seen)]
    sheets = [view for view, name in zip(views, sorted(seen), strict=True) if name.endswith(_SHEETS)]
    frames = [view for view in views if view not in sheets]
    right = ([rrb.Grid(*frames)] if frames else []) + sheets
    sides = [rrb.Vertical(*left, row_shares=[3] + [1] * (len(left) - 1))] if left else []
    if right:
        sides.append(rrb.Vertical(*right))
    # opened at the end: at the beginning most views would still be empty
    time = rrb.TimePanel(timeline="received", state="collapsed", play_state="following")
    return rrb.Blueprint(rrb.Horizontal(*sides), time, collapse_panels=True)
