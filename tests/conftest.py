"""Shared by all tests: where things lie, one CPU thread pool small enough for two cores, fixed seeds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # results here are CPU results, on every machine
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

# A shell that starts this in the background has Ctrl-C ignored, and every child would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY_ROOT = Path(__file__).resolve().parents[1]

settings.register_profile(
    "repository",
    deadline=None,
    max_examples=50,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repository")


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The folder with train.py and weights/."""
    return REPOSITORY_ROOT


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is left in the user's cache folder, and nothing found there."""
    os.environ["GENIE_ROBOT_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002 - for libraries that still draw from the global generator
