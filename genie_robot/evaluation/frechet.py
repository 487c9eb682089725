"""Frechet distances between sets of true and imagined clips; lower is closer.

Three descriptors of a clip, each under a name of its own, for no two of them can be compared:
* `fvd_el0`: EfficientNet-Lite0 features of its frames (the network comes inside a package, nothing is downloaded);
* `fd_state`: the trajectory of the physical state that the probe reads from it;
* `fvd`: features of a user's I3D TorchScript, with the SHA-256 of that file (no package ships I3D).
Shapes: B or N clips, T frames, D numbers of a descriptor, S entries of the state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from genie_robot.errors import ConfigError, DataError
from genie_robot.models.perceptual import EfficientNetFeatures

LEAST_CLIPS = 40
MOST_DIMENSIONS = 64
CLIPS_PER_DIMENSION = 10
SPLITS = 10
EL0_PIXELS, I3D_PIXELS, I3D_FRAMES = 128, 224, 16


def frechet_distance(x_ND: np.ndarray, y_ND: np.ndarray) -> float:
    """|mx - my|^2 + Tr(Sx + Sy - 2 (Sx Sy)^(1/2)) of two sets of descriptors (Heusel 2017, arXiv 1706.08500, eq. 6).

    Raises ValueError for other shapes than (N, D) and (M, D), or fewer than 2 rows.
    """
    x, y = np.asarray(x_ND, np.float64), np.asarray(y_ND, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 2:
        raise ValueError(
            f"descriptors are {x.shape} and {y.shape}; wanted (N, D) and (M, D) of 2 or more rows"
        )
    cov_x, cov_y = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    # (Sx Sy)^(1/2) has the trace of (Sx^(1/2) Sy Sx^(1/2))^(1/2), which is symmetric: no complex square root.
    values, vectors = np.linalg.eigh(cov_x)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ cov_y @ root), 0.0)).sum()
    distance = ((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum() + np.trace(cov_x) + np.trace(cov_y) - 2 * cross
    return float(max(distance, 0.0))


def compare_clips(
    truth_ND: np.ndarray, imagined_ND: np.ndarray, seed: int = 0, *, projected: bool = True
) -> dict[str, Any]:
    """Distance of imagined from true clips (row i of both: the same scene), and of true from true ones.

    The distance is biased at few clips. So `value` (one half of the truth against the other half imagined) and
    `gt_vs_gt` (one half of the truth against the other) are taken at the same number of clips, over the same splits,
    after the same random projection to so few dimensions that each has 10 clips; only their difference says something.
    projected: False leaves the descriptors whole, where a name promises them so.
    Raises DataError for fewer than 40 clips.
    """
    clips = len(truth_ND)
    if clips < LEAST_CLIPS:
        raise DataError(f"got {clips} clips; wanted {LEAST_CLIPS} or more for a Frechet distance; give more")
    half = clips // 2
    truth, imagined, width = truth_ND, imagined_ND, truth_ND.shape[1]
    dimensions = min(MOST_DIMENSIONS, half // CLIPS_PER_DIMENSION, width) if projected else width
    if projected:
        # The projection is fixed: the same for every model, whatever the seed of its clips.
        projection = np.random.default_rng(0).normal(size=(width, dimensions)) / np.sqrt(dimensions)
        truth, imagined = truth @ projection, imagined @ projection
    rng, values, floors = np.random.default_rng(seed), [], []
    for _ in range(SPLITS):
        order = rng.permutation(clips)
        one, other = order[:half], order[half : 2 * half]
        values += [
            frechet_distance(truth[one], imagined[other]),
            frechet_distance(truth[other], imagined[one]),
        ]
        floors.append(frechet_distance(truth[one], truth[other]))
    return {
        "value": float(np.mean(values)),
        "gt_vs_gt": float(np.mean(floors)),
        "n_clips": half,
        "dimensions": dimensions,
        "splits": SPLITS,
    }


def fvd_el0(truth_BTYXC: np.ndarray, imagined_BTYXC: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Video distance by EfficientNet-Lite0 of uint8 clips; `not_comparable_to` says what it is not.

    Raises ConfigError when the network is not installed, DataError for too few clips.
    """
    network = EfficientNetFeatures().eval().requires_grad_(False)
    truth, imagined = (_el0_descriptors(network, video) for video in (truth_BTYXC, imagined_BTYXC))
    return {
        **compare_clips(truth, imagined, seed),
        "backbone": "efficientnet-lite0-imagenet",
        "not_comparable_to": "I3D FVD",
        "clip_frames": truth_BTYXC.shape[1],
        "input_pixels": EL0_PIXELS,
    }


