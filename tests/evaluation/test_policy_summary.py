"""The summary of evaluations whose faults are known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from genie_robot.errors import ConfigError, DataError
from genie_robot.evaluation.episodes import Row
from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.evaluation.summary.compare import compare, report_line, without_nan
from genie_robot.evaluation.summary.facts import EpisodeTable, Facts, facts_of, family
from genie_robot.evaluation.summary.parts import interface_ceiling
from genie_robot.evaluation.summary.summarise import summarise
from tests.evaluation.synthetic import facts, row, rows_of

DRAWS = 20


@pytest.fixture(scope="module")
def exact() -> dict:
    return summarise(rows_of(facts()), facts(), draws=DRAWS)


@pytest.fixture(scope="module")
def faulty() -> dict:
    rows = rows_of(facts(), false_success=0.3, false_failure=0.1, judge_error=0.1, invalid=0.1)
    return summarise(rows, facts(), draws=DRAWS)


def test_perfect_imagination(exact: dict) -> None:
    assert exact["pearson_r"] == pytest.approx(1.0) and exact["spearman_rho"] == pytest.approx(1.0)
    assert exact["mmrv"] == exact["bias"] == exact["mean_abs_error"] == exact["replay_optimism"] == 0.0
    assert exact["kappa"] == pytest.approx(1.0) and exact["episode_agreement"] == 1.0
    assert exact["n"] == 12 and exact["episodes"] == 12 * 3 * 20 * 5, "of two horizons"
    assert 0.9 < exact["ceiling_r"] < exact["ceiling_r_paired90"] <= 1.0
    assert all(target["ambition_reached"] for target in exact["targets"])
    assert exact["action_interface"]["passes"] is True
    assert exact["best_and_worst_told_apart"] is True
    assert exact["decisions"]["wrong"] == 0 and exact["decisions"]["right"] > 20


def test_faults_come_out_as_large_as_they_are(faulty: dict) -> None:
    assert faulty["replay_optimism"] == pytest.approx(0.3, abs=0.06)
    assert faulty["optimism_replay"]["missed_successes"]["rate"] == pytest.approx(0.1, abs=0.05)
    assert faulty["optimism"] == pytest.approx(0.3, abs=0.06), "closed loop, over the films that count"
    assert faulty["bias"] == pytest.approx(0.5 * 0.3 - 0.5 * 0.1, abs=0.03)
    assert faulty["invalid_share"] == pytest.approx(0.1, abs=0.03)
    judge = faulty["judge"]["primary"]
    assert judge["sensitivity"] == pytest.approx(0.9, abs=0.04) and judge["specificity"] == pytest.approx(
        0.9, abs=0.04
    )
    assert faulty["judge"]["undecided_share"]["mujoco"] == pytest.approx(2 * 0.1 * 0.9, abs=0.05)
    assert faulty["judge"]["undecided_share"]["imagined"] == 0.0
    assert faulty["action_interface"]["pearson_r"] == pytest.approx(1.0), "the interface has no fault"
    assert faulty["in_tokenizer"]["mean_abs_error"] == 0.0, "nor has the tokenizer"
    assert faulty["in_replay"]["bias"] == pytest.approx(0.5 * 0.3 - 0.5 * 0.1, abs=0.03)
    missed = {target["what"]: target["must_reached"] for target in faulty["targets"]}
    assert missed["optimism on replayed failures"] is False and missed["Pearson r over policies"] is True


def test_correction_removes_the_bias() -> None:
    plan = facts(horizons=(64,), worlds=("mujoco", "imagined"), seeds=100)
    summary = summarise(rows_of(plan, false_success=0.3), plan, draws=0)
    powered = summary["corrected"]["prediction_powered"]
    assert summary["bias"] > 0.12 and abs(powered["bias"]) < 0.04
    assert powered["mean_abs_error"] < 0.6 * summary["mean_abs_error"]
    assert powered["paired_seeds"] == 20
    assert len(powered["rates"]) == len(powered["intervals"]) == 12
    # the judge makes no error on true pictures, so that there is nothing to correct for
    assert summary["corrected"]["rogan_gladen"]["bias"] == pytest.approx(summary["bias"], abs=1e-6)


def test_a_judges_error_is_corrected_by_its_rates_on_the_other_policies() -> None:
    plan = facts(worlds=("mujoco", "imagined"), horizons=(64,), seeds=40)
    rng = np.random.default_rng(0)

    def misjudged(each: Row) -> Row:
        """A judge that misses 40 % of the successes, in both worlds."""
        judged = each.judge_success and bool(rng.random() < 0.6)
        return replace(
            each, judge_success=judged, success=judged if each.world == "imagined" else each.success
        )

    summary = summarise([misjudged(each) for each in rows_of(plan)], plan, draws=0)
    assert summary["bias"] == pytest.approx(-0.2, abs=0.03)
    assert abs(summary["corrected"]["rogan_gladen"]["bias"]) < 0.04


def test_an_episode_in_which_the_policy_failed_is_a_failure_and_is_named() -> None:
    plan = facts(horizons=(64,))
    rows = [
        replace(each, status="raised", reason="ValueError: no", success=each.success)
        if each.policy == "no-op" and each.task == "push" and each.world in ("mujoco", "imagined")
        else each
        for each in rows_of(plan)
    ]
    summary = summarise(rows, plan, draws=0)
    entry = next(e for e in summary["table"] if e["policy"] == "no-op" and e["task"] == "push")
    assert entry["mujoco"]["successes"] == entry["imagined"]["successes"] == 0
    assert entry["mujoco"]["trials"] == 20
    assert summary["failed_episodes"][0] == {
        "world": "mujoco",
        "policy": "no-op",
        "task": "push",
        "status": "raised",
        "reason": "ValueError: no",
        "episodes": 20,
    }
    assert summary["n"] == 12 and summary["treatments"]["failed_left_out"]["n"] == 11


def test_a_film_that_cannot_be_judged_is_left_out_or_a_failure() -> None:
    plan = facts(horizons=(64,))
    rows = [
        replace(each, success=True, invalid=True) if each.world == "imagined" and each.seed % 2 else each
        for each in rows_of(plan)
    ]
    summary = summarise(rows, plan, draws=0)
    assert summary["invalid_share"] == 0.5
    assert all(entry["imagined"]["trials"] == 10 for entry in summary["table"])
    assert summary["paired_episodes"] == 12 * 3 * 10 and summary["episode_agreement"] == 1.0
    strict = summary["treatments"]["invalid_counts_as_failure"]
    assert strict["paired_episodes"] == 12 * 3 * 20 and strict["bias"] < -0.2


def test_a_policy_without_a_film_that_counts_is_left_out() -> None:
    plan = facts(horizons=(64,))
    rows = [
        replace(each, invalid=True) if each.policy == "random" and each.world == "imagined" else each
        for each in rows_of(plan)
    ]
    summary = summarise(rows, plan, draws=DRAWS)
    assert summary["n"] == 11 and summary["imagined_rates"][10] is None
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary


def test_policies_made_alike_leave_together() -> None:
    """Imagination rates the two scripts as MuJoCo does, and takes the others for their opposite."""
    policies = ("scripted-1.0", "scripted-0.4", "late-1", "no-op")
    plan = facts(policies, horizons=(64,), worlds=("mujoco", "imagined"))
    taken_for: dict[str, str] = dict(
        zip(policies, ("scripted-1.0", "scripted-0.4", "no-op", "late-1"), strict=True)
    )
    successes: dict[str, int] = dict(zip(policies, (20, 0, 11, 9), strict=True))  # of 20 seeds

    def outcome(each: Row) -> bool:
        policy = taken_for[each.policy] if each.world == "imagined" else each.policy
        return each.seed - plan.first_seed < successes[policy]

    summary = summarise([replace(each, success=outcome(each)) for each in rows_of(plan)], plan, draws=0)
    assert summary["drop_one_range"][0] > 0.9, "any one script holds the agreement up"
    assert summary["drop_family_range"][0] == pytest.approx(-1.0)
    names = ("clone-5-a", "clone-100-b", "my_net:step_2000", "3")
    assert [family(name) for name in names] == ["clone", "clone", "my-net-step", "3"]


def test_parts_by_task_group_and_horizon() -> None:
    plan = facts()
    rows = [
        replace(each, success=False) if each.world == "imagined" and each.horizon == 32 else each
        for each in rows_of(plan, false_success=0.2)
    ]
    summary = summarise(rows, plan, draws=DRAWS)
    assert list(summary["by_task"]) == list(plan.tasks)
    assert {name: part["n"] for name, part in summary["by_group"].items()} == {"seen": 6, "unseen": 6}
    assert summary["by_horizon"]["32"]["pearson_r"] is None and summary["by_horizon"]["32"]["bias"] < -0.3
    assert summary["by_horizon"]["64"]["pearson_r"] == summary["pearson_r"], "the longest is the main one"
    assert "k=6" in summary["by_group"]["unseen"]["report_line"]


def test_the_report_line_has_every_figure(faulty: dict) -> None:
    line = faulty["report_line"]
    for name in ("r=", "k=12", "Fisher-z [", "drop-one ", "perm p=", "ceiling r_c=", "rho=", "MMRV=", "boot [", "ceiling ",
                 "bias=", "|err|=", "kappa=", "invalid=", "optimism="):  # fmt: skip
        assert name in line, name
    assert "undefined" not in line and "nan" not in line


def test_interface_ceiling_needs_two_worlds_only_and_refuses_a_lossy_interface() -> None:
    plan = facts(horizons=(64,))
    rows = [each for each in rows_of(plan) if each.world in ("mujoco", "interface")]
    assert interface_ceiling(rows, plan)["passes"] is True
    lossy = [
        replace(each, success=False) if each.world == "interface" and each.policy < "m" else each
        for each in rows
    ]
    ceiling = interface_ceiling(lossy, plan)
    assert ceiling["passes"] is False and ceiling["pearson_r"] < 0.98 and ceiling["bias"] < 0
    assert set(ceiling["by_task"]) == set(plan.tasks)
    nothing = [replace(each, success=False) for each in rows]
    assert interface_ceiling(nothing, plan)["passes"] is False, "an undefined r proves nothing"


def test_mmrv_weighs_by_mujoco() -> None:
    imagined, truth = np.zeros((2, 1, 10)), np.zeros((2, 1, 10))
    imagined[0, 0, :5], imagined[1, 0, :4] = 1, 1
    truth[0, 0, :2], truth[1, 0, :8] = 1, 1
    figures = compare(imagined, truth, draws=0)
    assert figures["mmrv"] == pytest.approx(0.6) and figures["bias"] == pytest.approx(-0.05)


def test_two_policies_have_no_correlation_and_pass_no_gate() -> None:
    plan = facts(("scripted-1.0", "no-op"), horizons=(64,))
    lossy = [
        replace(each, success=each.success and each.seed % 2 == 0) if each.world == "interface" else each
        for each in rows_of(plan)
    ]
    ceiling = interface_ceiling(lossy, plan)
    assert ceiling["mmrv"] == 0.0 and ceiling["bias"] < -0.2
    assert np.isnan(ceiling["pearson_r"]) and ceiling["passes"] is False, "two points always lie on a line"


def test_an_episode_that_the_policy_lost_itself_is_no_merit_of_the_judge() -> None:
    plan = facts(horizons=(64,), worlds=("mujoco", "imagined"))
    rows = [
        replace(each, judge_success=True, second_success=True)
        if each.world == "mujoco" and not each.success
        else each
        for each in rows_of(plan)
    ]
    failed = [
        replace(each, status="raised", reason="x", success=False) if each.policy == "random" else each
        for each in rows
    ]
    for name in ("primary", "second"):
        judge = summarise(failed, plan, draws=0)["judge"][name]
        assert judge["specificity"] == 0.0, "a judge that finds no failure"


def test_prediction_powered_rates_are_scored_on_seeds_that_they_did_not_see() -> None:
    plan = facts(horizons=(64,), worlds=("mujoco", "imagined"), seeds=10)
    # In the two paired seeds both worlds always fail; in the other eight MuJoCo succeeds and imagination does not.
    rows = [
        replace(each, success=each.world == "mujoco" and each.seed >= 1_000_002) for each in rows_of(plan)
    ]
    powered = summarise(rows, plan, draws=0)["corrected"]["prediction_powered"]
    assert powered["paired_seeds"] == 2 and powered["bias"] == pytest.approx(-1.0), "not -0.8"


def test_floors_stand_beside_the_figures() -> None:
    plan = facts(horizons=(64,))
    first_frame = {policy: index / 12 for index, policy in enumerate(plan.policies)}
    summary = summarise(rows_of(plan), plan, floors={"first frame only": first_frame}, draws=0)
    assert summary["floors"]["first frame only"]["pearson_r"] < -0.9
    with pytest.raises(ConfigError, match="no rate for no-op"):
        summarise(rows_of(plan), plan, floors={"x": dict.fromkeys(plan.policies[:-1], 0.5)}, draws=0)


def test_films_are_of_the_cells_that_differ_most() -> None:
    plan = facts(horizons=(64,), worlds=("mujoco", "imagined"))
    rows = [
        replace(each, success=True)
        if each.world == "imagined" and (each.policy, each.task) == ("no-op", "push")
        else each
        for each in rows_of(plan)
    ]
    films = summarise(rows, plan, draws=0)["films"]
    assert [film["kind"] for film in films] == ["imagined success", "both succeed", "both fail"]
    assert (films[0]["policy"], films[0]["task"], films[0]["mujoco_success"]) == ("no-op", "push", False)


def test_missing_episodes_are_told() -> None:
    plan = facts()
    rows = rows_of(plan)
    with pytest.raises(DataError, match=r"1 of 720 episodes of the world mujoco \(horizon 32\) are missing"):
        summarise(rows[1:], plan)
    without = [each for each in rows if each.world != "imagined"]
    summary = summarise(without, plan, draws=0)
    assert "pearson_r" not in summary and summary["action_interface"]["passes"] is True
    with pytest.raises(DataError, match="world imagined"):
        summarise(rows[:-2], plan)
    with pytest.raises(ConfigError, match="world mujoco"):
        facts(worlds=("imagined",))


def test_rows_of_another_evaluation_do_not_mix_in() -> None:
    plan = facts(("a", "b"), ("push",), seeds=1, horizons=(64,), worlds=("mujoco", "imagined"))
    mine = [row(world, "push", p, 1_000_000, p == "a") for world in plan.worlds for p in ("a", "b")]
    other = [
        replace(mine[2], interface="m1:8", success=False),
        replace(mine[0], suite="tabletop", success=False),
        replace(mine[0], seed=5, success=False),
        replace(mine[0], horizon=128, success=False),
    ]
    table = EpisodeTable([*other, *mine, *other], plan)
    assert table.outcomes("imagined").tolist() == table.outcomes("mujoco").tolist() == [[[1.0]], [[0.0]]]


def test_nothing_varies_gives_undefined_and_no_nan() -> None:
    plan = facts(horizons=(64,))
    same = [replace(each, success=False, judge_success=False) for each in rows_of(plan)]
    summary = summarise(same, plan, draws=DRAWS)
    assert summary["pearson_r"] is None and summary["kappa"] is None
    assert "r=undefined" in report_line(summary)
    json.dumps(summary, allow_nan=False)


def test_facts_of_a_configuration() -> None:
    config = EvaluationConfig(policies=("expert-1.0", "no-op"), unseen_policies=("no-op",), seeds=3)
    plan = facts_of(config, dt_s=0.2, hashes={"config": config.sha256})
    assert isinstance(plan, Facts)
    assert (plan.policies, plan.seeds, plan.horizon) == (config.policies, 3, config.horizon)
    assert plan.unseen_policies == ("no-op",) and plan.settings["maskgit_steps"] == config.maskgit_steps


def test_without_nan() -> None:
    assert without_nan({"a": [float("nan"), np.float32(0.5), (1, np.int64(2))]}) == {"a": [None, 0.5, [1, 2]]}
