"""Which pixels are kept: softmax for labels; for depth and normals agreement, and how sure the label map is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mtl.pseudo_labels.answers import Answer
from mtl.pseudo_labels.trust import RULES, Thresholds, choose_tasks

from edge_mtl.errors import BuildError
from edge_mtl.tasks import NYU_TASKS, DepthMap, LabelMap, NormalMap, TaskSpec

LABELS, DEPTH, NORMALS = (NYU_TASKS[name] for name in ("segmentation", "depth", "normals"))
NAN = float("nan")


def row(*values: float) -> np.ndarray:
    return np.array([values], np.float32)


def tilted(*degrees: float) -> np.ndarray:
    """(1, N, 3) normals that face the camera, turned about the vertical axis."""
    angle = np.radians(np.array([degrees], np.float32))
    return np.stack([np.sin(angle), np.zeros_like(angle), -np.cos(angle)], axis=2)


def truth(spec: TaskSpec, answer: Answer, **changes: float) -> Any:
    return RULES[spec.kind].truth(spec, answer, replace(Thresholds(), **changes))


def test_labels_are_kept_where_their_confidence_reaches_the_threshold() -> None:
    result = LabelMap(LABELS, np.array([[3, 4, 5, 255]], np.uint8), lambda: row(0.89, 0.9, 1.0, 0.0))  # type: ignore[arg-type]
    assert truth(LABELS, Answer({"segmentation": result})).tolist() == [[255, 4, 5, 255]]
    assert truth(LABELS, Answer({"segmentation": result}), confidence=0.95).tolist() == [[255, 255, 5, 255]]


def test_labels_without_a_confidence_are_refused_with_the_engine_to_take() -> None:
    result = LabelMap(LABELS, np.zeros((1, 2), np.uint8))  # type: ignore[arg-type]
    with pytest.raises(BuildError, match="--precision fp32"):
        truth(LABELS, Answer({"segmentation": result}))


def depths(first: np.ndarray, second: np.ndarray, confidence: np.ndarray | None = None) -> Answer:
    return Answer(
        {"depth": DepthMap(DEPTH, first)},  # type: ignore[arg-type]
        {"depth": DepthMap(DEPTH, second)},  # type: ignore[arg-type]
        confidence,
    )


def test_depth_is_the_geometric_mean_where_both_answers_agree() -> None:
    found = truth(DEPTH, depths(row(2.0, 2.0, 2.1, 1.0), row(2.0, 2.1, 2.0, 1.06)))
    np.testing.assert_allclose(found, row(2.0, np.sqrt(4.2), np.sqrt(4.2), 0.0), rtol=1e-6)
    assert truth(DEPTH, depths(row(1.0), row(1.06)), depth_mirror=0.07)[0, 0] > 1


def test_depth_that_is_unknown_or_out_of_range_is_not_kept() -> None:
    far = DEPTH.range_m[1]  # type: ignore[attr-defined]
    assert truth(DEPTH, depths(row(NAN, 2.0, far * 1.01), row(2.0, NAN, far * 1.01))).tolist() == [[0.0, 0.0, 0.0]]


def test_depth_and_normals_need_a_label_map_that_is_sure_where_there_is_one() -> None:
    confidence = row(0.69, 0.7)
    assert truth(DEPTH, depths(row(2, 2), row(2, 2), confidence)).tolist() == [[0.0, 2.0]]
    answer = replace(normals(tilted(0, 0), tilted(0, 0)), confidence=confidence)
    assert truth(NORMALS, answer).any(axis=2).tolist() == [[False, True]]


def normals(first: np.ndarray, second: np.ndarray, consistency: np.ndarray | None = None) -> Answer:
    made = (NormalMap(NORMALS, one.astype(np.float32)) for one in (first, second))
    results, mirrored = ({"normals": one} for one in made)
    return Answer(results, mirrored, None, consistency)


def test_normals_are_the_unit_mean_where_both_answers_agree() -> None:
    found = truth(NORMALS, normals(tilted(0, 0, 20), tilted(8, 11, 20)))
    np.testing.assert_allclose(found[0, 0], tilted(4)[0, 0], atol=1e-6)
    assert found[0, 1].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(found[0, 2], tilted(20)[0, 0], atol=1e-6)
    assert found.dtype == np.float32


def test_normals_have_to_agree_with_the_depth_where_there_is_one() -> None:
    answer = normals(tilted(0, 0, 0), tilted(0, 0, 0), row(44, 46, NAN))
    assert truth(NORMALS, answer).any(axis=2).tolist() == [[True, False, False]]


def test_normals_that_are_unknown_are_not_kept() -> None:
    unknown = np.full((1, 1, 3), NAN, np.float32)
    assert not truth(NORMALS, normals(unknown, tilted(0)), normals_mirror_deg=180.0).any()
    assert not truth(NORMALS, normals(tilted(0), unknown), normals_mirror_deg=180.0).any()


@pytest.mark.parametrize("name", ["confidence", "geometry_confidence", "depth_mirror", "normals_mirror_deg", "consistency_deg"])
@pytest.mark.parametrize("value", [-0.01, NAN, float("inf")])
def test_thresholds_out_of_range_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"^{name} should be 0"):
        replace(Thresholds(), **{name: value})


def test_records_name_the_thresholds_that_decide() -> None:
    facts = {kind: set(rule.facts(Thresholds())) for kind, rule in RULES.items()}
    assert facts["labels"] == {"confidence"}
    assert facts["depth"] == {"depth_mirror", "geometry_confidence"}
    assert facts["normals"] == {"normals_mirror_deg", "consistency_deg", "geometry_confidence"}


def test_tasks_are_those_asked_for_or_all_that_can_be_labelled() -> None:
    specs = {**NYU_TASKS, "edges": TaskSpec("edges", "edges")}
    assert list(choose_tasks(specs, ())) == ["segmentation", "depth", "normals"]
    assert list(choose_tasks(specs, ("depth",))) == ["depth"]
    with pytest.raises(BuildError, match=r"no task 'lane'; it predicts segmentation, depth, normals, edges"):
        choose_tasks(specs, ("lane",))
    with pytest.raises(BuildError, match="edges is of the kind 'edges'"):
        choose_tasks(specs, ("edges",))
    with pytest.raises(BuildError, match="pseudo-labels are made of the kinds labels, depth, normals"):
        choose_tasks({"edges": specs["edges"]}, ())
