"""Backends: what is here, what is refused, and that vendors' exceptions never come through."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edge_mtl import backends
from edge_mtl.backends import BACKENDS, PRECISIONS, available, open_backend
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed, InferenceError
from tests.bundles import graph_model, host_model, make_image, reference

HERE = [name for name, found in available().items() if found.usable]


@pytest.fixture(scope="module")
def model() -> bytes:
    return host_model()


@pytest.fixture(params=HERE)
def backend(request, model):
    opened = open_backend(request.param, model, threads=1)
    yield opened
    opened.close()


def planes(seed: int = 0) -> np.ndarray:
    return make_image(seed).transpose(2, 0, 1)[None].astype(np.float32)


def test_available_tells_versions_and_extras_without_importing():
    for found in available().values():
        assert found.extra in ("cpu", "openvino", "gpu", "tensorrt")
        assert found.usable == bool(found.version)
    code = (
        "import sys; from edge_mtl.backends import available; available();"
        "print([name for name in ('onnxruntime', 'openvino', 'onnx', 'torch') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_a_missing_runtime_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert not any(found.usable for found in available().values())
    with pytest.raises(BackendUnavailable, match=r'pip install "edge-mtl\[cpu\]"'):
        open_backend("onnxruntime", b"")


def test_a_runtime_that_does_not_import_is_reported(monkeypatch, model):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "edge_mtl.backends.onnxruntime.backend", raising=False)
    with pytest.raises(BackendUnavailable):
        open_backend("onnxruntime", model)


def test_a_runtime_without_a_distribution_has_an_unknown_version(monkeypatch):
    def not_found(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", not_found)
    assert available()[HERE[0]].version == "unknown"


def test_unknown_names_are_refused(model):
    with pytest.raises(BackendUnavailable, match="onnxruntime, openvino"):
        open_backend("tensorflow", model)
    with pytest.raises(BackendUnavailable, match="fp32"):
        open_backend(HERE[0], model, precision="int4")
    with pytest.raises(ValueError, match="at least 1"):
        open_backend(HERE[0], model, threads=0)


def test_inputs_and_outputs_are_described(backend):
    assert {name: (spec.shape, spec.dtype) for name, spec in backend.inputs.items()} == {"image": ((1, 3, 64, 96), np.float32)}
    assert backend.outputs["segmentation_logits"].shape == (1, 13, 16, 24)
    assert (backend.info.threads, backend.info.precision, backend.info.device) == (1, "fp32", "cpu")
    assert backend.info.version == available()[backend.info.name].version


def test_outputs_are_those_of_the_reference(backend, model):
    expected = reference(model, make_image(3))
    found = backend.run({"image": planes(3)})
    assert found.keys() == expected.keys()
    for name, array in found.items():
        assert array.dtype == np.float32
        assert np.abs(array - expected[name]).max() < 1e-4 * max(1, np.abs(expected[name]).max())


def test_results_belong_to_the_caller(backend):
    first = backend.run({"image": planes(1)})
    kept = {name: array.copy() for name, array in first.items()}
    second = backend.run({"image": planes(2)})
    for name in first:
        assert np.array_equal(first[name], kept[name])
        assert first[name].flags.writeable
        assert not np.array_equal(first[name], second[name])


@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize("damage", ["empty", "garbage", "half", "tail", "text"])
def test_a_damaged_model_is_a_bundle_error(name, damage, model):
    payload = {
        "empty": b"",
        "garbage": bytes(range(256)) * 20,
        "half": model[: len(model) // 2],
        "tail": model[:-7],
        "text": b"version https://git-lfs.github.com/spec/v1\n",
    }[damage]
    with pytest.raises(BundleError, match=r"cut short|no ONNX model"):
        open_backend(name, payload)


@pytest.mark.parametrize("name", HERE)
def test_a_graph_that_the_runtime_refuses_is_a_bundle_error(name):
    given, answer = (helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [1, 3, 4, 4]) for tensor in ("image", "x"))
    softmax = helper.make_node("Softmax", ["image"], ["x"], axis=9)
    graph = helper.make_graph([softmax], "broken", [given], [answer])
    broken = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with pytest.raises(BundleError, match=f"{name} .* cannot load this graph"):
        open_backend(name, broken.SerializeToString())


@pytest.mark.parametrize("name", HERE)
def test_mutated_models_raise_nothing_else(name, model):
    random = np.random.default_rng(0)
    for _ in range(25):
        payload = bytearray(model)
        for position in random.integers(0, len(payload), 12):
            payload[position] = random.integers(0, 256)
        try:
            open_backend(name, bytes(payload), threads=1).run({"image": planes()})
        except (BundleError, InferenceError):
            continue


@pytest.mark.parametrize("feeds", ["missing", "another name", "shape", "type"])
def test_wrong_feeds_are_an_inference_error_and_the_next_run_works(backend, feeds):
    wrong = {
        "missing": {},
        "another name": {"picture": planes()},
        "shape": {"image": planes()[:, :, :8]},
        "type": {"image": planes().astype(np.float64)},
    }[feeds]
    expected = backend.run({"image": planes()})
    with pytest.raises(InferenceError, match=backend.info.name):
        backend.run(wrong)
    again = backend.run({"image": planes()})
    assert all(np.array_equal(again[name], expected[name]) for name in expected)


def test_a_closed_backend_refuses(backend):
    backend.close()
    backend.close()
    with pytest.raises(EngineClosed):
        backend.run({"image": planes()})


@pytest.mark.parametrize("name", HERE)
def test_a_graph_with_pixels_in_is_described(name):
    opened = open_backend(name, graph_model(), threads=1)
    assert opened.inputs["image"].dtype == np.uint8
    assert opened.outputs["segmentation"].dtype == np.uint8
    opened.close()


def test_onnxruntime_refuses_what_it_would_do_in_another_precision(model):
    pytest.importorskip("onnxruntime")
    for precision in set(PRECISIONS) - {"fp32", "int8"}:
        with pytest.raises(BackendUnavailable, match=precision.replace("+", r"\+")):
            open_backend("onnxruntime", model, precision=precision)


def test_openvino_computes_in_bf16_or_refuses(model):
    openvino = pytest.importorskip("openvino")
    capable = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if not capable:
        with pytest.raises(BackendUnavailable, match="bf16"):
            open_backend("openvino", model, precision="bf16")
        return
    exact = open_backend("openvino", model, precision="fp32").run({"image": planes()})
    rough = open_backend("openvino", model, precision="bf16").run({"image": planes()})
    difference = np.abs(exact["segmentation_logits"] - rough["segmentation_logits"]).max()
    assert 1e-4 < difference < 1.0


@pytest.mark.parametrize("name", HERE)
def test_a_runtime_reports_to_nobody(name, model, tmp_path):
    """Both runtimes send telemetry on import unless it is stopped: no identifier is made, nothing is forked or sent."""
    (tmp_path / "model.onnx").write_bytes(model)
    code = """
