"""Bundles whose results are no maps, alone and beside a map: engines, commands, files, recordings, exports."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest

from edge_mtl.bench.layer_groups import LayerGroupMap
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.builder.tensorrt.batch import open_batch
from edge_mtl.builder.triton import write_triton
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import TaskError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.sensitivity.blocks import find_blocks
from edge_mtl.image.demo_figure import draw
from edge_mtl.onnx_graph.batches import repeat_frames
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.recipes import CPU_INT8, TENSORRT_INT8, load_recipe
from edge_mtl.sources.samples import labelled_samples
from edge_mtl.tasks import Boxes, ClassScores, kind_of
from edge_mtl.tasks.stability import TemporalFilter
from tests.bundles import HEIGHT, WIDTH, make_image, write_image
from tests.command_line import edge_mtl
from tests.mapless_bundles import SCENES, answers, mapless_bundle

LOOSE = {"ap": 1.0, "boxes": 1.0, "top1": 1.0, "frame_class": 1.0, "rel": 10.0, "depth": 10.0}
MAX_DROP = "ap=1,boxes=1,top1=1,frame_class=1"
ONNX = ("--backend", "onnxruntime", "--precision", "fp32", "--threads", 1)
FRAME = make_image(3, height=2 * HEIGHT, width=2 * WIDTH)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """No map at all: boxes and the class of the frame."""
    return mapless_bundle(tmp_path_factory.mktemp("two") / "two")


@pytest.fixture(scope="module")
def with_depth(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return mapless_bundle(tmp_path_factory.mktemp("three") / "three", tasks=("objects", "scene", "depth"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(2):
        write_image(folder / f"{number}.png", make_image(number, height=2 * HEIGHT, width=2 * WIDTH))
    return folder


def fp32(bundle: Bundle, **options: Any) -> Engine:
    return Engine(bundle, backend="onnxruntime", precision="fp32", threads=1, **options)


def test_both_graphs_and_a_network_sized_frame_answer_the_same(bundle: Bundle) -> None:
    frame = make_image(3)
    exact = answers(bundle.manifest.tasks, bundle.read(OPTIMIZED_ONNX), frame)
    with fp32(bundle) as engine:
        found = engine.predict(frame)
        assert engine.info.tasks == ("objects", "scene")
        assert engine.info.self_test is not None
        assert {"box_f1", "probability_change"} <= set(engine.info.self_test.worst)
    np.testing.assert_allclose(found["objects"].xyxy, exact["objects"].xyxy, atol=1e-3)  # type: ignore[attr-defined]
    np.testing.assert_allclose(found["scene"].probabilities, exact["scene"].probabilities, atol=1e-5)  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", ["frame", "network", "content"])
def test_results_are_in_pixels_of_the_size_that_is_asked_for(bundle: Bundle, size: Any) -> None:
    wide = make_image(3, height=60, width=180)
    whole = {"frame": (60, 180), "network": (HEIGHT, WIDTH), "content": (32, WIDTH)}[size]
    with fp32(bundle, output_size=size) as engine:
        assert engine.map_size((60, 180)) == whole
        for asked in (None, ("scene",)):
            for finish in ("now", "lazily"):
                found = engine.predict(wide, tasks=asked, finish=finish)  # type: ignore[arg-type]
                assert found.map_size == whole
                assert found.segmentation is found.depth is found.normals is found.consistency is None
        again = engine.predict(wide, finish="lazily")
        assert again.scene is not None
        assert again.scene.name in SCENES
        assert again["objects"].size == whole
        assert pickle.loads(pickle.dumps(found)).map_size == whole
        with pytest.raises(TaskError, match="point cloud needs depth"):
            again.point_cloud()
    assert again.panel(np.zeros((*whole, 3), np.uint8)).ndim == 3


def test_an_engine_of_the_class_alone_computes_nothing_else(bundle: Bundle) -> None:
    with fp32(bundle) as whole, fp32(bundle, tasks=("scene",)) as cut:
        assert cut.info.computed == ("scene",)
        np.testing.assert_array_equal(cut.predict(FRAME)["scene"].probabilities, whole.predict(FRAME)["scene"].probabilities)


@pytest.mark.parametrize("asked", [0.9, {"objects": 0.9}])
def test_an_engine_answers_more_certain_boxes_alone_and_measures_as_before(bundle: Bundle, asked: Any) -> None:
    with fp32(bundle) as usual, fp32(bundle, min_score=asked, self_test="build") as sure:
        every, certain = usual.predict(FRAME)["objects"], sure.predict(FRAME)["objects"]
        assert sure.info.self_test is not None, "the self-test judges the bundle's own answers"
    kept = every.scores >= 0.9
    assert 0 < kept.sum() < len(every)
    np.testing.assert_array_equal(certain.xyxy, every.xyxy[kept])
    assert (certain.spec.score, bundle.manifest.tasks["objects"].score) == (0.9, 0.3)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(certain.measured.xyxy, every.measured.xyxy)
    np.testing.assert_array_equal(certain.measured.scores, every.measured.scores)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (0.2, r"min_score of objects should be at least 0\.3, with which the bundle was measured.*found 0\.2\..*export\.boxes"),
        ({"objects": 1.0}, "and less than 1; found 1.0"),
        (float("nan"), "min_score of objects should be at least 0.3"),
        ({"scene": 0.5}, "is for tasks that score what they find, such as boxes; found scene"),
        ({"cups": 0.5}, r"there is no task 'cups'\. This bundle predicts objects, scene"),
    ],
)
def test_a_score_that_a_task_cannot_have_is_refused(bundle: Bundle, asked: Any, said: str) -> None:
    with pytest.raises(TaskError, match=said):
        fp32(bundle, min_score=asked)


def test_without_boxes_a_least_score_means_nothing_and_is_refused(bundle: Bundle) -> None:
    with pytest.raises(TaskError, match=r"found scene\. Leave it out"):
        fp32(bundle, min_score=0.5, tasks=("scene",))


def test_predict_takes_a_least_score(bundle: Bundle, images: Path) -> None:
    command = ("predict", images, "--bundle", bundle.path, "--json", *ONNX)
    usual = [box["score"] for box in edge_mtl(*command).records[0]["results"]["objects"]["boxes"]]
    least = sum(usual[:2]) / 2
    wanted = [score for score in usual if score >= least]
    assert 0 < len(wanted) < len(usual)
    for text in (f"{least}", f"objects={least}"):
        outcome = edge_mtl(*command, "--min-score", text)
        assert [box["score"] for box in outcome.records[0]["results"]["objects"]["boxes"]] == wanted
    outcome = edge_mtl(*command, "--min-score", "0.1")
    assert (outcome.code, "min_score of objects should be at least 0.3" in outcome.err) == (3, True)


def test_the_temporal_filter_leaves_them_alone(with_depth: Bundle) -> None:
    smooth = TemporalFilter()
    with fp32(with_depth) as engine:
        for _ in range(2):
            found = engine.predict(FRAME)
            smoothed = smooth(FRAME, found)
    assert smoothed["objects"] is found["objects"]
    assert smoothed["scene"] is found["scene"]
    assert smoothed.map_size == found.map_size


@pytest.mark.parametrize(("recipe", "target"), [(CPU_INT8, "onnxruntime"), (CPU_INT8, "openvino"), (TENSORRT_INT8, "tensorrt")])
def test_the_last_layer_of_every_output_stays_in_floating_point(bundle: Bundle, recipe: Path, target: str) -> None:
    index = GraphIndex(parse(bundle.read(OPTIMIZED_ONNX), name="the optimized ONNX"))
    integers = {node.output[0] for node in place(index, load_recipe(recipe), target=target).layers}
    floats = {node.output[0] for node in index.nodes if node.op_type == "Conv"} - integers
    assert floats == {"scene_raw", *(f"objects_{kind}_{stride}" for kind in ("scores", "raw") for stride in (8, 16))}


def test_int8_is_built_tested_and_held_to_the_budgets_of_both_kinds(bundle: Bundle, tmp_path: Path) -> None:
    build_engine(bundle, precision="int8", threads=1, budget=Budget(LOOSE))
    with Engine(bundle, precision="int8", threads=1) as engine, fp32(bundle) as exact:
        found, reference = engine.predict(FRAME), exact.predict(FRAME)
    for name, spec in bundle.manifest.tasks.items():
        agreed = kind_of(spec).agreement(spec, found[name], reference[name])
        assert agreed.get("box_f1", 1.0) > 0.5
        assert agreed.get("probability_change", 0.0) < 0.25
    outcome = edge_mtl("verify", bundle.path, "--threads", 1, "--max-drop", MAX_DROP)
    assert outcome.code in (0, 8), outcome.err
    assert "AP %" in outcome.out
    assert "top-1 %" in outcome.out
    for name in LOOSE.keys() - {"rel", "depth"}:
        assert f"{name} " in outcome.out.partition("within budget.")[2], "held to every budget of both"
    fast, page = ("--precision", "int8", "--threads", 1, "--rounds", 2, "--json"), tmp_path / "card.html"
    (report,) = edge_mtl("benchmark", bundle.path, *fast, "--html", page).records
    assert all({"ap", "top1"} <= set(row["accuracy"]) for row in report["rows"])
    drawn = page.read_text()
    assert all(kind_of(spec).measures[0].label in drawn for spec in bundle.manifest.tasks.values())
    shown = edge_mtl("inspect", bundle.path).out
    assert "3 classes: chair, table, lamp" in shown
    assert "AP of objects is COCO's" in shown


def test_truths_beside_a_folder_are_measured(bundle: Bundle, tmp_path: Path) -> None:
    """What FP32 says is true, so it is perfect; a wrong class is found and an unknown one refused."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    for number in range(3):
        write_image(folder / f"{number}.png", make_image(40 + number))
    with fp32(bundle) as engine:
        for number in range(3):
            scene = engine.predict(make_image(40 + number)).scene
            assert isinstance(scene, ClassScores)
            truth = scene.index if number else (scene.index + 1) % len(SCENES)
            (folder / f"{number}.scene.json").write_bytes(kind_of(scene.spec).write_truth(scene.spec, truth)[".scene.json"])
    outcome = edge_mtl("verify", bundle.path, "--data", folder, "--threads", 1, "--max-drop", MAX_DROP, "--json")
    graph = outcome.records[0]["card"]["graphs"]["fp32"]
    assert graph["top1"] == pytest.approx(2 / 3, abs=1e-6)
    assert "ap" not in graph, "no frame has boxes beside it"
    (folder / "0.scene.json").write_text('{"class": "cellar"}')
    outcome = edge_mtl("verify", bundle.path, "--data", folder, "--threads", 1)
    assert "0.scene.json should hold" in outcome.err


