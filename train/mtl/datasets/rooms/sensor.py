"""What a depth camera and labels made by hand lose."""

from __future__ import annotations

import cv2
import numpy as np

from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.surfaces import Surfaces

from .labels import Label


def lost_depth(depth_m: np.ndarray, seen: Surfaces, directions: np.ndarray, rng: Rng) -> np.ndarray:
    """(H, W) bool: pixels for which a structured-light camera returns no depth.

    Dark and glossy surfaces, glass, grazing and far ones fail in patches; so does a strip left of near edges.
    """
    height, width = depth_m.shape
    facing = np.abs((seen.normals * directions).sum(0)) / np.sqrt((directions * directions).sum(0))
    brightness = seen.albedo.mean(0)
    risk = 0.7 * seen.gloss * (brightness < 0.1) + 0.5 * (brightness < 0.02) + 0.6 * (facing < 0.12)
    risk += 0.5 * np.clip((depth_m.ravel() - 4.0) / 4.0, 0, 1) + 0.5 * (seen.glow > 1.0) + 0.02
    coarse = rng.random((max(2, height // 12), max(2, width // 12)), np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    field = 0.7 * field + 0.3 * rng.random((height, width), np.float32)
    lost = field < risk.reshape(height, width)
    reach = max(1, round(width / 96))
    for shift in range(1, reach + 1):
        nearer = depth_m[:, shift:] < depth_m[:, :-shift] - 0.06 * shift - 0.05
        lost[:, :-shift] |= nearer
    return lost


def unlabelled(seen: Surfaces, rng: Rng, height: int, width: int) -> np.ndarray:
    """(H, W) bool: a line along class boundaries, and a few whole small things nobody named."""
    label = seen.label.reshape(height, width)
    boundary = np.zeros((height, width), bool)
    boundary[:, 1:] |= label[:, 1:] != label[:, :-1]
    boundary[1:] |= label[1:] != label[:-1]
    shape_number = seen.patch // 8
    small = np.unique(shape_number[seen.label == Label.OBJECTS])
    forgotten = small[rng.random(len(small)) < 0.15]
    return boundary | np.isin(shape_number, forgotten).reshape(height, width)
