"""Layer profiles: names of runtimes find their part of the network, and times are those the runtime told."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.backends import BackendInfo, TensorSpec, available, spec_of
from edge_mtl.backends.profiling import profile_graph
from edge_mtl.bench import profile
from edge_mtl.bench.layer_groups import NECK, PARTS, POST, PRE, LayerGroupMap, totals
from edge_mtl.bench.op_types import KINDS, kind_of
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.errors import BackendUnavailable, BuildError
from tests.command_line import assert_failed, edge_mtl
from tests.transformers import transformer_block


def network(steps: list[tuple[str, str, list[str], str]]) -> bytes:
    """A chain of nodes: (operator, name, inputs, output); names with a dot are weights."""
    nodes = [helper.make_node(kind, inputs, [output], name=name) for kind, name, inputs, output in steps]
    weights = sorted({name for node in nodes for name in node.input if "." in name})
    tensors = [numpy_helper.from_array(np.zeros((1, 1, 1, 1), np.float32), name) for name in weights]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 1, 8, 8])] for name in ("image", steps[-1][3])]
    model: bytes = helper.make_model(helper.make_graph(nodes, "g", *ends, tensors)).SerializeToString()
    return model


STEPS = [
    ("Cast", "cast", ["image"], "floats"),
    ("Conv", "c0", ["floats", "network.backbone.embeddings.0.proj.weight"], "a"),
    ("Softmax", "s0", ["a"], "b"),
    ("DequantizeLinear", "dq", ["network.backbone.blocks.2.0.mlp.expand.weight_quantized", "a.scale"], "w"),
    ("Conv", "c2", ["b", "w"], "c"),
    ("Conv", "old", ["c", "network.model.backbone.net.stages_3.blocks.0.mlp.fc1.weight"], "d"),
    ("Conv", "n", ["d", "network.decoder.decoder.merge.weight"], "e"),
    ("Conv", "h", ["e", "network.decoder.decoder.branches.depth.output.weight"], "f"),
    ("Clip", "clip", ["f"], "g"),
    ("Resize", "up", ["g"], "wide"),
    ("Clip", "after", ["wide"], "depth"),
]


def test_parts_follow_the_names_of_weights_and_the_data() -> None:
    parts = LayerGroupMap(network(STEPS))
    found = {name: parts.part([name]) for _, name, _, _ in STEPS}
    assert found == {
        "cast": PRE,
        "c0": "backbone stage 1",
        "s0": "backbone stage 1",
        "dq": "backbone stage 3",
        "c2": "backbone stage 3",
        "old": "backbone stage 4",
        "n": NECK,
        "h": "depth head",
        "clip": "depth head",
        "up": POST,
        "after": POST,
    }


@pytest.mark.parametrize(
    "name",
    [
        "c2",
        "c_nchwc",
        "c2/GemmTransposeFusion/",
        "c2/WithoutBiases",
        "c2_abcd_acdb_fake",
        "c_quant",
        "c2___n",
        "c_Q",
        "c_dequantized",
        "c_weight_DQ",
    ],
)
def test_what_runtimes_add_to_names_is_taken_off(name: str) -> None:
    assert LayerGroupMap(network(STEPS)).part([name]) == "backbone stage 3"


def test_a_layer_without_a_known_name_goes_with_the_one_before() -> None:
    parts = LayerGroupMap(network(STEPS)).group([["Reorder"], ["c0"], ["ReorderOutput_token_9"], ["h"], ["?"]])
    assert parts == [PRE, "backbone stage 1", "backbone stage 1", "depth head", "depth head"]
    assert totals(parts, [1, 2, 3, 4, 5]) == {PRE: 1, "backbone stage 1": 5, "depth head": 9}
    with pytest.raises(BuildError):
        LayerGroupMap(b"no graph")


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_a_runtime_tells_the_time_of_its_layers(tiny_bundle: Bundle, name: str) -> None:
    if not available()[name].usable:
        pytest.skip(available()[name].reason)
    found = profile_graph(name, tiny_bundle.read(REFERENCE_ONNX), threads=1, runs=4)
    assert (found.backend, found.threads, len(found.run_s)) == (name, 1, 4)
    assert all(len(layer.seconds) == 4 for layer in found.layers)
    for run, whole in enumerate(found.run_s):
        assert 0 < sum(layer.seconds[run] for layer in found.layers) < whole * 10, "seconds, of the same run"
    parts = set(LayerGroupMap(tiny_bundle.read(REFERENCE_ONNX)).group([layer.sources for layer in found.layers]))
    assert {"segmentation head", "depth head", "normals head", POST} <= parts <= set(PARTS)


def test_a_runtime_without_a_profiler_is_named(tiny_bundle: Bundle) -> None:
    model = tiny_bundle.read(OPTIMIZED_ONNX)
    with pytest.raises(BackendUnavailable, match="Unknown backend"):
        profile_graph("abacus", model)
    if "onnxruntime-cuda" in available():
        with pytest.raises(BackendUnavailable, match="no profiler"):
            profile_graph("onnxruntime-cuda", model)


def test_the_trace_of_onnx_runtime_is_read_run_by_run() -> None:
    pytest.importorskip("onnxruntime")
    from edge_mtl.backends.onnxruntime.profiling import read_trace

    trace: list[dict[str, Any]] = []
    for run, length in enumerate((900, 100, 200)):
        trace.append({"cat": "Session", "name": "model_run", "ts": run * 1000, "dur": 950})
        trace.append(
            {"cat": "Node", "name": "c_kernel_time", "ts": run * 1000 + 10, "dur": length, "args": {"op_name": "Conv"}}
        )
        trace.append({"cat": "Node", "name": "c_fence_before", "ts": run * 1000 + 5, "dur": 1})
    (layer,) = read_trace(trace, skip=1)
    assert (layer.name, layer.kind) == ("c", "Conv")
    assert layer.seconds == pytest.approx((100e-6, 200e-6))


def test_tensorrt_reports_layers_to_our_profiler() -> None:
    """A stand-in for the library, which calls the profiler after each run as TensorRT does."""
    from edge_mtl.backends.tensorrt.profiling import profile_backend

    class IProfiler:
        pass

    class Backend:
        info = BackendInfo("tensorrt", "10.3", "cuda:0", "fp16", 1)
        inputs = {"image": TensorSpec((1, 3, 8, 8), np.dtype("float32"))}  # noqa: RUF012
        profiler: Any = None
        runs = 0

        def run(self, feeds: dict[str, np.ndarray]) -> None:
            assert feeds["image"].shape == (1, 3, 8, 8)
            self.runs += 1
            if self.profiler is not None:
                self.profiler.report_layer_time("c0 + s0", 2.0)
                self.profiler.report_layer_time("{ForeignNode[c2]}", 1.0)

        @contextmanager
        def watched_by(self, make: Callable[[Any], Any]) -> Any:
            self.profiler = make(SimpleNamespace(IProfiler=IProfiler))
            yield
            self.profiler = None

    backend: Any = Backend()
    found = profile_backend(backend, runs=5)
    assert backend.runs > 5, "runs before are not watched"
    assert [layer.median_s for layer in found.layers] == pytest.approx([2e-3, 1e-3])
    assert LayerGroupMap(network(STEPS)).group([layer.sources for layer in found.layers])[0] == "backbone stage 1"
    assert found.layers[1].kind == "fused region"


def test_the_command_shows_parts_and_writes_a_image_and_json(tiny_bundle: Bundle, tmp_path: Path) -> None:
    svg, out = tmp_path / "p.svg", tmp_path / "p.json"
    options = ("--backend", "onnxruntime", "--threads", 1, "--rounds", 3, "--svg", svg, "--save", out)
    outcome = edge_mtl("profile", tiny_bundle.path, *options)
    assert outcome.code == 0, outcome
    for words in ("segmentation head", "post-processing", "slowest layers", "read the shares"):
        assert words in outcome.out
    content = json.loads(out.read_text())
    assert content["kind"] == "edge-mtl profile"
    assert sum(part["share"] for part in content["parts"]) == pytest.approx(1.0)
    assert {layer["part"] for layer in content["layers"]} <= set(PARTS)
    assert ET.fromstring(svg.read_text()).tag.endswith("svg")


def test_the_device_that_was_asked_for_is_profiled(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = edge_mtl("profile", tiny_bundle.path, "--threads", 1, "--rounds", 3, "--device", "cpu", "--json")
    assert outcome.code == 0, outcome
    assert spec_of(outcome.records[-1]["backend"]).device == "cpu"
    asked: dict[str, object] = {}

    def refuse(*_: object, **options: object) -> None:
        asked.update(options)
        raise BackendUnavailable("no GPU in this test")

    monkeypatch.setattr(profile, "resolve_engine", refuse)
    assert_failed(edge_mtl("profile", tiny_bundle.path, "--device", "cuda:1"), BackendUnavailable.exit_code, "no GPU")
    assert (asked["kind"], asked["device"]) == ("cuda", 1)
    assert_failed(edge_mtl("profile", tiny_bundle.path, "--device", "abacus"), 2, "abacus")


@pytest.mark.parametrize(
    ("name", "operators", "kind"),
    [
        ("QLinearConv", {"Conv"}, "convolutions"),
        ("QLinearConv", {"DepthwiseConv", "Relu"}, "depthwise convolutions"),
        ("GroupConvolution", set(), "depthwise convolutions"),
        ("QGemm", {"Gemm"}, "linear layers"),
        ("FusedMatMul", {"ProductOfTwo"}, "attention products"),
        ("Subgraph", {"ProductOfTwo", "Softmax"}, "attention products"),
        ("Subgraph", {"LayerNormalization"}, "normalisation"),
        ("Subtract", {"LayerNormalization"}, "normalisation"),
        ("Subgraph", {"Add"}, "sums and the rest"),
        ("ReorderInput", set(), "memory layout and shapes"),
        ("something new", set(), "sums and the rest"),
    ],
)
def test_layers_are_counted_by_the_work_they_do_whatever_a_runtime_calls_them(
    name: str, operators: set[str], kind: str
) -> None:
    assert kind_of(name, operators) == kind
    assert kind in KINDS


def test_operators_of_attention_and_depthwise_layers_are_told_apart() -> None:
    known = LayerGroupMap(transformer_block())
    assert known.operators(["scores"]) == {"ProductOfTwo"}
    assert known.operators(["node_query"]) == {"Gemm"}
    assert known.operators(["node_spread"]) == {"DepthwiseConv"}
    assert known.operators(["never heard of"]) == frozenset()
