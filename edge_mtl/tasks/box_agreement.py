"""How far two sets of boxes of one frame agree: which of them are pairs, and what is left over on either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_mtl.tasks.box_overlap import overlaps

if TYPE_CHECKING:
    from edge_mtl.tasks.boxes import Boxes

__all__ = ["box_agreement", "pairs"]

Array = np.ndarray

_LEAST_OVERLAP = 0.5
_UNDECIDED = 0.05
"""A box counts as a difference on neither side where rounding decides whether it is there: its score is so little above the
least that is answered, or it overlaps a better box of its class by so little less than would have removed it. Never more than
half of the scores and overlaps that there can be: else at a threshold of 0.95 nothing would count."""


def box_agreement(found: Boxes, reference: Boxes) -> dict[str, float]:
    """box_f1: share of boxes that both have, 0..1, 1 where neither has any; box_iou: mean overlap of these, if any.

    F1 is 2 p / (2 p + d) with p pairs and d boxes that only one of the two has. Pairs are of one class and overlap by at least
    0.5. Boxes without a partner do not count where their score is less than 0.05 above the least that is answered, or where
    they overlap a better box of their class by no more than 0.05 less than would have removed them. Where less than 0.1 of
    scores or overlaps is left, half of that stands for 0.05.
    """
    first, second = pairs(found, reference)
    alone = _alone(found, first) + _alone(reference, second)
    agreed = {"box_f1": 2.0 * len(first) / (2 * len(first) + alone) if len(first) or alone else 1.0}
    if not len(first):
        return agreed
    return agreed | {"box_iou": float(np.diag(overlaps(found.xyxy[first], reference.xyxy[second])).mean())}


def pairs(found: Boxes, reference: Boxes) -> tuple[Array, Array]:
    """Indices into both of boxes of one class that overlap by at least 0.5, each at most once, the largest overlap first."""
    shared = overlaps(found.xyxy.astype(np.float64), reference.xyxy.astype(np.float64))
    shared[found.classes[:, None] != reference.classes[None]] = 0.0
    rows, columns = np.nonzero(shared >= _LEAST_OVERLAP)
    order = np.argsort(-shared[rows, columns], kind="stable")
    first: dict[int, int] = {}
    taken: set[int] = set()
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in first and column not in taken:
            first[row] = column
            taken.add(column)
    return np.array(list(first), np.int64), np.array(list(first.values()), np.int64)


def _alone(boxes: Boxes, paired: Array) -> int:
    """Boxes without a partner that count."""
    least, most = boxes.spec.score, boxes.spec.nms_iou
    clear = boxes.scores >= least + min(_UNDECIDED, (1.0 - least) / 2)
    clear[paired] = False
    chosen = np.flatnonzero(clear)
    if not chosen.size:
        return 0
    rivals = overlaps(boxes.xyxy[chosen], boxes.xyxy) >= most - min(_UNDECIDED, most / 2)
    rivals &= boxes.classes[chosen, None] == boxes.classes[None]
    rivals &= chosen[:, None] > np.arange(len(boxes))
    return int((~rivals.any(axis=1)).sum())
