"""Downloads from a real HTTP server on this machine, which cuts connections, lies and comes back."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.cli import main
from genie_robot.data import fetch as fetch_module
from genie_robot.data.fetch import fetch, plan
from genie_robot.data.mixture import load_mixture, open_parts
from genie_robot.data.open import open_dataset
from genie_robot.data.registry import REGISTRY
from genie_robot.data.rlds_writer import write_dataset
from genie_robot.errors import CorruptRecordError, DataError, DatasetNotFoundError, DiskFullError

NAME = "nyu_rot_dataset_converted_externally_to_rlds"
LENGTHS = [5, 6, 7, 8]


class Bucket(ThreadingHTTPServer):
    """Serves a folder; what goes wrong is set by the test."""

    folder: Path
    ranges = True  # answers Range requests
    states_size = True
    cut_after = 0  # bytes sent of a shard before the connection is cut; 0: never
    refuse_shards = 0  # so many requests for shards are refused
    spoil: str = ""  # name of a file whose last byte is sent wrong

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.requests = folder, []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event here."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Bucket
    protocol_version = "HTTP/1.0"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        server, file = self.server, self.server.folder / self.path.lstrip("/")
        server.requests.append((file.name, self.headers.get("Range", "")))
        is_shard = "tfrecord" in file.name
        if is_shard and server.refuse_shards:
            server.refuse_shards -= 1
            self.send_error(503)
            return
        if not file.is_file():
            self.send_error(404)
            return
        content = bytearray(file.read_bytes())
        if file.name == server.spoil:
            content[-1] ^= 1
        asked = self.headers.get("Range") if server.ranges else None
        first = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if asked and first >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if asked else 200)
        if server.states_size:
            self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        part = content[first:]
        if is_shard and server.cut_after and len(part) > server.cut_after:
            self.wfile.write(part[: server.cut_after])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(part)


@pytest.fixture
def mirror(tmp_path: Path, new_episode: Callable[..., dict[str, Any]]) -> Path:
    splits = {
        "train": (new_episode(number, length, state=None) for number, length in enumerate(LENGTHS)),
        "val": [new_episode(9, 3, state=None)],
    }
    write_dataset(tmp_path / "mirror", NAME, "0.1.0", splits, (24, 32), 3.0, shard_bytes=12_000)
    return tmp_path / "mirror"


@pytest.fixture
def bucket(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setattr(fetch_module, "_PAUSE_S", 0.001)
    server = Bucket(mirror)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch_all(root: Path, source: str, max_shards: int | None = None) -> Path:
    (wish,) = plan([NAME], root, max_shards)
    return fetch(wish, source)


def frames_of(folder: Path, split: str = "train") -> list[np.ndarray]:
    return [episode.frames_TYXC for episode in open_dataset(folder).episodes(split)]


def same(folder: Path, mirror: Path, count: int = len(LENGTHS)) -> None:
    for got, wanted in zip(frames_of(folder), frames_of(mirror)[:count], strict=True):
        np.testing.assert_array_equal(got, wanted)


def shard_requests(bucket: Bucket) -> list[tuple[str, str]]:
    return [request for request in bucket.requests if "tfrecord" in request[0]]


def test_all_of_it_arrives_and_nothing_else_stays(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    folder = fetch_all(tmp_path / "root", bucket.address)
    assert folder == tmp_path / "root" / NAME / "0.1.0"
    assert open_dataset(folder).splits == {"train": 4, "val": 1}
    same(folder, mirror)
    assert {path.name for path in folder.iterdir()} == {
        path.name for path in (mirror / NAME / "0.1.0").iterdir() if path.name != "metadata.json"
    }
    before = len(shard_requests(bucket))
    fetch_all(tmp_path / "root", bucket.address)
    assert len(shard_requests(bucket)) == before  # nothing is fetched twice


def test_cut_connections_are_taken_up_where_they_broke(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    bucket.cut_after = 5000
    same(fetch_all(tmp_path / "root", bucket.address), mirror)
    starts = [range_ for _, range_ in shard_requests(bucket)]
    assert "bytes=5000-" in starts
    assert "bytes=10000-" in starts


def test_a_server_without_ranges_begins_anew(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    name = next((mirror / NAME / "0.1.0").glob("*train*00000-of*")).name
    part = tmp_path / "root" / NAME / "0.1.0" / f".{name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it, and wrong")
    bucket.ranges = False
    same(fetch_all(tmp_path / "root", bucket.address), mirror)


def test_a_file_that_was_whole_when_the_last_run_died(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    shard = next((mirror / NAME / "0.1.0").glob("*train*00000-of*"))
    part = tmp_path / "root" / NAME / "0.1.0" / f".{shard.name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(shard.read_bytes())
    same(fetch_all(tmp_path / "root", bucket.address), mirror)  # the server answers 416


@pytest.mark.parametrize("wrong", ["begins wrong", "too long"])
def test_a_bad_beginning_is_thrown_away_once(
    bucket: Bucket, mirror: Path, tmp_path: Path, wrong: str
) -> None:
    shard = next((mirror / NAME / "0.1.0").glob("*train*00000-of*"))
    part = tmp_path / "root" / NAME / "0.1.0" / f".{shard.name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"\0" * 3000 if wrong == "begins wrong" else shard.read_bytes() + b"\0" * 99)
    same(fetch_all(tmp_path / "root", bucket.address), mirror)


def test_a_damaged_file_is_never_put_in_place(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    bucket.spoil = next((mirror / NAME / "0.1.0").glob("*train*00001-of*")).name
    with pytest.raises(CorruptRecordError, match=r"is damaged where it lies .*crc32c") as caught:
        fetch_all(tmp_path / "root", bucket.address)
    assert "\n" not in str(caught.value)
    folder = tmp_path / "root" / NAME / "0.1.0"
    assert sorted(path.name for path in folder.iterdir()) == [bucket.spoil.replace("00001-of", "00000-of")]
    bucket.spoil = ""
    same(fetch_all(tmp_path / "root", bucket.address), mirror)


def test_short_outages_are_waited_out_long_ones_said(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    bucket.refuse_shards = 99
    with pytest.raises(DataError, match=r"HTTP 503.*; the same command goes on from there") as caught:
        fetch_all(tmp_path / "root", bucket.address)
    assert "\n" not in str(caught.value)
    bucket.refuse_shards = 3
    same(fetch_all(tmp_path / "root", bucket.address), mirror)


def test_a_server_that_does_not_state_sizes(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    bucket.states_size = False
    same(fetch_all(tmp_path / "root", bucket.address), mirror)


@pytest.mark.parametrize("first", [1, 2])
def test_the_first_shards_are_a_dataset_and_grow(
    bucket: Bucket, mirror: Path, tmp_path: Path, first: int
) -> None:
    folder = fetch_all(tmp_path / "root", bucket.address, first)
    assert open_dataset(folder).splits == {"train": first, "val": 1}
    same(folder, mirror, first)
    same(fetch_all(tmp_path / "root", bucket.address), mirror)
    fetch_all(tmp_path / "root", bucket.address, 1)  # asking for less takes nothing away
    same(folder, mirror)


def test_the_first_shards_are_a_dataset_for_tfds(mirror: Path, tmp_path: Path) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    builder: Any = tfds.builder_from_directory(str(fetch_all(tmp_path / "root", mirror.as_uri(), 2)))
    assert builder.info.splits["train"].num_examples == 2
    lengths = [len(list(record["steps"])) for record in builder.as_dataset(split="train")]
    assert sorted(lengths) == LENGTHS[:2]


def test_another_run_goes_on_where_a_killed_one_stopped(bucket: Bucket, mirror: Path, tmp_path: Path) -> None:
    shard = next((mirror / NAME / "0.1.0").glob("*train*00000-of*"))
    part = tmp_path / "root" / NAME / "0.1.0" / f".{shard.name}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(shard.read_bytes()[:4321])
    same(fetch_all(tmp_path / "root", bucket.address), mirror)
    assert [range_ for name, range_ in bucket.requests if name == shard.name] == ["bytes=4321-"]


def test_a_mirror_on_disk(mirror: Path, tmp_path: Path) -> None:
    same(fetch_all(tmp_path / "root", mirror.as_uri()), mirror)
    with pytest.raises(DatasetNotFoundError, match=r"dataset_info.json is not there; give a --source"):
        fetch_all(tmp_path / "other", (mirror / "nothing").as_uri())


def test_addresses_that_lead_nowhere_are_one_line(bucket: Bucket, tmp_path: Path) -> None:
    free = socket.socket()
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    for source, kind, message in (
        (f"http://127.0.0.1:{port}", DataError, "^no network: .* cannot be reached .*nothing was changed$"),
        ("http://name.invalid", DataError, "^no network: "),
        (f"{bucket.address}/elsewhere", DatasetNotFoundError, "is not there .HTTP 404."),
        ("mirror", DataError, "wanted an address such as https"),
    ):
        with pytest.raises(kind, match=message) as caught:
            fetch_all(tmp_path / "root", source)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "root").exists()


def test_a_full_disk_is_known_before(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(fetch_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match=r"wanted 0.0: free some space, or give another --root or fewer"):
        fetch_all(tmp_path / "root", mirror.as_uri())


def test_the_plan_counts_shards_and_bytes(tmp_path: Path) -> None:
    rt1, kuka = plan(["fractal20220817_data", "kuka", "kuka"], tmp_path, 8)
    assert (rt1.shards, kuka.shards) == (8, 8)
    assert rt1.gib == pytest.approx(REGISTRY["fractal20220817_data"].gib * 8 / 1024)  # type: ignore[operator]
    (whole,) = plan(["bc_z"], tmp_path)
    assert (whole.shards, whole.gib, whole.present) == (1088, REGISTRY["bc_z"].gib, 0)
    (unknown,) = plan(["bridge_data_msr"], tmp_path, 3)
    assert (unknown.shards, unknown.gib) == (None, None)
    with pytest.raises(DatasetNotFoundError, match=r"not registered.*: rt_two; see"):
        plan(["kuka", "rt_two"], tmp_path)


def test_the_command_plans_without_network_and_does_it_with_yes(
    bucket: Bucket, mirror: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mixture = tmp_path / "mine.yaml"
    mixture.write_text(f"parts:\n  - {{dataset: {NAME}, weight: 2}}\n  - {{dataset: mirror}}\n")
    command = ["data", "fetch", str(mixture), "--root", str(tmp_path / "root"), "--source", bucket.address]
    assert main([*command, "--json", str(tmp_path / "plan.json")]) == 0
    shown = capsys.readouterr().out
    assert "nothing was downloaded: add --yes to do it" in shown
    assert bucket.requests == []
    content = json.loads((tmp_path / "plan.json").read_text())
    (row,) = content["datasets"]  # the part that is a folder here needs no fetching
    assert (row["name"], row["shards"], row["shards_present"]) == (NAME, 1, 0)
    assert row["seconds"] == pytest.approx(row["gb"] * 1e3 / 20)
    assert main([*command, "--yes"]) == 0
    assert "whole and verified" in capsys.readouterr().out
    same(tmp_path / "root" / NAME / "0.1.0", mirror)


def test_the_command_offline_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "fetch", "nyu_rot_dataset", "--root", str(tmp_path), "--yes"]
    assert main([*command, "--source", "http://name.invalid"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("genie-robot: no network: ")
    assert error.count("\n") == 1
    for wrong in (["--shards", "0"], ["--speed", "0"]):
        assert main([*command, *wrong]) == 2
    assert main(["data", "fetch", "no_such_thing"]) == 2


@pytest.fixture
def mixed(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mixture file with a root of its own and a part of every kind."""
    from tests.bags import camera_messages, write_bag

    for variable in ("GENIE_ROBOT_DATA", "TFDS_DATA_DIR"):
        monkeypatch.setenv(variable, str(tmp_path / "not_here"))
    (tmp_path / "bags").mkdir()
    write_bag(tmp_path / "bags" / "kitchen", camera_messages(3))
    (tmp_path / NAME).mkdir()  # empty: hides no dataset
    mixture = tmp_path / "mine.yaml"
    mixture.write_text(
        f"root: own\nparts:\n  - {{dataset: {NAME}, weight: 2}}\n  - {{dataset: bags/kitchen}}\n  - {{dataset: mirror}}\n"
        "  - {dataset: 'taco_play:0.2.0'}\n  - {dataset: 'gs://gresearch/robotics/kuka/0.1.0'}\n"
    )
    return mixture


