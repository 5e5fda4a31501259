"""Engine: only what is asked for is finished, and an engine that was opened for some tasks computes no others."""

from __future__ import annotations

import gc
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edge_mtl.backends import CompiledGraph, available, open_backend
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.resolve import resolve_engine
from edge_mtl.errors import AccuracyError, BundleError, TaskError
from edge_mtl.evaluation.self_test import run_self_test, tolerance_of
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.io_spec import placement
from edge_mtl.onnx_graph.cut import output_names
from edge_mtl.prediction import Prediction
from edge_mtl.tasks import NYU_TASKS, TASK_NAMES, read_tasks
from edge_mtl.tasks.asked import LazyResults
from tests.bundles import dense_model, host_model, make_bundle, make_image

HERE = [name for name, found in available().items() if found.usable]
SIZE = (48, 80)


def frame_of(seed: int) -> np.ndarray:
    return make_image(seed, height=SIZE[0], width=SIZE[1])


def maps_of(prediction: Prediction) -> dict[str, np.ndarray | None]:
    return {name: getattr(prediction, name) for name in TASK_NAMES}


def assert_same(found: Prediction, expected: Prediction, tasks: tuple[str, ...]) -> None:
    """The maps of `tasks` to the last bit, and no others."""
    for name, values in maps_of(found).items():
        if name in tasks:
            assert np.array_equal(values, getattr(expected, name), equal_nan=True), name
        else:
            assert values is None, name


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(make_bundle(tmp_path_factory.mktemp("asked") / "tiny"), threads=1) as opened:
        yield opened


@pytest.mark.parametrize("tasks", [("depth",), ("segmentation", "normals"), TASK_NAMES])
def test_only_what_is_asked_for_is_finished_and_is_as_in_the_whole_prediction(
    engine: Engine, finished: Counter[str], tasks: tuple[str, ...]
) -> None:
    whole = engine.predict(frame_of(1))
    finished.clear()
    found = engine.predict(frame_of(1), tasks=tasks)
    assert finished == Counter({NYU_TASKS[name].kind: 1 for name in tasks})
    assert list(found.results) == list(tasks)
    assert found.not_asked == tuple(name for name in TASK_NAMES if name not in tasks)
    assert_same(found, whole, tasks)
    assert (found.map_size, found.intrinsics, found.frame_size) == (whole.map_size, whole.intrinsics, whole.frame_size)


def test_what_was_not_asked_for_says_so_and_names_what_was(engine: Engine) -> None:
    prediction = engine.predict(frame_of(1), tasks=["depth"])
    with pytest.raises(TaskError, match=r"'normals' was not asked for, only depth\. Name it in tasks of Engine\.predict"):
        prediction["normals"]
    with pytest.raises(TaskError, match=r"no task 'lane'; it predicts depth, segmentation, normals"):
        prediction["lane"]
    with pytest.raises(TaskError, match=r"An overlay needs segmentation, which is not among depth\. Name it"):
        prediction.overlay(frame_of(1))
    assert (prediction.confidence, prediction.consistency, prediction.classes) == (None, None, ())
    assert prediction.point_cloud(frame_of(1)).labels is None
    assert prediction.panel(frame_of(1)).ndim == 3


@pytest.mark.parametrize("options", [{"tasks": ("lane",)}, {"tasks": ()}, {"tasks": "depth"}])
def test_what_is_no_task_is_refused_before_anything_runs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    ran = []
    monkeypatch.setattr(InferencePipeline, "infer", lambda *_: ran.append(1))
    with pytest.raises(TaskError, match="This engine predicts segmentation, depth, normals"):
        engine.predict(frame_of(1), **options)
    with pytest.raises(TaskError, match="This engine predicts"):
        next(engine.stream([frame_of(1)], **options))
    with pytest.raises(ValueError, match="finish should be one of 'now', 'lazily'; found 'later'"):
        engine.predict(frame_of(1), finish="later")  # type: ignore[arg-type]
    assert ran == []


