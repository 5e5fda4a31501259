"""The accuracy check: budgets, losses with error bars, verdicts, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget, judge
from edge_mtl.evaluation.metrics import TaskMetrics
from edge_mtl.evaluation.scores import Score, Scorer, drops, frame_losses
from edge_mtl.tasks import NYU_TASKS
from edge_mtl.tasks.finishing import Answer
from edge_mtl.tasks.label_metric import CalibrationCurve
from tests.bundles import answer_of

SIZE = (24, 32)


def maps(seed: int, *, flip: float = 0.0, scale: float = 1.0, tilt_deg: float = 0.0, **changes: Any) -> Answer:
    """Maps of a frame: classes of which a share `flip` is wrong, depth times `scale`, normals turned by an angle."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 13, SIZE).astype(np.uint8)
    depth = random.uniform(1, 4, SIZE).astype(np.float32)
    wrong = np.random.default_rng(seed + 1000).random(SIZE) < flip
    angle = np.radians(tilt_deg)
    normals = np.broadcast_to(np.array([np.sin(angle), 0, -np.cos(angle)], np.float32), (*SIZE, 3)).copy()
    found = {
        "segmentation": np.where(wrong, (labels + 1) % 13, labels).astype(np.uint8),
        "depth": depth * np.float32(scale),
        "normals": normals,
    }
    bad = changes.pop("bad_values", 0)
    return answer_of({**found, **changes}, bad_values=bad, confidence=lambda: np.full(SIZE, 0.9, np.float32))


def truth(seed: int) -> Mapping[str, np.ndarray]:
    exact: Any = maps(seed)
    return {"segmentation": exact["segmentation"].labels, "depth": exact["depth"].depth_m, "normals": exact["normals"].normals}


def score(frames: int = 8, *, labelled: bool = True, **changes: Any) -> Score:
    """Of a graph that differs from FP32 by `changes`; FP32 itself is wrong in 20 % of the classes, 10 % and 20 degrees."""
    scorer, usual = Scorer(NYU_TASKS), {"flip": 0.2, "scale": 1.1, "tilt_deg": 20}
    for seed in range(frames):
        found, expected = maps(seed, **{**usual, **changes}), maps(seed, **usual)
        scorer.update(f"{seed:03d}", found, truth(seed) if labelled else {}, expected)
    return scorer.score()


class TestBudget:
    def test_what_is_not_named_keeps_its_default(self) -> None:
        assert Budget.parse("miou=0.02, normal=1") == Budget({"miou": 0.02, "normal": 1.0})
        assert DEFAULT_BUDGET.to_dict(NYU_TASKS) == {
            "miou": 0.01,
            "rel": 0.02,
            "normal": 0.5,
            "classes": 0.05,
            "depth": 0.05,
            "angle": 3.0,
        }

    @pytest.mark.parametrize("text", ["", "miou", "miou=", "miou=x", "miou=nan", "miou=-1", "miou=2", "iou=0.1", "rel=1,rel=2"])
    def test_nonsense_is_named(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"should|number"):
            Budget.parse(text)


def test_totals_are_those_of_the_streaming_metrics() -> None:
    found, metrics = score(), TaskMetrics(NYU_TASKS)
    for seed in range(8):
        wrong = maps(seed, flip=0.2, scale=1.1, tilt_deg=20)
        metrics.update(wrong.results, truth(seed))
    assert found.accuracy == pytest.approx(metrics.compute())
    exact = drops(score(flip=0.0, scale=1.0, tilt_deg=0.0), found)
    assert exact["miou"].value == pytest.approx(1 - found.accuracy["miou"])
    assert exact["rel"].value == pytest.approx(0.1, abs=1e-4)
    assert exact["normal"].value == pytest.approx(20, abs=0.01)
    losses = frame_losses(NYU_TASKS, score(flip=0.0, scale=1.0, tilt_deg=0.0).frames[0], found.frames[0])
    assert losses["normal"] == pytest.approx(20, abs=0.01)


def test_a_graph_is_within_budget_of_itself_and_its_interval_is_a_point() -> None:
    verdict = judge(score(), score(), name="same")
    assert verdict.passed
    assert verdict.labelled
    assert {check.name: check.found for check in verdict.checks} == pytest.approx(
        {"miou": 0, "rel": 0, "normal": 0, "classes": 0, "depth": 0, "angle": 0}, abs=1e-6
    )
    assert all(check.low == check.high == 0.0 for check in verdict.checks if check.low is not None)
    verdict.require()


