"""Boxes and the class of a frame beside a task of labels: trained, resumed, exported, predicted, fine-tuned for integers."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from mtl.bundling import export_bundle, load_trained
from mtl.checkpoint import load_weights
from mtl.config import ConfigError
from mtl.datasets.loader import BatchPlan, StepBatches
from mtl.datasets.sources import held_out_frames, train_frames
from mtl.evaluate import evaluate, judge, model_predictor
from mtl.fine_tuning import start_from
from mtl.models.configured import model_from
from mtl.onnx_predictor import OnnxGraph
from mtl.qat.settings import for_qat
from mtl.run import Run
from mtl.settings import RunSettings

from edge_mtl.backends import open_backend
from edge_mtl.bundle import CALIBRATION, GOLDEN, OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import BuildError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import BoxesSpec, BoxTruth, graph_outputs
from tests.synthetic_data import rectangle_settings
from tests.tiny_training import quiet, tiny_training

pytestmark = pytest.mark.training

SIZE = (64, 96)
TASKS = ("things", "objects", "scene")


def settings_of(folder: Path, **changes: str) -> RunSettings:
    return rectangle_settings(folder, TASKS, **{"model.backbone": "test_convnext", "model.width": "16", **changes})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSettings, Path]:
    folder = tmp_path_factory.mktemp("runs")
    stages = "[{height=64, width=96, steps=6, batch=4}]"
    changes = {"stages": stages, "augment.mix": "0.5", "loop.accumulate": "2", "losses.class_weights": "true"}
    settings = settings_of(folder, name="five", **changes)
    return settings, Run(settings, console=quiet()).train()


@pytest.fixture(scope="module")
def bundle(trained: tuple[RunSettings, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return export_bundle(trained[1], tmp_path_factory.mktemp("bundles") / "five", console=quiet(), command="a test")


def records(settings: RunSettings) -> list[dict[str, Any]]:
    lines = (Path(settings.folder) / settings.name / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "validation"]


def test_every_task_is_measured_as_training_continues(trained: tuple[RunSettings, Path]) -> None:
    settings, checkpoint = trained
    record = records(settings)[-1]
    assert {"miou", "ap", "ap50", "top1", "top5"} <= set(record)
    assert set(record["losses"]) == set(TASKS)
    assert all(np.isfinite(value) for value in record["losses"].values())
    tasks = load_weights(checkpoint)[1]["tasks"]
    assert [tasks[name]["kind"] for name in TASKS] == ["labels", "boxes", "class"]
    assert (Path(settings.folder) / settings.name / "pictures").is_dir()


def test_the_exported_graphs_have_the_outputs_of_the_kinds_and_answer_as_torch(
    trained: tuple[RunSettings, Path], bundle: Bundle
) -> None:
    settings, checkpoint = trained
    specs = bundle.manifest.tasks
    frames = held_out_frames(settings.data, "test").open()
    for name, placement in ((OPTIMIZED_ONNX, "host"), (REFERENCE_ONNX, "graph")):
        outputs = open_backend("onnxruntime", bundle.read(name), threads=1).outputs
        assert {one: tuple(tensor.shape) for one, tensor in outputs.items()} == graph_outputs(specs, SIZE, placement)  # type: ignore[arg-type]
    graph = OnnxGraph(bundle.read(OPTIMIZED_ONNX), specs, threads=1)
    model = load_trained(checkpoint).model
    by_torch = evaluate(model_predictor(model), frames, specs, size=SIZE)
    by_onnx = evaluate(graph, frames, specs, size=SIZE)
    assert by_onnx == pytest.approx(by_torch, rel=1e-3, abs=1e-3, nan_ok=True)
    assert set(by_torch) <= set(bundle.manifest.accuracy["fp32"]) | {key for key, value in by_torch.items() if value != value}


def test_a_bundle_holds_truths_and_golden_answers_of_every_task(trained: tuple[RunSettings, Path], bundle: Bundle) -> None:
    frames = held_out_frames(trained[0].data, "test").open()
    items = list(evaluation_frames(bundle))
    truth, expected = items[0].targets["objects"], frames[0].truths["objects"]
    assert isinstance(truth, BoxTruth)
    np.testing.assert_allclose(truth.xyxy, expected.xyxy, atol=1e-3)
    np.testing.assert_array_equal(truth.classes, expected.classes)
    assert [item.targets["scene"] for item in items] == [frames[number].truths["scene"] for number in range(len(items))]
    (golden,) = (name for name in bundle.list(GOLDEN) if name.endswith(".npz"))
    with np.load(bundle.path / golden) as arrays:
        assert set(arrays) == set(graph_outputs(bundle.manifest.tasks, SIZE, "host"))


def test_boxes_and_class_are_labelled_on_more_frames_than_maps(trained: tuple[RunSettings, Path], tmp_path: Path) -> None:
    wanted = {"data.test": "9", "export.evaluation": "2", "export.evaluation_sparse": "6", "export.golden": "1"}
    bundle = export_bundle(trained[1], tmp_path / "more", overrides=wanted, console=quiet(), command="a test")
    items = list(evaluation_frames(bundle))
    assert [tuple(item.targets) for item in items] == 2 * [TASKS] + 4 * [("objects", "scene")]
    assert all(item.intrinsics is not None for item in items)
    pixels = {item.frame.tobytes() for item in items}
    (golden,) = (name for name in bundle.list(GOLDEN) if name.endswith(".png"))
    assert len(pixels) == 6, "different frames"
    assert (image := decode_image(bundle.read(golden))) is not None
    assert image.tobytes() not in pixels
    few = export_bundle(
        trained[1],
        tmp_path / "few",
        overrides={**wanted, "data.test": "3", "export.embed_images": "'never'"},
        console=quiet(),
        command="a test",
    )
    assert len(list(evaluation_frames(few))) == 6, "rooms stand in, however few frames there are"


def test_a_bundle_of_some_tasks_answers_these_as_the_whole_one(
    trained: tuple[RunSettings, Path], bundle: Bundle, tmp_path: Path
) -> None:
    wanted = ("scene", "things")
    some = export_bundle(trained[1], tmp_path / "some", tasks=wanted, console=quiet(), command="a test")
    assert tuple(some.manifest.tasks) == ("things", "scene")
    assert not {"ap", "ap50"} & set(some.manifest.accuracy["fp32"])
    assert tuple(load_trained(some.path).model.specs) == ("things", "scene"), "its weights are whole"
    frame = decode_image(bundle.read(next(name for name in bundle.list(GOLDEN) if name.endswith(".png"))))
    assert frame is not None
    with Engine(some, precision="fp32", threads=1) as part, Engine(bundle, precision="fp32", threads=1) as whole:
        found, expected = part.predict(frame), whole.predict(frame)
    assert found.boxes is None
    np.testing.assert_array_equal(found["things"].labels, expected["things"].labels)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found.scene.probabilities, expected.scene.probabilities, atol=1e-6)  # type: ignore[union-attr]
    with pytest.raises(BuildError, match="expected some of things, objects, scene"):
        export_bundle(trained[1], tmp_path / "none", tasks=("smell",), console=quiet(), command="a test")
    assert not (tmp_path / "none").exists()


def test_an_engine_predicts_what_the_trained_network_does(trained: tuple[RunSettings, Path], bundle: Bundle) -> None:
    settings, checkpoint = trained
    frames = held_out_frames(settings.data, "test").open()
    model = load_trained(checkpoint).model
    specs = {**model.specs, "objects": replace(model.specs["objects"], score=0.001)}
    judged = next(judge(model_predictor(model), frames, specs, size=SIZE))
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1, output_size="network") as engine:
        prediction = engine.predict(frames[0].image, intrinsics=frames[0].intrinsics)
    found, expected = prediction["objects"].measured, judged.predicted["objects"]
    assert len(expected) > 0
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
    np.testing.assert_allclose(prediction["scene"].probabilities, judged.predicted["scene"].probabilities, atol=1e-4)


def test_settings_of_the_export_decide_which_boxes_a_bundle_answers(
    trained: tuple[RunSettings, Path], bundle: Bundle, tmp_path: Path
) -> None:
    """Also when the checkpoint is there already; what was learnt knows nothing of it."""
    learnt = cast(BoxesSpec, bundle.manifest.tasks["objects"])
    given = {"export.boxes": "{ objects = { score = 0.002, most = 3 } }"}
    other = export_bundle(trained[1], tmp_path / "other", console=quiet(), command="a test", overrides=given)
    assert other.manifest.tasks == {**bundle.manifest.tasks, "objects": replace(learnt, score=0.002, most=3)}
    assert other.manifest.tasks["objects"].nms_iou == 0.6, "what is not named stays"
    image = held_out_frames(trained[0].data, "test").open()[0].image
    with Engine(other, backend="onnxruntime", precision="fp32", threads=1) as engine:
        found = engine.predict(image)["objects"]
    assert len(found) == 3, "an untrained network has many boxes of low scores"
    with pytest.raises(ConfigError, match=r"export\.boxes\.cups is not a task of boxes: they are objects"):
        load_trained(trained[1], overrides={"export.boxes.cups.score": "0.5"})
    with pytest.raises(ConfigError, match=r"export\.boxes\.cups is not a task of boxes: they are objects"):
        load_trained(bundle.path, overrides={"export.boxes.cups.score": "0.5"})


def test_both_runtimes_take_it_in_int8_with_the_last_layers_in_float(bundle: Bundle) -> None:
    frames = [decode_image(bundle.read(name)) for name in bundle.list(CALIBRATION, suffixes=(".jpg",))]
    model, recipe = bundle.read(OPTIMIZED_ONNX), load_recipe()
    calibrated = calibrate(model, [one for one in frames if one is not None], recipe=recipe, threads=1)
    for target in ("onnxruntime", "openvino"):
        payload = insert_qdq(model, calibrated, recipe=recipe, target=target)
        graph = onnx.load_from_string(payload).graph
        made = {output: node for node in graph.node for output in node.output}
        convolutions = [made[f"objects_scores_{level}"] for level in (8, 16, 32)]
        convolutions += [made[made[f"objects_boxes_{level}"].input[0]] for level in (8, 16, 32)]
        assert {node.op_type for node in convolutions} == {"Conv"}
        assert not [node.name for node in convolutions if node.input[1] in made], "their weights are no integers"
        assert sum(node.op_type == "DequantizeLinear" for node in graph.node) > 30
        found = open_backend(target, payload, threads=1, precision="int8").run(
            {"image": np.full((1, 3, *SIZE), 127, np.float32)}
        )
        assert set(found) == set(graph_outputs(bundle.manifest.tasks, SIZE, "host"))
        assert all(np.isfinite(value).all() for value in found.values())


def test_a_resumed_run_takes_the_steps_of_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, **{"augment.mix": "0.5", "stages": "[{height=64, width=96, steps=4, batch=2}]"})
    request = train_frames(settings.data, settings.stages[0])
    plan = BatchPlan(settings.seed, 0, SIZE, 2, 4, settings.augment)
    steps = StepBatches(request, plan)
    one = tiny_training(settings)
    one.advance(steps[0])
    state = copy.deepcopy(one.state())
    expected = one.advance(steps[1])
    other = tiny_training(settings)
    assert other.step == 0
    other.restore(state)
    found = other.advance(StepBatches(request, plan)[1])
    assert set(found.losses) == set(TASKS)
    assert found.losses == expected.losses
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=1e-6)


def test_heads_that_a_bundle_does_not_have_start_fresh_and_the_others_are_taken(
    trained: tuple[RunSettings, Path], bundle: Bundle
) -> None:
    settings = replace(trained[0], model=replace(trained[0].model, tasks=("objects", "scene")))
    specs = {name: bundle.manifest.tasks[name] for name in ("objects", "scene")}
    fewer = model_from(settings, pretrained=False, specs=specs)
    assert fewer.decoder is None
    remarks = start_from(fewer, bundle.path)
    assert set(remarks) == {"things"}
    weights, _ = load_weights(bundle.path)
    torch.testing.assert_close(fewer.state_dict()["heads.scene.output.weight"], weights["heads.scene.output.weight"])
    other = {**specs, "scene": replace(specs["scene"], classes=("a", "b", "c"))}
    changed = model_from(settings, pretrained=False, specs=other)
    assert "3 classes here, 4 there" in start_from(changed, bundle.path)["scene"]


def test_fine_tuning_for_integers_learns_boxes_and_class_from_the_network_of_before(
    trained: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    given = {"model.init": f"'{trained[1]}'", "qat.calibration": "2", "qat.steps": "2", "name": "rounded"}
    settings = for_qat(settings_of(tmp_path, **given), given=given)
    checkpoint = Run(settings, console=quiet()).train()
    record = records(settings)[-1]
    assert set(record["losses"]) == set(TASKS)
    assert all(np.isfinite(value) for value in record["losses"].values())
    made = load_trained(checkpoint, overrides={"export.boxes.objects.nms_iou": "0.4"})
    assert made.fine_tuned is not None
    assert made.fine_tuned.specs == made.model.specs
    assert made.model.specs["objects"].nms_iou == 0.4
