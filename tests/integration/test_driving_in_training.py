"""BDD100K, of which no frame has all tasks, and the small Cityscapes: a few steps of training each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mtl.config import load_config
from mtl.run import Run

from tests.bdd_files import write_bdd, write_cityscapes
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

CONFIGS = Path(__file__).parents[2] / "train" / "configs"
SMALL = {
    "stages": "[{height=32, width=64, steps=3, batch=2}]",
    "loop.device": "cpu",
    "loop.threads": "1",
    "loop.loader_workers": "0",
    "loop.precision": "fp32",
    "loop.evaluate_every": "3",
    "loop.pictures": "1",
}


def measured(config: Path, changes: dict[str, str], folder: Path) -> dict[str, float]:
    """The losses on validation frames after a few steps."""
    settings = load_config(config, {**SMALL, "folder": f"'{folder / 'runs'}'", **changes})
    Run(settings, console=quiet()).train()
    lines = (folder / "runs" / settings.name / "metrics.jsonl").read_text().splitlines()
    losses: dict[str, float] = next(one for one in map(json.loads, lines) if one["kind"] == "validation")["losses"]
    return losses


def test_a_frame_of_bdd100k_trains_the_tasks_that_it_has(tmp_path: Path) -> None:
    tasks = ["objects", "drivable", "lane", "segmentation", "weather"]
    root = write_bdd(tmp_path / "bdd", seg=2)
    changes = {"data.root": f"'{root}'", "data.validation_from_train": "0", "model.tasks": str(tasks)}
    losses = measured(CONFIGS / "bdd100k-b0.toml", changes, tmp_path)
    assert set(losses) == set(tasks)
    assert all(np.isfinite(value) for value in losses.values())


def test_cityscapes_trains_classes_and_depth(tmp_path: Path) -> None:
    config = tmp_path / "city.toml"
    config.write_text('name = "city"\n[data]\nkind = "cityscapes"\n[model]\ntasks = []\n')
    losses = measured(config, {"data.root": f"'{write_cityscapes(tmp_path / 'city')}'"}, tmp_path)
    assert set(losses) == {"segmentation", "relative_depth"}
    assert all(np.isfinite(value) for value in losses.values())
