"""The three losses and the pixels they are computed on. Knows nothing about data, networks or how losses are weighed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION, TASK_NAMES, VOID
from mtl.settings import LossSettings

__all__ = ["MultiTaskLoss", "at_phase", "depth_loss", "normal_loss", "segmentation_loss"]

_EPSILON = 1e-6


def at_phase(maps: Tensor, *, stride: int, phase: tuple[int, int]) -> Tensor:
    """The pixels (phase_y + stride i, phase_x + stride j) of `maps` upsampled bilinearly, without upsampling the rest.

    Equal to `F.interpolate(maps, scale_factor=stride, mode="bilinear", align_corners=False)[:, :, py::stride, px::stride]`.

    Args:
        maps: (B, C, h, w).
        phase: (py, px), each in 0..stride-1.
    Returns:
        (B, C, h, w).
    """
    for dim, offset in ((2, phase[0]), (3, phase[1])):
        shift = (offset + 0.5) / stride - 0.5
        if shift == 0:
            continue
        size = maps.shape[dim]
        kept, edge = (maps.narrow(dim, 0, size - 1), maps.narrow(dim, 0, 1)) if shift < 0 else (
            maps.narrow(dim, 1, size - 1), maps.narrow(dim, size - 1, 1))  # fmt: skip
        neighbour = torch.cat([edge, kept] if shift < 0 else [kept, edge], dim=dim)
        maps = torch.lerp(maps, neighbour, abs(shift))
    return maps


def segmentation_loss(logits: Tensor, label: Tensor, *, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over pixels with a class; (B, 13, H, W) logits, (B, H, W) int64 labels, 255 void."""
    if not bool((label != VOID).any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits, label, weight=weights, ignore_index=VOID, label_smoothing=smoothing)


def depth_loss(predicted: Tensor, target: Tensor, *, kind: str) -> Tensor:
    """Mean error over pixels with depth (target > 0); (B, 1, H, W) and (B, H, W) in metres. See LossSettings.depth_kind."""
    guess = predicted[:, 0]
    valid = target > 0
    truth = torch.where(valid, target, torch.ones_like(target))
    if kind == "log_l1":
        error = (torch.log(guess.clamp_min(_EPSILON)) - torch.log(truth)).abs()
    elif kind == "relative_l1":
        error = (guess - truth).abs() / truth
    else:
        error = (guess - truth).abs()
    return _mean(error, valid)


def normal_loss(predicted: Tensor, target: Tensor, *, kind: str = "cosine") -> Tensor:
    """Mean error over pixels with a normal; (B, 3, H, W) of any length and (B, H, W, 3), 0 unknown.

    See LossSettings.normal_kind. The two are equal where true normals have unit length; they are shorter where an
    augmentation has interpolated them.
    """
    truth = target.permute(0, 3, 1, 2)
    if kind == "dot":
        error = 1.0 - (F.normalize(predicted, dim=1, eps=_EPSILON) * truth).sum(dim=1)
        return _mean(error, (truth != 0).any(dim=1))
    valid = (truth * truth).sum(dim=1) > 0.25
    return _mean(1.0 - F.cosine_similarity(predicted, truth, dim=1, eps=_EPSILON), valid)


def _mean(error: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, error, torch.zeros_like(error)).sum() / valid.sum().clamp_min(1)


class MultiTaskLoss(nn.Module):
    """All losses of a batch, by task; `mtl.weighting` makes gradients of them.

    Args:
        class_weights: (13,) float32 for the cross-entropy, or None.
        stride: of the predictions, in pixels of the targets' full size.
    """

    def __init__(
        self, settings: LossSettings, *, tasks: Sequence[str], stride: int, class_weights: Tensor | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        self.tasks = tuple(task for task in TASK_NAMES if task in tasks)
        self.stride = stride
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self, predicted: Mapping[str, Tensor], targets: Mapping[str, Tensor], phase: tuple[int, int] | None
    ) -> dict[str, Tensor]:
        """Predictions at `stride` and targets at full size (`phase` None) or at one pixel per cell -> loss of each task."""
        maps = {task: self._aligned(predicted[task], targets, phase) for task in self.tasks}
        losses: dict[str, Tensor] = {}
        if SEGMENTATION in maps:
            losses[SEGMENTATION] = segmentation_loss(
                maps[SEGMENTATION],
                targets[SEGMENTATION].long(),
                weights=self.class_weights,
                smoothing=self.settings.label_smoothing,
            )
        if DEPTH in maps:
            losses[DEPTH] = depth_loss(maps[DEPTH], targets[DEPTH], kind=self.settings.depth_kind)
        if NORMALS in maps:
            losses[NORMALS] = normal_loss(maps[NORMALS], targets[NORMALS], kind=self.settings.normal_kind)
        return losses

    def _aligned(self, maps: Tensor, targets: Mapping[str, Tensor], phase: tuple[int, int] | None) -> Tensor:
        if phase is not None:
            return at_phase(maps, stride=self.stride, phase=phase)
        size = next(iter(targets.values())).shape[1:3]
        if tuple(maps.shape[2:]) == tuple(size):
            return maps
        return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
