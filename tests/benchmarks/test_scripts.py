"""The benchmark scripts run (at toy size), so that they work on the day when the hardware is there."""

from __future__ import annotations

import gzip
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import genie_robot
from genie_robot.evaluation.episodes import format_rows
from genie_robot.evaluation.evaluation_config import load_config
from genie_robot.evaluation.policy_report import write_report
from genie_robot.evaluation.summary.compare import compare
from genie_robot.evaluation.summary.summarise import summarise
from genie_robot.simulation.suites import get_suite
from tests.evaluation.synthetic import facts, rows_of


def _script(root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", root / "benchmarks" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_gpu_script_runs_on_a_cpu_and_its_checks_hold(repository_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--toy", "--out", str(tmp_path)]
    subprocess.run(command, cwd=repository_root, check=True, timeout=200, capture_output=True)
    parts = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert set(parts) == {"correct", "passes", "frames", "training", "temporal"}
    assert all(row["ok"] for row in parts["correct"]["rows"])
    assert all(row["ratio"] > 1 for row in parts["frames"]["rows"])
    assert all(row["tokens_per_s"] > 0 and row["mfu"] > 0 for row in parts["training"]["rows"])
    assert parts["training"]["torch"] and parts["training"]["commit"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_script_asks_for_a_gpu(repository_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=repository_root, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "--toy" in result.stderr and "Traceback" not in result.stderr


def test_the_common_size_gives_the_same_tokens_both_ways(
    repository_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = _script(repository_root, "common_size")
    for name, value in {
        "CODES": 32,
        "GRID": (4, 4),
        "TOKENS": 16,
        "FRAMES": 4,
        "STEPS": 4,
        "BATCH": 1,
    }.items():
        monkeypatch.setattr(script, name, value)
    frame = script.generated_frame(rounds=1)
    assert frame["tokens_identical"] and frame["distinct_tokens"] > 1 and frame["ratio"] > 0
    seconds = [script.training_step(history, rounds=1) for history in ("masked", "clean")]
    result = {
        "training_step_masked_s": seconds[0],
        "training_step_clean_s": seconds[1],
        "generated_frame": frame,
        "parameters": 1,
    }
    assert "best of five" in script.table(result)


def test_the_ablation_table_pairs_arms_by_seed(repository_root: Path) -> None:
    script = _script(repository_root, "ablations")
    rows = [
        {"seed": seed, "arm": arm, **dict.fromkeys(script.COLUMNS, 1.0), "delta_psnr_t4_db": value + seed}
        for seed in (0, 1, 2)
        for arm, value in (("pixels", 3.0), ("tokens", 2.0))
    ]
    text = script.table(rows)
    assert "| pixels | 1.00 ± 0.00" in text and "4.00 ± 2.48" in text  # 4.303 * 1 / sqrt(3)
    assert "| pixels - tokens | 1.00 ± 0.00 |" in text
    assert "st_vivit - vit" not in text


def test_the_ladder_goes_on_where_it_was(repository_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "ladder"
    command = [sys.executable, "benchmarks/policy_ladder.py", "--seeds=1", "--horizon=3", f"--out={out}"]
    subprocess.run([*command, "--policies=no-op"], cwd=repository_root, check=True, capture_output=True)
    stored = json.loads((tmp_path / "ladder.json").read_text())
    assert set(stored["rates"]["no-op"].values()) == {0.0}
    stored["rates"]["no-op"]["reach"] = 1.0  # kept, so not measured again
    (tmp_path / "ladder.json").write_text(json.dumps(stored))
    subprocess.run(
        [*command, "--policies=no-op,random"], cwd=repository_root, check=True, capture_output=True
    )
    text = (tmp_path / "ladder.md").read_text()
    assert "| no-op | 1.00 | 0.00 | 0.00 | 0.00 | 0.00 | 0.20 [0.04, 0.62] |" in text and "| random |" in text
    assert "lowest first: [1, 1, 0, 0, 0]. Close pairs (gap .05 to .15): 0 of 1." in text


def test_wrong_physics_are_wrong_in_what_they_say(repository_root: Path) -> None:
    script = _script(repository_root, "mistuned_simulator")

    def end(physics: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        env = script.MistunedEnv("push", physics)
        first, _ = env.reset(seed=3)
        for _ in range(2):
            *_, info = env.step(np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
        model = env.simulator.model
        return first, info["state"], np.array([model.body("object").mass[0], model.geom_friction[0, 0]])

    right, short, heavy, slippery = (
        end(script.Physics(**wrong)) for wrong in ({}, {"reach": 0.5}, {"mass": 5.0}, {"friction": 0.3})
    )
    assert all(np.array_equal(right[0], other[0]) for other in (short, heavy, slippery)), "same pictures"
    env = get_suite("manipulation").make_env("push")
    start = env.reset(seed=3)[1]["state"]
    for _ in range(2):
        *_, info = env.step(np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))
    assert np.array_equal(info["state"], right[1]), "the right physics is the suite's own"
    assert short[1][2] - start[2] == pytest.approx((right[1][2] - start[2]) / 2, rel=0.1)
    assert np.allclose([heavy[2] / right[2], slippery[2] / right[2]], [[5, 1], [1, 0.3]])


def test_the_baseline_counts_the_kept_episodes_as_their_report_does(repository_root: Path) -> None:
    folder, script = repository_root / "docs" / "nightly", _script(repository_root, "mistuned_simulator")
    table = script.kept(replace(load_config("nightly"), worlds=("mujoco", "imagined")), folder)
    found = compare(table.outcomes("imagined"), table.outcomes("mujoco"), draws=0)
    summary = json.loads((folder / "report.json").read_text())
    assert all(found[name] == pytest.approx(summary[name]) for name in script.FIGURES)


def test_a_kept_evaluation_says_what_its_numbers_say(repository_root: Path, tmp_path: Path) -> None:
    plan = facts(("a", "b", "c"), ("push", "reach"), seeds=10)
    rows = rows_of(plan, false_success=0.2, false_failure=0.1)
    run, out = tmp_path / "run", tmp_path / "kept"
    write_report(summarise(rows, replace(plan, settings={"name": "small"}), draws=20), run)
    command = [sys.executable, "benchmarks/keep_evaluation.py", str(run), str(out)]
    refused = subprocess.run(command, cwd=repository_root, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "has no episodes.csv" in refused.stderr and not out.exists()
    (run / "episodes.csv").write_text(format_rows(rows))
    subprocess.run(command, cwd=repository_root, check=True, timeout=200, capture_output=True)
    page, summary = (out / "README.md").read_text(), json.loads((run / "report.json").read_text())
    assert f"| Pearson r over policies | {summary['pearson_r']:.3f} | >= 0.95 |" in page
    tokenizer = f"{summary['in_tokenizer']['mean_abs_error']:.3f}"
    assert (
        f"| tokenizer alone: MuJoCo seen through it, closed loop | 1.000 | 0.000 | 0.000 | {tokenizer} |"
        in page
    )
    assert "| mean \\|error\\| of a success rate |" in page and "evaluate policies --config small" in page
    assert gzip.decompress((out / "episodes.csv.gz").read_bytes()) == (run / "episodes.csv").read_bytes()
    ElementTree.parse(out / "scatter.svg")
    assert all(f">{name}<" in (out / "scatter.svg").read_text() for name in plan.policies)


def test_the_nightly_evaluation_of_the_docs_is_what_its_report_says(repository_root: Path) -> None:
    kept = repository_root / "docs" / "nightly"
    summary = json.loads((kept / "report.json").read_text())
    assert _script(repository_root, "keep_evaluation").page(summary) in (kept / "README.md").read_text()
    low, high = summary["fisher_interval"]
    r, error = (
        f"r = {summary['pearson_r']:.3f} (95 % {low:.3f} to {high:.3f}",
        f"{summary['mean_abs_error']:.3f}",
    )
    page, readme = ((repository_root / name).read_text() for name in ("docs/evaluation.md", "README.md"))
    assert r in page and f"MMRV, {summary['mmrv']:.3f}, misses" in page
    assert r in readme and f"mean error of {error}" in readme
    model = genie_robot.load(repository_root / "weights" / "manipulation-tiny")
    assert model.hash == summary["hashes"]["model"], "measured with other weights than those in the box"
