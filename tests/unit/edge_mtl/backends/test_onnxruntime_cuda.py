"""ONNX Runtime on a GPU that is not there: the real runtime on the CPU, told that it is the CUDA provider.

What stands in for the vendor's side: which providers there are, what a session says it uses, and where memory lies.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnxruntime as real
import pytest

from edge_mtl import backends
from edge_mtl.backends import BACKENDS, Availability, availability
from edge_mtl.backends.onnxruntime_cuda import backend as onnxruntime_cuda
from edge_mtl.backends.onnxruntime_cuda.backend import OnnxRuntimeCudaBackend
from edge_mtl.cuda import CudaError, CudaOutOfMemory
from edge_mtl.engine import Engine
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, InferenceError
from tests.bundles import graph_model, host_model, make_image, reference

CUDA = "CUDAExecutionProvider"
NO_FALLBACK = (
    "This session contains graph nodes that are assigned to the default CPU EP, but fallback to CPU EP has been disabled"
)


class Session:
    """A real session on the CPU that says it is one on the GPU."""

    made: list[dict[str, str]] = []  # noqa: RUF012
    loads = True
    refuses_fallback = False
    failure = ""

    def __init__(self, model, options, providers, enable_fallback):
        ((name, settings),) = providers
        assert (name, enable_fallback) == (CUDA, 0), "the CPU provider is not asked for"
        strict = options.get_session_config_entry("session.disable_cpu_ep_fallback") if _has_strict(options) else "0"
        if Session.refuses_fallback and strict == "1":
            raise RuntimeError(NO_FALLBACK)
        if Session.failure:
            raise RuntimeError(Session.failure)
        plain = real.SessionOptions()
        plain.intra_op_num_threads = 1
        self._real = real.InferenceSession(model, plain, providers=["CPUExecutionProvider"])
        Session.made.append(settings)
        self.run_failure = ""

    def __getattr__(self, name):
        return getattr(self._real, name)

    def get_providers(self):
        return [CUDA, "CPUExecutionProvider"] if Session.loads else ["CPUExecutionProvider"]

    def run_with_iobinding(self, binding):
        if self.run_failure:
            raise RuntimeError(self.run_failure)
        self._real.run_with_iobinding(binding)


def _has_strict(options) -> bool:
    try:
        return bool(options.get_session_config_entry("session.disable_cpu_ep_fallback"))
    except RuntimeError:
        return False


class OrtValue(real.OrtValue):
    """Memory that the host sees only as copies, as a GPU's is."""

    full = False

    def numpy(self):
        return super().numpy().copy()

    @staticmethod
    def ortvalue_from_shape_and_type(shape, kind, device, index):
        assert (device, index) == ("cuda", 0)
        if OrtValue.full:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 123")
        return OrtValue(real.OrtValue.ortvalue_from_shape_and_type(shape, kind, "cpu", 0)._ortvalue)


@pytest.fixture(autouse=True)
def gpu(monkeypatch):
    """The runtime as the backend sees it."""
    fake = SimpleNamespace(
        __version__=real.__version__,
        InferenceSession=Session,
        OrtValue=OrtValue,
        SessionOptions=real.SessionOptions,
        GraphOptimizationLevel=real.GraphOptimizationLevel,
        get_available_providers=lambda: [CUDA, "CPUExecutionProvider"],
    )
    monkeypatch.setattr(onnxruntime_cuda, "ort", fake)
    for owner, name, value in (
        (Session, "made", []),
        (Session, "loads", True),
        (Session, "refuses_fallback", False),
        (Session, "failure", ""),
        (OrtValue, "full", False),
    ):
        monkeypatch.setattr(owner, name, value)
    return fake


def planes(seed: int = 0) -> np.ndarray:
    return make_image(seed).transpose(2, 0, 1)[None].astype(np.float32)


def test_outputs_are_those_of_the_reference_and_belong_to_the_caller():
    backend = OnnxRuntimeCudaBackend(host_model())
    first = backend.run({"image": planes(1)})
    kept = {name: array.copy() for name, array in first.items()}
    second = backend.run({"image": planes(2)})
    expected = reference(host_model(), make_image(1))
    for name, array in first.items():
        assert np.array_equal(array, kept[name])
        assert not np.array_equal(array, second[name])
        assert np.abs(array - expected[name]).max() < 1e-3 * max(1, np.abs(expected[name]).max())
    backend.close()
    backend.close()
    with pytest.raises(EngineClosed):
        backend.run({"image": planes()})


def test_pixels_go_in_where_the_graph_takes_pixels():
    backend = OnnxRuntimeCudaBackend(graph_model())
    outputs = backend.run({"image": make_image(1)[None]})
    assert outputs["segmentation"].shape == (1, 64, 96)


def test_an_engine_on_cuda_takes_it_with_pre_and_post_processing_in_the_graph(monkeypatch, tiny_bundle):
    here = lambda runtime: Availability(True, real.__version__, "installed", runtime.extra)  # noqa: E731
    for module in (availability, backends):
        monkeypatch.setattr(module, "availability_of", here)
    frames = [make_image(seed) for seed in range(5)]
    with Engine(tiny_bundle, device="cuda") as engine, Engine(tiny_bundle, backend="onnxruntime", threads=1) as exact:
        assert (engine.info.backend, engine.info.device, engine.info.placement) == ("onnxruntime-cuda", "cuda:0", "graph")
        for found, frame in zip(engine.stream(frames), frames, strict=True):
            expected = exact.predict(frame)
            assert (found.segmentation == expected.segmentation).mean() > 0.999
            assert np.abs(found.depth - expected.depth).max() < 1e-3
    with pytest.raises(BackendUnavailable, match="not int8"):
        OnnxRuntimeCudaBackend(host_model(), precision="int8")


