"""Small LeRobotDataset folders for tests, written as the format is: v2.1 and v3.0; AV1, H.264 and embedded pictures."""

from __future__ import annotations

import json
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

av = pytest.importorskip("av")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

os.environ.setdefault("SVT_LOG", "1")  # errors only: the AV1 encoder describes itself at length

FPS = 10
HEIGHT, WIDTH = 48, 64
TOP, WRIST = "observation.images.top", "observation.images.wrist"
ACTION_NAMES = {"motors": ["x", "y", "z", "roll", "pitch", "yaw", "gripper"]}


def marked_frame(number: int, hue: int = 0) -> np.ndarray:
    """A picture whose 4 x 4 blocks spell `number` in bits: it can be told from others after lossy coding."""
    bits = [(number >> bit) & 1 for bit in range(12)] + [hue & 1, 1, 0, 1]
    blocks = np.array(bits, np.uint8).reshape(4, 4) * 200 + 20
    return np.repeat(np.kron(blocks, np.ones((HEIGHT // 4, WIDTH // 4), np.uint8))[..., None], 3, axis=2)


def mark_of(frame: np.ndarray) -> int:
    """The number that `marked_frame` has put into a picture of any size."""
    height, width = frame.shape[:2]
    centres = frame[height // 8 :: height // 4, width // 8 :: width // 4, 0]
    bits = (centres.reshape(-1) > 120).astype(int)
    assert bits[13:].tolist() == [1, 0, 1], bits
    return int(sum(bit << place for place, bit in enumerate(bits[:12])))


def write_video(path: Path, frames: list[np.ndarray], codec: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"libx264": {"crf": "18", "g": "2"}, "libsvtav1": {"crf": "30", "preset": "12", "g": "2"}}[
        codec
    ]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base = Fraction(1, FPS)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def rows_of(episode: int, length: int, first: int, images: bool, pad: float = 0.0) -> dict[str, Any]:
    rng = np.random.default_rng(episode)
    action = rng.uniform(-0.05, 0.05, (length, 7)).astype(np.float32)
    action[:, 6] = np.arange(length) % 2
    columns: dict[str, Any] = {
        "timestamp": (np.arange(length) / FPS + pad).astype(np.float32),
        "frame_index": np.arange(length),
        "episode_index": np.full(length, episode),
        "index": first + np.arange(length),
        "task_index": np.full(length, episode % 2),
        "action": action.tolist(),
        "observation.state": rng.normal(size=(length, 3)).astype(np.float32).tolist(),
    }
    if images:
        encoded = [cv2.imencode(".png", marked_frame(first + k))[1].tobytes() for k in range(length)]
        columns[TOP] = [{"bytes": image, "path": f"frame-{k}.png"} for k, image in enumerate(encoded)]
    return columns


def write_info(folder: Path, version: str, count: int, images: bool, changes: dict[str, Any]) -> None:
    picture = {
        "dtype": "image" if images else "video",
        "shape": [HEIGHT, WIDTH, 3],
        "names": ["height", "width", "c"],
    }
    v3 = version == "v3.0"
    features = {
        WRIST: {**picture, "dtype": "video"},
        "observation.images.depth": {**picture, "info": {"video.is_depth_map": True}},
        TOP: picture,
        "action": {"dtype": "float32", "shape": [7], "names": ACTION_NAMES},
        "observation.state": {"dtype": "float32", "shape": [3], "names": ["a", "b", "c"]},
    }
    if images:
        del features[WRIST]
    info = {
        "codebase_version": version,
        "fps": FPS,
        "splits": {"train": f"0:{count}"},
        "chunks_size": 1000,
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        if v3
        else "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        if v3
        else "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
        "features": features,
        **changes,
    }
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    write_stats(folder, 0.05)


def write_stats(folder: Path, longest: float) -> None:
    action = {"min": [-longest] * 6 + [0.0], "max": [longest] * 6 + [1.0]}
    (folder / "meta" / "stats.json").write_text(json.dumps({"action": action}))


def write_v21(folder: Path, lengths: list[int], codec: str, images: bool = False, **changes: Any) -> Path:
    write_info(folder, "v2.1", len(lengths), images, changes)
    first, lines = 0, []
    for episode, length in enumerate(lengths):
        path = folder / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(rows_of(episode, length, first, images)), path)
        for key, hue in () if images else ((TOP, 0), (WRIST, 1)):
            video = folder / f"videos/chunk-000/{key}/episode_{episode:06d}.mp4"
            write_video(video, [marked_frame(first + k, hue) for k in range(length)], codec)
        lines.append(
            json.dumps({"episode_index": episode, "tasks": [f"task {episode % 2}"], "length": length})
        )
        first += length
    (folder / "meta" / "episodes.jsonl").write_text("\n".join(lines) + "\n")
    tasks = [json.dumps({"task_index": k, "task": f"task {k}"}) for k in range(2)]
    (folder / "meta" / "tasks.jsonl").write_text("\n".join(tasks) + "\n")
    return folder


def write_v30(folder: Path, lengths: list[int], codec: str, images: bool = False, **changes: Any) -> Path:
    """Two files of each kind: the last episode alone in the second."""
    write_info(folder, "v3.0", len(lengths), images, changes)
    rows, first = [], 0
    for file, members in enumerate(([*range(len(lengths) - 1)], [len(lengths) - 1])):
        frames: list[int] = []
        path = folder / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = []
        for episode in members:
            length = lengths[episode]
            tables.append(pa.table(rows_of(episode, length, first, images)))
            row = {
                "episode_index": episode,
                "tasks": [f"task {episode % 2}"],
                "length": length,
                "data/chunk_index": 0,
                "data/file_index": file,
                "dataset_from_index": first,
                "dataset_to_index": first + length,
                "stats/action/min": [0.0] * 7,
            }
            for key in () if images else (TOP, WRIST):
                row[f"videos/{key}/chunk_index"], row[f"videos/{key}/file_index"] = 0, file
                row[f"videos/{key}/from_timestamp"] = len(frames) / FPS
                row[f"videos/{key}/to_timestamp"] = (len(frames) + length) / FPS
            rows.append(row)
            frames += range(first, first + length)
            first += length
        with pq.ParquetWriter(path, tables[0].schema) as writer:
            for table in tables:
                writer.write_table(table)
        for key, hue in () if images else ((TOP, 0), (WRIST, 1)):
            video = folder / f"videos/{key}/chunk-000/file-{file:03d}.mp4"
            write_video(video, [marked_frame(number, hue) for number in frames], codec)
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    tasks = pa.table({"task_index": [0, 1], "__index_level_0__": ["task 0", "task 1"]})
    pq.write_table(tasks, folder / "meta" / "tasks.parquet")
    return folder


WRITERS = {"v2.1": write_v21, "v3.0": write_v30}
