"""Policy evaluation: pairing, resuming, repeatability, summary. Real MuJoCo, real (random) world model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.evaluation.policy_eval import (
    PolicyEvalConfig,
    PolicyEvaluation,
    Row,
    append_rows,
    read_rows,
)
from genie_robot.evaluation.policy_summary import compare, report_line, sign_test, summarise, without_nan
from genie_robot.evaluation.probe import ProbePair

pytest.importorskip("mujoco")

CONFIG = PolicyEvalConfig(
    policies=("random-keys", "no-op"), tasks=("push",), seeds=2, block=2, max_steps=3, maskgit_steps=1
)


def make(
    folder: Path, probes: ProbePair, model, adapter, config: PolicyEvalConfig = CONFIG
) -> PolicyEvaluation:
    return PolicyEvaluation(config, folder, probes, model, adapter)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, probes, model, adapter) -> PolicyEvaluation:
    evaluation = make(tmp_path_factory.mktemp("policies"), probes, model, adapter)
    evaluation.run()
    return evaluation


def test_every_world_policy_and_seed_has_one_row(finished: PolicyEvaluation) -> None:
    rows = finished.rows()
    assert len(rows) == CONFIG.episodes == len({row.key for row in rows}) == 12
    assert {row.steps for row in rows} <= {1, 2, 3}


def test_the_same_settings_give_the_same_rows(finished, tmp_path: Path, probes, model, adapter) -> None:
    make(tmp_path, probes, model, adapter).run()
    assert (tmp_path / "episodes.csv").read_bytes() == finished.csv_path.read_bytes()


def test_finished_blocks_are_not_run_again_and_cut_ones_are(
    finished, tmp_path: Path, probes, model, adapter, monkeypatch
) -> None:
    lines = finished.csv_path.read_text().splitlines(keepends=True)
    evaluation = make(tmp_path, probes, model, adapter)
    # Interrupted in the last block, in the middle of a line.
    evaluation.csv_path.write_text("".join(lines[:-2]) + lines[-2] + lines[-1][:9])
    ran = []
    original = PolicyEvaluation._run_block

    def spy(self, world, task, policy, seeds):
        ran.append((world, task, policy))
        return original(self, world, task, policy, seeds)

    monkeypatch.setattr(PolicyEvaluation, "_run_block", spy)
    rows = make(tmp_path, probes, model, adapter).run()
    assert ran == [("mujoco_codes", "push", "no-op")]
    assert rows == finished.rows()
    assert evaluation.csv_path.read_bytes() == finished.csv_path.read_bytes()


def test_other_settings_do_not_mix_and_more_seeds_do(finished, probes, model, adapter) -> None:
    with pytest.raises(ConfigError, match="another temperature"):
        make(finished.out_dir, probes, model, adapter, replace(CONFIG, temperature=0.5))
    with pytest.raises(ConfigError, match="another probe_hash"):
        make(finished.out_dir, replace(probes, hash="other"), model, adapter)
    make(finished.out_dir, probes, model, adapter, replace(CONFIG, seeds=4))
    make(finished.out_dir, probes, model, adapter)


def test_mujoco_rows_are_what_the_environment_says(finished, probes) -> None:
    """An independent run of the Gymnasium environment with the same policy stream ends in the same state."""
    from genie_robot.simulation.mujoco.env import TabletopEnv
    from genie_robot.simulation.policies import make_policy

    env = TabletopEnv("push")
    for row in (r for r in finished.rows() if r.world == "mujoco"):
        policy = make_policy(row.policy, row.task, probes.eyes)
        policy.reset(row.seed)
        image, info = env.reset(seed=row.seed)
        for _ in range(row.steps):
            image, _, _, _, info = env.step(policy.act(image))
        assert row.goal_distance_m == pytest.approx(info["goal_distance_m"], abs=1e-4)
        assert row.success == info["is_success"]


def test_imagined_rows_are_what_the_imagined_environment_does(finished, probes, model, adapter) -> None:
    """The batched rollout and `Imagined-v0`, one episode at a time, are the same world."""
    from genie_robot.simulation.imagined_env import ImaginedEnv
    from genie_robot.simulation.policies import make_policy

    env = ImaginedEnv(model, "push", adapter=adapter, judge=probes.judge, maskgit_steps=1)
    for row in (r for r in finished.rows() if r.world == "imagined"):
        policy = make_policy(row.policy, row.task, probes.eyes)
        policy.reset(row.seed)
        image, info = env.reset(seed=row.seed)
        done = False
        for _ in range(row.steps):
            image, _, done, _, info = env.step(policy.act(image))
        assert row.goal_distance_m == pytest.approx(info["goal_distance_m"], abs=2e-3)
        assert row.success == done


def test_only_mujoco_needs_no_model(tmp_path: Path, probes) -> None:
    config = replace(CONFIG, worlds=("mujoco",), policies=("no-op",), seeds=1)
    rows = PolicyEvaluation(config, tmp_path, probes).run()
    assert len(rows) == 1 and not rows[0].success and rows[0].steps == 3
    with pytest.raises(ConfigError, match="name a model"):
        PolicyEvaluation(CONFIG, tmp_path / "x", probes)


def test_wrong_settings_are_refused() -> None:
    for wrong in (
        {"tasks": ("fly",)},
        {"policies": ("clever",)},
        {"worlds": ("real",)},
        {"seeds": 0},
        {"policies": ()},
    ):
        with pytest.raises(ConfigError):
            PolicyEvalConfig(**wrong)  # type: ignore[arg-type]


def test_damaged_row_is_told(tmp_path: Path) -> None:
    path = tmp_path / "episodes.csv"
    append_rows(path, [Row("mujoco", "push", "no-op", 1, True, False, 3, 0.1, 0.03)])
    assert read_rows(path) == [Row("mujoco", "push", "no-op", 1, True, False, 3, 0.1, 0.03)]
    path.write_text(path.read_text() + "mujoco,push,no-op,x,1,1,1,1,1\n")
    with pytest.raises(ConfigError, match="not an episode"):
        read_rows(path)


def synthetic_rows(config: PolicyEvalConfig, flip: float) -> list[Row]:
    """Rows of known rates in MuJoCo; imagination has the same outcome but for a share `flip` of episodes."""
    rng = np.random.default_rng(0)
    rows = []
    for index, policy in enumerate(config.policies):
        for task in config.tasks:
            for seed in range(config.first_seed, config.first_seed + config.seeds):
                truth = bool(rng.random() < 1 - index / (len(config.policies) - 1))
                other = truth ^ bool(rng.random() < flip)
                for world, success in (("mujoco", truth), ("imagined", other), ("mujoco_codes", truth)):
                    rows.append(Row(world, task, policy, seed, success, success, 5, 0.1, 0.03))
    return rows


def test_summary_of_perfect_and_of_noisy_imagination() -> None:
    config = PolicyEvalConfig(seeds=30)
    exact = summarise(config, synthetic_rows(config, 0.0))
    assert (
        exact["pearson_r"] == pytest.approx(1.0)
        and exact["mmrv"] == 0.0
        and exact["kappa"] == pytest.approx(1.0)
    )
    assert exact["episodes"] == config.episodes and exact["n"] == 7 and exact["tasks"] == ["push", "lift"]
    assert 0.9 < exact["ceiling_r"] < 1.0 < exact["ceiling_r_paired90"] + 0.01
    assert exact["best_policy"] == "expert-1.0" and exact["worst_policy"] == "no-op"
    assert exact["best_and_worst_told_apart"] is True
    assert exact["action_interface"]["pearson_r"] == pytest.approx(1.0)
    noisy = summarise(config, synthetic_rows(config, 0.3))
    assert noisy["episode_agreement"] == pytest.approx(0.7, abs=0.06)
    assert noisy["optimism"] == pytest.approx(0.3, abs=0.08)
    low, high = noisy["fisher_interval"]
    assert low < noisy["pearson_r"] < high
    assert "MMRV=" in report_line(noisy) and f"k={noisy['n']}" in report_line(noisy)
    cell = exact["table"][0]["mujoco"]
    assert cell["trials"] == 30 and cell["wilson"][0] < cell["rate"] <= cell["wilson"][1]


def test_summary_wants_all_mujoco_rows_and_has_no_nan() -> None:
    config = PolicyEvalConfig(seeds=3)
    rows = synthetic_rows(config, 0.0)
    with pytest.raises(ValueError, match="missing"):
        summarise(config, rows[3:])
    same = [replace(row, success=False, judge_success=False) for row in rows]
    summary = summarise(config, same)
    assert summary["pearson_r"] is None and summary["kappa"] is None
    assert "undefined" in report_line(summary)


def test_mmrv_in_the_summary_weighs_by_mujoco() -> None:
    imagined, truth = np.zeros((2, 1, 10)), np.zeros((2, 1, 10))
    imagined[0, 0, :5], imagined[1, 0, :4] = 1, 1
    truth[0, 0, :2], truth[1, 0, :8] = 1, 1
    assert compare(imagined, truth)["mmrv"] == pytest.approx(0.6)
    assert compare(imagined, truth)["bias"] == pytest.approx(-0.05)


def test_sign_test_matches_scipy() -> None:
    from scipy.stats import binomtest

    for wins, losses in [(0, 0), (5, 0), (7, 3), (3, 7), (4, 4)]:
        want = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
        assert sign_test(wins, losses) == pytest.approx(want)


def test_without_nan() -> None:
    assert without_nan({"a": [float("nan"), np.float32(0.5), (1, np.int64(2))]}) == {"a": [None, 0.5, [1, 2]]}
