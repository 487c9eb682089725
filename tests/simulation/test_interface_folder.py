"""Action interfaces in a model folder: fitted, kept, opened by name, refused when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genie_robot.errors import ConfigError, ModelFolderError
from genie_robot.simulation.action_interface import fit_adapter
from genie_robot.simulation.interfaces import (
    CodeDictionary,
    ImageFeatures,
    LatentAdapter,
    LatentInterface,
    StateDecoder,
    TableInterface,
    Transitions,
    load_interface,
    model_spaces,
    save_interface,
)
from genie_robot.simulation.world_session import WorldSession
from tests.simulation.transitions import TWO, make_transitions
from tests.small_models import small_world_model

pytestmark = pytest.mark.usefixtures("short_training")

ALL_NAMES = ("m0", "m1:8", "m1:8x2", "m1:8x3", "m1:continuous", "m2")


def fit_all(model: Any, folder: Path) -> None:
    train = make_transitions(9)
    train = Transitions(
        train.images_NYXC, train.actions_NA, train.open_N, train.codes_NL[:, [0, 1, 1]], train.vectors_NK
    )
    features = ImageFeatures.fit(train.images_NYXC)
    fit_adapter(train.actions_NA, train.codes_NL[:, 0], 8, train.open_N).save(folder)
    for space in model_spaces(model):
        adapter, decoder = LatentAdapter.fit(space, train, features), StateDecoder.fit(space, train, features)
        save_interface(
            folder, LatentInterface(adapter, decoder, model), model.hash, {"labelled_transitions": 9}
        )


@pytest.fixture(scope="module")
def folder(mixed_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    mixed_model.save(place)
    fit_all(mixed_model, place)
    return place


@pytest.mark.parametrize("name", ALL_NAMES)
def test_every_interface_drives_one_model(name: str, folder: Path, mixed_model: Any) -> None:
    interface = load_interface(folder, name)
    images = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3)).astype(np.uint8)
    session = WorldSession(mixed_model, maskgit_steps=1)
    session.reset(images[:, None], seed=0)
    interface.reset(2)
    actions = np.random.default_rng(1).uniform(-1, 1, (2, 7)).astype(np.float32)
    drive = interface.encode(actions, images, np.array([True, False]))
    assert session.step(drive).shape == (2, 64, 64, 3)
    assert interface.name == name
    interface.reset(2)
    assert interface.executed(actions, images, np.array([True, False])).shape == (2, 7)


def test_a_model_of_codes_takes_codes(tmp_path: Path) -> None:
    model = small_world_model()
    model.save(tmp_path)
    fit_all(model, tmp_path)
    for name in ("m0", "m1:8"):
        interface = load_interface(tmp_path, name, model)
        interface.reset(1)
        code = interface.encode(np.zeros((1, 7)), np.zeros((1, 64, 64, 3), np.uint8), np.ones(1, bool))
        assert code.shape == (1,)
        assert code.dtype.kind == "i"


def test_all_levels_go_to_an_older_model_as_one_number() -> None:
    model = small_world_model(num_codebooks=2)
    train = make_transitions(30)
    adapter = LatentAdapter.fit(TWO, train, ImageFeatures.fit(train.images_NYXC))
    interface = LatentInterface(adapter, CodeDictionary.fit(TWO, train), model)
    interface.reset(30)
    code = interface.encode(train.actions_NA, train.images_NYXC, train.open_N)
    digits = adapter.latents(train.actions_NA, train.images_NYXC, train.open_N)
    np.testing.assert_array_equal(code, digits[:, 0] + 8 * digits[:, 1])


def test_what_is_loaded_is_what_was_saved(folder: Path, mixed_model: Any, tmp_path: Path) -> None:
    loaded = load_interface(folder, "m1:8x2", mixed_model)
    assert isinstance(loaded, LatentInterface)
    save_interface(tmp_path, loaded, mixed_model.hash, {})
    again = load_interface(tmp_path, "m1:8x2", mixed_model)
    given = make_transitions(9, 5)
    answers = []
    for interface in (loaded, again):
        interface.reset(9)
        answers.append(interface.executed(given.actions_NA, given.images_NYXC, given.open_N))
    np.testing.assert_array_equal(*answers)
    assert loaded.hash == again.hash


@pytest.mark.parametrize("name", ["", "m1", "m3", "m1:", "m2:8", "8x2"])
def test_unknown_names_are_refused(name: str, folder: Path, mixed_model: Any) -> None:
    with pytest.raises(ConfigError, match="wanted m0"):
        load_interface(folder, name, mixed_model)


def test_missing_altered_and_foreign_files_are_refused(
    mixed_model: Any, folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelFolderError, match="not fitted"):
        load_interface(tmp_path, "m1:8", mixed_model)
    with pytest.raises(ModelFolderError, match="action_adapter"):
        load_interface(tmp_path, "m0", mixed_model)
    loaded = load_interface(folder, "m1:8", mixed_model)
    assert isinstance(loaded, LatentInterface)
    path = save_interface(tmp_path, loaded, "0123456789ab", {})
    with pytest.raises(ModelFolderError, match="fitted for model 0123456789ab"):
        load_interface(tmp_path, "m1:8", mixed_model)
    save_interface(tmp_path, loaded, mixed_model.hash, {})
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(ModelFolderError, match="altered"):
        load_interface(tmp_path, "m1:8", mixed_model)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ModelFolderError, match="cannot be read"):
        load_interface(tmp_path, "m1:8", mixed_model)


def test_an_adapter_to_other_codes_is_refused(mixed_model: Any) -> None:
    adapter = fit_adapter(np.eye(7)[[0, 1, 2]], np.arange(3), 16)
    with pytest.raises(ConfigError, match="adapter to 16 codes"):
        TableInterface(adapter, mixed_model)
