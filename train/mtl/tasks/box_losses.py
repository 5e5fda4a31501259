"""Losses of boxes: quality focal loss of scores and generalised intersection over union of distances. Knows no cells."""

from __future__ import annotations

from torch import Tensor, maximum, minimum
from torch.nn import functional as F

__all__ = ["overlaps", "quality_focal"]

_TINY = 1e-6


def quality_focal(logits: Tensor, wanted: Tensor) -> Tensor:
    """Of each score: |sigmoid - wanted|^2 times binary cross-entropy, with beta = 2.

    Source: Li et al. 2020, arXiv:2006.04388, equation 2.

    Args:
        logits, wanted: of any one shape; wanted is 0..1: how good the box there is, 0 where there is none.
    """
    away = logits.sigmoid() - wanted
    return away * away * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")


def overlaps(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of pairs of boxes, each given by its distances from a point that the pair shares.

    Source: Rezatofighi et al. 2019, arXiv:1902.09630.

    Args:
        one, other: (N, 4) left, top, right, bottom. A distance below 0 has the point outside of the box.
    Returns:
        (N,) 0..1 and (N,) -1..1.
    """
    areas = ((box[:, 0] + box[:, 2]) * (box[:, 1] + box[:, 3]) for box in (one, other))
    sides = minimum(one, other)
    both = (sides[:, 0] + sides[:, 2]).clamp_min(0) * (sides[:, 1] + sides[:, 3]).clamp_min(0)
    either = sum(areas, start=-both) + _TINY
    around = maximum(one, other)
    hull = (around[:, 0] + around[:, 2]) * (around[:, 1] + around[:, 3]) + _TINY
    share = both / either
    return share, share - (hull - either) / hull
