"""When two graphs see the same objects: pairs of boxes, and what rounding may decide."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_mtl.tasks.box_agreement import box_agreement, pairs
from tests.unit.edge_mtl.tasks import box_fixtures as made

SPEC = made.a_spec(score=0.3)
FOUR = [[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]]
REFERENCE = made.boxes(SPEC, FOUR, [0.9, 0.8, 0.7, 0.6], [0, 1, 1, 2])


def test_the_same_boxes_agree_whatever_their_order_and_scores() -> None:
    other = made.boxes(SPEC, FOUR[::-1], [0.9, 0.5, 0.4, 0.31], [2, 1, 1, 0])
    assert box_agreement(other, REFERENCE) == pytest.approx({"box_f1": 1.0, "box_iou": 1.0})


def test_what_one_of_them_lacks_has_in_another_class_or_elsewhere_counts() -> None:
    fewer = made.boxes(SPEC, FOUR[:3], [0.9, 0.8, 0.7], [0, 1, 1])
    assert box_agreement(fewer, REFERENCE)["box_f1"] == pytest.approx(6 / 7)
    assert box_agreement(REFERENCE, fewer)["box_f1"] == pytest.approx(6 / 7)
    renamed = made.boxes(SPEC, FOUR, [0.9, 0.8, 0.7, 0.6], [0, 1, 1, 0])
    assert box_agreement(renamed, REFERENCE)["box_f1"] == pytest.approx(6 / 8)
    moved = made.boxes(SPEC, [*FOUR[:3], [64, 0, 74, 10]], [0.9, 0.8, 0.7, 0.6], [0, 1, 1, 2])
    assert box_agreement(moved, REFERENCE)["box_f1"] == pytest.approx(6 / 8), "3/7 is less than half"


def test_the_overlap_is_that_of_pairs() -> None:
    moved = made.boxes(SPEC, [[0, 0, 10, 8], *FOUR[1:]], [0.9, 0.8, 0.7, 0.6], [0, 1, 1, 2])
    assert box_agreement(moved, REFERENCE) == pytest.approx({"box_f1": 1.0, "box_iou": (0.8 + 3) / 4})


def test_a_box_has_one_partner_the_nearest() -> None:
    doubled = made.boxes(SPEC, [[0, 0, 10, 8], [0, 0, 10, 10]], [0.9, 0.8], [0, 0])
    first, second = pairs(doubled, made.boxes(SPEC, [0, 0, 10, 10], [0.9], [0]))
    assert (first.tolist(), second.tolist()) == ([1], [0])


def test_boxes_at_the_threshold_do_not_count_but_those_well_above_do() -> None:
    at = made.boxes(SPEC, [*FOUR, [80, 0, 90, 10]], [0.9, 0.8, 0.7, 0.6, 0.34], [0, 1, 1, 2, 0])
    assert box_agreement(at, REFERENCE)["box_f1"] == 1.0
    above = made.boxes(SPEC, [*FOUR, [80, 0, 90, 10]], [0.9, 0.8, 0.7, 0.6, 0.36], [0, 1, 1, 2, 0])
    assert box_agreement(above, REFERENCE)["box_f1"] == pytest.approx(8 / 9)


@pytest.mark.parametrize("least", [0.9, 0.95, 0.97, 0.999])
def test_at_every_threshold_an_engine_that_finds_nothing_agrees_with_nothing(least: float) -> None:
    spec = made.a_spec(score=least)
    sure = [1 - (1 - least) * share for share in (0.1, 0.2, 0.3, 0.4)]
    assert box_agreement(made.boxes(spec, [], [], []), made.boxes(spec, FOUR, sure, [0, 1, 1, 2])) == {"box_f1": 0.0}
    barely = [1 - (1 - least) * 0.99] * 4
    assert box_agreement(made.boxes(spec, [], [], []), made.boxes(spec, FOUR, barely, [0, 1, 1, 2])) == {"box_f1": 1.0}


@pytest.mark.parametrize("most", [0.01, 0.05, 0.1])
def test_boxes_that_do_not_overlap_count_whatever_suppression_removes(most: float) -> None:
    spec = replace(made.a_spec(), nms_iou=most)
    found = made.boxes(spec, FOUR, [0.9, 0.8, 0.7, 0.6], [0, 0, 0, 0])
    assert box_agreement(made.boxes(spec, [], [], []), found) == {"box_f1": 0.0}
    assert box_agreement(made.boxes(spec, FOUR[:1], [0.9], [0]), found)["box_f1"] == pytest.approx(2 / 5)


def test_a_box_that_suppression_nearly_removed_does_not_count() -> None:
    for more, expected in ((9.0, 8 / 9), (7.0, 1.0)):  # it overlaps the first box by 10 / 19 and by 10 / 17; 0.6 removes it
        beside = made.boxes(SPEC, [*FOUR, [0, 0, 10, 10 + more]], [0.9, 0.8, 0.7, 0.6, 0.5], [0, 1, 1, 2, 0])
        assert box_agreement(beside, REFERENCE)["box_f1"] == pytest.approx(expected)


def test_nothing_seen_by_both_is_agreement_and_by_one_is_none() -> None:
    nothing = made.boxes(SPEC, [], [], [])
    assert box_agreement(nothing, nothing) == {"box_f1": 1.0}
    assert box_agreement(nothing, REFERENCE) == {"box_f1": 0.0}
    assert box_agreement(REFERENCE, nothing) == {"box_f1": 0.0}
