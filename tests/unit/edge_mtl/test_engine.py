"""Engine: which graph it takes and why, what it refuses, how light it is. What it answers is in tests/contract."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import edge_mtl
from edge_mtl import backends
from edge_mtl.backends import Availability, available, open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.engine import Engine
from edge_mtl.engine_store import resolve
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.resolve import resolve_engine
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file, engine_key
from edge_mtl.errors import (
    AccuracyError,
    BackendUnavailable,
    BundleError,
    EngineClosed,
    EngineMismatch,
    InferenceError,
)
from edge_mtl.files import sha256_bytes
from edge_mtl.manifest import InputSpec
from edge_mtl.tasks import NYU_TASKS, LabelsSpec
from edge_mtl.weights.store import PACKED, PARTS
from tests.bundles import host_model, make_bundle, make_image

HERE = [name for name, found in available().items() if found.usable]
FIRST = HERE[0]


def store_engine(
    bundle: Bundle, *, backend: str = FIRST, precision: str = "fp32", ratio: float = 2.0, **changes
) -> EngineRecord:
    """Put an engine into the bundle's store as a build would: here the bundle's own graph."""
    store, payload = EngineStore(bundle), bundle.read(OPTIMIZED_ONNX)
    graph = bundle.entry(OPTIMIZED_ONNX).sha256
    version = changes.pop("runtime_version", available()[backend].version or "1.0")
    key = engine_key(
        backend=backend, runtime_version=version, device=store.device, precision=precision, graph_sha256=graph, options={}
    )
    record = EngineRecord(
        key=key,
        precision=precision,
        backend=backend,
        runtime_version=version,
        device=store.device,
        graph_sha256=graph,
        file=engine_file(key, sha256_bytes(payload), backend),
        sha256=sha256_bytes(payload),
        size=len(payload),
        latency_ms=10.0 / ratio,
        ratio=ratio,
        self_test={"passed": True},
    )
    record = replace(record, **changes)
    store.save(record, payload)
    return record


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make these runtimes look as if they were not installed."""
    found = available()
    for name in names:
        found[name] = Availability(False, "", f"{name} is not installed. Install it with: pip", found[name].extra)
    for module in (backends, resolve):
        monkeypatch.setattr(module, "available", lambda: found)


def test_without_an_engine_the_bundles_graph_runs_in_fp32_and_says_so(tiny_bundle):
    with Engine(tiny_bundle) as engine:
        info = engine.info
    assert (info.backend, info.precision, info.engine_key) == (FIRST, "fp32", None)
    assert "no engine was built here" in info.reason
    assert f"edge-mtl build-engine {tiny_bundle.path} --int8" in info.reason
    assert (info.name, info.revision, info.bundle) == ("tiny", 1, tiny_bundle.path)


def test_a_bundle_is_found_by_path_and_by_the_environment(tiny_bundle, monkeypatch):
    with Engine(str(tiny_bundle.path), self_test="off") as engine:
        assert engine.info.bundle == tiny_bundle.path
    monkeypatch.setenv("EDGE_MTL_BUNDLE", str(tiny_bundle.path))
    with Engine(self_test="off") as engine:
        assert engine.info.bundle == tiny_bundle.path


def test_the_fastest_engine_built_here_is_taken(own_bundle, frame):
    store_engine(own_bundle, ratio=2.0)
    fast = store_engine(own_bundle, backend=HERE[-1], precision="int8", ratio=3.0)
    with Engine(own_bundle, self_test="off") as engine:
        assert (engine.info.engine_key, engine.info.backend, engine.info.precision) == (fast.key, HERE[-1], "int8")
        assert "fastest" in engine.info.reason
        assert engine.predict(frame).depth is not None


def test_a_named_backend_or_precision_is_used(own_bundle):
    slow = store_engine(own_bundle, precision="fp32", ratio=1.1)
    store_engine(own_bundle, precision="int8", ratio=3.0)
    assert resolve_engine(own_bundle, precision="fp32").key == slow.key
    for name in HERE:
        assert resolve_engine(own_bundle, backend=name, precision="fp32").backend == name


def test_a_named_precision_that_was_not_built_is_refused_with_the_command(own_bundle):
    with pytest.raises(EngineMismatch, match=f"build-engine {own_bundle.path} --int8"):
        Engine(own_bundle, precision="int8")
    with pytest.raises(EngineMismatch, match=f"--bf16 --backend {FIRST}"):
        Engine(own_bundle, precision="bf16", backend=FIRST)
    with pytest.raises(EngineMismatch, match=f"build-engine {own_bundle.path} --int8"):
        Engine(own_bundle, precision="int8+bf16")


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_stale_engine_is_refused_with_the_command(own_bundle, precision):
    store_engine(own_bundle, precision="int8", runtime_version="0.0.1")
    with pytest.raises(EngineMismatch, match=r"0\.0\.1.*edge-mtl build-engine .* --int8"):
        Engine(own_bundle, precision=precision)


