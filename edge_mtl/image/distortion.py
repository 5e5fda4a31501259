"""Lenses that distort: where they move what a pinhole camera would show, and frames with that undone.

Knows OpenCV's two models, polynomials of the radius (`calib3d`) and of the angle (`fisheye`); knows nothing about ROS. A ray
is (x / z, y / z); pixel centres are at integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import MAX_SIDE, Intrinsics
from edge_mtl.image.memory import out_of_memory, require_memory

__all__ = ["Lens", "Rectification", "rectification"]

Array = np.ndarray
LensModel = Literal["radius", "angle"]

_COEFFICIENTS = {"radius": (4, 5, 8, 12, 14), "angle": (4,)}
_NARROWEST_RAY = 20.0
"""Rays farther out, 87 degrees off the axis, are on no image that is worth having."""
_STEPS, _NEWTON, _TOLERANCE_PX = 32, 12, 1e-6
_CELLS = 32
"""Of the grid along each side on which a rectified image is judged."""
_TABLE_BYTES = 6
"""A pixel of the tables of `cv2.remap`."""
_SMALLER = "Let the camera send smaller images, or give this process more memory."
_ZOOM_MAX, _HALVINGS = 8.0, 16


@dataclass(frozen=True, slots=True)
class Lens:
    """A camera whose lens distorts.

    Attributes:
        camera: what it would be without: K.
        model: "radius": k1, k2, p1, p2[, k3[, k4, k5, k6[, s1 to s4[, tilts]]]]; "angle": k1 to k4 of a fisheye.
        coefficients: as OpenCV orders them.
    Raises:
        FrameError: not as many coefficients as the model has, or they are no numbers.
    """

    camera: Intrinsics
    model: LensModel
    coefficients: tuple[float, ...]

    def __post_init__(self) -> None:
        counts = _COEFFICIENTS[self.model]
        if len(self.coefficients) not in counts or not all(map(math.isfinite, self.coefficients)):
            expected = " or ".join(map(str, counts))
            raise FrameError(f"{expected} finite coefficients of distortion were expected; found {list(self.coefficients)}.")

    def project(self, rays: Array) -> Array:
        """Where the lens shows rays.

        Args:
            rays: (N, 2) float64.
        Returns:
            (N, 2) float64 pixels (column, row).
        """
        matrix, bent = self.camera.matrix(), np.array(self.coefficients, np.float64)
        if self.model == "angle":
            return cv2.fisheye.distortPoints(np.ascontiguousarray(rays, np.float64)[:, None], matrix, bent)[:, 0]
        points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
        nowhere = np.zeros(3)
        return cv2.projectPoints(points[:, None], nowhere, nowhere, matrix, bent)[0][:, 0]

    def rays(self, points: Array) -> Array:
        """The rays that pixels show: the inverse of `project`.

        Followed from the principal point outwards, by Newton's method, so that a polynomial that turns back far outside is
        not followed to where it does.

        Args:
            points: (N, 2) float64 pixels (column, row).
        Returns:
            (N, 2) float64; NaN where the model has no ray in front of the camera.
        """
        camera = self.camera
        centre, scale = np.array([camera.cx, camera.cy]), np.array([camera.fx, camera.fy])
        found = np.zeros((len(points), 2))
        for step in range(1, _STEPS + 1):
            targets = centre + (points - centre) * (step / _STEPS)
            for _ in range(_NEWTON):
                missed = targets - self.project(found)
                slopes = self.slopes(found)
                turned = ~(_areas(slopes) > 1e-6 * scale.prod())  # also where it is no number
                slopes[turned] = np.diag(scale)
                found = found + np.linalg.solve(slopes, missed[..., None])[..., 0]
                found[turned | ~(np.abs(found).max(axis=1) < _NARROWEST_RAY)] = np.nan
                if np.isnan(found).all() or np.nanmax(np.abs(missed)) < _TOLERANCE_PX:
                    break
        left = np.abs(points - self.project(found)).max(axis=1)
        found[~(left < 1e-3)] = np.nan
        return found

    def displacement_px(self, size: tuple[int, int]) -> float:
        """How far the worst corner of an image is from where a pinhole camera of the same K shows the same ray.

        Args:
            size: (height, width) of the image in pixels.
        Returns:
            Pixels; infinity where a corner shows what no pinhole camera can.
        """
        height, width = size
        corners = np.array([(0, 0), (width - 1, 0), (0, height - 1), (width - 1, height - 1)], np.float64)
        camera, rays = self.camera, self.rays(corners)
        straight = rays * (camera.fx, camera.fy) + (camera.cx, camera.cy)
        distances = np.linalg.norm(straight - corners, axis=1)
        return float("inf") if np.isnan(distances).any() else float(distances.max())

    def slopes(self, rays: Array) -> Array:
        """(N, 2, 2) derivatives of pixels by rays (N, 2), by central differences."""
        small = 1e-6
        columns = [(self.project(rays + step) - self.project(rays - step)) / (2 * small) for step in np.eye(2) * small]
        return np.stack(columns, axis=-1)


@dataclass(frozen=True, slots=True, eq=False)
class Rectification:
    """Makes frames of a pinhole camera from those of a lens that distorts.

    Attributes:
        camera: of the frames that it makes.
        zoom: how many times longer its focal lengths are than those that were wanted: 1, or more where the lens has no image
            for some pixels of the camera that was wanted.
        size: (height, width) of the frames that it takes and makes.
    """

    camera: Intrinsics
    zoom: float
    size: tuple[int, int]
    _tables: tuple[Array, Array]

    def __call__(self, frame: Array) -> Array:
        """(H, W, 3) uint8, bilinear, colours in the order of `frame`. Raises FrameError where that has another size."""
        if frame.shape[:2] != self.size:
            raise FrameError(
                f"a frame of {self.size} was expected, for which the lens was calibrated; found {frame.shape[:2]}."
            )
        pixels = np.ascontiguousarray(frame)
        return cv2.remap(pixels, *self._tables, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def rectification(lens: Lens, size: tuple[int, int], *, wanted: Intrinsics, rotation: Array | None = None) -> Rectification:
    """What undoes a lens.

    Every pixel of the result was seen: where `wanted` has pixels that the lens does not show, the result is zoomed in, about
    the principal point, until it has none. A network would find surfaces in whatever stood there.

    Args:
        size: (height, width) of the frames in pixels.
        wanted: the camera of the result.
        rotation: (3, 3), from the camera of the lens to that of the result; by default none.
    Raises:
        FrameError: no part of the image is like a pinhole camera's, or the image is larger than any that is taken, or than
            the memory.
    """
    height, width = size
    if not 0 < min(size) <= max(size) <= MAX_SIDE:
        raise FrameError(f"a lens is undone in images of 1 to {MAX_SIDE} pixels a side; found {height}x{width}.")
    what = f"What undoes the lens in images of {height}x{width}"
    require_memory(_TABLE_BYTES * height * width, what, _SMALLER)
    turned = np.eye(3) if rotation is None else np.asarray(rotation, np.float64)
    zoom = _zoom(lens, size, wanted, turned)
    camera = Intrinsics(wanted.fx * zoom, wanted.fy * zoom, wanted.cx, wanted.cy)
    module = cv2.fisheye if lens.model == "angle" else cv2
    matrix, bent = lens.camera.matrix(), np.array(lens.coefficients, np.float64)
    with out_of_memory(what, _SMALLER):
        tables = module.initUndistortRectifyMap(matrix, bent, turned, camera.matrix(), size[::-1], cv2.CV_16SC2)
    return Rectification(camera, zoom, size, (tables[0], tables[1]))


def _zoom(lens: Lens, size: tuple[int, int], wanted: Intrinsics, rotation: Array) -> float:
    """The smallest zoom from 1 on at which every pixel was seen."""
    if _all_seen(lens, size, wanted, rotation, 1.0):
        return 1.0
    low, high = 1.0, _ZOOM_MAX
    if not _all_seen(lens, size, wanted, rotation, high):
        raise FrameError("no part of the image is like a pinhole camera's: calibrate the camera again.")
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if _all_seen(lens, size, wanted, rotation, middle) else (middle, high)
    return high


def _all_seen(lens: Lens, size: tuple[int, int], wanted: Intrinsics, rotation: Array, zoom: float) -> bool:
    """Whether all rays of the zoomed camera lie on the image of the lens, and its model does not turn back among them."""
    height, width = size
    columns, rows = np.meshgrid(np.linspace(0, width - 1, _CELLS + 1), np.linspace(0, height - 1, _CELLS + 1))
    x, y = (columns - wanted.cx) / (wanted.fx * zoom), (rows - wanted.cy) / (wanted.fy * zoom)
    seen = np.stack([x, y, np.ones_like(x)], axis=-1).reshape(-1, 3) @ rotation  # rotation's inverse, as rows
    if seen[:, 2].min() <= 1.0 / _NARROWEST_RAY:
        return False
    rays = seen[:, :2] / seen[:, 2:]
    points = lens.project(rays)
    if not ((points > -0.5) & (points < (width - 0.5, height - 0.5))).all():
        return False
    return bool((_areas(lens.slopes(rays)) > 0).all())


def _areas(slopes: Array) -> Array:
    """(N,) determinants of (N, 2, 2): not above zero where a model turns back."""
    return slopes[:, 0, 0] * slopes[:, 1, 1] - slopes[:, 0, 1] * slopes[:, 1, 0]
