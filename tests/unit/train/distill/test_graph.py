"""An ONNX graph as a teacher: what its notes must say, how it is run, and a run that learns from it, stops and goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from mtl.checkpoint import CheckpointError, load_weights
from mtl.distill.distillation import Distillation
from mtl.distill.graph import GraphAnswers, GraphMaps, TeacherGraph
from mtl.distill.graph_notes import KEY, TeacherNotes, read_notes, with_notes
from mtl.distill.teachers import make_distillation
from mtl.loop import Training
from mtl.losses import MultiTaskLoss
from mtl.models.configured import model_from
from mtl.run import BEST, Run
from mtl.settings import RunSettings, SourceSettings
from mtl.weighting import make_weighting
from torch.nn import functional as F

from edge_mtl.backends import open_backend
from edge_mtl.errors import BackendUnavailable, BuildError, BundleError
from edge_mtl.tasks import NYU_TASKS, LabelsSpec
from tests.teacher_graphs import FEATURES, SIZE, noted, notes_of, teacher_graph
from tests.tiny_training import made_up_batch, make_rooms, quiet, tiny_settings

pytestmark = pytest.mark.training

_SPEC = NYU_TASKS["segmentation"]
assert isinstance(_SPEC, LabelsSpec)
SPEC: LabelsSpec = _SPEC
ABOUT = {"title": "noise", "licence": "none needed", "steps": 150, "fine_tuned_on": [{"title": "NYU Depth v2"}]}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_rooms(tmp_path_factory.mktemp("rooms"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(noted(SPEC, about=ABOUT))
    return path


def settings_of(tmp_path: Path, file: Path, **changes: str) -> RunSettings:
    exact = {"distill.graph_precision": "fp32"}
    return tiny_settings(tmp_path, tmp_path, **{"distill.graph": f"'{file}'", **exact, **changes})


def distillation_of(settings: RunSettings) -> Distillation:
    torch.manual_seed(3)
    found = make_distillation(settings, model_from(settings))
    assert found is not None
    return found


def training_of(settings: RunSettings) -> Training:
    torch.manual_seed(settings.seed)
    model = model_from(settings)
    loss = MultiTaskLoss(settings.losses, model.specs, stride=model.stride)
    weighting = make_weighting(settings.losses, tasks=model.tasks, seed=settings.seed)
    return Training(model, loss, weighting, settings, distillation=distillation_of(settings))


def graph_of(training: Training) -> TeacherGraph:
    assert training._distillation is not None
    assert training._distillation.features is not None
    maps, answers = training._distillation.features.maps, training._distillation._answers
    assert isinstance(maps, GraphMaps)
    assert isinstance(answers, GraphAnswers)
    assert maps._graph is answers._graph  # one graph for both
    return maps._graph


def runs_of(graph: TeacherGraph, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the images that it really runs on, as they come."""
    found: list[tuple[int, ...]] = []
    run = graph._run

    def counted(image: torch.Tensor) -> Any:
        found.append(tuple(image.shape))
        return run(image)

    monkeypatch.setattr(graph, "_run", counted)
    return found


def test_notes_come_back_as_they_were_written_and_the_graph_stays() -> None:
    model = teacher_graph(13)
    notes = notes_of(SPEC, about=ABOUT)
    found = read_notes(with_notes(with_notes(model, TeacherNotes()), notes), name="t")
    assert found == replace(notes, tasks={SPEC.name: replace(SPEC, colours=found.tasks[SPEC.name].colours)})
    assert onnx.load_from_string(with_notes(model, notes)).graph.node == onnx.load_from_string(model).graph.node


