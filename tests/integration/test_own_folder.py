"""From a folder of one's own, 20 classes with labels missing here and there, to a bundle that Engine opens."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import evaluate as evaluate_script
import numpy as np
import pytest
import torch
from mtl.bundle_card import measure, provenance
from mtl.bundle_frames import labelled_spread, write_evaluation
from mtl.bundling import export_bundle, load_trained
from mtl.checkpoint import load_weights
from mtl.datasets.folder.source import FolderFrames, FolderRequest
from mtl.evaluate import model_predictor
from mtl.run import Run
from mtl.settings import RunSettings

from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from tests.own_folder import CLASSES, write_own_folder
from tests.own_settings import own_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_own_folder(tmp_path_factory.mktemp("own") / "data", frames=24)


@pytest.fixture(scope="module")
def run(own: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSettings, Path]:
    """Settings, and the best weights."""
    settings = own_settings(own, tmp_path_factory.mktemp("runs"))
    return settings, Run(settings, console=quiet()).train()


@pytest.fixture(scope="module")
def bundle(run: tuple[RunSettings, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(run[1], tmp_path_factory.mktemp("bundles") / "own", console=quiet(), command="a test")


def frames_of(own: Path) -> FolderFrames:
    return FolderRequest(str(own), "test").open()


def test_a_run_learns_and_validates_every_task(run: tuple[RunSettings, Path]) -> None:
    settings, best = run
    assert settings.model.tasks == ("segmentation", "depth", "normals")
    lines = (best.parent / "metrics.jsonl").read_text().splitlines()
    record = [one for one in map(json.loads, lines) if one["kind"] == "validation"][-1]
    assert set(record["losses"]) == {"segmentation", "depth", "normals"}
    assert all(record[key] is not None for key in ("miou", "depth_rel", "normal_mean_deg"))
    assert list((best.parent / "pictures").glob("*.png"))


def test_the_bundle_has_the_classes_and_the_terms_of_the_folder(bundle: Bundle) -> None:
    assert bundle.manifest.tasks["segmentation"].classes == CLASSES
    assert bundle.manifest.tasks["depth"].range_m == (0.3, 10.0)
    told = bundle.manifest.provenance
    assert (told["dataset"], told["dataset_licence"]) == ("a small warehouse", "made for this example")
    assert {"miou", "depth_rel", "normal_mean_deg"} <= set(bundle.manifest.accuracy["fp32"])
    assert set(bundle.manifest.accuracy["fp32"]["class_iou"]) <= set(CLASSES)


def test_labelled_frames_of_the_bundle_have_the_truths_that_there_are(own: Path, bundle: Bundle) -> None:
    frames, found = frames_of(own), list(evaluation_frames(bundle))
    assert len(found) == 4
    every = [frozenset(item.targets) for item in found]
    assert frozenset.union(*every) == {"segmentation", "depth", "normals"}
    assert any(len(one) < 3 for one in every), "a missing truth is left out, not written as zeros"
    assert all(one in [frames.known(index) for index in range(len(frames))] for one in every)
    names = set(bundle.list("evaluation"))
    assert sum(name.endswith(".depth.png") for name in names) == sum("depth" in one for one in every) < 4
    assert all((item.targets["depth"] > 0).any() for item in found if "depth" in item.targets)


def test_engine_answers_in_the_folder_s_classes(own: Path, bundle: Bundle) -> None:
    frames = frames_of(own)
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        prediction = engine.predict(frames[0].image, intrinsics=frames[0].intrinsics)
    labels = prediction["segmentation"]
    assert labels.classes == CLASSES
    assert labels.labels.shape == frames[0].size
    assert set(np.unique(labels.labels)) <= set(range(20))
    assert prediction.results["depth"].depth_m.shape == frames[0].size


def test_a_task_without_truth_in_validation_has_no_figure(own: Path, tmp_path: Path) -> None:
    """Depth in train frames only: it is learnt, and neither figures nor files of it are made up."""
    root = shutil.copytree(own, tmp_path / "data")
    for split in ("val", "test"):
        frames = FolderRequest(str(root), split).open()  # type: ignore[arg-type]
        for stem in frames.stems:
            (root / "depth" / f"{stem}.png").unlink(missing_ok=True)
    settings = own_settings(root, tmp_path, **{"model.tasks": "['segmentation', 'depth']", "loop.test_at_end": "true"})
    best = Run(settings, console=quiet()).train()
    records = list(map(json.loads, (best.parent / "metrics.jsonl").read_text().splitlines()))
    validation = [one for one in records if one["kind"] == "validation"][-1]
    assert validation["depth_rel"] is None
    assert validation["miou"] is not None
    assert validation["losses"]["depth"] > 0
    trained, test = load_trained(best), FolderRequest(str(root), "test").open()
    card = measure(model_predictor(trained.model), test, trained, quiet())
    assert "miou" in card
    assert "depth_rel" not in card
    labelled = labelled_spread(test, tuple(trained.model.specs), 2, len(test))
    write_evaluation(tmp_path, test, trained.model.specs, labelled, trained.size, 90)
    assert list(tmp_path.glob("*.label.png"))
    assert not list(tmp_path.glob("*.depth.png"))


def test_a_task_that_no_training_frame_has_cannot_be_weighed(own: Path, tmp_path: Path) -> None:
    root = shutil.copytree(own, tmp_path / "data")
    frames = FolderRequest(str(root), "train").open()
    for index, stem in enumerate(frames.stems):
        if "depth" in frames.known(index):
            (root / "masks" / f"{stem}.png").unlink()
        else:
            for folder in ("images", "masks", "normals"):
                for path in (root / folder).glob(f"{stem}.*"):
                    path.unlink()
    settings = own_settings(root, tmp_path)
    with pytest.raises(BuildError, match=r"no training frame has a label of segmentation\. Label some, or leave it out"):
        Run(settings, console=quiet()).train()


def test_a_checkpoint_finds_a_folder_that_moved(own: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(own, tmp_path / "before"))
    best = Run(own_settings(root, tmp_path, **{"model.tasks": "['depth']"}), console=quiet()).train()
    root.rename(tmp_path / "after")
    with pytest.raises(BuildError, match=r"before/dataset\.toml is not there"):
        load_trained(best)
    moved = {"data.root": f"'{tmp_path / 'after'}'"}
    assert load_trained(best, overrides=moved).settings.data.root == str(tmp_path / "after")
    content = provenance(load_trained(best, overrides=moved), {"split": "test", "count": 3}, "python train/export.py x")
    assert content["dataset"] == "a small warehouse"


def test_a_bundle_is_measured_on_a_folder_and_never_on_other_classes(
    own: Path, bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_script.main([str(bundle.path), "--root", str(own), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["metrics"].values()
    accuracy = bundle.manifest.accuracy["fp32"]
    assert {key: found[key] for key in ("miou", "depth_rel")} == pytest.approx(
        {key: accuracy[key] for key in ("miou", "depth_rel")}, abs=1e-5
    )
    other = write_own_folder(tmp_path, frames=12, replace={'"spill"]': '"puddle"]'})
    assert evaluate_script.main([str(bundle.path), "--root", str(other)]) == 9
    said = capsys.readouterr().err
    assert "segmentation has other classes ('spill' and 'puddle') in the model than in the frames" in said


def test_a_run_starts_from_the_weights_of_a_bundle_of_the_same_classes(own: Path, bundle: Bundle, tmp_path: Path) -> None:
    changes = {"model.init": f"'{bundle.path}'", "optimizer.lr": "1e-9", "ema.decay": "0"}
    best = Run(own_settings(own, tmp_path, **changes), console=quiet()).train()
    begun, given = load_trained(best).model.state_dict(), load_weights(bundle.path)[0]
    learnt = [name for name in given if name.endswith("weight") and given[name].ndim > 1]
    assert len(learnt) > 50
    assert all(torch.allclose(begun[name], given[name], atol=1e-5) for name in learnt)


def test_a_label_that_cannot_be_used_ends_training_in_one_line(own: Path, tmp_path: Path) -> None:
    """Also where a process of its own reads it: the command ends, with the file's name and the exit code."""
    root = Path(shutil.copytree(own, tmp_path / "data"))
    for path in (root / "masks").rglob("*.png"):
        path.write_bytes(b"")
    config = tmp_path / "own.toml"
    config.write_text(
        f'name = "own"\nfolder = "{tmp_path}"\n[data]\nkind = "folder"\nroot = "{root}"\n[model]\ntasks = []\n'
        'backbone = "test_convnext"\nwidth = 8\n[[stages]]\nheight = 64\nwidth = 96\nsteps = 4\nbatch = 2\n'
        "[loop]\nloader_workers = 1\n"
    )
    command = [sys.executable, "train/train.py", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2], check=False)
    assert done.returncode == 9, done.stderr
    assert re.fullmatch(r"train: \S+/masks/\S+\.png is cut short or damaged: .*\n", done.stderr), done.stderr
