"""Which latent actions an interface speaks: the first L residual codes of a step, or the vector before the quantizer.

Shapes: N steps, L levels of codes, K numbers of a latent vector, A robot action; a latent is (N, L) int64 or (N, K) float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from genie_robot.data.episode import Episode
from genie_robot.errors import ActionError, ConfigError, DataError
from genie_robot.nn.quantize import code_digits
from genie_robot.simulation.action_interface import was_open
from genie_robot.simulation.interfaces.native import takes_rows

CONTINUOUS = "continuous"


@dataclass(frozen=True)
class LatentSpace:
    """`levels` codes out of `num_codes` a step; or, with 0 levels, vectors of `dim` numbers."""

    num_codes: int
    levels: int
    dim: int

    @property
    def name(self) -> str:
        """Such as "8" for one level of 8 codes, "8x2" for two; "continuous" for vectors."""
        if self.levels == 0:
            return CONTINUOUS
        return str(self.num_codes) if self.levels == 1 else f"{self.num_codes}x{self.levels}"

    @property
    def width(self) -> int:
        """Numbers of `features`."""
        return self.levels * self.num_codes if self.levels else self.dim

    def features(self, latents: np.ndarray) -> np.ndarray:
        """One-hots of all levels side by side, or the vectors themselves: float32 (N, width). ActionError for others."""
        latents = np.asarray(latents)
        if self.levels == 0:
            if latents.ndim != 2 or latents.shape[1] != self.dim or latents.dtype.kind != "f":
                raise ActionError(self._wrong(latents))
            return latents.astype(np.float32)
        if latents.ndim != 2 or latents.shape[1] != self.levels or latents.dtype.kind not in "iu":
            raise ActionError(self._wrong(latents))
        if latents.size and not 0 <= latents.min() <= latents.max() < self.num_codes:
            raise ActionError(f"latent codes reach {latents.max()}; wanted 0..{self.num_codes - 1}")
        return np.eye(self.num_codes, dtype=np.float32)[latents].reshape(len(latents), -1)

    def from_packed(self, codes: np.ndarray) -> np.ndarray:
        """Codes as `infer_actions` gives them (...) -> those of this space's levels, int64 (..., L), coarsest first."""
        return code_digits(torch.as_tensor(codes), self.num_codes, max(self.levels, 1)).numpy()

    def _wrong(self, latents: np.ndarray) -> str:
        wanted = f"whole numbers (batch, {self.levels})" if self.levels else f"floats (batch, {self.dim})"
        return f"latent actions are {latents.dtype} {latents.shape}; wanted {wanted} of the interface {self.name}"


def latent_space(model: Any, name: str) -> LatentSpace:
    """The space `name` ("8", "8x2", "8x3", "continuous") of a model; ConfigError when the model has none such."""
    config = model.config.latent_action
    spaces = {space.name: space for space in model_spaces(model)}
    if name not in spaces:
        raise ConfigError(
            f"latent actions {name!r} asked of a model with {config.quantizer} latent actions; wanted one of "
            f"{', '.join(spaces)}; choose one of these or another model"
        )
    return spaces[name]


def model_spaces(model: Any) -> list[LatentSpace]:
    """All spaces that a model can be driven in, the coarsest first.

    A model that takes rows understands any number of its levels and vectors too; another one takes what its own
    quantizer gives and nothing else.
    """
    config = model.config.latent_action
    vectors = LatentSpace(0, 0, config.code_dim)
    if config.is_continuous:
        return [vectors]
    levels = range(1, config.num_codebooks + 1) if takes_rows(model) else [config.num_codebooks]
    spaces = [LatentSpace(config.num_actions, level, config.code_dim) for level in levels]
    return [*spaces, vectors] if takes_rows(model) else spaces


def step_input(model: Any, space: LatentSpace, latents: np.ndarray) -> np.ndarray:
    """What `WorldSession.step` takes for latents of `space`: rows, or for a model that takes none, codes or vectors."""
    if takes_rows(model):
        return model.action_rows(**{"codes_BL" if space.levels else "vectors_BK": latents})
    if not space.levels:
        return latents
    return latents @ space.num_codes ** np.arange(space.levels)


@dataclass(frozen=True)
class Transitions:
    """N labelled transitions: the image before, the robot's action, whether the gripper was open, the model's labels.

    codes_NL: all of the model's levels, int64 (N, L), or (N, 0) where it has none. vectors_NK: before the quantizer.
    """

    images_NYXC: np.ndarray
    actions_NA: np.ndarray
    open_N: np.ndarray
    codes_NL: np.ndarray
    vectors_NK: np.ndarray

    def __len__(self) -> int:
        return len(self.actions_NA)

    def __getitem__(self, rows: slice | np.ndarray) -> Transitions:
        return Transitions(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def joined(cls, parts: Sequence[Transitions]) -> Transitions:
        """All transitions of several, one after the other."""
        return cls(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__)
        )

    def latents(self, space: LatentSpace) -> np.ndarray:
        """The labels in `space`, (N, L) or (N, K)."""
        return self.codes_NL[:, : space.levels] if space.levels else self.vectors_NK


def label_transitions(model: Any, episodes: Iterable[Episode], limit: int) -> Transitions:
    """The first `limit` transitions of episodes with actions, labelled by the model's latent action model.

    DataError for episodes without actions, or when they hold fewer transitions.
    """
    parts: list[Transitions] = []
    for episode in episodes:
        if episode.num_frames > 1:
            parts.append(_label(model, episode))
        if sum(map(len, parts)) >= limit:
            break
    found = sum(map(len, parts))
    if found < limit:
        raise DataError(
            f"the episodes hold {found} labelled transitions; wanted {limit}; give a larger dataset or ask for fewer"
        )
    return Transitions.joined(parts)[:limit]


def _label(model: Any, episode: Episode) -> Transitions:
    if episode.actions_TA is None:
        raise DataError(
            f"{episode.source} has no actions; wanted labelled transitions; open with actions=True"
        )
    vectors_SK = _infer_vectors(model, episode.frames_TYXC[None])
    config = model.config.latent_action
    codes_SL = np.zeros((len(vectors_SK), 0), np.int64)
    if not config.is_continuous:
        vectors = torch.from_numpy(vectors_SK).to(model.device)
        whole = LatentSpace(config.num_actions, config.num_codebooks, config.code_dim)
        codes_SL = whole.from_packed(model.latent_action.quantizer(vectors).codes.cpu())
    actions_SA = episode.actions_TA[:-1].astype(np.float32)
    return Transitions(episode.frames_TYXC[:-1], actions_SA, was_open(episode), codes_SL, vectors_SK)


def _infer_vectors(model: Any, video_BTYXC: np.ndarray) -> np.ndarray:
    """Vectors (T-1, K) of one video, in clips no longer than the model's window that share one frame."""
    window = int(model.config.video.num_frames)
    starts = range(0, video_BTYXC.shape[1] - 1, window - 1)
    parts = [model.latent_vectors(video_BTYXC[:, start : start + window])[0] for start in starts]
    return np.concatenate(parts).astype(np.float32)
