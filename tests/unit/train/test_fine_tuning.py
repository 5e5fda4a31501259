"""Fine-tuning: what fits is taken over exactly, a head that does not fit starts fresh and is named, the rest is refused."""

from __future__ import annotations

import copy
import functools
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mtl.bundling import load_trained
from mtl.checkpoint import CheckpointError, load_weights, save_weights
from mtl.config import describe
from mtl.fine_tuning import start_from
from mtl.models import MultiTaskModel
from mtl.models.configured import model_from
from mtl.onnx_predictor import OnnxGraph
from mtl.run import Run
from mtl.settings import ModelSettings, RunSettings, Stage
from rich.console import Console

from edge_mtl.bundle import EVALUATION, OPTIMIZED_ONNX, Bundle
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import NYU_TASKS, LabelsSpec, Specs, TaskSpec, describe_tasks
from tests.bundles import ROOMS_B0
from tests.tiny_training import make_rooms, quiet, tiny_settings

pytestmark = pytest.mark.training

MEANING = {"normalisation": "none", "depth_output": "log"}


def network(specs: Specs = NYU_TASKS, **model: object) -> MultiTaskModel:
    settings = RunSettings(
        stages=(Stage(height=288, width=384, steps=1),),
        model=ModelSettings(tasks=tuple(specs), **model),  # type: ignore[arg-type]
    )
    torch.manual_seed(7)
    return model_from(settings, specs=specs).eval()


def with_classes(count: int) -> dict[str, TaskSpec]:
    classes = tuple(f"thing {number}" for number in range(count))
    return {**NYU_TASKS, "segmentation": LabelsSpec("segmentation", "labels", classes)}


@functools.cache
def frames() -> np.ndarray:
    bundle = Bundle.open(ROOMS_B0)
    images = [decode_image(bundle.read(name)) for name in bundle.list(EVALUATION, suffixes=(".jpg",))[:4]]
    return np.stack([image for image in images if image is not None])


def answers(model: MultiTaskModel, images: np.ndarray) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        return model.quarter_maps(model.normalise(torch.from_numpy(images).permute(0, 3, 1, 2).float()))


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


class TestRoomsB0:
    def test_a_network_of_its_tasks_answers_as_its_graph_does(self) -> None:
        model = network()
        assert start_from(model, ROOMS_B0, meaning=MEANING) == {}
        bundle = Bundle.open(ROOMS_B0)
        expected = OnnxGraph(bundle.read(OPTIMIZED_ONNX), bundle.manifest.tasks)(frames()[:1])
        found = answers(model, frames()[:1])
        assert set(found) == set(NYU_TASKS)
        assert max(error(found[task], expected[task]) for task in NYU_TASKS) < 1e-5

    def test_other_classes_start_a_fresh_last_layer_and_nothing_else_changes(self) -> None:
        model = network(with_classes(20))
        before = copy.deepcopy(model.state_dict())
        remarks = start_from(model, ROOMS_B0, meaning=MEANING)
        assert remarks == {"segmentation": "starts with a fresh last layer: 20 classes here, 13 there"}
        known = load_trained(ROOMS_B0).model
        found, expected = answers(model, frames()[:1]), answers(known, frames()[:1])
        assert found["segmentation"].shape[1] == 20
        assert max(error(found[task], expected[task]) for task in ("depth", "normals")) < 1e-6
        after, whole = model.state_dict(), known.state_dict()
        fresh = [name for name in after if torch.equal(after[name], before[name]) and not name.endswith("tracked")]
        assert {name for name in fresh if "output" in name} == {
            "decoder.branches.segmentation.output.weight",
            "decoder.branches.segmentation.output.bias",
        }
        inner = "decoder.branches.segmentation.merge8.coarse.weight"
        assert torch.equal(after[inner], whole[inner])

    def test_as_many_classes_of_other_names_are_other_classes(self) -> None:
        remarks = start_from(network(with_classes(13)), ROOMS_B0)
        said = "starts with a fresh last layer: its classes have other names, such as thing 0 here, bed there"
        assert remarks == {"segmentation": said}

    def test_a_new_task_starts_fresh_and_one_that_is_not_wanted_is_left_out(self) -> None:
        specs: dict[str, TaskSpec] = {"floor": LabelsSpec("floor", "labels", ("no", "yes")), "depth": NYU_TASKS["depth"]}
        model = network(specs)
        before = copy.deepcopy(model.state_dict())
        remarks = start_from(model, ROOMS_B0)
        assert remarks == {
            "floor": "starts with a fresh head: there is no such task, but segmentation, depth, normals",
            "segmentation": "is left out: this run does not train it",
            "normals": "is left out: this run does not train it",
        }
        own = {name: value for name, value in model.state_dict().items() if ".floor." in name}
        assert own
        assert all(torch.equal(before[name], value) for name, value in own.items())
        expected = answers(load_trained(ROOMS_B0).model, frames()[:1])
        assert error(answers(model, frames()[:1])["depth"], expected["depth"]) < 1e-6

    def test_a_task_of_its_name_but_another_kind_starts_fresh(self) -> None:
        specs: dict[str, TaskSpec] = {"depth": LabelsSpec("depth", "labels", ("near", "far"))}
        remarks = start_from(network(specs), ROOMS_B0)
        assert remarks["depth"] == "starts with a fresh head: it is of the kind labels here, depth there"

    def test_the_step_from_running_statistics_to_those_of_a_batch_is_small(self) -> None:
        """Its batch norms were multiplied into convolutions: without statistics, training would begin with other answers."""
        stored = network()
        stored.load_state_dict(load_weights(ROOMS_B0)[0])
        started = network()
        start_from(started, ROOMS_B0)
        expected = answers(stored, frames())
        agreement = {}
        for name, model in (("stored", stored), ("started", started)):
            model.train()
            labels = answers(model, frames())["segmentation"].argmax(dim=1)
            agreement[name] = float((labels == expected["segmentation"].argmax(dim=1)).float().mean())
        assert agreement["stored"] < 0.87
        assert agreement["started"] > 0.92

    def test_another_network_is_refused_and_may_take_the_backbone(self) -> None:
        specs = {"depth": NYU_TASKS["depth"]}
        model = network(specs, width=32)
        with pytest.raises(CheckpointError, match=r"is of another network: decoder\.laterals"):
            start_from(model, ROOMS_B0)
        with pytest.raises(CheckpointError, match=r"model\.normalisation 'none'"):
            start_from(model, ROOMS_B0, part="backbone", meaning={"normalisation": "imagenet"})
        assert start_from(model, ROOMS_B0, part="backbone", meaning={"normalisation": "none"}) == {}
        weights, _ = load_weights(ROOMS_B0)
        taken = {name: value for name, value in model.state_dict().items() if name.startswith("backbone.")}
        assert taken
        assert all(torch.equal(weights[name], value) for name, value in taken.items())


