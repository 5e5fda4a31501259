"""Where Q/DQ nodes go in each emission, on a tiny transformer block and on the network of rooms-b0."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.onnx_graph.model import GraphIndex, facts, parse
from edge_mtl.quantization.quantize import (
    CPU_MODEL,
    TENSORRT_MODEL,
    Observed,
    choose_ranges,
    insert_qdq,
    observe_activations,
    quantize,
)
from edge_mtl.quantization.recipes import TENSORRT_INT8, LayerOverride, Recipe, load_recipe
from tests.bundles import ROOMS_B0, make_image
from tests.transformers import transformer_block

FRAMES = [make_image(seed) for seed in range(4)]
CPU, TENSORRT = load_recipe(), dataclasses.replace(load_recipe(TENSORRT_INT8), layers=())


class Emitted:
    """A quantized graph, its nodes by name, and its constants."""

    def __init__(self, model: bytes) -> None:
        proto = parse(model, name="quantized")
        self.bytes = model
        self.index = GraphIndex(proto)
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}

    def node(self, name: str) -> onnx.NodeProto:
        return next(node for node in self.index.nodes if node.name == name)

    def integers(self, name: str) -> list[bool]:
        """For each input of a node, whether it comes from a DequantizeLinear."""
        return [self.index.producer_type(tensor) == "DequantizeLinear" for tensor in self.node(name).input]

    def zero_point(self, tensor: str) -> np.ndarray:
        return self.constants[self.index.producer[tensor].input[2]]


@lru_cache(maxsize=1)
def block() -> tuple[bytes, Observed]:
    model = transformer_block()
    return model, observe_activations(model, FRAMES, recipes=[placed(CPU, float_tail={}), placed(TENSORRT, products=True)])


def emitted(recipe: Recipe, target: str) -> Emitted:
    model, observed = block()
    return Emitted(insert_qdq(model, choose_ranges(model, observed, recipe=recipe), recipe=recipe, target=target))


def placed(recipe: Recipe, **changes: object) -> Recipe:
    return dataclasses.replace(recipe, placement=dataclasses.replace(recipe.placement, **changes))


class TestTensorRT:
    """Signed and symmetric, on inputs and weights of layers, and nowhere else."""

    @pytest.mark.parametrize("layer", ["stem", "query", "key", "value", "projected", "expanded", "spread", "shrunk"])
    def test_every_layer_reads_signed_symmetric_integers(self, layer: str) -> None:
        graph = emitted(TENSORRT, "tensorrt")
        assert graph.integers(f"node_{layer}")[:2] == [True, True]
        for tensor in graph.node(f"node_{layer}").input[:2]:
            assert graph.zero_point(tensor).dtype == np.int8
            assert not graph.zero_point(tensor).any()

    def test_weights_stay_float_behind_a_pair_per_output_channel_and_biases_stay_float(self) -> None:
        graph = emitted(TENSORRT, "tensorrt")
        weights = graph.index.producer[graph.node("node_expanded").input[1]]
        pair = graph.index.producer[weights.input[0]]
        assert pair.op_type == "QuantizeLinear"
        assert graph.constants[pair.input[0]].dtype == np.float32
        assert graph.constants[pair.input[1]].shape == (16,)
        assert graph.node("node_expanded").input[2] in graph.constants

    def test_attention_products_layernorm_softmax_gelu_and_residual_sums_stay_float(self) -> None:
        graph = emitted(TENSORRT, "tensorrt")
        for name in ("scores", "mixed", "residual1", "residual2", "node_normed", "node_normed2"):
            assert not any(graph.integers(name)), name
        for node in graph.index.nodes:
            if node.op_type in ("Softmax", "Gelu", "LayerNormalization", "Add"):
                assert all(graph.index.producer_type(name) != "DequantizeLinear" for name in node.input), node.op_type

    def test_products_run_on_integers_where_the_recipe_says_so(self) -> None:
        graph = emitted(placed(TENSORRT, products=True), "tensorrt")
        assert graph.integers("scores") == graph.integers("mixed") == [True, True]
        assert not any(graph.integers("residual1"))

    def test_the_last_layer_of_a_head_stays_float(self) -> None:
        assert not any(emitted(TENSORRT, "tensorrt").integers("node_normals_quarter"))
        everything = emitted(placed(TENSORRT, float_tail={}), "tensorrt")
        assert everything.integers("node_normals_quarter")[:2] == [True, True]

    def test_the_float_tail_is_by_glob_over_outputs_and_the_last_match_counts(self) -> None:
        def last_is_float(tail: dict[str, int]) -> bool:
            return not any(emitted(placed(TENSORRT, float_tail=tail), "tensorrt").integers("node_normals_quarter"))

        assert last_is_float({"*_quarter": 1})
        assert last_is_float({"normals_quarter": 1})
        assert not last_is_float({"*_quarter": 1, "normals_*": 0})
        assert not last_is_float({"*_logits": 1, "normals": 1})

    def test_outputs_of_layers_are_not_quantized(self) -> None:
        graph = emitted(TENSORRT, "tensorrt")
        quantized = [node.input[0] for node in graph.index.nodes if node.op_type == "QuantizeLinear"]
        made = {node.output[0] for node in graph.index.nodes if node.op_type in ("Conv", "Gemm")}
        assert made & set(quantized) == {"expanded"}, "only where the next reader is a layer itself"

    def test_the_stem_stays_float_in_the_recipe_of_the_package(self) -> None:
        graph = emitted(load_recipe(TENSORRT_INT8), "tensorrt")
        assert not any(graph.integers("node_stem"))


class TestCpu:
    """Unsigned, with outputs for ONNX Runtime and without for OpenVINO."""

    def test_activations_are_unsigned_and_weights_are_stored_as_integers(self) -> None:
        for target in CPU.targets:
            graph = emitted(CPU, target)
            data, weights = graph.node("node_expanded").input[:2]
            assert graph.zero_point(data).dtype == np.uint8
            assert graph.constants[graph.index.producer[weights].input[0]].dtype == np.int8

    def test_onnx_runtime_gets_outputs_of_convolutions_quantized_and_openvino_does_not(self) -> None:
        def after(target: str) -> str:
            index = emitted(CPU, target).index
            convolution = next(node for node in index.nodes if node.name == "node_refined_raw")
            return str(index.consumers[convolution.output[0]][0].op_type)

        assert after("onnxruntime") == "QuantizeLinear"
        assert after("openvino") == "Relu"

    @pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
    def test_attention_layernorm_softmax_and_residual_sums_stay_float(self, target: str) -> None:
        graph = emitted(CPU, target)
        for name in ("scores", "mixed", "residual1", "residual2", "node_normed", "node_normed2"):
            assert not any(graph.integers(name)), name

    def test_gelu_between_integer_layers_becomes_integer_for_onnx_runtime_only(self) -> None:
        kinds = {target: Counter(node.op_type for node in emitted(CPU, target).index.nodes) for target in CPU.targets}
        assert kinds["onnxruntime"]["Gelu"] == 0
        assert kinds["onnxruntime"]["QLinearSigmoid"] == 1
        assert kinds["openvino"]["Gelu"] == 1


class TestOverrides:
    """What a recipe says about single layers."""

    def test_a_glob_keeps_layers_float_in_every_emission(self) -> None:
        rule = (LayerOverride("backbone.blocks.*.mlp.*", precision="float"),)
        for recipe, target in ((CPU, "onnxruntime"), (CPU, "openvino"), (TENSORRT, "tensorrt")):
            graph = emitted(dataclasses.replace(recipe, layers=rule), target)
            assert not any(graph.integers("node_expanded")), target
            assert graph.integers("node_stem")[:2] == [True, True], target

    def test_the_last_override_that_speaks_wins(self) -> None:
        rules = (
            LayerOverride("*", precision="float"),
            LayerOverride("backbone.blocks.0.0.mlp.shrink", precision="int8"),
            LayerOverride("*.shrink", method="minmax"),
        )
        graph = emitted(dataclasses.replace(TENSORRT, layers=rules), "tensorrt")
        assert facts(graph.bytes).integer_layers == 1
        assert graph.integers("node_shrunk")[:2] == [True, True]

    def test_a_layer_of_the_float_tail_can_be_brought_back(self) -> None:
        rule = (LayerOverride("*.output", precision="int8"),)
        graph = emitted(dataclasses.replace(TENSORRT, layers=rule), "tensorrt")
        assert graph.integers("node_normals_quarter")[:2] == [True, True]

    def test_a_layer_can_have_its_own_range_method(self) -> None:
        rule = (LayerOverride("*.shrink", method="minmax"), LayerOverride("*.refine", percentile=95.0))
        model, observed = block()
        changed = choose_ranges(model, observed, recipe=dataclasses.replace(TENSORRT, layers=rule)).ranges
        plain = choose_ranges(model, observed, recipe=TENSORRT).ranges
        assert changed["gelu"].reach > plain["gelu"].reach
        assert changed["features"].reach < plain["features"].reach
        assert changed["normed"] == plain["normed"]


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """The quantized files of rooms-b0, from two of its frames."""
    bundle = Bundle.open(ROOMS_B0)
    frames = load_calibration(bundle, count=2, unreadable_share=0.0).frames
    return quantize(bundle.read(OPTIMIZED_ONNX), frames, threads=1)


class TestNetworkOfRoomsB0:
    """The network that comes with the package."""

    def test_both_files_of_a_bundle_come_from_one_pass(self, models: dict[str, bytes]) -> None:
        assert set(models) == {TENSORRT_MODEL, CPU_MODEL}
        signed, unsigned = (facts(models[name]) for name in (TENSORRT_MODEL, CPU_MODEL))
        layers = _products(Bundle.open(ROOMS_B0).read(OPTIMIZED_ONNX))
        assert signed.integer_layers >= layers - 4
        assert unsigned.integer_layers == layers - 3, "one float layer at the end of each head"

    def test_onnx_runtime_really_runs_integer_kernels(self, models: dict[str, bytes], tmp_path: Path) -> None:
        kinds = _optimised(models[CPU_MODEL], tmp_path / "optimised.onnx")
        assert kinds["QLinearConv"] + kinds["QGemm"] == _products(Bundle.open(ROOMS_B0).read(OPTIMIZED_ONNX)) - 3
        assert min(kinds["QLinearConv"], kinds["QGemm"]) >= 30
        assert kinds["Conv"] + kinds["FusedConv"] <= 3, "one float layer at the end of each head"
        assert kinds["QLinearSoftmax"] == kinds["QLinearMatMul"] == 0
        assert kinds["Softmax"] == 8

    def test_the_count_notices_a_graph_without_quantized_outputs(self, models: dict[str, bytes], tmp_path: Path) -> None:
        kinds = _optimised(models[TENSORRT_MODEL], tmp_path / "optimised.onnx")
        assert kinds["QLinearConv"] < 20


def _products(model: bytes) -> int:
    """Convolutions and matrix products with weights."""
    return sum(node.op_type in ("Conv", "Gemm") for node in onnx.load_from_string(model).graph.node)


def _optimised(model: bytes, path: Path) -> Counter[str]:
    """What ONNX Runtime makes of a graph for the CPU."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(path).graph.node)
