"""Weights and biases of one layer as integers: rounding, scales by output channel, bias correction. Knows no graphs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_mtl.build.quantization.bias import corrected_bias

__all__ = ["SMALLEST_SCALE", "LayerArrays", "QuantizedLayer", "quantize_layer"]

Array = np.ndarray

_BIAS_LIMIT = 2.0**30
"""Integer biases stay below this, or they would overflow 32 bits with the sums they start."""

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class LayerArrays:
    """A layer in floats.

    Attributes:
        kind: "Conv", "Gemm" or "MatMul".
        weights: float32.
        axis: of `weights` that counts outputs.
        bias: (O,) float32, or None.
        means: (I,) mean of the input by channel, or None where biases are not to be corrected.
    """

    kind: str
    weights: Array
    axis: int
    bias: Array | None
    means: Array | None


@dataclass(frozen=True, slots=True)
class QuantizedLayer:
    """A layer in integers: int8 weights, float32 scales by output channel, and the bias, still float32."""

    integers: Array
    scales: Array
    bias: Array | None


def quantize_layer(layer: LayerArrays, *, levels: int, input_scale: float, integer_bias: bool) -> QuantizedLayer:
    """Round to the nearest of 2 `levels` + 1 values per output channel.

    Args:
        input_scale: of the layer's input; with `integer_bias` scales grow until the bias fits 32 bits.
    """
    weights, axis = layer.weights, layer.axis
    others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
    scales = np.abs(weights).max(axis=others) / levels
    if layer.bias is not None and integer_bias:
        scales = np.maximum(scales, np.abs(layer.bias) / (np.float32(input_scale) * _BIAS_LIMIT))
    scales = np.where(scales > SMALLEST_SCALE, scales, 1.0).astype(np.float32)
    spread = scales.reshape([-1 if dimension == axis else 1 for dimension in range(weights.ndim)])
    integers = np.clip(np.round(weights / spread), -levels, levels).astype(np.int8)
    bias = layer.bias
    if layer.means is not None and layer.kind != "MatMul":
        error = integers.astype(np.float32) * spread - weights
        bias = corrected_bias(bias, error, layer.means, kind=layer.kind, axis=axis)
    return QuantizedLayer(integers, scales, bias)
