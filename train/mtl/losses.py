"""The losses of a batch by task, and how much truth each of them is the mean of. What each kind's loss is: `mtl.tasks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_mtl.tasks import Specs
from mtl.settings import LossSettings
from mtl.tasks import LossTerms, head_of

__all__ = ["MultiTaskLoss"]


class MultiTaskLoss(nn.Module):
    """All losses of a batch, by task; `mtl.weighting` makes gradients of them.

    Args:
        specs: the tasks, in the order of the losses.
        stride: of the answers, in pixels of the targets' full size.
        balance: by task, what `Head.balance` found in the training frames, where it found anything.
    """

    def __init__(
        self, settings: LossSettings, specs: Specs, *, stride: int, balance: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.specs = dict(specs)
        self.stride = stride
        self._balance = nn.Module()  # its buffers follow the loss to a device
        for task, values in (balance or {}).items():
            self._balance.register_buffer(task, values, persistent=False)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(self.specs)

    def forward(
        self, answers: Mapping[str, Any], targets: Mapping[str, Any], phase: tuple[int, int] | None
    ) -> dict[str, Tensor]:
        """The loss of each task that has a target.

        Args:
            answers: of the network, at `stride`.
            targets: as in `Batch`, at full size (`phase` None) or at one pixel per cell.
        """
        return {
            task: head_of(spec).loss(spec, answers[task], targets[task], self.terms(task, phase))
            for task, spec in self.specs.items()
            if task in targets
        }

    def counts(self, targets: Mapping[str, Any], *, device: torch.device) -> Tensor:
        """(tasks,) float64: how much has truth, as each loss counts it; 0 without a target."""
        found = [
            head_of(spec).count(spec, targets[task], self.terms(task, None))
            if task in targets
            else torch.zeros((), device=device)
            for task, spec in self.specs.items()
        ]
        return torch.stack([one.double() for one in found])

    def nothing(self, task: str, answer: Any) -> Tensor:
        """A loss of 0 that depends on the answer, for a part of a batch that has no target of a task."""
        return head_of(self.specs[task]).nothing(answer)

    def terms(self, task: str, phase: tuple[int, int] | None) -> LossTerms:
        """What the loss of a task depends on besides answer and target."""
        return LossTerms(self.settings, self.stride, phase, getattr(self._balance, task, None))
