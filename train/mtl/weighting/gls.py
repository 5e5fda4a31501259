"""Geometric loss strategy: the geometric mean of the losses (Chennupati et al. 2019, arXiv:1904.08492)."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.weighting.base import LossWeighting
from mtl.weighting.ranks import mean_over_ranks

__all__ = ["GeometricMean"]

_SMALLEST = 1e-8


class GeometricMean(LossWeighting):
    """Minimises G = (L_1 ... L_K)^(1/K), whose gradient weighs task i by G / (K L_i): the scale of a loss does not matter.

    A task whose loss is 0 (a batch without any truth of it) is left out of the mean of that batch. The reported sum of
    the weighted losses is G.
    """

    def weights(self, values: Tensor) -> Tensor:
        mean = mean_over_ranks(values).double()
        counts = mean > _SMALLEST
        if not bool(counts.any()):
            return torch.zeros_like(values)
        safe = mean.clamp_min(_SMALLEST)
        geometric = (safe.log() * counts).sum().div(counts.sum()).exp()
        return torch.where(counts, geometric / (counts.sum() * safe), torch.zeros_like(safe))
