"""Intrinsics under resizing, cropping and mirroring, and the step between a camera and the canonical one.

NumPy only; knows nothing about networks. Pixel centres are at integer coordinates (OpenCV, ROS). See decision 0002.
"""

from __future__ import annotations

import numpy as np

__all__ = [
    "CANONICAL_FOCAL_PX",
    "CANONICAL_SIZE",
    "Intrinsics",
    "canonical_intrinsics",
    "crop_and_resize_intrinsics",
    "depth_for_camera",
    "intrinsics_matrix",
    "mirror_intrinsics",
    "normals_for_camera",
]

Array = np.ndarray
Intrinsics = tuple[float, float, float, float]
"""fx, fy, cx, cy in pixels."""

CANONICAL_SIZE = (288, 384)
CANONICAL_FOCAL_PX = 353.0


def canonical_intrinsics(height: int, width: int) -> Intrinsics:
    """The canonical camera at a network size: 353 px at 288x384 and scaled with the smaller ratio of sides elsewhere."""
    focal = CANONICAL_FOCAL_PX * min(height / CANONICAL_SIZE[0], width / CANONICAL_SIZE[1])
    return focal, focal, (width - 1) / 2, (height - 1) / 2


def crop_and_resize_intrinsics(
    intrinsics: Intrinsics, *, window: tuple[float, float, float, float], size: tuple[int, int]
) -> Intrinsics:
    """Intrinsics after cutting `window` (top, left, height, width; pixel edges) and resizing it to `size` (H, W)."""
    fx, fy, cx, cy = intrinsics
    top, left, height, width = window
    sy, sx = size[0] / height, size[1] / width
    return fx * sx, fy * sy, (cx + 0.5 - left) * sx - 0.5, (cy + 0.5 - top) * sy - 0.5


def mirror_intrinsics(intrinsics: Intrinsics, *, width: int) -> Intrinsics:
    """Intrinsics of the image flipped left to right."""
    fx, fy, cx, cy = intrinsics
    return fx, fy, width - 1 - cx, cy


def intrinsics_matrix(intrinsics: Intrinsics) -> Array:
    """(3, 3) float64 K."""
    fx, fy, cx, cy = intrinsics
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def depth_for_camera(depth_m: Array, *, seen_by: Intrinsics, wanted: Intrinsics) -> Array:
    """Depth (...) seen through one camera as another one would explain the same image: d f_wanted / f. Unknown stays 0."""
    scaled: Array = depth_m * np.float32(wanted[0] / seen_by[0])
    return scaled


def normals_for_camera(normals: Array, *, seen_by: Intrinsics, wanted: Intrinsics) -> Array:
    """Normals (..., 3) seen through one camera as another one would explain the same image: n ~ K_wanted^T K^-T n.

    The result has unit length; unknown normals stay 0.
    """
    bend = intrinsics_matrix(wanted).T @ np.linalg.inv(intrinsics_matrix(seen_by)).T
    bent = normals @ bend.T.astype(np.float32)
    length = np.sqrt((bent * bent).sum(axis=-1, keepdims=True))
    return np.divide(bent, length, out=np.zeros_like(bent), where=length > 1e-12)
