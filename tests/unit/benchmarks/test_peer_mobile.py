"""MNN, ncnn, LiteRT and ExecuTorch in the peers table: the same answers, at rest between frames, reasons where they fail."""

from __future__ import annotations

import importlib.util
import operator
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edge_mtl.backends import Backend, TensorSpec, available, open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.errors import BackendUnavailable, BuildError, InferenceError
from edge_mtl.inference_pipeline import InferencePipeline
from tests.bundles import host_model, make_image

Script = Callable[[str], ModuleType]
FRAMES = [make_image(index) for index in range(4)]
IDLE_S, MOST_BUSY = 0.3, 0.35


def needs(*packages: str) -> pytest.MarkDecorator:
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def check(rival: Backend, expected: dict[str, np.ndarray], *, within: float) -> None:
    """Answers are near enough and the caller's own, and once they are there the runtime rests."""
    feeds = {"image": planes_of(FRAMES[0])}
    first = rival.run(feeds)
    kept = {name: value.copy() for name, value in first.items()}
    assert list(first) == list(expected)
    for name, value in first.items():
        assert (value.shape, value.dtype) == (expected[name].shape, np.float32), name
        assert relative_error(value, expected[name]) < within, name
    rival.run({"image": planes_of(FRAMES[1])})
    assert all(np.array_equal(first[name], kept[name]) for name in kept), "a later frame changes what was answered"
    time.sleep(0.1)
    before = time.process_time()
    time.sleep(IDLE_S)
    assert time.process_time() - before < MOST_BUSY * IDLE_S, "threads spin after the frame"
    rival.close()
    rival.close()


def planes_of(frame: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(frame.transpose(2, 0, 1)[None].astype(np.float32))


def specs_of(expected: dict[str, np.ndarray]) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """Inputs and outputs of a graph that answers so."""
    floats = np.dtype(np.float32)
    outputs = {name: TensorSpec(value.shape, floats) for name, value in expected.items()}
    return {"image": TensorSpec((1, 3, 64, 96), floats)}, outputs


@pytest.fixture
def torch_network(script: Script, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, dict[str, np.ndarray]]]:
    """A small network in place of a bundle's: its signature, and what it answers on the first frame."""
    torch = pytest.importorskip("torch")
    from mtl.models.deploy import deploy
    from mtl.models.placement import HostPlacement

    from tests.networks import small_model

    threads = torch.get_num_threads()
    network = HostPlacement(deploy(small_model(), height=64, width=96)).eval()
    with torch.no_grad():
        answers = network(torch.from_numpy(planes_of(FRAMES[0])))
    expected = {name: value.numpy() for name, value in zip(network.output_names, answers, strict=True)}
    example = HostPlacement.example(64, 96).contiguous()
    for module in ("peer_ncnn", "peer_litert", "peer_executorch"):
        monkeypatch.setattr(script(module), "load_optimized", lambda source, names: (network, example))
    yield script("peer_graphs").Signature(*specs_of(expected)), expected
    torch.set_num_threads(threads)


@pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
def test_the_signature_is_that_of_the_graph(script: Script, tiny_bundle: Bundle) -> None:
    signature = script("peer_graphs").signature
    host, graph = signature(tiny_bundle), signature(tiny_bundle, place="graph")
    optimized = open_backend("onnxruntime", tiny_bundle.read(OPTIMIZED_ONNX), threads=1)
    assert (dict(host.inputs), dict(host.outputs)) == (dict(optimized.inputs), dict(optimized.outputs))
    assert list(host.outputs) == list(optimized.outputs)
    assert graph.inputs["image"] == TensorSpec((1, 64, 96, 3), np.dtype(np.uint8))
    assert graph.outputs["segmentation"].dtype == np.uint8
    optimized.close()


