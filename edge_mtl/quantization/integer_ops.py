"""Operators on quantized tensors that ONNX Runtime would otherwise do in floating point, or slowly. Writes nodes, decides
nothing.

GELU: x Phi(x) is written x sigmoid(1.715 x), because ONNX Runtime has a table look-up for a byte sigmoid and a byte product,
but none for GELU: dequantizing, GELU in floating point and quantizing again moves 18 bytes per value, this moves 5. The two
differ by at most 0.02, about one step of an eight-bit activation. 1.702 (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2)
is best for Phi alone; for x Phi(x) a little more is, measured in docs/decisions/0005.

Upsampling: a nearest upsampling by whole factors repeats rows and columns; ONNX Runtime's Resize of bytes in
channels-last order computes coordinates for each value, a Gather copies whole pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edge_mtl.onnx_graph.model import import_onnx

__all__ = ["CONTRIB_DOMAIN", "GELU_SLOPE", "gelu_nodes", "steep_gelu", "upsampling_nodes"]

CONTRIB_DOMAIN = "com.microsoft"

Constant = Callable[[str, Any], str]
"""Stores a value under a name in the graph and returns the name."""

GELU_SLOPE = 1.715


def gelu_nodes(
    source: str, result: str, *, source_scale: tuple[str, str, float], result_scale: tuple[str, str], constant: Constant
) -> list[Any]:
    """GELU from the quantized tensor `source` to the quantized tensor `result`.

    Args:
        source_scale: names of scale and zero point of `source`, and the scale itself.
        result_scale: names of scale and zero point of `result`.
    """
    make = import_onnx().helper.make_node
    gate = f"{result}_gate"
    gate_scale = constant(f"{gate}_scale", np.float32(1.0 / 255.0))
    gate_zero = constant(f"{gate}_zero_point", np.uint8(0))
    sloped = constant(f"{gate}_source_scale", np.float32(GELU_SLOPE * source_scale[2]))
    product = [source, *source_scale[:2], gate, gate_scale, gate_zero, *result_scale]
    sigmoid = [source, sloped, source_scale[1], gate_scale, gate_zero]
    return [
        make("QLinearSigmoid", sigmoid, [gate], name=f"{gate}_sigmoid", domain=CONTRIB_DOMAIN),
        make("QLinearMul", product, [result], name=f"{gate}_product", domain=CONTRIB_DOMAIN),
    ]


def steep_gelu(source: str, result: str, *, constant: Constant) -> list[Any]:
    """x sigmoid(`GELU_SLOPE` x) in floating point, from tensor `source` to `result`: what `gelu_nodes` computes, without
    rounding."""
    make = import_onnx().helper.make_node
    slope, sloped, gate = constant(f"{result}_slope", np.float32(GELU_SLOPE)), f"{result}_sloped", f"{result}_gate"
    return [make("Mul", [source, slope], [sloped]), make("Sigmoid", [sloped], [gate]), make("Mul", [source, gate], [result])]


def upsampling_nodes(
    source: str, result: str, *, size: tuple[int, int], factors: tuple[int, int], constant: Constant
) -> list[Any]:
    """Nearest upsampling of `source` (1, C, H, W) by whole `factors` (vertical, horizontal); `size` is its (H, W)."""
    make = import_onnx().helper.make_node
    rows, columns = (
        constant(f"{result}_{name}", np.repeat(np.arange(side, dtype=np.int64), factor))
        for name, side, factor in zip(("rows", "columns"), size, factors, strict=True)
    )
    last, wide, tall = f"{source}_for_{result}", f"{result}_wide", f"{result}_tall"
    return [
        make("Transpose", [source], [last], name=f"{result}_to_last", perm=[0, 2, 3, 1]),
        make("Gather", [last, columns], [wide], name=f"{result}_repeat_columns", axis=2),
        make("Gather", [wide, rows], [tall], name=f"{result}_repeat_rows", axis=1),
        make("Transpose", [tall], [result], name=f"{result}_to_first", perm=[0, 3, 1, 2]),
    ]