def test_predict_writes_every_kind_of_file_and_prints_the_summaries(with_depth: Bundle, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ("predict", images, "--bundle", with_depth.path, "--out", out, "--json", *ONNX)
    outcome = edge_mtl(*command, "--files", "overlay,panel,png,npz,json")
    assert outcome.code == 0, outcome.err
    told = outcome.records[0]
    assert told["results"]["scene"]["class"] in SCENES
    assert {"class", "score", "xyxy"} <= set(told["results"]["objects"]["boxes"][0])
    names = {path.name for path in out.iterdir() if path.name.startswith("0.")}
    assert {"0.overlay.png", "0.panel.png", "0.scene.png", "0.scene.json", "0.objects.png", "0.objects.json"} <= names
    stored = json.loads((out / "0.json").read_text())
    assert stored["results"] == told["results"]
    with np.load(out / "0.npz") as arrays:
        assert arrays["scene"].shape == (len(SCENES),)
        assert arrays["objects_xyxy"].shape[1] == 4
    overlay, frame = cv2.imread(str(out / "0.overlay.png")), cv2.imread(str(images / "0.png"))
    same = (overlay == frame).all(axis=2).mean()
    assert 0.2 < same < 1.0, "boxes and text over the frame, not over the colours of the depth"


def test_predict_on_the_class_alone_saves_and_shows_it(bundle: Bundle, images: Path, tmp_path: Path) -> None:
    command = ("predict", images / "0.png", "--bundle", bundle.path, "--tasks", "scene", "--out", tmp_path / "out", *ONNX)
    outcome = edge_mtl(*command, "--files", "overlay,panel,png,npz")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("0.overlay.png", "0.panel.png", "0.scene.png", "0.scene.json", "0.npz"),
    }
    assert "Depth is right up to a factor" not in outcome.err


