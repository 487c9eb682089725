from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_robot.cli import main
from genie_robot.data.open import open_dataset
from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.manipulation.generate import (
    DEFAULT_MIX,
    OUTCOMES,
    Recipe,
    _behaviour_of,
    generate_dataset,
    generate_episode,
    generate_episodes,
)
from genie_robot.simulation.mujoco.manipulation.tasks import STATE_NAMES, TASKS, is_near_miss, task_success

TINY = (8, 8)


def test_episodes_are_the_same_for_any_number_of_workers():
    recipe = Recipe("push", frames=4, image_hw=(8, 12))
    one = list(generate_episodes(recipe, 5, seed=3, encoded=True))
    two = list(generate_episodes(recipe, 5, seed=3, encoded=True, workers=2))
    assert len(one) == len(two) == 5
    for first, second in zip(one, two, strict=True):
        assert first["encoded"] == second["encoded"]
        assert np.array_equal(first["actions"], second["actions"])
        assert first["attributes"] == second["attributes"]


def test_splits_seeds_and_tasks_differ():
    states = [
        generate_episode(Recipe(task, frames=2, image_hw=TINY), 0, seed, split)["state"].tobytes()
        for task in ("reach", "pick_lift")
        for seed in (0, 1)
        for split in ("train", "val", "test")
    ]
    assert len(set(states)) == 12


@pytest.mark.parametrize("task", TASKS)
def test_at_least_40_percent_fail_and_all_say_what_they_are(task):
    recipe = Recipe(task, image_hw=TINY)
    episodes = list(generate_episodes(recipe, 30))
    outcomes = [episode["attributes"]["data_type_name"] for episode in episodes]
    assert sum(outcome != "success" for outcome in outcomes) >= 0.4 * len(episodes)
    assert "success" in outcomes
    assert "near_miss" in outcomes
    for episode, outcome in zip(episodes, outcomes, strict=True):
        won = [task_success(task, state) for state in episode["state"]]
        assert np.array_equal(episode["rewards"], np.array(won, np.float32))
        assert episode["success"] == any(won) == (outcome == "success")
        near = any(is_near_miss(task, state) for state in episode["state"])
        assert outcome == ("success" if any(won) else "near_miss" if near else "failure")
        assert OUTCOMES[episode["attributes"]["data_type"]] == outcome
        if episode["attributes"]["collection_mode_name"].startswith("failing_"):
            assert not any(won)


@given(st.lists(st.floats(0.05, 1.0), min_size=4, max_size=4))
def test_shares_hold_in_any_stretch(shares):
    recipe = Recipe("reach", dict(zip(DEFAULT_MIX, shares, strict=True)))
    for start in (0, 137):
        kinds = [_behaviour_of(recipe, index) for index in range(start, start + 100)]
        for name, share in recipe.mix.items():
            assert abs(kinds.count(name) / 100 - share) <= 0.04


def test_mix_chooses_the_behaviour():
    recipe = Recipe("drawer", {"failing": 1.0}, frames=20, image_hw=TINY)
    modes = {e["attributes"]["collection_mode_name"] for e in generate_episodes(recipe, 8)}
    assert all(mode.startswith("failing_") for mode in modes)
    assert len(modes) >= 3


def test_play_goes_through_all_scenes_without_a_goal():
    episodes = list(generate_episodes(Recipe("play", frames=3, image_hw=TINY), 5))
    assert {e["attributes"]["task_family_name"] for e in episodes} == set(TASKS)
    for episode in episodes:
        assert episode["instruction"].startswith("play with the ")
        assert not episode["success"]
        assert not episode["rewards"].any()
        assert episode["attributes"]["data_type_name"] == "play"


@settings(max_examples=5, deadline=None)
@given(st.sampled_from(TASKS), st.sampled_from(("keyboard", "free")), st.integers(0, 1000))
def test_action_leads_to_the_next_frame(task, control, index):
    recipe = Recipe(task, {"random": 1.0}, frames=12, image_hw=TINY, control=control)
    episode = generate_episode(recipe, index)
    moved = np.diff(episode["state"][:, :3], axis=0)
    wanted = episode["actions"][:-1, :3] * 0.04
    assert np.median(np.abs(moved - wanted)) < 0.002
    assert not episode["actions"][-1].any()


