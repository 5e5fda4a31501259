"""All that the field reports of depth: by hand on tiny maps, as it is and after median scaling of every frame."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.tasks import NYU_TASKS, DepthMap
from edge_mtl.tasks.depth_metric import DepthMetric, FullDepthMetric


def test_every_measure_by_hand() -> None:
    metric = FullDepthMetric()
    truth = np.array([[2.0, 2.0, 2.0, 2.0, 0.0]])
    metric.add(truth[0] * [1.2, 1.5, 1.9, 2.0, 1.0], truth[0])
    found = metric.details()
    assert metric.compute()["depth_delta1"] == pytest.approx(1 / 4)
    assert found["depth_delta2"] == pytest.approx(2 / 4)  # 1.5 < 1.5625
    assert found["depth_delta3"] == pytest.approx(3 / 4)  # 1.9 < 1.953125 < 2.0
    assert found["depth_log10"] == pytest.approx(np.log10([1.2, 1.5, 1.9, 2.0]).mean())


def test_median_scaling_is_by_frame_and_leaves_only_the_shape() -> None:
    random = np.random.default_rng(0)
    truth = random.uniform(1, 5, (2, 6, 8))
    metric, apart = FullDepthMetric(), FullDepthMetric()
    guess = truth * np.array([0.5, 3.0])[:, None, None]
    metric.add(guess, truth)
    for one, other in zip(guess, truth, strict=True):
        apart.add(one, other)
    assert metric.compute()["depth_rel"] == pytest.approx((0.5 + 2.0) / 2)
    scaled = metric.details()["depth_median_scaled"]
    assert scaled["depth_rel"] == pytest.approx(0, abs=1e-12)
    assert scaled["depth_delta1"] == 1.0
    assert apart.details()["depth_median_scaled"] == pytest.approx(scaled, abs=1e-12)
    assert set(scaled) == {*metric.compute(), "depth_delta2", "depth_delta3", "depth_log10"}


def test_median_scaling_by_hand_counts_valid_pixels_only() -> None:
    metric = FullDepthMetric()
    metric.add(np.array([[1.0, 2.0, 4.0, np.nan, 50.0]]), np.array([[2.0, 4.0, 6.0, 3.0, 0.0]]))
    scaled = metric.details()["depth_median_scaled"]  # medians 2 and 4: answers 2, 4, 8
    assert scaled["depth_abs_m"] == pytest.approx(2 / 3)
    assert scaled["depth_rel"] == pytest.approx((2 / 6) / 3)
    assert scaled["depth_rmse_m"] == pytest.approx(math.sqrt(4 / 3))
    assert metric.missing == 1


def test_answers_that_are_no_distance_are_wrong_and_stay_finite() -> None:
    metric = FullDepthMetric()
    metric.add(np.array([[-1.0, 0.0, -2.0]]), np.ones((1, 3)))
    found = metric.details()
    assert found["depth_log10"] == pytest.approx(3.0)  # counted as a millimetre
    assert found["depth_median_scaled"]["depth_abs_m"] == pytest.approx(metric.compute()["depth_abs_m"]), "not scaled"
    assert found["depth_delta3"] == 0.0


def test_the_measures_that_bundles_keep_are_those_of_before() -> None:
    random = np.random.default_rng(1)
    truth = random.uniform(0, 4, (3, 10, 12))
    guess = truth * random.uniform(0.5, 2, truth.shape)
    plain, full = TaskMetrics(NYU_TASKS), TaskMetrics(NYU_TASKS, full=True)
    for metrics in (plain, full):
        metrics.update({"depth": DepthMap(NYU_TASKS["depth"], guess)}, {"depth": truth})
    np.testing.assert_equal(plain.compute(), full.compute())
    assert plain.details() == {}, "accuracy cards of bundles keep their keys"
    assert set(full.details()) == {"depth_delta2", "depth_delta3", "depth_log10", "depth_median_scaled"}
    assert FullDepthMetric().details() == {}, "nothing was seen"
    assert math.isnan(DepthMetric().compute()["depth_rel"])
