"""One network from three published data sets, each of which labels a task of its own: trained, exported, predicting all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mtl.bundling import export_bundle
from mtl.config import load_config
from mtl.run import Run

from edge_mtl.engine import Engine
from tests.published_files import image, write_ade_challenge, write_coco, write_imagenet
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

RECIPE = Path(__file__).parents[2] / "train" / "configs" / "triple-general.toml"


def test_the_recipe_of_three_data_sets_trains_one_network(tmp_path: Path) -> None:
    roots = {
        "imagenet": write_imagenet(tmp_path / "imagenet"),
        "coco": write_coco(tmp_path / "coco"),
        "ade20k": write_ade_challenge(tmp_path / "ade20k"),
    }
    small = {
        "folder": f"'{tmp_path / 'runs'}'",
        "data.sources.imagenet.validation_from_train": "2",
        "stages": "[{height=64, width=64, steps=4, batch=2}]",
        "loop.device": "cpu",
        "loop.threads": "1",
        "loop.loader_workers": "0",
        "loop.precision": "fp32",
        "loop.evaluate_every": "4",
        "loop.pictures": "3",
        "export.calibration": "3",
        "export.evaluation": "2",
        "export.golden": "1",
    }
    small |= {f"data.sources.{name}.root": f"'{root}'" for name, root in roots.items()}
    settings = load_config(RECIPE, small)
    assert set(settings.model.tasks) == {"segmentation", "objects", "category"}
    best = Run(settings, console=quiet()).train()
    lines = (tmp_path / "runs" / settings.name / "metrics.jsonl").read_text().splitlines()
    measured = next(record for record in map(json.loads, lines) if record["kind"] == "validation")
    assert set(measured["losses"]) == {"segmentation", "objects", "category"}
    assert all(np.isfinite(value) for value in measured["losses"].values())
    assert {"miou", "ap", "top1"} <= {key.rpartition(".")[2] for key in measured}, "ADE20K labels a second task of its kind"
    bundle = export_bundle(best, tmp_path / "bundle", console=quiet(), command="a test")
    assert {name: len(spec.classes) for name, spec in bundle.manifest.tasks.items()} == {  # type: ignore[attr-defined]
        "segmentation": 150,
        "objects": 3,
        "category": 3,
    }
    assert not list(bundle.path.glob("calibration/*.jpg")), "images of others do not travel"
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        prediction = engine.predict(image(1))
    assert set(prediction.results) == {"segmentation", "objects", "category"}
