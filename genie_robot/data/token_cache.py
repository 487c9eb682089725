"""The token cache: clips as tokens and latent actions, encoded once, as shards that training reads at random.

    cache = TokenCache.open("outputs/cache/tokens", tokenizer_hash, latent_action_hash)
    for clips in TokenLoader([cache], batch_size=32): ...     # TokenClips(tokens_BTN, actions)

`training/tokens.py` writes it. A cache is a folder: `index.json` (what it was made from and how it is laid out), and
shards `tokens_00000.npy` (clips, T, N) and `actions_00000.npy` (clips, S) codes or (clips, S, K) vectors. It stores
whole clips, not frames: the tokens of a frame depend on where its window begins when the encoder looks back in time.
Shapes: B rows of this process, T frames, S = T - 1 steps, N tokens a frame, K numbers of a continuous action.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genie_robot.data.atomic import whole_file
from genie_robot.data.loader import ShuffledLoader
from genie_robot.data.order import Order, mixture_weights
from genie_robot.errors import CheckpointError, DataError, DatasetNotFoundError

_FORMAT = 1
_INDEX = "index.json"
_CODES = (np.uint16, np.uint32, np.uint64)


@dataclass(frozen=True)
class TokenIndex:
    """What a token cache was made from, and its layout; two caches with equal indices hold the same."""

    tokenizer: str  # weights_hash of the tokenizer
    latent_action: str  # and of the latent action model
    clips: str  # ClipCache.contents
    precision: str  # number type of the encoders' products
    num_frames: int
    stride: int  # frames between the beginnings of two clips
    tokens_per_frame: int
    codebook_size: int
    num_actions: int  # 0: an action is a vector of `action_dim`
    action_dim: int
    num_clips: int
    clips_per_shard: int
    format: int = _FORMAT

    @property
    def shards(self) -> range:
        """Shard numbers."""
        return range(-(-self.num_clips // self.clips_per_shard))

    def clips_of(self, shard: int) -> range:
        """Numbers of the clips in a shard."""
        first = shard * self.clips_per_shard
        return range(first, min(first + self.clips_per_shard, self.num_clips))

    def layout(self, shard: int) -> tuple[tuple[str, np.dtype, tuple[int, ...]], ...]:
        """(file name, number type, shape) of the two files of a shard."""
        clips, steps = len(self.clips_of(shard)), self.num_frames - 1
        tokens = (clips, self.num_frames, self.tokens_per_frame)
        if self.num_actions:
            action_type, actions = code_type(self.num_actions), (clips, steps)
        else:
            action_type, actions = np.dtype(np.float32), (clips, steps, self.action_dim)
        return (
            (f"tokens_{shard:05d}.npy", code_type(self.codebook_size), tokens),
            (f"actions_{shard:05d}.npy", action_type, actions),
        )


def code_type(size: int) -> np.dtype:
    """Smallest type of 2 bytes or more that holds the codes 0 to size - 1."""
    return next(np.dtype(kind) for kind in _CODES if size - 1 <= np.iinfo(kind).max)


class TokenCache:
    """A finished folder of shards, opened for reading: nothing is loaded but what is asked for."""

    def __init__(self, folder: Path, index: TokenIndex) -> None:
        self.folder, self.index = folder, index
        self._shards = [
            tuple(_map(folder / name, dtype, shape) for name, dtype, shape in index.layout(shard))
            for shard in index.shards
        ]

    @classmethod
    def open(cls, folder: str | Path, tokenizer_hash: str, latent_action_hash: str) -> TokenCache:
        """Open a cache made by these two networks (`models.hashing.weights_hash`).

        DatasetNotFoundError when there is none, CheckpointError when other weights made it, DataError when it is not whole.
        """
        index = read_index(Path(folder))
        if index is None:
            raise DatasetNotFoundError(f"{folder} is no token cache ({_INDEX} is missing); build it")
        wanted = {"format": _FORMAT, "tokenizer": tokenizer_hash, "latent_action": latent_action_hash}
        _refuse_others(Path(folder), index, wanted)
        return cls(Path(folder), index)

    def __len__(self) -> int:
        """Number of clips."""
        return self.index.num_clips

    def clip(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens (T,N) and actions (S,) or (S,K) of a clip, as stored (views of the files)."""
        shard, row = divmod(number, self.index.clips_per_shard)
        tokens, actions = self._shards[shard]
        return tokens[row], actions[row]


