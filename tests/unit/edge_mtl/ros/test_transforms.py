"""Quaternions of rotations, and names of frames."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl.ros.transforms import level_frame_of, quaternion_of
from edge_mtl.tasks.floor import FloorPlane
from edge_mtl.tasks.obstacles import level_axes


def rotation_of(x: float, y: float, z: float, w: float) -> np.ndarray:
    """As in the definition of a unit quaternion."""
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def test_a_rotation_survives_its_quaternion() -> None:
    random = np.random.default_rng(0)
    halves = [np.eye(4)[axis] for axis in range(4)]
    for value in [*random.normal(size=(200, 4)), *halves]:
        value = value / np.linalg.norm(value)
        found = quaternion_of(rotation_of(*value))
        assert np.linalg.norm(found) == pytest.approx(1.0)
        assert found[3] >= 0
        assert np.allclose(rotation_of(*found), rotation_of(*value), atol=1e-9)


def test_the_level_frame_of_an_optical_frame_is_the_known_one() -> None:
    assert np.allclose(quaternion_of(level_axes(None).T), (0.5, -0.5, 0.5, 0.5))  # the inverse of REP 103's (-.5, .5, -.5, .5)
    up = FloorPlane.of_mount(height_m=1.0, pitch_deg=30.0)
    assert np.allclose(rotation_of(*quaternion_of(level_axes(up).T))[:, 2], up.up, atol=1e-6)


@pytest.mark.parametrize(
    ("frame", "level"),
    [
        ("camera_color_optical_frame", "camera_color_level_frame"),
        ("camera_frame", "camera_level_frame"),
        ("camera", "camera_level_frame"),
        ("left_camera_optical", "left_camera_level_frame"),
    ],
)
def test_a_level_frame_is_named_after_its_camera(frame: str, level: str) -> None:
    assert level_frame_of(frame) == level
