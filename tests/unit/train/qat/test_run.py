"""A fine-tuning run: from a checkpoint through interruption and resumption to a bundle whose INT8 graph was trained."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mtl.bundling import export_bundle, load_trained
from mtl.checkpoint import CheckpointError, load_state, load_weights
from mtl.config import ConfigError
from mtl.datasets.frame import Batch
from mtl.datasets.rooms import dataset
from mtl.loop import StepReport, Training
from mtl.models import MultiTaskModel, export
from mtl.qat import prepare
from mtl.qat.exporting import TRAINED
from mtl.qat.settings import for_qat
from mtl.run import BEST, STATE, Run
from mtl.settings import QatSettings, RunSettings

from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.evaluation.verify import quantized_subjects
from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.learned import QAT_MODEL, int8_graph, int8_recipe
from tests.tiny_training import make_rooms, quiet, tiny_settings

pytestmark = pytest.mark.training


def settings_of(rooms: Path, folder: Path, **changes: str) -> RunSettings:
    return tiny_settings(rooms, folder, name="'first'", **{"export.evaluation": "1", "export.golden": "1", **changes})


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dataset, "FRAMES_PER_SHARD", 4)  # a dozen rooms to render, not a hundred
        yield make_rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture(scope="module", autouse=True)
def exported_once() -> Iterator[None]:
    """All runs here begin with the same network, which is the bundle's too, and the exporter takes longer than they do.

    Its graph rewritten for speed stands in for the plain one, which has nothing to do with fine-tuning.
    """
    export_once, found = export.export_deploy, []

    def once(model: MultiTaskModel, path: Path, *, height: int, width: int) -> None:
        if not found:
            export_once(model, path, height=height, width=width)
            found.append(path.read_bytes())
        path.write_bytes(found[0])

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(export, "export_deploy", once)
        patched.setattr(export, "export_plain", once)
        patched.setattr(prepare, "export_deploy", once)
        yield


@pytest.fixture(scope="module")
def first(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSettings:
    """A trained network; its weights are in its folder."""
    settings = settings_of(rooms, tmp_path_factory.mktemp("runs"))
    Run(settings, console=quiet()).train()
    return settings


def tuned(first: RunSettings, **changes: Any) -> RunSettings:
    """Its fine-tuning, of four steps."""
    return for_qat(replace(first, qat=replace(QatSettings(steps=4, calibration=2, lr=1e-3), **changes)))


@pytest.fixture(scope="module")
def whole(first: RunSettings) -> RunSettings:
    settings = tuned(first)
    Run(settings, console=quiet()).train()
    return settings


def folder_of(settings: RunSettings) -> Path:
    return Path(settings.folder) / settings.name


def test_fine_tuning_has_a_name_weights_and_a_rate_of_its_own(first: RunSettings) -> None:
    found = tuned(first)
    assert (found.name, found.steps, found.optimizer.lr) == ("first-qat", 4, 1e-3)
    assert found.model.init == str(folder_of(first) / BEST)
    assert found.loop.precision == "fp32"
    given = {"name": "x", "model.init": "y", "optimizer.lr": "1"}
    kept = for_qat(replace(first, model=replace(first.model, init="y")), given=given)
    assert (kept.name, kept.model.init, kept.optimizer.lr) == ("first", "y", first.optimizer.lr)
    with pytest.raises(ConfigError, match="1 or more"):
        tuned(first, steps=0)
    with pytest.raises(ConfigError, match="labels only"):
        tuned(first, teacher=2.0)


def test_validation_says_what_rounding_costs(whole: RunSettings) -> None:
    lines = (folder_of(whole) / "metrics.jsonl").read_text().splitlines()
    found = [record for record in map(json.loads, lines) if record["kind"] == "validation"]
    assert found[0]["step"] == 0
    assert all(set(record["without_rounding"]) <= set(record) for record in found)
    assert found[0]["without_rounding"]["depth_rel"] != found[0]["depth_rel"]


def test_a_run_that_is_interrupted_ends_with_the_same_weights_and_ranges(
    first: RunSettings, whole: RunSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    parted = replace(tuned(first), name="parted")
    advance = Training.advance

    def interrupted(self: Training, batch: Batch) -> StepReport:
        report = advance(self, batch)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return report

    with monkeypatch.context() as patched:
        patched.setattr(Training, "advance", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Run(parted, console=quiet()).train()
    (Path(parted.model.init)).rename(Path(parted.model.init).with_suffix(".away"))  # it is needed once only
    try:
        Run(parted, console=quiet(), resume=True).train()
    finally:
        Path(parted.model.init).with_suffix(".away").rename(parted.model.init)
    one, other = (load_state(folder_of(settings) / STATE)["training"] for settings in (whole, parted))
    for part in ("model", "ema"):
        assert one[part].keys() == other[part].keys()
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part])
    assert one["optimizer"]["state"].keys() == other["optimizer"]["state"].keys()


def test_weights_and_ranges_are_learnt(whole: RunSettings) -> None:
    state = load_state(folder_of(whole) / STATE)["training"]["model"]
    moved = [value for name, value in state.items() if name.endswith("_log")]
    assert moved
    assert sum(bool(value != 0) for value in moved) > len(moved) / 2


def test_a_bundle_keeps_the_network_and_brings_the_fine_tuned_graph(whole: RunSettings, tmp_path: Path) -> None:
    checkpoint = folder_of(whole) / BEST
    bundle = export_bundle(checkpoint, tmp_path / "tuned", console=quiet(), command="python train/train.py --qat")
    began, _ = load_weights(checkpoint.parent / TRAINED)
    assert all(torch.equal(value, began[name]) for name, value in load_trained(checkpoint).model.state_dict().items())
    assert bundle.has(QAT_MODEL)
    assert {"miou", "depth_rel", "normal_mean_deg"} <= set(bundle.manifest.accuracy["int8"])
    bundle.verify()

    assert int8_recipe(bundle).name == "cpu-int8"
    subjects = quantized_subjects(bundle, threads=1)
    assert {subject.backend for subject in subjects} == {"onnxruntime", "openvino"}
    assert int8_graph(bundle) != bundle.read(OPTIMIZED_ONNX)
    report = build_engine(Bundle.open(bundle.path), precision="int8", backend="onnxruntime", threads=1, budget=None)
    assert report.chosen.stored
    assert facts(subjects[0].model).integer_layers > 20
    assert len(report.record.options["fine_tuned"]) == 64


def test_a_checkpoint_without_the_weights_that_it_began_with_is_refused(whole: RunSettings, tmp_path: Path) -> None:
    alone = tmp_path / BEST
    alone.write_bytes((folder_of(whole) / BEST).read_bytes())
    with pytest.raises(CheckpointError, match=r"trained\.safetensors is missing"):
        load_trained(alone)
