"""A kind that is registered from outside, from a trained bundle on: INT8, accuracy check, Engine, commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from mtl.bundling import export_bundle
from mtl.run import Run

from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.evaluation.verify import REFERENCE, verify
from tests.bundles import write_image
from tests.command_line import edge_mtl
from tests.plugins import edges
from tests.synthetic_data import rectangle_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

LOOSE = {"miou": 1.0, "classes": 1.0, "edge_f": 1.0, "edges": 0.3}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Trained for a few steps; with its INT8 engines of this machine."""
    edges.register()
    folder = tmp_path_factory.mktemp("edges")
    checkpoint = Run(rectangle_settings(folder, ("things", "edges")), console=quiet()).train()
    made = export_bundle(checkpoint, folder / "bundle", console=quiet(), command="a test")
    build_engine(made, precision="int8", threads=1, budget=Budget(LOOSE))
    return made


def test_int8_is_built_tested_and_held_to_the_budgets_of_the_kind(bundle: Bundle) -> None:
    found = verify(bundle, threads=1, budget=Budget(LOOSE))
    assert not found.failed
    assert {"edge_f", "edges", "miou", "classes"} == {check.name for check in next(iter(found.verdicts.values())).checks}
    assert "edge_f" in found.scores[REFERENCE].accuracy
    assert all(score.agreement["edge_difference"] < 0.3 for score in found.scores.values())
    with pytest.raises(AccuracyError, match="edges: difference from FP32's edges"):
        build_engine(bundle, precision="int8", threads=1, budget=Budget({**LOOSE, "edges.edges": 0.0}))


def test_an_engine_answers_with_the_kinds_own_result(bundle: Bundle) -> None:
    item = next(evaluation_frames(bundle))
    with (
        Engine(bundle, precision="int8", threads=1) as int8,
        Engine(bundle, backend="onnxruntime", precision="fp32", threads=1) as fp32,
    ):
        assert int8.info.tasks == ("things", "edges")
        assert int8.info.self_test is not None
        assert "edge_difference" in int8.info.self_test.worst
        found, exact = int8.predict(item.frame), fp32.predict(item.frame)
    assert found["edges"].probability.shape == item.frame.shape[:2]
    assert np.abs(found["edges"].probability - exact["edges"].probability).mean() < 0.1
    assert found.segmentation is None, "no task has that name"
    assert found.panel(item.frame).ndim == 3


def test_predict_writes_and_prints_it(bundle: Bundle, tmp_path: Path) -> None:
    item = next(evaluation_frames(bundle))
    write_image(tmp_path / "room.png", item.frame)
    command = ("predict", tmp_path / "room.png", "--bundle", bundle.path, "--precision", "int8", "--threads", 1)
    outcome = edge_mtl(*command, "--out", tmp_path / "out", "--files", "panel,png,npz")
    assert outcome.code == 0, outcome.err
    assert cv2.imread(str(tmp_path / "out" / "room.edges.png")).shape == item.frame.shape
    with np.load(tmp_path / "out" / "room.npz") as arrays:
        assert arrays["edges"].shape == item.frame.shape[:2]
    printed = json.loads(edge_mtl(*command, "--json").out.splitlines()[0])
    assert 0.0 <= printed["results"]["edges"]["share"] <= 1.0


def test_benchmark_inspect_and_verify_know_its_measures(bundle: Bundle) -> None:
    fast = ("--threads", 1, "--rounds", 2, "--json")
    (report,) = edge_mtl("benchmark", bundle.path, "--precision", "int8", *fast).records
    assert all("edge_f" in row["accuracy"] for row in report["rows"])
    outcome = edge_mtl("inspect", bundle.path)
    assert "threshold" in outcome.out
    outcome = edge_mtl("verify", bundle.path, "--threads", 1, "--max-drop", "edges.edge_f=1,edges.edges=0.3,miou=1,classes=1")
    assert outcome.code == 8, "a network that nobody trained is near chance"
    assert "FP32 itself does not fit the data. things:" in outcome.err
    assert "edges F %" in outcome.out
