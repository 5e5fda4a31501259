"""The loss of fine-tuning for integers: how far the rounded network is from the one that it began with.

Labels alone pull on weights that had come to rest: within a few dozen steps the network without its rounding is worse than
before, and the rounded one follows it. The network of before, without rounding, is the better teacher: its answers are there
for every pixel, have no noise, and are what the accuracy check compares with. Distances are those of the label losses, so that
weights of tasks mean the same: cross-entropy becomes Kullback-Leibler divergence (Hinton et al. 2015, arXiv:1503.02531).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn import functional as F

from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION
from mtl.losses import MultiTaskLoss, depth_loss, normal_loss
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
        *,
        tasks: Sequence[str],
        stride: int,
        share: float,
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__(settings, tasks=tasks, stride=stride, class_weights=class_weights)
        self.share = share

    def forward(
        self, predicted: Mapping[str, Tensor], targets: Mapping[str, Tensor], phase: tuple[int, int] | None
    ) -> dict[str, Tensor]:
        """As `MultiTaskLoss.forward`; `predicted` may hold the teacher's maps beside the network's own."""
        if any(TAUGHT + task not in predicted for task in self.tasks):
            return super().forward(predicted, targets, phase)
        taught = {task: self._distance(task, predicted[task], predicted[TAUGHT + task]) for task in self.tasks}
        if self.share >= 1.0:
            return taught
        labelled = super().forward(predicted, targets, phase)
        return {task: self.share * taught[task] + (1.0 - self.share) * labelled[task] for task in self.tasks}

    def _distance(self, task: str, found: Tensor, wanted: Tensor) -> Tensor:
        if task == SEGMENTATION:
            one, other = F.log_softmax(found, dim=1), F.log_softmax(wanted, dim=1)
            return F.kl_div(one, other, log_target=True, reduction="none").sum(dim=1).mean()
        if task == DEPTH:
            return depth_loss(found, wanted[:, 0], kind=self.settings.depth_kind)
        assert task == NORMALS
        return normal_loss(found, F.normalize(wanted, dim=1).permute(0, 2, 3, 1))