@pytest.mark.parametrize(
    ("change", "head", "budget"),
    [({"flip": 0.23}, "segmentation", "miou"), ({"scale": 1.13}, "depth", "rel"), ({"tilt_deg": 21.0}, "normals", "normal")],
)
def test_each_head_is_held_to_its_own_budget(change: dict[str, float], head: str, budget: str) -> None:
    verdict = judge(score(), score(**change), name="int8 on a runtime")
    assert [(check.head, check.name) for check in verdict.checks if not check.passed] == [(head, budget)]
    with pytest.raises(AccuracyError, match=rf"int8 on a runtime is out of budget\. {head}"):
        verdict.require()
    assert judge(score(), score(**change), name="x", budget=Budget({"miou": 0.2, "rel": 0.05, "normal": 2})).passed


def test_answers_that_stray_far_are_refused_although_the_mean_error_is_the_same() -> None:
    """Tilted 20 degrees to the other side: as wrong as FP32, and 40 degrees from it."""
    verdict = judge(score(), score(tilt_deg=-20.0), name="x")
    assert [check.name for check in verdict.checks if not check.passed] == ["angle"]


def test_without_labels_agreement_decides() -> None:
    reference = score(labelled=False)
    assert reference.accuracy == {}
    verdict = judge(reference, score(labelled=False, scale=1.2), name="x")
    assert not verdict.labelled
    assert [check.name for check in verdict.checks if not check.passed] == ["depth"]
    assert judge(reference, score(labelled=False, scale=1.12), name="x").passed


def test_a_better_graph_passes_with_a_negative_loss() -> None:
    verdict = judge(score(), score(scale=1.08), name="x")
    assert verdict.passed
    assert next(check.found for check in verdict.checks if check.name == "rel") < 0


def test_a_missing_head_values_that_are_not_finite_and_no_frames_are_flaws() -> None:
    nothing = np.full((*SIZE, 3), np.nan, np.float32)
    for change, words in (({"normals": None}, "no usable normals"), ({"normals": nothing}, "no usable normals")):
        assert words in judge(score(), score(**change), name="x").failures[0]
    assert "4 values are not finite" in judge(score(2), score(2, bad_values=2), name="x").failures[0]
    empty = Score({}, {})
    assert "no frames" in judge(empty, empty, name="x").failures[0]


def test_a_loss_that_is_not_a_number_is_out_of_budget() -> None:
    verdict = judge(score(), score(), name="x")
    check = verdict.checks[0]
    assert not type(check)(check.name, check.head, math.nan, 1.0).passed


def test_the_interval_tells_a_close_call() -> None:
    """Frames that differ: half lose two degrees, half none. The mean is at the budget, and that is said."""
    scorer = Scorer(NYU_TASKS)
    for seed in range(8):
        reference = maps(seed, flip=0.2, scale=1.1, tilt_deg=20)
        scorer.update(str(seed), maps(seed, flip=0.2, scale=1.1, tilt_deg=20 + 2 * (seed % 2)), truth(seed), reference)
    verdict = judge(score(), scorer.score(), name="x", budget=Budget({"normal": 1.01}))
    (check,) = (check for check in verdict.checks if check.name == "normal")
    assert check.passed
    assert check.low is not None
    assert check.high is not None
    assert check.low < 0.8 < 1.2 < check.high
    assert "normals" in verdict.close[0]


@settings(max_examples=30, deadline=None)
@given(st.floats(0.05, 0.95), st.integers(0, 1000))
def test_confidence_that_is_right_as_often_as_it_says_has_no_calibration_error(level: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    confidence = random.uniform(0, 1, (200, 200)).astype(np.float32)
    right = random.random((200, 200)) < confidence
    curve = CalibrationCurve()
    target = np.zeros((200, 200), np.uint8)
    curve.add(confidence, np.where(right, 0, 1), target, classes=13)
    error = curve.error()
    assert error is not None
    assert error < 0.03
    boastful = CalibrationCurve()
    boastful.add(np.full((200, 200), level, np.float32), np.ones((200, 200)), target, classes=13)
    assert boastful.error() == pytest.approx(level, abs=1e-5)


def test_void_has_no_part_in_the_calibration_error() -> None:
    curve = CalibrationCurve()
    target = np.full(SIZE, 255, np.uint8)
    curve.add(np.full(SIZE, 0.7, np.float32), np.zeros(SIZE), target, classes=13)
    assert curve.error() is None