def test_an_engine_rounds_products_where_tf32_is_asked_for_without_a_build(monkeypatch, tiny_bundle):
    here = lambda runtime: Availability(True, real.__version__, "installed", runtime.extra)  # noqa: E731
    for module in (availability, backends):
        monkeypatch.setattr(module, "availability_of", here)
    for options in ({}, {"backend": "onnxruntime-cuda"}, {"device": "cuda", "build_missing": True}):
        with Engine(tiny_bundle, precision="tf32", **options) as engine:
            assert (engine.info.backend, engine.info.precision) == ("onnxruntime-cuda", "tf32")
    with pytest.raises(BackendUnavailable, match="tf32 is a precision of onnxruntime-cuda; openvino was asked for"):
        Engine(tiny_bundle, precision="tf32", backend="openvino")


def test_tf32_without_a_gpu_says_what_is_missing(monkeypatch, tiny_bundle):
    monkeypatch.setattr(availability, "no_gpu", lambda: "there is no NVIDIA GPU here")
    with pytest.raises(BackendUnavailable, match="tf32 is a precision of onnxruntime-cuda, which cannot run here"):
        Engine(tiny_bundle, precision="tf32")


def test_cuda_where_there_is_none_says_what_every_backend_lacks(tiny_bundle, monkeypatch):
    monkeypatch.setattr(availability, "no_gpu", lambda: "there is no NVIDIA GPU here")
    with pytest.raises(BackendUnavailable, match=r"Nothing here runs on cuda\. onnxruntime-cuda: .*tensorrt: "):
        Engine(tiny_bundle, device="cuda")
    with Engine(tiny_bundle, device="auto", self_test="off") as engine:
        assert engine.info.device == "cpu"


def test_it_is_a_backend_of_its_own_and_says_where_it_runs():
    assert "onnxruntime-cuda" in BACKENDS
    info = OnnxRuntimeCudaBackend(host_model(), precision="tf32").info
    assert (info.name, info.device, info.precision) == ("onnxruntime-cuda", "cuda:0", "tf32")


@pytest.mark.parametrize(("precision", "tf32"), [("fp32", "0"), ("tf32", "1"), ("fp16", "0")])
def test_tf32_is_used_only_where_it_is_asked_for(precision, tf32):
    OnnxRuntimeCudaBackend(host_model(), precision=precision)
    assert [settings["use_tf32"] for settings in Session.made] == [tf32]


@pytest.mark.parametrize("precision", ["int8", "bf16", "int8+fp16"])
def test_precisions_that_would_run_otherwise_are_refused(precision):
    with pytest.raises(BackendUnavailable, match="not " + precision.replace("+", r"\+")):
        OnnxRuntimeCudaBackend(host_model(), precision=precision)


def test_a_provider_that_is_not_built_in_or_does_not_load_is_an_error_and_never_the_cpu(gpu, monkeypatch):
    monkeypatch.setattr(Session, "loads", False)
    with pytest.raises(BackendUnavailable, match="did not load CUDAExecutionProvider"):
        OnnxRuntimeCudaBackend(host_model())
    gpu.get_available_providers = lambda: ["CPUExecutionProvider"]
    with pytest.raises(BackendUnavailable, match=r"no CUDAExecutionProvider.*edge-mtl\[gpu\]"):
        OnnxRuntimeCudaBackend(host_model())


def test_nodes_that_run_on_the_cpu_are_told_and_logged(monkeypatch, caplog):
    monkeypatch.setattr(Session, "refuses_fallback", True)
    backend = OnnxRuntimeCudaBackend(host_model())
    assert "and the CPU for what the GPU has no kernel for" in backend.info.device
    assert "parts of this graph on the CPU" in caplog.text


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("CUDA failure 35: CUDA driver version is insufficient", BackendUnavailable),
        ("CUDA failure 2: out of memory", CudaOutOfMemory),
        ("Load model failed: unsupported opset", BundleError),
    ],
)
def test_what_fails_while_loading_is_typed(monkeypatch, said, kind):
    monkeypatch.setattr(Session, "failure", said)
    with pytest.raises(kind):
        OnnxRuntimeCudaBackend(host_model())


def test_memory_that_does_not_suffice_is_typed(monkeypatch):
    monkeypatch.setattr(OrtValue, "full", True)
    with pytest.raises(CudaOutOfMemory):
        OnnxRuntimeCudaBackend(host_model())


def test_a_failed_run_is_typed_and_the_next_works_unless_the_gpu_is_lost():
    backend = OnnxRuntimeCudaBackend(host_model())
    for said, kind in (("Non-zero status code", InferenceError), ("CUDA failure 2: out of memory", CudaOutOfMemory)):
        backend._session.run_failure = said
        with pytest.raises(kind):
            backend.run({"image": planes()})
        backend._session.run_failure = ""
        backend.run({"image": planes()})
    backend._session.run_failure = "CUDA failure 700: an illegal memory access was encountered"
    with pytest.raises(CudaError, match="start it again") as caught:
        backend.run({"image": planes()})
    assert caught.value.sticky
    backend._session.run_failure = ""
    with pytest.raises(CudaError, match="failed before"):
        backend.run({"image": planes()})


@pytest.mark.parametrize(
    "feeds", [{}, {"image": np.zeros((1, 3, 64, 96), np.uint8)}, {"image": np.zeros((3, 64, 96), np.float32)}]
)
def test_wrong_inputs_are_refused(feeds):
    backend = OnnxRuntimeCudaBackend(host_model())
    with pytest.raises(InferenceError):
        backend.run(feeds)
    backend.run({"image": planes()})
