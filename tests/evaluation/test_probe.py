"""The state probe: it learns, its folder round-trips, damaged folders are refused in one line."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_robot.errors import DataError, ImageError, ModelFolderError
from genie_robot.evaluation.probe import (
    ProbePair,
    count_parameters,
    load_probe,
    save_probe,
)
from genie_robot.evaluation.probe_data import LabelledFrames, imagine_over, in_view, load_frames, reconstruct
from genie_robot.evaluation.probe_errors import probe_errors, shared_error
from genie_robot.evaluation.probe_loss import ProbeLoss
from genie_robot.evaluation.probe_net import GridNet, PointNet
from genie_robot.evaluation.roughen import roughen
from genie_robot.evaluation.train_probe import _balanced_batch, card_text, main, train_probe
from genie_robot.simulation.mujoco.manipulation.tasks import STATE_NAMES as MANIPULATION_NAMES
from genie_robot.simulation.mujoco.tasks import STATE_NAMES
from genie_robot.simulation.suites import get_suite


def test_size_stays_in_the_box(tmp_path: Path, probes: ProbePair) -> None:
    assert count_parameters([PointNet(14)]) <= 500_000
    save_probe(tmp_path, probes, "card")
    assert sum(f.stat().st_size for f in tmp_path.iterdir()) < 2_000_000


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


def test_what_is_read_of_a_film_does_not_depend_on_the_films_beside_it(probes: ProbePair) -> None:
    films = np.random.default_rng(0).integers(0, 256, (3, 33, 64, 64, 3), dtype=np.uint8)
    seen, sizes = probes.judge.net, []
    handle = seen.register_forward_pre_hook(lambda net, given: sizes.append(len(given[0])))
    together = probes.judge.read(films)
    handle.remove()
    assert sizes == [33] * 3  # one size, so one choice of kernels
    for number in range(3):
        for part, alone in zip(together, probes.judge.read(films[number]), strict=True):
            assert np.array_equal(part[number], alone)
    assert probes.judge(films[:0]).shape == (0, 33, together[0].shape[-1])


def test_errors_are_centimetres() -> None:
    states = np.zeros((4, 9), dtype=np.float32)
    moved = states.copy()
    moved[:, 0] += 0.03
    moved[:, 4:6] += (0.03, 0.04)
    moved[:, 3] += 0.1
    error = probe_errors(lambda frames: moved, np.zeros((4, 1)), states)  # type: ignore[arg-type]
    assert (error.ee_cm, error.object_cm, error.goal_cm) == pytest.approx((3.0, 5.0, 0.0))
    assert error.gripper == pytest.approx(0.1)
    assert error.touch_cm == pytest.approx(np.hypot(0.0, 0.04) * 100) and error.aim_cm == pytest.approx(5.0)


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
        [frames],
        states,
        STATE_NAMES,
        seed=0,
        steps=1,
        batch_size=4,
        learning_rate=1e-6,
        init=probes.judge,
        progress=False,
    )
    assert np.array_equal(onward.mean_S, probes.judge.mean_S)
    assert np.allclose(onward(frames), probes.judge(frames), atol=0.05)


def test_training_learns_and_is_repeatable(episodes: list) -> None:
    frames = np.concatenate([e.frames_TYXC for e in episodes])
    states = np.concatenate([e.state_TS for e in episodes])
    first, again = (
        train_probe([frames], states, STATE_NAMES, seed=3, steps=30, batch_size=12, progress=False)
        for _ in "ab"
    )
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
    frames = [np.zeros((4, 64, 64, 3), np.uint8)]
    for states in (np.zeros((3, 9), np.float32), np.zeros((4, 14), np.float32)):
        with pytest.raises(DataError, match="one state of 9"):
            train_probe(frames, states, STATE_NAMES, seed=0, steps=1)


def test_going_on_from_a_probe_of_another_kind_is_refused() -> None:
    old = load_probe(Path(__file__).resolve().parents[2] / "weights" / "tabletop-probe").judge
    frames, states = [np.zeros((2, 64, 64, 3), np.uint8)], np.zeros((2, 9), np.float32)
    with pytest.raises(DataError, match="GridNet for 9 numbers"):
        train_probe(frames, states, STATE_NAMES, seed=0, steps=1, init=old)


def test_card_has_the_figures(probes: ProbePair, episodes: list) -> None:
    errors = probe_errors(probes.judge, episodes[0].frames_TYXC, episodes[0].state_TS)
    text = card_text("tabletop", 5, {"judge": errors}, {"true frames": 0.3}, {"seed": 0}, 12.0)
    assert f"| judge | {errors.ee_cm:.2f} |" in text and "- seed: 0" in text and "0.30 on true frames" in text


def test_shared_error_is_of_what_both_get_wrong() -> None:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 9))
    wrong, other = (states + 0.01 * rng.normal(size=states.shape) for _ in "ab")
    frames = np.zeros((400, 1))
    assert shared_error(lambda _: wrong, lambda _: wrong, frames, states) == pytest.approx(1.0)
    assert abs(shared_error(lambda _: wrong, lambda _: other, frames, states)) < 0.1


def test_both_nets_read_any_state_vector_and_the_old_one_says_no_errors() -> None:
    images = torch.rand(2, 3, 64, 64)
    for kind, knows in ((GridNet, False), (PointNet, True)):
        state, doubt = kind(14)(images)
        assert state.shape == (2, 14) and (doubt is not None) == knows


def test_the_probe_in_the_box_is_still_read(episodes: list) -> None:
    judge = load_probe(Path(__file__).resolve().parents[2] / "weights" / "tabletop-probe").judge
    states, errors = judge.read(episodes[0].frames_TYXC)
    assert np.linalg.norm(states[:, :3] - episodes[0].state_TS[:, :3], axis=1).mean() < 0.02
    assert np.isnan(errors).all()


def test_a_points_net_finds_a_spot_to_a_fraction_of_a_cell_and_knows_when_it_cannot() -> None:
    """A white spot of 5x5 pixels whose column is the gripper's y; every third frame is black."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    images, target = torch.zeros(700, 3, 64, 64), torch.zeros(700, 9)
    for number, (x, y) in enumerate(rng.integers(2, 62, (700, 2))):
        target[number, 1] = (x - 32) / 16
        if number % 3:
            images[number, :, y - 2 : y + 3, x - 2 : x + 3] = 1.0
    net = PointNet(9, width=16, points=4, values=2)
    loss_of, optimiser = ProbeLoss(STATE_NAMES, np.full(9, 0.05)), torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(220):
        index = torch.from_numpy(rng.integers(600, size=32))
        state, doubt = net(images[index])
        loss = loss_of(state, doubt, target[index])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        state, doubt = net.eval()(images[600:])
    error, seen = (state - target[600:]).abs()[:, 1], torch.arange(600, 700) % 3 > 0
    a_cell = 4 / 16
    assert error[seen].mean() < 0.6 * a_cell < error[~seen].mean()
    assert doubt[seen, 1].mean() < doubt[~seen, 1].mean() - 0.5