class TokenClips(NamedTuple):
    """A batch of clips: int64 tokens (B,T,N), and int64 codes (B,S) or float32 vectors (B,S,K) of their steps."""

    tokens_BTN: np.ndarray
    actions: np.ndarray


class TokenLoader(ShuffledLoader[TokenClips]):
    """Endless iterator of `TokenClips` of one cache or a mixture of them; see `ShuffledLoader`, weights `ClipLoader`."""

    def __init__(
        self,
        caches: Sequence[TokenCache],
        batch_size: int,
        seed: int = 0,
        *,
        weights: Sequence[float] | None = None,
        balanced: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.caches = list(caches)
        sizes = [len(cache) for cache in self.caches]
        names = [cache.index.clips for cache in self.caches]
        order = Order(sizes, mixture_weights(sizes, weights, balanced), names)
        super().__init__(order, batch_size, seed, rank, world_size)

    def __next__(self) -> TokenClips:
        """The next batch, as far as it is of this process."""
        clips = [self.caches[place.dataset].clip(place.window) for place in self.next_places()]
        tokens, actions = (np.stack(parts) for parts in zip(*clips, strict=True))
        return TokenClips(
            tokens.astype(np.int64), actions.astype(np.int64) if self.caches[0].index.num_actions else actions
        )


def claim_folder(folder: Path, index: TokenIndex, writer: str) -> None:
    """Make `folder` the place of the cache `index`: the first step of building it, or of going on with it.

    CheckpointError when a cache made from something else is there; it is left as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stored = read_index(folder)
    if stored is None:
        with whole_file(folder / _INDEX, writer) as file:
            file.write((json.dumps(asdict(index), indent=1) + "\n").encode())
        return
    _refuse_others(folder, stored, asdict(index))


def write_shard(folder: Path, index: TokenIndex, shard: int, tokens: np.ndarray, actions: np.ndarray) -> None:
    """Write both files of a shard, each whole or not at all. DiskFullError."""
    for (name, dtype, shape), values in zip(index.layout(shard), (tokens, actions), strict=True):
        assert values.shape == shape, (values.shape, shape)
        with whole_file(folder / name) as file:
            np.save(file, values.astype(dtype))


def has_shard(folder: Path, index: TokenIndex, shard: int) -> bool:
    """Whether a shard is finished."""
    return all((folder / name).exists() for name, _, _ in index.layout(shard))


def read_index(folder: Path) -> TokenIndex | None:
    """The index of a cache, finished or not; None when there is none, DataError when it cannot be read."""
    path = folder / _INDEX
    try:
        return TokenIndex(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}); remove {folder} so that it is built again"
        ) from error


def _refuse_others(folder: Path, stored: TokenIndex, wanted: Mapping[str, Any]) -> None:
    for name, value in wanted.items():
        if getattr(stored, name) != value:
            raise CheckpointError(
                f"{folder}: its tokens were made with {name} {getattr(stored, name)}, wanted {value}; "
                "remove the folder so that they are made again, or use another one"
            )


def _map(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(
            f"{path} is missing: the cache is not finished; run the command that made it again"
        ) from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); remove it and make it again") from error
    if values.dtype != dtype or values.shape != shape:
        got = f"{values.dtype} {values.shape}"
        raise DataError(f"{path} holds {got}, wanted {dtype} {shape}; remove it and make it again")
    return values