import os, socket, sys
def refuse(*unused):
    os.write(2, b"a connection was tried")
    raise OSError
socket.socket.connect = socket.create_connection = refuse
os.fork = lambda: refuse()
from edge_mtl.backends import open_backend
backend = open_backend(sys.argv[1], open(sys.argv[2], "rb").read(), threads=1)
print(len(backend.outputs), "openvino_telemetry" in sys.modules)
"""
    hidden = ("CI", "TF_BUILD", "JENKINS_URL", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", code, name, str(tmp_path / "model.onnx")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (done.stdout.split(), done.stderr) == (["3", "False"], "")
    assert [path.name for path in tmp_path.rglob("*")] == ["model.onnx"]


@pytest.mark.skipif("openvino" not in HERE, reason="openvino is not installed")
def test_the_converter_of_models_is_imported_when_somebody_asks_for_it():
    code = """
import sys
import edge_mtl.backends.openvino.backend
import openvino
print("openvino.tools.ovc" in sys.modules, hasattr(openvino, "nothing"), callable(openvino.convert_model))
from openvino import convert_model
from openvino.tools.ovc import convert_model as same
print(convert_model is same)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "True"]


def test_every_backend_has_a_file_of_its_own():
    for name in BACKENDS:
        place = Path(backends.__file__).parent / name.replace("-", "_")
        assert place.with_suffix(".py").is_file() or (place / "__init__.py").is_file()