def test_a_lazy_prediction_finishes_what_is_read_when_it_is_read(engine: Engine, finished: Counter[str]) -> None:
    whole = engine.predict(frame_of(2))
    finished.clear()
    lazy = engine.predict(frame_of(2), finish="lazily")
    assert (lazy.map_size, list(lazy.results), lazy.bad_values) == (SIZE, list(TASK_NAMES), 0)
    assert repr(lazy).startswith("Prediction(segmentation, depth, normals; 48x80;")
    assert not finished
    assert np.array_equal(lazy.depth, whole.depth)
    assert lazy.depth is lazy["depth"].depth_m
    assert finished == Counter(depth=1)
    assert np.array_equal(lazy.consistency, whole.consistency, equal_nan=True)
    assert finished == Counter(depth=1, normals=1)
    assert lazy.classes == whole.classes
    assert np.array_equal(lazy.confidence, whole.confidence)
    assert finished == Counter(depth=1, normals=1, labels=1)
    assert_same(lazy, whole, TASK_NAMES)
    assert finished == Counter(depth=1, normals=1, labels=1)


def test_lazy_results_of_some_tasks(engine: Engine, finished: Counter[str]) -> None:
    lazy = engine.predict(frame_of(2), tasks=("normals",), finish="lazily")
    assert lazy.depth is None
    assert not finished
    with pytest.raises(TaskError, match="was not asked for"):
        lazy["depth"]
    assert lazy.normals is not None
    assert finished == Counter(normals=1)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("output_size", ["frame", "network", "content"])
def test_no_later_frame_overwrites_what_a_lazy_result_is_made_of(tiny_bundle: Bundle, backend: str, output_size: Any) -> None:
    with Engine(tiny_bundle, backend=backend, threads=1, output_size=output_size) as opened:
        expected = opened.predict(frame_of(3))
        kept = {name: values.copy() for name, values in maps_of(expected).items() if values is not None}
        del expected
        lazy = opened.predict(frame_of(3), finish="lazily")
        for seed in range(4, 12):  # memory that is free is used again
            opened.predict(frame_of(seed))
        half = lazy.depth
        for seed in range(12, 20):
            opened.predict(frame_of(seed))
    gc.collect()  # the engine is closed, its runtime gone
    assert half is lazy.depth
    for name, values in kept.items():
        assert np.array_equal(getattr(lazy, name), values, equal_nan=True), name


def test_a_result_that_was_read_frees_what_it_was_made_of(engine: Engine) -> None:
    lazy = engine.predict(frame_of(1), finish="lazily")
    assert isinstance(lazy.results, LazyResults)
    once = lazy.results._once["depth"]
    (held,) = once._make.args[1].values()  # type: ignore[union-attr]
    assert held.shape == (1, 1, 16, 24)
    assert lazy.depth is not None
    assert once._make is None


