"""The answer to the mirrored image is turned back: on a network that reads its answer off the image it is the same one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from mtl.pseudo_labels.answers import answer_of

from edge_mtl.engine import Engine
from edge_mtl.image.frames import Intrinsics
from tests.bundles import HEIGHT, WIDTH, canonical_intrinsics, paint
from tests.pseudo_folders import painted_bundle

ALL, GEOMETRY = ("segmentation", "depth", "normals"), ("depth", "normals")


def slope(degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """A wall that recedes to the right: depth and normals of a plane at 2 m, as the canonical camera sees it."""
    fx, _, cx, _ = canonical_intrinsics()
    x = (np.arange(WIDTH) - cx) / fx
    normal = np.array([np.sin(np.radians(degrees)), 0.0, -np.cos(np.radians(degrees))], np.float32)
    depth = (2.0 * normal[2] / (normal[0] * x + normal[2])).astype(np.float32)
    return np.tile(depth, (HEIGHT, 1)), np.tile(normal, (HEIGHT, WIDTH, 1))


def test_the_answer_to_the_mirrored_image_is_turned_back(tmp_path: Path) -> None:
    depth, normals = slope(-25.0)
    image = paint(depth, normals)
    # a network that reads colours sees the same slope in the mirrored image: its normals are not mirrored with it
    with Engine(painted_bundle(tmp_path / "bundle"), self_test="off", backend="onnxruntime", precision="fp32") as engine:
        answer = answer_of(engine, image, Intrinsics(*canonical_intrinsics()), tasks=ALL, mirrored=GEOMETRY)
        flat = answer_of(
            engine, paint(depth, np.tile(np.float32([0, 0, -1]), (HEIGHT, WIDTH, 1))), None, tasks=ALL, mirrored=GEOMETRY
        )
        depth_only = answer_of(engine, image, None, tasks=["depth"], mirrored=["depth"])
        single = answer_of(engine, image, None, tasks=["segmentation"], mirrored=[])
    there, back = answer.results, answer.mirrored
    np.testing.assert_allclose(back["depth"].depth_m, there["depth"].depth_m, rtol=1e-5)  # type: ignore[attr-defined]
    assert set(back) == {"depth", "normals"}
    np.testing.assert_allclose(
        back["normals"].normals,  # type: ignore[attr-defined]
        there["normals"].normals * np.float32([-1, 1, 1]),  # type: ignore[attr-defined]
        atol=1e-5,
    )
    np.testing.assert_allclose(flat.mirrored["normals"].normals, flat.results["normals"].normals, atol=0.02)  # type: ignore[attr-defined]
    assert answer.confidence is not None
    assert answer.confidence.shape == (HEIGHT, WIDTH)
    assert answer.consistency is not None
    assert (set(depth_only.mirrored), depth_only.consistency) == ({"depth"}, None)
    assert (set(single.results), single.mirrored, single.confidence) == ({"segmentation"}, {}, None)


@pytest.mark.parametrize("cx", [20.0, 70.0])
def test_a_camera_that_is_off_centre_is_mirrored_with_the_image(tmp_path: Path, cx: float) -> None:
    """A wall to the right in the mirrored world is one to the left in this one, whatever the camera does to normals."""
    fx, fy, _, cy = canonical_intrinsics()
    camera = Intrinsics(fx, fy, cx, cy)
    depth, normals = slope(25.0)
    with Engine(painted_bundle(tmp_path / "bundle"), self_test="off", backend="onnxruntime", precision="fp32") as engine:
        mirrored = answer_of(engine, paint(depth, normals), camera, tasks=ALL, mirrored=GEOMETRY).mirrored
        plain = answer_of(
            engine, paint(depth, normals * np.float32([-1, 1, 1])), camera, tasks=["normals"], mirrored=[]
        ).results
    np.testing.assert_allclose(
        mirrored["normals"].normals,  # type: ignore[attr-defined]
        plain["normals"].normals,  # type: ignore[attr-defined]
        atol=0.01,
    )
