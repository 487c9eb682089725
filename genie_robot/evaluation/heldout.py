"""Clips and prompts from held-out episodes, with their true states and actions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.errors import DataError
from genie_robot.simulation.mujoco.tasks import EE, OPENING
from genie_robot.simulation.suites import SUITES

#: lengths of the states that are known; each begins with gripper position, opening and object position
STATE_SIZES = frozenset(len(suite.state_names) for suite in SUITES.values())
#: a prompt's gripper keeps this far from the edge of where the data go, so that every direction has room to show
PROMPT_MARGIN_M = 0.045


@dataclass(frozen=True)
class HeldOut:
    """B clips of T frames: video (B, T, Y, X, 3) uint8, states (B, T, S) or None, actions (B, T-1, 7) or None.

    S is 9 or 14, as in one of the suites; states of other data are left out.
    """

    video_BTYXC: np.ndarray
    states_BTS: np.ndarray | None
    actions_BSA: np.ndarray | None

    def __len__(self) -> int:
        return len(self.video_BTYXC)


def collect_clips(episodes: Iterable[Episode], *, clips: int, frames: int, seed: int = 0) -> HeldOut:
    """Take one clip of `frames` frames at a random place of each episode, until there are `clips`.

    Raises DataError when the episodes hold fewer than two such clips.
    """
    rng = np.random.default_rng(seed)
    video, states, actions = [], [], []
    for episode in episodes:
        if episode.num_frames < frames:
            continue
        start = int(rng.integers(episode.num_frames - frames + 1))
        video.append(episode.frames_TYXC[start : start + frames])
        if _is_known(episode.state_TS):
            states.append(episode.state_TS[start : start + frames])
        if episode.actions_TA is not None:
            actions.append(episode.actions_TA[start : start + frames - 1])
        if len(video) == clips:
            break
    if len(video) < 2:
        raise DataError(
            f"got {len(video)} episodes of {frames} frames or more; wanted at least 2; give longer episodes"
        )
    alike = len({state.shape for state in states}) == 1
    whole_states = np.stack(states) if alike and len(states) == len(video) else None
    whole_actions = np.stack(actions) if len(actions) == len(video) else None
    return HeldOut(np.stack(video), whole_states, whole_actions)


def collect_prompts(
    episodes: Iterable[Episode], *, prompts: int, frames: int = 1, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Prompts (P, frames, Y, X, 3) and the true states (P, S) of their last frames, from as many episodes as there are.

    Only places where the gripper has room to move every way are taken, half of them with the gripper open, half
    closed where that can be had, so that each code can show what it does. Raises DataError when fewer are found.
    """
    rng = np.random.default_rng(seed)
    kept = [e for e in episodes if _is_known(e.state_TS) and e.num_frames >= frames]
    if not kept:
        raise DataError(
            "no held-out episode has states of a suite; wanted a simulated dataset from `genie-robot data generate`"
        )
    places = _roomy_places(kept, frames)
    order = [places[k] for k in rng.permutation(len(places))]
    chosen: list[tuple[int, int]] = []
    for rule in ("a new episode, balanced", "a new episode", "anything"):
        for number, last in order:
            if len(chosen) == prompts:
                break
            is_new = all(number != other for other, _ in chosen)
            same = sum(_is_open(kept[n], k) == _is_open(kept[number], last) for n, k in chosen)
            fits = rule == "anything" or (is_new and (rule == "a new episode" or same < (prompts + 1) // 2))
            if fits and (number, last) not in chosen:
                chosen.append((number, last))
    if len(chosen) < max(2, prompts):
        raise DataError(
            f"found {len(chosen)} prompts with room to move; wanted {max(2, prompts)}; give more episodes"
        )
    chosen.sort(key=lambda place: not _is_open(kept[place[0]], place[1]))
    images = [kept[number].frames_TYXC[last + 1 - frames : last + 1] for number, last in chosen]
    states = [_states(kept[number])[last] for number, last in chosen]
    return np.stack(images), np.stack(states)


def _is_known(state_TS: np.ndarray | None) -> TypeGuard[np.ndarray]:
    return state_TS is not None and state_TS.shape[-1] in STATE_SIZES


def _states(episode: Episode) -> np.ndarray:
    assert episode.state_TS is not None
    return episode.state_TS


def _is_open(episode: Episode, index: int) -> bool:
    return bool(_states(episode)[index, OPENING] > 0.5)


def _roomy_places(episodes: list[Episode], frames: int) -> list[tuple[int, int]]:
    """(episode, frame) of the frames that leave the gripper PROMPT_MARGIN_M on every side of what the data reach."""
    reach = np.concatenate([_states(episode)[:, EE] for episode in episodes])
    low, high = reach.min(axis=0) + PROMPT_MARGIN_M, reach.max(axis=0) - PROMPT_MARGIN_M
    places = []
    for number, episode in enumerate(episodes):
        position = _states(episode)[:, EE]
        inside = ((position > low) & (position < high)).all(axis=1)
        places += [(number, int(k)) for k in np.flatnonzero(inside) if k >= frames - 1]
    return places
