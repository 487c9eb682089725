"""Download registered datasets from the public bucket (or a mirror of it): a plan first, then files that are whole.

Nothing here touches the network except `fetch`. A shard is downloaded into a hidden file beside its place, from where
the last attempt stopped (HTTP Range). It gets its name only when its size is the one the server stated, each record's
checksum is right, and there are as many records as dataset_info.json says. dataset_info.json is written last and names
the shards that are there, so a part of a dataset is a dataset too, for TFDS as well.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from genie_robot.data.atomic import whole_file
from genie_robot.data.locate import registered
from genie_robot.data.registry import DatasetFacts
from genie_robot.data.rlds import RldsDataset
from genie_robot.data.tfrecord import BadRecord, scan_records
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError, DiskFullError

_ATTEMPTS = 5  # in a row without a single new byte
_PIECE_BYTES = 1 << 20
_TIMEOUT_S = 60.0
_PAUSE_S = 0.1  # after the first attempt that brought nothing, doubled each time
_FRAMING_BYTES = 16  # a TFRecord's length and checksums
_DESCRIPTION = ("dataset_info.json", "features.json")


@dataclass(frozen=True)
class Wish:
    """One dataset of a plan: where it goes, and how many of its shards are wanted of each split (None: all)."""

    facts: DatasetFacts
    folder: Path
    max_shards: int | None

    @property
    def shards(self) -> int | None:
        """Number of shard files wanted, all splits together; None where the registry does not know."""
        if not self.facts.shards:
            return None
        return sum(min(count, self.max_shards or count) for count in self.facts.shards.values())

    @property
    def gib(self) -> float | None:
        """Their size in GiB, from the mean size of a shard; None where it is not known."""
        if self.facts.gib is None or (self.max_shards is not None and self.shards is None):
            return None
        return self.facts.gib * (self.shards or 1) / (sum(self.facts.shards.values()) or 1)

    @property
    def present(self) -> int:
        """Number of shard files that are there already."""
        return len(list(self.folder.glob("*.tfrecord-*-of-*"))) if self.folder.is_dir() else 0


def plan(names: Sequence[str], root: Path, max_shards: int | None = None) -> list[Wish]:
    """What fetching these below `root` means (NAME or NAME:VERSION); DatasetNotFoundError for names that are not registered."""
    found = {name: registered(name) for name in names}
    unknown = [name for name, facts in found.items() if facts is None]
    if unknown:
        raise DatasetNotFoundError(
            f"not registered, so there is no address to fetch from: {', '.join(unknown)}; see `genie-robot data list`"
        )
    wanted = {facts.path: facts for facts in found.values() if facts is not None}  # two names may mean one
    return [Wish(facts, root / path, max_shards) for path, facts in wanted.items()]


def fetch(wish: Wish, source: str = "") -> Path:
    """Download what is missing of one dataset; returns its folder.

    `source`: address with the same folders as the bucket (https://, file://), default the registry's. DataError in one
    line when it cannot be reached; DiskFullError before anything is written when it would not fit; DatasetNotFoundError
    when the address holds no such dataset. Started again, it goes on where it stopped.
    """
    base = f"{(source or wish.facts.server).rstrip('/')}/{wish.facts.path}"
    with tempfile.TemporaryDirectory() as scratch:
        for name in _DESCRIPTION:
            with _open(f"{base}/{name}", 0) as answer:
                (Path(scratch) / name).write_bytes(answer.read())
        remote = RldsDataset(Path(scratch))
        features = (Path(scratch) / "features.json").read_bytes()
    wanted = [shard for split in remote.splits for shard in remote.shards(split)[: wish.max_shards]]
    missing = [shard for shard in wanted if not (wish.folder / shard.path.name).exists()]
    wish.folder.mkdir(parents=True, exist_ok=True)
    size = _expected_bytes(wish, len(missing))
    _check_space(wish.folder, size)
    with tqdm(desc=wish.facts.name, unit="B", unit_scale=True, disable=None, total=size) as bar:
        for shard in missing:
            _download(f"{base}/{shard.path.name}", wish.folder / shard.path.name, len(shard.numbers), bar)
    with whole_file(wish.folder / "features.json") as file:
        file.write(features)
    with whole_file(wish.folder / "dataset_info.json") as file:
        file.write(json.dumps(_info_of_what_is_there(wish.folder, remote), indent=2).encode())
    return wish.folder


def _expected_bytes(wish: Wish, shards: int) -> int | None:
    """About how much so many shards are; None where the registry does not know."""
    if wish.facts.gib is None or not wish.facts.shards:
        return None
    return int(wish.facts.gib * 2**30 * shards / sum(wish.facts.shards.values()))


def _check_space(folder: Path, size: int | None) -> None:
    free = shutil.disk_usage(folder).free
    if size is not None and size > free:
        raise DiskFullError(
            f"{folder} has {free / 2**30:.1f} GiB left; wanted {size / 2**30:.1f}: free some space, or give another --root "
            "or fewer --shards"
        )


class _Bar(Protocol):
    def update(self, n: float | None = 1) -> bool | None: ...


def _download(url: str, target: Path, records: int, bar: _Bar) -> None:
    """One shard, from where the last attempt stopped; a whole file that turns out wrong is fetched once more."""
    partial = target.with_name(f".{target.name}.part")
    for attempt in range(2):
        _append(url, partial, bar)
        reason = _fault(partial, records)
        if not reason:
            partial.replace(target)
            return
        bar.update(-partial.stat().st_size)
        partial.unlink()
        if attempt:
            raise CorruptRecordError(
                f"{url} is damaged where it lies ({reason}); fetch it from another --source"
            )


def _append(url: str, partial: Path, bar: _Bar) -> None:
    """Bring `partial` to its full size, going on after cut connections as long as new bytes arrive."""
    if partial.exists():
        bar.update(partial.stat().st_size)
    idle = 0
    while True:
        before = partial.stat().st_size if partial.exists() else 0
        try:
            size = _append_once(url, partial, before, bar)
            reason = f"{partial.stat().st_size} of {size} bytes came"
            if size is None or partial.stat().st_size >= size:
                return
        except _NothingLeft:
            return
        except (HTTPException, OSError, _UnreachableError) as error:
            reason = str(error) or repr(error)
        after = partial.stat().st_size if partial.exists() else 0
        idle = 0 if after > before else idle + 1
        if idle >= _ATTEMPTS:
            raise DataError(
                f"{url} breaks off again and again ({reason}); the same command goes on from there"
            )
        time.sleep(min(_PAUSE_S * 2**idle, 5.0))


def _append_once(url: str, partial: Path, offset: int, bar: _Bar) -> int | None:
    """One request; returns the size of the whole file, None where the server does not state it."""
    with _open(url, offset) as answer:
        if offset and getattr(answer, "status", None) != 206:  # this server knows no ranges: it begins anew
            bar.update(-offset)
            partial.unlink()
            offset = 0
        length = answer.headers.get("Content-Length")
        with partial.open("ab") as file:
            while piece := answer.read(_PIECE_BYTES):
                file.write(piece)
                bar.update(len(piece))
    return None if length is None else offset + int(length)


class _NothingLeft(Exception):
    """The server has nothing after the bytes that are here: the file is whole."""


class _UnreachableError(DataError):
    """The server does not answer, or not now."""


def _open(url: str, offset: int) -> Any:
    """The answer to a request for the bytes from `offset` on; one-line errors for what a person can mend."""
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416 and offset:
            raise _NothingLeft from error
        if error.code in (403, 404):
            raise DatasetNotFoundError(
                f"{url} is not there (HTTP {error.code}); give a --source that has it"
            ) from error
        busy = error.code >= 500 or error.code == 429
        kind = _UnreachableError if busy else DataError
        raise kind(f"{url} answers HTTP {error.code} ({error.reason}); try again later") from error
    except urllib.error.URLError as error:
        raise _cannot_reach(url, error) from error
    except ValueError as error:
        raise DataError(
            f"--source gives {url!r}; wanted an address such as https://... or file://..."
        ) from error


def _cannot_reach(url: str, error: urllib.error.URLError) -> DataError:
    if url.startswith("file:"):
        return DatasetNotFoundError(f"{url} is not there; give a --source that has it")
    return _UnreachableError(f"no network: {url} cannot be reached ({error.reason}); nothing was changed")


def _fault(path: Path, records: int) -> str:
    """What is wrong with a shard, "" for nothing: every checksum is looked at."""
    count = 0
    for record in scan_records(path):
        if isinstance(record, BadRecord):
            return f"record {record.number}: {record.reason}"
        count += 1
    return "" if count == records else f"{count} records, wanted {records}"


def _info_of_what_is_there(folder: Path, remote: RldsDataset) -> dict[str, Any]:
    """dataset_info.json of the shards that are in the folder: the first so many of each split."""
    splits = []
    for split in remote.info["splits"]:
        here = [folder / shard.path.name for shard in remote.shards(split["name"])]
        count = next((number for number, path in enumerate(here) if not path.exists()), len(here))
        if count == len(here):
            splits.append(split)
        elif count:
            template = split.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
            lengths = split["shardLengths"][:count]
            size = sum(path.stat().st_size for path in here[:count])
            part = {
                # the total of the files' names stays as it is, whatever the number of shards
                "filepathTemplate": template.replace("{SHARD_X_OF_Y}", f"{{SHARD_INDEX}}-of-{len(here):05d}"),
                "numBytes": str(size - _FRAMING_BYTES * sum(int(length) for length in lengths)),
                "shardLengths": lengths,
            }
            splits.append({**split, **part})
    return {**remote.info, "splits": splits}
