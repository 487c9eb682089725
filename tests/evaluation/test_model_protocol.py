"""All of `evaluate model`: every part is measured or named with a reason, for models of both kinds, and on one page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from genie_robot.data.commands import COMMAND_SIZE, commands, poses_of
from genie_robot.data.episode import Episode
from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.imagination import ModelEvalConfig, RobotDrive
from genie_robot.evaluation.model_eval import strip_picture
from genie_robot.evaluation.model_page import NUMBERS, lookup, render
from genie_robot.evaluation.model_protocol import ModelReport, Protocol
from genie_robot.simulation.suites import get_suite
from tests.small_models import small_world_model

CONFIG = ModelEvalConfig(prompt_frames=1, horizon=4, draws=1, maskgit_steps=1, batch_size=8)
PARTS = {"robot_actions", "code_health", "cycle_consistency", "linear_probes", "consistency"}
PARTS |= {"fvd_el0", "fd_state", "drift_latent", "drift_robot", "counterfactual"}


@pytest.fixture(scope="module")
def native() -> Protocol:
    """Two codebooks and robot actions of its own."""
    return Protocol(small_world_model(robot_action_dim=7, num_codebooks=2), [], CONFIG, clips=6)


@pytest.fixture(scope="module")
def native_report(native: Protocol, episodes: list, probes) -> ModelReport:
    said: list[str] = []
    protocol = replace(native, episodes=episodes, probes=probes, longest_horizon=5)
    report = protocol.run(said.append)
    assert len(said) == protocol.steps
    return report


def test_every_part_is_measured_or_named_with_a_reason(native_report: ModelReport) -> None:
    metrics = native_report.metrics
    missing = metrics["not_measured"]
    assert set(metrics) | set(missing) >= PARTS
    assert not set(metrics) & set(missing)
    # Six episodes of twelve frames: too few clips for a Frechet distance, too few prompts to try each code.
    assert "wanted 40 or more" in missing["fvd_el0"] and "wanted 40 or more" in missing["fd_state"]
    assert "prompts with room to move" in missing["consistency"]
    assert metrics["code_cosine"] is None  # said, not left out
    json.dumps(metrics, default=float, allow_nan=False)


def test_native_actions_drive_the_model_and_have_their_own_numbers(
    native_report: ModelReport, native: Protocol, episodes: list
) -> None:
    metrics = native_report.metrics
    assert metrics["robot_actions"]["interface"] == metrics["counterfactual"]["interface"] == "native"
    assert metrics["robot_actions"]["delta_psnr_t4_db"] != metrics["delta_psnr_t4_db"]
    assert metrics["drift_robot"]["horizon"] == metrics["drift_latent"]["horizon"] == 5
    assert len(metrics["drift_robot"]["inverse_dynamics"]["excess_per_horizon"]) == 5
    assert len(metrics["code_health"]["perplexity_per_codebook"]) == 2
    assert {"rate", "chance", "first_codebook"} <= set(metrics["cycle_consistency"])
    assert metrics["linear_probes"]["codes"]["r2"]["dx"] is not None
    rows = RobotDrive(native.model).inputs(episodes[0].actions_TA[None])
    assert rows.shape[:2] == (1, 12) and np.array_equal(rows[0, :, -7:], episodes[0].actions_TA)


def test_a_model_that_is_led_by_poses_wants_the_states_that_they_begin_at(episodes: list) -> None:
    drive = RobotDrive(small_world_model(robot_action_dim=COMMAND_SIZE))
    actions, start = episodes[0].actions_TA[None], episodes[0].state_TS[:1]
    rows = drive.inputs(actions, start)
    wanted = commands(poses_of(start, get_suite("tabletop").state_names), actions)
    assert np.array_equal(rows[..., -COMMAND_SIZE:], wanted)
    with pytest.raises(DataError, match="no true states"):
        drive.inputs(actions)


def test_the_coarsest_codes_of_a_model_with_several_codebooks_are_tried(
    native: Protocol, episodes: list, probes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_robot.evaluation import consistency

    monkeypatch.setattr(consistency, "PROMPTS", 3)
    # An untrained model moves nothing: that is a reason, not a number.
    with pytest.raises(DataError, match="0 of 8 codes move the gripper"):
        consistency.code_consistency(native.model, episodes, probes, CONFIG)
    monkeypatch.setattr(consistency.CodeMeasurement, "moves", True)
    found = consistency.code_consistency(native.model, episodes, probes, CONFIG)
    assert len(found["cosine_per_code"]) == 8 and found["prompts"] == 3


def test_a_model_of_codes_without_adapter_or_probe_names_what_it_cannot_do(model, episodes: list) -> None:
    bare = [replace(e, actions_TA=None, state_TS=None) for e in episodes]
    metrics = Protocol(model, bare, CONFIG, clips=2, longest_horizon=4).run().metrics
    missing = metrics["not_measured"]
    for part in ("robot_actions", "linear_probes", "drift_robot"):
        assert "no robot actions" in missing[part]
    for part in ("consistency", "fd_state", "counterfactual", "state_error"):
        assert "give --probe" in missing[part]
    assert metrics["drift_latent"]["horizon"] == 4 and np.isfinite(metrics["delta_psnr_t4_db"])


def test_a_probe_of_another_suite_is_refused_before_anything_is_measured(
    native: Protocol, episodes: list, probes
) -> None:
    wider = [replace(e, state_TS=np.pad(e.state_TS, ((0, 0), (0, 5)))) for e in episodes]
    said: list[str] = []
    with pytest.raises(ConfigError) as refused:
        replace(native, episodes=wider, probes=probes).run(said.append)
    line = str(refused.value)
    assert "9 numbers of the suite tabletop" in line and "14 numbers, of the suite manipulation" in line
    assert "--probe weights/manipulation-probe" in line and "\n" not in line and not said


def test_stubs_odd_actions_and_small_pictures_lose_only_their_own_part(
    episodes: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    from genie_robot.evaluation import model_protocol

    def cut(number: int, frames: int) -> Episode:
        whole = episodes[number]
        return replace(
            whole, frames_TYXC=whole.frames_TYXC[:frames], actions_TA=whole.actions_TA[:frames], state_TS=None
        )

    monkeypatch.setattr(model_protocol, "SMALLEST", 128)
    model = small_world_model(robot_action_dim=6)
    short = [cut(0, 12), cut(1, 8), cut(2, 1), cut(3, 1)]
    metrics = Protocol(model, short, CONFIG, clips=4, longest_horizon=64).run().metrics
    missing = metrics["not_measured"]
    assert "frames are 64x64 pixels; wanted 128" in missing["st_lpips_alex"]
    assert "wanted (..., 6)" in missing["robot_actions"] and "wanted (..., 6)" in missing["drift_robot"]
    assert metrics["clips"] == 2 and metrics["code_health"]["transitions"] == 2 * 7
    assert metrics["drift_latent"]["clips"] == 2 and metrics["drift_latent"]["horizon"] == 7


def test_the_page_shows_numbers_curves_films_and_what_is_missing(native_report: ModelReport) -> None:
    html = render(native_report, "a <model>", strip_picture(native_report.evaluation, clips=1))
    assert (
        "a &lt;model&gt;" in html and "<script" not in html and "http" not in html.replace("http-equiv", "")
    )
    assert html.count("<svg") == 10 and "data:image/png;base64," in html
    assert "prompts with room to move" in html
    for place in ("psnr_t4_db", "robot_actions.delta_psnr_t4_db", "counterfactual.ee.right_sign"):
        assert f"<code>{place}</code>" in html
    assert "<code>fvd.value</code>" not in html


def test_every_number_of_the_page_can_be_looked_up(native_report: ModelReport) -> None:
    """A typing error in a place would only make a row vanish."""
    wants_more_clips = {"fvd_el0", "fd_state", "fvd", "consistency"}
    may_be_none = ("h_eps", "right_sign")  # never lost; no two outcomes apart
    for place in NUMBERS:
        first = place.split(".")[0]
        if first not in wants_more_clips and "lpips" not in place and not place.endswith(may_be_none):
            assert lookup(native_report.metrics, place) is not None, place
