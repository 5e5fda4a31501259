"""Rounding with a gradient: activations on a range that may be learnt, weights by output channel. Knows no graphs.

The rounding is that of the graphs which `edge_mtl.quantization` writes: uint8 over a range that contains 0 exactly, or
int8 around 0, half to even. Gradients pass rounding unchanged inside the range and not at all outside; the range's own
gradient is that of Esser et al. 2020 (LSQ, arXiv:1902.08153, equations 3 to 5), with an offset as in Bhalgat et al. 2020
(LSQ+, arXiv:2004.09576). Both ends are learnt as logarithms (Jain et al. 2019, arXiv:1903.08066): they keep their sign, and
a step of the optimiser changes any range by the same share of it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edge_mtl.quantization.ranges import Range

__all__ = ["ActivationRange", "RangeMode", "rounded_weights"]

RangeMode = Literal["learned", "ema", "fixed"]

_UNSIGNED, _SIGNED = (0, 255), (-128, 127)
_STEPS, _SIGNED_STEPS = 255.0, 127.0
_SMALLEST = float(torch.finfo(torch.float32).tiny)
_BIAS_LIMIT = 2.0**30
_PACE = 30.0
"""A range moves by this share of itself where the optimiser moves a weight by 1: at 1e-4, by 0.3 % a step."""


class _Round(torch.autograd.Function):
    """(clip(round(x / scale) + zero) - zero) * scale, in as few passes over memory as it takes: they are most of a step."""

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
        middle = float(zero)
        first, last = least - middle, most - middle
        rounded = (x / scale).round_().clamp_(first, last).mul_(scale)
        context.save_for_backward(x, rounded, scale)
        context.inside = (first - 0.5) * float(scale), (last + 0.5) * float(scale)
        context.most = most
        return rounded

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, rounded, scale = context.saved_tensors
        gradient = gradients[0]
        if gradient.stride() != x.stride():  # one copy here, or every pass below walks through memory in two orders
            gradient = torch.empty_like(x).copy_(gradient)
        through = torch.ops.aten.hardtanh_backward(gradient, x, *context.inside)  # the gradient inside the range, 0 outside
        of_scale = of_zero = None
        if context.needs_input_grad[1]:
            # LSQ's factor keeps a range's gradient as long as a weight's, whatever the size of the map
            factor = 1.0 / math.sqrt(x.numel() * context.most)
            of_scale = (_product(gradient, rounded) - _product(through, x)) / scale * factor
            of_zero = -scale * (gradient.sum() - through.sum()) * factor
        return through, of_scale, of_zero, None, None


def _product(one: Tensor, other: Tensor) -> Tensor:
    """Sum of the products of their elements."""
    return (one * other).sum()


class _Whole(torch.autograd.Function):
    """Round to whole numbers; the gradient passes as it is."""

    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class ActivationRange(nn.Module):
    """Fake quantization of one tensor.

    Args:
        start: the calibrated range.
        signed: int8 around zero (TensorRT), else uint8 over the whole range.
        mode: "learned" by gradients, "ema" follows the extremes of each batch slowly, "fixed" stays as calibrated.
        momentum: of "ema", how much of the old range a batch leaves.
    """

    def __init__(self, start: Range, *, signed: bool, mode: RangeMode = "learned", momentum: float = 0.99) -> None:
        super().__init__()
        self.signed, self.mode, self.momentum = signed, mode, momentum
        low, high = (-start.reach, start.reach) if signed else (start.low, start.high)
        self.low: Tensor
        self.high: Tensor
        self.register_buffer("low", torch.tensor(float(low)))
        self.register_buffer("high", torch.tensor(float(high)))
        learnt = mode == "learned"
        self.low_log = nn.Parameter(torch.zeros(())) if learnt and not signed and low < 0.0 else None
        self.high_log = nn.Parameter(torch.zeros(())) if learnt and high > 0.0 else None

    def forward(self, x: Tensor) -> Tensor:
        """`x`, float32 of any shape, rounded."""
        if self.mode == "ema" and self.training:
            self._follow(x.detach())
        scale, zero = self.scale()
        return _Round.apply(x, scale, zero, *(_SIGNED if self.signed else _UNSIGNED))

    def scale(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point, scalars, as the emission derives them from the range."""
        low, high = self._ends()
        if self.signed:
            scale = (high / _SIGNED_STEPS).clamp_min(_SMALLEST)
            return scale, torch.zeros_like(scale)
        scale = ((high - low) / _STEPS).clamp_min(_SMALLEST)
        return scale, _Whole.apply(-low / scale).clamp(*_UNSIGNED)

    def settled(self) -> Range:
        """The range that gives the emission this very scale and zero point."""
        with torch.no_grad():
            scale, zero = (float(value) for value in self.scale())
        if self.signed:
            return Range(-_SIGNED_STEPS * scale, _SIGNED_STEPS * scale)
        return Range(-zero * scale, (_STEPS - zero) * scale)

    def _ends(self) -> tuple[Tensor, Tensor]:
        high = self.high if self.high_log is None else self.high * torch.exp(_PACE * self.high_log)
        if self.signed:
            return -high, high
        return (self.low if self.low_log is None else self.low * torch.exp(_PACE * self.low_log)), high

    def _follow(self, x: Tensor) -> None:
        low, high = torch.aminmax(x)
        if self.signed:
            low, high = -torch.maximum(-low, high), torch.maximum(-low, high)
        self.low.lerp_(low.clamp_max(0.0).float(), 1.0 - self.momentum)
        self.high.lerp_(high.clamp_min(0.0).float(), 1.0 - self.momentum)


def rounded_weights(
    weights: Tensor, *, axis: int, levels: int, bias: Tensor | None = None, input_scale: Tensor | None = None
) -> Tensor:
    """Weights rounded to 2 `levels` + 1 values per output channel; the gradient passes as if they were not.

    As `edge_mtl.quantization.weights.quantize_layer`: the largest weight of a channel is its last step.

    Args:
        weights: float32.
        axis: of `weights` that counts outputs.
        levels: 127, or 63 where sums of byte products saturate.
        bias, input_scale: (O,) and scalar, where biases become 32-bit integers too, whose range then widens the scales.
    """
    with torch.no_grad():
        others = [dimension for dimension in range(weights.ndim) if dimension != axis]
        scales = weights.abs().amax(dim=others, keepdim=True) / levels
        if bias is not None and input_scale is not None:
            side = [-1 if dimension == axis else 1 for dimension in range(weights.ndim)]
            scales = torch.maximum(scales, bias.abs().reshape(side) / (input_scale * _BIAS_LIMIT))
        scales = torch.where(scales > _SMALLEST, scales, torch.ones_like(scales))
        error = torch.round(weights / scales).clamp_(-levels, levels).mul_(scales).sub_(weights)
    return weights + error
