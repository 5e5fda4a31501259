"""Quaternions of rotations, and names of frames."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl.ros.transforms import FixedFrames, ground_frame_of, level_frame_of, quaternion_of
from edge_mtl.ros.transforms import rotation_of as rotation_of_quaternion
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


def test_a_ground_frame_is_named_after_its_camera() -> None:
    assert ground_frame_of("camera_color_optical_frame") == "camera_color_ground_frame"


def test_the_rotation_of_a_quaternion_is_that_of_its_definition() -> None:
    random = np.random.default_rng(1)
    for value in random.normal(size=(50, 4)):
        unit = value / np.linalg.norm(value)
        assert np.allclose(rotation_of_quaternion(unit), rotation_of(*unit))
        assert np.allclose(rotation_of_quaternion(0.999 * unit), rotation_of(*unit)), "rounded on its way"
    assert np.isnan(rotation_of_quaternion((0, 0, 0, 0))).all()


def quaternion(axis: tuple[float, float, float], degrees: float) -> tuple[float, ...]:
    half = np.radians(degrees) / 2
    return (*(np.sin(half) * np.array(axis)), float(np.cos(half)))


def test_a_chain_of_transforms_is_their_product_whichever_way_it_is_gone() -> None:
    frames = FixedFrames()
    frames.put("base_footprint", "base_link", (0.0, 0.0, 0.2), (0, 0, 0, 1))
    frames.put("/base_link", "camera_link", (0.5, 0.0, 0.8), quaternion((0, 0, 1), 90))
    frames.put("camera_link", "camera_optical", (0.0, 0.0, 0.0), (-0.5, 0.5, -0.5, 0.5))
    frames.put("base_link", "lidar", (0.1, 0.0, 0.3), (0, 0, 0, 1))
    found = frames.pose("camera_optical", within="base_footprint")
    assert found is not None
    assert np.allclose(found[1], (0.5, 0.0, 1.0))
    assert np.allclose(found[0][:, 2], (0.0, 1.0, 0.0)), "it looks to the left, because its link is turned there"
    assert np.allclose(found[0][:, 1], (0.0, 0.0, -1.0)), "y points down"
    back = frames.pose("base_footprint", within="camera_optical")
    assert back is not None
    assert np.allclose(back[0], found[0].T)
    beside = frames.pose("camera_optical", within="lidar")
    assert beside is not None
    assert np.allclose(beside[1], (0.4, 0.0, 0.5))
    assert frames.pose("camera_optical", within="map") is None
    assert frames.pose("nobody", within="base_link") is None


def test_the_newest_transform_counts_and_one_that_is_none_does_not() -> None:
    frames = FixedFrames()
    frames.put("base", "camera", (1.0, 0.0, 0.0), (0, 0, 0, 1))
    frames.put("base", "camera", (2.0, 0.0, 0.0), (0, 0, 0, 1))
    for translation, turned in (
        ((3.0, 0.0, 0.0), (0, 0, 0, 0)),
        ((float("nan"), 0.0, 0.0), (0, 0, 0, 1)),
        ((1e300, 0.0, 0.0), (0, 0, 0, 1)),
    ):
        frames.put("base", "camera", translation, turned)
    found = frames.pose("camera", within="base")
    assert found is not None
    assert found[1][0] == 2.0


def test_a_circle_of_frames_ends() -> None:
    frames = FixedFrames()
    frames.put("a", "b", (1.0, 0.0, 0.0), (0, 0, 0, 1))
    frames.put("b", "a", (1.0, 0.0, 0.0), (0, 0, 0, 1))
    frames.put("c", "c", (1.0, 0.0, 0.0), (0, 0, 0, 1))
    assert frames.pose("a", within="b") is not None
    assert frames.pose("c", within="a") is None
