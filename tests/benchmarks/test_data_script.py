"""The data benchmark runs at toy size, and what it promises of a loader process holds there too."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from genie_robot.data.open import open_dataset


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "data.py"
    spec = importlib.util.spec_from_file_location("benchmark_data", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return script.make_data(tmp_path_factory.mktemp("bench"), 3)


def test_its_frames_are_as_large_as_those_of_rt1(folder: Path) -> None:
    frames = sum(episode.num_frames for episode in open_dataset(folder).episodes(image_hw=(8, 8)))
    kilobytes = sum(path.stat().st_size for path in folder.glob("*.tfrecord-*")) / frames / 1000
    assert 24 < kilobytes < 34


def test_a_loader_process_is_small_and_does_not_grow(script: ModuleType, folder: Path) -> None:
    part = [sys.executable, str(script.__file__), "--part", "cache", "--data", str(folder), "--clips", "6400"]
    done = subprocess.run(part, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["imports"] == []
    assert result["rss_mb"] < 500
    assert result["growth_mb"] < 2
    assert result["state_bytes"] < 1000
    assert result["clips"] >= 6400


@pytest.mark.parametrize("other", ["tf_records", "tfds", "tf_half"])
def test_the_contenders_make_the_same_windows(script: ModuleType, folder: Path, other: str) -> None:
    pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("tensorflow")
    ours, theirs = (list(script.CONTENDERS[name](folder)) for name in ("reader", other))
    assert len(ours) == len(theirs) == 9
    differences = np.abs(np.stack(ours).astype(int) - np.stack(theirs))
    assert (
        differences.max() < 12 and differences.mean() < 2
    )  # TensorFlow's JPEG transform is not the exact one


def test_the_table_says_how_many_times_faster(script: ModuleType) -> None:
    row = {"frames_per_cpu_s": 1000.0, "rss_mb": 50.0}
    result = {
        "command": "python",
        "commit": "abc",
        "cpu": "some",
        "cores": 2,
        "frames": 10,
        "jpeg_kb": 28.0,
        "contenders": {"reader": [{**row, "frames_per_cpu_s": 3000.0}] * 3, "tfds": [row] * 3},
        "cache": {
            "build_frames_per_cpu_s": 1.0,
            "frames_per_cpu_s": 2.0,
            "rss_mb": 3.0,
            "clips": 4,
            "growth_mb": 0.0,
            "state_bytes": 5,
            "imports": [],
        },
        "differences": {"exact": {"largest": 0, "psnr_db": None}},
    }
    text = script.table(result)
    assert "| tf.data through TFDS, SkipDecoding | 1,000 | 3.00x | 50 |" in text
    assert "| exact | 0 | equal |" in text
