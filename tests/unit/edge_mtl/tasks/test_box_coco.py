"""The twelve numbers of COCO: those of pycocotools 2.0.11 on made-up frames, and sizes by hand."""

from __future__ import annotations

import json
from typing import cast

import numpy as np
import pytest

from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.tasks import kind_of
from edge_mtl.tasks.box_coco import FullBoxMetric, average_recall
from edge_mtl.tasks.box_metric import BoxMetric, FrameMatches
from edge_mtl.tasks.boxes import Boxes, BoxTruth
from tests.unit.edge_mtl.tasks import box_fixtures as made

NAMES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"),
)
PYCOCOTOOLS = {
    0: (
        *(0.309368222537, 0.521883726834, 0.304094585283, 0.129455445545, 0.231358373933, 0.605308030803),
        *(0.270303030303, 0.426363636364, 0.426363636364, 0.2, 0.340873015873, 0.797222222222),
    ),
    1: (
        *(0.339706309917, 0.547353842527, 0.338311331133, 0.358415841584, 0.343149886417, 0.8),
        *(0.347777777778, 0.554285714286, 0.554285714286, 0.425, 0.554841269841, 0.8),
    ),
    2: (
        *(0.213906485887, 0.387261583301, 0.237623762376, 0.0, 0.244346220336, 0.20198019802),
        *(0.222121212121, 0.372121212121, 0.372121212121, 0.0, 0.42380952381, 0.2),
    ),
}
PYCOCOTOOLS_CROWDED = {
    0: (
        *(0.316776481723, 0.355412718612, 0.320872734809, 0.562288228823, 0.31766890637, 0.646169616962),
        *(0.331696428571, 0.808333333333, 0.966666666667, 1.0, 0.966666666667, 1.0),
    ),
    1: (
        *(0.275093461106, 0.314634064331, 0.271538234471, 0.353008671103, 0.292879695506, 0.311777571685),
        *(0.270953525641, 0.7875, 0.95625, 0.933333333333, 0.95, 1.0),
    ),
    2: (
        *(0.338402802233, 0.374897680319, 0.348549667347, 0.588986788955, 0.364588577953, 0.625196456958),
        *(0.364370629371, 0.765625, 0.940625, 1.0, 0.913636363636, 1.0),
    ),
}


def measured(frames: list[tuple[Boxes, BoxTruth]]) -> FullBoxMetric:
    metric = FullBoxMetric(frames[0][0].spec.classes)
    for found, truth in frames:
        metric.update(found, truth)
    return metric


def numbers(frames: list[tuple[Boxes, BoxTruth]]) -> dict[str, float]:
    return cast(dict[str, float], measured(frames).details()["coco"])


@pytest.mark.parametrize("seed", PYCOCOTOOLS)
def test_all_twelve_are_those_of_pycocotools(seed: int) -> None:
    found = numbers(made.frames(seed))
    assert tuple(found) == NAMES
    assert tuple(found.values()) == pytest.approx(PYCOCOTOOLS[seed], abs=1e-9)


@pytest.mark.parametrize("seed", PYCOCOTOOLS_CROWDED)
def test_so_they_are_with_crowds_ties_and_more_boxes_than_count(seed: int) -> None:
    assert tuple(numbers(made.crowded(seed)).values()) == pytest.approx(PYCOCOTOOLS_CROWDED[seed], abs=1e-9)


def test_a_box_on_an_object_of_another_size_counts_neither_way() -> None:
    spec = made.a_spec(classes=1)
    large, small = [0, 0, 100, 100], [200, 200, 220, 220]
    truth = made.truth([large, small], [0, 0])
    both, stray = made.boxes(spec, [large, small], [0.9, 0.8], [0, 0]), [300, 300, 400, 400]
    assert numbers([(both, truth)])["ap_small"] == numbers([(both, truth)])["ap_large"] == pytest.approx(1.0)
    wrong = made.boxes(spec, [stray, large, small], [0.95, 0.9, 0.8], [0, 0, 0])
    found = numbers([(wrong, truth)])
    assert found["ap_small"] == pytest.approx(1.0), "nor does a stray box of another size"
    assert found["ap_large"] == pytest.approx(0.5)
    twice = made.boxes(spec, [large, [1, 1, 100, 100], small], [0.95, 0.9, 0.8], [0, 0, 0])
    assert numbers([(twice, truth)])["ap_small"] == pytest.approx(1.0)