def test_an_altered_engine_is_refused_before_a_runtime_sees_it(own_bundle, monkeypatch):
    record = store_engine(own_bundle)
    path = EngineStore(own_bundle).folder / record.file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    opened = []
    monkeypatch.setattr("edge_mtl.engine_store.resolve.open_backend", lambda *args, **options: opened.append(args))
    with pytest.raises(BundleError, match="altered"):
        Engine(own_bundle)
    assert opened == []


@pytest.mark.parametrize("name", [OPTIMIZED_ONNX + PARTS, PACKED])
def test_an_altered_bundle_is_refused_before_a_runtime_sees_it(own_bundle, monkeypatch, name):
    path = own_bundle.path / name
    path.write_bytes(path.read_bytes()[:-9])
    opened = []
    monkeypatch.setattr("edge_mtl.engine_store.resolve.open_backend", lambda *args, **options: opened.append(args))
    with pytest.raises(BundleError, match="altered"):
        Engine(own_bundle)
    assert opened == []


def test_missing_engines_are_built_when_asked(own_bundle, monkeypatch):
    built = []

    def build_engine(bundle: Bundle, *, precision: str, **options) -> None:
        built.append((precision, options["backend"]))
        store_engine(bundle, precision=precision)

    monkeypatch.setattr("edge_mtl.builder.pipeline.build_engine", build_engine)
    with Engine(own_bundle, precision="int8", build_missing=True, self_test="off") as engine:
        assert engine.info.precision == "int8"
    with Engine(own_bundle, build_missing=True, self_test="off"):
        pass
    assert built == [("int8", "auto")], "the second time it is there"


def test_stale_engines_are_built_again_when_asked(own_bundle, monkeypatch):
    store_engine(own_bundle, precision="int8", runtime_version="0.0.1")
    monkeypatch.setattr(
        "edge_mtl.builder.pipeline.build_engine",
        lambda bundle, *, precision, **options: store_engine(bundle, precision=precision),
    )
    with Engine(own_bundle, build_missing=True, self_test="off") as engine:
        assert engine.info.precision == "int8"


@pytest.mark.parametrize("option", [{"backend": "tensorflow"}, {"precision": "int4"}])
def test_unknown_names_are_refused_with_the_choice(tiny_bundle, option):
    with pytest.raises(BackendUnavailable, match="Choose auto or one of"):
        Engine(tiny_bundle, **option)


@pytest.mark.parametrize("option", [{"output_size": "half"}, {"self_test": "sometimes"}])
def test_unknown_options_are_refused(tiny_bundle, option):
    with pytest.raises(ValueError, match="should be one of"):
        Engine(tiny_bundle, **option)


def test_a_named_backend_that_is_not_here_is_refused(tiny_bundle, monkeypatch):
    without(monkeypatch, FIRST)
    with pytest.raises(BackendUnavailable, match=f"{FIRST} is not installed"):
        Engine(tiny_bundle, backend=FIRST)


def test_without_any_runtime_the_extra_is_named(tiny_bundle, monkeypatch):
    without(monkeypatch, *available())
    with pytest.raises(BackendUnavailable, match=r'pip install "edge-mtl\[cpu\]"'):
        Engine(tiny_bundle)


@pytest.mark.skipif(len(HERE) < 2, reason="needs two runtimes")
def test_auto_falls_back_when_a_runtime_is_gone_and_logs_it_once(own_bundle, monkeypatch, caplog):
    store_engine(own_bundle, backend=HERE[1], precision="int8", ratio=9.0)
    second = store_engine(own_bundle, backend=FIRST, precision="fp32", ratio=2.0)
    without(monkeypatch, HERE[1])
    with caplog.at_level(logging.INFO, logger="edge_mtl"), Engine(own_bundle, self_test="off") as engine:
        assert engine.info.engine_key == second.key
        assert f"needs {HERE[1]}" in engine.info.reason
        engine.predict(make_image(0))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_graph_that_does_not_fit_the_manifest_is_refused(tmp_path):
    bundle = make_bundle(tmp_path / "wrong", tasks=("depth",), deploy=host_model())
    with pytest.raises(BundleError, match="a graph for depth at 64x96 was expected"):
        Engine(bundle, self_test="off")


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": {**NYU_TASKS, "segmentation": LabelsSpec("segmentation", "labels", ("floor", "wall"))}},
        {"tasks": {name: NYU_TASKS[name] for name in ("segmentation", "depth")}},
        {"canonical_intrinsics": (float("inf"), 1.0, 1.0, 1.0)},
        {"input": InputSpec(66, 96)},
    ],
)
def test_a_manifest_of_another_network_is_refused(tiny_bundle, change):
    odd = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, **change))
    with pytest.raises(BundleError, match="Export the bundle again"):
        Engine(odd, self_test="off")


def test_an_engine_that_answers_wrongly_is_refused_at_load(tmp_path):
    model = onnx.load_from_string(host_model())
    for weight in model.graph.initializer:
        if weight.name == "depth.bias":
            weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) + 1.0, weight.name))
    bundle = make_bundle(tmp_path / "wrong")

    def damage(folder: Path) -> None:
        (folder / OPTIMIZED_ONNX).write_bytes(model.SerializeToString())

    wrong = edge_mtl.bundle.new_revision(bundle, damage)
    with pytest.raises(AccuracyError, match="Depth, mean difference"):
        Engine(wrong)
    with Engine(wrong, self_test="off") as engine:
        assert engine.info.self_test is None


