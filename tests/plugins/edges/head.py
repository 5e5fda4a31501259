"""The kind "edges" in training: binary cross-entropy."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from mtl.datasets.augment import Sampling
from mtl.geometry import Intrinsics
from mtl.settings import LossSettings
from mtl.tasks import Column, DenseHead, HeadOptions, LossTerms
from mtl.tasks.head import masked_mean
from torch import Tensor, nn
from torch.nn import functional as F

from .kind import UNKNOWN, EdgeMap, EdgesSpec

__all__ = ["HEAD", "EdgesHead"]

Array = np.ndarray


class EdgesHead(DenseHead[EdgesSpec, EdgeMap]):
    """See the module. A truth is (H, W) uint8: 1 edge, 0 none, 255 unknown; an answer is logits (B, 1, h, w)."""

    kind = "edges"
    columns: ClassVar[tuple[Column, ...]] = (Column("edge_f", "edge F", 4, score=1.0, curve=True, words="F-measure"),)
    unknown = UNKNOWN

    def channels(self, spec: EdgesSpec) -> int:
        return 1

    def start(self, spec: EdgesSpec, layer: nn.Conv2d, options: HeadOptions) -> None:
        """Most pixels are no edge."""
        layer.bias.fill_(-2.0)

    def finished(self, full: Tensor) -> Tensor:
        return full.sigmoid()[:, 0]

    def view(self, spec: EdgesSpec, truth: Array, sampling: Sampling) -> Array:
        return sampling.nearest(truth)

    def error(self, spec: EdgesSpec, maps: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        each = F.binary_cross_entropy_with_logits(maps[:, 0], (target == 1).to(maps), reduction="none")
        return masked_mean(each, target != UNKNOWN)

    def count(self, spec: EdgesSpec, target: Tensor, terms: LossTerms) -> Tensor:
        return (target != UNKNOWN).sum(dtype=torch.float64)

    def distance(self, spec: EdgesSpec, found: Tensor, wanted: Tensor, settings: LossSettings) -> Tensor:
        return F.binary_cross_entropy_with_logits(found, wanted.sigmoid())

    def full_result(self, spec: EdgesSpec, full: Tensor, *, seen_by: Intrinsics, camera: Intrinsics) -> EdgeMap:
        return EdgeMap(spec, full.sigmoid()[0].numpy())

    def as_truth(self, result: EdgeMap) -> Array:
        return (result.probability >= result.spec.threshold).astype(np.uint8)

    def paint(self, spec: EdgesSpec, image: Array, truth: Any) -> Array:
        return np.repeat(np.where(truth == 1, 255, 0).astype(np.uint8)[..., None], 3, axis=-1)


HEAD = EdgesHead()
