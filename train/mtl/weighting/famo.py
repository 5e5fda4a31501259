"""FAMO: every loss falls at the same relative rate, from loss values alone (Liu et al. 2023, arXiv:2306.03792)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.settings import LossSettings
from mtl.weighting.base import LossWeighting, spread_over_tasks
from mtl.weighting.ranks import mean_over_ranks

__all__ = ["Famo"]

_SMALLEST = 1e-8
_BETAS = (0.9, 0.999)


class Famo(LossWeighting):
    """Task i weighs c z_i / L_i with z = softmax(logits) and c = 1 / sum(z_j / L_j) (the paper's algorithm 2).

    After each step the losses of the same batch are measured again, and Adam moves the logits along the gradient of
    z . (ln L_before - ln L_after): a task that fell less than the others weighs more. A task whose loss is 0 (a batch
    without any truth of it) is left out of that batch: z is over the others, and its logit and moments stay.

    Attributes:
        logits: (tasks,) from 0; `first`, `second`: their moments in Adam after `steps` (tasks,) steps.
        before: (tasks,) losses that `backward` saw last; 0 until then.
    """

    needs_losses_after_step = True
    logits: Tensor
    first: Tensor
    second: Tensor
    before: Tensor
    steps: Tensor

    def __init__(
        self, settings: LossSettings, *, tasks: Sequence[str], rate: float = 0.025, weight_decay: float = 1e-3
    ) -> None:
        super().__init__(settings, tasks=tasks)
        self._rate, self._weight_decay = rate, weight_decay
        for name in ("logits", "first", "second", "before"):
            self.register_buffer(name, torch.zeros(len(self.tasks), dtype=torch.float64))
        self.register_buffer("steps", torch.zeros(len(self.tasks), dtype=torch.int64))

    def weights(self, values: Tensor) -> Tensor:
        mean = mean_over_ranks(values).to(self.logits)
        self.before.copy_(mean)
        counts = mean > _SMALLEST
        share = torch.softmax(self.logits, dim=0) * counts
        relative = share / mean.clamp_min(_SMALLEST)
        return relative / relative.sum().clamp_min(_SMALLEST)

    def after_step(self, losses: Mapping[str, float], epoch_ended: bool) -> None:
        found = self.logits.new_tensor([losses.get(task, 0.0) for task in self.tasks]) * self.scale.to(self.logits)
        after = mean_over_ranks(found)
        usable = (self.before > _SMALLEST) & (after > _SMALLEST) & torch.isfinite(self.before) & torch.isfinite(after)
        if not bool(usable.any()):
            return
        fall = torch.where(usable, (self.before.clamp_min(_SMALLEST) / after.clamp_min(_SMALLEST)).log(), 0.0)
        share = torch.softmax(self.logits.masked_fill(~usable, -torch.inf), dim=0)
        self._adam(share * (fall - (share * fall).sum()), usable)

    def _adam(self, gradient: Tensor, used: Tensor) -> None:
        """One step of Adam with L2 decay (Kingma & Ba 2015, arXiv:1412.6980) for the tasks `used`.

        All that it knows is in buffers that a checkpoint keeps.
        """
        gradient = gradient + self._weight_decay * self.logits
        self.steps += used
        self.first.copy_(torch.where(used, self.first.lerp(gradient, 1.0 - _BETAS[0]), self.first))
        self.second.copy_(torch.where(used, self.second.lerp(gradient * gradient, 1.0 - _BETAS[1]), self.second))
        first = self.first / self._warmed(_BETAS[0])
        second = self.second / self._warmed(_BETAS[1])
        self.logits -= torch.where(used, self._rate * first / (second.sqrt() + _SMALLEST), 0.0)

    def _warmed(self, beta: float) -> Tensor:
        """(tasks,) 1 - beta^steps, what moments from 0 are too small by."""
        return self.logits.new_tensor([1.0 - beta ** max(1, step) for step in self.steps.tolist()])

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        spread_over_tasks(state_dict, f"{prefix}steps", len(self.tasks))
        super()._load_from_state_dict(state_dict, prefix, *arguments)
