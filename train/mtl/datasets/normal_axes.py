"""Which way the three components of stored normals point, found by comparing them with normals of the depth.

Data sets differ, and so do copies of one: y up or down, z towards the camera or away, axes in another order. Of the 48 signed
permutations the one with the largest mean cosine is taken. Knows arrays; knows nothing about files.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError

__all__ = ["AxesFound", "NormalAxes", "detect_axes"]

Array = np.ndarray

_LEAST_COSINE = 0.6
_LEAST_LEAD = 0.04
_LEAST_PIXELS = 500


@dataclass(frozen=True, slots=True)
class NormalAxes:
    """Camera component j (x right, y down, z forward) is signs[j] times stored component order[j]."""

    order: tuple[int, int, int] = (0, 1, 2)
    signs: tuple[int, int, int] = (1, 1, 1)

    def apply(self, stored: Array) -> Array:
        """Stored normals (..., 3) as camera normals (..., 3), same dtype; the same array where nothing changes."""
        ordered = stored if self.order == (0, 1, 2) else stored[..., list(self.order)]
        return ordered if self.signs == (1, 1, 1) else ordered * np.array(self.signs, stored.dtype)

    def __str__(self) -> str:
        pairs = zip(self.order, self.signs, strict=True)
        return "".join(("+" if sign > 0 else "-") + "xyz"[component] for component, sign in pairs)

    @classmethod
    def parse(cls, text: str) -> NormalAxes:
        """Read "+x-y-z". Raises BuildError."""
        pairs = [text[place : place + 2] for place in range(0, len(text), 2)]
        if len(pairs) != 3 or {pair[1:] for pair in pairs} != {"x", "y", "z"} or not all(pair[0] in "+-" for pair in pairs):
            raise BuildError(f"axes of normals are written like +x-y-z (each of x, y, z once, with its sign), not {text!r}")
        x, y, z = ("xyz".index(pair[1]) for pair in pairs)
        sx, sy, sz = (1 if pair[0] == "+" else -1 for pair in pairs)
        return cls((x, y, z), (sx, sy, sz))


@dataclass(frozen=True, slots=True)
class AxesFound:
    """The best axes with the evidence: mean cosine to the normals of the depth, and that of the second best."""

    axes: NormalAxes
    cosine: float
    runner_up: NormalAxes
    runner_up_cosine: float
    frames: int
    pixels: int

    @property
    def evidence(self) -> dict[str, Any]:
        """For `dataset.json`."""
        return {
            "cosine": round(self.cosine, 4),
            "runner_up": str(self.runner_up),
            "runner_up_cosine": round(self.runner_up_cosine, 4),
            "frames": self.frames,
            "pixels": self.pixels,
        }


def detect_axes(pairs: Iterable[tuple[Array, Array]]) -> AxesFound:
    """The signed permutation under which stored normals agree best with reference normals.

    The mean cosine of a signed permutation is a sum of three entries of one 3x3 matrix of products, so all 48 cost as much
    as one.

    Args:
        pairs: (stored, reference) normals of some frames, (H, W, 3) float32 each, 0 where invalid; the reference is in
            the camera frame and faces the camera.
    Raises:
        BuildError: too few pixels to tell, none of the axes fits, or two fit nearly alike.
    """
    products, pixels, frames = np.zeros((3, 3)), 0, 0
    for stored, reference in pairs:
        lengths = np.linalg.norm(stored, axis=-1), np.linalg.norm(reference, axis=-1)
        valid = (lengths[0] > 0.5) & (lengths[1] > 0.5)
        ours = stored[valid] / lengths[0][valid][:, None]
        products += ours.astype(np.float64).T @ reference[valid]
        pixels += int(valid.sum())
        frames += 1
    if pixels < _LEAST_PIXELS:
        raise BuildError(f"the axes of the normals cannot be told from {pixels} valid pixels in {frames} frames")
    products /= pixels
    ranked = sorted(((_mean_cosine(products, axes), axes) for axes in _every_axes()), key=lambda one: -one[0])
    (cosine, best), (second_cosine, second) = ranked[:2]
    if cosine < _LEAST_COSINE or cosine - second_cosine < _LEAST_LEAD:
        raise BuildError(
            f"the axes of the normals are unclear: best {best} with a mean cosine of {cosine:.2f} to the normals of the depth, "
            f"then {second} with {second_cosine:.2f}. Check depth and normals, or state the axes"
        )
    return AxesFound(best, cosine, second, second_cosine, frames, pixels)


def _every_axes() -> list[NormalAxes]:
    signs = [(x, y, z) for x in (1, -1) for y in (1, -1) for z in (1, -1)]
    return [NormalAxes((x, y, z), sign) for x, y, z in itertools.permutations((0, 1, 2)) for sign in signs]


def _mean_cosine(products: Array, axes: NormalAxes) -> float:
    pairs = zip(axes.order, axes.signs, strict=True)
    return float(sum(sign * products[component, j] for j, (component, sign) in enumerate(pairs)))
