"""What tf says of a level frame below a camera, without ROS: its name and its rotation."""

from __future__ import annotations

import numpy as np

__all__ = ["level_frame_of", "quaternion_of"]

Array = np.ndarray


def level_frame_of(frame: str) -> str:
    """The name of the level frame at a camera: of `camera_color_optical_frame` it is `camera_color_level_frame`."""
    return f"{frame.removesuffix('_frame').removesuffix('_optical')}_level_frame"


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
