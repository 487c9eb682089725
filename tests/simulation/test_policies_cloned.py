"""Cloned policies: a folder opens as what was saved, other files are refused, rows do not depend on their batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_robot.errors import ConfigError, ImageError, ModelFolderError
from genie_robot.simulation.interfaces import (
    CodeDictionary,
    ImageFeatures,
    LatentSpace,
    StateDecoder,
    Transitions,
)
from genie_robot.simulation.policies import Clones, LatentActor, Resources, act_all, load_clones, make_policy
from genie_robot.simulation.policies.clone_net import CloneNet
from genie_robot.simulation.policies.cloned import Actor, Clone, save_clones

TASKS = ("reach", "push")
IMAGES = np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)
SPACE = LatentSpace(8, 3, 16)


def untrained(outputs: int = 7, seed: int = 0) -> CloneNet:
    torch.manual_seed(seed)
    net = CloneNet(2, outputs)
    net.load_state_dict({name: value.half().float() for name, value in net.state_dict().items()})
    return net.eval().requires_grad_(False)


def transitions(count: int = 60) -> Transitions:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 8, (count, 3))
    actions = np.eye(8, 7)[codes[:, 0]].astype(np.float32)
    images = IMAGES[rng.integers(0, len(IMAGES), count)]
    return Transitions(images, actions, np.ones(count, bool), codes, np.zeros((count, 0), np.float32))


@pytest.fixture(scope="module")
def clones() -> Clones:
    decoder = StateDecoder.fit(SPACE, transitions(9), ImageFeatures.fit(IMAGES))
    return Clones(
        {
            "clone-5-a": Clone(untrained(), Actor()),
            "clone-5-b": Clone(untrained(seed=1), Actor()),
            "clone-latent-a": Clone(untrained(SPACE.width), LatentActor.of(decoder)),
        },
        "manipulation",
        TASKS,
    )


def test_a_folder_opens_as_what_was_saved(clones: Clones, tmp_path: Path) -> None:
    digest = save_clones(tmp_path, clones, {"steps": 3})
    opened = load_clones(tmp_path)
    assert opened.hash == digest and opened.tasks == TASKS and list(opened.clones) == list(clones.clones)
    task_B = np.arange(len(IMAGES)) % 2
    rng = np.random.default_rng(0)
    for name, clone in clones.clones.items():
        noise_BO = np.stack([clone.actor.draw(rng) for _ in IMAGES])
        tolerance = (
            0.0 if isinstance(clone.actor, LatentActor) is False else 2e-3
        )  # its decoder is stored in fp16
        np.testing.assert_allclose(
            opened.clones[name].act(IMAGES, task_B, noise_BO),
            clone.act(IMAGES, task_B, noise_BO),
            atol=tolerance,
        )


def test_rows_do_not_depend_on_the_batch_nor_policies_on_each_other(clones: Clones) -> None:
    resources = Resources(clones=clones)
    names = ["clone-5-a", "clone-5-b", "clone-latent-a"] * 7
    policies = [make_policy(name, "manipulation", TASKS[i % 2], resources) for i, name in enumerate(names)]
    for seed, policy in enumerate(policies):
        policy.reset(seed)
    together = act_all(policies, IMAGES)
    alone = []
    for seed, (policy, image) in enumerate(zip(policies, IMAGES, strict=True)):
        policy.reset(seed)
        alone.append(policy.act(image))
    assert np.array_equal(together, alone)
    assert together.dtype == np.float32 and np.abs(together).max() <= 1.0


def test_the_task_changes_what_is_done(clones: Clones) -> None:
    rng = np.random.default_rng(0)
    clone = clones.clones["clone-5-a"]
    noise_BO = np.tile(clone.actor.draw(rng), (2, 1))
    one, other = clone.act(IMAGES[[0, 0]], np.arange(2), noise_BO)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("name", ["clone-5-a", "clone-latent-a"])
def test_an_episode_draws_its_actions_from_its_own_stream(clones: Clones, name: str) -> None:
    def play(seed: int) -> np.ndarray:
        policy = make_policy(name, "manipulation", "push", Resources(clones=clones))
        policy.reset(seed)
        return np.stack([policy.act(IMAGES[0]) for _ in range(8)])

    actions = play(3)
    assert len(np.unique(actions, axis=0)) > 1, "the same picture must not be the same answer for ever"
    assert np.array_equal(actions, play(3))
    assert not np.array_equal(actions, play(4))


@pytest.mark.parametrize("name", ["clone-5-a", "clone-latent-a"])
def test_what_is_drawn_has_the_networks_probabilities(clones: Clones, name: str) -> None:
    actor, rng = clones.clones[name].actor, np.random.default_rng(0)
    logits = np.log([0.6, 0.3, 0.1])
    drawn = np.stack([actor.draw(rng) for _ in range(4000)])[:, -3:]
    shares = np.bincount((logits + drawn).argmax(axis=1), minlength=3) / 4000
    assert np.abs(shares - [0.6, 0.3, 0.1]).max() < 0.03


def test_a_gripper_class_is_a_command() -> None:
    outputs = np.zeros((3, 7))
    outputs[np.arange(3), [4, 5, 6]] = 1.0
    outputs[:, 0] = 3.0
    actions = Actor().actions(outputs, IMAGES[:3])
    assert actions[:, 6].tolist() == [0.0, 1.0, -1.0] and actions[:, 0].tolist() == [1.0] * 3


def test_a_latent_actor_decodes_the_likeliest_codes() -> None:
    actor = LatentActor.of(CodeDictionary.fit(SPACE, transitions(400)))
    for code in range(7):
        logits = np.zeros((1, 3, 8))
        logits[0, :, code] = 1.0
        assert actor.actions(logits.reshape(1, -1), IMAGES[:1])[0].argmax() == code


@pytest.mark.parametrize("fault", ["gone", "cut", "altered", "foreign", "unknown actor"])
def test_broken_folders_are_refused(clones: Clones, tmp_path: Path, fault: str) -> None:
    save_clones(tmp_path, clones, {})
    config, weights = tmp_path / "clones.json", tmp_path / "model.safetensors"
    record = json.loads(config.read_text())
    if fault == "gone":
        weights.unlink()
    elif fault == "cut":
        config.write_text(config.read_text()[:40])
    elif fault == "altered":
        weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    elif fault == "foreign":
        record["clones"]["clone-5-a"]["net"]["outputs"] = 9
        config.write_text(json.dumps(record))
    else:
        record["clones"]["clone-5-a"]["actor"] = "other"
        config.write_text(json.dumps(record))
    with pytest.raises(ModelFolderError, match=str(tmp_path)):
        load_clones(tmp_path)


def test_unknown_clones_suites_and_images_are_refused(clones: Clones) -> None:
    with pytest.raises(ConfigError, match="clone-5-a, clone-5-b"):
        make_policy("clone-100-a", "manipulation", "push", Resources(clones=clones))
    with pytest.raises(ConfigError, match="another folder"):
        make_policy("clone-5-a", "tabletop", "push", Resources(clones=clones))
    with pytest.raises(ConfigError, match="cloned for the tasks reach, push, got drawer"):
        make_policy("clone-5-a", "manipulation", "drawer", Resources(clones=clones))
    policy = make_policy("clone-5-a", "manipulation", "push", Resources(clones=clones))
    with pytest.raises(ImageError, match="wanted uint8"):
        policy.act(np.zeros((32, 32, 3), np.uint8))
