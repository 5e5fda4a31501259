"""Suppression keeps what a plain loop over boxes keeps, with OpenCV's and without."""

from __future__ import annotations

import numpy as np
import pytest

from edge_mtl.tasks import box_suppression
from edge_mtl.tasks.box_overlap import overlaps
from edge_mtl.tasks.box_suppression import suppressed

Array = np.ndarray


def plain(boxes: Array, classes: Array, overlap: float) -> list[int]:
    """Box by box, as it is told in words."""
    kept: list[int] = []
    for index, (left, top, right, bottom) in enumerate(boxes.astype(float).tolist()):
        free = True
        for other in kept:
            a, b, c, d = boxes[other].astype(float).tolist()
            common = max(min(right, c) - max(left, a), 0) * max(min(bottom, d) - max(top, b), 0)
            union = (right - left) * (bottom - top) + (c - a) * (d - b) - common
            free &= classes[other] != classes[index] or common <= overlap * union
        if free:
            kept.append(index)
    return kept


def random_boxes(seed: int, count: int) -> tuple[Array, Array, Array]:
    random = np.random.default_rng(seed)
    corner = random.uniform(-100, 200, (count, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 120, (count, 2))], axis=1).astype(np.float32)
    scores = np.sort(random.random(count).astype(np.float32) + 0.01)[::-1]
    return boxes, scores, random.integers(0, 4, count)


@pytest.mark.parametrize("with_opencv", [True, False])
@pytest.mark.parametrize(("count", "overlap"), [(1, 0.6), (2, 0.1), (45, 0.6), (45, 0.3), (120, 0.6)])
def test_what_stays_is_what_a_plain_loop_keeps(
    count: int, overlap: float, with_opencv: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_opencv:
        monkeypatch.setattr(box_suppression.cv2, "dnn", object())
    for seed in range(4):
        boxes, scores, classes = random_boxes(seed, count)
        expected = plain(boxes, classes, overlap)
        for most in (1, 10, 100):
            assert suppressed(boxes, scores, classes, overlap=overlap, most=most).tolist() == expected[:most]


@pytest.mark.parametrize("with_opencv", [True, False])
def test_equal_scores_and_boxes_that_are_left_of_the_image(with_opencv: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not with_opencv:
        monkeypatch.setattr(box_suppression.cv2, "dnn", object())
    boxes = np.array([[-90, -90, -50, -50], [-88, -90, -48, -50], [-90, -90, -50, -50], [-0.5, -0.5, 9.5, 9.5]], np.float32)
    kept = suppressed(boxes, np.full(4, 0.5, np.float32), np.array([0, 0, 1, 1]), overlap=0.6, most=100)
    assert kept.tolist() == [0, 2, 3]
    assert suppressed(boxes[:0], np.zeros(0, np.float32), np.zeros(0, int), overlap=0.6, most=100).shape == (0,)


def test_overlaps_of_boxes() -> None:
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [4, 0, 6, 2], [5, 5, 5, 9]], float)
    found = overlaps(boxes, boxes)
    assert found[0].tolist() == pytest.approx([1, 1 / 7, 0, 0])
    assert found[3].tolist() == [0, 0, 0, 0], "a box without an area overlaps nothing, nor itself"
