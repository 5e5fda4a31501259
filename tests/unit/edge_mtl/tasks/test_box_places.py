"""Boxes in metres: the median distance inside, seen through the camera, and what is not known."""

from __future__ import annotations

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks.box_places import box_centres, box_sizes

CAMERA = Intrinsics(100.0, 50.0, 31.5, 23.5)


def test_a_box_is_where_its_middle_is_at_the_median_of_its_inner_half() -> None:
    depth = np.full((48, 64), 9.0, np.float32)
    depth[10:31, 40:61] = 2.0
    depth[19, 50] = 50.0
    box = np.array([[39.5, 9.5, 60.5, 30.5]], np.float32)
    np.testing.assert_allclose(box_centres(box, depth, CAMERA), [[(50 - 31.5) / 100 * 2, (20 - 23.5) / 50 * 2, 2.0]], rtol=1e-6)
    np.testing.assert_allclose(box_sizes(box, box_centres(box, depth, CAMERA), CAMERA), [[0.42, 0.84, 0.42]], rtol=1e-6)


def test_what_is_behind_the_edges_of_a_box_does_not_count() -> None:
    depth = np.full((48, 64), 8.0, np.float32)
    depth[16:32, 24:40] = 3.0
    found = box_centres(np.array([[15.5, 7.5, 47.5, 39.5]]), depth, CAMERA)
    assert found[0, 2] == 3.0


def test_unknown_depth_leaves_out_a_pixel_and_a_box_of_it_alone_has_no_place() -> None:
    depth = np.full((48, 64), np.nan, np.float32)
    depth[20, 20] = 4.0
    boxes = np.array([[17.5, 17.5, 22.5, 22.5], [40.5, 20.5, 44.5, 24.5]])
    found = box_centres(boxes, depth, CAMERA)
    assert found[0, 2] == 4.0
    assert np.isnan(found[1]).all()
    assert np.isnan(box_sizes(boxes, found, CAMERA)[1]).all()
    assert box_centres(np.zeros((0, 4)), depth, CAMERA).shape == (0, 3)


def test_a_box_smaller_than_a_pixel_and_one_at_the_edge_have_a_place() -> None:
    depth = np.full((48, 64), 5.0, np.float32)
    boxes = np.array([[20.1, 20.1, 20.2, 20.2], [63.2, 47.2, 63.5, 47.5], [-0.5, -0.5, -0.3, -0.3]])
    assert (box_centres(boxes, depth, CAMERA)[:, 2] == 5.0).all()