def test_an_object_that_does_not_count_is_taken_once() -> None:
    """A second box on it is a stray one; of the size that is measured it counts against. So it is in pycocotools.

    The first box is on the object up to an overlap of 0.85, the second up to 0.9.
    """
    spec = made.a_spec(classes=1)
    medium, small = [0, 0, 33, 33], [200, 200, 220, 220]
    truth = made.truth([medium, small], [0, 0])
    twice = made.boxes(spec, [[0, 0, 31, 31], [0, 0, 32, 31], small], [0.95, 0.9, 0.8], [0, 0, 0])
    assert numbers([(twice, truth)])["ap_small"] == pytest.approx(0.9 * 1 / 2 + 0.1 * 1 / 3)
    once = made.boxes(spec, [[0, 0, 31, 31], small], [0.95, 0.8], [0, 0])
    assert numbers([(once, truth)])["ap_small"] == pytest.approx(0.8 * 1 + 0.2 * 1 / 2)


def test_recall_is_of_the_best_boxes_of_each_class_and_frame() -> None:
    spec = made.a_spec(classes=2)
    places = [[50.0 * number, 0, 50.0 * number + 40, 40] for number in range(3)]
    truth = made.truth(places, [0, 0, 1])
    answers = made.boxes(spec, places, [0.5, 0.9, 0.1], [0, 0, 1])
    found = numbers([(answers, truth)])
    assert [found[name] for name in ("ar_1", "ar_10", "ar_100")] == pytest.approx([0.75, 1.0, 1.0])
    swapped = made.boxes(spec, places, [0.5, 0.9, 0.1], [1, 1, 0])
    assert numbers([(swapped, truth)])["ar_100"] == 0.0


def test_what_nothing_is_known_of_is_left_out() -> None:
    spec = made.a_spec(classes=1)
    found = numbers([(made.boxes(spec, [0, 0, 10, 10], [0.9], [0]), made.truth([0, 0, 10, 10], [0]))])
    assert set(NAMES) - set(found) == {"ap_medium", "ap_large", "ar_medium", "ar_large"}
    assert measured([(made.boxes(spec, [0, 0, 10, 10], [0.9], [0]), made.truth([], []))]).details() == {}
    assert np.isnan(average_recall([]))


def test_reports_have_them_and_cards_of_bundles_do_not() -> None:
    spec = made.a_spec()
    assert type(kind_of(spec).metric(spec)) is BoxMetric
    metrics = {full: TaskMetrics({spec.name: spec}, full=full) for full in (False, True)}
    for metric in metrics.values():
        for found, truth in made.frames(0):
            metric.update({spec.name: found}, {spec.name: truth})
    assert set(metrics[False].details()) == {"class_ap"}
    assert set(metrics[True].details()) == {"class_ap", "coco"}
    assert json.loads(json.dumps(metrics[True].details(), allow_nan=False))["coco"]["ap"] == metrics[True].compute()["ap"]
    assert metrics[False].compute() == metrics[True].compute()


def test_frames_of_every_size_are_those_of_the_plain_metric() -> None:
    for found, truth in made.crowded(1):
        one, other = (FrameMatches.of(found, truth, classes=4, **size) for size in ({}, {"size_px": (0.0, np.inf)}))  # type: ignore[arg-type]
        assert np.array_equal(one.hits, other.hits)
        assert np.array_equal(one.ignored, other.ignored)