def test_dataset_reads_back_and_is_kept_when_it_is_there(tmp_path: Path):
    recipe = Recipe("pick_place", frames=5, image_hw=(16, 24), control="free", look="strong")
    folder = generate_dataset(recipe, tmp_path, 3, 1, 0, seed=2, workers=1, progress=False)
    assert folder == tmp_path / "tabletop_pick_place" / "1.0.0"
    dataset = open_dataset(folder)
    assert dataset.splits == {"train": 3, "val": 1}
    assert dataset.dt_s == pytest.approx(0.2)
    for index, episode in enumerate(dataset.episodes("train", actions=True, state=True)):
        made = generate_episode(recipe, index, 2)
        assert episode.actions_TA is not None
        assert episode.state_TS is not None
        assert np.array_equal(episode.frames_TYXC, made["frames_TYXC"])
        assert np.array_equal(episode.actions_TA, made["actions"])
        assert np.array_equal(episode.state_TS, made["state"])
        assert episode.instruction == made["instruction"]
    facts = json.loads((folder / "metadata.json").read_text())
    assert facts["state_names"] == list(STATE_NAMES)
    assert (facts["control"], facts["look"], facts["image_hw"]) == ("free", "strong", [16, 24])

    before = (folder / "metadata.json").stat().st_mtime_ns
    assert generate_dataset(recipe, tmp_path, 3, 1, 0, seed=2, workers=1, progress=False) == folder
    assert (folder / "metadata.json").stat().st_mtime_ns == before
    for other, seed in ((recipe, 3), (replace(recipe, look="none"), 2)):
        with pytest.raises(ConfigError, match="exists"):
            generate_dataset(other, tmp_path, 3, 1, 0, seed=seed, workers=1, progress=False)


@pytest.mark.parametrize(
    "options",
    [
        {"task": "dance"},
        {"mix": {"dance": 1.0}},
        {"mix": dict.fromkeys(DEFAULT_MIX, 0.0)},
        {"frames": 1},
        {"image_hw": (64, 4)},
        {"control": "joystick"},
        {"look": "wild"},
        {"robot": "hal"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_wrong_recipes_are_refused(options):
    with pytest.raises(ConfigError):
        Recipe(**({"task": "reach"} | options))


def test_the_command_makes_all_tasks_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out, numbers = tmp_path / "out", tmp_path / "made.json"
    common = ["--episodes", "1", "--val-episodes", "0", "--test-episodes", "0", "--frames", "3"]
    common += ["--size", "8x16", "--workers", "1", "--control", "free", "--mix", "expert=.5", "failing=.5"]
    assert main(["data", "generate", str(out), "--task", "drawer", *common]) == 0
    drawer = out / "tabletop_drawer" / "1.0.0" / "metadata.json"
    before = drawer.stat().st_mtime_ns
    assert main(["data", "generate", str(out), "--task", "all", *common, "--json", str(numbers)]) == 0
    made = json.loads(numbers.read_text())["datasets"]
    assert [Path(one["path"]).parent.name for one in made] == [f"tabletop_{task}" for task in TASKS]
    assert drawer.stat().st_mtime_ns == before
    capsys.readouterr()
    for wrong, message in (
        (["--mix", "expert=many"], "NAME=SHARE"),
        (["--size", "64y64"], "--size"),
        (["--robot", "hal"], "robot is 'hal'"),
    ):
        assert main(["data", "generate", str(out), "--task", "reach", *wrong]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--mix", "expert=.5"], "PLAY PUSH LIFT"),
        (["--look", "strong"], "--look"),
        (["--size", "64x96"], "square"),
    ],
)
def test_tabletop_has_no_such_choice(wrong, message, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "generate", str(tmp_path / "out"), "--episodes", "1", *wrong]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
