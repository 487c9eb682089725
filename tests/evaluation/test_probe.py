"""The state probe: it learns, its folder round-trips, damaged folders are refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genie_robot.errors import DataError, ImageError, ModelFolderError
from genie_robot.evaluation.probe import (
    ProbeNet,
    ProbePair,
    count_parameters,
    load_probe,
    probe_errors,
    save_probe,
)
from genie_robot.evaluation.train_probe import _balanced_batch, card_text, roughen, train_probe


def test_size_stays_in_the_box(tmp_path: Path, probes: ProbePair) -> None:
    assert count_parameters([ProbeNet()]) <= 300_000
    save_probe(tmp_path, probes, "card")
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 1_500_000


def test_folder_round_trip_is_exact(tmp_path: Path, probes: ProbePair, episodes: list) -> None:
    digest = save_probe(tmp_path / "p", probes, "card")
    loaded = load_probe(tmp_path / "p")
    frames = episodes[0].frames_TYXC
    assert loaded.hash == digest
    for role in ("judge", "eyes"):
        assert np.array_equal(getattr(loaded, role)(frames), getattr(probes, role)(frames))
    assert not np.array_equal(loaded.judge(frames), loaded.eyes(frames))


def test_any_leading_shape_and_batch_size(probes: ProbePair, episodes: list) -> None:
    video = np.stack([e.frames_TYXC[:3] for e in episodes])
    states = probes.judge(video)
    assert states.shape == (6, 3, 9) and states.dtype == np.float32
    assert np.allclose(states[4, 2], probes.judge(video[4, 2][None])[0], atol=1e-5)
    with pytest.raises(ImageError, match="wants uint8"):
        probes.judge(video.astype(np.float32))
    with pytest.raises(ImageError, match="64, 64, 3"):
        probes.judge(video[..., :32, :, :])


def test_errors_are_centimetres() -> None:
    states = np.zeros((4, 9), dtype=np.float32)
    moved = states.copy()
    moved[:, 0] += 0.03
    moved[:, 4:6] += (0.03, 0.04)
    moved[:, 3] += 0.1
    error = probe_errors(lambda frames: moved, np.zeros((4, 1)), states)  # type: ignore[arg-type]
    assert (error.ee_cm, error.object_cm, error.goal_cm) == pytest.approx((3.0, 5.0, 0.0))
    assert error.gripper == pytest.approx(0.1)


def test_height_of_lifted_objects_is_reported_with_its_sign() -> None:
    states = np.zeros((4, 9), dtype=np.float32)
    states[:, 6] = [0.028, 0.028, 0.108, 0.118]
    seen = states.copy()
    seen[2:, 6] -= (0.04, 0.05)
    error = probe_errors(lambda frames: seen, np.zeros((4, 1)), states)  # type: ignore[arg-type]
    assert error.lifted_z_cm == pytest.approx(-4.5)
    nothing = probe_errors(lambda frames: seen[:2], np.zeros((2, 1)), states[:2])  # type: ignore[arg-type]
    assert np.isnan(nothing.lifted_z_cm)


def test_a_quarter_of_each_batch_is_lifted_however_rare() -> None:
    generator = torch.Generator().manual_seed(0)
    rare = torch.tensor([7, 11])
    batch = _balanced_batch(10_000, rare, 64, generator)
    assert np.isin(batch[:16], rare).all() and not np.isin(batch[16:], rare).any()
    assert _balanced_batch(50, torch.zeros(0, dtype=torch.int64), 64, generator).max() < 50


def test_going_on_from_a_probe_keeps_its_scales_and_what_it_knows(episodes: list, probes: ProbePair) -> None:
    frames, states = episodes[0].frames_TYXC, episodes[0].state_TS
    onward = train_probe(
        frames, states, seed=0, steps=1, batch_size=4, learning_rate=1e-6, init=probes.judge, progress=False
    )
    assert np.array_equal(onward.mean_S, probes.judge.mean_S)
    assert np.allclose(onward(frames), probes.judge(frames), atol=2e-3)


def test_training_learns_and_is_repeatable(episodes: list) -> None:
    frames = np.concatenate([e.frames_TYXC for e in episodes])
    states = np.concatenate([e.state_TS for e in episodes])
    first = train_probe(frames, states, seed=3, steps=30, batch_size=8, progress=False)
    again = train_probe(frames, states, seed=3, steps=30, batch_size=8, progress=False)
    assert np.array_equal(first(frames[:5]), again(frames[:5]))
    guess = np.linalg.norm(states[:, :3] - states[:, :3].mean(0), axis=1).mean() * 100
    assert probe_errors(first, frames, states).ee_cm < 0.9 * guess


def test_roughening_is_seeded_stays_an_image_and_leaves_some_clean() -> None:
    images = torch.rand(40, 3, 64, 64)
    rough = roughen(images, torch.Generator().manual_seed(1))
    assert torch.equal(rough, roughen(images, torch.Generator().manual_seed(1)))
    assert rough.min() >= 0 and rough.max() <= 1
    clean = (rough == images).flatten(1).all(1)
    assert 2 <= clean.sum() <= 25


@pytest.mark.parametrize(
    "damage", ["missing config", "missing weights", "altered weights", "cut weights", "no yaml", "foreign"]
)
def test_damaged_folder_is_refused_in_one_line(damage: str, tmp_path: Path, probes: ProbePair) -> None:
    save_probe(tmp_path, probes, "card")
    config, weights = tmp_path / "config.yaml", tmp_path / "model.safetensors"
    if damage == "missing config":
        config.unlink()
    elif damage == "missing weights":
        weights.unlink()
    elif damage == "altered weights":
        raw = bytearray(weights.read_bytes())
        raw[-100] ^= 1
        weights.write_bytes(bytes(raw))
    elif damage == "cut weights":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "no yaml":
        config.write_text("a: [1")
    else:
        config.write_text(config.read_text().replace("ee_x_m", "joint_1"))
    with pytest.raises(ModelFolderError) as caught:
        load_probe(tmp_path)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_wrong_states_are_refused() -> None:
    with pytest.raises(DataError, match="one state of 9"):
        train_probe(np.zeros((4, 64, 64, 3), np.uint8), np.zeros((3, 9), np.float32), seed=0, steps=1)


def test_card_has_the_figures(probes: ProbePair, episodes: list) -> None:
    errors = probe_errors(probes.judge, episodes[0].frames_TYXC, episodes[0].state_TS)
    text = card_text({"judge": errors}, {"seed": 0}, 12.0)
    assert f"| judge | {errors.ee_cm:.2f} |" in text and "- seed: 0" in text
