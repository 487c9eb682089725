"""Building the token cache: the same tokens as from pixels, no frame left out, killed and gone on with."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_robot.config import WorldModelConfig
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.clips import CLIP_TYPE, ClipCache, Windows
from genie_robot.data.token_cache import TokenCache
from genie_robot.errors import CheckpointError, ConfigError, DataError
from genie_robot.models.hashing import weights_hash
from genie_robot.models.world_model import WorldModel
from genie_robot.training import tokens as tokens_module
from genie_robot.training.parallel import Processes
from genie_robot.training.tokens import build_token_cache
from tests.invariants.conftest import small_config

KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from genie_robot.data.clips import ClipCache
from tests.training.test_tokens import build, make
save, calls = np.save, iter(range(100))
def dying_save(file, values):
    if next(calls) == 5:  # tokens and actions of two shards are written, and the tokens of a third
        file.write(b"half of it")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(file, values)
np.save = dying_save
build(make("paper"), ClipCache.open(sys.argv[1]), Path(sys.argv[2]))
"""


def make(kind: str) -> WorldModel:
    """A model whose random weights spread the tokens; `kind` is a variant of tests/invariants, or changes `paper`."""
    torch.manual_seed(0)
    config: WorldModelConfig = small_config("tiny" if kind == "tiny" else "paper")
    changes: dict[str, dict[str, Any]] = {
        "gaussian": {"quantizer": "gaussian"},
        "tokens": {"input": "tokens"},
    }
    action = dataclasses.replace(config.latent_action, **changes.get(kind, {}))
    model = WorldModel(dataclasses.replace(config, latent_action=action))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def build(model: WorldModel, cache: ClipCache, folder: Path, **more: Any) -> TokenCache:
    return build_token_cache(model, cache, folder, 5, **{"batch_size": 3, "clips_per_shard": 8, **more})


@pytest.fixture
def cache(square_data: Path, tmp_path: Path) -> ClipCache:
    return build_clip_cache(square_data, tmp_path / "clips", 16, 24)


def window_starts(cache: ClipCache, num_frames: int, stride: int) -> list[int]:
    windows = Windows(cache, num_frames, stride)
    return windows.first_frames(np.arange(len(windows))).tolist()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["tiny", "paper", "gaussian", "tokens"])
def test_the_cache_holds_what_encoding_the_pixels_gives(cache: ClipCache, tmp_path: Path, kind: str) -> None:
    model = make(kind).train()
    tokens = build(model, cache, tmp_path / "tokens")
    assert len(tokens) == 12 * 4 and tokens.index.stride == 2  # frames 0, 2, 4 and the last place, 5, of ten
    different = set()
    for number, first in enumerate(window_starts(cache, 5, 2)):
        video = torch.from_numpy(cache.frames_FYXC[first : first + 5].copy())[None].float() / 255
        with torch.no_grad():
            wanted_BTN = model.tokenizer.encode(video)
            wanted, _ = model.latent_action.infer(model.action_input(video))
        got_TN, got = tokens.clip(number)
        np.testing.assert_array_equal(got_TN, wanted_BTN[0].numpy())
        np.testing.assert_allclose(got, wanted[0].numpy(), atol=1e-5)
        different.add(got_TN.tobytes())
    assert len(different) > 12, "the clips are not all alike"


def test_tokens_depend_on_where_a_clip_begins(cache: ClipCache, tmp_path: Path) -> None:
    """Why whole clips are stored: frame 2 of the first clip is frame 0 of the second."""
    tokens = build(make("paper"), cache, tmp_path / "tokens")
    assert not np.array_equal(tokens.clip(0)[0][2], tokens.clip(1)[0][0])


@dataclass
class Lengths:
    """As much of a ClipCache as cutting clips needs."""

    lengths: list[int]
    folder: str = "clips"

    @property
    def num_frames(self) -> int:
        return sum(self.lengths)

    @property
    def rows(self) -> np.ndarray:
        rows = np.zeros(len(self.lengths), CLIP_TYPE)
        rows["num_frames"], rows["offset"] = self.lengths, np.cumsum([0, *self.lengths[:-1]])
        return rows

    def __len__(self) -> int:
        return len(self.lengths)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.integers(2, 9), st.integers(1, 9))
