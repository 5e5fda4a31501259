"""Comparisons with others and with single-task engines: same frames, accuracy beside speed, and what is left out is said."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.backends import available
from edge_mtl.errors import BackendUnavailable

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def row(name: str, ratio: float, *, ours: bool, fit: bool = True) -> dict[str, Any]:
    return {"name": name, "ratio": ratio, "ours": ours, "within_budget": fit}


def test_the_conclusion_compares_only_what_keeps_the_accuracy(script) -> None:
    conclusion = script("peers").conclusion
    rows = [
        row("edge_mtl int8 on openvino", 3.0, ours=True),
        row("edge_mtl bf16 on openvino", 3.5, ours=True),
        row("NNCF INT8, plain export", 4.0, ours=False, fit=False),
        row("OpenVINO bf16, plain export", 2.0, ours=False),
    ]
    found = conclusion(rows)
    assert (found["ours"], found["rival"]) == ("edge_mtl int8 on openvino", "OpenVINO bf16, plain export")
    assert conclusion([one for one in rows if one["ours"]]) == {}


def test_torch_of_other_weights_is_refused(script) -> None:
    peers = script("peers")
    same, other = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)

    def answers(labels: np.ndarray) -> Any:
        return lambda frame: type("Maps", (), {"segmentation": labels, "depth": None, "normals": None})()

    paths = {peers.BASELINE: answers(same), "PyTorch eager fp32": answers(same)}
    peers._check_same_weights(paths, None, Path("a"))
    with pytest.raises(peers.BuildError, match=r"not what model\.onnx was exported from"):
        peers._check_same_weights({**paths, "PyTorch eager fp32": answers(other)}, None, Path("a"))


def test_without_nncf_its_row_says_so(script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="pip install"):
        script("peer_runtimes").NncfRuntime(b"", [], threads=1, floats="fp32")


def test_memory_sees_what_a_larger_graph_takes(script, tmp_path: Path) -> None:
    megabytes = {}
    for side in (64, 3200):
        weight = numpy_helper.from_array(np.ones((side, side), np.float32), "weight")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "weight"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, side])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, side])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = tmp_path / f"{side}.onnx"
        path.write_bytes(model.SerializeToString())
        found = script("resident_memory").resident_memory([path], backend="onnxruntime", precision="fp32", threads=1, repeats=1)
        assert found.peak >= found.loaded > found.runtime
        megabytes[side] = found.graphs / 2**20
    assert megabytes[3200] - megabytes[64] > 30