def test_a_mixture_is_fetched_into_its_own_root(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "fetch", str(mixed), "--json", str(tmp_path / "plan.json")]) == 0
    assert f"into {tmp_path / 'own'}\n" in capsys.readouterr().out
    content = json.loads((tmp_path / "plan.json").read_text())
    own = tmp_path / "own"
    assert [(row["folder"], row["shards"]) for row in content["datasets"]] == [
        (str(own / NAME / "0.1.0"), 1),
        (str(own / "taco_play" / "0.2.0"), None),  # of another version than the registry's, nothing is known
    ]
    assert content["not_fetched"] == {
        str(tmp_path / "bags/kitchen"): "here already",
        str(tmp_path / "mirror"): "here already",
        "gs://gresearch/robotics/kuka/0.1.0": "read where it is, through TFDS",
    }


def test_what_is_fetched_for_a_mixture_is_found_by_it(mirror: Path, tmp_path: Path) -> None:
    mixture = tmp_path / "mine.yaml"
    mixture.write_text(f"root: own\nparts:\n  - {{dataset: '{NAME}:0.1.0'}}\n  - {{dataset: mirror}}\n")
    assert main(["data", "fetch", str(mixture), "--source", mirror.as_uri(), "--yes"]) == 0
    first, second = open_parts(load_mixture(str(mixture)), tmp_path / "elsewhere")
    assert first.folder == tmp_path / "own" / NAME / "0.1.0"
    assert Path(second.folder) == mirror / NAME / "0.1.0"


def test_several_at_once_and_a_wrong_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "fetch", "bc_z", "rt1", "bc_z:0.1.0", "--root", str(tmp_path)]
    assert main([*command, "--json", str(tmp_path / "plan.json")]) == 0
    rows = json.loads((tmp_path / "plan.json").read_text())["datasets"]
    assert [row["name"] for row in rows] == ["bc_z", "fractal20220817_data"]
    capsys.readouterr()
    assert main(["data", "fetch", "nonsense"]) == 2
    error = capsys.readouterr().err
    assert "'nonsense'" in error and "genie-robot data list" in error and error.count("\n") == 1
    (tmp_path / "mine.yaml").write_text("parts:\n  - {dataset: bc_z}\n  - {dataset: bags/kitchen}\n")
    assert main(["data", "fetch", str(tmp_path / "mine.yaml")]) == 2
    assert "bags/kitchen does not exist" in capsys.readouterr().err
