"""Weights and biases of one layer as integers: bits, rounding, scales by output channel, bias correction. Knows no graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_mtl.backends import style_of
from edge_mtl.backends.int8_saturation import products_saturate
from edge_mtl.device import DeviceFingerprint
from edge_mtl.quantization.bias import corrected_bias
from edge_mtl.quantization.recipes import ReduceRange, Target

__all__ = ["LEVELS", "SMALLEST_SCALE", "LayerArrays", "QuantizedLayer", "quantize_layer", "weight_bits"]

Array = np.ndarray

_BIAS_LIMIT = 2.0**30
"""Integer biases stay below this, or they would overflow 32 bits with the sums they start."""

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)

LEVELS: Mapping[int, int] = {7: 63, 8: 127}
"""Largest magnitude of an integer weight, by its bits."""


def weight_bits(mode: ReduceRange, target: Target, device: DeviceFingerprint) -> tuple[int, ...]:
    """How many bits the weights may have for right sums on `device`, the likely fastest last: which is best is measured.

    Args:
        mode: of the recipe (`weights.reduce_range`): "always" and "never" leave no choice.
        target: GPUs add byte products in 32 bits; of the runtimes for processors without VNNI, ONNX Runtime can multiply 8-bit
            weights in 16 bits, which takes longer, and OpenVINO cannot: `QdqStyle.byte_sums`.
    Raises:
        BuildError: an unknown target.
    """
    sums = style_of(target).byte_sums
    if mode == "always":
        return (7,)
    if mode == "never" or sums == "exact" or device.has_vnni:
        return (8,)
    return (8, 7) if sums == "slower" and products_saturate(device) else (7,)


@dataclass(frozen=True, slots=True)
class LayerArrays:
    """A layer in floating point.

    Attributes:
        kind: "Conv", "Gemm" or "MatMul".
        weights: float32.
        axis: of `weights` that counts outputs.
        bias: (O,) float32, or None.
        means: (I,) mean of the input by channel, or None where biases are not to be corrected.
        drift: (I,) by how much the input's mean is off because what makes it was approximated, or None.
    """

    kind: str
    weights: Array
    axis: int
    bias: Array | None
    means: Array | None
    drift: Array | None = None


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
    bias, rounded = layer.bias, integers.astype(np.float32) * spread
    if layer.means is not None and layer.kind != "MatMul":
        bias = corrected_bias(bias, rounded - weights, layer.means, kind=layer.kind, axis=axis)
        if layer.drift is not None:
            bias = corrected_bias(bias, rounded, layer.drift, kind=layer.kind, axis=axis)
    return QuantizedLayer(integers, scales, bias)
