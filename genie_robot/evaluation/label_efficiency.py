"""How many labelled transitions make an action interface: fits at 50, 200, 1k, 10k labels, measured (evaluation.md, 4.3).

Each cell (interface, labels, draw) fits on whole episodes drawn at random until there are enough transitions, which is
what a robot gives, and is measured on held-out episodes; the first draw is also rolled out in MuJoCo. Cells are kept in
`cells.jsonl`; an interrupted curve goes on where it stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.evaluation.interface_ceiling import CeilingConfig, compare, roll_out_scripts
from genie_robot.evaluation.interface_fitting import Fitted, draw_labels, fit_interface, interface_names
from genie_robot.evaluation.interface_measures import DRIFT_STEPS, latent_measures, passage_measures, probe_r2
from genie_robot.evaluation.json_lines import append_record, not_a_record, read_records
from genie_robot.evaluation.settings import SETTINGS_FILE, made_with, read_settings, write_settings
from genie_robot.evaluation.summary.compare import without_nan
from genie_robot.simulation.interfaces import ImageFeatures, LatentInterface, Transitions, latent_space

TRUTH = "mujoco"
Progress = Callable[[str], None]


@dataclass(frozen=True)
class CurveConfig:
    """What is fitted and measured. names: of interfaces, such as m0 and m1:8x2; empty: all that the model can have.

    draws: fits a cell, each on other episodes. ceiling: None measures without rolling out.
    """

    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = (50, 200, 1000, 10000)
    draws: int = 3
    seed: int = 0
    ceiling: CeilingConfig | None = field(default_factory=CeilingConfig)

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < 1 or self.draws < 1:
            raise ConfigError(
                f"labels {self.labels}, draws {self.draws}; wanted at least one number of labels, all 1 or more"
            )


class LabelCurve:
    """Runs a CurveConfig in a folder.

    train, heldout: labelled episodes of one model (`label_transitions` of each).
    """

    def __init__(
        self,
        config: CurveConfig,
        out_dir: Path | str,
        model: Any,
        train: Sequence[Transitions],
        heldout: Sequence[Transitions],
    ) -> None:
        """Open (or go on in) `out_dir`; ConfigError when it holds cells of other settings."""
        self.config, self.model, self.train, self.heldout = config, model, train, heldout
        self.names = config.names or interface_names(model)
        self.out_dir = Path(out_dir)
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._path = self.out_dir / "cells.jsonl"
        self._features: ImageFeatures | None = None
        # Too few labels are said now, not after an hour.
        draw_labels(train, max(config.labels), config.seed)
        draw_labels(heldout, DRIFT_STEPS, config.seed)
        self._check_settings()

    @property
    def features(self) -> ImageFeatures:
        """Found on the pictures of all training episodes: pictures need no labels."""
        if self._features is None:
            self._features = ImageFeatures.fit(np.concatenate([part.images_NYXC for part in self.train]))
        return self._features

    def fit(self, name: str, labels: int, draw: int) -> Fitted:
        """Fit one cell: the same settings give the same interface."""
        labelled = draw_labels(self.train, labels, self.config.seed + draw)
        return fit_interface(name, self.model, labelled, self.features, self.config.seed + draw)

    def run(self, progress: Progress = lambda what: None) -> dict[str, Any]:
        """Fit and measure what is missing; returns `curve`, `ceilings` and `probe`. progress: called before each cell."""
        cells = read_cells(self._path)
        for key, measure in self._cells():
            if key not in cells:
                progress(key)
                cells[key] = measure()
                append_record(self._path, {"key": key, "value": cells[key]})
        return self._result(without_nan(cells))

    def num_cells(self) -> int:
        """Cells in all, finished ones included."""
        return sum(1 for _ in self._cells())

    def _cells(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Key and measurement of each cell: what is cheap first."""
        config = self.config
        for name in self.names:
            yield f"probe {name}", lambda name=name: self._probe(name)
            for labels in config.labels:
                for draw in range(config.draws):
                    yield f"fit {name} {labels} {draw}", lambda a=(name, labels, draw): self._measure(*a)
        if config.ceiling is None:
            return
        ceiling = config.ceiling
        yield f"roll {TRUTH}", lambda: roll_out_scripts(ceiling, None).astype(int).tolist()
        for labels in sorted(config.labels, reverse=True):
            for name in self.names:
                for variant in self._variants(name, labels):
                    yield (
                        f"roll {variant} {labels}",
                        lambda a=(name, labels, variant): self._roll(ceiling, *a),
                    )

    def _variants(self, name: str, labels: int) -> list[str]:
        """What is rolled out: dictionary and decoder at every number of labels, without feedback at the largest."""
        if name == "m0":
            return [name]
        plain = [f"{name} no feedback"] if labels == max(self.config.labels) else []
        return [name, f"{name} dictionary", *plain]

    def _probe(self, name: str) -> dict[str, Any]:
        everything, tests = Transitions.joined(self.train), Transitions.joined(self.heldout)
        space_name = name.partition(":")[2] or str(self.model.config.latent_action.num_actions)
        return probe_r2(latent_space(self.model, space_name), everything, tests)

    def _measure(self, name: str, labels: int, draw: int) -> dict[str, Any]:
        fitted, tests = self.fit(name, labels, draw), Transitions.joined(self.heldout)
        result: dict[str, Any] = latent_measures(fitted.main, tests)
        for variant, interface in fitted.variants.items():
            suffix = variant.removeprefix(name).strip().replace(" ", "_")
            measured = passage_measures(interface, self.heldout)
            if suffix == "dictionary":
                assert isinstance(interface, LatentInterface)
                own = latent_measures(interface, tests)
                measured |= {key: own[key] for key in ("label_r2", "label_mse")}
            result |= {f"{suffix}_{key}" if suffix else key: value for key, value in measured.items()}
        return {key: round(float(value), 5) for key, value in result.items()}

    def _roll(self, ceiling: CeilingConfig, name: str, labels: int, variant: str) -> list[Any]:
        return roll_out_scripts(ceiling, self.fit(name, labels, 0).variants[variant]).astype(int).tolist()

    def _result(self, cells: dict[str, Any]) -> dict[str, Any]:
        config, curve, ceilings = self.config, [], []
        for name in self.names:
            for labels in config.labels:
                rows = [cells[f"fit {name} {labels} {draw}"] for draw in range(config.draws)]
                spread = {key: _spread([row[key] for row in rows]) for key in rows[0]}
                curve.append({"interface": name, "labels": labels} | spread)
                if config.ceiling is not None:
                    truth, tasks = np.array(cells[f"roll {TRUTH}"], dtype=bool), config.ceiling.all_tasks
                    for variant in self._variants(name, labels):
                        through = np.array(cells[f"roll {variant} {labels}"], dtype=bool)
                        found = compare(truth, through, tasks)
                        ceilings.append({"interface": variant, "labels": labels} | found)
        return {
            "settings": self._settings(),
            "made_with": made_with(self.out_dir),
            "curve": curve,
            "ceilings": ceilings,
            "probe": {name: cells[f"probe {name}"] for name in self.names},
        }

    def _settings(self) -> dict[str, Any]:
        settings = json.loads(json.dumps(asdict(self.config)))
        data = {"train": sum(map(len, self.train)), "heldout": sum(map(len, self.heldout))}
        return settings | {"names": list(self.names), "model_hash": str(self.model.hash), "transitions": data}

    def _check_settings(self) -> None:
        path, settings, before = self.out_dir / SETTINGS_FILE, self._settings(), {}
        growing = ("names", "labels", "draws")
        if path.is_file() and self._path.is_file():
            before = read_settings(path)
            other = [key for key in settings if key not in growing and before.get(key) != settings[key]]
            if other:
                raise ConfigError(
                    f"{self.out_dir} holds cells with another {', '.join(other)}; wanted the same settings to go on; "
                    "give another --out folder, or delete this one"
                )
        write_settings(path, settings, before)


def read_cells(path: Path) -> dict[str, Any]:
    """Finished cells of a `cells.jsonl`; none if there is no file. A line cut by an interruption is left out."""
    cells = {}
    for record in read_records(path):
        try:
            cells[record["key"]] = record["value"]
        except KeyError as error:
            raise not_a_record(path, json.dumps(record), error) from error
    return cells


def _spread(values: list[float | None]) -> dict[str, float | None]:
    """Mean, lowest and highest of what could be measured; None where nothing could."""
    known = [value for value in values if value is not None]
    if not known:
        return {"mean": None, "low": None, "high": None}
    return {"mean": float(np.mean(known)), "low": min(known), "high": max(known)}
