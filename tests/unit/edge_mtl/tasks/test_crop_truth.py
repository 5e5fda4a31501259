"""Truths of a part of a frame: maps are cut, boxes move and are cut, what is said of the whole frame stays."""

from __future__ import annotations

import numpy as np

from edge_mtl.tasks import NYU_TASKS, BoxTruth, kind_of
from tests.mapless_bundles import mapless_specs

PART = slice(10, 40), slice(20, 80)


def test_a_map_is_the_part_of_it() -> None:
    labels = np.arange(64 * 96, dtype=np.uint32).reshape(64, 96).astype(np.uint8)
    for spec in NYU_TASKS.values():
        np.testing.assert_array_equal(kind_of(spec).crop_truth(spec, labels, PART), labels[10:40, 20:80])


def test_boxes_are_counted_from_the_corner_of_the_part_and_cut_at_its_edges() -> None:
    spec = mapless_specs()["objects"]
    edges = np.array([[30, 15, 40, 25], [-0.5, -0.5, 25, 20], [0, 0, 19.5, 63], [70, 30, 95.5, 63.5]], np.float32)
    truth = BoxTruth(edges, np.arange(4), np.array([False, True, False, False]))
    found = kind_of(spec).crop_truth(spec, truth, PART)
    assert found.xyxy.tolist() == [[10, 5, 20, 15], [-0.5, -0.5, 5, 10], [50, 20, 59.5, 29.5]]
    assert found.classes.tolist() == [0, 1, 3]
    assert found.crowd.tolist() == [False, True, False]


def test_the_class_of_a_frame_is_that_of_its_part() -> None:
    spec = mapless_specs()["scene"]
    assert kind_of(spec).crop_truth(spec, 3, PART) == 3
