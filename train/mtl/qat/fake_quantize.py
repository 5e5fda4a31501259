"""Rounding with a gradient: activations on a range that may be learnt, weights by output channel. Knows no graphs.

The rounding is that of the graphs which `edge_mtl.build.quantization` writes: uint8 over a range that contains 0 exactly, or
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

from edge_mtl.build.quantization.ranges import Range

__all__ = ["ActivationRange", "RangeMode", "rounded_weights"]

RangeMode = Literal["learned", "ema", "fixed"]

_UNSIGNED, _SIGNED = (0, 255), (-128, 127)
_STEPS, _SIGNED_STEPS = 255.0, 127.0
_SMALLEST = float(torch.finfo(torch.float32).tiny)
_BIAS_LIMIT = 2.0**30
_PACE = 30.0
"""A range moves by this share of itself where the optimiser moves a weight by 1: at 1e-4, by 0.3 % a step."""


class _Round(torch.autograd.Function):
    """(clip(round(x / scale) + zero) - zero) * scale."""

    @staticmethod
    def forward(context: Any, x: Tensor, scale: Tensor, zero: Tensor, least: int, most: int) -> Tensor:
        context.save_for_backward(x, scale, zero)
        context.bounds = (least, most)
        return torch.round(x / scale).add_(zero).clamp_(least, most).sub_(zero).mul_(scale)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        gradient = gradients[0]
        x, scale, zero = context.saved_tensors
        least, most = context.bounds
        steps = x / scale
        whole = torch.round(steps).add_(zero)
        below, above = whole < least, whole > most
        inside = ~(below | above)
        through = gradient * inside
        of_scale = of_zero = None
        if context.needs_input_grad[1]:
            low = (gradient * below).sum()
            high = (gradient * above).sum()
            # LSQ's factor keeps a range's gradient as long as a weight's, whatever the size of the map
            factor = 1.0 / math.sqrt(x.numel() * most)
            error = (through * (whole.sub_(zero) - steps)).sum()
            of_scale = (error + low * (least - zero) + high * (most - zero)) * factor
            of_zero = -scale * (low + high) * factor
        return through, of_scale, of_zero, None, None


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

    As `edge_mtl.build.quantization.weights.quantize_layer`: the largest weight of a channel is its last step.

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
