"""Surface normals of a depth map by fitting a plane around every pixel. NumPy only; knows nothing about files.

A plane seen through a pinhole camera is linear in inverse depth: 1/z = a u + b v + c. The error of a structured-light camera
is about even in inverse depth as well (Khoshelham & Elberink 2012, doi:10.3390/s120201437), so an ordinary least-squares fit
there weighs near and far points as it should. Neighbours at another depth get a Gaussian weight, so that a fit does not reach
across the edge of an object.
"""

from __future__ import annotations

import numpy as np

from mtl.geometry import Intrinsics

__all__ = ["normals_of_depth"]

Array = np.ndarray

_LEAST_SHARE = 0.2
"""Of the window's weight: with less, a fit would rest on few neighbours."""


def normals_of_depth(
    depth_m: Array, intrinsics: Intrinsics, *, radius: int = 4, step: int = 2, tolerance: float = 0.04
) -> Array:
    """Normals by weighted plane fits.

    Args:
        depth_m: (H, W) float along z, 0 or not finite where unknown.
        intrinsics: fx, fy, cx, cy at this size.
        radius, step: the window is every `step`-th pixel up to `radius` away.
        tolerance: relative difference in depth at which a neighbour weighs exp(-1/2).
    Returns:
        (H, W, 3) float32 unit, camera frame, facing the camera; 0 where depth is unknown or too few neighbours fit.
    """
    height, width = depth_m.shape
    known = np.isfinite(depth_m) & (depth_m > 0)
    inverse = np.divide(1.0, depth_m, out=np.zeros((height, width), np.float32), where=known).astype(np.float32)
    padded = np.pad(inverse, radius)
    scale = np.divide(1.0, tolerance * inverse, out=np.zeros_like(inverse), where=known)
    offsets = range(-radius, radius + 1, step)
    # moments of the weighted fit of t = inverse - centre: sums of w, wu, wv, wuu, wuv, wvv, wt, wut, wvt
    sums = np.zeros((9, height, width), np.float32)
    for v in offsets:
        for u in offsets:
            beside = padded[radius + v : radius + v + height, radius + u : radius + u + width]
            t = beside - inverse
            weight = np.exp(-0.5 * (t * scale) ** 2)
            weight[(beside <= 0) | ~known] = 0
            weighted = weight * t
            for moment, (factor, field) in enumerate(
                ((1, weight), (u, weight), (v, weight), (u * u, weight), (u * v, weight), (v * v, weight))
            ):
                if factor:
                    sums[moment] += factor * field
            sums[6] += weighted
            if u:
                sums[7] += u * weighted
            if v:
                sums[8] += v * weighted
    a, b, c, solved = _solve(sums.astype(np.float64))
    fx, fy, cx, cy = intrinsics
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    # 1/z = p . (u, v, 1) and X = z K^-1 (u, v, 1), so K^T p . X = 1: K^T p points away from the camera
    away = np.stack([fx * a, fy * b, a * (cx - columns) + b * (cy - rows) + c + inverse], axis=-1)
    length = np.linalg.norm(away, axis=-1, keepdims=True)
    fine = known & solved & (sums[0] >= _LEAST_SHARE * len(offsets) ** 2)
    return np.divide(-away, length, out=np.zeros_like(away), where=fine[..., None] & (length > 0)).astype(np.float32)


def _solve(sums: Array) -> tuple[Array, Array, Array, Array]:
    """Slopes and offset (a, b, c) of the weighted fit a u + b v + c, by Cramer's rule, and where there is a solution."""
    n, su, sv, suu, suv, svv, st, sut, svt = sums
    m_uu, m_uv, m_u = suu, suv, su
    minor_1 = svv * n - sv * sv
    minor_2 = m_uv * n - m_u * sv
    minor_3 = m_uv * sv - m_u * svv
    determinant = m_uu * minor_1 - m_uv * minor_2 + m_u * minor_3
    solved = determinant > 1e-6 * np.maximum(n, 1e-12) ** 3
    safe = np.where(solved, determinant, 1.0)
    a = (sut * minor_1 - m_uv * (svt * n - st * sv) + m_u * (svt * sv - st * svv)) / safe
    b = (m_uu * (svt * n - st * sv) - sut * minor_2 + m_u * (m_uv * st - svt * m_u)) / safe
    c = (m_uu * (svv * st - sv * svt) - m_uv * (m_uv * st - svt * m_u) + sut * minor_3) / safe
    return a, b, c, solved
