"""The runner: pairing, resuming, repeatability, the interface gate. Real MuJoCo, a real (random) world model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genie_robot.errors import ConfigError
from genie_robot.evaluation.episodes import WORLDS, format_rows, read_rows
from genie_robot.evaluation.evaluation_config import EvaluationConfig
from genie_robot.evaluation.films import SCALE, episode_path
from genie_robot.evaluation.pictures import read_video
from genie_robot.evaluation.policy_eval import PolicyEvaluation
from genie_robot.simulation.policies import Resources, make_policy
from tests.evaluation.small_parts import CONFIG, small_parts

pytest.importorskip("mujoco")

ALL_WORLDS = replace(CONFIG, worlds=WORLDS)


@pytest.fixture
def make(probes, model, adapter):
    """Make the evaluation of a config in a folder."""

    def one(folder: Path, config: EvaluationConfig = ALL_WORLDS) -> PolicyEvaluation:
        return PolicyEvaluation(config, folder, small_parts(probes, model, adapter))

    return one


@pytest.fixture(scope="module")
def finished(tmp_path_factory, probes, model, adapter) -> PolicyEvaluation:
    parts = small_parts(probes, model, adapter)
    evaluation = PolicyEvaluation(ALL_WORLDS, tmp_path_factory.mktemp("policies"), parts)
    evaluation.run()
    return evaluation


def test_every_world_policy_seed_and_horizon_has_one_row(finished: PolicyEvaluation) -> None:
    rows = finished.rows()
    assert ALL_WORLDS.episodes == 30
    assert len(rows) == 2 * 30 == len({row.key for row in rows})
    assert {row.status for row in rows} == {"ok"} and {row.horizon for row in rows} == {2, 3}
    assert {row.interface for row in rows if row.world in ("mujoco", "tokenizer")} == {""}
    assert {row.interface for row in rows if row.world in ("interface", "imagined", "replay")} == {"m0"}
    assert {(row.second_success, row.progress) for row in rows} == {(False, 0.75)}


def test_each_episode_has_a_film_that_can_be_looked_at_and_its_trajectory(finished) -> None:
    for world in ALL_WORLDS.worlds:
        place = (world, "push", "random-keys", ALL_WORLDS.first_seed)
        film = read_video(episode_path(finished.out_dir, "videos", place, ".mp4"))
        assert film.shape == (4, 64 * SCALE, 64 * SCALE, 3) and film.std() > 10
        with np.load(episode_path(finished.out_dir, "trajectories", place, ".npz")) as stored:
            assert stored["actions_S7"].shape == (3, 7) and stored["states_TS"].shape == (4, 9)
    assert len(list(finished.out_dir.rglob("*.mp4"))) == ALL_WORLDS.episodes


def test_the_same_config_gives_the_same_rows_byte_by_byte(finished, make, tmp_path: Path) -> None:
    make(tmp_path).run()
    assert (tmp_path / "episodes.csv").read_bytes() == finished.csv_path.read_bytes()


def test_all_worlds_of_an_episode_start_from_the_same_image(finished) -> None:
    for policy in ALL_WORLDS.policies:
        first = []
        for world in ALL_WORLDS.worlds:
            place = (world, "push", policy, ALL_WORLDS.first_seed + 1)
            first.append(read_video(episode_path(finished.out_dir, "videos", place, ".mp4"))[0].astype(float))
        for other in first[1:]:
            assert np.abs(other - first[0]).mean() < 2.0  # the films are compressed


def test_replay_repeats_the_actions_of_mujoco(finished) -> None:
    def actions(world: str) -> np.ndarray:
        place = (world, "push", "random-keys", ALL_WORLDS.first_seed)
        return np.load(episode_path(finished.out_dir, "trajectories", place, ".npz"))["actions_S7"]

    assert np.array_equal(actions("replay"), actions("mujoco")) and actions("mujoco").any()


def test_an_interrupted_run_goes_on_and_ends_with_the_same_rows(
    finished, make, tmp_path: Path, monkeypatch
) -> None:
    lines = finished.csv_path.read_text().splitlines(keepends=True)
    # Killed in the second block of the world imagined, in the middle of a line.
    cut = 1 + 3 * 12 + 8 + 1
    (tmp_path / "episodes.csv").write_text("".join(lines[:cut]) + lines[cut][:9])
    for kind in ("trajectories", "videos"):
        os.symlink(finished.out_dir / kind, tmp_path / kind)
    ran = []
    original = PolicyEvaluation.play

    def spy(self, block):
        ran.append((block.world, block.seeds))
        return original(self, block)

    monkeypatch.setattr(PolicyEvaluation, "play", spy)
    rows = make(tmp_path).run()
    first = ALL_WORLDS.first_seed
    assert ran == [
        ("imagined", (first + 2,)),
        ("replay", (first, first + 1)),
        ("replay", (first + 2,)),
    ]
    assert rows == finished.rows()
    assert (tmp_path / "episodes.csv").read_bytes() == finished.csv_path.read_bytes()


_RUN = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.evaluation.conftest import untrained_probe
from tests.evaluation.small_parts import CONFIG, small_parts
from genie_robot.evaluation.policy_eval import PolicyEvaluation
from genie_robot.evaluation.probe import ProbePair
from dataclasses import replace
parts = small_parts(ProbePair(untrained_probe(0), untrained_probe(1), hash="test"))
config = replace(CONFIG, worlds=("mujoco",), seeds=4)
PolicyEvaluation(config, sys.argv[1], parts).run(lambda done, what: print(done, flush=True))
"""


