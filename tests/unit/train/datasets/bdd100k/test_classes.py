"""What BDD100K calls things: boxes by the first and the last pixel, names of two releases, lanes and areas."""

from __future__ import annotations

import numpy as np
import pytest
from mtl.datasets.bdd100k.classes import AREAS, BOXES, DRIVABLE, PIXELS, area_class, box_class, lane_mark_class, scalabel_edges
from mtl.datasets.bdd100k.lane_bits import LANE_CLASSES


def test_a_box_holds_its_last_pixel() -> None:
    whole = scalabel_edges(np.array([[0, 0, 639, 383], [5, 5, 5, 5], [1.5, 2.25, 3.0, 4.0]]))
    np.testing.assert_array_equal(whole, [[-0.5, -0.5, 639.5, 383.5], [4.5, 4.5, 5.5, 5.5], [1.0, 1.75, 3.5, 4.5]])
    assert (whole[:, 2] - whole[:, 0]).tolist() == [640, 1, 2.5], "x2 - x1 + 1 pixels wide"


def test_classes_are_in_the_official_order() -> None:
    assert BOXES[:3] + BOXES[-2:] == ("pedestrian", "rider", "car", "traffic light", "traffic sign")
    assert len(BOXES) == 10
    assert (AREAS[PIXELS][0], AREAS[PIXELS][11], AREAS[PIXELS][18], len(AREAS[PIXELS])) == ("road", "person", "bicycle", 19)


@pytest.mark.parametrize(
    ("category", "name", "ignored"),
    [
        ("pedestrian", "pedestrian", False),
        ("person", "pedestrian", False),
        ("bike", "bicycle", False),
        ("motor", "motorcycle", False),
        ("caravan", "car", False),
        ("van", "car", False),
        ("other person", "pedestrian", True),
        ("other vehicle", "car", True),
        ("trailer", "truck", True),
    ],
)
def test_names_of_both_releases_are_known(category: str, name: str, ignored: bool) -> None:
    assert box_class(category) == (BOXES.index(name), ignored)


@pytest.mark.parametrize("category", ["lane", "Car", "", None, 3, ["car"]])
def test_other_categories_are_of_no_box(category: object) -> None:
    assert box_class(category) is None


def test_areas_and_lanes_are_called_differently_in_each_release() -> None:
    for category, attributes, value in (
        ("direct", {}, 0),
        ("alternative", {}, 1),
        ("area/drivable", {}, 0),
        ("area/alternative", {}, 1),
        ("area/unknown", {}, 255),
        ("drivable area", {"areaType": "alternative"}, 1),
        ("drivable area", {}, 255),
        ("background", {}, None),
        ("unknown", {}, None),
        ("car", {}, None),
        (5, {}, None),
    ):
        assert area_class(DRIVABLE, category, attributes) == value, category
    assert area_class(PIXELS, "car", {}) == 13
    assert area_class(PIXELS, "banner", {}) is None
    for category, attributes, name in (
        ("crosswalk", {}, "crosswalk"),
        ("lane/road curb", {}, "curb"),
        ("lane", {"laneType": "double yellow"}, "line"),
        ("lane", {"laneTypes": "crosswalk"}, "crosswalk"),
    ):
        assert lane_mark_class(category, attributes) == LANE_CLASSES.index(name), category
    for category, attributes in (("lane", {}), ("lane", {"laneType": ["a"]}), ("lane/dotted", {}), ("car", {}), (None, {})):
        assert lane_mark_class(category, attributes) is None, category
