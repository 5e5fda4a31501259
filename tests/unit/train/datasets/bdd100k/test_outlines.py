"""Outlines of lines and Bezier curves: points on the curve, pixels inside, and what is no outline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mtl.datasets.bdd100k.outlines import outline_of, paint_area, paint_line, points_of

COORDINATES = st.floats(-50, 150, width=32)


def test_lines_are_joined_as_they_are() -> None:
    vertices = np.array([[0, 0], [4, 0], [4, 3]], float)
    np.testing.assert_array_equal(points_of(vertices, "LLL", closed=True), vertices)


def test_a_curve_ends_at_the_vertex_after_its_two_control_points_of_either_type() -> None:
    vertices = np.array([[0, 0], [0, 8], [8, 8], [8, 0], [9, 0]], float)
    for types in ("LCCLL", "LCCCL"):
        points = points_of(vertices, types, closed=False)
        np.testing.assert_allclose(points[8], [4, 6])  # at a half: (0 + 3 * 0 + 3 * 8 + 8) / 8, (0 + 24 + 24 + 0) / 8
        np.testing.assert_array_equal(points[[0, 16, 17]], [[0, 0], [8, 0], [9, 0]])
        assert len(points) == 18


def test_the_last_curve_of_a_closed_outline_ends_where_it_began() -> None:
    vertices = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], float)
    points = points_of(vertices, "LLCC", closed=True)
    assert len(points) == 2 + 15, "the first point is not repeated"
    with pytest.raises(ValueError, match="no end"):
        points_of(vertices, "LLCC", closed=False)


@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=4, max_size=4))
def test_a_curve_stays_within_its_vertices(vertices: list[tuple[float, float]]) -> None:
    points = points_of(np.array(vertices), "LCCC", closed=False)
    low, high = np.min(vertices, axis=0), np.max(vertices, axis=0)
    assert (points >= low - 1e-9).all()
    assert (points <= high + 1e-9).all()


def test_an_area_by_pixel_edges_covers_its_pixels_and_at_most_their_neighbours() -> None:
    canvas = np.zeros((10, 12), np.uint8)
    paint_area(canvas, np.array([[2, 3], [8, 3], [8, 7], [2, 7]], float), 5)
    assert (canvas[3:7, 2:8] == 5).all()
    canvas[2:8, 1:9] = 0
    assert not canvas.any()


def test_a_circle_has_its_area() -> None:
    angles = np.linspace(0, 2 * math.pi, 100, endpoint=False)
    canvas = np.zeros((200, 200), np.uint8)
    paint_area(canvas, 100 + 80 * np.stack([np.cos(angles), np.sin(angles)], axis=1), 1)
    assert canvas.sum() == pytest.approx(math.pi * 80**2, rel=0.02)


def test_a_line_is_as_wide_as_is_stated() -> None:
    for width in (1, 3, 5):
        canvas = np.zeros((40, 40), np.uint8)
        paint_line(canvas, np.array([[20.5, 5], [20.5, 35]], float), 1, closed=False, width_px=width)
        assert canvas[20].sum() == width
        assert canvas[20, 20] == 1
    paint_line(canvas, np.array([[5, 5], [35, 5], [35, 35]], float), 2, closed=True, width_px=1)
    assert canvas[19, 19] == 2, "a closed line goes back to its start"


def test_outlines_of_both_releases_are_read() -> None:
    listed = [[1, 2, "L"], [3, 4, "C"], [5, 6, "C"], [7, 8.5, "C"]]
    named = {"vertices": [point[:2] for point in listed], "types": "LCCC", "closed": False}
    expected = ([1, 2, 3, 4, 5, 6, 7, 8.5], "LCCC", False)
    assert outline_of(named) == outline_of(listed) == expected
    assert outline_of({**named, "closed": True}, closed=False) == expected
    assert outline_of([[1, 2], [3, 4]], closed=True) == ([1, 2, 3, 4], "LL", True)


@pytest.mark.parametrize(
    ("poly", "words"),
    [
        ("LL", "expected vertices"),
        ({"types": "LL"}, "expected vertices"),
        ([], "two vertices or more"),
        ([1, 2], "two vertices or more"),
        ([[1, 2, "L"]], "two vertices or more"),
        ([[1, "2", "L"], [3, 4, "L"]], "of two numbers"),
        ([[1, 2, "L"], [3, float("nan"), "L"]], "of two numbers"),
        ([[1, 2, "L"], [3, 1e9, "L"]], "1e\\+09 pixels away"),
        ([[1, 2, "L"], [3, 4, "Q"]], "L or C"),
        ({"vertices": [[1, 2], [3, 4]], "types": "LLL"}, "a type for each"),
        ({"vertices": [[1, 2], [3, 4]], "types": 5}, "a type for each"),
        ([[1, 2, "L"], [3, 4, "C"], [5, 6, "C"]], "no end"),
    ],
)
def test_what_is_no_outline_says_so(poly: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        outline_of(poly)