def test_labelled_frames_are_drawn_with_their_truths(with_depth: Bundle) -> None:
    samples = labelled_samples(with_depth, 2)
    with fp32(with_depth) as engine:
        found = [(sample, engine.predict(sample.pixels, intrinsics=sample.intrinsics)) for sample in samples]
    assert {"objects", "scene"} <= set(samples[0].truths)
    assert draw(found, title="t", subtitle="s", footnotes=[]).ndim == 3


def test_profiles_and_sensitivity_name_the_heads(bundle: Bundle) -> None:
    known = LayerGroupMap(bundle.read(REFERENCE_ONNX))
    assert known.part(["/heads/scene/output"]) == "scene head"
    assert known.part(["/heads/objects/scores_8"]) == "objects head"
    blocks = find_blocks(bundle.read(OPTIMIZED_ONNX), load_recipe(), target="onnxruntime")
    assert "objects branch" in [block.name for block in blocks]
    outcome = edge_mtl("profile", bundle.path, "--rounds", 2, *ONNX)
    assert outcome.code == 0, outcome.err
    assert "objects head" in outcome.out


def test_triton_is_told_what_each_output_is(bundle: Bundle, tmp_path: Path) -> None:
    written = write_triton(bundle, tmp_path / "models")
    config = (written.path / "config.pbtxt").read_text()
    graph = onnx.load_from_string((written.path / "1/model.onnx").read_bytes()).graph
    for output in graph.output:
        assert f'name: "{output.name}"' in config
    assert 'name: "scene_logits" data_type: TYPE_FP32 dims: [ 1, 6 ]' in config
    told = [line for line in config.splitlines() if 'key: "task_objects"' in line]
    assert len(told) == 1
    assert "objects_scores_8" in told[0]
    assert "chair" in told[0]


