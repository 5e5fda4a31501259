"""AUROC, calibration, mPC and intervals, against brute force, closed forms and what may not change them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mtl.outdoors.statistics import (
    auroc,
    auroc_of_counts,
    calibration_error,
    draws,
    interval,
    mean_under_corruption,
    spearman,
)

from edge_mtl.tasks.label_metric import CalibrationCurve

SCORED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=40)


def by_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    """Every pair of a positive and a negative, counted."""
    ones, zeros = scores[positive], scores[~positive]
    if not ones.size or not zeros.size:
        return float("nan")
    return float(np.mean((ones[:, None] > zeros) + 0.5 * (ones[:, None] == zeros)))


@given(SCORED)
@settings(max_examples=150, deadline=None)
def test_auroc_by_ranks_is_that_of_all_pairs_ties_included(scored):
    scores, positive = np.array([float(one) for one, _ in scored]), np.array([one for _, one in scored])
    np.testing.assert_allclose(auroc(scores, positive), by_pairs(scores, positive), equal_nan=True)
    np.testing.assert_allclose(auroc(np.exp(scores) - 3, positive), auroc(scores, positive), equal_nan=True)
    np.testing.assert_allclose(auroc(-scores, positive), 1 - auroc(scores, positive), equal_nan=True)
    counts = [np.bincount(scores[chosen].astype(int), minlength=7) for chosen in (positive, ~positive)]
    np.testing.assert_allclose(auroc_of_counts(*counts), auroc(scores, positive), equal_nan=True)


def test_auroc_of_perfect_reversed_and_even_scores():
    positive = np.array([False, False, True, True])
    assert auroc(np.array([1, 2, 3, 4]), positive) == 1.0
    assert auroc(np.array([4, 3, 2, 1]), positive) == 0.0
    assert auroc(np.zeros(4), positive) == 0.5
    assert np.isnan(auroc(np.arange(4.0), np.ones(4, bool)))


def test_auroc_of_two_normal_distributions_is_the_closed_form():
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(1, 1, 40_000), rng.normal(0, 1, 40_000)])
    positive = np.arange(80_000) < 40_000
    assert auroc(scores, positive) == pytest.approx(0.760250, abs=0.004)  # Phi(1 / sqrt 2)


def test_counts_of_several_draws_are_taken_one_by_one():
    rng = np.random.default_rng(1)
    ones, zeros = rng.integers(0, 9, (2, 5, 8))
    found = auroc_of_counts(ones, zeros)
    assert found.shape == (5,)
    assert found[2] == auroc_of_counts(ones[2], zeros[2])


def test_calibration_error_of_a_made_up_set_and_of_the_products_own_curve():
    sums = np.array([[4.0, 6.0], [1.0, 5.4], [2.0, 4.8]])  # two bins: 0.25 sure and half right, 0.9 sure and 0.8 right
    assert calibration_error(sums) == pytest.approx((4 * 0.25 + 6 * 0.1) / 10)
    rng = np.random.default_rng(2)
    sure, labels, truth = rng.random((20, 30)), rng.integers(0, 3, (20, 30)), rng.integers(0, 4, (20, 30))
    curve = CalibrationCurve()
    curve.add(sure.astype(np.float32), labels, truth, classes=3)
    assert calibration_error(curve.sums()) == pytest.approx(curve.error())
    assert curve.sums()[0].sum() == (truth < 3).sum()
    assert np.isnan(calibration_error(np.zeros((3, 15))))


def test_calibration_error_of_a_confidence_that_is_what_it_says_is_none():
    sums = np.array([[10.0, 20.0], [3.0, 16.0], [3.0, 16.0]])
    assert calibration_error(sums) == 0


def test_mpc_is_the_mean_of_severities_then_of_kinds():
    values = {("fog", 1): np.array([0.4]), ("fog", 2): np.array([0.2]), ("jpeg", 1): np.array([0.5])}
    assert mean_under_corruption(values) == pytest.approx(0.5 * (0.3 + 0.5))


def test_rpc_of_the_identity_is_one_in_every_draw():
    clean = np.random.default_rng(0).random(101) + 0.1
    mean = mean_under_corruption({(kind, severity): clean for kind in ("fog", "jpeg") for severity in (1, 2, 3)})
    np.testing.assert_allclose(mean / clean, 1.0)


def test_draws_begin_with_all_frames_and_keep_their_number():
    weights = draws(7, count=50)
    assert weights.shape == (51, 7)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 7).all()
    assert np.array_equal(weights, draws(7, count=50))


def test_an_interval_of_a_mean_is_that_of_its_standard_error():
    frames = np.random.default_rng(3).normal(5, 2, 400)
    found = interval(draws(400, count=4000) @ frames / 400)
    assert found.value == pytest.approx(frames.mean())
    margin = 1.96 * frames.std() / 20
    assert found.high - found.value == pytest.approx(margin, rel=0.12)
    assert found.value - found.low == pytest.approx(margin, rel=0.12)
    assert interval(np.array([1.0, np.nan, np.nan])).as_list() == [1.0, None, None]


def test_rank_correlation_knows_order_alone():
    values = np.array([1.0, 5.0, 2.0, 9.0])
    assert spearman(values, values**3) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman(np.array([1.0, 2.0, 2.0, 3.0]), np.array([1.0, 2.0, 2.0, 3.0])) == pytest.approx(1)
    assert np.isnan(spearman(values, np.ones(4)))
