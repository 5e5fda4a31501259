"""Noise where it counts: scores of boxes far below those shown change nothing, those shown do; a class counts in each frame."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.evaluation.sensitivity.score import ReferenceEvaluator
from edge_mtl.tasks import BoxesSpec
from tests.bundles import reference
from tests.mapless_bundles import mapless_bundle

Array = np.ndarray


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path: Path = tmp_path_factory.mktemp("noise") / "bundle"
    return mapless_bundle(path, evaluation=1, calibration=1, golden=1)


def test_only_noise_that_can_change_a_result_counts(bundle: Bundle) -> None:
    (item,) = evaluation_frames(bundle)
    model = bundle.read(OPTIMIZED_ONNX)
    exact = reference(model, item.frame)
    evaluator = ReferenceEvaluator(bundle, [item], lambda planes: exact)
    spec = bundle.manifest.tasks["objects"]
    assert isinstance(spec, BoxesSpec)
    shown = np.log(spec.score / (1 - spec.score))

    def noisy(change: Mapping[str, Array]) -> Mapping[str, float]:
        return evaluator.measure(lambda number: {name: value + change.get(name, 0.0) for name, value in exact.items()}).sqnr_db

    scores = exact["objects_scores_8"]
    assert (scores > shown).any()
    background = np.where(scores < shown - 4.5, -0.25, 0.0).astype(np.float32)
    assert background.any()
    assert noisy({"objects_scores_8": background})["objects"] == noisy({})["objects"] == 150.0
    assert noisy({"objects_scores_8": np.where(scores > shown, 0.25, 0.0)})["objects"] < 40.0
    hidden = np.where(scores.max(axis=1, keepdims=True) < shown, 0.25, 0.0)
    assert noisy({"objects_boxes_8": np.repeat(hidden, 4, axis=1)})["objects"] == 150.0

    logits = exact["scene_logits"]
    assert 5.0 < noisy({"scene_logits": np.linspace(-0.5, 0.5, logits.size, dtype=np.float32)[None]})["scene"] < 40.0
