"""The token cache on disk: layout, what is refused, and the loader that reads it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.token_cache import (
    TokenCache,
    TokenIndex,
    TokenLoader,
    claim_folder,
    code_type,
    has_shard,
    write_shard,
)
from genie_robot.errors import CheckpointError, DataError, DatasetNotFoundError

INDEX = TokenIndex(
    tokenizer="aaa",
    latent_action="bbb",
    clips="ccc",
    precision="torch.float32",
    num_frames=3,
    stride=1,
    tokens_per_frame=4,
    codebook_size=70_000,
    num_actions=8,
    action_dim=5,
    num_clips=11,
    clips_per_shard=4,
)


def contents(index: TokenIndex) -> tuple[np.ndarray, np.ndarray]:
    """Tokens (clips,T,N) and actions (clips,S) or (clips,S,K) of a whole cache."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, index.codebook_size, (index.num_clips, index.num_frames, index.tokens_per_frame))
    shape = (index.num_clips, index.num_frames - 1)
    if index.num_actions:
        return tokens, rng.integers(0, index.num_actions, shape)
    return tokens, rng.normal(size=(*shape, index.action_dim)).astype(np.float32)


def write(folder: Path, index: TokenIndex = INDEX) -> Path:
    tokens, actions = contents(index)
    claim_folder(folder, index, writer="")
    for shard in index.shards:
        part = index.clips_of(shard)
        write_shard(folder, index, shard, tokens[part.start : part.stop], actions[part.start : part.stop])
    return folder


@pytest.mark.parametrize("num_actions", [8, 0])
def test_what_was_written_is_read_clip_by_clip_from_disk(tmp_path: Path, num_actions: int) -> None:
    index = dataclasses.replace(INDEX, num_actions=num_actions)
    cache = TokenCache.open(write(tmp_path / "tokens", index), "aaa", "bbb")
    tokens, actions = contents(index)
    assert len(cache) == 11
    for number in range(11):
        one, other = cache.clip(number)
        np.testing.assert_array_equal(one, tokens[number])
        np.testing.assert_array_equal(other, actions[number])
        assert isinstance(one, np.memmap) and isinstance(other, np.memmap), "nothing is loaded whole"
    names = [f"{kind}_{shard:05d}.npy" for kind in ("actions", "tokens") for shard in range(3)]
    assert sorted(path.name for path in cache.folder.iterdir()) == sorted([*names, "index.json"])
    assert np.load(cache.folder / "tokens_00002.npy").shape == (3, 3, 4)
    assert np.load(cache.folder / "tokens_00000.npy").dtype == np.uint32
    assert np.load(cache.folder / "actions_00000.npy").dtype == (np.uint16 if num_actions else np.float32)


def test_codes_take_two_bytes_where_they_fit() -> None:
    sizes = {2: np.uint16, 65536: np.uint16, 65537: np.uint32, 2**18: np.uint32, 2**33: np.uint64}
    assert all(code_type(size) == wanted for size, wanted in sizes.items())


@pytest.mark.parametrize("num_actions", [8, 0])
def test_batches_are_the_clips_of_the_order(tmp_path: Path, num_actions: int) -> None:
    index = dataclasses.replace(INDEX, num_actions=num_actions)
    cache = TokenCache.open(write(tmp_path / "tokens", index), "aaa", "bbb")
    tokens, actions = contents(index)
    loader, order = TokenLoader([cache], 4, seed=3), TokenLoader([cache], 4, seed=3)
    seen: list[int] = []
    for _ in range(11):
        batch, numbers = next(loader), [place.window for place in order.next_places()]
        np.testing.assert_array_equal(batch.tokens_BTN, tokens[numbers])
        np.testing.assert_array_equal(batch.actions, actions[numbers])
        assert batch.tokens_BTN.dtype == np.int64
        assert batch.actions.dtype == (np.int64 if num_actions else np.float32)
        assert batch.actions.flags.writeable and batch.actions.flags.c_contiguous
        seen += numbers
    assert sorted(seen) == sorted([*range(11)] * 4), "four epochs"
    assert seen[:11] != seen[11:22]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_resume_is_exact_with_any_number_of_processes(tmp_path: Path, world_size: int) -> None:
    cache = TokenCache.open(write(tmp_path / "tokens"), "aaa", "bbb")
    one = TokenLoader([cache], 8, seed=3)
    for _ in range(5):
        next(one)
    state = json.loads(json.dumps(one.state_dict()))
    many = [TokenLoader([cache], 8, rank=rank, world_size=world_size) for rank in range(world_size)]
    for loader in many:
        loader.load_state_dict(state)
    for _ in range(3):
        wanted = next(one)
        parts = [next(loader) for loader in many]
        np.testing.assert_array_equal(np.concatenate([part.tokens_BTN for part in parts]), wanted.tokens_BTN)
        np.testing.assert_array_equal(np.concatenate([part.actions for part in parts]), wanted.actions)


def test_other_weights_are_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = write(tmp_path / "tokens")
    for hashes, said in (
        (("zzz", "bbb"), "tokenizer aaa, wanted zzz"),
        (("aaa", "zzz"), "latent_action bbb, wanted zzz"),
    ):
        with pytest.raises(CheckpointError, match=f"{said}; remove the folder .* or use another") as caught:
            TokenCache.open(folder, *hashes)
        assert "\n" not in str(caught.value)
    with pytest.raises(CheckpointError, match="stride 1, wanted 2"):
        claim_folder(folder, dataclasses.replace(INDEX, stride=2), writer="")
    claim_folder(folder, INDEX, writer="")
    assert len(TokenCache.open(folder, "aaa", "bbb")) == 11


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetNotFoundError, match="is no token cache"):
        TokenCache.open(tmp_path / "nowhere", "aaa", "bbb")
    folder = write(tmp_path / "tokens")
    shard = folder / "tokens_00001.npy"
    whole = shard.read_bytes()
    for content, said in (
        (whole[:-1], "cannot be read"),
        (whole[:20], "cannot be read"),
        (b"", "cannot be read"),
        ((folder / "tokens_00002.npy").read_bytes(), r"holds uint32 \(3, 3, 4\), wanted uint32 \(4, 3, 4\)"),
    ):
        shard.write_bytes(content)
        with pytest.raises(DataError, match=rf"tokens_00001\.npy {said}.*; remove it and make it again"):
            TokenCache.open(folder, "aaa", "bbb")
    shard.unlink()
    assert [has_shard(folder, INDEX, number) for number in INDEX.shards] == [True, False, True]
    with pytest.raises(
        DataError, match=r"tokens_00001\.npy is missing: .* run the command that made it again"
    ):
        TokenCache.open(folder, "aaa", "bbb")
    for content in ("{", "[]", '{"format": 1}'):
        (folder / "index.json").write_text(content)
        with pytest.raises(DataError, match=r"index\.json cannot be read"):
            TokenCache.open(folder, "aaa", "bbb")
