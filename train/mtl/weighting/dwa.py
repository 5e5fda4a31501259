"""Dynamic weight average: tasks whose loss falls slowly weigh more (Liu, Johns & Davison 2019, arXiv:1803.10704, eq. 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.settings import LossSettings
from mtl.weighting.base import LossWeighting, spread_over_tasks
from mtl.weighting.ranks import mean_over_ranks

__all__ = ["DynamicWeightAverage"]


class DynamicWeightAverage(LossWeighting):
    """Weights K softmax(r / T), where r is each task's mean loss in the last epoch over that in the one before.

    All 1 until two epochs have ended; a task without a positive loss in one of them counts as r = 1. Means are over the steps
    that had a loss of the task; an epoch without any leaves the task's history as it was.

    Attributes:
        history: (2, tasks) mean losses of the last epoch but one and of the last one, of those that had any.
        sums: (tasks,) losses of the present epoch; `steps` (tasks,) many.
        epochs: how many epochs have ended.
    """

    history: Tensor
    sums: Tensor
    steps: Tensor
    epochs: Tensor

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str], temperature: float = 2.0) -> None:
        super().__init__(settings, tasks=tasks)
        self._temperature = temperature
        self.register_buffer("history", torch.zeros(2, len(self.tasks), dtype=torch.float64))
        self.register_buffer("sums", torch.zeros(len(self.tasks), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(len(self.tasks), dtype=torch.int64))
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def weights(self, values: Tensor) -> Tensor:
        if int(self.epochs) < 2:
            return torch.ones_like(values)
        known = (self.history > 0).all(dim=0)
        rates = torch.where(known, self.history[1] / self.history[0].clamp_min(1e-12), torch.ones_like(self.history[0]))
        return len(self.tasks) * torch.softmax(rates / self._temperature, dim=0)

    def after_step(self, losses: Mapping[str, float], epoch_ended: bool) -> None:
        found = self.sums.new_tensor([losses.get(task, 0.0) for task in self.tasks])
        if bool(torch.isfinite(found).all()):
            self.sums += found
            self.steps += self.steps.new_tensor([task in losses for task in self.tasks])
        if epoch_ended:
            mean = mean_over_ranks(self.sums / self.steps.clamp_min(1))
            seen = self.steps > 0
            self.history.copy_(torch.where(seen, torch.stack([self.history[1], mean]), self.history))
            self.sums.zero_()
            self.steps.zero_()
            self.epochs += 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        spread_over_tasks(state_dict, f"{prefix}steps", len(self.tasks))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
