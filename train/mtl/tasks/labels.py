"""The kind "labels" in training: cross-entropy over pixels with a class, any number of classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import VOID, LabelMap, LabelsSpec
from mtl.geometry import Intrinsics
from mtl.tasks.head import Column, DenseHead, LossTerms

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling
    from mtl.datasets.frame import FrameSource
    from mtl.settings import LossSettings

__all__ = ["LabelsHead", "class_weights", "labels_loss"]

Array = np.ndarray

_FRAMES = 400
_RAREST = 1e-3


class LabelsHead(DenseHead[LabelsSpec, LabelMap]):
    """See the module. A truth is (H, W) uint8, 255 void; an answer is logits (B, classes, h, w)."""

    kind = "labels"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("miou", "mIoU", 4, score=1.0, curve=True, words="mIoU"),
        Column("pixel_accuracy", "pixAcc", 4),
        Column("line_f", "line F", 4, score=1.0, curve=True, words="F-measure of lines", instead_of="miou"),
    )
    unknown = VOID

    def columns_of(self, spec: LabelsSpec) -> tuple[Column, ...]:
        """Of lines their F-measure first; other tasks have none."""
        lines = tuple(one for one in self.columns if one.measure == "line_f")
        others = tuple(one for one in self.columns if one not in lines)
        return others if spec.tolerance_px is None else (*lines, *others)

    def channels(self, spec: LabelsSpec) -> int:
        return len(spec.classes)

    def difference(self, spec: LabelsSpec, before: LabelsSpec) -> str | None:
        if len(spec.classes) != len(before.classes):
            return f"{len(spec.classes)} classes here, {len(before.classes)} there"
        other = next(((a, b) for a, b in zip(spec.classes, before.classes, strict=True) if a != b), None)
        return None if other is None else f"its classes have other names, such as {other[0]} here, {other[1]} there"

    def joined(self, spec: LabelsSpec, other: LabelsSpec) -> LabelsSpec | None:
        """Classes are the same in the same order; colours, and the tolerance of lines, may be given by one data set only."""
        if spec.tolerance_px and other.tolerance_px and spec.tolerance_px != other.tolerance_px:
            return None
        colours, tolerance_px = spec.colours or other.colours, spec.tolerance_px or other.tolerance_px
        ours, theirs = (replace(one, colours=colours, tolerance_px=tolerance_px) for one in (spec, other))
        return ours if ours == theirs else None

    def finished(self, full: Tensor) -> Tensor:
        return full.argmax(dim=1).to(torch.uint8)

    def view(self, spec: LabelsSpec, truth: Array, sampling: Sampling) -> Array:
        return sampling.nearest(truth)

    def balance(self, spec: LabelsSpec, frames: Callable[[], FrameSource], settings: LossSettings) -> Tensor | None:
        return class_weights(spec, frames()) if settings.class_weights else None

    def error(self, spec: LabelsSpec, maps: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        return labels_loss(maps, target.long(), weights=terms.balance, smoothing=terms.settings.label_smoothing)

    def count(self, spec: LabelsSpec, target: Tensor, terms: LossTerms) -> Tensor:
        weights = torch.ones(VOID + 1, device=target.device)
        if terms.balance is not None:
            weights[: len(terms.balance)] = terms.balance
        weights[VOID] = 0.0
        return weights[target.long()].sum(dtype=torch.float64)

    def distance(self, spec: LabelsSpec, found: Tensor, wanted: Tensor, settings: LossSettings) -> Tensor:
        """Kullback-Leibler divergence (Hinton et al. 2015, arXiv:1503.02531)."""
        return self.softened(spec, found, wanted, settings, temperature=1.0)

    def softened(
        self, spec: LabelsSpec, found: Tensor, wanted: Tensor, settings: LossSettings, *, temperature: float
    ) -> Tensor:
        """Times the square of the temperature, as there, so that gradients stay as large as those of labels."""
        if temperature != 1.0:
            colder = self.softened(spec, found / temperature, wanted / temperature, settings, temperature=1.0)
            return colder * temperature**2
        one, other = F.log_softmax(found, dim=1), F.log_softmax(wanted, dim=1)
        return F.kl_div(one, other, log_target=True, reduction="none").sum(dim=1).mean()

    def full_result(self, spec: LabelsSpec, full: Tensor, *, seen_by: Intrinsics, camera: Intrinsics) -> LabelMap:
        def confidence() -> Array:
            found: Array = (full.amax(dim=0) - full.logsumexp(dim=0)).exp().float().numpy()
            return found

        return LabelMap(spec, full.argmax(dim=0).to(torch.uint8).numpy(), confidence)

    def as_truth(self, result: LabelMap) -> Array:
        return result.labels

    def paint(self, spec: LabelsSpec, image: Array, truth: Array) -> Array:
        colours = np.zeros((VOID + 1, 3), np.uint8)
        colours[: len(spec.classes)] = spec.palette
        return colours[truth]


def labels_loss(logits: Tensor, label: Tensor, *, weights: Tensor | None = None, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy over pixels with a class; (B, C, H, W) logits, (B, H, W) int64 labels, 255 void."""
    if not bool((label != VOID).any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits, label, weight=weights, ignore_index=VOID, label_smoothing=smoothing)


def class_weights(spec: LabelsSpec, frames: FrameSource) -> Tensor:
    """(classes,) float32: the inverse root of each class's share of the pixels, 1 for a pixel on average.

    Every other pixel of about 400 frames is counted; a share below 0.001 counts as that.
    """
    counts = np.zeros(VOID + 1, np.int64)
    for index in range(0, len(frames), max(1, len(frames) // _FRAMES)):
        truth = frames[index].truths.get(spec.name)
        if truth is not None:
            counts += np.bincount(truth[::2, ::2].ravel(), minlength=VOID + 1)
    counts = counts[: len(spec.classes)]
    if not counts.any():
        raise BuildError(
            f"losses.class_weights: no training frame has a label of {spec.name}. Label some, or leave it out of model.tasks"
        )
    share = counts / max(1, counts.sum())
    weights = 1.0 / np.sqrt(np.maximum(share, _RAREST))
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)
