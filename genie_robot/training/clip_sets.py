"""The clip caches that a configuration asks for: one of each dataset and split, under `<output>/cache` or `data.cache`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genie_robot.config import TrainConfig
from genie_robot.data.clip_builder import build_clip_cache
from genie_robot.data.clips import ClipCache, check_longest
from genie_robot.data.commands import COMMAND_SIZE
from genie_robot.data.held_out import chosen_episodes
from genie_robot.data.mixture import Mixture, Part, load_mixture, open_parts
from genie_robot.data.rlds import EpisodeSource
from genie_robot.errors import DataError
from genie_robot.training.parallel import Processes

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipSet:
    """Clip caches of one split with their weights (see `ClipLoader`)."""

    caches: Sequence[ClipCache]
    weights: Sequence[float]
    balanced: bool

    def __len__(self) -> int:
        """Number of clips."""
        return sum(len(cache) for cache in self.caches)


def clip_sets(
    config: TrainConfig, output: Path, processes: Processes, num_frames: int
) -> tuple[ClipSet, ClipSet]:
    """Clips of training and of validation, each with windows of `num_frames`; the first process builds them.

    Raises what `build_clip_cache` raises, and DataError when a dataset, or all of validation, has no clip that long.
    """
    data = config.data
    mixture = load_mixture(data.mixture) if data.mixture else Mixture((Part(data.path),))
    built: list[list[tuple[Path, float]]] = []
    if processes.is_first:
        sources = open_parts(mixture, data.root or None)
        built.append(_training(config, mixture, sources, output, num_frames))
        built.append(_validation(config, mixture, sources, output, num_frames))
    train, validation = (
        ClipSet(
            [ClipCache.open(folder) for folder, _ in part], [weight for _, weight in part], mixture.balanced
        )
        for part in processes.share(built)
    )
    return train, validation


def _training(
    config: TrainConfig, mixture: Mixture, sources: Sequence[EpisodeSource], output: Path, num_frames: int
) -> list[tuple[Path, float]]:
    """Folder and weight of each dataset; each is checked when it is built, not after hours of the next."""
    built = []
    for source, part, folder in zip(
        sources, mixture.parts, _folders(config, sources, output / "train"), strict=True
    ):
        cache = _cache(config, source, part, folder, "train", config.data.label_share)
        check_longest(cache, num_frames)
        built.append((cache.folder, part.weight))
    return built


def _validation(
    config: TrainConfig, mixture: Mixture, sources: Sequence[EpisodeSource], output: Path, num_frames: int
) -> list[tuple[Path, float]]:
    """The same for validation; datasets that can spare no clip, or none that is long enough, are left out with a warning."""
    built, short = [], []
    for source, part, folder in zip(
        sources, mixture.parts, _folders(config, sources, output / "val"), strict=True
    ):
        split = config.data.validation_split or "val"
        try:
            chosen_episodes(source, split)
        except DataError as error:
            short.append(error)
            continue
        # Held-out clips need the robot's actions only to be led by them; the latent action model is judged without.
        label_share = float(config.model.dynamics.robot_action_dim > 0)
        cache = _cache(config, source, part, folder, split, label_share)
        try:
            check_longest(cache, num_frames)
        except DataError as error:
            short.append(error)
            continue
        built.append((cache.folder, part.weight))
    if not built:
        raise short[0]
    for error in short:
        log.warning("left out of validation: %s", error)
    return built


def _cache(
    config: TrainConfig, source: EpisodeSource, part: Part, folder: Path, split: str, label_share: float
) -> ClipCache:
    data = config.data
    return build_clip_cache(
        source,
        folder,
        config.model.video.height,
        config.model.video.width,
        split,
        part.max_episodes or data.max_episodes or None,
        image_key=part.image_key or data.image_key or None,
        rate_hz=config.model.video.rate_hz,
        label_share=label_share,
        commanded_poses=config.model.dynamics.robot_action_dim == COMMAND_SIZE and label_share > 0,
        max_bad_share=data.max_bad_share,
        workers=data.workers,
    )


def _folders(config: TrainConfig, sources: Sequence[EpisodeSource], inside: Path) -> list[Path]:
    """A folder for each dataset, by its name, picture size and rate: runs of other sizes share `data.cache` in peace."""
    root = (
        Path(config.data.cache) / inside.name if config.data.cache else inside.parent / "cache" / inside.name
    )
    video, names = config.model.video, [source.name for source in sources]
    return [
        root / f"{name}{f'.{names[:number].count(name) + 1}' if name in names[:number] else ''}"
        f"_{video.height}x{video.width}_{video.rate_hz:g}hz"
        for number, name in enumerate(names)
    ]
