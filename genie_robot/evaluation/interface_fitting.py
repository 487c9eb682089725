"""Fitting action interfaces on labelled transitions, in the ways that are compared with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from genie_robot.errors import ConfigError, DataError
from genie_robot.simulation.action_interface import fit_adapter
from genie_robot.simulation.interfaces import (
    ActionInterface,
    CodeDictionary,
    ImageFeatures,
    LatentAdapter,
    LatentInterface,
    StateDecoder,
    TableInterface,
    Transitions,
    latent_space,
    model_spaces,
)


@dataclass(frozen=True)
class Fitted:
    """An interface fitted on some labels, in the ways that are compared."""

    main: LatentInterface | TableInterface
    variants: dict[str, ActionInterface]


def interface_names(model: Any) -> tuple[str, ...]:
    """Names of the fitted interfaces that a model can have: m0, and m1 of each of its spaces."""
    spaces = [space.name for space in model_spaces(model)]
    has_single_codes = any(space.levels == 1 for space in model_spaces(model))
    return (*(("m0",) if has_single_codes else ()), *(f"m1:{name}" for name in spaces))


def draw_labels(episodes: Sequence[Transitions], labels: int, seed: int) -> Transitions:
    """`labels` transitions of whole episodes in random order, the last one cut; DataError when there are fewer."""
    order = np.random.default_rng(seed).permutation(len(episodes))
    ends = np.cumsum([len(episodes[i]) for i in order])
    if not len(ends) or ends[-1] < labels:
        raise DataError(
            f"the episodes hold {ends[-1] if len(ends) else 0} labelled transitions; wanted {labels}; give more "
            "episodes or ask for fewer labels"
        )
    chosen = order[: int(np.searchsorted(ends, labels)) + 1]
    return Transitions.joined([episodes[i] for i in chosen])[:labels]


def fit_interface(
    name: str, model: Any, labelled: Transitions, features: ImageFeatures, seed: int = 0
) -> Fitted:
    """Fit the interface `name` of a model on labelled transitions; ConfigError for a name that it cannot have."""
    kind, _, space_name = name.partition(":")
    if name not in interface_names(model):
        raise ConfigError(f"interface is {name!r}, wanted one of {', '.join(interface_names(model))}")
    if kind == "m0":
        num_codes = model.config.latent_action.num_actions
        table = fit_adapter(labelled.actions_NA, labelled.codes_NL[:, 0], num_codes, labelled.open_N)
        main = TableInterface(table, model)
        return Fitted(main, {name: main})
    space = latent_space(model, space_name)
    adapter = LatentAdapter.fit(space, labelled, features, seed)
    decoder = StateDecoder.fit(space, labelled, features, seed)
    main = LatentInterface(adapter, decoder, model)
    return Fitted(
        main,
        {
            name: main,
            f"{name} dictionary": LatentInterface(adapter, CodeDictionary.fit(space, labelled), model),
            f"{name} no feedback": LatentInterface(adapter, decoder, model, error_feedback=False),
        },
    )
