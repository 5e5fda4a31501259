"""What tf says of frames at a camera, without ROS: names, rotations, and chains of transforms that do not change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["FixedFrames", "ground_frame_of", "level_frame_of", "quaternion_of", "rotation_of"]

Array = np.ndarray

_FARTHEST_M = 1e6
"""Nothing is mounted farther away on anything."""


def level_frame_of(frame: str) -> str:
    """The name of the level frame at a camera: of `camera_color_optical_frame` it is `camera_color_level_frame`."""
    return f"{_of_camera(frame)}_level_frame"


def ground_frame_of(frame: str) -> str:
    """The name of the frame on the ground below a camera: of `camera_color_optical_frame` it is `camera_color_ground_frame`."""
    return f"{_of_camera(frame)}_ground_frame"


class FixedFrames:
    """Frames that do not move against one another, as /tf_static has them. One thread puts, others ask."""

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, Array]] = {}

    def put(self, parent: str, child: str, translation: Sequence[float], quaternion: Sequence[float]) -> None:
        """Where a frame is in its parent; the newest counts. A quaternion (x, y, z, w) or a place that is none is left out."""
        placed = np.eye(4)
        placed[:3, :3], placed[:3, 3] = rotation_of(quaternion), translation
        if (np.abs(placed) < _FARTHEST_M).all():  # not of NaN either
            self._parents = {**self._parents, _bare(child): (_bare(parent), placed)}

    def pose(self, frame: str, *, within: str) -> tuple[Array, Array] | None:
        """(3, 3) rotation and (3,) position of a frame in another one; None where no chain connects them."""
        parents = self._parents
        up, down = _chain(parents, _bare(frame)), _chain(parents, _bare(within))
        common = next((name for name in up if name in down), None)
        if common is None:
            return None
        found = np.linalg.inv(down[common]) @ up[common]
        return found[:3, :3], found[:3, 3]


def _chain(parents: dict[str, tuple[str, Array]], frame: str) -> dict[str, Array]:
    """Where a frame is in itself, its parent, that one's parent and so on, the nearest first; a circle ends where it closes."""
    found, placed = {frame: np.eye(4)}, np.eye(4)
    while frame in parents:
        frame, step = parents[frame]
        placed = step @ placed
        if frame in found:
            break
        found[frame] = placed
    return found


def _bare(frame: str) -> str:
    """Names of frames do not begin with a slash since tf2, though some still write one."""
    return frame.removeprefix("/")


def _of_camera(frame: str) -> str:
    return frame.removesuffix("_frame").removesuffix("_optical")


def rotation_of(quaternion: Sequence[float]) -> Array:
    """(3, 3) rotation of (x, y, z, w), whose columns are the child's axes in the parent; NaN where its length is none."""
    q = np.asarray(quaternion, np.float64)
    length = float(np.linalg.norm(q))
    if not 0.5 < length < 2.0:
        return np.full((3, 3), np.nan)
    x, y, z, w = (float(value) for value in q / length)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of(rotation: Array) -> tuple[float, float, float, float]:
    """(x, y, z, w) of unit length with w >= 0 of a (3, 3) rotation, whose columns are the child's axes in the parent.

    The largest of its four parts comes from the diagonal, which does not lose digits (Shepperd 1978).
    """
    m = np.asarray(rotation, np.float64)
    squares = 1.0 + np.array([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [1, 1, 1]]) @ np.diag(m)  # 4 x^2, 4 y^2, 4 z^2, 4 w^2
    products = np.array(
        [
            [squares[0], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[2, 1] - m[1, 2]],
            [m[0, 1] + m[1, 0], squares[1], m[1, 2] + m[2, 1], m[0, 2] - m[2, 0]],
            [m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[2], m[1, 0] - m[0, 1]],
            [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], squares[3]],
        ]
    )
    found = products[int(squares.argmax())]
    found = found / np.linalg.norm(found) * (1.0 if found[3] >= 0 else -1.0)
    x, y, z, w = (float(value) for value in found)
    return x, y, z, w
