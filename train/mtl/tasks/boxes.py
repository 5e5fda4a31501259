"""The kind "boxes" in training: quality focal loss of scores, generalised intersection over union of boxes.

A truth is a `BoxTruth`, after a view a `SeenBoxes`. A target is (B, cells, 5) float32 of `mtl.tasks.box_targets`. An answer
is {"scores": [(B, classes, h, w) logits by level], "boxes": [(B, 4, h, w) distances in strides by level]}.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import letterbox
from edge_mtl.tasks import Boxes, BoxesSpec, BoxTruth, Placement, kind_of
from mtl.geometry import Intrinsics
from mtl.nested import mapped, tensors
from mtl.tasks.box_losses import overlaps, quality_focal
from mtl.tasks.box_targets import IGNORED, SeenBoxes, assigned
from mtl.tasks.box_views import pasted_boxes, seen_boxes
from mtl.tasks.head import Column, Head, HeadOptions, LossTerms

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling
    from mtl.models.box_network import BoxNetwork
    from mtl.settings import ExportSettings, LossSettings

__all__ = ["BoxesHead"]

Array = np.ndarray

_BOX_SHARE = 2.0
_LEAST_WEIGHT = 0.1
"""A box counts for its overlap with the truth, and for so much at least, or bad ones would never improve."""


class BoxesHead(Head[BoxesSpec, Boxes]):
    """See the module."""

    kind = "boxes"
    sparse = True
    columns: ClassVar[tuple[Column, ...]] = (
        Column("ap", "AP", 4, score=1.0, curve=True, words="AP"),
        Column("ap50", "AP50", 4),
    )

    # ---- network

    def build(self, spec: BoxesSpec, channels: Sequence[int], strides: Sequence[int], *, width: int) -> BoxNetwork:
        from mtl.models.box_network import BoxNetwork  # mtl.models needs mtl.tasks

        return BoxNetwork(spec.name, channels, strides, levels=spec.levels, classes=len(spec.classes), width=width)

    def answer(self, spec: BoxesSpec, raw: Any, options: HeadOptions, *, clamp: bool) -> Any:
        return mapped(raw, Tensor.float)

    def exported(self, spec: BoxesSpec, answer: Any, placement: Placement) -> tuple[Tensor, ...]:
        return (*answer["scores"], *answer["boxes"])

    def imported(self, spec: BoxesSpec, outputs: Sequence[Tensor]) -> Any:
        count = len(spec.levels)
        return {"scores": list(outputs[:count]), "boxes": list(outputs[count:])}

    def difference(self, spec: BoxesSpec, before: BoxesSpec) -> str | None:
        if spec.levels != before.levels:
            here, there = (", ".join(map(str, one.levels)) for one in (spec, before))
            return f"levels of the strides {here} here, {there} there"
        return changed_classes(spec.classes, before.classes)

    def bundled(self, spec: BoxesSpec, export: ExportSettings) -> BoxesSpec:
        if spec.name not in export.boxes:
            return spec
        kind = kind_of(spec)
        given = {name: value for name, value in dataclasses.asdict(export.boxes[spec.name]).items() if value}
        found: BoxesSpec = kind.spec(spec.name, {**kind.describe(spec), **given})
        return found

    # ---- data

    def view(self, spec: BoxesSpec, truth: BoxTruth, sampling: Sampling) -> SeenBoxes:
        return seen_boxes(truth, sampling)

    def pasted(self, spec: BoxesSpec, truth: SeenBoxes | None, other: SeenBoxes | None, mask: Array) -> SeenBoxes:
        return pasted_boxes(truth, other, mask)

    def collate(self, spec: BoxesSpec, truths: Sequence[SeenBoxes | None]) -> Tensor:
        size = next(truth.size for truth in truths if truth is not None)
        return torch.from_numpy(np.stack([assigned(truth, spec.levels, size) for truth in truths]))

    # ---- loss

    def loss(self, spec: BoxesSpec, answer: Any, target: Tensor, terms: LossTerms) -> Tensor:
        """Quality focal loss over the number of cells that answer for a box + 2 x mean of 1 - GIoU, weighted by IoU."""
        logits, boxes = _cells(answer)
        classes = target[..., 0].long()
        positive = classes >= 0
        share, generalised = overlaps(boxes[positive], target[..., 1:][positive])
        share = share.detach()
        wanted = torch.zeros_like(logits)
        wanted[(*positive.nonzero(as_tuple=True), classes[positive])] = share.clamp(0, 1)
        focal = quality_focal(logits, wanted).sum(dim=-1)
        scores = torch.where(classes > IGNORED, focal, 0.0).sum() / positive.sum().clamp_min(1)
        return scores + _BOX_SHARE * _weighted(1.0 - generalised, share.clamp_min(_LEAST_WEIGHT))

    def count(self, spec: BoxesSpec, target: Tensor, terms: LossTerms) -> Tensor:
        """Cells that answer for a box; 1 where there are none among cells that something is known about."""
        known = (target[..., 0] > IGNORED).any()
        return (target[..., 0] >= 0).sum(dtype=torch.float64).clamp_min(1.0) * known

    def distance(self, spec: BoxesSpec, found: Any, wanted: Any, settings: LossSettings) -> Tensor:
        """As `loss`, with the teacher's probabilities in place of overlaps, and its boxes where it answers one."""
        logits, boxes = _cells(found)
        theirs, their_boxes = _cells(wanted)
        probabilities = theirs.sigmoid()
        best = probabilities.amax(dim=-1)
        positive = best >= spec.score
        scores = quality_focal(logits, probabilities).sum() / positive.sum().clamp_min(1)
        _, generalised = overlaps(boxes[positive], their_boxes[positive])
        return scores + _BOX_SHARE * _weighted(1.0 - generalised, best[positive])

    def nothing(self, answer: Any) -> Tensor:
        return torch.stack([one.sum() for one in tensors(answer)]).sum() * 0.0

    # ---- evaluation

    def result(self, spec: BoxesSpec, answer: Any, size: tuple[int, int], *, seen_by: Intrinsics, camera: Intrinsics) -> Boxes:
        kind = kind_of(spec)
        outputs = [one.numpy() for one in self.exported(spec, answer, "host")]
        return finished(spec, dict(zip(kind.outputs(spec, size, "host"), outputs, strict=True)), size)

    def as_truth(self, result: Boxes) -> BoxTruth:
        return BoxTruth(result.xyxy, result.classes, np.zeros(len(result), bool))

    def paint(self, spec: BoxesSpec, image: Array, truth: BoxTruth) -> Array:
        kind = kind_of(spec)
        return np.asarray(kind.draw(spec, image, kind.of_truth(spec, truth)))


