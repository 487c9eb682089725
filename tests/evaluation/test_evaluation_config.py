"""One YAML file is one evaluation: what it may say, its hash, its blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from genie_robot.errors import ConfigError
from genie_robot.evaluation.evaluation_config import CONFIGS, EvaluationConfig, load_config

NODE = "ros:/lab/my_policy"


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_stored_configurations_are_read(path: Path) -> None:
    config = load_config(path.stem)
    assert config.name == path.stem and config.suite == "manipulation" and not config.i_know
    assert {"mujoco", "interface", "imagined"} <= set(config.worlds)


def test_a_config_comes_back_from_its_text_with_its_hash(tmp_path: Path) -> None:
    config = EvaluationConfig(
        suite="manipulation", policies=("a", "b"), unseen_policies=("b",), horizons=(64, 32)
    )
    (tmp_path / "mine.yaml").write_text(config.text)
    again = load_config(str(tmp_path / "mine.yaml"))
    assert again == config and again.sha256 == config.sha256 and again.horizons == (32, 64)
    assert replace(config, seeds=17).sha256 != config.sha256
    assert again.tasks == ("reach", "push", "pick_lift", "drawer", "pick_place")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"suite": "kitchen"}, "suite is 'kitchen'"),
        ({"tasks": ("fly",)}, "task is 'fly'"),
        ({"worlds": ("real",)}, "worlds: got 'real'"),
        ({"worlds": ("replay",)}, "wanted mujoco as well"),
        ({"dtype": "float16"}, "wanted float32 or bfloat16"),
        ({"policies": ("a", "a")}, "each named once"),
        ({"unseen_policies": ("x",)}, "unseen_policies: got 'x'"),
        ({"seeds": 0}, "seeds: got 0"),
        ({"block": 0}, "block: got 0"),
        ({"horizons": (0,)}, "horizons: got 0"),
        ({"first_seed": 5}, "are those of training data"),
        ({"policy_timeout_s": 0.0}, "policy_timeout_s: got 0.0"),
        ({"temperature": -1.0}, "temperature: got -1.0"),
        ({"policies": ("ros:my_policy",)}, "wanted ros:/<namespace"),
    ],
)
def test_what_cannot_be_run_is_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        EvaluationConfig(**wrong)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("suite: [", "is not YAML"),
        ("- a\n", "got list, wanted fields"),
        ("colour: red\n", "unknown field 'colour'"),
        ("seeds: many\n", "seeds: got 'many', wanted int"),
        ("policies: scripted\n", "policies: got 'scripted', wanted a list"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ConfigError) as error:
        load_config(str(tmp_path / "x.yaml"))
    assert says in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match="got 'weekly', wanted a YAML file or one of ci, full, nightly"):
        load_config("weekly")


def test_blocks_cross_policies_and_seeds_and_every_episode_is_in_one() -> None:
    config = EvaluationConfig(policies=("a", "b", "c", NODE), tasks=("push", "lift"), seeds=5, block=7)
    blocks = list(config.blocks("mujoco"))
    first = config.first_seed
    assert [(b.policies, len(b.seeds)) for b in blocks if b.task == "push"] == [
        (("a", "b", "c"), 2), (("a", "b", "c"), 2), (("a", "b", "c"), 1), *[((NODE,), 1)] * 5,
    ]  # fmt: skip
    assert blocks[0].episodes == [(p, s) for s in (first, first + 1) for p in "abc"]
    episodes = [(b.task, *episode) for b in blocks for episode in b.episodes]
    assert len(episodes) == len(set(episodes)) == 2 * 4 * 5 and config.episodes == 3 * 40


def test_more_policies_than_fit_in_a_block_are_split() -> None:
    config = EvaluationConfig(policies=tuple("abcde"), tasks=("push",), seeds=2, block=2)
    sizes = [(b.policies, len(b.seeds)) for b in config.blocks("imagined")]
    assert sizes == [(("a", "b"), 1)] * 2 + [(("c", "d"), 1)] * 2 + [(("e",), 2)]
