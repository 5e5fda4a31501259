"""`edge-mtl export`: the reference ONNX, and a model repository of Triton with a graph or a plan."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from google.protobuf.text_format import ParseError

from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.builder import triton as module
from edge_mtl.builder.tensorrt.builder import PlanReport
from edge_mtl.builder.tensorrt.contents import NetworkContents
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.builder.triton import write_triton
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.errors import BuildError
from tests.bundles import make_bundle, make_image
from tests.command_line import assert_failed, edge_mtl
from tests.triton_schema import parse_config


def run(model: bytes, frames: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return dict(zip([value.name for value in session.get_outputs()], session.run(None, {"image": frames}), strict=True))


def test_the_plain_graph_is_written_as_it_is(tiny_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "new" / "model.onnx"
    done = edge_mtl("export", tiny_bundle.path, "--onnx", path, "--json")
    assert done.code == 0, done.err
    assert path.read_bytes() == tiny_bundle.read(REFERENCE_ONNX)
    assert done.records[0]["written"] == {str(path): path.stat().st_size}


def test_the_weights_are_written_as_safetensors(tiny_bundle: Bundle, tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.numpy")
    path = tmp_path / "weights.safetensors"
    done = edge_mtl("export", tiny_bundle.path, "--weights", path, "--json")
    assert done.code == 0, done.err
    assert done.records[0]["written"] == {str(path): path.stat().st_size}
    assert package.load_file(path)["residual.weight"].shape == (16, 16, 3, 3)
    old = make_bundle(tmp_path / "old", whole=True)
    assert_failed(edge_mtl("export", old.path, "--weights", path), 3, "has no weights.safetensors")


def test_a_repository_for_one_frame_describes_its_graph(tiny_bundle: Bundle, tmp_path: Path) -> None:
    model = write_triton(tiny_bundle, tmp_path)
    assert model.path == tmp_path / tiny_bundle.name
    assert {path.relative_to(model.path).as_posix() for path in model.path.rglob("*") if path.is_file()} == set(model.files)
    text = (model.path / "config.pbtxt").read_text()
    assert f'name: "{tiny_bundle.name}"' in text
    assert 'backend: "onnxruntime"' in text
    assert "max_batch_size: 0" in text
    assert 'input [{ name: "image" data_type: TYPE_UINT8 dims: [ 1, 64, 96, 3 ] }]' in text
    assert "dynamic_batching" not in text
    assert tiny_bundle.digest in text
    graph = onnx.load(model.path / "1" / "model.onnx").graph
    assert re.findall(r'output \[\{ name: "(\w+)"', text) == [value.name for value in graph.output]
    assert text.count("{") == text.count("}")


TRITON_TYPES = {"TYPE_UINT8": "uint8", "TYPE_FP32": "float32"}


@pytest.mark.parametrize("max_batch", [1, 8])
@pytest.mark.parametrize("runtime", ["onnxruntime", "tensorrt"])
def test_a_servers_parser_reads_the_description_and_it_is_that_of_the_graph(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, max_batch: int
) -> None:
    built: list[bytes] = []

    def build(library: Library, model: bytes, options: PlanOptions, **rest: object) -> PlanReport:
        built.append(model)
        return PlanReport(b"ftrt", library.describe(), NetworkContents(1, 0, 0, {}))

    monkeypatch.setattr(module, "build_plan", build)
    library = Library(None, "tensorrt", (10, 3, 0))
    model = write_triton(tiny_bundle, tmp_path, runtime=runtime, max_batch=max_batch, library=library)  # type: ignore[arg-type]
    config = parse_config((model.path / "config.pbtxt").read_text())
    graph = built[0] if built else (model.path / "1" / "model.onnx").read_bytes()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert (config.name, config.backend) == (model.path.name, runtime)
    assert config.max_batch_size == (max_batch if max_batch > 1 else 0)
    for described, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        assert [tensor.name for tensor in described] == [value.name for value in real]
        for tensor, value in zip(described, real, strict=True):
            kind = TRITON_TYPES[tensor_type(tensor)].replace("float32", "float")
            assert value.type == f"tensor({kind})"
            sides = value.shape[1:] if max_batch > 1 else value.shape
            assert list(tensor.dims) == sides
    assert config.parameters["bundle_digest"].string_value == tiny_bundle.digest


def tensor_type(tensor: object) -> str:
    """Name of the type in a message of Triton."""
    field = tensor.DESCRIPTOR.fields_by_name["data_type"]  # type: ignore[attr-defined]
    return str(field.enum_type.values_by_number[tensor.data_type].name)  # type: ignore[attr-defined]


def test_the_control_refuses_a_description_that_no_server_reads() -> None:
    for wrong in ('names: "x"', 'input [{ name: "image" data_type: TYPE_FLOAT32 }]', "max_batch_size: 8.5"):
        with pytest.raises(ParseError):
            parse_config(wrong)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-4), (True, 0.05)])
def test_requests_put_together_get_the_answers_they_get_alone(
    tiny_bundle: Bundle, tmp_path: Path, half: bool, tolerance: float
) -> None:
    arguments = ["export", tiny_bundle.path, "--triton", tmp_path, "--max-batch", 4, *(["--fp16"] if half else [])]
    assert edge_mtl(*arguments).code == 0
    text = (tmp_path / tiny_bundle.name / "config.pbtxt").read_text()
    assert "max_batch_size: 4" in text
    assert "dims: [ 64, 96, 3 ]" in text
    assert "dynamic_batching" in text
    frames = np.stack([make_image(seed) for seed in range(3)])
    together = run((tmp_path / tiny_bundle.name / "1" / "model.onnx").read_bytes(), frames)
    for number in range(3):
        alone = run(tiny_bundle.read(REFERENCE_ONNX), frames[number : number + 1])
        np.testing.assert_allclose(together["depth"][number], alone["depth"][0], atol=tolerance, rtol=tolerance)
        assert (together["segmentation"][number] == alone["segmentation"][0]).mean() > 0.99


def test_a_plan_for_triton_is_built_from_a_graph_that_tensorrt_takes(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bytes, PlanOptions]] = []

    def build(library: Library, model: bytes, options: PlanOptions, **rest: object) -> PlanReport:
        asked.append((model, options))
        return PlanReport(b"ftrt", library.describe(), NetworkContents(1, 0, 0, {}))

    monkeypatch.setattr(module, "build_plan", build)
    library = Library(None, "tensorrt", (10, 3, 0))
    model = write_triton(tiny_bundle, tmp_path, runtime="tensorrt", precision="fp16", max_batch=8, library=library)
    assert (model.path / "1" / "model.plan").read_bytes() == b"ftrt"
    assert "TensorRT 10.3.0: Triton must have that version" in model.remark
    text = (model.path / "config.pbtxt").read_text()
    assert 'backend: "tensorrt"' in text
    assert "KIND_GPU" in text
    ((graph, options),) = asked
    assert [options.min_shapes, options.opt_shapes, options.max_shapes] == [{"image": (n, 64, 96, 3)} for n in (1, 4, 8)]
    first = onnx.load_from_string(graph).graph.node[0]
    assert (first.op_type, list(first.input)) == ("Cast", ["image"])


def test_what_is_there_is_not_written_over(tiny_bundle: Bundle, tmp_path: Path) -> None:
    write_triton(tiny_bundle, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(BuildError, match="exists already"):
        write_triton(tiny_bundle, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_failed_export_leaves_nothing(tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, payload: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BuildError, match="No space left"):
        write_triton(tiny_bundle, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_wrong_arguments_are_one_line(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assert_failed(edge_mtl("export", tiny_bundle.path), 2, "--onnx FILE, --weights FILE or --triton DIR")
    assert_failed(edge_mtl("export", tiny_bundle.path, "--onnx", tmp_path / "x", "--fp16"), 2, "--triton DIR")
    with pytest.raises(BuildError, match="fp32 or fp16; int8 was asked for"):
        write_triton(tiny_bundle, tmp_path, precision="int8")
    with pytest.raises(BuildError, match="1 or more; found 0"):
        write_triton(tiny_bundle, tmp_path, max_batch=0)
    with pytest.raises(BuildError, match="needs TensorRT on this machine"):
        write_triton(tiny_bundle, tmp_path, runtime="tensorrt")
