"""ONNX Runtime and TensorRT on a real GPU: the answers of the CPU, in every precision, however they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from edge_mtl.backends import Backend, open_backend
from edge_mtl.backends.tensorrt import TensorRtBackend, open_plan
from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import Candidate
from edge_mtl.builder.tensorrt.builder import build_plan
from edge_mtl.builder.tensorrt.half import to_half
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.engine import Engine
from edge_mtl.errors import BundleError, EngineClosed, EngineMismatch
from edge_mtl.evaluation.metrics import agreement
from edge_mtl.evaluation.self_test import golden_frame, run_self_test, tolerance_of
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from tests.bundles import make_image

PLANS = ("fp32", "fp16", "int8+fp16")


@pytest.fixture(scope="module", params=["fp32", "tf32", "fp16"])
def session(request, onnxruntime_cuda, demo: Bundle) -> Iterator[Backend]:
    graph = demo.read(OPTIMIZED_ONNX)
    opened = open_backend("onnxruntime-cuda", to_half(graph) if request.param == "fp16" else graph, precision=request.param)
    yield opened
    opened.close()


def graph_of(bundle: Bundle, precision: str) -> bytes:
    """The bundle's graph for TensorRT."""
    candidate = Candidate("tensorrt", precision)
    recipe = load_recipe(TENSORRT_INT8)
    frames = load_calibration(bundle, count=64, unreadable_share=0.0) if precision.startswith("int8") else None
    graphs = candidate_graphs(bundle, [candidate], frames, recipe, threads=None, progress=lambda *_: None)
    return graphs.graphs[candidate]


@pytest.fixture(scope="module", params=PLANS)
def plan(request, library: Library, demo: Bundle) -> tuple[str, bytes]:
    report = build_plan(library, graph_of(demo, request.param), PlanOptions(precision=request.param, tf32=False))
    return request.param, report.plan


@pytest.fixture
def backend(plan: tuple[str, bytes]) -> Iterator[TensorRtBackend]:
    opened = open_plan(plan[1], precision=plan[0])
    yield opened
    opened.close()


def feed(backend: Backend, demo: Bundle, seed: int = 0) -> dict[str, np.ndarray]:
    """An image as this graph takes it."""
    ((name, spec),) = backend.inputs.items()
    frame = (
        golden_frame(demo)
        if seed == 0
        else make_image(seed, height=golden_frame(demo).shape[0], width=golden_frame(demo).shape[1])
    )
    laid = frame[None] if spec.dtype == np.uint8 else frame.transpose(2, 0, 1)[None]
    return {name: np.ascontiguousarray(laid.astype(spec.dtype))}


def test_onnxruntime_on_the_gpu_agrees_with_the_reference(session: Backend, demo: Bundle):
    report = run_self_test(session, demo)
    assert report.tolerance == tolerance_of(demo.manifest.tasks, session.info.precision)


def test_onnxruntime_puts_every_node_on_the_gpu(session: Backend):
    assert session.info.device == "cuda:0"


def test_the_plain_graph_runs_on_the_gpu_and_agrees(onnxruntime_cuda, demo: Bundle):
    opened = open_backend("onnxruntime-cuda", demo.read(REFERENCE_ONNX))
    run_self_test(opened, demo)
    opened.close()


def test_a_plan_agrees_with_the_reference_per_head(backend: TensorRtBackend, demo: Bundle):
    report = run_self_test(backend, demo)
    assert report.tolerance == tolerance_of(demo.manifest.tasks, backend.info.precision)


def test_answers_are_the_same_with_and_without_graphs_and_however_they_are_asked_for(plan, demo: Bundle):
    with_graphs, without = open_plan(plan[1]), open_plan(plan[1], graphs=False)
    feeds = [feed(with_graphs, demo, seed) for seed in range(6)]
    expected = [without.run(each) for each in feeds]
    found = [with_graphs.run(each) for each in feeds]
    streamed = list(with_graphs.stream(feeds))
    assert with_graphs.graphs_recorded > 0, with_graphs.no_graphs
    with ThreadPoolExecutor(4) as pool:
        threaded = list(pool.map(with_graphs.run, feeds * 8))[:6]
    for outputs in (found, streamed, threaded):
        for one, other in zip(outputs, expected, strict=True):
            for name in one:
                assert np.array_equal(one[name], other[name])
    with_graphs.close()
    without.close()
    with pytest.raises(EngineClosed):
        with_graphs.run(feeds[0])


def test_a_truncated_an_altered_and_a_foreign_plan_are_typed_errors(plan, library: Library):
    payload = plan[1]
    with pytest.raises((BundleError, EngineMismatch)):
        open_plan(payload[: len(payload) // 2])
    with pytest.raises(BundleError):
        open_plan(b"ftrt")
    other = b"vtrt" if payload[:4] == b"ftrt" else b"ftrt"
    with pytest.raises((BundleError, EngineMismatch)):
        open_plan(other + payload[4:], library=library)


def test_an_engine_is_built_chosen_and_agrees_with_the_cpu(library: Library, demo: Bundle, tmp_path, monkeypatch):
    import shutil

    from edge_mtl.builder.pipeline import build_engine

    copy = tmp_path / "demo"
    shutil.copytree(demo.path, copy)
    bundle = Bundle.open(copy)
    build_engine(bundle, precision="int8", backend="tensorrt")
    frame = golden_frame(bundle)
    with Engine(bundle, device="cuda", backend="tensorrt") as engine, Engine(bundle, device="cpu", precision="fp32") as exact:
        found, expected = engine.predict(frame), exact.predict(frame)
        difference = agreement(demo.manifest.tasks, found.results, expected.results)
        assert difference["argmax_agreement"] > tolerance_of(demo.manifest.tasks, "int8")["argmax_agreement"]
        streamed = list(engine.stream([frame] * 5))
        assert all(np.array_equal(each.segmentation, found.segmentation) for each in streamed)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another user"))
    with pytest.raises(EngineMismatch, match="trust_engine"):
        Engine(bundle, device="cuda", backend="tensorrt")
    Engine(bundle, device="cuda", backend="tensorrt", trust_engine=True).close()


def test_a_frame_on_the_gpu_gives_the_answer_of_the_same_frame_on_the_host(onnxruntime_cuda, demo: Bundle):
    torch = pytest.importorskip("torch", reason="needs torch")
    if not torch.cuda.is_available():
        pytest.skip("needs PyTorch with CUDA")
    frame = make_image(3, height=480, width=640)
    with Engine(demo, device="cuda", backend="onnxruntime-cuda", precision="fp32") as engine:
        if not engine._backend.info.device_frames:
            pytest.skip("needs pycuda or cuda-bindings")
        on_gpu, on_host = engine.predict(torch.from_numpy(frame).cuda()), engine.predict(frame)
        difference = agreement(demo.manifest.tasks, on_gpu.results, on_host.results)
    assert difference["argmax_agreement"] > 0.99
