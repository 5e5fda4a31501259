"""The study's metrics against a reference that visits one pixel after the other, and against torchmetrics."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.tasks import NYU_TASKS
from edge_mtl.tasks.depth import DepthMetric
from edge_mtl.tasks.label_metric import LabelMetric
from edge_mtl.tasks.normals import NormalMetric
from tests.bundles import answer_of

pytestmark = pytest.mark.training

CLASSES = 13
Maps = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]


@st.composite
def batches(draw: st.DrawFn) -> list[Maps]:
    """A few batches; some classes, all depths or all normals may be absent, predictions may be wrong in every way."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    classes = random.permutation(CLASSES)[: draw(st.integers(1, CLASSES))]
    void, no_depth, no_normals = (draw(st.sampled_from([0.0, 0.3, 1.0])) for _ in range(3))
    result = []
    for _ in range(draw(st.integers(1, 3))):
        shape = (draw(st.integers(1, 2)), draw(st.integers(1, 4)), draw(st.integers(1, 5)))
        label = random.choice(classes, shape)
        guess = np.where(random.random(shape) < 0.5, label, random.choice(classes, shape))
        normals = random.normal(size=(*shape, 3))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        spread = random.choice([1e-6, 0.1, 0.5, 5.0], (*shape, 1))
        truth = {
            "segmentation": np.where(random.random(shape) < void, random.choice([255, -1], shape), label),
            "depth": random.uniform(0.1, 10, shape) * (random.random(shape) >= no_depth),
            "normals": normals * (random.random((*shape, 1)) >= no_normals),
        }
        predicted = {
            "segmentation": guess,
            "depth": truth["depth"] * random.uniform(0.5, 2, shape) - random.choice([0.0, 3.0], shape),
            "normals": (normals + spread * random.normal(size=normals.shape)) * random.uniform(0.1, 9, (*shape, 1)),
        }
        result.append((predicted, truth))
    return result


def slow(found: list[Maps]) -> dict[str, float]:
    """The protocol in plain Python."""
    hits, guessed, present = [0] * CLASSES, [0] * CLASSES, [0] * CLASSES
    errors: list[float] = []
    relative: list[float] = []
    angles: list[float] = []
    for predicted, truth in found:
        for index in np.ndindex(truth["depth"].shape):
            label, guess = int(truth["segmentation"][index]), int(predicted["segmentation"][index])
            if 0 <= label < CLASSES:
                present[label] += 1
                guessed[guess] += 1
                hits[label] += label == guess
            depth = float(truth["depth"][index])
            if depth != 0:
                errors.append(abs(float(predicted["depth"][index]) - depth))
                relative.append(errors[-1] / depth)
            normal = truth["normals"][index].tolist()
            if any(normal):
                angles.append(angle_deg(predicted["normals"][index].tolist(), normal))
    union = [present[c] + guessed[c] - hits[c] for c in range(CLASSES)]
    return {
        "miou": mean([hits[c] / union[c] for c in range(CLASSES) if union[c]]),
        "pixel_accuracy": sum(hits) / sum(present) if sum(present) else math.nan,
        "depth_abs_m": mean(errors),
        "depth_rel": mean(relative),
        "normal_mean_deg": mean(angles),
        "normal_median_deg": statistics.median(angles) if angles else math.nan,
        "normal_within_11_25": mean([float(angle < 11.25) for angle in angles]),
        "normal_within_22_5": mean([float(angle < 22.5) for angle in angles]),
        "normal_within_30": mean([float(angle < 30) for angle in angles]),
    }


def angle_deg(a: list[float], b: list[float]) -> float:
    """From the cross and the inner product: another formula than that of the metrics."""
    cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    return math.degrees(math.atan2(math.hypot(*cross), sum(p * q for p, q in zip(a, b, strict=True))))


def mean(values: list[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def measured(found: list[Maps]) -> dict[str, float]:
    metrics = TaskMetrics(NYU_TASKS)
    for predicted, truth in found:
        metrics.update(answer_of(predicted).results, truth)
    return metrics.compute()


@given(batches())
@settings(max_examples=60, deadline=None)
def test_every_metric_of_the_study_is_that_of_the_slow_reference(found: list[Maps]) -> None:
    result = measured(found)
    for name, expected in slow(found).items():
        assert result[name] == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True), name


@given(batches())
@settings(max_examples=25, deadline=None)
def test_segmentation_and_depth_are_those_of_torchmetrics(found: list[Maps]) -> None:
    from mtl.models.torchvision_ops import make_timm_importable

    make_timm_importable()  # torchmetrics imports torchvision, too
    classification = pytest.importorskip("torchmetrics.classification")
    regression = pytest.importorskip("torchmetrics.regression")
    iou = classification.MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=-1)
    accuracy = classification.MulticlassAccuracy(CLASSES, average="micro", ignore_index=-1)
    absolute, percentage = regression.MeanAbsoluteError(), regression.MeanAbsolutePercentageError()
    labelled = deep = 0
    for predicted, truth in found:
        label = np.where(truth["segmentation"] == 255, -1, truth["segmentation"])
        pair = torch.from_numpy(predicted["segmentation"]), torch.from_numpy(label)
        iou.update(*pair)
        accuracy.update(*pair)
        valid = truth["depth"] > 0
        if valid.any():
            metres = torch.from_numpy(predicted["depth"][valid]), torch.from_numpy(truth["depth"][valid])
            absolute.update(*metres)
            percentage.update(*metres)
        labelled, deep = labelled + int((label >= 0).sum()), deep + int(valid.sum())
    result = measured(found)
    if labelled:  # torchmetrics says 0 where nothing is labelled, we say NaN
        assert result["miou"] == pytest.approx(float(iou.compute()), abs=1e-6)
        assert result["pixel_accuracy"] == pytest.approx(float(accuracy.compute()), abs=1e-6)
    else:
        assert math.isnan(result["miou"])
    if deep:
        assert result["depth_abs_m"] == pytest.approx(float(absolute.compute()), rel=1e-6)
        assert result["depth_rel"] == pytest.approx(float(percentage.compute()), rel=1e-5)