def test_from_data_to_folder_for_five_task_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("mujoco")
    from genie_robot.cli import main as command

    assert command(
        [
            *("data", "generate", str(tmp_path), "--task", "push", "--control", "free", "--frames", "9"),
            *("--episodes", "3", "--val-episodes", "1", "--test-episodes", "2", "--workers", "1"),
        ]
    ) in (0, None)
    data = load_frames([tmp_path / "tabletop_push"], "train")
    assert data.suite.name == "manipulation" and data.tasks_E == ("push",) * 3 and data.lengths_E == (9, 9, 9)
    assert data.starts_E.tolist() == [0, 9, 18]
    assert (
        main(
            [
                *("--data", str(tmp_path / "tabletop_push"), "--out", str(tmp_path / "probe")),
                *("--steps", "2", "--batch-size", "4"),
            ]
        )
        == 0
    )
    probes = load_probe(tmp_path / "probe")
    assert probes.eyes.state_names == MANIPULATION_NAMES
    assert probes.judge.limits is not None and probes.judge.limits["uncertainty_m"] > 0
    card = (tmp_path / "probe" / "README.md").read_text()
    assert "manipulation" in card and "data: tabletop_push\n" in card and str(tmp_path) not in card
    with pytest.raises(DataError, match="no episodes"):
        load_frames([tmp_path / "tabletop_push"], "train", skip=3)
    with pytest.raises(DataError, match="no split"):
        load_frames([tmp_path / "tabletop_push"], "else")


@pytest.mark.parametrize("clip", [4, 100], ids=["short", "longer than the model looks back"])
def test_reconstructions_never_mix_two_films(tmp_path: Path, model, clip: int) -> None:
    model.save(tmp_path)
    size = min(clip, model.config.video.num_frames)
    frames = np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros((21, 9), np.float32)
    lengths, ends = (11, 10), np.cumsum((0, 11, 10))
    data = LabelledFrames(get_suite("tabletop"), frames, zeros, zeros[:, :7], lengths, ("", ""))
    shown = reconstruct(str(tmp_path), data, clip)
    for start, end in itertools.pairwise(ends):
        film = frames[start:end]
        film = np.concatenate([film, film[-1:].repeat(-len(film) % size, axis=0)])
        film = film.reshape(-1, size, 64, 64, 3)
        own = model.decode(model.encode(film)).reshape(-1, 64, 64, 3)[: end - start]
        assert np.abs(shown[start:end].astype(int) - own).max() <= 1


def test_the_ends_of_clips_are_imagined_and_nothing_else(tmp_path: Path, model) -> None:
    model.save(tmp_path)
    frames = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros((20, 9), np.float32)
    data = LabelledFrames(get_suite("tabletop"), frames, zeros, zeros[:, :7], (10, 10), ("", ""))
    mixed = imagine_over(str(tmp_path), data, frames, windows=1)
    changed = np.flatnonzero((mixed != frames).any(axis=(1, 2, 3)))
    assert len(changed) == 5 and np.ptp(changed) == 4 and (changed[0] % 10) >= 3


def test_what_fell_off_the_table_is_at_the_edge_of_the_picture() -> None:
    states = np.zeros((2, 14), np.float32)
    states[0, 4:7], states[1, 11:14] = (3.0, -2.0, -150.0), (0.4, 0.1, 0.2)
    seen = in_view(states, MANIPULATION_NAMES)
    assert seen[0, 4:7].tolist() == pytest.approx([0.65, -0.30, -0.05])
    assert (
        seen[1, 11:14].tolist() == pytest.approx([0.4, 0.1, 0.2]) and seen[0, 3] == 0 and states[0, 6] == -150
    )
