"""The TFDS builders make what our own writer makes."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.open import open_dataset
from genie_robot.simulation.mujoco.manipulation.generate import Recipe, generate_dataset

DATASETS = Path(__file__).parents[3] / "datasets"
NAMES = sorted(folder.name for folder in DATASETS.glob("tabletop_*") if folder.is_dir())


@pytest.mark.parametrize("name", NAMES)
def test_every_dataset_has_a_builder_and_a_card_with_a_picture(name):
    folder = DATASETS / name
    assert Recipe(name.removeprefix("tabletop_")).name == name
    assert (folder / f"{name}_dataset_builder.py").is_file()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "examples.png" in card
    assert (folder / "examples.png").stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tabletop_drawer", "tabletop_play"])  # all share one base
def test_builder_and_writer_agree(name, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"))
    pytest.importorskip("tensorflow_datasets")
    monkeypatch.syspath_prepend(DATASETS)  # as `tfds build` does
    spec = importlib.util.spec_from_file_location(
        f"{name}_dataset_builder", DATASETS / name / f"{name}_dataset_builder.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Builder, "EPISODES", {"train": 2})
    builder = module.Builder(data_dir=tmp_path / "tfds")
    assert builder.name == name
    builder.download_and_prepare()
    recipe = Recipe(name.removeprefix("tabletop_"))
    own = generate_dataset(recipe, tmp_path / "own", 2, 0, 0, workers=1, progress=False)
    theirs = Path(builder.data_dir)
    features = [json.loads((folder / "features.json").read_text()) for folder in (theirs, own)]
    assert features[0] == features[1]

    def contents(folder: Path) -> list:
        opened = open_dataset(folder, rate_hz=5.0).episodes("train", actions=True, state=True)
        return sorted(opened, key=lambda episode: episode.frames_TYXC.tobytes())  # TFDS shuffles

    for first, second in zip(contents(theirs), contents(own), strict=True):
        assert np.array_equal(first.frames_TYXC, second.frames_TYXC)
        assert first.actions_TA is not None
        assert second.actions_TA is not None
        assert np.array_equal(first.actions_TA, second.actions_TA)
        assert first.state_TS is not None
        assert second.state_TS is not None
        assert np.array_equal(first.state_TS, second.state_TS)
        assert first.instruction == second.instruction
