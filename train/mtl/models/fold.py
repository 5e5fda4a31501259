"""Algebra on single layers: batch norm into a convolution, a linear layer as a 1x1 convolution, taps that read nothing.

Knows no model.

Everything is computed in float64 and returned as a new float32 layer; nothing given is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

__all__ = [
    "as_point_conv",
    "conv_from",
    "fold_norm",
    "linear_from",
    "norm_affine",
    "scale_input",
    "scaled_bias",
    "without_dead_taps",
]

Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def norm_affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift, float64 (C,), of a batch norm in evaluation: y = scale x + shift."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("batch norm without running statistics cannot be folded")
    scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def fold_norm(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution equal to `norm(conv(x))` in evaluation."""
    scale, shift = norm_affine(norm)
    weight = conv.weight.double() * scale[:, None, None, None]
    bias = shift if conv.bias is None else conv.bias.double() * scale + shift
    return conv_from(weight, bias, like=conv)


def as_point_conv(linear: nn.Linear) -> nn.Conv2d:
    """A 1x1 convolution with the weights of a linear layer."""
    conv = nn.Conv2d(linear.in_features, linear.out_features, 1, bias=linear.bias is not None)
    return _filled(conv, linear.weight[:, :, None, None], linear.bias)


def scale_input(conv: nn.Conv2d, scale: Sequence[float]) -> nn.Conv2d:
    """A convolution of x equal to `conv(scale x)`, with one factor per input channel."""
    factors = torch.tensor(list(scale), dtype=torch.float64)
    return conv_from(conv.weight.double() * factors[None, :, None, None], conv.bias, like=conv)


def conv_from(weight: Tensor, bias: Tensor | None, *, like: nn.Conv2d) -> nn.Conv2d:
    """A convolution with these weights (of any size) and the stride, padding and dilation of `like`."""
    outputs, inputs = weight.shape[0], weight.shape[1] * like.groups
    kernel = (weight.shape[2], weight.shape[3])
    padding = tuple(p if k > 1 else 0 for p, k in zip(like.padding, kernel, strict=True))
    conv = nn.Conv2d(inputs, outputs, kernel, like.stride, padding, like.dilation, like.groups, bias=bias is not None)
    return _filled(conv, weight, bias)


def without_dead_taps(conv: nn.Conv2d, height: int, width: int) -> nn.Conv2d:
    """`conv` cut to the taps that can read the (height, width) map; `conv` itself where none can be dropped.

    Taps are kept as a centred odd window per axis. A tap at offset d (pixels) reads only padding if |d| >= the size.
    Only for stride 1 and "same" padding.
    """
    same = all(p == d * (k // 2) for p, d, k in zip(conv.padding, conv.dilation, conv.kernel_size, strict=True))
    if conv.stride != (1, 1) or not same:
        return conv
    window = []
    for size, kernel, dilation in zip((height, width), conv.kernel_size, conv.dilation, strict=True):
        centre = kernel // 2
        reach = min(centre, (size - 1) // dilation)
        window.append(slice(centre - reach, centre + reach + 1))
    weight = conv.weight[:, :, window[0], window[1]]
    if weight.shape == conv.weight.shape:
        return conv
    cut = conv_from(weight, conv.bias, like=conv)
    cut.padding = tuple(d * (k // 2) for d, k in zip(cut.dilation, cut.kernel_size, strict=True))
    return cut


def linear_from(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer y = weight x + bias with weight (outputs, inputs)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    return _filled(linear, weight, bias)


def scaled_bias(bias: Tensor | None, scale: float) -> Tensor | None:
    """A bias times a number, float64; none stays none."""
    return None if bias is None else bias.double() * scale


def _filled(layer: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer.requires_grad_(False).eval()