def _el0_descriptors(network: EfficientNetFeatures, video_BTYXC: np.ndarray) -> np.ndarray:
    """(B, 3 * 1280): mean over frames, mean change from frame to frame, second half minus first half."""
    rows = []
    for clip in video_BTYXC:
        features = network.pooled(_resized(clip, EL0_PIXELS))
        half = len(features) // 2
        change = features.diff(dim=0).abs().mean(0)
        rows.append(torch.cat([features.mean(0), change, features[-half:].mean(0) - features[:half].mean(0)]))
    return torch.stack(rows).double().numpy()


def _resized(clip_TYXC: np.ndarray, pixels: int) -> Tensor:
    frames = torch.from_numpy(np.ascontiguousarray(clip_TYXC)).permute(0, 3, 1, 2).float() / 255
    return F.interpolate(frames, (pixels, pixels), mode="bilinear", align_corners=False, antialias=True)


def fd_state(truth_BTS: np.ndarray, imagined_BTS: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Distance of trajectories of probed states: gripper position and opening, object position.

    Both sides are read by the same probe, so that its error is on both. Each entry is divided by its deviation in the
    true clips. Raises DataError for too few clips.
    """
    columns = slice(0, 7)  # in every suite the state begins with the gripper's and the object's place
    scale = np.maximum(truth_BTS[..., columns].std(axis=(0, 1)), 1e-6)
    truth, imagined = (
        (states[..., columns] / scale).reshape(len(states), -1) for states in (truth_BTS, imagined_BTS)
    )
    return {**compare_clips(truth, imagined, seed), "clip_frames": truth_BTS.shape[1]}


def fvd(
    truth_BTYXC: np.ndarray, imagined_BTYXC: np.ndarray, i3d: Path | str, seed: int = 0
) -> dict[str, Any]:
    """FVD (arXiv 1812.01717) on the first 16 frames at 224x224, with the features of a user's I3D TorchScript.

    The script maps float (B, 3, 16, 224, 224) in [-1, 1] to (B, D). One that has the options `rescale`, `resize` and
    `return_features`, as the widely used `i3d_torchscript.pt`, is called with False, False, True.
    Value and floor as in `compare_clips`, but of the whole features, as FVD is defined: both are FVD at `n_clips` clips.
    Raises ConfigError for a file that is none, DataError for clips shorter than 16 frames, or too few of them.
    """
    if truth_BTYXC.shape[1] < I3D_FRAMES:
        raise DataError(
            f"clips have {truth_BTYXC.shape[1]} frames; wanted {I3D_FRAMES} for fvd; give --horizon {I3D_FRAMES - 1}"
        )
    path = Path(i3d)
    extract = _i3d_extractor(path)
    truth, imagined = (
        np.concatenate([extract(clip[:I3D_FRAMES]) for clip in v]) for v in (truth_BTYXC, imagined_BTYXC)
    )
    return {
        **compare_clips(truth, imagined, seed, projected=False),
        "backbone": path.name,
        "backbone_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "clip_frames": I3D_FRAMES,
    }


def _i3d_extractor(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    wanted = "wanted a TorchScript of I3D for float (B, 3, 16, 224, 224) that gives (B, D)"
    if not path.is_file():
        raise ConfigError(f"fvd: no file {path}; {wanted}")
    try:
        network = torch.jit.load(str(path), map_location="cpu").eval()
    except RuntimeError as error:
        raise ConfigError(f"fvd: {path} is no TorchScript file; {wanted}") from error
    known = {argument.name for argument in network.forward.schema.arguments}
    switches = {"rescale": False, "resize": False, "return_features": True}
    options = {name: value for name, value in switches.items() if name in known}

    @torch.no_grad()
    def extract(clip_TYXC: np.ndarray) -> np.ndarray:
        clip = (2 * _resized(clip_TYXC, I3D_PIXELS) - 1).permute(1, 0, 2, 3)[None]
        try:
            features = network(clip, **options)
        except RuntimeError as error:
            line = str(error).strip().splitlines()[-1][:120]
            raise ConfigError(f"fvd: {path} fails on {tuple(clip.shape)} ({line}); {wanted}") from error
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 1:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ConfigError(f"fvd: {path} gives {got} for one clip; {wanted}")
        return features.double().numpy()

    return extract
