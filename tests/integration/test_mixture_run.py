"""A run of several sources: killed and resumed exactly, measured by source, exported with the statistics of one of them."""

from __future__ import annotations

import io
import json
import multiprocessing.process
import os
import signal
import time
from pathlib import Path
from typing import Any

import evaluate as evaluate_script
import pytest
import torch
from mtl.bundling import export_bundle, load_trained
from mtl.checkpoint import CheckpointError, load_state, load_statistics, load_weights, save_weights
from mtl.config import ConfigError, apply_overrides, parse_config
from mtl.datasets.rooms import RoomsDataset
from mtl.datasets.sources import data_sets, held_out_frames, register
from mtl.evaluate import evaluate, model_predictor
from mtl.loop import Training
from mtl.parallel import Parallel
from mtl.run import Run
from mtl.settings import RunSettings
from rich.console import Console

from tests.own_folder import write_own_folder
from tests.synthetic_data import SIZE, Rectangles
from tests.tiny_training import forking, quiet, together

pytestmark = pytest.mark.training

YARD = "rectangles-of-a-yard"
STAGES = (
    f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=5, batch=2}}, "
    f"{{height={SIZE[0]}, width={SIZE[1]}, steps=5, batch=2, ratios={{rooms=1, yard=3}}}}]"
)
STEPS = 10


def mixed(rooms: Path, folder: Path, **changes: str) -> RunSettings:
    """Settings of a run of ten steps: rooms label segmentation, depth and normals, the yard things and depth."""
    if YARD not in data_sets():
        register(Rectangles(YARD, ("things", "depth")))
    fixed = {
        "folder": f"'{folder}'",
        "data.height": str(SIZE[0]),
        "data.width": str(SIZE[1]),
        "data.train": "4",
        "data.validation": "2",
        "data.test": "2",
        "data.workers": "1",
        "data.sources.rooms.kind": "rooms",
        "data.sources.rooms.root": f"'{rooms}'",
        "data.sources.yard.kind": f"'{YARD}'",
        "stages": STAGES,
        "model.tasks": "['segmentation', 'depth', 'normals', 'things']",
        "model.width": "8",
        "model.backbone": "test_convnext",
        "model.drop_path": "0.1",
        "optimizer.batch_norm": "per_source",
        "losses.weighting": "famo",
        "loop.device": "cpu",
        "loop.threads": "1",
        "loop.loader_workers": "0",
        "loop.precision": "fp32",
        "loop.pictures": "2",
        "loop.deterministic": "true",
        "export.calibration": "4",
        "export.evaluation": "2",
        "export.golden": "1",
    }
    return parse_config(apply_overrides({}, {**fixed, **changes}))


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("rooms")
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        RoomsDataset(root, split, count, height=SIZE[0], width=SIZE[1], workers=1, progress=False)  # type: ignore[arg-type]
    return root


@pytest.fixture(scope="module")
def finished(rooms: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSettings, str]:
    """A run that nothing disturbed, and what it said."""
    settings = mixed(rooms, tmp_path_factory.mktemp("runs"), **{"loop.test_at_end": "true"})
    console = Console(file=io.StringIO(), width=200)
    Run(settings, console=console).train()
    return settings, console.file.getvalue()  # type: ignore[attr-defined]


def folder_of(settings: RunSettings) -> Path:
    return Path(settings.folder) / settings.name


