"""TensorRT's own parser and builder accept the TensorRT emission; no GPU is needed to build."""

from __future__ import annotations

from collections import Counter

import pytest

from edge_mtl.onnx_graph.model import facts
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from tests.bundles import make_image
from tests.transformers import transformer_block

tensorrt = pytest.importorskip("tensorrt_rtx", reason='TensorRT for RTX is not installed: pip install "edge-mtl[rtx]"')


def test_rtx_parses_and_builds_the_tensorrt_emission() -> None:
    model, recipe = transformer_block(), load_recipe(TENSORRT_INT8)
    frames = [make_image(seed) for seed in range(4)]
    quantized = insert_qdq(model, calibrate(model, frames, recipe=recipe), recipe=recipe, target="tensorrt")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = tensorrt.OnnxParser(network, logger)
    assert parser.parse(quantized), [str(parser.get_error(index)) for index in range(parser.num_errors)]
    kinds = Counter(network.get_layer(index).type for index in range(network.num_layers))
    expected = facts(quantized)
    assert kinds[tensorrt.LayerType.QUANTIZE] == expected.quantize_nodes
    assert kinds[tensorrt.LayerType.DEQUANTIZE] == expected.dequantize_nodes
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    assert plan is not None
    assert bytes(plan)[:4] == b"vtrt"


def test_rtx_refuses_a_graph_that_is_none() -> None:
    logger = tensorrt.Logger(tensorrt.Logger.INTERNAL_ERROR)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(0)
    parser = tensorrt.OnnxParser(network, logger)
    assert not parser.parse(b"not onnx")
