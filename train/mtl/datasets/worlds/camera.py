"""Pinhole cameras at integer pixel centres, and where they look."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CANONICAL_FOCAL_PX = 353.0
CANONICAL_SIZE = (288, 384)  # height, width


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Pinhole projection in pixels: u = fx x / z + cx, with pixel centres at integer coordinates."""

    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def canonical(cls, height: int, width: int, focal_factor: float = 1.0) -> Intrinsics:
        """The canonical camera (353 px at 288x384) fitted into a canvas, its focal length scaled."""
        scale = min(height / CANONICAL_SIZE[0], width / CANONICAL_SIZE[1])
        focal = CANONICAL_FOCAL_PX * scale * focal_factor
        return cls(focal, focal, (width - 1) / 2, (height - 1) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Pose:
    """Where the camera is: position in the room, and its axes x right, y down, z forward as columns."""

    position_m: np.ndarray  # (3,) float32
    axes: np.ndarray  # (3, 3) float32


def look(position_m: tuple[float, float, float], yaw_rad: float, pitch_rad: float, roll_rad: float) -> Pose:
    """A pose looking along yaw (about z) and pitch (positive looks up), then rolled."""
    forward = np.array([np.cos(yaw_rad) * np.cos(pitch_rad), np.sin(yaw_rad) * np.cos(pitch_rad), np.sin(pitch_rad)])
    right = np.array([np.sin(yaw_rad), -np.cos(yaw_rad), 0.0])
    down = np.cross(forward, right)
    c, s = np.cos(roll_rad), np.sin(roll_rad)
    right, down = c * right + s * down, c * down - s * right
    return Pose(np.asarray(position_m, np.float32), np.stack([right, down, forward], 1).astype(np.float32))
