"""Between robot actions (7 numbers) and latent codes: the adapter (robot -> code) and the dictionary (code -> robot).

The world model is trained without actions. To drive it with a robot's actions, the adapter is fitted afterwards from
a stated, small number of labelled transitions: the latent action model labels each transition with a code, and a
multinomial logistic regression learns robot action -> code. The dictionary is the mean robot action of each code, one
for an open and one for a closed gripper, which a robot knows of itself. Neither looks at the image (evaluation.md, section 4.3).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genie_robot.data.episode import Episode
from genie_robot.errors import ActionError, ConfigError, DataError, ModelFolderError
from genie_robot.simulation.mujoco.manipulation.tasks import STATE_NAMES as MANIPULATION_STATE_NAMES
from genie_robot.simulation.mujoco.tasks import OPENING, STATE_NAMES

ADAPTER_FILE = "action_adapter.json"
ACTION_SIZE = 7
DEFAULT_TRANSITIONS = 500
FORMAT = 1
_STATE_SIZES = (len(STATE_NAMES), len(MANIPULATION_STATE_NAMES))
_SMALLEST_SCALE = 0.05
_RIDGE = 1e-4
_ITERATIONS = 50
_NEVER = -1e9  # the score of a code that no labelled transition has


@dataclass(frozen=True)
class ActionAdapter:
    """Robot action -> code by a linear classifier, and code -> robot action by a dictionary of means.

    weight_CF: (codes, 7), bias_C: (codes,); the bias of a code never seen is a large negative number.
    dictionary_COF: mean robot action (codes, 2, 7) of each code with the gripper closed [0] and open [1]; a model with
    few codes may well use one for "the fingers move", which closes an open gripper and opens a closed one. Where a
    code was never seen with that gripper it is the code's overall mean, and zeros for a code never seen at all.
    counts_C: labelled transitions of each code. evidence: how it was fitted, and how well it agrees with the model's
    own labels on held-out transitions.
    metres_per_unit: length of a displacement of 1 in the actions that it was fitted in and takes [m]; 1 where the data
    are in metres. `from_si` and `to_si` convert; rotations and the gripper are the same in both.
    """

    weight_CF: np.ndarray
    bias_C: np.ndarray
    mean_F: np.ndarray
    scale_F: np.ndarray
    dictionary_COF: np.ndarray
    counts_C: np.ndarray
    evidence: dict[str, Any] = field(default_factory=dict)
    metres_per_unit: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.metres_per_unit < np.inf:
            raise ConfigError(
                f"metres_per_unit is {self.metres_per_unit}; wanted a number of metres above 0, such as 0.04"
            )

    @property
    def num_codes(self) -> int:
        """Number of latent codes."""
        return len(self.bias_C)

    def logits(self, action: np.ndarray) -> np.ndarray:
        """Scores (..., codes) of robot actions (..., 7); ActionError for a wrong shape or a number that is not finite."""
        action = np.asarray(action, dtype=np.float64)
        if action.ndim < 1 or action.shape[-1] != ACTION_SIZE:
            raise ActionError(_wrong_shape(action))
        if not np.isfinite(action).all():
            raise ActionError(
                "robot action has a number that is not finite; wanted 7 numbers in -1..1; check the policy"
            )
        features = (np.clip(action, -1.0, 1.0) - self.mean_F) / self.scale_F
        return features @ self.weight_CF.T + self.bias_C

    def code(self, action: np.ndarray) -> np.ndarray:
        """Most probable code, int64 (...), of robot actions (..., 7)."""
        return self.logits(action).argmax(axis=-1)

    def robot_action(self, code: int | np.ndarray, is_open: bool | np.ndarray) -> np.ndarray:
        """Mean robot action, float32 (..., 7), of codes (...) when the gripper is open or closed (...).

        Raises ActionError for a code that does not exist.
        """
        codes = np.asarray(code)
        if not np.issubdtype(codes.dtype, np.integer) or (codes < 0).any() or (codes >= self.num_codes).any():
            raise ActionError(f"latent code is {code!r}; wanted an integer in 0..{self.num_codes - 1}")
        return self.dictionary_COF[codes, np.asarray(is_open).astype(int)].astype(np.float32)

    def to_si(self, action: np.ndarray) -> np.ndarray:
        """Robot actions (..., 7) of this adapter -> SI units, see `action_to_si`."""
        return action_to_si(action, self.metres_per_unit)

    def from_si(self, action: np.ndarray) -> np.ndarray:
        """Robot actions (..., 7) in SI units -> those this adapter takes, see `action_from_si`."""
        return action_from_si(action, self.metres_per_unit)

    def save(self, folder: Path | str) -> Path:
        """Write `action_adapter.json` into a model folder; returns its path."""
        path = Path(folder) / ADAPTER_FILE
        content = {"format": FORMAT} | {
            key: value.tolist() if isinstance(value, np.ndarray) else value
            for key, value in asdict(self).items()
            if key != "metres_per_unit" or value != 1.0
        }
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        return path


def load_adapter(folder: Path | str) -> ActionAdapter:
    """Read `action_adapter.json` of a model folder; ModelFolderError when it is missing or not readable."""
    path = Path(folder) / ADAPTER_FILE
    if not path.is_file():
        raise ModelFolderError(
            f"no {ADAPTER_FILE} in {folder}; it maps robot actions to latent codes; fit one with "
            "`genie-robot actions MODEL --data FOLDER --write` on a dataset that has actions"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise KeyError("format")
        evidence, metres = content.pop("evidence"), float(content.pop("metres_per_unit", 1.0))
        adapter = ActionAdapter(
            **{key: np.asarray(value) for key, value in content.items()},
            evidence=evidence,
            metres_per_unit=metres,
        )
        adapter.logits(np.zeros(ACTION_SIZE))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelFolderError(f"{path} is not an action adapter ({error}); fit it again") from error
    return adapter


def action_to_si(action: np.ndarray, metres_per_unit: float) -> np.ndarray:
    """Robot actions (..., 7) whose displacement of 1 is `metres_per_unit` long -> displacement in metres, float64."""
    return _displacement_times(action, metres_per_unit)


def action_from_si(action: np.ndarray, metres_per_unit: float) -> np.ndarray:
    """Robot actions (..., 7) in metres -> units of `metres_per_unit`, float32.

    A float32 action comes back from `action_to_si` bit for bit: rounding to float32 drops what the product left over.
    What is too large for float32 becomes infinite.
    """
    with np.errstate(over="ignore"):
        return _displacement_times(action, 1.0 / metres_per_unit).astype(np.float32)


def _displacement_times(action: np.ndarray, factor: float) -> np.ndarray:
    result = np.array(action, dtype=np.float64)
    if result.ndim < 1 or result.shape[-1] != ACTION_SIZE:
        raise ActionError(_wrong_shape(result))
    with np.errstate(over="ignore"):
        result[..., :3] *= factor
    return result


def _wrong_shape(action: np.ndarray) -> str:
    return (
        f"robot action has shape {action.shape}; wanted (..., {ACTION_SIZE}): dx dy dz, 3 rotations, gripper"
    )


def fit_adapter(
    actions_NF: np.ndarray, codes_N: np.ndarray, num_codes: int, open_N: np.ndarray | None = None
) -> ActionAdapter:
    """Fit from labelled transitions: robot actions (N, 7) and the codes (N,) that the model gave those transitions.

    open_N: whether the gripper was open before each transition (for the dictionary; default: as if always open).

    Multinomial logistic regression with a small ridge, by Newton's method from zero: the same data, the same adapter.
    """
    actions_NF, codes_N = np.asarray(actions_NF, dtype=np.float64), np.asarray(codes_N, dtype=np.int64)
    if actions_NF.shape != (len(codes_N), ACTION_SIZE) or len(codes_N) == 0:
        raise DataError(
            f"actions {actions_NF.shape} and codes {codes_N.shape}; wanted (N, 7) and (N,) with N > 0"
        )
    counts = np.bincount(codes_N, minlength=num_codes)
    seen = np.flatnonzero(counts)
    mean = actions_NF.mean(axis=0)
    scale = np.maximum(actions_NF.std(axis=0), _SMALLEST_SCALE)
    features = np.column_stack([(actions_NF - mean) / scale, np.ones(len(codes_N))])
    fitted = _logistic_newton(features, np.searchsorted(seen, codes_N), len(seen))
    weight, bias = np.zeros((num_codes, ACTION_SIZE)), np.full(num_codes, _NEVER)
    weight[seen], bias[seen] = fitted[:, :-1], fitted[:, -1]
    is_open = np.ones(len(codes_N), dtype=int) if open_N is None else np.asarray(open_N).astype(int)
    return ActionAdapter(
        weight_CF=weight.round(6),
        bias_C=bias.round(6),
        mean_F=mean.round(6),
        scale_F=scale.round(6),
        dictionary_COF=_dictionary(actions_NF, codes_N, is_open, num_codes).round(6),
        counts_C=counts,
    )


def _dictionary(
    actions_NF: np.ndarray, codes_N: np.ndarray, open_N: np.ndarray, num_codes: int
) -> np.ndarray:
    """Mean action (codes, 2, 7) of each code with the gripper closed and open, else the code's mean, else zeros."""
    sums, counts = np.zeros((num_codes, 2, ACTION_SIZE)), np.zeros((num_codes, 2, 1))
    np.add.at(sums, (codes_N, open_N), actions_NF)
    np.add.at(counts, (codes_N, open_N), 1.0)
    overall = sums.sum(axis=1, keepdims=True) / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)
    return np.where(counts > 0, sums / np.maximum(counts, 1.0), overall)


