"""The ONNX files: the names and shapes that were agreed, one file, the same maps wherever the graph ends."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mtl.models import build_model, export
from mtl.models.placement import GraphPlacement

from edge_mtl.errors import BuildError
from tests.networks import as_if_trained, small_model

pytestmark = pytest.mark.training

HEIGHT, WIDTH = 64, 96
QUARTER = (HEIGHT // 4, WIDTH // 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("graphs")
    model = small_model()
    paths = {name: folder / f"{name}.onnx" for name in ("plain", "deploy", "deploy_graph")}
    export.export_plain(model, paths["plain"], height=HEIGHT, width=WIDTH)
    export.export_deploy(model, paths["deploy"], height=HEIGHT, width=WIDTH)
    export.export_deploy(model, paths["deploy_graph"], height=HEIGHT, width=WIDTH, placement="graph")
    return paths


def run(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def frame() -> np.ndarray:
    return GraphPlacement.example(HEIGHT, WIDTH).numpy()


def planes(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(0, 3, 1, 2)).astype(np.float32)


def finished(maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The host's half, written once more with OpenCV: x4 bilinear, half-pixel centres; argmax, metres, unit length."""

    def full(name: str) -> np.ndarray:
        return np.stack([cv2.resize(plane, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) for plane in maps[name][0]])

    normals = full("normals_quarter")
    return {
        "segmentation": full("segmentation_logits").argmax(axis=0)[None].astype(np.uint8),
        "depth": full("depth_quarter"),
        "normals": (normals / np.linalg.norm(normals, axis=0)).transpose(1, 2, 0)[None],
    }


def assert_same_maps(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], labels: float) -> None:
    assert (found["segmentation"] == expected["segmentation"]).mean() >= labels
    np.testing.assert_allclose(found["depth"], expected["depth"], rtol=1e-4)
    cross = np.linalg.norm(np.cross(found["normals"].astype(float), expected["normals"].astype(float)), axis=-1)
    assert np.degrees(np.arcsin(cross.clip(0, 1))).max() <= 0.05


@pytest.mark.parametrize("name", ["plain", "deploy_graph"])
def test_a_graph_with_everything_inside_takes_bytes_and_gives_finished_maps(files: dict[str, Path], name: str) -> None:
    maps = run(files[name], frame())
    assert {key: (value.dtype.name, value.shape) for key, value in maps.items()} == {
        "segmentation": ("uint8", (1, HEIGHT, WIDTH)),
        "depth": ("float32", (1, HEIGHT, WIDTH)),
        "normals": ("float32", (1, HEIGHT, WIDTH, 3)),
    }
    np.testing.assert_allclose(np.linalg.norm(maps["normals"], axis=-1), 1.0, atol=1e-5)
    assert len(np.unique(maps["segmentation"])) > 1  # or agreement of labels would prove nothing


def test_a_graph_for_a_host_ends_at_a_quarter(files: dict[str, Path]) -> None:
    maps = run(files["deploy"], planes(frame()))
    assert {key: (value.dtype.name, value.shape) for key, value in maps.items()} == {
        "segmentation_logits": ("float32", (1, 13, *QUARTER)),
        "depth_quarter": ("float32", (1, 1, *QUARTER)),
        "normals_quarter": ("float32", (1, 3, *QUARTER)),
    }
    assert maps["depth_quarter"].min() > 0


def test_both_placements_give_the_same_maps(files: dict[str, Path]) -> None:
    host = finished(run(files["deploy"], planes(frame())))
    assert_same_maps(run(files["deploy_graph"], frame()), host, labels=0.9999)


def test_the_plain_graph_gives_the_same_maps_as_the_deploy_graph(files: dict[str, Path]) -> None:
    assert_same_maps(run(files["plain"], frame()), run(files["deploy_graph"], frame()), labels=0.999)


