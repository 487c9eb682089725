"""One door to every kind of robot data: say where it is, get an `EpisodeSource`."""

from __future__ import annotations

import logging
from pathlib import Path

from genie_robot.data.rlds import EpisodeSource, RldsDataset, find_builder_directory

log = logging.getLogger(__name__)


def open_dataset(place: str | Path, rate_hz: float | None = None) -> EpisodeSource:
    """Open a builder directory, a folder above exactly one, `gs://...`, or `tfds:name[:version]`.

    Only the last two use TFDS and may touch the network. `rate_hz` overrides the dataset's control rate.
    """
    if str(place).startswith(("gs://", "tfds:")):
        from genie_robot.data.tfds_door import TfdsDataset

        log.info("reading %s through TensorFlow Datasets", place)
        return TfdsDataset(str(place), rate_hz)
    dataset = RldsDataset(find_builder_directory(place), rate_hz)
    log.info("reading %s (%s %s) without TensorFlow", dataset.folder, dataset.name, dataset.version)
    return dataset
