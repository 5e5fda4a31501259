"""Tasks of 19, 40 and 150 classes with names, colours and means of their own: from training to INT8 in both CPU runtimes,
Engine, predict, benchmark, the viewer and annotated bags."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import evaluate
import numpy as np
import pytest
from mtl.bundling import export_bundle
from mtl.datasets.sources import register
from mtl.run import Run
from mtl.settings import DataSettings

from edge_mtl.backends import available, open_backend
from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import Candidate
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BuildError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.evaluation.verify import REFERENCE, verify
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.tasks import VOID, LabelMap, Specs, read_tasks
from tests.bundles import write_image
from tests.class_blocks import Blocks, block_colours, block_names, block_settings
from tests.command_line import edge_mtl
from tests.synthetic_data import short_settings
from tests.tiny_training import quiet

pytestmark = pytest.mark.training

TASKS = {19: "segmentation", 40: "parts", 150: "parts"}
LOOSE = Budget({"miou": 1.0, "classes": 0.3, "rel": 1.0, "depth": 0.3})
CPUS = [name for name in ("onnxruntime", "openvino") if available()[name].usable]


@dataclass(frozen=True)
class Case:
    """A trained bundle with its INT8 engines of this machine."""

    count: int
    task: str
    run: Path
    bundle: Bundle

    @property
    def names(self) -> list[str]:
        return block_names(self.count)


@pytest.fixture(scope="module", params=list(TASKS), ids=lambda count: f"{count} classes")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    count, folder = request.param, tmp_path_factory.mktemp("classes")
    settings = block_settings(folder, TASKS[count], count)
    checkpoint = Run(settings, console=quiet()).train()
    bundle = export_bundle(checkpoint, folder / "bundle", console=quiet(), command="a test")
    build_engine(bundle, precision="int8", threads=1, budget=LOOSE)
    return Case(count, TASKS[count], folder / settings.name, bundle)


@pytest.fixture(scope="module")
def frame(case: Case) -> np.ndarray:
    return next(evaluation_frames(case.bundle)).frame


@pytest.fixture
def image(frame: np.ndarray, tmp_path: Path) -> Path:
    write_image(tmp_path / "blocks.png", frame)
    return tmp_path / "blocks.png"


def ran(model: bytes, frame: np.ndarray) -> dict[str, np.ndarray]:
    """What a graph that takes bytes of a frame answers in ONNX Runtime."""
    with closing(open_backend("onnxruntime", model, threads=1)) as backend:
        return backend.run({"image": frame[None]})


def labels_of(result: object) -> LabelMap:
    assert isinstance(result, LabelMap)
    return result


def test_training_and_the_bundle_know_the_classes(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    described = json.loads((case.bundle.path / "manifest.json").read_text())["tasks"][case.task]
    assert described["classes"] == case.names
    assert described["colours"] == block_colours(case.count)
    assert described["ignore_in_mean"] == ["other"]
    lines = [json.loads(line) for line in (case.run / "metrics.jsonl").read_text().splitlines()]
    (validation,) = (record for record in lines if record["kind"] == "validation")
    assert np.isfinite(validation["losses"][case.task])
    if case.count == 19:
        assert validation["pixel_accuracy"] > 1.5 / case.count, "better than chance"

    assert evaluate.main([str(case.run), "--weights", "last", "--save", str(case.run / "numbers.json")]) == 0
    assert f"The mean IoU of {case.task} leaves out: other." in capsys.readouterr().out
    truths = [labels for item in evaluation_frames(case.bundle) for labels in np.unique(item.targets[case.task])]
    assert VOID in truths
    assert max(label for label in truths if label != VOID) < case.count


@pytest.mark.parametrize("runtime", CPUS)
def test_int8_runs_in_both_runtimes_with_the_last_layer_in_floats(case: Case, frame: np.ndarray, runtime: str) -> None:
    store = EngineStore(case.bundle)
    record = next(record for record in store.list() if (record.backend, record.precision) == (runtime, "int8"))
    index = GraphIndex(parse(store.load(record), name="the engine"))
    convolutions = [node for node in index.nodes if node.op_type == "Conv"]
    (last,) = index.layers_before(f"{case.task}_logits", 1, convolutions)
    assert index.producer_type(index.producer[last].input[1]) != "DequantizeLinear", "its weights are floats"
    assert any(node.op_type == "DequantizeLinear" for node in index.nodes)
    with (
        Engine(case.bundle, backend=runtime, precision="int8", threads=1) as int8,
        Engine(case.bundle, backend=runtime, precision="fp32", threads=1) as fp32,
    ):
        assert int8.info.self_test is not None
        found, exact = (labels_of(engine.predict(frame)[case.task]) for engine in (int8, fp32))
    assert found.classes == tuple(case.names)
    assert (found.labels == exact.labels).mean() > 0.85
    assert found.labels.max() < case.count
    confidence = found.confidence
    assert confidence is not None
    assert 1 / case.count - 1e-6 <= confidence.min() <= confidence.max() <= 1 + 1e-6


def test_the_accuracy_check_judges_them_and_refuses(case: Case) -> None:
    found = verify(case.bundle, threads=1, budget=LOOSE)
    assert not found.failed
    assert {f"int8 on {name}" for name in CPUS} <= {name for name in found.verdicts if "bf16" not in name}
    assert {"miou", "classes"} <= {check.name for verdict in found.verdicts.values() for check in verdict.checks}
    assert set(found.scores[REFERENCE].details["class_iou"]) <= set(case.names)
    assert found.card["measured"]["remarks"] == [f"The mean IoU of {case.task} leaves out: other."]
    with pytest.raises(AccuracyError, match="classes that differ from FP32"):
        build_engine(case.bundle, precision="int8", threads=1, budget=Budget({"miou": 1.0, "classes": 0.0, "rel": 1.0}))


def test_classes_chosen_on_the_host_are_those_of_the_graph(case: Case, frame: np.ndarray) -> None:
    labels = ran(case.bundle.read(REFERENCE_ONNX), frame)[case.task]
    with Engine(case.bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        assert engine.info.placement == "host"
        assert (labels_of(engine.predict(frame)[case.task]).labels == labels[0]).mean() > 0.999


def test_graphs_that_end_in_labels_are_tried_on_gpus_in_half_precision_too(case: Case, frame: np.ndarray) -> None:
    """Where classes are chosen on a GPU is decided by timing both; here their graphs run on the processor."""
    tried = [Candidate("tensorrt", "fp16", plain=True), Candidate("onnxruntime-cuda", "fp16", plain=True)]
    made = candidate_graphs(case.bundle, tried, None, load_recipe(), threads=1, progress=lambda *_: None).graphs
    expected = ran(case.bundle.read(REFERENCE_ONNX), frame)[case.task]
    for candidate in tried:
        labels = ran(made[candidate], frame)[case.task]
        assert (labels.dtype, labels.shape) == (np.uint8, (1, *frame.shape[:2]))
        assert (labels == expected).mean() > 0.99


def test_predict_writes_files_and_json(case: Case, image: Path, tmp_path: Path) -> None:
    command = ("predict", image, "--bundle", case.bundle.path, "--precision", "int8", "--threads", 1)
    out = tmp_path / "out"
    outcome = edge_mtl(*command, "--out", out, "--files", "overlay,panel,png,npz")
    assert outcome.code == 0, outcome.err
    assert {path.name for path in out.iterdir()} >= {"blocks.overlay.png", "blocks.panel.png", "blocks.npz"}
    with np.load(out / "blocks.npz") as arrays:
        labels = arrays[case.task]
    shown = cv2.imread(str(out / f"blocks.{case.task}.png"))[..., ::-1]
    assert np.array_equal(shown, np.array(block_colours(case.count), np.uint8)[labels])
    (printed,) = edge_mtl(*command, "--json").records
    shares = printed["results"][case.task]["shares"]
    assert shares == pytest.approx(
        {case.names[index]: float((labels == index).mean()) for index in np.unique(labels)}, abs=1e-5
    )


def test_benchmark_inspect_and_verify_show_them(case: Case) -> None:
    fast = ("--threads", 1, "--rounds", 2, "--json")
    (report,) = edge_mtl("benchmark", case.bundle.path, "--precision", "int8", *fast).records
    assert all("miou" in row["accuracy"] for row in report["rows"])
    shown = edge_mtl("inspect", case.bundle.path).out
    assert f"{case.count} classes" in shown
    for name in ("стена", "椅子", '"[bed]"'):
        assert name in shown
    assert "leaves out: other" in " ".join(shown.split())
    said = edge_mtl("verify", case.bundle.path, "--threads", 1, "--max-drop", "miou=1,classes=0.3,rel=1,depth=0.3")
    assert said.code == 8, "a network that nobody trained is near chance"
    assert f"FP32 itself does not fit the data. {case.task}:" in said.err
    assert f"The mean IoU of {case.task} leaves out: other." in said.out


def test_the_viewer_gets_every_class(case: Case, image: Path, tmp_path: Path) -> None:
    chunk = pytest.importorskip("rerun.chunk", reason="needs rerun-sdk: pip install -e '.[view]'")
    out = tmp_path / "blocks.rrd"
    said = edge_mtl("predict", image, "--bundle", case.bundle.path, "--save", out, "--points", 2, "--threads", 1)
    assert said.code == 0, said.err
    contexts, points = [], []
    for part in chunk.RrdReader(out).stream():
        batch = part.to_record_batch()
        for name in batch.schema.names:
            if name.startswith("AnnotationContext"):
                contexts += batch.column(name).to_pylist()
            if part.entity_path == "/world/points" and "class_ids" in name:
                points += batch.column(name).to_pylist()
    (legend,) = contexts
    told = [entry["class_description"]["info"]["label"] for entry in legend[0]]
    assert told == [*case.names, "unknown"]
    assert set(points[0]) <= {*range(case.count), VOID}


@pytest.mark.skipif(find_spec("rosbags") is None, reason='needs the extra bags: pip install "edge-mtl[bags]"')
def test_annotated_bags_carry_labels_and_their_names(case: Case, frame: np.ndarray, tmp_path: Path) -> None:
    from tests.bag_files import read_bag, write_bag

    bag = write_bag(tmp_path / "tour", [frame, frame])
    chosen = ("--backend", "onnxruntime", "--precision", "int8", "--threads", "1")
    outcome = edge_mtl("predict", bag, "--bundle", case.bundle.path, "--files", "bag", *chosen)
    assert outcome.code == 0, outcome.err
    annotated = read_bag(tmp_path / "tour-maps")
    below = "" if case.task == "segmentation" else f"{case.task}/"
    told = json.loads(annotated[f"/edge_mtl/{below}labels_json"][0].data)
    assert [entry["name"] for entry in told["classes"]] == case.names
    assert [entry["color"] for entry in told["classes"]] == block_colours(case.count)
    with Engine(case.bundle, backend="onnxruntime", precision="int8", threads=1) as engine:
        expected = labels_of(engine.predict(frame)[case.task]).labels
    assert annotated[f"/edge_mtl/{case.task}"][1].data == expected.tobytes()


@pytest.mark.parametrize(("count", "found"), [(1, "found 1"), (256, "found 256")])
def test_a_data_set_of_too_few_or_too_many_classes_is_refused_in_one_sentence(count: int, found: str, tmp_path: Path) -> None:
    class Wrong(Blocks):
        def tasks(self, data: DataSettings) -> Specs:
            return read_tasks({"parts": {"kind": "labels", "classes": [f"part {number}" for number in range(self.count)]}})

    register(Wrong(f"wrong-{count}", "parts", count))
    with pytest.raises(BuildError, match=f"'wrong-{count}' describes its tasks wrongly: .* 2 to 255 names; {found}. Mend"):
        short_settings(tmp_path, f"wrong-{count}", ("parts",), {})