def test_killed_in_the_middle_it_resumes(probes, tmp_path: Path) -> None:
    """A real process, killed with SIGKILL while it runs; then the rows of a run that nobody disturbed."""
    script = tmp_path / "run.py"
    script.write_text(_RUN.format(root=str(Path(__file__).resolve().parents[2])))
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, script, out], stdout=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "4\n"  # one block is done: it is somewhere in the next one
    time.sleep(0.03)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    kept = (out / "episodes.csv").read_text()
    assert 8 <= len(read_rows(out / "episodes.csv")) < 16
    config = replace(CONFIG, worlds=("mujoco",), seeds=4)
    resumed = PolicyEvaluation(config, out, small_parts(probes)).run()
    whole = PolicyEvaluation(config, tmp_path / "whole", small_parts(probes)).run()
    assert len(resumed) == 16 and (out / "episodes.csv").read_text().startswith(kept)
    assert sorted(format_rows(resumed).splitlines()) == sorted(format_rows(whole).splitlines())


def test_other_settings_do_not_mix_and_more_seeds_do(finished, make) -> None:
    with pytest.raises(ConfigError, match="another temperature"):
        make(finished.out_dir, replace(ALL_WORLDS, temperature=0.5))
    make(finished.out_dir, replace(ALL_WORLDS, seeds=4, i_know=False))
    make(finished.out_dir)
    with pytest.raises(ConfigError, match=r"episodes of 3 steps, got horizons up to 2; wanted 3 among them"):
        make(finished.out_dir, replace(ALL_WORLDS, horizons=(2,)))


def test_more_policies_leave_the_rows_and_the_films_of_before_as_they_are(make, tmp_path: Path) -> None:
    config = replace(CONFIG, worlds=("mujoco", "imagined"), policies=("random-keys",), unseen_policies=())
    make(tmp_path, config).run()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.npz")}
    lines = (tmp_path / "episodes.csv").read_text().splitlines()
    grown = make(tmp_path, replace(config, policies=("random-keys", "no-op"), unseen_policies=()))
    stamps = {path: path.stat().st_mtime_ns for path in before}
    rows = grown.run()
    assert (
        len(rows) == 2 * (len(lines) - 1)
        and (tmp_path / "episodes.csv").read_text().splitlines()[: len(lines)] == lines
    )
    assert len(list(tmp_path.rglob("*.npz"))) == 2 * len(before)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_the_folder_says_what_it_was_made_with(finished, make) -> None:
    (made,) = finished.facts.made_with
    assert made["commit"] and made["torch"] and made["cpu"]
    path = finished.out_dir / "settings.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps(settings | {"made_with": [made | {"cpu": "another"}]}))
    assert [m["cpu"] for m in make(finished.out_dir).facts.made_with] == ["another", made["cpu"]]


