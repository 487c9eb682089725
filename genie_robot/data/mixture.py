"""Mixtures of datasets: the named ones, a user's YAML file, where their parts are, and opening them.

A mixture file:

    root: /data/oxe            # where registered names lie (default: data.root); other places are relative to this file
    balanced: true             # a weight counts once for every window of its dataset (as Octo does); false: shares of clips
    parts:
      - {dataset: fractal20220817_data, weight: 0.54}
      - {dataset: bags/kitchen, weight: 1.0, image_key: /camera/color/image_raw}
      - {dataset: gs://gresearch/robotics/taco_play/0.1.0, weight: 2.0, max_episodes: 500}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from genie_robot.data.locate import data_roots, locate, registered
from genie_robot.data.open import is_recording, open_dataset
from genie_robot.data.registry import REGISTRY
from genie_robot.data.rlds import EpisodeSource
from genie_robot.errors import ConfigError, DatasetNotFoundError


@dataclass(frozen=True)
class Part:
    """One dataset of a mixture: a registered name or a place, its weight, and what is special about it."""

    dataset: str
    weight: float = 1.0
    image_key: str = ""  # empty: by the registry
    max_episodes: int = 0  # 0: all

    def __post_init__(self) -> None:
        if not self.dataset or not 0 < self.weight < float("inf") or self.max_episodes < 0:
            raise ConfigError(
                f"mixture: got {asdict(self)}; wanted a dataset, a weight above 0 and max_episodes of 0 (all) or more"
            )


@dataclass(frozen=True)
class Mixture:
    """Datasets with weights; `balanced` multiplies each weight by the number of windows of its dataset."""

    parts: tuple[Part, ...]
    balanced: bool = True
    root: str = ""
    about: str = ""


def _soup() -> tuple[Part, ...]:
    return tuple(Part(name, facts.soup_weight) for name, facts in REGISTRY.items() if facts.soup_weight)


MIXTURES: dict[str, Mixture] = {
    "rt1": Mixture((Part("fractal20220817_data"),), about="RT-1 alone, as in the paper"),
    "rt1_bridge": Mixture(
        (Part("fractal20220817_data", 0.54), Part("bridge_dataset", 1.0)),
        about="the two, weighted as in RT-X",
    ),
    "oxe_magic_soup": Mixture(_soup(), about="Open X-Embodiment with the weights of Octo and openvla"),
    "oxe_first_try": Mixture(
        (
            Part("nyu_rot_dataset_converted_externally_to_rlds"),
            Part("asu_table_top_converted_externally_to_rlds"),
            Part("cmu_stretch"),
        ),
        about="three small real datasets (1.4 GiB) to see the whole way work",
    ),
}


def load_mixture(name: str) -> Mixture:
    """A named mixture, or the one in a YAML file; ConfigError says what is wrong with it."""
    if name in MIXTURES:
        return MIXTURES[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"mixture: got {name!r}, wanted one of {', '.join(MIXTURES)}, or a .yaml file; see `genie-robot data list`"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"mixture {path} cannot be read ({error.strerror}); give the path of a YAML file"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"mixture {path} is no YAML ({' '.join(str(error).split())}); mend the file"
        ) from error
    try:
        return _mixture(content, path.resolve().parent)
    except (ConfigError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _mixture(content: Any, folder: Path) -> Mixture:
    known = ("root", "balanced", "parts")
    if not isinstance(content, Mapping) or not set(content) <= set(known) or not content.get("parts"):
        got = sorted(content) if isinstance(content, Mapping) else content
        raise ConfigError(f"got {got}; wanted a list of parts, and of {', '.join(known)} nothing else")
    names = {item.name for item in fields(Part)}
    for item in content["parts"]:
        if not isinstance(item, Mapping) or not set(item) <= names or "dataset" not in item:
            raise ConfigError(
                f"part {item!r}: wanted a dataset, and of {', '.join(sorted(names))} nothing else"
            )
    parts = tuple(
        Part(
            str(item["dataset"]),
            float(item.get("weight", 1.0)),
            str(item.get("image_key", "")),
            int(item.get("max_episodes", 0)),
        )
        for item in content["parts"]
    )
    beside = tuple(replace(part, dataset=_place(part.dataset, folder)) for part in parts)
    root = str(content.get("root", "") or "")
    return Mixture(beside, bool(content.get("balanced", True)), str(folder / root) if root else "")


def _place(dataset: str, folder: Path) -> str:
    """A place in the words of a mixture file: names and addresses as they are, paths from the file's folder."""
    inside = folder / dataset
    if not inside.exists() or (registered(dataset) and inside.is_dir() and not any(inside.iterdir())):
        return dataset
    return str(inside)


@dataclass(frozen=True)
class Whereabouts:
    """Datasets of a mixture by where they are: on this machine, only on Google Cloud, nowhere; registered ones of each."""

    here: tuple[str, ...]
    cloud: tuple[str, ...]
    missing: dict[str, str]  # dataset -> the reason, as `locate` says it


def whereabouts(mixture: Mixture, root: str | Path | None = None) -> Whereabouts:
    """Look for every part where `open_parts` would; the network is not touched."""
    here, cloud, missing = [], [], {}
    for name in dict.fromkeys(part.dataset for part in mixture.parts):
        try:
            away = not is_recording(name) and locate(name, mixture.root or root).place.startswith("gs://")
        except DatasetNotFoundError as error:
            missing[name] = str(error)
        else:
            (cloud if away else here).append(name)
    return Whereabouts(tuple(here), tuple(cloud), missing)


def open_parts(mixture: Mixture, root: str | Path | None = None) -> list[EpisodeSource]:
    """Every part of a mixture, opened in order; names are searched in `mixture.root`, else in `root`, else as `locate` does.

    DatasetNotFoundError names all parts that are missing, those on Google Cloud too when that cannot be read, and how to
    fetch them; a single part that is missing says it in its own words. Other errors are those of `open_dataset`.
    """
    where = whereabouts(mixture, root)
    if where.missing:
        raise _missing(mixture, root, where.missing, len(where.cloud))
    sources: list[EpisodeSource] = []
    for part in mixture.parts:
        try:
            sources.append(open_dataset(part.dataset, root=mixture.root or root))
        except (DatasetNotFoundError, ConfigError) as error:
            if part.dataset not in where.cloud:
                raise
            raise _missing(mixture, root, dict.fromkeys(where.cloud, str(error))) from error
    return sources


def _missing(
    mixture: Mixture, root: str | Path | None, reasons: Mapping[str, str], on_cloud: int = 0
) -> DatasetNotFoundError:
    """One line for all parts that cannot be opened: their names, why if that is not plain, how to get them."""
    if len(mixture.parts) == 1:
        return DatasetNotFoundError(next(iter(reasons.values())))
    known = [name for name in reasons if registered(name)]
    others = [reason for name, reason in reasons.items() if name not in known]
    if len(set(reasons.values())) == 1:
        others = list(reasons.values())
    why = f" ({others[0]})" if others else ""
    cloud = f"; {on_cloud} more are not here but on Google Cloud" if on_cloud else ""
    place = data_roots(mixture.root or root)[0]
    fetch = f"`genie-robot data fetch {' '.join(known)} --root {place} --yes`, or " if known else ""
    return DatasetNotFoundError(
        f"{len(reasons)} of {len(mixture.parts)} parts of the mixture cannot be opened: {', '.join(reasons)}{why}{cloud}; "
        f"{fetch}give their folders, or leave them out"
    )
