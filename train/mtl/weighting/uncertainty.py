"""Weights learnt with the network, from the uncertainty of each task (Kendall, Gal & Cipolla 2018, arXiv:1705.07115)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mtl.settings import LossSettings
from mtl.weighting.base import Weighting, WeightingReport
from mtl.weighting.ranks import mean_over_ranks

__all__ = ["Uncertainty"]


class Uncertainty(Weighting):
    """The sum of L exp(-s) + s with one learnt s = ln(variance) per task, from 0: twice the paper's 1/2 L exp(-s) + 1/2 s.

    Attributes:
        log_variance: (tasks,) parameter; the optimiser of the network should hold it, without weight decay.
    """

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str]) -> None:
        super().__init__(settings, tasks=tasks)
        self.log_variance = nn.Parameter(torch.zeros(len(self.tasks)))

    def backward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = (), *, share: float = 1.0) -> WeightingReport:
        values = self.scaled(losses)
        weights = self.log_variance.detach().neg().exp().to(values.device)
        total = (weights * values).sum()
        (total * share).backward()
        mean = mean_over_ranks(values.detach()).to(self.log_variance.device)
        known = mean.new_tensor([float(task in losses) for task in self.tasks])  # without truth nothing is learnt
        own = ((mean * self.log_variance.neg().exp() + self.log_variance) * known).sum()
        (own * share).backward()
        return self.report(total + (self.log_variance.detach() * known).sum().to(total.device), weights)