def test_another_probe_does_not_mix(finished, probes, model, adapter) -> None:
    parts = small_parts(probes, model, adapter, hashes={"probe": "other"})
    with pytest.raises(ConfigError, match="another probe"):
        PolicyEvaluation(ALL_WORLDS, finished.out_dir, parts)


def test_mujoco_rows_are_what_the_environment_says(finished, probes) -> None:
    """An independent run of the Gymnasium environment with the same policy stream ends in the same state."""
    from genie_robot.simulation.mujoco.env import TabletopEnv

    env = TabletopEnv("push")
    for row in (r for r in finished.rows() if r.world == "mujoco" and r.seed == ALL_WORLDS.first_seed):
        policy = make_policy(row.policy, "tabletop", row.task, Resources(eyes=probes.eyes))
        policy.reset(row.seed)
        image, info = env.reset(seed=row.seed)
        for _ in range(row.horizon):
            image, _, _, _, info = env.step(policy.act(image))
        assert row.goal_distance_m == pytest.approx(info["goal_distance_m"], abs=1e-4)


def test_imagined_rows_are_what_one_session_at_a_time_gives(finished, probes, model, adapter) -> None:
    """Who shares the batch, the fork of the prompt and the place in it do not matter."""
    from genie_robot.simulation.suites import get_suite
    from genie_robot.simulation.world_session import WorldSession

    suite = get_suite("tabletop")
    session = WorldSession(model, maskgit_steps=1)
    for row in (r for r in finished.rows() if r.world == "imagined" and r.horizon == 3 and r.seed % 2):
        policy = make_policy(row.policy, "tabletop", row.task, Resources(eyes=probes.eyes))
        policy.reset(row.seed)
        image, _ = suite.make_env("push").reset(seed=row.seed)
        session.reset(image[None], seed=row.seed)
        for _ in range(3):
            image = session.step(int(adapter.code(policy.act(image))))
        state = probes.judge(image[None])[0]
        assert row.goal_distance_m == pytest.approx(suite.goal_distance_m("push", state), abs=2e-3)


def test_only_mujoco_needs_no_model(tmp_path: Path, probes) -> None:
    config = replace(CONFIG, worlds=("mujoco",), policies=("no-op",), seeds=1)
    rows = PolicyEvaluation(config, tmp_path, small_parts(probes)).run()
    assert len(rows) == 2 and not rows[0].success
    with pytest.raises(ConfigError, match="want a world model"):
        PolicyEvaluation(CONFIG, tmp_path / "x", small_parts(probes))


def test_an_interface_that_loses_too_much_is_refused_and_can_be_insisted_on(
    make, tmp_path: Path, monkeypatch
) -> None:
    ceiling = {"pearson_r": 0.9, "mmrv": 0.2, "mean_abs_error": 0.3, "passes": False}
    monkeypatch.setattr("genie_robot.evaluation.policy_eval.interface_ceiling", lambda rows, facts: ceiling)
    config = replace(CONFIG, i_know=False, seeds=1)
    with pytest.raises(ConfigError, match=r"m0 is not fit .* r=0\.900, MMRV=0\.200; wanted r >= 0\.98"):
        make(tmp_path, config).run()
    worlds = {row.world for row in read_rows(tmp_path / "episodes.csv")}
    assert worlds == {"mujoco", "interface"}  # kept, so that --i-know goes on from there
    rows = make(tmp_path, replace(config, i_know=True)).run()
    assert {row.world for row in rows} == {"mujoco", "interface", "imagined"}


def test_without_its_ceiling_nothing_is_scored_in_imagination(make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ceiling was not measured"):
        make(tmp_path, replace(CONFIG, i_know=False, worlds=("imagined",), seeds=1)).run()


def test_an_interface_that_changes_no_rate_passes_though_r_is_undefined(make, tmp_path: Path) -> None:
    config = replace(CONFIG, i_know=False, policies=("no-op",), seeds=1)
    assert "imagined" in {row.world for row in make(tmp_path, config).run()}


def test_the_folder_says_what_was_run(finished) -> None:
    from genie_robot.evaluation.evaluation_config import load_config

    assert load_config(str(finished.out_dir / "evaluation.yaml")) == ALL_WORLDS
    settings = json.loads((finished.out_dir / "settings.json").read_text())
    assert settings["hashes"] == {"probe": "test"} and settings["suite"] == "tabletop"
