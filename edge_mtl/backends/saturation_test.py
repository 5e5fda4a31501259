"""One layer of the largest sums of byte products there are, tried in a runtime: does it have the room for them here?

Knows nothing about bundles or images, and needs no OpenCV: for `edge-mtl doctor`.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from edge_mtl.backends import open_unguarded
from edge_mtl.onnx_graph.model import import_onnx

__all__ = ["adds_exactly", "hardest_layer"]

_CHANNELS, _SIDE = 32, 8
_BRIGHTEST = 255


def adds_exactly(runtime: str, *, weight: int = 127) -> bool:
    """Whether `runtime` adds byte products rightly on this processor, tried with the largest activations and one weight.

    Args:
        weight: the value of every weight, 1 to 127: 127 needs 8 bits, 63 fits into 7.
    Raises:
        BackendUnavailable: the runtime or the package onnx is missing.
        BundleError, InferenceError: it does not run the layer.
    """
    with closing(open_unguarded(runtime, hardest_layer(weight), threads=1)) as opened:
        found = opened.run({"x": np.full((1, _CHANNELS, _SIDE, _SIDE), _BRIGHTEST, np.float32)})["y"]
    expected = _BRIGHTEST * weight * _CHANNELS
    return bool((np.abs(found - expected) <= 1e-4 * expected).all())


def hardest_layer(weight: int) -> bytes:
    """An ONNX model: a 1x1 convolution of float32 (1, 32, 8, 8) "x" to (1, 4, 8, 8) "y", quantized, every weight `weight`.

    With inputs of 255 it gives 255 x 32 x `weight`, if sums have the room. Raises BackendUnavailable without the package onnx.
    """
    onnx = import_onnx()
    from onnx import TensorProto, helper, numpy_helper

    constants = {
        "scale": np.float32(1.0),
        "zero_point": np.uint8(0),
        "weights": np.full((4, _CHANNELS, 1, 1), weight, np.int8),
        "weight_scales": np.ones(4, np.float32),
        "weight_zero_points": np.zeros(4, np.int8),
        "result_scale": np.float32(weight * _CHANNELS),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero_point"], ["bytes"]),
        helper.make_node("DequantizeLinear", ["bytes", "scale", "zero_point"], ["floats"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_scales", "weight_zero_points"], ["kernel"], axis=0),
        helper.make_node("Conv", ["floats", "kernel"], ["sums"], kernel_shape=[1, 1]),
        helper.make_node("QuantizeLinear", ["sums", "result_scale", "zero_point"], ["result"]),
        helper.make_node("DequantizeLinear", ["result", "result_scale", "zero_point"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "hardest_layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, _CHANNELS, _SIDE, _SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, _SIDE, _SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