def test_the_self_test_runs_one_golden_frame_at_load_or_all(tiny_bundle):
    for wanted, frames in (("load", 1), ("build", 2)):
        with Engine(tiny_bundle, self_test=wanted) as engine:
            assert engine.info.self_test.frames == frames


def test_an_engine_that_fails_to_load_leaves_nothing_open(own_bundle, monkeypatch):
    closed = []

    def opened(*args, **options):
        backend = open_backend(*args, **options)
        original = backend.close
        backend.close = lambda: (closed.append(True), original())[1]
        return backend

    monkeypatch.setattr("edge_mtl.engine_store.resolve.open_backend", opened)
    monkeypatch.setattr("edge_mtl.evaluation.self_test.run_self_test", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Engine(own_bundle)
    assert closed == [True]


def test_a_failing_runtime_is_an_inference_error_and_the_engine_goes_on(tiny_bundle, monkeypatch):
    with Engine(tiny_bundle) as engine:
        run = engine._backend.run

        def failing(feeds):
            raise InferenceError("onnxruntime failed: out of memory")

        monkeypatch.setattr(engine._backend, "run", failing)
        with pytest.raises(InferenceError, match="out of memory"):
            engine.predict(make_image(0))
        with pytest.raises(InferenceError, match="out of memory"):
            list(engine.stream([make_image(0), make_image(1)]))
        monkeypatch.setattr(engine._backend, "run", run)
        assert engine.predict(make_image(0)).depth is not None


def test_bad_values_reach_the_prediction_marked(tiny_bundle, monkeypatch):
    with Engine(tiny_bundle, backend="onnxruntime") as engine:
        run = engine._backend.run

        def corrupted(feeds):
            outputs = run(feeds)
            outputs["depth_quarter"][0, 0, 2, 2] = np.nan
            return outputs

        monkeypatch.setattr(engine._backend, "run", corrupted)
        prediction = engine.predict(make_image(0))
        assert prediction.bad_values == 1
        assert np.isnan(prediction.depth[9, 9])


def test_memory_is_used_again_once_predictions_are_dropped(tiny_bundle):
    with Engine(tiny_bundle, self_test="off") as engine:
        addresses = set()
        for seed in range(30):
            addresses.add(engine.predict(make_image(seed)).depth.ctypes.data)
        assert len(addresses) <= 3
        kept = [engine.predict(make_image(seed)) for seed in range(5)]
        assert len({prediction.depth.ctypes.data for prediction in kept}) == 5


def test_close_in_a_signal_handler_does_not_deadlock(tiny_bundle):
    engine = Engine(tiny_bundle, self_test="off")
    before = signal.signal(signal.SIGALRM, lambda *unused: engine.close())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        deadline = time.monotonic() + 10
        with pytest.raises(EngineClosed):
            while time.monotonic() < deadline:
                engine.predict(make_image(0))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_confidence_outlives_the_engine(tiny_bundle):
    with Engine(tiny_bundle) as engine:
        prediction = engine.predict(make_image(0))
    assert 0 < prediction.confidence.min() <= prediction.confidence.max() <= 1


COLD_START = """
import sys
import numpy as np
from edge_mtl import Engine
with Engine(sys.argv[1], backend=sys.argv[2]) as engine:
    engine.predict(np.zeros((64, 96, 3), np.uint8))
heavy = {"torch", "onnx", "rich", "typer", "matplotlib", "nncf"} & set(sys.modules)
print(sorted(heavy))
"""


@pytest.mark.parametrize("backend", HERE)
def test_the_first_prediction_needs_nothing_heavy(tiny_bundle, backend):
    command = [sys.executable, "-c", COLD_START, str(tiny_bundle.path), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stdout.strip() == "[]"


def test_a_device_that_is_not_there_is_refused(tiny_bundle):
    for wrong in (1, "gpu", "cuda:", "cuda:-1", "cpu:0", ""):
        with pytest.raises(BackendUnavailable, match='device should be "auto"'):
            Engine(tiny_bundle, device=wrong)
    with pytest.raises(BackendUnavailable, match="does not run on cuda"):
        Engine(tiny_bundle, backend="onnxruntime", device="cuda")
    with pytest.raises(BackendUnavailable, match="does not run on cpu"):
        Engine(tiny_bundle, backend="tensorrt", device="cpu")
    with Engine(tiny_bundle, device="cpu", trust_engine=True, self_test="off") as engine:
        assert engine.info.device == "cpu"


def test_two_engines_side_by_side(tiny_bundle):
    results: dict[str, np.ndarray] = {}

    def work(name: str) -> None:
        with Engine(tiny_bundle, backend=name, threads=1) as engine:
            results[name] = engine.predict(make_image(3)).segmentation

    threads = [threading.Thread(target=work, args=(name,)) for name in HERE]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((labels == results[FIRST]).mean() > 0.999 for labels in results.values())
