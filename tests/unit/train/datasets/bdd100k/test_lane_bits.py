"""Lane masks of BDD100K: every byte by hand, and there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from mtl.datasets.bdd100k.lane_bits import (
    BACKGROUND,
    CATEGORIES,
    DIRECTIONS,
    LANE_CLASSES,
    NO_MARK,
    STYLES,
    LaneMarks,
    decode,
    encode,
    lane_byte,
    lane_class,
    lane_classes,
)

BYTES = [lane_byte(one, style=style, direction=way) for one in CATEGORIES for style in STYLES for way in DIRECTIONS]
SHAPES = array_shapes(min_dims=2, max_dims=2, max_side=8)


def test_bytes_are_as_the_documentation_of_the_data_has_them() -> None:
    assert lane_byte("crosswalk") == 0b000000
    assert lane_byte("double yellow") == 0b000011
    assert lane_byte("road curb", direction="vertical") == 0b100100
    assert lane_byte("single white", style="dashed") == 0b010110
    assert lane_byte("single yellow", style="dashed", direction="vertical") == 0b110111
    assert len(set(BYTES)) == 32
    assert max(BYTES) < 64


def test_marks_are_told_apart_from_background() -> None:
    stored = np.array([[0, 4, 22, 255], [8, 39, 15, 63]], np.uint8)
    marks = decode(stored)
    assert marks.categories.tolist() == [[0, 4, 6, NO_MARK], [NO_MARK, 7, NO_MARK, NO_MARK]]
    assert marks.dashed.tolist() == [[False, False, True, False], [False, False, False, False]]
    assert marks.vertical.tolist() == [[False, False, False, False], [False, True, False, False]]
    assert [[LANE_CLASSES[one] for one in line] for line in lane_classes(stored)] == [
        ["crosswalk", "curb", "line", "background"],
        ["background", "line", "background", "background"],
    ]


def test_every_category_has_its_class() -> None:
    names = {one: LANE_CLASSES[lane_class(one)] for one in CATEGORIES}
    assert names.pop("crosswalk") == "crosswalk"
    assert names.pop("road curb") == "curb"
    assert set(names.values()) == {"line"}


@given(arrays(np.uint8, SHAPES, elements=st.sampled_from([*BYTES, BACKGROUND])))
def test_bytes_come_back(stored: np.ndarray) -> None:
    np.testing.assert_array_equal(encode(decode(stored)), stored)
    np.testing.assert_array_equal(lane_classes(stored) == 0, stored == BACKGROUND)


@given(st.data(), SHAPES)
def test_marks_come_back(data: st.DataObject, shape: tuple[int, ...]) -> None:
    categories = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([*range(len(CATEGORIES)), NO_MARK])))
    dashed, vertical = (data.draw(arrays(np.bool_, shape)) & (categories != NO_MARK) for _ in range(2))
    found = decode(encode(LaneMarks(categories, dashed, vertical)))
    np.testing.assert_array_equal(found.categories, categories)
    np.testing.assert_array_equal(found.dashed, dashed)
    np.testing.assert_array_equal(found.vertical, vertical)


@given(arrays(np.uint8, SHAPES))
def test_any_bytes_are_classes_or_refused_by_name(stored: np.ndarray) -> None:
    strange = (stored & 8 == 0) & (stored >= 64)
    if strange.any():
        with pytest.raises(ValueError, match="which set bits that mean nothing"):
            lane_classes(stored)
        return
    assert lane_classes(stored).max() < len(LANE_CLASSES)


def test_words_and_categories_that_there_are_not_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one of solid, dashed, found 'dotted'"):
        lane_byte("crosswalk", style="dotted")
    with pytest.raises(ValueError, match="found 'kerb'"):
        lane_class("kerb")
    none = np.zeros((1, 1), np.bool_)
    with pytest.raises(ValueError, match="found 8"):
        encode(LaneMarks(np.full((1, 1), 8, np.uint8), none, none))
