"""Bias correction: what rounded weights add to a layer's mean output is taken out of its bias. Knows arrays only.

With dW the error of the rounded weights, the output of a layer is off by dW x; its mean over the calibration frames is
dW E[x], known without running anything once E[x] is known by channel (Nagel et al. 2019, arXiv:1906.04721, section 4.2).
For convolutions E[x] is taken to be the same at every pixel, which the padding at the borders is not.
"""

from __future__ import annotations

import numpy as np

__all__ = ["corrected_bias", "mean_output"]

Array = np.ndarray


def mean_output(weights: Array, means: Array, *, kind: str, axis: int) -> Array:
    """(O,) float64: the mean output of a layer without bias, by output channel.

    Args:
        weights: of a Conv (O, I / groups, kH, kW), or of a product with outputs along `axis` of two.
        means: (I,) mean of the input by channel.
        kind: "Conv", "Gemm" or "MatMul".
        axis: of `weights` that counts outputs.
    Raises:
        ValueError: the shapes do not fit.
    """
    if kind == "Conv" and weights.ndim > 2:
        taps = weights.reshape(weights.shape[0], weights.shape[1], -1).sum(axis=2, dtype=np.float64)
        groups, rest = divmod(len(means), weights.shape[1])
        if rest or weights.shape[0] % groups:
            raise ValueError(f"{len(means)} input channels do not fit weights of shape {weights.shape}")
        grouped = taps.reshape(groups, -1, weights.shape[1])
        return np.asarray((grouped * means.reshape(groups, 1, -1)).sum(axis=2).ravel())
    matrix = weights if axis == 0 else weights.T
    return np.asarray(matrix.astype(np.float64) @ means)


def corrected_bias(bias: Array | None, error: Array, means: Array, *, kind: str, axis: int) -> Array:
    """(O,) float32: `bias`, or zeros, less the mean output of `error`, the rounded weights minus the true ones."""
    shift = mean_output(error, means, kind=kind, axis=axis)
    return np.asarray((0.0 if bias is None else bias) - shift, np.float32)
