"""`build-engine` on a machine with TensorRT: what is tried, what is chosen, and what happens where plans cannot be built.

The GPU is a fake at the vendor's boundary: a "plan" is the graph behind TensorRT's first bytes, and ONNX Runtime runs it.
Quantization, half precision, self-tests, scores and the store are real.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edge_mtl import backends
from edge_mtl.backends import Availability, Backend, open_backend
from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.builder import candidate_builds, pipeline
from edge_mtl.builder.candidates import DEPTHWISE, candidates
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.builder.tensorrt import convert
from edge_mtl.builder.tensorrt.builder import PlanReport
from edge_mtl.builder.tensorrt.contents import NetworkContents, check_precision
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.cuda.gpus import Gpu
from edge_mtl.device import fingerprint
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.resolve import default_backend, resolve_engine
from edge_mtl.errors import BackendUnavailable, BuildError, EngineMismatch
from edge_mtl.onnx_graph.model import facts

MAGIC = b"ftrt"
ORIN = Gpu("Orin", "8.7", "12.6", 8 << 30, True)
CPU = {"onnxruntime": Availability(True, "1.0", "here", "cpu"), "openvino": Availability(False, "", "not here", "openvino")}
HERE = CPU | {
    "onnxruntime-cuda": Availability(False, "", "not here", "gpu"),
    "tensorrt": Availability(True, "10.3.0", "here", "tensorrt"),
}
WITHOUT = HERE | {"tensorrt": Availability(False, "", "tensorrt-rtx is installed, but there is no GPU.", "tensorrt")}


class FakeGpu:
    """Builds "plans" and runs them; keeps what it was asked for.

    Attributes:
        speed: how many times faster than the baseline, by name of a candidate without " on tensorrt"; others 2 times.
        broken: precisions whose build fails.
        opened: what plans were opened with.
    """

    def __init__(self) -> None:
        self.speed = {"int8+fp16": 9.0, "fp16": 6.0, "fp32": 3.0}
        self.broken: set[str] = set()
        self.asked: list[PlanOptions] = []
        self.opened: list[dict[str, Any]] = []

    def build(self, library: Library, model: bytes, options: PlanOptions, **rest: Any) -> PlanReport:
        check_precision(model, options, library=library)
        self.asked.append(options)
        if options.precision in self.broken:
            raise BuildError("no tactic for a layer")
        rest["progress"](1, 1)
        return PlanReport(MAGIC + model, library.describe(), NetworkContents(3, 1, 1, {"fp16": 1}), {"int8": 2})

    def open(self, name: str, model: bytes, **options: Any) -> Backend:
        if name != "tensorrt":
            return open_backend(name, model, **options)
        assert model.startswith(MAGIC)
        self.opened.append(options)
        opened = open_backend("onnxruntime", model[len(MAGIC) :], threads=1)
        opened.info = dataclasses.replace(opened.info, name="tensorrt", precision=options["precision"])  # type: ignore[misc]
        return opened

    def time(self, calls: Mapping[str, Any], **options: Any) -> LatencyReport:
        """Real calls, and the ratios of `speed`."""
        measured = measure_interleaved(calls, baseline=options["baseline"], rounds=1)
        rows = tuple(
            dataclasses.replace(row, ratio=self.speed.get(row.name.replace(" on tensorrt", ""), 2.0))
            if " on tensorrt" in row.name
            else dataclasses.replace(row, ratio=1.0)
            for row in measured.rows
        )
        return dataclasses.replace(measured, rows=rows)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    fake = FakeGpu()
    monkeypatch.setattr(pipeline, "proven", lambda: HERE)
    monkeypatch.setattr(candidate_builds, "available", lambda: HERE)
    monkeypatch.setattr(convert, "find_library", lambda: Library(None, "tensorrt", (10, 3, 0)))
    monkeypatch.setattr(convert, "build_plan", fake.build)
    monkeypatch.setattr(candidate_builds, "open_backend", fake.open)
    monkeypatch.setattr(candidate_builds, "compile_graph", lambda *arguments, **options: None)
    monkeypatch.setattr(candidate_builds, "measure_interleaved", fake.time)
    return fake


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


@pytest.fixture
def store(own_bundle: Bundle) -> EngineStore:
    return EngineStore(own_bundle, runtimes={"onnxruntime": "1.0", "tensorrt": "10.3.0"}, gpu=ORIN)


def test_int8_half_and_full_precision_are_built_and_timed_beside_each_other(
    gpu: FakeGpu, own_bundle: Bundle, store: EngineStore
) -> None:
    steps: set[str] = set()
    report = build_engine(
        own_bundle, precision="int8", threads=1, budget=None, store=store, progress=lambda step, done, total: steps.add(step)
    )
    assert [options.precision for options in gpu.asked] == ["int8+fp16", "int8+fp16", "fp16", "fp16", "fp32"]
    assert "plan" in steps
    assert (report.record.precision, report.record.backend) == ("int8+fp16", "tensorrt")
    assert report.path.suffix == ".plan"
    assert report.record.gpu == ORIN
    assert report.record.options["library"] == "TensorRT 10.3.0"
    assert report.record.options["typing"] == "strong"
    assert "after fusion: 2 int8" in report.record.contents
    kept = [(item.precision, item.options.get("graph"), item.options.get("float_blocks")) for item in store.list()]
    assert kept[:3] == [("int8+fp16", None, None), ("fp16", None, None), ("fp32", None, None)], "fastest first"
    assert set(kept[3:]) == {("int8+fp16", None, DEPTHWISE), ("fp16", REFERENCE_ONNX, None), ("int8", None, None)}
    assert store.load(report.record).startswith(MAGIC)


def test_int8_that_is_slower_than_half_precision_is_not_the_one_chosen_and_that_is_said(
    gpu: FakeGpu, own_bundle: Bundle, store: EngineStore
) -> None:
    gpu.speed["int8+fp16"] = 5.0
    report = build_engine(own_bundle, precision="int8", threads=1, budget=None, store=store)
    assert (report.record.precision, report.record.backend) == ("fp16", "tensorrt")
    assert any("INT8 does not pay on this machine: fp16 on tensorrt is faster" in text for text in report.warnings)
    assert store.best("int8") is not None, "INT8 is still there for who asks for it by name"


def test_the_plain_graph_is_timed_beside_the_rewritten_one_and_may_win(
    gpu: FakeGpu, own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.speed["fp16, reference ONNX"] = 12.0
    report = build_engine(own_bundle, precision="int8", threads=1, budget=None, store=store)
    assert report.record.options["graph"] == REFERENCE_ONNX
    assert "made of the reference ONNX" in report.chosen.reason
    monkeypatch.setattr("edge_mtl.engine_store.resolve.available", lambda: HERE)
    monkeypatch.setattr("edge_mtl.engine_store.engines.gpus", lambda: (ORIN,))
    plan = resolve_engine(own_bundle).model
    opened = gpu.open("tensorrt", plan, precision="fp16")
    assert next(iter(opened.inputs.values())).dtype == "uint8", "pixels go in: pre- and post-processing are in the plan"


def test_depthwise_convolutions_in_floats_are_timed_beside_all_in_integers(
    gpu: FakeGpu, own_bundle: Bundle, store: EngineStore
) -> None:
    gpu.speed[f"int8+fp16, {DEPTHWISE} in floating point"] = 12.0
    report = build_engine(own_bundle, precision="int8", backend="tensorrt", threads=1, budget=None, store=store)
    assert report.record.options["float_blocks"] == DEPTHWISE
    plans = {item.options.get("float_blocks"): facts(store.load(item)[len(MAGIC) :]) for item in store.find(precision="int8")}
    assert plans[None].integer_layers - plans[DEPTHWISE].integer_layers == 1, "the network has one such layer"
    assert plans[DEPTHWISE].integer_layers > 0


def test_a_plan_that_cannot_be_built_leaves_the_others(gpu: FakeGpu, own_bundle: Bundle, store: EngineStore) -> None:
    gpu.broken = {"int8+fp16"}
    report = build_engine(own_bundle, precision="int8", threads=1, budget=None, store=store)
    assert report.record.precision == "fp16"
    assert any("int8+fp16 on tensorrt was left out: no tactic for a layer" in text for text in report.warnings)


def test_a_named_tensorrt_is_never_replaced(gpu: FakeGpu, own_bundle: Bundle, store: EngineStore) -> None:
    gpu.broken = {"fp16"}
    with pytest.raises(BuildError, match="fp16 on tensorrt: no tactic"):
        build_engine(own_bundle, precision="fp16", backend="tensorrt", threads=1, budget=None, store=store)
    assert store.list() == ()


def test_options_of_tensorrt_reach_the_build_and_the_key(gpu: FakeGpu, own_bundle: Bundle, store: EngineStore) -> None:
    keys = set()
    for options in (PlanOptions(), PlanOptions(builder_optimization_level=5)):
        report = build_engine(
            own_bundle, precision="fp16", backend="tensorrt", threads=1, budget=None, store=store, plan_options=options
        )
        keys.add(report.record.key)
    assert gpu.asked[-1].builder_optimization_level == 5
    assert len(keys) == 2


def test_weak_typing_gets_graphs_in_full_precision(gpu: FakeGpu, own_bundle: Bundle, store: EngineStore) -> None:
    report = build_engine(
        own_bundle,
        precision="int8",
        backend="tensorrt",
        threads=1,
        budget=None,
        store=store,
        plan_options=PlanOptions(typing="weak"),
    )
    assert report.warnings == () or not any("was left out" in text for text in report.warnings)
    assert [options.typing for options in gpu.asked] == ["weak"] * 5


def test_auto_takes_the_fastest_plan_and_keeps_one_engine_a_runtime(
    gpu: FakeGpu, own_bundle: Bundle, store: EngineStore
) -> None:
    report = build_engine(own_bundle, precision="auto", threads=1, budget=None, store=store, search_s=0.0)
    assert report.record.backend == "tensorrt"
    assert sorted(record.backend for record in store.list()) == ["onnxruntime", "tensorrt"]


def test_the_plan_is_chosen_where_its_gpu_is_and_passed_over_where_it_is_gone(
    gpu: FakeGpu, own_bundle: Bundle, store: EngineStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_engine(own_bundle, precision="int8", threads=1, budget=None, store=store)
    monkeypatch.setattr("edge_mtl.engine_store.resolve.available", lambda: HERE)
    monkeypatch.setattr("edge_mtl.engine_store.engines.gpus", lambda: (ORIN,))
    found = resolve_engine(own_bundle)
    assert (found.backend, found.precision) == ("tensorrt", "int8+fp16")
    assert found.model.startswith(MAGIC)
    monkeypatch.setattr("edge_mtl.engine_store.engines.gpus", lambda: (dataclasses.replace(ORIN, name="Thor"),))
    assert resolve_engine(own_bundle).backend == "onnxruntime", "the engine of the processor still fits"
    with pytest.raises(EngineMismatch, match=r"built on Orin .*this device has Thor"):
        resolve_engine(own_bundle, backend="tensorrt")
    monkeypatch.setattr("edge_mtl.engine_store.resolve.available", lambda: WITHOUT)
    passed = resolve_engine(own_bundle)
    assert (passed.backend, passed.fell_back) == ("onnxruntime", True)
    with pytest.raises(BackendUnavailable, match="there is no GPU"):
        resolve_engine(own_bundle, backend="tensorrt")


def test_tensorrt_without_an_engine_names_the_command(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_mtl.engine_store.resolve.available", lambda: HERE)
    with pytest.raises(EngineMismatch, match=r"edge-mtl build-engine .* --backend tensorrt"):
        resolve_engine(own_bundle, backend="tensorrt")
    assert resolve_engine(own_bundle).backend == "onnxruntime"


def test_the_gpu_that_is_named_is_the_one_that_plans_are_built_for(
    gpu: FakeGpu, own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    second = dataclasses.replace(ORIN, name="second")
    for place in ("edge_mtl.backends.selection.gpus", "edge_mtl.engine_store.engines.gpus"):
        monkeypatch.setattr(place, lambda: (ORIN, second))
    monkeypatch.setattr("edge_mtl.engine_store.engines.available", lambda: HERE)
    made: list[int] = []
    monkeypatch.setattr(convert, "current_gpu", lambda index: made.append(index) or contextlib.nullcontext())
    report = build_engine(own_bundle, precision="fp16", device="cuda:1", threads=1, budget=None)
    assert report.record.gpu == second
    assert set(made) == {1}
    assert {options["device"] for options in gpu.opened} == {1}
    assert {row.backend for row in report.rows if not row.baseline} == {"tensorrt"}, "nothing of the processor is tried"
    with pytest.raises(BackendUnavailable, match=r"cuda:2 was asked for; GPUs here: cuda:0 Orin .*cuda:1 second"):
        build_engine(own_bundle, precision="fp16", device="cuda:2")
    with pytest.raises(BackendUnavailable, match="tensorrt does not run on cpu"):
        build_engine(own_bundle, precision="fp16", device="cpu", backend="tensorrt")
    with pytest.raises(BackendUnavailable, match='"cuda" or "cuda:1"; found'):
        build_engine(own_bundle, precision="fp16", device="gpu")


def test_doctor_says_what_runs_a_graph_and_why() -> None:
    cuda = HERE | {"onnxruntime-cuda": Availability(True, "1.31", "here", "gpu")}
    without_tensorrt = cuda | {"tensorrt": Availability(False, "", "not installed", "tensorrt")}
    assert default_backend(without_tensorrt) == (
        "onnxruntime-cuda",
        "it runs on the GPU, and the processor is not used in its place.",
    )
    assert "build one with edge-mtl build-engine" in default_backend(HERE)[1]
    assert default_backend(WITHOUT)[0] == "onnxruntime"
    assert default_backend({name: Availability(False, "", "", "x") for name in backends.BACKENDS})[0] is None


def test_without_a_driver_the_processor_is_tried_as_before() -> None:
    found = candidates("int8", backend="auto", available=WITHOUT, device=fingerprint())
    assert {candidate.backend for candidate in found} == {"onnxruntime"}
    with pytest.raises(BackendUnavailable, match="there is no GPU"):
        candidates("int8", backend="tensorrt", available=WITHOUT, device=fingerprint())


def test_a_precision_that_a_gpu_runtime_does_not_build_is_named() -> None:
    with pytest.raises(BuildError, match="tensorrt builds fp32, fp16, int8; bf16 was asked for"):
        candidates("bf16", backend="tensorrt", available=HERE, device=fingerprint())


def test_every_backend_has_candidates_or_a_reason() -> None:
    for name in backends.BACKENDS:
        here = {other: Availability(other == name, "1", "here", "x") for other in backends.BACKENDS}
        assert candidates("fp32", backend=name, available=here, device=fingerprint())