def finished(spec: Any, outputs: dict[str, Array], size: tuple[int, int]) -> Any:
    """What the kind of a task makes of a graph's outputs for an image of the network's size (H, W)."""
    from edge_mtl.tasks.areas import MapArea

    area = MapArea.of(letterbox(size, size), "network", "host")
    result, _ = kind_of(spec).finish(spec, outputs, area, None, BufferPool())
    return result


def changed_classes(here: tuple[str, ...], there: tuple[str, ...]) -> str | None:
    """Why outputs for the classes `there` do not serve those `here`; None where they do."""
    if len(here) != len(there):
        return f"{len(here)} classes here, {len(there)} there"
    other = next(((a, b) for a, b in zip(here, there, strict=True) if a != b), None)
    return None if other is None else f"its classes have other names, such as {other[0]} here, {other[1]} there"


def _cells(answer: Any) -> tuple[Tensor, Tensor]:
    """Logits (B, cells, classes) and distances (B, cells, 4), cells in the order of `assigned`."""
    scores, boxes = (torch.cat([one.flatten(2) for one in answer[name]], dim=2).transpose(1, 2) for name in ("scores", "boxes"))
    return scores, boxes


def _weighted(errors: Tensor, weights: Tensor) -> Tensor:
    """Mean of (N,) errors by weights; 0 without any."""
    return (errors * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