def _logistic_newton(features_NF: np.ndarray, classes_N: np.ndarray, num_classes: int) -> np.ndarray:
    """Weights (classes, F) that minimise mean cross-entropy + ridge; convex, so Newton with halved steps finds them."""
    count, width = features_NF.shape
    target = np.eye(num_classes)[classes_N]
    weights = np.zeros((num_classes, width))

    def loss_and_chances(w: np.ndarray) -> tuple[float, np.ndarray]:
        scores = features_NF @ w.T
        scores -= scores.max(axis=1, keepdims=True)
        total = np.log(np.exp(scores).sum(axis=1, keepdims=True))
        value = float((total[:, 0] - (scores * target).sum(axis=1)).mean() + _RIDGE * (w**2).sum())
        return value, np.exp(scores - total)

    loss, chances = loss_and_chances(weights)
    for _ in range(_ITERATIONS):
        gradient = (chances - target).T @ features_NF / count + 2 * _RIDGE * weights
        curvature = (
            np.einsum("nc,cd->ncd", chances, np.eye(num_classes)) - chances[:, :, None] * chances[:, None]
        )
        hessian = np.einsum("ncd,nf,ng->cfdg", curvature, features_NF, features_NF, optimize=True) / count
        size = num_classes * width
        step = np.linalg.solve(hessian.reshape(size, size) + 2 * _RIDGE * np.eye(size), gradient.reshape(-1))
        move, size_of_step = step.reshape(weights.shape), 1.0
        while True:
            better, chances_there = loss_and_chances(weights - size_of_step * move)
            if better <= loss or size_of_step < 1e-4:
                break
            size_of_step /= 2
        done = loss - better < 1e-9
        weights, loss, chances = weights - size_of_step * move, better, chances_there
        if done:
            break
    return weights


