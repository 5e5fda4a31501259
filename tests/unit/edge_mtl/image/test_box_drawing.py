"""Boxes on images: which pixels are coloured, and that any box can be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl.image.box_drawing import draw_boxes

FRAME = np.full((100, 120, 3), 90, np.uint8)
RED = (230, 20, 10)


def coloured(image: np.ndarray) -> np.ndarray:
    return (image == RED).all(axis=2)


def test_the_outline_is_the_outermost_pixels_whose_centres_are_inside() -> None:
    drawn = coloured(draw_boxes(FRAME, np.array([[9.5, 19.5, 49.5, 79.5]], np.float32), [""], [RED]))
    rows, columns = np.nonzero(drawn)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 79, 10, 49)
    assert not drawn[21:79, 11:49].any()
    whole = coloured(draw_boxes(FRAME, np.array([[-0.5, -0.5, 119.5, 99.5]], np.float32), [""], [RED]))
    assert whole[0].all()
    assert whole[-1].all()
    assert whole[:, [0, -1]].all()
    assert (FRAME == 90).all(), "the frame stays as it was"


def test_captions_stand_on_their_colour_above_the_box_and_within_the_image() -> None:
    above = coloured(draw_boxes(FRAME, np.array([[30, 50, 90, 90]], np.float32), ["chair"], [RED]))
    assert above[39:50, 30].all()
    top = coloured(draw_boxes(FRAME, np.array([[30, 2, 90, 90]], np.float32), ["chair"], [RED]))
    assert top[2:12, 31].all()
    right = coloured(draw_boxes(FRAME, np.array([[110, 50, 119, 90]], np.float32), ["chair"], [RED]))
    assert right[40:48, 100].any(), "moved to the left, where there is room"


@pytest.mark.parametrize("box", [[-50, -50, 500, 500], [200, 200, 300, 300], [5, 5, 5.2, 5.2], [-9, -9, -5, -5]])
def test_any_box_can_be_drawn(box: list[float]) -> None:
    assert draw_boxes(FRAME, np.array([box], np.float32), ["椅子 0.5"], [RED]).shape == FRAME.shape


def test_the_first_box_is_on_top_and_a_view_is_no_matter() -> None:
    twice = np.array([[10, 30, 50, 80]] * 2, np.float32)
    drawn = draw_boxes(FRAME[:, ::-1], twice, ["", ""], [RED, (0, 0, 255)])
    assert drawn[50, 10].tolist() == list(RED)
    assert draw_boxes(FRAME, np.zeros((0, 4), np.float32), [], []).tolist() == FRAME.tolist()