@pytest.mark.parametrize("place", ["host", "graph"])
def test_batches_answer_as_single_frames(bundle: Bundle, place: str) -> None:
    from onnxruntime import InferenceSession

    frames = [make_image(number) for number in range(3)]
    single = bundle.read(OPTIMIZED_ONNX if place == "host" else REFERENCE_ONNX)
    feeds = [frame.transpose(2, 0, 1)[None].astype(np.float32) if place == "host" else frame[None] for frame in frames]
    whole = repeat_frames(single, 3) if place == "host" else open_batch(single)
    alone, together = (InferenceSession(model, providers=["CPUExecutionProvider"]) for model in (single, whole))
    found = together.run(None, {"image": np.concatenate(feeds)})
    for number, feed in enumerate(feeds):
        for one, every in zip(alone.run(None, {"image": feed}), found, strict=True):
            np.testing.assert_allclose(every[number], one[0], rtol=1e-4, atol=1e-4)


def test_nothing_found_is_no_failure(bundle: Bundle) -> None:
    """A frame without objects goes through drawings and messages."""
    spec = bundle.manifest.tasks["objects"]
    kind = kind_of(spec)
    nothing = Boxes(spec, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), (128, 192))  # type: ignore[arg-type]
    assert kind.summary(spec, nothing) == {"boxes": []}
    np.testing.assert_array_equal(kind.draw(spec, FRAME, nothing), FRAME)
    topic = kind.vision_topic(spec)
    assert topic is not None
    assert len(topic.make(nothing).scores) == 0
