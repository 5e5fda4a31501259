"""The loss of fine-tuning for integers: how far the rounded network is from the one that it began with.

Labels alone pull on weights that had come to rest: within a few dozen steps the network without its rounding is worse than
before, and the rounded one follows it. The network of before, without rounding, is the better teacher: its answers are there
for every pixel, have no noise, and are what the accuracy check compares with. Distances are those of `mtl.distill.answers`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from edge_mtl.tasks import Specs
from mtl.distill.answers import distances
from mtl.losses import MultiTaskLoss
from mtl.settings import LossSettings

__all__ = ["TAUGHT", "TaughtLoss"]

TAUGHT = "taught:"
"""Before the name of a task among a network's maps: the answer of the teacher."""


class TaughtLoss(MultiTaskLoss):
    """Distance from the teacher's maps, and from the labels as far as these are wanted.

    Args:
        share: of the teacher in the loss, 0..1; the labels have the rest. A network without a teacher learns from labels.
    """

    def __init__(
        self,
        settings: LossSettings,
        specs: Specs,
        *,
        stride: int,
        share: float,
        balance: Mapping[str, Tensor] | None = None,
    ) -> None:
        super().__init__(settings, specs, stride=stride, balance=balance)
        self.share = share

    def forward(
        self, answers: Mapping[str, Any], targets: Mapping[str, Any], phase: tuple[int, int] | None
    ) -> dict[str, Tensor]:
        """As `MultiTaskLoss.forward`; `answers` may hold the teacher's maps beside the network's own."""
        if any(TAUGHT + task not in answers for task in self.tasks):
            return super().forward(answers, targets, phase)
        taught = distances(self.specs, answers, {task: answers[TAUGHT + task] for task in self.tasks}, self.settings)
        if self.share >= 1.0:
            return taught
        labelled = super().forward(answers, targets, phase)
        return {task: self.share * taught[task] + (1.0 - self.share) * labelled[task] for task in labelled}