def test_bad_values_of_lazy_results_count_when_they_are_read(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    infer = InferencePipeline.infer

    def flawed(self: InferencePipeline, prepared: Any) -> Any:
        outputs = {name: values.copy() for name, values in infer(self, prepared).items()}
        outputs["depth_quarter"][0, 0, 8, 12] = np.nan
        outputs["normals_quarter"][0, :, 8, 12:14] = np.inf
        return outputs

    monkeypatch.setattr(InferencePipeline, "infer", flawed)
    assert engine.predict(frame_of(1)).bad_values == 3
    assert engine.predict(frame_of(1), tasks=("depth",)).bad_values == 1
    lazy = engine.predict(frame_of(1), finish="lazily")
    assert lazy.bad_values == 0
    assert lazy.depth is not None
    assert lazy.bad_values == 1
    assert replace(lazy, results=dict(lazy.results)).bad_values == 3
    with pytest.raises(AttributeError, match="no attribute 'depht'"):
        _ = lazy.depht  # type: ignore[attr-defined]


def test_a_stream_finishes_only_what_is_asked_for(engine: Engine, finished: Counter[str]) -> None:
    frames = [frame_of(seed) for seed in range(4)]
    expected = [engine.predict(frame) for frame in frames]
    finished.clear()
    found = list(engine.stream(frames, tasks=("segmentation",)))
    assert finished == Counter(labels=4)
    for one, whole in zip(found, expected, strict=True):
        assert_same(one, whole, ("segmentation",))
    finished.clear()
    lazy = list(engine.stream(frames, finish="lazily"))
    assert not finished
    for one, whole in zip(lazy, expected, strict=True):
        assert_same(one, whole, TASK_NAMES)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("stored", ["host", "graph"])
def test_an_engine_of_some_tasks_computes_no_others_and_answers_the_same(tmp_path: Path, backend: str, stored: str) -> None:
    bundle = make_bundle(tmp_path / "tiny", placement=stored)
    with (
        Engine(bundle, backend=backend, threads=1) as whole,
        Engine(bundle, backend=backend, threads=1, tasks=("normals",)) as some,
    ):
        assert (whole.info.tasks, whole.info.computed) == (TASK_NAMES, TASK_NAMES)
        assert (some.info.tasks, some.info.computed, some.info.placement) == (("normals",), ("normals",), stored)
        found = some.predict(frame_of(5))
        assert found.not_asked == ("segmentation", "depth")
        assert_same(found, whole.predict(frame_of(5)), ("normals",))
        assert some.info.self_test is not None
        assert list(some.info.self_test.worst) == ["normal_angle_deg"]
        with pytest.raises(TaskError, match=r"no task 'depth'\. This engine predicts normals"):
            some.predict(frame_of(5), tasks=("depth",))
        with pytest.raises(TaskError, match="'depth' was not asked for, only normals"):
            found["depth"]


@pytest.mark.parametrize("backend", HERE)
def test_an_int8_engine_that_is_cut_answers_as_the_whole_one_and_leaves_the_store_alone(
    own_bundle: Bundle, backend: str
) -> None:
    build_engine(own_bundle, precision="int8", backend=backend, threads=1, budget=None)
    stored = {path: path.read_bytes() for path in EngineStore(own_bundle).folder.iterdir()}
    with Engine(own_bundle, precision="int8", threads=1) as whole:
        assert whole.info.loading == "compiled code"
        for task in TASK_NAMES:
            with Engine(own_bundle, precision="int8", threads=1, tasks=(task,)) as some:
                assert some.info.engine_key == whole.info.engine_key
                assert (some.info.computed, some.info.loading) == ((task,), f"the graph: it was cut to {task}")
                assert_same(some.predict(frame_of(5)), whole.predict(frame_of(5)), (task,))
    with Engine(own_bundle, precision="int8", threads=1) as again:
        assert again.info.loading == "compiled code"
    assert {path: path.read_bytes() for path in EngineStore(own_bundle).folder.iterdir()} == stored


def test_an_engine_cannot_be_opened_for_what_the_bundle_does_not_have(tiny_bundle: Bundle) -> None:
    with pytest.raises(TaskError, match=r"no task 'lane'\. This bundle predicts segmentation, depth, normals"):
        Engine(tiny_bundle, tasks=("lane",))


def test_the_self_test_judges_only_the_tasks_that_were_asked_for(tmp_path: Path) -> None:
    good, other = host_model(), host_model(seed=5)
    broken = onnx.load_from_string(good)
    worse = {tensor.name: tensor for tensor in onnx.load_from_string(other).graph.initializer}
    changed = [tensor for tensor in broken.graph.initializer if "normals" in tensor.name]
    assert changed
    for tensor in changed:
        tensor.CopyFrom(worse[tensor.name])
    bundle = make_bundle(tmp_path / "tiny")
    whole = open_backend(HERE[0], broken.SerializeToString(), threads=1)
    try:
        with pytest.raises(AccuracyError, match="Normals"):
            run_self_test(whole, bundle)
        with pytest.raises(AccuracyError, match="Normals"):
            run_self_test(whole, bundle, tasks=("depth", "normals"))
        report = run_self_test(whole, bundle, tasks=("segmentation", "depth"))  # as of a plan, which computes all the same
        assert set(report.worst) == {"argmax_agreement", "depth_relative_difference"}
    finally:
        whole.close()


def test_one_of_two_tasks_of_a_kind_is_judged_by_its_own_key(tmp_path: Path) -> None:
    specs = read_tasks({"near": {"kind": "depth"}, "far": {"kind": "depth"}})
    model = dense_model(specs)
    bundle = make_bundle(tmp_path / "two", of_kinds=specs, deploy=model, plain=model, evaluation=0)
    assert list(tolerance_of(specs, "fp32", ("far",))) == ["far.depth_relative_difference"]
    with Engine(bundle, threads=1) as whole, Engine(bundle, threads=1, tasks=("far",)) as some:
        assert some.info.self_test is not None
        assert list(some.info.self_test.worst) == ["far.depth_relative_difference"]
        assert np.array_equal(some.predict(frame_of(1))["far"].depth_m, whole.predict(frame_of(1))["far"].depth_m)


def test_compiled_code_of_the_whole_graph_is_not_used_for_a_part_of_it_and_nothing_is_stored(tiny_bundle: Bundle) -> None:
    choice = replace(resolve_engine(tiny_bundle), compiled=CompiledGraph(b"whole", "this runtime"), uncompiled="")
    manifest = tiny_bundle.manifest
    assert choice.cut_to(manifest.tasks, manifest) is choice
    cut = choice.cut_to({"depth": manifest.tasks["depth"]}, manifest)
    assert (cut.compiled, cut.uncompiled) == (None, "it was cut to depth")
    assert output_names(cut.model) == ("depth_quarter",)
    before = sorted(path.name for path in tiny_bundle.path.rglob("*"))
    with Engine(tiny_bundle, tasks=("depth",), threads=1):
        pass
    assert sorted(path.name for path in tiny_bundle.path.rglob("*")) == before


def test_a_plan_is_not_cut_and_only_what_is_asked_for_is_finished(tiny_bundle: Bundle, finished: Counter[str]) -> None:
    manifest = tiny_bundle.manifest
    plan = replace(resolve_engine(tiny_bundle), backend="tensorrt", model=b"a plan, no graph")
    assert plan.cut_to({"depth": manifest.tasks["depth"]}, manifest) is plan
    whole = open_backend(HERE[0], tiny_bundle.read(OPTIMIZED_ONNX), threads=1)  # as a plan: all outputs
    try:
        pipeline = InferencePipeline(whole, manifest, tasks=("depth",))
        assert (tuple(pipeline.tasks), tuple(pipeline.computed)) == (("depth",), TASK_NAMES)
        assert list(pipeline(frame_of(1)).results) == ["depth"]
        assert finished == Counter(depth=1)
    finally:
        whole.close()


def test_a_graph_with_other_outputs_is_refused_before_it_is_cut(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    choice = replace(resolve_engine(tiny_bundle), model=host_model(tasks=("depth", "normals")))
    with pytest.raises(BundleError, match="a graph for segmentation, depth, normals was expected; found the outputs"):
        choice.cut_to({"depth": manifest.tasks["depth"]}, manifest)


def test_a_graph_that_lacks_a_task_is_no_graph_of_the_bundle_unless_it_was_cut_for_that(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    part = open_backend(HERE[0], host_model(tasks=("depth",)), threads=1)
    try:
        assert placement(part, manifest, {"depth": manifest.tasks["depth"]}) == "host"
        with pytest.raises(BundleError, match="was expected"):
            placement(part, manifest)
        with pytest.raises(BundleError, match="was expected"):
            placement(part, manifest, {"normals": manifest.tasks["normals"]})
    finally:
        part.close()


@pytest.mark.parametrize("output_size", ["frame", "network", "content"])
@pytest.mark.parametrize("size", [(64, 96), (48, 80), (200, 90)])
def test_the_size_of_maps_is_known_without_predicting(tiny_bundle: Bundle, output_size: Any, size: tuple[int, int]) -> None:
    with Engine(tiny_bundle, threads=1, output_size=output_size, self_test="off") as opened:
        frame = make_image(1, height=size[0], width=size[1])
        found = {opened.map_size(size), opened.predict(frame).map_size, opened.predict(frame, finish="lazily").map_size}
        assert len(found) == 1
        with pytest.raises(ValueError, match="at least one pixel"):
            opened.map_size((0, 4))


def test_the_reference_graph_is_cut_where_it_runs(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "tiny", placement="graph")
    choice = resolve_engine(bundle).cut_to({"depth": bundle.manifest.tasks["depth"]}, bundle.manifest)
    assert output_names(bundle.read(REFERENCE_ONNX)) == TASK_NAMES
    assert output_names(choice.model) == ("depth",)
    assert json.loads((bundle.path / "manifest.json").read_text())["tasks"].keys() == set(TASK_NAMES)