def test_clips_stay_inside_episodes_and_leave_no_frame_out(
    lengths: list[int], num_frames: int, stride: int
) -> None:
    cache: Any = Lengths(lengths)
    if max(lengths) < num_frames:
        with pytest.raises(DataError, match=f"has {num_frames} frames"):
            window_starts(cache, num_frames, stride)
        return
    firsts = window_starts(cache, num_frames, stride)
    assert len(set(firsts)) == len(firsts)
    seen: set[int] = set()
    episode_of = np.repeat(np.arange(len(lengths)), lengths)
    for first in firsts:
        frames = range(first, first + num_frames)
        assert len(set(episode_of[frames.start : frames.stop])) == 1 and frames.stop <= len(episode_of)
        seen.update(frames)
    if stride <= num_frames:
        long_enough = np.array(lengths)[episode_of] >= num_frames
        assert seen == set(np.flatnonzero(long_enough).tolist())


def test_a_killed_build_goes_on_and_gives_the_same_bytes(
    cache: ClipCache, tmp_path: Path, repository_root: Path
) -> None:
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    build(make("paper"), cache, straight)
    command = [sys.executable, "-c", KILLED, str(cache.folder), str(killed)]
    environment = {**os.environ, "PYTHONPATH": str(repository_root)}
    result = subprocess.run(
        command, cwd=repository_root, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    finished = {path: path.stat().st_mtime_ns for path in killed.glob("*_0000[01].npy")}
    assert len(finished) == 4 and not (killed / "actions_00002.npy").exists()
    with pytest.raises(DataError, match="not finished"):
        TokenCache.open(killed, *(weights_hash(part) for part in parts(make("paper"))))
    build(make("paper"), cache, killed)
    assert files(killed) == files(straight)
    assert finished == {path: path.stat().st_mtime_ns for path in finished}


def parts(model: WorldModel) -> tuple[torch.nn.Module, torch.nn.Module]:
    return model.tokenizer, model.latent_action


def test_a_finished_cache_is_not_made_again(
    cache: ClipCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(make("paper"), cache, tmp_path / "tokens")
    monkeypatch.setattr(tokens_module, "write_shard", None)
    assert len(build(make("paper"), cache, tmp_path / "tokens")) == 48


class _NoBarrier(Processes):
    def wait_for_all(self) -> None:
        pass


def test_processes_share_the_shards(cache: ClipCache, tmp_path: Path) -> None:
    build(make("paper"), cache, tmp_path / "one")
    two = [_NoBarrier(rank, 2, torch.device("cpu")) for rank in range(2)]
    with pytest.raises(DataError, match=r"tokens_00000\.npy is missing"):  # one cannot make it all
        build(make("paper"), cache, tmp_path / "two", processes=two[1])
    build(make("paper"), cache, tmp_path / "two", processes=two[0])
    assert files(tmp_path / "one") == files(tmp_path / "two")


def test_a_cache_of_something_else_is_refused_and_kept(cache: ClipCache, tmp_path: Path) -> None:
    folder, model = tmp_path / "tokens", make("paper")
    build(model, cache, folder)
    before = files(folder)
    with torch.no_grad():
        model.tokenizer.quantizer.codebook.add_(1e-3)  # type: ignore[union-attr, operator]
    with pytest.raises(
        CheckpointError, match=r"made with tokenizer \w{12}, wanted \w{12}; remove the folder"
    ):
        build(model, cache, folder)
    with pytest.raises(CheckpointError, match="made with stride 2, wanted 3"):
        build(make("paper"), cache, folder, stride=3)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(CheckpointError, match=r"precision torch\.float32, wanted torch\.bfloat16"),
    ):
        build(make("paper"), cache, folder)
    assert files(folder) == before
    with pytest.raises(ConfigError, match="wanted numbers of at least 1, and 2 frames"):
        build(make("paper"), cache, tmp_path / "other", batch_size=0)


def test_bfloat16_gives_numbers_too(cache: ClipCache, tmp_path: Path) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        tokens = build(make("gaussian"), cache, tmp_path / "tokens")
    assert tokens.clip(0)[1].dtype == np.float32 and np.isfinite(tokens.clip(0)[1]).all()