def test_a_converter_answers_from_a_process_of_its_own(script: Script, capfd: pytest.CaptureFixture[str]) -> None:
    apart = script("peer_graphs").apart
    assert apart(bytes, b"content") == b"content"
    with pytest.raises(BuildError, match="ZeroDivisionError: division by zero"):
        apart(operator.truediv, 1, 0)
    with pytest.raises(BuildError, match="the converter died of SIGABRT"):
        apart(os.abort)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    ("module", "call", "package"),
    [
        ("peer_mnn", lambda peer: peer.converted(b""), "MNN"),
        ("peer_ncnn", lambda peer: peer.converted(Path(), ()), "pnnx"),
        ("peer_litert", lambda peer: peer.litert_version(), "litert-torch"),
        ("peer_litert", lambda peer: peer.quantized(b"", ()), "ai-edge-quantizer"),
        ("peer_executorch", lambda peer: peer.executorch_version(), "executorch"),
    ],
)
def test_without_its_package_a_row_says_so(
    module: str, call: Callable[[ModuleType], Any], package: str, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = script(module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match=f"{package} is not installed: pip install {package}"):
        call(peer)


def test_ncnn_has_no_quantizer(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(BackendUnavailable, match="ncnn2int8"):
        script("peer_ncnn").quantized()


@needs("MNN")
@pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")
def test_mnn_answers_as_the_graph_does(script: Script, tiny_bundle: Bundle) -> None:
    peer, graphs, model = script("peer_mnn"), script("peer_graphs"), host_model()
    reference = open_backend("onnxruntime", model, threads=1)
    expected = reference.run({"image": planes_of(FRAMES[0])})
    reference.close()
    signature = graphs.signature(tiny_bundle)
    made = graphs.apart(peer.converted, model)
    rival = peer.MnnRuntime(made, signature, threads=2, name="fp32")
    low = peer.MnnRuntime(made, signature, threads=2, name="low")
    with pytest.raises(BackendUnavailable, match="to the last bit"):
        peer.refuse_unless_shorter(low, rival, {"image": planes_of(FRAMES[0])})
    assert InferencePipeline(rival, tiny_bundle.manifest).placement == "host"
    check(rival, expected, within=1e-4)
    integers = graphs.apart(peer.converted, model, 8)
    check(peer.MnnRuntime(integers, signature, threads=2, name="int8", dynamic=True), expected, within=0.3)


@needs("MNN")
def test_what_mnn_cannot_convert_is_a_reason(script: Script) -> None:
    with pytest.raises(BuildError, match="mnnconvert made no file"):
        script("peer_graphs").apart(script("peer_mnn").converted, b"no graph")


@pytest.mark.training
@needs("ncnn", "pnnx")
def test_ncnn_answers_as_torch_does(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 4, stride=4), torch.nn.ReLU(), torch.nn.Conv2d(8, 3, 1)).eval()
    example = torch.from_numpy(planes_of(FRAMES[0]))
    expected = {"normals_quarter": network(example).detach().numpy()}
    peer, form = script("peer_ncnn"), script("peer_graphs").Signature(*specs_of(expected))
    monkeypatch.setattr(peer, "load_optimized", lambda source, names: (network, example))
    made = peer.converted(Path(), tuple(expected))
    check(peer.NcnnRuntime(made, form, threads=2, floats="fp32"), expected, within=1e-4)
    check(peer.NcnnRuntime(made, form, threads=2, floats="bf16"), expected, within=0.05)


@pytest.mark.training
@needs("ncnn", "pnnx")
def test_what_ncnn_cannot_run_is_a_reason(script: Script, torch_network: Any) -> None:
    peer, (form, expected) = script("peer_ncnn"), torch_network
    rival = peer.NcnnRuntime(peer.converted(Path(), tuple(expected)), form, threads=2, floats="fp32")
    with pytest.raises(InferenceError, match="ncnn cannot run what pnnx made"):
        rival.run({"image": planes_of(FRAMES[0])})


@pytest.mark.training
@needs("litert_torch", "ai_edge_litert", "ai_edge_quantizer")
def test_litert_answers_as_torch_does(script: Script, torch_network: Any) -> None:
    peer, (form, expected) = script("peer_litert"), torch_network
    made = peer.converted(Path(), tuple(expected))
    check(peer.LiteRtRuntime(made, form, threads=2, precision="fp32"), expected, within=1e-4)
    integers = peer.quantized(made, FRAMES)
    assert len(integers) < len(made)
    check(peer.LiteRtRuntime(integers, form, threads=2, precision="int8"), expected, within=0.5)


@pytest.mark.training
@needs("executorch", "torchao")
def test_executorch_answers_as_torch_does(script: Script, torch_network: Any) -> None:
    peer, (form, expected) = script("peer_executorch"), torch_network
    made = peer.converted(Path(), tuple(expected), ())
    check(peer.ExecuTorchRuntime(made, form, threads=2, precision="fp32"), expected, within=1e-4)
    integers = peer.converted(Path(), tuple(expected), FRAMES)
    assert len(integers) < len(made)
    check(peer.ExecuTorchRuntime(integers, form, threads=2, precision="int8"), expected, within=0.5)


def test_a_row_is_kept_and_made_once(
    script: Script, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, peer, made = script("peers_mobile"), script("peer_mnn"), []
    monkeypatch.setattr(peer, "mnn_version", lambda: "MNN 3")
    monkeypatch.setattr(peer, "MnnRuntime", lambda model, *_, **options: (model, options["name"]))
    monkeypatch.setattr(rows, "apart", lambda make, *values: made.append(make) or b"converted")
    work = script("work_folder").WorkFolder(tmp_path)

    def unasked() -> Any:
        raise AssertionError("floats need no calibration frames")

    opened = rows.mobile(tiny_bundle, tiny_bundle.path, unasked, threads=1, work=work)
    assert opened["MNN fp32, optimized export"]() == (b"converted", "fp32")
    assert opened["MNN fp32, optimized export"]() == (b"converted", "fp32")
    assert opened["MNN fp32, plain export"]() == (b"converted", "fp32")
    assert len(made) == 2, "one file for each of the two graphs"


def test_packages_of_peers_are_loaded_with_their_rows_alone(script: Script) -> None:
    folder = Path(script("peers_mobile").__file__).parent
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import peers_mobile; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    loaded = set(done.stdout.split())
    assert "peers_mobile" in loaded, done.stderr
    assert not loaded & {"torch", "MNN", "ncnn", "pnnx", "litert_torch", "ai_edge_litert", "executorch", "torchao"}
