"""Average precision equals what pycocotools 2.0.11 gives for the same boxes, and draws of frames equal frames drawn."""

from __future__ import annotations

import time

import numpy as np
import pytest

from edge_mtl.tasks.box_metric import BoxMetric, average_precision, resampled
from edge_mtl.tasks.boxes import Boxes, BoxTruth
from tests.unit.edge_mtl.tasks import box_fixtures as made

MEASURES = ("ap", "ap50", "ap75")
PYCOCOTOOLS = {
    0: (0.309368222537, 0.521883726834, 0.304094585283),
    1: (0.339706309917, 0.547353842527, 0.338311331133),
    2: (0.213906485887, 0.387261583301, 0.237623762376),
}
PYCOCOTOOLS_CROWDED = {
    0: (0.316776481723, 0.355412718612, 0.320872734809),
    1: (0.275093461106, 0.314634064331, 0.271538234471),
    2: (0.338402802233, 0.374897680319, 0.348549667347),
}


def measured(frames: list[tuple[Boxes, BoxTruth]]) -> BoxMetric:
    metric = BoxMetric(frames[0][0].spec.classes)
    for found, truth in frames:
        metric.update(found, truth)
    return metric


@pytest.mark.parametrize("seed", PYCOCOTOOLS)
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    found = measured(made.frames(seed)).compute()
    assert tuple(found[name] for name in MEASURES) == pytest.approx(PYCOCOTOOLS[seed], abs=1e-9)


@pytest.mark.parametrize("seed", PYCOCOTOOLS_CROWDED)
def test_crowds_ties_and_more_boxes_than_count_are_as_in_pycocotools(seed: int) -> None:
    frames = made.crowded(seed)
    assert sum(truth.crowd.sum() for _, truth in frames) > 10
    assert max((found.classes == 0).sum() for found, _ in frames) > 100
    found = measured(frames).compute()
    assert tuple(found[name] for name in MEASURES) == pytest.approx(PYCOCOTOOLS_CROWDED[seed], abs=1e-9)


def test_frames_drawn_twice_count_twice() -> None:
    frames = made.frames(3, images=20)
    metric = measured(frames)
    draws = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), 8).astype(float)
    found = resampled(metric.statistics(), draws)
    for number, draw in enumerate(draws.astype(int)):
        again = measured([frame for frame, times in zip(frames, draw, strict=True) for _ in range(times)]).compute()
        assert {name: values[number] for name, values in found.items()} == pytest.approx(again, abs=1e-12)
    assert np.ptp(found["ap"]) > 0.01


def test_frames_drawn_again_with_crowds() -> None:
    frames = made.crowded(0)[:6]
    draws = np.array([[1, 1, 1, 1, 1, 1], [2, 0, 1, 0, 3, 0]], float)
    found = resampled(measured(frames).statistics(), draws)["ap50"]
    chosen = [frames[index] for index in (0, 0, 2, 4, 4, 4)]
    # Equal scores of one frame are in the order of its copies there, and beside one another here.
    assert found == pytest.approx([measured(frames).compute()["ap50"], measured(chosen).compute()["ap50"]], abs=5e-3)


def test_a_thousand_draws_of_120_frames_take_seconds() -> None:
    metric = measured([frame for seed in range(4) for frame in made.crowded(seed)])
    draws = np.random.default_rng(0).multinomial(120, np.full(120, 1 / 120), 1000).astype(float)
    begun_s = time.process_time()
    assert resampled(metric.statistics(), draws)["ap"].std() > 0
    assert time.process_time() - begun_s < 10


def test_a_draw_without_an_object_of_a_class_leaves_it_out() -> None:
    spec = made.a_spec(classes=2)
    right = made.boxes(spec, [0, 0, 10, 10], [0.9], [0]), made.truth([0, 0, 10, 10], [0])
    wrong = made.boxes(spec, [], [], []), made.truth([0, 0, 10, 10], [1])
    metric = measured([right, wrong])
    assert metric.compute()["ap"] == pytest.approx(0.5)
    assert metric.details() == {"class_ap": {"class 0": pytest.approx(1.0), "class 1": 0.0}}
    found = resampled(metric.statistics(), np.array([[1, 0], [0, 1], [0, 0]], float))["ap"]
    assert found == pytest.approx([1.0, 0.0, np.nan], nan_ok=True)


def test_without_frames_or_objects_nothing_is_known() -> None:
    spec = made.a_spec()
    assert all(np.isnan(value) for value in BoxMetric(spec.classes).compute().values())
    stray = measured([(made.boxes(spec, [0, 0, 10, 10], [0.9], [0]), made.truth([], []))])
    assert all(np.isnan(value) for value in stray.compute().values())
    assert stray.details() == {}
    assert average_precision(stray.statistics(), np.ones((2, 1))).shape == (2, 10, 3)


def test_boxes_of_low_scores_are_measured_too() -> None:
    spec = made.a_spec(classes=1)
    more = made.boxes(spec, [[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.05], [0, 0])
    shown = Boxes(spec, more.xyxy[:1], more.scores[:1], more.classes[:1], None, lambda: more)
    truth = made.truth([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0])
    assert measured([(shown, truth)]).compute()["ap"] == pytest.approx(1.0)
    assert measured([(made.boxes(spec, more.xyxy[:1], [0.9], [0]), truth)]).compute()["ap"] == pytest.approx(51 / 101)