def records(settings: RunSettings, kind: str) -> list[dict[str, object]]:
    lines = (folder_of(settings) / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def train(rooms: Path, folder: Path, changes: dict[str, str], pause_s: float) -> None:
    """In a process of its own: a checkpoint after every step, and time for the test to end it in between."""
    advance = Training.advance

    def slowly(self: Training, batch: object) -> object:
        time.sleep(pause_s)
        return advance(self, batch)  # type: ignore[arg-type]

    Training.advance = slowly  # type: ignore[method-assign,assignment]
    torch.set_num_threads(1)
    Run(mixed(rooms, folder, **changes, **{"loop.checkpoint_s": "0.0"}), console=quiet()).train()


def step_of(state: Path) -> int:
    return int(load_state(state)["training"]["step"]) if state.exists() else 0


def kill_after(step: int, process: multiprocessing.process.BaseProcess, state: Path) -> None:
    limit = time.monotonic() + 120
    while step_of(state) < step and process.is_alive() and time.monotonic() < limit:
        time.sleep(0.02)
    assert process.is_alive()
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_a_run_ended_by_kill_9_goes_on_to_the_weights_of_one_that_was_not(rooms: Path, tmp_path: Path) -> None:
    own = write_own_folder(tmp_path / "own", frames=10, replace={"[tasks.segmentation]": "[tasks.things]"})
    changes = {"data.sources.yard.kind": "folder", "data.sources.yard.root": f"'{own}'"}
    undisturbed, settings = (mixed(rooms, tmp_path / name, **changes) for name in ("whole", "broken"))
    Run(undisturbed, console=quiet()).train()
    state = folder_of(settings) / "state.pt"
    process = forking().Process(target=train, args=(rooms, tmp_path / "broken", changes, 0.3))
    process.start()
    kill_after(4, process, state)
    assert 4 <= step_of(state) < STEPS
    Run(settings, console=quiet(), resume=True).train()
    whole, broken = (load_state(folder_of(run) / "state.pt")["training"] for run in (undisturbed, settings))
    assert whole["step"] == broken["step"] == STEPS
    for part in ("model", "ema", "weighting"):
        assert not [name for name, value in whole[part].items() if not torch.equal(value, broken[part][name])]
    for one, other in zip(whole["sources"], broken["sources"], strict=True):
        assert one["current"] == other["current"]
        for source in ("rooms", "yard"):
            kept = one["kept"][source]
            assert not [name for name, value in kept.items() if not torch.equal(value, other["kept"][source][name])]
    first, second = (load_weights(folder_of(run) / "best.safetensors")[1] for run in (undisturbed, settings))
    assert first["validation"] == second["validation"]


def test_every_source_is_measured_and_shown_and_their_mean_decides(finished: tuple[RunSettings, str]) -> None:
    settings, said = finished
    record = records(settings, "validation")[-1]
    by_source = record["sources"]
    assert isinstance(by_source, dict)
    assert set(by_source) == {"rooms", "yard"}
    assert "normal_mean_deg" in by_source["rooms"]
    assert "things.miou" not in by_source["rooms"]
    assert "segmentation.miou" not in by_source["yard"]
    assert record["normal_mean_deg"] == by_source["rooms"]["normal_mean_deg"]
    means = [by_source[name]["depth_rel"] for name in ("rooms", "yard")]
    assert record["depth_rel"] == pytest.approx(sum(means) / 2, abs=2e-6)
    losses = record["losses_by_source"]
    assert isinstance(losses, dict)
    assert {name: set(values) for name, values in losses.items()} == {
        "rooms": {"segmentation", "depth", "normals"},
        "yard": {"things", "depth"},
    }
    table = said[said.rindex("validation at") :]
    assert [line.split()[1] for line in table.splitlines() if line.startswith("│")][:3] == ["validation", "rooms", "yard"]
    assert (folder_of(settings) / "pictures" / f"step-{STEPS:06d}.png").exists()
    test = records(settings, "test")
    assert [set(one["sources"]) for one in test] == 2 * [{"rooms", "yard"}]  # type: ignore[call-overload]
    assert test[0]["depth_rel"] is not None


def test_the_script_that_measures_has_a_row_of_every_source_beside_their_mean(
    finished: tuple[RunSettings, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings, _ = finished
    saved = tmp_path / "measured.json"
    assert evaluate_script.main([str(folder_of(settings) / "best.safetensors"), "--classes", "--save", str(saved)]) == 0
    found = json.loads(saved.read_text())
    mean, rooms, yard = (found["metrics"][f"best.safetensors{source}"] for source in ("", ", rooms", ", yard"))
    assert len(found["metrics"]) == 3
    assert mean["depth_rel"] == pytest.approx((rooms["depth_rel"] + yard["depth_rel"]) / 2)
    record = records(settings, "test")[-1]["sources"]
    assert isinstance(record, dict)
    assert yard["depth_rel"] == pytest.approx(record["yard"]["depth_rel"], abs=2e-6), "whose statistics an export has"
    about = found["details"]
    assert [about[name].get("source") for name in found["metrics"]] == [None, "rooms", "yard"]
    assert [one["frames"] for one in about.values()] == [4, 2, 2]
    assert "segmentation.class_iou" in about["best.safetensors, rooms"]
    assert "things.class_iou" in about["best.safetensors, yard"]
    shown = capsys.readouterr().out
    assert "4 test frames of rooms: " in shown
    assert "best.safetensors, yard" in shown


def test_a_bundle_has_the_statistics_of_the_source_that_it_is_for(finished: tuple[RunSettings, str], tmp_path: Path) -> None:
    settings, _ = finished
    checkpoint = folder_of(settings) / "best.safetensors"
    kept = load_statistics(checkpoint)
    assert set(kept) == {"rooms", "yard"}
    name = "decoder.laterals.1.1.running_mean"
    assert not torch.equal(kept["rooms"][name], kept["yard"][name])
    yard, hall = load_trained(checkpoint), load_trained(checkpoint, overrides={"data.deploy_source": "rooms"})
    assert torch.equal(yard.model.state_dict()[name], kept["yard"][name]), "the largest ratio of the last stage"
    assert torch.equal(hall.model.state_dict()[name], kept["rooms"][name])

    record = records(settings, "test")[-1]["sources"]
    frames = held_out_frames(settings.data, "test").open().sources["rooms"]  # type: ignore[attr-defined]
    specs = {task: spec for task, spec in hall.model.specs.items() if task != "things"}
    found = evaluate(model_predictor(hall.model), frames, specs, size=SIZE)
    assert isinstance(record, dict)
    assert found["depth_rel"] == pytest.approx(record["rooms"]["depth_rel"], abs=2e-6)

    bundle = export_bundle(checkpoint, tmp_path / "bundle", console=quiet(), command="a test")
    told = bundle.manifest.provenance
    assert told["dataset"] == "rooms: procedural rooms, renderer 1; yard: coloured rectangles"
    assert [one["title"] for one in told["data_sets"]] == ["procedural rooms, renderer 1", "coloured rectangles"]
    assert len(bundle.list("calibration")) == 4
    assert bundle.manifest.calibration["by_source"] == {"rooms": 2, "yard": 2}, "by the ratios of the sources"
    assert told["held_out"] == {
        "split": "test",
        "count": 4,
        "sources": {
            "yard": {"count": 2, "tasks": ["things", "depth"]},
            "rooms": {"count": 2, "tasks": ["segmentation", "normals"]},
        },
    }
    card = bundle.manifest.accuracy["fp32"]
    assert card["depth_rel"] == pytest.approx(record["yard"]["depth_rel"], rel=1e-3), "of the source that it is for"
    assert card["normal_mean_deg"] == pytest.approx(record["rooms"]["normal_mean_deg"], rel=0.2), "of the one that has them"
    assert torch.equal(load_weights(bundle.path)[0][name], kept["yard"][name])


def test_a_checkpoint_has_the_statistics_of_the_deployed_source_and_says_which_there_are(rooms: Path, tmp_path: Path) -> None:
    stages = f"[{{height={SIZE[0]}, width={SIZE[1]}, steps=2, batch=2, ratios={{yard=0}}}}, {STAGES[1:-1].split(', {')[0]}]"
    settings = mixed(rooms, tmp_path, stages=stages, **{"losses.weighting": "fixed", "data.deploy_source": "yard"})
    Run(settings, console=quiet()).train()
    training = load_state(folder_of(settings) / "state.pt")["training"]
    assert [one["current"] for one in training["sources"]] == ["rooms", "rooms"], "the last batch was of another source"
    checkpoint = folder_of(settings) / "best.safetensors"
    (weights, description), kept = load_weights(checkpoint), load_statistics(checkpoint)
    assert all(torch.equal(weights[name], value) for name, value in kept["yard"].items())
    assert not all(torch.equal(weights[name], value) for name, value in kept["rooms"].items())

    save_weights(checkpoint, weights, description, statistics={"rooms": kept["rooms"]})
    with pytest.raises(CheckpointError, match=r"no statistics of the source 'yard' but of rooms\. Choose another"):
        load_trained(checkpoint, overrides={"data.deploy_source": "yard"})


@pytest.mark.parametrize("weighting", ["fixed", "uncertainty", "dwa", "rlw", "gls"])
def test_every_other_weighting_trains_on_sources_with_different_tasks(rooms: Path, tmp_path: Path, weighting: str) -> None:
    changes = {"losses.weighting": weighting, "optimizer.batch_norm": "local", "stages": STAGES.replace("steps=5", "steps=2")}
    settings = mixed(rooms, tmp_path, **changes, **{"loop.cosine_every": "1", "losses.class_weights": "true"})
    Run(settings, console=quiet()).train()
    values = load_state(folder_of(settings) / "state.pt")["training"]
    assert values["step"] == 4
    assert "sources" not in values
    assert all(bool(torch.isfinite(value).all()) for value in values["model"].values())


def trained_together(parallel: Parallel, rooms: str, folder: str) -> dict[str, float]:
    """Sums of what a process of a run ends with."""
    settings = mixed(Path(rooms), Path(folder))
    found: dict[str, float] = {}
    evaluated = Run._evaluate

    def noting(self: Run, training: Training, *others: Any) -> None:
        assert training.statistics is not None
        tensors = {source: list(values.values()) for source, values in training.statistics.by_source().items()}
        for name, values in {**tensors, "weights": list(training.model.parameters())}.items():
            found[name] = sum(float(value.detach().double().sum()) for value in values)
        evaluated(self, training, *others)

    Run._evaluate = noting  # type: ignore[method-assign]
    Run(settings, console=quiet(), parallel=parallel).train()
    return found


def test_processes_of_a_run_end_with_the_same_weights_and_statistics(rooms: Path, tmp_path: Path) -> None:
    results = together(trained_together, 2, str(rooms), str(tmp_path))
    assert [code for code, _ in results] == [0, 0], results
    first, second = (found for _, found in results)
    assert set(first) == {"rooms", "yard", "weights"}
    assert first == second


def test_rooms_and_a_folder_of_ones_own_train_one_network(rooms: Path, tmp_path: Path) -> None:
    same = write_own_folder(tmp_path / "same", frames=10)
    changes = {
        "data.sources.yard.kind": "folder",
        "data.sources.yard.root": f"'{same}'",
        "stages": STAGES.replace("steps=5", "steps=3"),
        "losses.class_weights": "true",
    }
    conflict = r"segmentation is not the same in data\.sources\.rooms \(kind labels, .* and in data\.sources\.yard \("
    with pytest.raises(ConfigError, match=conflict):
        mixed(rooms, tmp_path, **changes)

    terms = {"redistributable = true": "redistributable = false", "[tasks.segmentation]": "[tasks.things]"}
    own = write_own_folder(tmp_path / "own", frames=10, replace=terms)
    settings = mixed(rooms, tmp_path, **{**changes, "data.sources.yard.root": f"'{own}'"})
    Run(settings, console=quiet()).train()
    losses = records(settings, "validation")[-1]["losses_by_source"]
    assert isinstance(losses, dict)
    assert {"things", "depth"} <= set(losses["yard"]) <= {"things", "depth", "normals"}

    bundle = export_bundle(folder_of(settings) / "best.safetensors", tmp_path / "bundle", console=quiet(), command="a test")
    told = bundle.manifest.provenance
    assert [one["redistributable"] for one in told["data_sets"]] == [True, False]
    assert told["images"]["embedded"] is False, "one source whose images may not travel keeps all of them back"
    assert bundle.manifest.tasks["depth"].range_m == (0.0, 10.0)  # type: ignore[attr-defined]