def changed(**content: Any) -> bytes:
    """A graph whose notes have other content."""
    model = onnx.load_from_string(noted(SPEC))
    (entry,) = model.metadata_props
    entry.value = json.dumps({**json.loads(entry.value), **content})
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            teacher_graph(13),
            rf"does not say what its outputs mean: expected an entry '{KEY}'.*graph_notes\.with_notes.*make_teacher",
        ),
        (changed(format=9), r"format is 9, this edge_mtl reads 1.*Write them again"),
        (changed(answers={"segmentation": {"kind": "labels"}}), r"not as expected \('meaning'\)"),
        (
            changed(answers={"d": {"kind": "depth", "meaning": "metres", "output": "answers"}}),
            r"d should be of the kind labels, log-probabilities; found depth, metres",
        ),
        (changed(features=[{"output": "features7", "stride": 8}]), r"'features7' as a map .*found no such output"),
        (
            with_notes(teacher_graph(12), notes_of(SPEC)),
            r"'answers' as a map \(1, 13, height, width\); found \(1, 12, 8, 16\)",
        ),
        (with_notes(teacher_graph(13, frames=2), notes_of(SPEC)), r"takes \(2, 3, 32, 64\): expected one image"),
        (b"no graph", r"teacher\.onnx"),
    ],
)  # fmt: skip
def test_graphs_that_do_not_say_what_they_teach_are_refused(model: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "teacher.onnx"
    path.write_bytes(model)
    with pytest.raises(BuildError, match=message):
        TeacherGraph(path, precision="fp32")


def test_missing_files_and_outputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"distill\.graph: there is no file nowhere\.onnx"):
        TeacherGraph(Path("nowhere.onnx"))
    with pytest.raises(BuildError, match=r"has no output 'z': it has answers, features8"):
        with_notes(teacher_graph(13), TeacherNotes({SPEC.name: SPEC}, {SPEC.name: "z"}))


def test_batches_of_any_size_are_answered_as_frame_by_frame_and_images_are_resized(file: Path) -> None:
    graph = TeacherGraph(file, precision="fp32")
    torch.manual_seed(2)
    image = torch.rand(3, 3, 48, 96) * 255
    found = graph.outputs(image)
    small = F.interpolate(image, size=SIZE, mode="bilinear", align_corners=False, antialias=True)
    backend = open_backend("onnxruntime", file.read_bytes())
    for number in range(3):
        wanted = backend.run({"image": small[number : number + 1].numpy()})
        for name in ("answers", *(f"features{stride}" for stride in FEATURES)):
            np.testing.assert_allclose(found[name][number : number + 1].numpy(), wanted[name], rtol=1e-4, atol=1e-4)
    like = {SPEC.name: torch.zeros(3, 13, 12, 24)}
    answers = GraphAnswers(graph, [SPEC.name])(image, like)[SPEC.name]
    expected = F.interpolate(found["answers"], size=(12, 24), mode="bilinear", align_corners=False)
    assert torch.equal(answers, expected)
    assert not answers.requires_grad


def test_without_openvino_onnx_runtime_runs_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mtl.distill.graph as module

    def only_onnxruntime(name: str, *arguments: Any, **options: Any) -> Any:
        if name != "onnxruntime":
            raise BackendUnavailable(f"{name} is not installed")
        return open_backend(name, *arguments, **options)

    monkeypatch.setattr(module, "open_backend", only_onnxruntime)
    image = torch.rand(2, 3, *SIZE) * 255
    graph = TeacherGraph(file)
    assert graph.run_by.startswith("onnxruntime")
    assert graph.outputs(image)["answers"].shape == (2, 13, 8, 16)
    monkeypatch.setattr(module, "open_backend", lambda *_, **__: (_ for _ in ()).throw(BackendUnavailable("nothing is here")))
    with pytest.raises(BackendUnavailable, match="nothing is here"):
        TeacherGraph(file)


def test_a_graph_with_operators_that_no_network_needs_is_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(noted(SPEC))
    model.graph.node[0].op_type, model.graph.node[0].domain = "Mystery", "elsewhere"
    path = tmp_path / "teacher.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises((BuildError, BundleError), match="elsewhere"):
        TeacherGraph(path)


