"""Whether a runtime computes with integers as they are meant: a layer of the hardest sums, and an INT8 graph as it runs here
against its exact arithmetic.

Exact is the graph as it is written, Q and DQ nodes and floats between them, in ONNX Runtime without its optimisations. A
runtime that is right differs from that by rounding; sums that saturate, which no runtime reports, carry it away from FP32.
So what is compared is how far both are from the FP32 reference of the golden frames.
"""

from __future__ import annotations

from contextlib import closing

import numpy as np

from edge_mtl.backends import Backend, available, open_backend
from edge_mtl.build.graphs import import_onnx
from edge_mtl.build.selftest import Tolerance, golden_agreement
from edge_mtl.bundle import Bundle
from edge_mtl.errors import AccuracyError
from edge_mtl.metrics import Agreement

__all__ = ["ROUNDING", "adds_exactly", "excess", "hardest_layer", "require_exact"]

_CHANNELS, _SIDE = 32, 8
_BRIGHTEST = 255

ROUNDING = Tolerance(0.005, 0.005, 0.5)
"""How much further from FP32 than its exact arithmetic an INT8 graph may be as it runs, in the mean of the golden frames; the
first of the three is a share of classes. Measured with rooms-b0 on Zen 3: graphs with weights of 7 bits, or of 8 multiplied in
16 bits, are at most 0.02 points, 0.02 % and 0.03 degrees further away in either runtime; saturating ones 1.9 points, 1.9 % and
2.8 degrees or more."""


def require_exact(backend: Backend, model: bytes, bundle: Bundle, *, threads: int | None = None) -> None:
    """Compare `backend`, which has opened `model`, with the exact arithmetic of that graph; without ONNX Runtime do nothing.

    Raises:
        AccuracyError: it is further from FP32 than rounding explains.
        BundleError, InferenceError: as the self-test says.
    """
    if not available()["onnxruntime"].usable:
        return
    from edge_mtl.backends.onnxruntime import OnnxRuntimeBackend

    with closing(OnnxRuntimeBackend(model, threads=threads, precision="int8", optimize=False)) as exact:
        meant = golden_agreement(exact, bundle)
    if found := excess(golden_agreement(backend, bundle), meant):
        raise AccuracyError(
            f"{backend.info.name} {backend.info.version} does not compute this INT8 graph as it is written: "
            f"{'; '.join(found)}. Sums of byte products saturate on processors without VNNI: take weights of 7 bits "
            '(weights.reduce_range = "auto" or "always" in the recipe), or another runtime.'
        )


def adds_exactly(runtime: str, *, weight: int = 127) -> bool:
    """Whether `runtime` adds byte products rightly on this processor, tried with the largest activations and one weight.

    Args:
        weight: the value of every weight, 1 to 127: 127 needs 8 bits, 63 fits into 7.
    Raises:
        BackendUnavailable: the runtime or the package onnx is missing.
        BundleError, InferenceError: it does not run the layer.
    """
    with closing(open_backend(runtime, hardest_layer(weight), threads=1, precision="int8")) as opened:
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


def excess(found: Agreement, meant: Agreement) -> list[str]:
    """Where `found`, an agreement with FP32, is worse than `meant` by more than rounding explains; a sentence by head."""
    same, depth, angle = (
        (getattr(found, name), getattr(meant, name))
        for name in ("argmax_agreement", "depth_relative_difference", "normal_angle_deg")
    )
    said = []
    if None not in same and not same[0] >= same[1] - ROUNDING.argmax_agreement:
        said.append(f"{same[0]:.1%} of the classes agree with FP32, {same[1]:.1%} in exact arithmetic")
    if None not in depth and not depth[0] <= depth[1] + ROUNDING.depth_relative_difference:
        said.append(f"depth differs by {depth[0]:.1%}, by {depth[1]:.1%} in exact arithmetic")
    if None not in angle and not angle[0] <= angle[1] + ROUNDING.normal_angle_deg:
        said.append(f"normals differ by {angle[0]:.1f} degrees, by {angle[1]:.1f} in exact arithmetic")
    return said