def checkpoint(folder: Path, model: MultiTaskModel, settings: RunSettings) -> Path:
    path = folder / "best.safetensors"
    save_weights(path, model.state_dict(), {"config": describe(settings), "tasks": describe_tasks(model.specs)})
    return path


def small(specs: Specs, **model: object) -> tuple[MultiTaskModel, RunSettings]:
    settings = RunSettings(
        stages=(Stage(height=32, width=64, steps=1),),
        model=ModelSettings(backbone="test_convnext", width=8, tasks=tuple(specs), **model),  # type: ignore[arg-type]
    )
    return model_from(settings, specs=specs), settings


def test_what_tasks_take_from_one_another_starts_fresh_with_other_tasks(tmp_path: Path) -> None:
    trained, settings = small(NYU_TASKS, exchange=True)
    path = checkpoint(tmp_path, trained, settings)
    two = {task: NYU_TASKS[task] for task in ("segmentation", "depth")}
    model, _ = small(two, exchange=True)
    before = copy.deepcopy(model.state_dict())
    assert set(start_from(model, path)) == {"normals"}
    after = model.state_dict()
    mixed = [name for name in after if name.startswith("decoder.exchange.")]
    assert mixed
    assert all(torch.equal(after[name], before[name]) for name in mixed)
    assert torch.equal(after["decoder.enter.depth.0.0.weight"], trained.state_dict()["decoder.enter.depth.0.0.weight"])


def test_a_task_with_stages_of_its_own_starts_all_of_them_fresh(tmp_path: Path) -> None:
    trained, settings = small({task: NYU_TASKS[task] for task in ("segmentation", "depth")}, sharing="separate")
    path = checkpoint(tmp_path, trained, settings)
    model, _ = small({task: NYU_TASKS[task] for task in ("depth", "normals")}, sharing="separate")
    before = copy.deepcopy(model.state_dict())
    assert set(start_from(model, path)) == {"normals", "segmentation"}
    for name, value in model.state_dict().items():
        origin = before if ".parts.normals." in name else trained.state_dict()
        assert torch.equal(value, origin[name])


def test_a_checkpoint_that_does_not_describe_its_tasks_is_refused(tmp_path: Path) -> None:
    model, _ = small(NYU_TASKS)
    save_weights(tmp_path / "w.safetensors", model.state_dict(), {"tasks": {"segmentation": {"kind": "smell"}}})
    with pytest.raises(CheckpointError, match="does not describe its tasks"):
        start_from(model, tmp_path / "w.safetensors")


def test_fine_tuning_for_integers_starts_from_a_network_of_the_same_tasks(tmp_path: Path) -> None:
    from mtl.qat.prepare import prepared_network

    trained, settings = small(NYU_TASKS)
    path = checkpoint(tmp_path, trained, settings)
    changed = replace(settings, model=replace(settings.model, tasks=("depth",), init=str(path)))
    with pytest.raises(CheckpointError, match=r"is of other tasks: segmentation is left out.*give --model\.tasks"):
        prepared_network(changed)


def test_a_run_says_on_the_console_and_in_its_records_what_starts_fresh(tmp_path: Path) -> None:
    rooms = make_rooms(tmp_path / "rooms")
    short = {"stages": "[{height=32, width=64, steps=1, batch=2}]"}
    first = tiny_settings(rooms, tmp_path, name="first", **{**short, "model.tasks": "['segmentation', 'depth']"})
    best = Run(first, console=quiet()).train()
    second = tiny_settings(rooms, tmp_path, name="second", **{**short, "model.init": f"'{best}'"})
    console = Console(file=io.StringIO(), width=200)
    Run(second, console=console).train()
    remark = "starts with a fresh head: there is no such task, but segmentation, depth"
    assert f"model.init: normals {remark}" in console.file.getvalue()  # type: ignore[attr-defined]
    records = (tmp_path / "second" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(records[0])["not_taken"] == {"normals": remark}
    assert "not_taken" not in json.loads((tmp_path / "first" / "metrics.jsonl").read_text().splitlines()[0])