def test_answers_and_features_of_a_batch_are_of_one_run(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = training_of(settings_of(tmp_path, file, **{"loop.accumulate": "2"}))
    runs = runs_of(graph_of(training), monkeypatch)
    report = training.advance(made_up_batch(4))
    assert runs == [(2, 3, *SIZE)] * 2  # once for each half
    assert 0 < report.features < 2
    before = report.losses["segmentation"]
    assert training.advance(made_up_batch(4)).losses["segmentation"] != before
    assert len(runs) == 4


def test_answers_are_of_named_sources_and_features_of_all(tmp_path: Path, file: Path) -> None:
    settings = settings_of(tmp_path, file)
    sources = {"nyu": SourceSettings(), "rooms": SourceSettings()}
    settings = replace(settings, data=replace(settings.data, sources=sources))
    settings = replace(settings, distill=replace(settings.distill, sources=("nyu",)))
    batch = replace(made_up_batch(4), targets={})
    reports = {source: training_of(settings).advance(replace(batch, source=source)) for source in sources}
    assert list(reports["nyu"].losses) == ["segmentation"]
    assert reports["rooms"].losses == {}
    assert reports["nyu"].features == pytest.approx(reports["rooms"].features, rel=1e-5)


def test_the_distance_is_that_of_answers_with_weight_and_temperature(tmp_path: Path, file: Path) -> None:
    warm = {"distill.weights": "{segmentation = 0.5}", "distill.temperature": "2.0"}
    found = distillation_of(settings_of(tmp_path, file, **warm))
    image = torch.rand(2, 3, *SIZE) * 255
    own = {"segmentation": torch.randn(2, 13, 8, 16)}
    wanted = TeacherGraph(file, precision="fp32").outputs(image)["answers"]
    p, q = (F.log_softmax(one / 2.0, dim=1) for one in (wanted, own["segmentation"]))
    expected = 0.5 * 4.0 * float((p.exp() * (p - q)).sum(dim=1).mean())
    losses = settings_of(tmp_path, file).losses
    assert float(found.distances(image, own, losses)["segmentation"]) == pytest.approx(expected, rel=1e-4)
    assert found.tasks == ("segmentation",)
    (record,) = found.teachers
    assert (record["file"], record["answers"], record["features"]) == ("teacher.onnx", ["segmentation"], True)
    assert record["about"] == ABOUT


def test_only_what_it_has_and_what_has_a_weight_is_learnt(tmp_path: Path, file: Path) -> None:
    assert distillation_of(settings_of(tmp_path, file, **{"distill.features_weight": "0"})).features is None
    alone = distillation_of(settings_of(tmp_path, file, **{"distill.weights": "{segmentation = 0}"}))
    assert (alone.tasks, alone.pulls) == ((), True)
    file.write_bytes(noted(SPEC, features=()))
    assert distillation_of(settings_of(tmp_path, file)).features is None
    file.write_bytes(noted(SPEC, features=(8,)))
    with pytest.raises(BuildError, match=r"has features for maps of strides 8, and the network has one at 16"):
        distillation_of(settings_of(tmp_path, file))
    file.write_bytes(with_notes(teacher_graph(13), TeacherNotes(features={8: "features8", 16: "features16", 32: "features32"})))
    assert distillation_of(settings_of(tmp_path, file)).tasks == ()
    with pytest.raises(BuildError, match=r"has no answers, which distill\.weights"):
        distillation_of(settings_of(tmp_path, file, **{"distill.weights": "{segmentation = 1}"}))
    with pytest.raises(BuildError, match=r"nothing of .*teacher\.onnx is learnt"):
        distillation_of(settings_of(tmp_path, file, **{"distill.features_weight": "0"}))


def test_other_classes_are_refused_by_name(tmp_path: Path, file: Path) -> None:
    other = replace(SPEC, classes=("cot", *SPEC.classes[1:]), colours=())
    file.write_bytes(noted(other))
    with pytest.raises(BuildError, match=r"distill\.graph: .*its classes have other names, such as bed here, cot there"):
        distillation_of(settings_of(tmp_path, file))
    file.write_bytes(noted(replace(SPEC, classes=SPEC.classes[:5], colours=())))
    with pytest.raises(BuildError, match=r"13 classes here, 5 there"):
        distillation_of(settings_of(tmp_path, file))


def test_a_run_says_who_taught_it_and_goes_on_with_the_same_file_only(rooms: Path, tmp_path: Path, file: Path) -> None:
    given = {"distill.graph": f"'{file}'", "loop.evaluate_every": "2", "loop.checkpoint_s": "0"}
    whole = tiny_settings(rooms, tmp_path, name="'whole'", **given)
    Run(whole, console=quiet()).train()
    part = tiny_settings(rooms, tmp_path, name="'part'", **given, stages="[{height=32, width=64, steps=2, batch=4}]")
    longer = tiny_settings(rooms, tmp_path, name="'part'", **given)
    Run(part, console=quiet()).train()
    weights, described = load_weights(tmp_path / "whole" / BEST)
    (teacher,) = described["teachers"]
    assert teacher["file"] == "teacher.onnx"
    assert teacher["about"] == ABOUT
    assert not any("projections" in name for name in weights)
    start = json.loads((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()[0])
    assert start["teachers"] == [teacher]
    Run(longer, console=quiet(), resume=True).train()
    file.write_bytes(noted(SPEC, about={"title": "another"}))
    with pytest.raises(CheckpointError, match=r"was taught by teacher\.onnx with the SHA-256"):
        Run(longer, console=quiet(), resume=True).train()
