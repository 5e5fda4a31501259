"""Boxes and the class of a frame from a folder of one's own: trained, exported, measured and answered."""

from __future__ import annotations

import json
from pathlib import Path

import evaluate as evaluate_script
import numpy as np
import pytest
from mtl.bundling import export_bundle
from mtl.datasets.folder.source import FolderFrames, FolderRequest
from mtl.run import Run

from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from tests.own_folder import CLASSES, OBJECTS, PLACES, write_own_folder
from tests.own_settings import own_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

SMALL = {
    "model.tasks": "['segmentation', 'objects', 'place']",
    "model.backbone": "test_convnext",
    "loop.loader_workers": "1",
    "loop.pictures": "1",
    "augment.mix": "0.5",
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_folder(tmp_path_factory.mktemp("own") / "data", frames=24, objects=True)


@pytest.fixture(scope="module")
def checkpoint(own: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The best weights of a run that reads frames in a process of its own."""
    return Run(own_settings(own, tmp_path_factory.mktemp("runs"), **SMALL), console=quiet()).train()


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(checkpoint, tmp_path_factory.mktemp("bundles") / "own", console=quiet(), command="a test")


def frames_of(own: Path) -> FolderFrames:
    return FolderRequest(str(own), "test").open()


def test_a_run_learns_and_validates_boxes_and_class(checkpoint: Path) -> None:
    lines = (checkpoint.parent / "metrics.jsonl").read_text().splitlines()
    record = [one for one in map(json.loads, lines) if one["kind"] == "validation"][-1]
    assert set(record["losses"]) == {"segmentation", "objects", "place"}
    assert all(np.isfinite(value) for value in record["losses"].values())
    assert all(record[key] is not None for key in ("miou", "ap", "ap50", "top1"))
    assert list((checkpoint.parent / "pictures").glob("*.png"))


def test_the_bundle_has_classes_and_those_truths_that_there_are(own: Path, bundle: Bundle) -> None:
    tasks = bundle.manifest.tasks
    assert (tasks["segmentation"].classes, tasks["objects"].classes, tasks["place"].classes) == (CLASSES, OBJECTS, PLACES)
    assert {"miou", "ap", "ap50", "top1"} <= set(bundle.manifest.accuracy["fp32"])
    frames, found = frames_of(own), list(evaluation_frames(bundle))
    known = [frames.known(index) & set(tasks) for index in range(len(frames))]
    assert all(set(item.targets) in known for item in found)
    assert frozenset.union(*map(frozenset, (item.targets for item in found))) == set(tasks)
    assert any(len(item.targets) < 3 for item in found), "a missing truth is left out"
    assert any(len(item.targets["objects"]) for item in found if "objects" in item.targets)


def test_engine_answers_both(own: Path, bundle: Bundle) -> None:
    frames = frames_of(own)
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        prediction = engine.predict(frames[0].image)
    assert prediction.scene is prediction["place"]
    assert prediction["place"].name in PLACES
    boxes = prediction["objects"].measured
    assert boxes.size == frames[0].size
    assert len(boxes) > 0
    assert set(boxes.names) <= set(OBJECTS)
    height, width = frames[0].size
    assert (boxes.xyxy >= -0.5).all()
    assert (boxes.xyxy <= np.array([width, height, width, height]) - 0.5).all()
    assert prediction["segmentation"].labels.shape == frames[0].size


def test_the_bundle_is_measured_on_the_folder(own: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate_script.main([str(bundle.path), "--root", str(own), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["metrics"].values()
    accuracy = bundle.manifest.accuracy["fp32"]
    keys = ("miou", "ap", "ap50", "top1")
    assert {key: found[key] for key in keys} == pytest.approx({key: accuracy[key] for key in keys}, abs=1e-5)
