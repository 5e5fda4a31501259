"""Metrics: by hand on tiny maps, and equal to torchmetrics where it has them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl.evaluation.metrics import TaskMetrics, agreement
from edge_mtl.tasks import NYU_TASKS, measure_names
from edge_mtl.tasks.depth import DepthMetric
from edge_mtl.tasks.label_metric import LabelMetric
from edge_mtl.tasks.normals import NormalMetric, angles_deg
from tests.bundles import answer_of


def random_maps(seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    truth = random.integers(0, 11, (3, 20, 30))  # classes 11 and 12 never occur in the truth
    guess = np.where(random.random(truth.shape) < 0.6, truth, random.integers(0, 12, truth.shape))
    truth[:, :3] = 255
    depth = random.uniform(0.5, 8, truth.shape)
    depth[:, :, :2] = 0
    normals = random.normal(size=(*truth.shape, 3))
    return (
        guess,
        truth,
        depth * random.uniform(0.7, 1.4, depth.shape),
        depth,
        random.normal(0, 0.5, normals.shape) + normals,
        normals,
    )


def test_segmentation_by_hand():
    metrics = LabelMetric(classes=3)
    metrics.add(np.array([[0, 0, 1, 1]]), np.array([[0, 1, 1, 255]]))
    assert metrics.compute() == pytest.approx({"miou": (1 / 2 + 1 / 2) / 2, "pixel_accuracy": 2 / 3})
    assert np.isnan(metrics.class_iou()[2]), "an absent class has no IoU"
    assert metrics.confusion.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]


def test_a_void_prediction_counts_as_wrong():
    metrics = LabelMetric(classes=2)
    metrics.add(np.array([0, 255]), np.array([0, 0]))
    assert metrics.compute() == {"miou": 0.5, "pixel_accuracy": 0.5}


def test_minus_one_is_void_too():
    metrics = LabelMetric(classes=2)
    metrics.add(np.array([0, 1]), np.array([0, -1]))
    assert metrics.compute()["pixel_accuracy"] == 1.0


def test_depth_by_hand():
    metrics = DepthMetric()
    metrics.add(np.array([1.0, 3.0, 5.0, np.nan]), np.array([1.0, 2.0, 0.0, 1.0]))
    assert metrics.compute() == pytest.approx(
        {"depth_abs_m": 0.5, "depth_rel": 0.25, "depth_rmse_m": np.sqrt(0.5), "depth_delta1": 0.5}
    )
    assert metrics.missing == 1


def test_depth_means_are_global_not_per_frame():
    metrics = DepthMetric()
    metrics.add(np.array([2.0]), np.array([1.0]))
    metrics.add(np.ones(3), np.ones(3))
    assert metrics.compute()["depth_abs_m"] == 0.25


def test_normals_by_hand():
    angles = np.radians([0.0, 10.0, 20.0, 100.0])
    metrics = NormalMetric()
    predicted = np.stack([np.sin(angles), 0 * angles, -np.cos(angles)], axis=1)
    metrics.add(predicted * 3, np.tile([0.0, 0.0, -0.5], (4, 1)))
    result = metrics.compute()
    assert result["normal_mean_deg"] == pytest.approx(32.5)
    assert result["normal_median_deg"] == pytest.approx(15.0, abs=0.01)
    assert [result[f"normal_within_{limit}"] for limit in ("11_25", "22_5", "30")] == [0.5, 0.75, 0.75]


def test_missing_normals_are_counted_and_left_out():
    metrics = NormalMetric()
    metrics.add(np.array([[0.0, 0, 0], [np.nan, 0, 1], [0, 0, 1]]), np.array([[0.0, 0, 1]] * 3))
    assert metrics.missing == 2
    assert metrics.compute()["normal_mean_deg"] == 0.0


@given(st.integers(0, 10_000), st.integers(1, 400))
@settings(max_examples=30, deadline=None)
def test_the_median_is_that_of_numpy_within_a_bin(seed: int, count: int):
    random = np.random.default_rng(seed)
    predicted, target = random.normal(size=(2, count, 3))
    metrics = NormalMetric()
    metrics.add(predicted, target)
    exact = angles_deg(predicted, target)
    assert metrics.compute()["normal_median_deg"] == pytest.approx(np.median(exact), abs=0.006)
    assert metrics.compute()["normal_mean_deg"] == pytest.approx(exact.mean())


def test_angles_are_exact_where_the_arc_cosine_is_not():
    tiny = 1e-7
    assert angles_deg(np.array([1.0, tiny, 0]), np.array([1.0, 0, 0])) == pytest.approx(np.degrees(tiny), rel=1e-6)
    assert angles_deg(np.array([0, 0, 2.0]), np.array([0, 0, -1.0])) == 180.0


@pytest.mark.parametrize("metrics", [LabelMetric(classes=13), DepthMetric(), NormalMetric()])
def test_without_a_valid_pixel_everything_is_nan(metrics):
    assert all(np.isnan(value) for value in metrics.compute().values())


@pytest.mark.parametrize("metrics", [LabelMetric(classes=13), DepthMetric(), NormalMetric()])
def test_shapes_must_agree(metrics):
    with pytest.raises(ValueError, match="one shape"):
        metrics.add(np.zeros((4, 3)), np.zeros((3, 4)))


def test_parts_add_up_to_the_whole():
    guess, truth, depth_guess, depth, normal_guess, normals = random_maps()
    whole, parts = TaskMetrics(NYU_TASKS), TaskMetrics(NYU_TASKS)
    whole.update(
        answer_of({"segmentation": guess, "depth": depth_guess, "normals": normal_guess}).results,
        {"segmentation": truth, "depth": depth, "normals": normals},
    )
    for index in range(len(guess)):
        parts.update(
            answer_of({"segmentation": guess[index], "depth": depth_guess[index], "normals": normal_guess[index]}).results,
            {"segmentation": truth[index], "depth": depth[index], "normals": normals[index]},
        )
    assert parts.compute() == pytest.approx(whole.compute())
    assert set(whole.compute()) == set(measure_names(NYU_TASKS))


def test_only_the_tasks_that_are_there_are_scored():
    metrics = TaskMetrics({"depth": NYU_TASKS["depth"]})
    metrics.update(answer_of({"depth": np.ones(2)}).results, {"segmentation": np.ones(2), "depth": np.ones(2)})
    assert set(metrics.compute()) == {"depth_abs_m", "depth_rel", "depth_rmse_m", "depth_delta1"}


def test_valid_masks_restrict():
    depth, normals = DepthMetric(), NormalMetric()
    depth.add(np.array([1.0, 9.0]), np.array([1.0, 1.0]), np.array([True, False]))
    normals.add(np.eye(3)[:2], np.eye(3)[[0, 0]], np.array([True, False]))
    assert depth.compute()["depth_abs_m"] == 0
    assert normals.compute()["normal_mean_deg"] == 0


def test_equal_to_torchmetrics():
    torch = pytest.importorskip("torch")
    from mtl.models.torchvision_ops import make_timm_importable

    make_timm_importable()  # torchmetrics imports torchvision, too
    classification = pytest.importorskip("torchmetrics.classification")
    regression = pytest.importorskip("torchmetrics.regression")
    guess, truth, depth_guess, depth, *_ = random_maps()
    ours = TaskMetrics({name: NYU_TASKS[name] for name in ("segmentation", "depth")})
    ours.update(answer_of({"segmentation": guess, "depth": depth_guess}).results, {"segmentation": truth, "depth": depth})
    result = ours.compute()

    labels = torch.tensor(guess), torch.tensor(np.where(truth == 255, -1, truth))
    iou = classification.MulticlassJaccardIndex(13, average="macro", ignore_index=-1)
    accuracy = classification.MulticlassAccuracy(13, average="micro", ignore_index=-1)
    valid = depth > 0
    metres = torch.tensor(depth_guess[valid]), torch.tensor(depth[valid])
    assert result["miou"] == pytest.approx(float(iou(*labels)), abs=1e-6)
    assert result["pixel_accuracy"] == pytest.approx(float(accuracy(*labels)), abs=1e-6)
    assert result["depth_abs_m"] == pytest.approx(float(regression.MeanAbsoluteError()(*metres)), rel=1e-5)
    assert result["depth_rel"] == pytest.approx(float(regression.MeanAbsolutePercentageError()(*metres)), rel=1e-5)
    assert result["depth_rmse_m"] == pytest.approx(float(regression.MeanSquaredError(squared=False)(*metres)), rel=1e-5)


def test_agreement_of_predictions():
    ones = np.array([[0.0, 0.0, -1.0]])
    first = answer_of({"segmentation": np.array([1, 2]), "depth": np.array([1.1, np.nan]), "normals": ones}).results
    second = answer_of({"segmentation": np.array([1, 3]), "depth": np.array([1.0, 1.0]), "normals": ones}).results
    assert agreement(NYU_TASKS, first, second) == pytest.approx(
        {"argmax_agreement": 0.5, "depth_relative_difference": 0.1, "normal_angle_deg": 0.0}
    )
    assert agreement(NYU_TASKS, first, first)["argmax_agreement"] == 1.0
    assert agreement(NYU_TASKS, first, answer_of({"normals": ones}).results) == {"normal_angle_deg": 0.0}
