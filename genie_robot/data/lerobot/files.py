"""The files of a LeRobotDataset folder, and the one file that uses pyarrow: what episodes there are, numbers, pictures.

v2.0 and v2.1: meta/episodes.jsonl and meta/tasks.jsonl, one parquet file and one MP4 per camera for each episode.
v3.0: meta/episodes/*/*.parquet and meta/tasks.parquet, many episodes in a parquet file and in an MP4.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from genie_robot.data.decode import decode_image
from genie_robot.data.video import read_frames
from genie_robot.errors import DataError, ImageError


@dataclass(frozen=True)
class StoredEpisode:
    """Where one episode lies: its index, first task, parquet file, and per camera an MP4 and the episode's start in it."""

    index: int
    task: str
    data: Path
    videos: Mapping[str, tuple[Path, float]]


class LeRobotFiles:
    """Reads the parquet and MP4 files that `info` (meta/info.json) describes; DataError for a missing or broken one."""

    def __init__(self, folder: Path, info: Mapping[str, Any], video_keys: Sequence[str]) -> None:
        self.folder = folder
        try:
            major = int(str(info["codebase_version"]).lstrip("v").split(".")[0])
            rows = self._rows_v3() if major >= 3 else self._rows_v2()
            self.episodes = [self._episode(row, info, video_keys, major) for row in rows]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{folder / 'meta'} is not complete ({error!r}); fetch it again") from error
        self.episodes.sort(key=lambda episode: episode.index)
        self._last: tuple[Path, dict[tuple[str, ...], tuple[pa.Table, dict[int, slice]]]] = folder, {}

    def __copy__(self) -> LeRobotFiles:
        """The same files for another thread, with a memory of its own for the last one read."""
        twin = object.__new__(LeRobotFiles)
        twin.__dict__.update(self.__dict__, _last=(self.folder, {}))
        return twin

    def _rows_v2(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._lines("meta/episodes.jsonl")]

    def _lines(self, name: str) -> list[str]:
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; fetch it again")
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]

    def _rows_v3(self) -> list[dict[str, Any]]:
        paths = sorted((self.folder / "meta" / "episodes").glob("*/*.parquet"))
        if not paths:
            raise DataError(f"{self.folder / 'meta' / 'episodes'} holds no parquet file; fetch it again")
        rows: list[dict[str, Any]] = []
        for path in paths:
            names = [name for name in _open(path).schema_arrow.names if not name.startswith("stats/")]
            rows += _open(path).read(columns=names).to_pylist()
        return rows

    def _episode(
        self, row: Mapping[str, Any], info: Mapping[str, Any], video_keys: Sequence[str], major: int
    ) -> StoredEpisode:
        index = int(row["episode_index"])
        tasks = row.get("tasks") or [""]
        if major >= 3:
            data = {"chunk_index": row["data/chunk_index"], "file_index": row["data/file_index"]}
        else:
            data = {"episode_chunk": index // int(info.get("chunks_size") or 1000), "episode_index": index}
        videos = {}
        for key in video_keys:
            place, start = dict(data), 0.0
            if major >= 3:
                place = {name: row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index")}
                start = float(row[f"videos/{key}/from_timestamp"])
            videos[key] = (self.folder / info["video_path"].format(video_key=key, **place), start)
        task = tasks[0] if isinstance(tasks, list) else str(tasks)
        return StoredEpisode(index, task, self.folder / info["data_path"].format(**data), videos)

    def numbers(self, episode: StoredEpisode, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Columns of an episode's rows as float64 arrays (T,) or (T, A)."""
        table = self._table(episode, names)
        result = {}
        for name in names:
            column = table[name].combine_chunks()
            flat = column.flatten() if pa.types.is_nested(column.type) else column
            values = np.asarray(flat.to_numpy(zero_copy_only=False), np.float64)
            result[name] = values.reshape(len(column), -1) if flat is not column else values
        return result

    def stored_images(self, episode: StoredEpisode, camera: str, rows_T: np.ndarray) -> list[bytes]:
        """PNG or JPEG bytes of these rows of a camera whose pictures lie in the parquet file, or in files it names."""
        images = []
        for entry in self._table(episode, [camera])[camera].take(pa.array(rows_T)).to_pylist():
            if not isinstance(entry, dict) or not (entry.get("bytes") or entry.get("path")):
                raise ImageError(f"{episode.data}: {camera} holds no pictures; fetch it again")
            images.append(entry.get("bytes") or self._file(entry["path"]))
        return images

    def _file(self, name: str) -> bytes:
        path = self.folder / name
        if not path.is_file():
            raise DataError(f"{path} is missing; fetch it again")
        return path.read_bytes()

    def frames(
        self, episode: StoredEpisode, camera: str, times_T: np.ndarray, rows_T: np.ndarray, tolerance_s: float
    ) -> Iterator[np.ndarray]:
        """uint8 RGB frames of a camera at these times of the episode (for a video) or in these rows (for pictures)."""
        if camera in episode.videos:
            path, start = episode.videos[camera]
            return read_frames(path, start + times_T, tolerance_s)
        return (decode_image(encoded) for encoded in self.stored_images(episode, camera, rows_T))

    def _table(self, episode: StoredEpisode, names: Sequence[str]) -> pa.Table:
        """These columns of the episode's rows. Those of the last file are kept: the next episode is often in it too."""
        if self._last[0] != episode.data:
            self._last = episode.data, {}
        kept = self._last[1]
        key = tuple(names)
        if key not in kept:
            if not episode.data.is_file():
                raise DataError(f"{episode.data} is missing; fetch it again")
            columns = ["episode_index", *names]
            try:
                table = _open(episode.data).read(columns=columns)
                lacking = [name for name in columns if name not in table.column_names]
                if lacking:
                    raise DataError(f"{episode.data} has no column {lacking}; fetch it again")
                kept[key] = table, _places(table["episode_index"].to_numpy().astype(np.int64))
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{episode.data} cannot be read ({error}); fetch it again") from error
        table, places = kept[key]
        place = places.get(episode.index, slice(0, 0))
        return table.slice(place.start, place.stop - place.start)


def _places(indices_N: np.ndarray) -> dict[int, slice]:
    """Episode index -> its rows in a file, which lie together."""
    starts = np.flatnonzero(np.diff(indices_N, prepend=-1))
    ends = np.append(starts, len(indices_N))[1:]
    return {int(indices_N[start]): slice(start, end) for start, end in zip(starts, ends, strict=True)}


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); fetch it again") from error