def top1_agreement(adapter: ActionAdapter, actions_NF: np.ndarray, codes_N: np.ndarray) -> float:
    """Share of transitions for which the adapter names the very code that the model's own labelling gives."""
    return float((adapter.code(actions_NF) == np.asarray(codes_N)).mean())


def infer_codes(model: Any, video_BTYXC: np.ndarray) -> np.ndarray:
    """Codes (B, T-1) of a video of any length, in clips no longer than the model's window that share one frame."""
    window = int(model.config.video.num_frames)
    last = video_BTYXC.shape[1] - 1
    parts = [
        np.asarray(model.infer_actions(video_BTYXC[:, start : start + window])[0])
        for start in range(0, last, window - 1)
    ]
    return np.concatenate(parts, axis=1)


def labelled_transitions(
    model: Any, episodes: Iterable[Episode], limit: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First `limit` transitions of `episodes`: robot actions (N, 7), codes (N,) by `model.infer_actions`, open (N,).

    "Open" is whether the gripper was open before the transition, see `was_open`.
    """
    actions, codes, is_open, count = [], [], [], 0
    for episode in episodes:
        if episode.actions_TA is None:
            raise DataError(
                f"{episode.source} has no actions; the adapter wants labelled transitions; open with actions=True"
            )
        if episode.num_frames < 2:
            continue
        actions.append(episode.actions_TA[:-1])
        codes.append(infer_codes(model, episode.frames_TYXC[None])[0])
        is_open.append(was_open(episode))
        count += len(codes[-1])
        if count >= limit:
            break
    if not actions:
        raise DataError(
            "no episode has two frames; wanted labelled transitions; give another dataset or split"
        )
    whole = np.concatenate(actions), np.concatenate(codes), np.concatenate(is_open)
    return whole[0][:limit].astype(np.float32), whole[1][:limit].astype(np.int64), whole[2][:limit]


def was_open(episode: Episode) -> np.ndarray:
    """Whether the gripper was open before each step, bool (T-1,): by the state of the suites' episodes, else by the
    last command (open at the start).
    """
    assert episode.actions_TA is not None
    if episode.state_TS is not None and episode.state_TS.shape[-1] in _STATE_SIZES:
        return episode.state_TS[:-1, OPENING] > 0.5
    result, now = [], True
    for command in episode.actions_TA[:-1, 6]:
        result.append(now)
        now = bool(command < 0) if abs(command) > 0.5 else now
    return np.asarray(result, dtype=bool)


def fit_adapter_from_episodes(
    model: Any,
    episodes: Iterable[Episode],
    *,
    transitions: int = DEFAULT_TRANSITIONS,
    heldout_episodes: Iterable[Episode] | None = None,
    heldout: int = 1000,
    metres_per_unit: float = 1.0,
) -> ActionAdapter:
    """Fit on the first `transitions` labelled transitions of `episodes`, report top-1 agreement on `heldout` others.

    The others come from `heldout_episodes`, or else from what follows in `episodes`. `evidence` says the number of
    labels, the held-out agreement and the share of the most frequent code (what a blind guess would reach).
    metres_per_unit: length of a displacement of 1 in the episodes' actions [m].
    """
    wanted = transitions if heldout_episodes is not None else transitions + heldout
    actions, codes, is_open = labelled_transitions(model, episodes, wanted)
    rest_actions, rest_codes = actions[transitions:], codes[transitions:]
    if heldout_episodes is not None:
        rest_actions, rest_codes, _ = labelled_transitions(model, heldout_episodes, heldout)
    if len(codes) < transitions or len(rest_codes) < max(1, heldout // 10):
        raise DataError(
            f"the episodes hold {len(codes)} labelled transitions, and {len(rest_codes)} to test on; wanted "
            f"{transitions} and {heldout}; give a larger dataset or ask for fewer transitions"
        )
    first = slice(transitions)
    adapter = fit_adapter(actions[first], codes[first], int(model.num_actions), is_open[first])
    evidence = {
        "labelled_transitions": transitions,
        "heldout_transitions": len(rest_codes),
        "heldout_top1": round(top1_agreement(adapter, rest_actions, rest_codes), 4),
        "heldout_majority": round(float(np.bincount(rest_codes).max() / len(rest_codes)), 4),
        "model_hash": str(getattr(model, "hash", "")),
    }
    return replace(adapter, evidence=evidence, metres_per_unit=metres_per_unit)
