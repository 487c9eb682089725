"""Model numbers: protocol, definitions and repeatability."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.heldout import collect_clips
from genie_robot.evaluation.model_eval import (
    ModelEvalConfig,
    evaluate_model,
    imagine,
    random_codes,
    reconstruct,
    strip_picture,
)
from genie_robot.evaluation.video import moving_psnr, psnr
from genie_robot.simulation.action_interface import infer_codes

CONFIG = ModelEvalConfig(prompt_frames=2, horizon=5, draws=2, maskgit_steps=2, batch_size=4)


@pytest.fixture(scope="module")
def clips(episodes: list):
    return collect_clips(episodes, clips=6, frames=CONFIG.clip_frames)


@pytest.fixture(scope="module")
def evaluation(model, clips):
    return evaluate_model(model, clips, CONFIG)


def test_design_keys_are_there(evaluation) -> None:
    wanted = {
        "tokenizer_psnr_db",
        "psnr_t4_db",
        "copy_last_psnr_t4_db",
        "moving_psnr_t4_db",
        "moving_copy_last_psnr_t4_db",
    }
    wanted |= {"delta_psnr_t4_db", "codes_used", "nmi_direction", "nmi_shuffled"}
    assert wanted <= set(evaluation.metrics)
    assert len(evaluation.metrics["psnr_per_horizon_db"]) == CONFIG.horizon


def test_t4_is_the_fourth_imagined_frame_and_copy_last_the_true_prompt(evaluation, clips) -> None:
    video = clips.video_BTYXC
    truth, last = video[:, CONFIG.prompt_frames + 3], video[:, CONFIG.prompt_frames - 1]
    assert evaluation.metrics["psnr_t4_db"] == pytest.approx(psnr(truth, evaluation.imagined[:, 4]))
    assert evaluation.metrics["copy_last_psnr_t4_db"] == pytest.approx(psnr(truth, last))
    assert evaluation.metrics["moving_copy_last_psnr_t4_db"] == pytest.approx(moving_psnr(truth, last, last))
    assert np.array_equal(evaluation.truth[:, 0], last)


def test_codes_are_those_of_the_imagined_steps(model, evaluation, clips) -> None:
    """action[t] leads from t to t+1: the first imagined frame is driven by the code between prompt end and it."""
    codes = infer_codes(model, clips.video_BTYXC)
    assert np.array_equal(evaluation.codes, codes[:, CONFIG.prompt_frames - 1 :])
    pair = clips.video_BTYXC[:, CONFIG.prompt_frames - 1 : CONFIG.prompt_frames + 1]
    assert np.array_equal(evaluation.codes[:, 0], model.infer_actions(pair)[0][:, 0])


def test_same_seed_same_numbers_and_the_batch_size_changes_nothing(model, evaluation, clips) -> None:
    again = evaluate_model(model, clips, CONFIG)
    assert again.metrics == evaluation.metrics
    codes, prompts = evaluation.codes, clips.video_BTYXC[:, : CONFIG.prompt_frames]
    whole = imagine(model, prompts, codes, ModelEvalConfig(maskgit_steps=2, batch_size=64))
    split = imagine(model, prompts, codes, ModelEvalConfig(maskgit_steps=2, batch_size=2))
    assert np.abs(whole.astype(int) - split).mean() < 1.0


def test_delta_psnr_is_zero_when_the_random_codes_are_the_inferred_ones(model, clips, monkeypatch) -> None:
    """Both arms share sampling seed and everything but the codes: with equal codes the difference must vanish."""
    from genie_robot.evaluation import model_eval

    inferred = infer_codes(model, clips.video_BTYXC)[:, CONFIG.prompt_frames - 1 :][:, :4]
    monkeypatch.setattr(model_eval, "random_codes", lambda codes, shape, rng: inferred)
    metrics = evaluate_model(model, clips, CONFIG).metrics
    assert metrics["delta_psnr_t4_db"] == pytest.approx(0.0, abs=1e-9)


def test_random_codes_follow_the_marginal_of_used_codes() -> None:
    codes = np.array([0] * 75 + [3] * 25)
    drawn = random_codes(codes, (200, 50), np.random.default_rng(0))
    assert set(np.unique(drawn)) == {0, 3}
    assert (drawn == 3).mean() == pytest.approx(0.25, abs=0.02)


def test_reconstruction_is_the_tokenizers_round_trip(model, clips) -> None:
    video = clips.video_BTYXC[:, :4]
    assert np.array_equal(reconstruct(model, video), model.decode(model.encode(video)))
    assert reconstruct(model, clips.video_BTYXC).shape == clips.video_BTYXC.shape


def test_wrong_use_is_told(model, clips) -> None:
    with pytest.raises(ConfigError, match="horizon >= 4"):
        ModelEvalConfig(horizon=3)
    with pytest.raises(ConfigError, match="prompt_frames \\+ horizon"):
        evaluate_model(model, clips, ModelEvalConfig(prompt_frames=1, horizon=4))


def test_too_few_long_episodes_is_told(episodes: list) -> None:
    with pytest.raises(DataError, match="wanted at least 2"):
        collect_clips(episodes, clips=4, frames=50)


def test_strips_show_truth_tokenizer_and_imagination(evaluation) -> None:
    picture = strip_picture(evaluation, clips=2)
    assert picture.shape[0] > 6 * 128 and picture.shape[1] > 6 * 128


@pytest.mark.parametrize(("size", "is_kept"), [(9, True), (14, True), (5, False)])
def test_states_of_every_suite_are_kept_and_others_left_out(episodes: list, size: int, is_kept: bool) -> None:
    wide = [replace(e, state_TS=np.ones((e.num_frames, size), np.float32)) for e in episodes]
    states = collect_clips(wide, clips=3, frames=5).states_BTS
    assert (states is not None) == is_kept
    assert states is None or states.shape == (3, 5, size)
    mixed = [replace(wide[0], state_TS=np.ones((12, 9), np.float32)), *wide[1:]]
    assert (collect_clips(mixed, clips=3, frames=5).states_BTS is not None) == (size == 9)


def test_st_lpips_joins_where_its_network_is_given(model, clips) -> None:
    from genie_robot.evaluation.st_lpips import ShiftTolerantLpips

    network = ShiftTolerantLpips().requires_grad_(False).eval()
    for head in network.heads:
        head.fill_(0.1)
    metrics = evaluate_model(model, clips, CONFIG, network=network).metrics
    assert len(metrics["st_lpips_alex_per_horizon"]) == CONFIG.horizon
    assert metrics["st_lpips_alex_t4"] == pytest.approx(metrics["st_lpips_alex_per_horizon"][3], abs=1e-3)
    gap = metrics["random_st_lpips_alex_t4"] - metrics["st_lpips_alex_t4"]
    assert metrics["delta_st_lpips_alex_t4"] == pytest.approx(gap, abs=1e-6)
