"""A ray caster in plain MuJoCo and numpy: no OpenGL, no display, the same picture on every run.

`mj_multiRay` finds the surfaces; colours are flat with one key light, an ambient part, a headlight and
exact hard shadows (a second cast from the light). Bodies that never move are cast once per episode.
"""

from __future__ import annotations

from typing import Protocol

import mujoco
import numpy as np

from genie_robot.errors import ConfigError
from genie_robot.simulation.mujoco.scene import MOVING_GROUP, STATIC_GROUP

AMBIENT, HEADLIGHT, KEY = 0.48, 0.26, 0.38
SHADOW_MARGIN_M = 0.002


class View(Protocol):
    """What the renderer needs to know of a scene: its camera and its light, in the robot frame."""

    @property
    def camera_position_m(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def camera_target_m(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def camera_roll_rad(self) -> float: ...  # noqa: D102
    @property
    def camera_fovy_deg(self) -> float: ...  # noqa: D102
    @property
    def light_position_m(self) -> tuple[float, float, float]: ...  # noqa: D102
    @property
    def light_strength(self) -> float: ...  # noqa: D102


def check_image_size(image_size: int) -> int:
    """Return `image_size` if it can be rendered, else raise ConfigError."""
    if not isinstance(image_size, int) or not 8 <= image_size <= 1024:
        raise ConfigError(
            f"image_size is {image_size!r}, wanted 8..1024 pixels; choose a whole number in this range"
        )
    return image_size


def check_image_hw(image_hw: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) if it can be rendered, else raise ConfigError."""
    height, width = image_hw
    return check_image_size(height), check_image_size(width)


class RayRenderer:
    """Renders one episode: fixed camera and light, moving geoms in group 1, still ones in group 0."""

    def __init__(
        self,
        model: mujoco.MjModel,
        data: mujoco.MjData,
        view: View,
        image_hw: tuple[int, int] = (64, 64),
        supersample: int = 2,
    ) -> None:
        """Cast the still part of the picture; `data` must have been through mj_forward."""
        self._model, self._data = model, data
        self._hw, self._supersample = image_hw, supersample
        self._camera = np.array(view.camera_position_m)
        self._light = np.array(view.light_position_m)
        self._key = KEY * view.light_strength
        self._rays = camera_rays(view, (image_hw[0] * supersample, image_hw[1] * supersample))
        self._rgb = model.geom_rgba[:, :3].copy()
        self._still_id, self._still_distance, normal = self.cast(self._camera, self._rays, STATIC_GROUP)
        hit = self._still_id >= 0
        self._still_points = self._camera + self._rays * np.where(hit, self._still_distance, 3.0)[:, None]
        base, lit = self._shade(self._still_id, self._rays, self._still_points, normal)
        self._still_base, self._still_lit = base, lit
        self._still_distance = np.where(hit, self._still_distance, np.inf)

    def cast(
        self, origin: np.ndarray, directions: np.ndarray, group: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cast rays (n, 3) from `origin` against one geom group (None: all).

        Returns geom ids (n,), -1 for a miss, distances [m] (n,) and surface normals (n, 3).
        """
        count = len(directions)
        mask = None
        if group is not None:
            mask = np.zeros(6, np.uint8)
            mask[group] = 1
        ids, distances, normals = np.empty(count, np.int32), np.empty(count), np.zeros(count * 3)
        vectors = np.ascontiguousarray(directions).reshape(-1)
        mujoco.mj_multiRay(
            self._model,
            self._data,
            origin,
            vectors,
            mask,
            True,
            -1,
            ids,
            distances,
            normals,
            count,
            mujoco.mjMAXVAL,
        )
        return ids, distances, normals.reshape(count, 3)

    def render(self) -> np.ndarray:
        """Return the picture of the present state: uint8 (Y, X, 3)."""
        colour = self._render_samples()[0]
        (height, width), factor = self._hw, self._supersample
        image = colour.reshape(height, factor, width, factor, 3).mean(axis=(1, 3))
        return np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)

    def segment(self) -> np.ndarray:
        """Return the geom id at the centre of every supersample: int32 (Y * supersample, X * supersample)."""
        height, width = self._hw
        return self._render_samples()[1].reshape(height * self._supersample, width * self._supersample)

    def _render_samples(self) -> tuple[np.ndarray, np.ndarray]:
        ids, distances, normals = self.cast(self._camera, self._rays, MOVING_GROUP)
        front = np.flatnonzero((ids >= 0) & (distances < self._still_distance))
        rays, points = self._rays[front], self._still_points.copy()
        points[front] = self._camera + rays * distances[front, None]
        base, lit = self._still_base.copy(), self._still_lit.copy()
        base[front], lit[front] = self._shade(ids[front], rays, points[front], normals[front])
        shadowed = self._in_shadow(points)
        colour = base + lit * ~shadowed[:, None]
        seen = self._still_id.copy()
        seen[front] = ids[front]
        return colour, seen

    def _shade(
        self, ids: np.ndarray, rays: np.ndarray, points: np.ndarray, normals: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the colour that is always there and the colour that the key light adds, (n, 3) each."""
        rgb = np.where(ids[:, None] >= 0, self._rgb[ids], 0.5)
        facing = np.abs(np.einsum("nk,nk->n", normals, rays))
        to_light = self._light - points
        to_light /= np.linalg.norm(to_light, axis=1, keepdims=True)
        key = np.maximum(0.0, np.einsum("nk,nk->n", normals, to_light))
        return rgb * (AMBIENT + HEADLIGHT * facing)[:, None], rgb * (self._key * key)[:, None]

    def _in_shadow(self, points: np.ndarray) -> np.ndarray:
        """Tell which points a moving geom hides from the light; still geoms throw no visible shadow."""
        vectors = points - self._light
        distance = np.linalg.norm(vectors, axis=1)
        vectors /= distance[:, None]
        ids, hit, _ = self.cast(self._light, vectors, MOVING_GROUP)
        return (ids >= 0) & (hit < distance - SHADOW_MARGIN_M)


def _camera_axes(view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the camera's unit axes in the robot frame: forward, right, up, (3,) each."""
    forward = np.subtract(view.camera_target_m, view.camera_position_m)
    forward /= np.linalg.norm(forward)
    right = np.cross(forward, (0.0, 0.0, 1.0))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    cosine, sine = np.cos(view.camera_roll_rad), np.sin(view.camera_roll_rad)
    right, up = cosine * right + sine * up, cosine * up - sine * right
    return forward, right, up


def _half_extents(view: View, image_hw: tuple[int, int]) -> tuple[float, float]:
    """Return half the height and half the width of the picture at distance one.

    The field of view is that of the shorter side, so that any picture shows all that the square one shows.
    """
    half = np.tan(np.radians(view.camera_fovy_deg) / 2)
    height, width = image_hw
    return half * (height / min(image_hw)), half * (width / min(image_hw))


def camera_rays(view: View, image_hw: tuple[int, int]) -> np.ndarray:
    """Return unit rays (Y * X, 3), row by row from the top left, of the scene's camera."""
    forward, right, up = _camera_axes(view)
    (height, width), (half_y, half_x) = image_hw, _half_extents(view, image_hw)
    down = ((np.arange(height) + 0.5) / height * 2 - 1) * half_y
    across = ((np.arange(width) + 0.5) / width * 2 - 1) * half_x
    rays = forward + across[None, :, None] * right - down[:, None, None] * up
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    return rays.reshape(-1, 3)


def project(view: View, points_m: np.ndarray, image_hw: tuple[int, int]) -> np.ndarray:
    """Return where points (n, 3) [m] fall in the image: pixel columns and rows (n, 2)."""
    forward, right, up = _camera_axes(view)
    (height, width), (half_y, half_x) = image_hw, _half_extents(view, image_hw)
    relative = np.atleast_2d(points_m) - np.array(view.camera_position_m)
    depth = relative @ forward
    plane = np.stack([relative @ right / (depth * half_x), -(relative @ up) / (depth * half_y)], axis=1)
    return (plane + 1) / 2 * np.array([width, height])
