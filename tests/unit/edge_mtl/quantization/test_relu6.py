"""ReLU6 between integer layers, as inverted residuals have it: the bytes do the clipping, and nothing is left of the node."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from onnx import helper

from edge_mtl.backends import open_backend
from edge_mtl.onnx_graph.model import parse
from edge_mtl.quantization.quantize import Calibrated, calibrate, insert_qdq
from edge_mtl.quantization.ranges import Range
from edge_mtl.quantization.recipes import load_recipe
from tests.bundles import make_image
from tests.small_graphs import graph_of

FRAMES = [make_image(seed) for seed in range(4)]
RECIPE = load_recipe()


def inverted_residual(*, least: float = 0.0, most: float = 6.0) -> bytes:
    """float32 (1, 3, 64, 96) planes of 0..255 -> normals_quarter: expand, depthwise, shrink; a Clip behind the first two.

    About half of what reaches a Clip is negative, and some of it is above 6.
    """
    random = np.random.default_rng(2)
    weights = {
        "stem.w": random.normal(0, 0.06, (8, 3, 4, 4)),
        "expand.w": random.normal(0, 0.7, (24, 8, 1, 1)),
        "depthwise.w": random.normal(0, 1.0, (24, 1, 3, 3)),
        "shrink.w": random.normal(0, 0.3, (8, 24, 1, 1)),
        "out.w": random.normal(0, 0.4, (3, 8, 1, 1)),
    }
    constants = {name: value.astype(np.float32) for name, value in weights.items()}
    constants |= {"least": np.array(least, np.float32), "most": np.array(most, np.float32)}
    constants |= {"middle": np.array(127.5, np.float32)}
    node = helper.make_node
    nodes = [
        node("Sub", ["image", "middle"], ["centred"]),
        node("Conv", ["centred", "stem.w"], ["stem"], strides=[4, 4], kernel_shape=[4, 4]),
        node("Conv", ["stem", "expand.w"], ["expanded_raw"]),
        node("Clip", ["expanded_raw", "least", "most"], ["expanded"]),
        node("Conv", ["expanded", "depthwise.w"], ["spread_raw"], group=24, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Clip", ["spread_raw", "least", "most"], ["spread"]),
        node("Conv", ["spread", "shrink.w"], ["shrunk"]),
        node("Add", ["stem", "shrunk"], ["sum"]),
        node("Conv", ["sum", "out.w"], ["normals_quarter"]),
    ]
    return graph_of(nodes, constants, name="inverted_residual")


def kinds(model: bytes) -> Counter[str]:
    return Counter(node.op_type for node in parse(model, name="quantized").graph.node)


def run(model: bytes, *, backend: str = "onnxruntime", precision: str = "int8") -> np.ndarray:
    planes = np.ascontiguousarray(make_image(50).transpose(2, 0, 1)[None]).astype(np.float32)
    opened = open_backend(backend, model, threads=1, precision=precision)
    try:
        found: Mapping[str, np.ndarray] = opened.run({"image": planes})
        return found["normals_quarter"]
    finally:
        opened.close()


def quantized(model: bytes, target: str = "onnxruntime") -> tuple[Calibrated, bytes]:
    calibrated = calibrate(model, FRAMES, recipe=RECIPE)
    return calibrated, insert_qdq(model, calibrated, recipe=RECIPE, target=target)


def test_where_outputs_are_quantized_the_bytes_clip_and_the_node_is_gone() -> None:
    model = inverted_residual()
    calibrated, written = quantized(model)
    assert kinds(written)["Clip"] == 0
    assert {"expanded", "spread"} <= set(calibrated.ranges)
    assert not {"expanded_raw", "spread_raw"} & set(calibrated.ranges)
    for name in ("expanded", "spread"):
        assert calibrated.ranges[name].low == 0.0
        assert 5.0 < calibrated.ranges[name].high <= 6.0


def test_where_only_inputs_are_quantized_the_node_stays_for_the_runtime_to_fuse() -> None:
    assert kinds(quantized(inverted_residual(), "openvino")[1])["Clip"] == 2


@pytest.mark.parametrize("target", RECIPE.targets)
def test_answers_are_nearly_those_of_the_floats(target: str) -> None:
    model = inverted_residual()
    expected = run(model, precision="fp32").astype(np.float64)
    noise = run(quantized(model, target)[1], backend=target) - expected
    assert np.square(noise).sum() < 1e-3 * np.square(expected).sum()


def test_a_range_beyond_the_ceiling_keeps_the_node() -> None:
    """Learnt ranges may grow beyond six: bytes would then let through what the network cuts."""
    model = inverted_residual()
    calibrated, _ = quantized(model)
    beyond = dataclasses.replace(calibrated, ranges={**calibrated.ranges, "expanded": Range(0.0, 9.0)})
    written = insert_qdq(model, beyond, recipe=RECIPE, target="onnxruntime")
    assert kinds(written)["Clip"] == 1
    expected = run(model, precision="fp32").astype(np.float64)
    assert np.square(run(written) - expected).sum() < 2e-3 * np.square(expected).sum()


@pytest.mark.parametrize("least", [-1.0, 0.5])
def test_a_clip_that_does_not_begin_at_zero_is_no_relu(least: float) -> None:
    assert kinds(quantized(inverted_residual(least=least))[1])["Clip"] == 2
