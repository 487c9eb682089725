"""The TFDS builder makes what our own writer makes."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from genie_robot.data.open import open_dataset
from genie_robot.simulation.mujoco.generate import generate_dataset

FILE = Path(__file__).parents[3] / "datasets" / "tabletop" / "tabletop_dataset_builder.py"


@pytest.mark.slow
def test_builder_and_writer_agree(tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"))
    pytest.importorskip("tensorflow_datasets")
    spec = importlib.util.spec_from_file_location("tabletop_dataset_builder", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    monkeypatch.syspath_prepend(FILE.parents[1])  # as `tfds build` does
    spec.loader.exec_module(module)
    monkeypatch.setattr(module.Builder, "EPISODES", {"train": 2})

    builder = module.Builder(data_dir=tmp_path / "tfds")
    builder.download_and_prepare()
    own = generate_dataset(tmp_path / "own", 2, 0, 0, workers=1, progress=False)
    theirs = Path(builder.data_dir)
    assert json.loads((theirs / "features.json").read_text()) == json.loads(
        (own / "features.json").read_text()
    )

    def contents(folder: Path) -> list:
        opened = open_dataset(folder, rate_hz=5.0).episodes("train", actions=True, state=True)
        return sorted(opened, key=lambda episode: episode.frames_TYXC.tobytes())  # TFDS shuffles

    for first, second in zip(contents(theirs), contents(own), strict=True):
        assert first.actions_TA is not None
        assert second.actions_TA is not None
        assert first.state_TS is not None
        assert second.state_TS is not None
        assert np.array_equal(first.frames_TYXC, second.frames_TYXC)
        assert np.array_equal(first.actions_TA, second.actions_TA)
        assert np.array_equal(first.state_TS, second.state_TS)
        assert first.instruction == second.instruction
