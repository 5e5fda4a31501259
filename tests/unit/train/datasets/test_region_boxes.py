"""A region of a class has one box, whatever its shape; what is too small, or of another class, has none."""

from __future__ import annotations

import numpy as np
import pytest
from mtl.datasets.region_boxes import region_boxes

pytestmark = pytest.mark.training

CLASSES = {3: 0, 7: 1}


def test_every_region_of_a_class_has_the_box_around_it() -> None:
    labels = np.full((12, 16), 255, np.uint8)
    labels[2:6, 1:4] = 3
    labels[4:6, 4:9] = 3  # one region, L-shaped
    labels[7:9, 0:2] = 3
    labels[8:12, 10:16] = 7
    labels[0:3, 10:13] = 5  # no class of boxes
    found = region_boxes(labels, CLASSES, pixels=1, side=1)
    np.testing.assert_array_equal(found.xyxy, [(0.5, 1.5, 8.5, 5.5), (-0.5, 6.5, 1.5, 8.5), (9.5, 7.5, 15.5, 11.5)])
    np.testing.assert_array_equal(found.classes, [0, 0, 1])
    assert [found.xyxy.dtype, found.classes.dtype, found.crowd.any()] == [np.float32, np.int64, False]


def test_pixels_that_touch_at_corners_only_are_two_regions() -> None:
    labels = np.full((8, 8), 255, np.uint8)
    labels[0:4, 0:4] = labels[4:8, 4:8] = 7
    assert len(region_boxes(labels, CLASSES, pixels=1, side=1)) == 2


@pytest.mark.parametrize(("pixels", "side", "kept"), [(12, 3, 2), (13, 3, 1), (12, 3.5, 1), (31, 1, 0)])
def test_regions_have_a_least_area_and_least_sides(pixels: float, side: float, kept: int) -> None:
    labels = np.full((10, 10), 255, np.uint8)
    labels[0:3, 0:4] = 3
    labels[4:9, 0:6] = 7
    assert len(region_boxes(labels, CLASSES, pixels=pixels, side=side)) == kept


def test_labels_without_any_give_no_boxes() -> None:
    found = region_boxes(np.zeros((4, 4), np.uint8), CLASSES, pixels=1, side=1)
    assert [found.xyxy.shape, found.classes.shape, found.crowd.shape] == [(0, 4), (0,), (0,)]