def protocol(found: list[Maps]) -> dict[str, float]:
    """LibMTL's way: a matrix in single precision, means of batches weighted by their pixels, an arc cosine."""
    record = np.zeros((CLASSES, CLASSES), np.int64)
    batches: list[tuple[float, float, int]] = []
    angles: list[np.ndarray] = []
    for predicted, truth in found:
        label, guess = truth["segmentation"].ravel(), predicted["segmentation"].ravel()
        np.add.at(record, (label[label >= 0], guess[label >= 0]), 1)
        mask = torch.from_numpy(truth["depth"]).float() != 0
        p, g = torch.from_numpy(predicted["depth"]).float()[mask], torch.from_numpy(truth["depth"]).float()[mask]
        batches.append((float((p - g).abs().mean()), float(((p - g).abs() / g).mean()), len(p)))
        n, t = torch.from_numpy(predicted["normals"]).float(), torch.from_numpy(truth["normals"]).float()
        cosine = (n / n.norm(dim=-1, keepdim=True) * t).sum(dim=-1)[t.sum(dim=-1) != 0]
        angles.append(np.degrees(torch.acos(cosine.clamp(-1, 1)).numpy()))
    h = torch.from_numpy(record).float()
    sizes, joined = np.array([b[2] for b in batches]), np.concatenate(angles)
    return {
        "miou": float((h.diag() / (h.sum(1) + h.sum(0) - h.diag())).mean()),
        "pixel_accuracy": float(h.diag().sum() / h.sum()),
        "depth_abs_m": float((np.array([b[0] for b in batches]) * sizes).sum() / sizes.sum()),
        "depth_rel": float((np.array([b[1] for b in batches]) * sizes).sum() / sizes.sum()),
        "normal_mean_deg": float(joined.mean()),
        "normal_median_deg": float(np.median(joined)),
        "normal_within_11_25": float((joined < 11.25).mean()),
        "normal_within_22_5": float((joined < 22.5).mean()),
        "normal_within_30": float((joined < 30).mean()),
    }


def large(seed: int) -> Iterator[Maps]:
    random = np.random.default_rng(seed)
    for _ in range(3):
        shape = (2, 24, 32)
        label = random.integers(0, CLASSES, shape)
        normals = random.normal(size=(*shape, 3))
        normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
        depth = random.uniform(0.5, 9, shape) * (random.random(shape) < 0.8)
        truth = {
            "segmentation": np.where(random.random(shape) < 0.2, -1, label),
            "depth": depth,
            "normals": normals * (random.random((*shape, 1)) < 0.8),
        }
        predicted = {
            "segmentation": np.where(random.random(shape) < 0.5, label, random.integers(0, CLASSES, shape)),
            "depth": depth + random.normal(0, 0.5, shape),
            "normals": normals + random.normal(0, 0.3, normals.shape),
        }
        yield predicted, truth


def test_on_data_where_every_class_occurs_they_are_those_of_the_protocol() -> None:
    found = list(large(0))
    expected = protocol(found)
    result = measured(found)
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, rel=1e-5), name


def test_where_a_class_is_absent_the_protocol_has_no_mean_iou_and_we_leave_the_class_out() -> None:
    found = list(large(1))
    for one in (maps for pair in found for maps in pair):
        one["segmentation"] = np.minimum(one["segmentation"], 11)
    assert math.isnan(protocol(found)["miou"])
    assert measured(found)["miou"] == pytest.approx(slow(found)["miou"], rel=1e-9)


def test_a_class_that_is_predicted_but_absent_counts_as_0() -> None:
    metrics = LabelMetric(classes=13)
    metrics.add(np.array([3, 3, 7]), np.array([3, 3, 3]))
    assert metrics.compute()["miou"] == pytest.approx((2 / 3 + 0) / 2)


def test_a_depth_of_0_or_below_is_a_wrong_answer_and_not_a_missing_one() -> None:
    metrics = DepthMetric()
    metrics.add(np.array([-1.0, 0.0, 2.0, np.nan]), np.array([1.0, 1.0, 2.0, 1.0]))
    result = metrics.compute()
    assert result["depth_abs_m"] == pytest.approx((2 + 1 + 0) / 3)
    assert result["depth_delta1"] == pytest.approx(1 / 3)
    assert metrics.missing == 1


@given(st.lists(st.integers(0, 60), min_size=1, max_size=5), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_median_is_exact_however_the_pixels_are_split(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    metrics = NormalMetric()
    angles: list[float] = []
    for size in sizes:
        parts = np.where(random.random(size) < 0.5, random.choice([0.0, 11.25, 180.0], size), random.uniform(0, 180, size))
        radians = np.radians(parts)
        predicted = np.stack([np.sin(radians), np.zeros(size), np.cos(radians)], axis=1)
        metrics.add(predicted, np.tile([0.0, 0.0, 1.0], (size, 1)))
        angles += parts.tolist()
    expected = statistics.median(angles) if angles else math.nan
    assert metrics.compute()["normal_median_deg"] == pytest.approx(expected, abs=1e-6, nan_ok=True)
