"""The one file that uses PyAV: frames out of a video by their times, and H.264 MP4 files that browsers play."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from genie_robot.data.atomic import whole_file
from genie_robot.errors import DataError, ImageError

_TIME_BASE = Fraction(1, 90_000)
_TRUE_RATE = 1.1  # a stated frame rate that is off by more than this factor is not believed


@dataclass(frozen=True)
class VideoFacts:
    """Number of frames of a video on a regular grid of `rate_hz`, and when the first is shown, by the video's own clock."""

    num_frames: int
    start_s: float
    rate_hz: float


def video_facts(path: Path) -> VideoFacts:
    """What a file's header says of its first video; where it gives no number of frames (mkv, webm), its packets are counted.

    DataError when the file is missing or broken, or has no frame.
    """
    with _opened(path) as (container, stream):
        start_s = float((stream.start_time or 0) * (stream.time_base or 0))
        rate = _stated_rate(stream)
        if stream.frames and rate:
            return VideoFacts(stream.frames, start_s, float(rate))
        assert stream.time_base is not None
        times = [p.pts * float(stream.time_base) for p in container.demux(stream) if p.pts is not None]
        length_s = max(times, default=0.0) - min(times, default=0.0)
        if not length_s > 0:
            raise DataError(f"{path} holds {len(times)} frames; wanted two or more: fetch it again")
        mean_hz = (len(times) - 1) / length_s
        rate_hz = float(rate) if rate and 1 / _TRUE_RATE < rate / mean_hz < _TRUE_RATE else mean_hz
        stated_s = (container.duration or 0) / av.time_base
        if len(container.streams) == 1 and stated_s > length_s + 3 / rate_hz:
            length_s = (
                stated_s - 1 / rate_hz
            )  # cut off: the frames that are gone are missed where they belong
        return VideoFacts(round(length_s * rate_hz) + 1, min(times), rate_hz)


def _stated_rate(stream: VideoStream) -> Fraction | None:
    """Frames per second of the header: FFmpeg's guess where it is near the average, in which a short clip's last frame counts odd."""
    average, guess = stream.average_rate, stream.guessed_rate
    if average and guess and 0.8 < guess / average < 1.25:
        return guess
    return average or guess


@contextmanager
def _opened(path: Path) -> Iterator[tuple[av.container.InputContainer, VideoStream]]:
    """An open file and its first video; every error of FFmpeg inside becomes a DataError."""
    if not path.is_file():
        raise DataError(f"{path} is missing; fetch it again")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{path} holds no video; fetch it again")
            yield container, container.streams.video[0]
    except av.FFmpegError as error:
        raise DataError(f"{path} cannot be decoded ({error.strerror}); fetch it again") from error


def read_frames(
    path: Path, times_T: np.ndarray, tolerance_s: float, bridged_s: float = 0.0
) -> Iterator[np.ndarray]:
    """The frame nearest to each of `times_T` (ascending, in seconds of the video's own clock): uint8 RGB (Y, X, 3).

    Decodes from the last key frame before the first time; a time asked for twice gives its frame twice; a picture that is
    stored turned (phones) is turned upright. DataError when the file is missing or broken, or no frame lies within
    `tolerance_s` of a time, or within `bridged_s` where there are frames before and after it.
    """
    with _opened(path) as (container, stream):
        yield from _nearest(container, stream, times_T, tolerance_s, bridged_s, path)


def _nearest(
    container: av.container.InputContainer,
    stream: VideoStream,
    times_T: np.ndarray,
    tolerance_s: float,
    bridged_s: float,
    path: Path,
) -> Iterator[np.ndarray]:
    assert stream.time_base is not None
    if times_T[0] > tolerance_s:
        # a margin of one tolerance: with B-frames, the container seeks by decoding times, which run ahead
        container.seek(int((times_T[0] - tolerance_s) / stream.time_base), stream=stream)
    best: VideoFrame | None = None
    picture: np.ndarray | None = None
    frames = (frame for frame in container.decode(stream) if frame.time is not None)
    ahead = next(frames, None)
    first_s = ahead.time if ahead is not None else 0.0
    for time in times_T:
        while ahead is not None and (best is None or abs(ahead.time - time) <= abs(best.time - time)):
            best, ahead, picture = ahead, next(frames, None), None
        between = best is not None and first_s <= time <= (ahead or best).time
        if best is None or abs(best.time - time) > (max(bridged_s, tolerance_s) if between else tolerance_s):
            got = "no frame" if best is None else f"the nearest frame at {best.time:.3f} s"
            raise DataError(f"{path} has {got} for {time:.3f} s; it is cut off or not the right video")
        if picture is None:
            if best.is_corrupt:
                raise DataError(f"{path} is damaged at {best.time:.3f} s; fetch it again")
            picture = np.rot90(best.to_ndarray(format="rgb24"), round(best.rotation / 90))
        yield picture


def write_h264(path: str | Path, frames_TYXC: np.ndarray, dt_s: float, crf: int = 12) -> Path:
    """Write uint8 RGB frames (T, Y, X, 3) as an MP4 that browsers play: H.264, yuv420p, index at the front.

    The file appears whole or not at all. `crf` 12 is close to lossless (0 is the best, 51 the worst). An odd side grows by
    one repeated row of pixels, as yuv420p wants even ones. ImageError for no frames, DiskFullError without space.
    """
    if frames_TYXC.ndim != 4 or frames_TYXC.dtype != np.uint8 or not len(frames_TYXC):
        raise ImageError(
            f"frames are {frames_TYXC.dtype} {frames_TYXC.shape}; wanted uint8 (T, Y, X, 3), T > 0"
        )
    odd = [(0, side % 2) for side in frames_TYXC.shape[1:3]]
    if any(grow for _, grow in odd):
        frames_TYXC = np.pad(frames_TYXC, [(0, 0), *odd, (0, 0)], mode="edge")
    height, width = frames_TYXC.shape[1:3]
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        whole_file(target) as file,
        av.open(file, "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        rate = Fraction(1 / dt_s).limit_denominator(1000)  # how long the last frame is shown, too
        stream = container.add_stream("libx264", rate, options={"crf": str(crf), "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = _TIME_BASE
        for number, frame_YXC in enumerate(frames_TYXC):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(frame_YXC), format="rgb24")
            frame.pts, frame.time_base = round(number * dt_s / _TIME_BASE), _TIME_BASE
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return target