@pytest.mark.slow
def test_the_plain_graph_of_linear_attention_is_made_of_allowed_operators(tmp_path: Path) -> None:
    model = as_if_trained(build_model("pvt_v2_b2_li", tasks=("depth",), width=16))
    path = tmp_path / "plain.onnx"
    export.export_plain(model, path, height=HEIGHT, width=WIDTH)  # opens it in a runtime and compares it with torch
    assert not {node.op_type for node in onnx.load(path).graph.node} & {"GatherND", "ScatterND", "Loop", "If"}


def test_openvino_compiles_and_agrees(files: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    image, answer = tmp_path / "image.npy", tmp_path / "answer.npz"
    np.save(image, planes(frame()))
    code = (
        "import sys, numpy as np, openvino as ov\n"
        "core = ov.Core()\n"
        "hints = {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1}\n"
        "compiled = core.compile_model(core.read_model(sys.argv[1]), 'CPU', hints)\n"
        "result = compiled.create_infer_request().infer({0: np.load(sys.argv[2])})\n"
        "np.savez(sys.argv[3], **{port.get_any_name(): value for port, value in result.items()})\n"
    )
    # In a process of its own: a compiler that crashes must fail this test, not end the run.
    subprocess.run([sys.executable, "-c", code, str(files["deploy"]), str(image), str(answer)], check=True, timeout=120)
    expected = run(files["deploy"], planes(frame()))
    with np.load(answer) as found:
        for name, value in expected.items():
            assert np.linalg.norm(found[name] - value) <= 1e-3 * np.linalg.norm(value)


def test_the_files_say_what_they_are_and_hold_everything(files: dict[str, Path]) -> None:
    for name, placement in {"plain": "graph", "deploy": "host", "deploy_graph": "graph"}.items():
        proto = onnx.load(files[name], load_external_data=False)
        properties = {entry.key: entry.value for entry in proto.metadata_props}
        assert properties["edge_mtl.tasks"] == "segmentation,depth,normals"
        assert properties["edge_mtl.size"] == f"{HEIGHT}x{WIDTH}"
        assert properties["edge_mtl.placement"] == placement
        assert all(entry.version <= 20 for entry in proto.opset_import)
        assert not [tensor.name for tensor in proto.graph.initializer if tensor.external_data]
        assert b"site-packages" not in files[name].read_bytes()


def test_the_deploy_graph_is_made_of_what_integer_runtimes_fuse(files: dict[str, Path]) -> None:
    graph = onnx.load(files["deploy"]).graph
    constants = {tensor.name for tensor in graph.initializer}
    kinds = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in kinds
    assert "Slice" not in kinds
    assert len(kinds) < len(onnx.load(files["plain"]).graph.node)
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            assert set(node.input[1:]) <= constants


def test_a_graph_that_disagrees_with_torch_is_not_written(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = small_model()
    other.decoder.branches["depth"].output.bias.data += 0.1
    monkeypatch.setattr(export, "_to_onnx", lambda placed, example: onnx.load(files["deploy"]))
    with pytest.raises(BuildError, match=r"depth_quarter differs from torch by \d\.\de-\d\d: expected <= 1e-04"):
        export.export_deploy(other, tmp_path / "wrong.onnx", height=HEIGHT, width=WIDTH)
    assert list(tmp_path.iterdir()) == []


def test_a_size_that_the_network_cannot_take_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="100 x 96: expected multiples of 32"):
        export.export_plain(small_model(), tmp_path / "x.onnx", height=100, width=96)


def test_an_exporter_that_fails_is_named_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("the model contains functions")

    monkeypatch.setattr(export.torch.onnx, "export", fails)
    wanted = rf"torch {re.escape(torch.__version__)} with onnxscript .*contains functions.*pip install -U onnxscript torch"
    with pytest.raises(BuildError, match=wanted):
        export.export_plain(small_model(), tmp_path / "plain.onnx", height=HEIGHT, width=WIDTH)
    assert not list(tmp_path.iterdir())
