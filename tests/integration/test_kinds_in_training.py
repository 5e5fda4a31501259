"""Tasks that the study does not have: several of labels in one network, and a kind that is registered from outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mtl.bundling import export_bundle, load_trained
from mtl.checkpoint import load_weights
from mtl.datasets.sources import held_out_frames
from mtl.evaluate import evaluate, judge, model_predictor
from mtl.onnx_predictor import OnnxGraph
from mtl.run import Run
from mtl.settings import RunSettings

from edge_mtl.backends import open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from tests.plugins import edges
from tests.synthetic_data import rectangle_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

SIZE = (64, 96)


def trained(settings: RunSettings) -> Path:
    return Run(settings, console=quiet()).train()


def exported(checkpoint: Path, folder: Path) -> Bundle:
    return export_bundle(checkpoint, folder / "bundle", console=quiet(), command="a test")


def measured(settings: RunSettings) -> dict[str, float]:
    """The validation that the run wrote down."""
    lines = (Path(settings.folder) / settings.name / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "validation"][-1]


def test_two_tasks_of_labels_and_depth_are_trained_exported_and_evaluated(tmp_path: Path) -> None:
    settings = rectangle_settings(tmp_path, ("things", "groups", "depth"), **{"losses.class_weights": "true"})
    checkpoint = trained(settings)
    record = measured(settings)
    assert {"things.miou", "groups.miou", "depth_rel"} <= set(record)
    assert "miou" not in record
    assert set(record["losses"]) == {"things", "groups", "depth"}

    assert load_weights(checkpoint)[1]["tasks"]["groups"]["classes"] == [f"group {number}" for number in range(4)]
    bundle = exported(checkpoint, tmp_path)
    specs = bundle.manifest.tasks
    assert [len(specs[name].classes) for name in ("things", "groups")] == [13, 4]
    assert {"things.miou", "groups.miou", "things.class_iou", "depth_rel"} <= set(bundle.manifest.accuracy["fp32"])
    graph = OnnxGraph(bundle.read(OPTIMIZED_ONNX), specs, threads=1)
    shapes = {name: value.shape for name, value in graph.run(np.zeros((*SIZE, 3), np.uint8)).items()}
    assert shapes == {"things_logits": (1, 13, 16, 24), "groups_logits": (1, 4, 16, 24), "depth_quarter": (1, 1, 16, 24)}

    frames = held_out_frames(settings.data, "test").open()
    model = load_trained(checkpoint).model
    by_torch = evaluate(model_predictor(model), frames, model.specs, size=SIZE)
    by_onnx = evaluate(graph, frames, specs, size=SIZE)
    assert by_onnx == pytest.approx(by_torch, rel=1e-3, abs=1e-3)
    details = ("class_iou", "ece")
    assert set(by_torch) == {key for key in bundle.manifest.accuracy["fp32"] if not key.endswith(details)}

    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1, output_size="network") as engine:
        prediction = engine.predict(frames[0].image, intrinsics=frames[0].intrinsics)
    judged = next(judge(graph, frames, specs, size=SIZE))
    for name in ("things", "groups"):
        assert (prediction[name].labels == judged.predicted[name].labels).mean() > 0.999


def test_one_of_two_tasks_of_labels_has_the_same_names_of_measures_alone(tmp_path: Path) -> None:
    """So that a model for one task is compared with a model for both."""
    tasks = {"model.tasks": "['groups']", "name": "alone"}
    settings = rectangle_settings(tmp_path, ("things", "groups", "depth"), **tasks)
    trained(settings)
    record = measured(settings)
    assert "groups.miou" in record
    assert not {"miou", "things.miou", "depth_rel"} & set(record)


def test_a_kind_from_outside_is_trained_exported_and_evaluated(tmp_path: Path) -> None:
    edges.register()
    changes = {"losses.weights.edges": "2.0", "losses.weighting": "uncertainty"}
    settings = rectangle_settings(tmp_path, ("things", "edges"), **changes)
    checkpoint = trained(settings)
    record = measured(settings)
    assert set(record["losses"]) == {"things", "edges"}
    assert {"miou", "edge_f"} <= set(record)

    bundle = exported(checkpoint, tmp_path)
    specs = bundle.manifest.tasks
    assert specs["edges"] == edges.EdgesSpec("edges", "edges", 0.5)
    assert "edge_f" in bundle.manifest.accuracy["fp32"]
    assert set(open_backend("onnxruntime", bundle.read(REFERENCE_ONNX), threads=1).outputs) == {"things", "edges"}
    truths = [item.targets["edges"] for item in evaluation_frames(bundle)]
    np.testing.assert_array_equal(truths[0], held_out_frames(settings.data, "test").open()[0].truths["edges"])

    frames = held_out_frames(settings.data, "test").open()
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1, output_size="network") as engine:
        prediction = engine.predict(frames[0].image, intrinsics=frames[0].intrinsics)
    model = load_trained(checkpoint).model
    judged = next(judge(model_predictor(model), frames, specs, size=SIZE))
    np.testing.assert_allclose(prediction["edges"].probability, judged.predicted["edges"].probability, atol=1e-3)


def test_training_learns_a_kind_from_outside(tmp_path: Path) -> None:
    """The positive control: after a few more steps the loss is lower."""
    edges.register()
    changes = {"model.tasks": "['edges']", "loop.evaluate_every": "4", "ema.decay": "0"}
    changes["stages"] = "[{height=64, width=96, steps=12, batch=4}]"
    settings = rectangle_settings(tmp_path, ("things", "edges"), **changes)
    trained(settings)
    lines = (Path(settings.folder) / settings.name / "metrics.jsonl").read_text().splitlines()
    losses = [record["losses"]["edges"] for record in map(json.loads, lines) if record["kind"] == "validation"]
    assert losses[-1] < losses[0]
