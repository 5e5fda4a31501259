"""The kind "normals" in training: vectors of any length whose direction is learnt."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.tasks import NormalMap, TaskSpec
from mtl.geometry import Intrinsics, normals_for_camera
from mtl.tasks.head import Column, DenseHead, HeadOptions, LossTerms, masked_mean

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling
    from mtl.settings import LossSettings

__all__ = ["NormalsHead", "normals_loss"]

Array = np.ndarray

_EPSILON = 1e-6
_SHORTEST_SQUARE = 0.25
"""Of a true normal that an augmentation has interpolated and that still counts."""


class NormalsHead(DenseHead[TaskSpec, NormalMap]):
    """See the module. A truth is (H, W, 3) float32 unit, 0 unknown; an answer is (B, 3, h, w) of any length."""

    kind = "normals"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("normal_mean_deg", "n. mean", 2, curve=True, words="mean angle"),
        Column("normal_median_deg", "median", 2),
        Column("normal_within_11_25", "<11.25", 4),
        Column("normal_within_22_5", "<22.5", 4, score=1.0),
        Column("normal_within_30", "<30", 4),
    )

    def channels(self, spec: TaskSpec) -> int:
        return 3

    def start(self, spec: TaskSpec, layer: nn.Conv2d, options: HeadOptions) -> None:
        """Facing the camera."""
        assert layer.bias is not None
        layer.bias[2] = -1.0

    def finished(self, full: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(full, dim=1, keepdim=True)
        return (full / length.clamp(min=_EPSILON)).permute(0, 2, 3, 1)

    def view(self, spec: TaskSpec, truth: Array, sampling: Sampling) -> Array:
        """The nearest pixel, turned by a mirror and by another camera; LibMTL's are interpolated, and left short."""
        normals = sampling.smooth(truth).astype(np.float32)
        if sampling.view.mirrored:
            normals[..., 0] *= -1
        if sampling.seen_by == sampling.wanted:
            return normals
        return normals_for_camera(normals, seen_by=sampling.seen_by, wanted=sampling.wanted)

    def error(self, spec: TaskSpec, maps: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        return normals_loss(maps, target, kind=terms.settings.normal_kind)

    def count(self, spec: TaskSpec, target: Tensor, terms: LossTerms) -> Tensor:
        return _known(target, kind=terms.settings.normal_kind, dim=-1).sum(dtype=torch.float64)

    def distance(self, spec: TaskSpec, found: Tensor, wanted: Tensor, settings: LossSettings) -> Tensor:
        return normals_loss(found, F.normalize(wanted, dim=1).permute(0, 2, 3, 1))

    def full_result(self, spec: TaskSpec, full: Tensor, *, seen_by: Intrinsics, camera: Intrinsics) -> NormalMap:
        return NormalMap(spec, normals_for_camera(full.permute(1, 2, 0).numpy(), seen_by=seen_by, wanted=camera))

    def as_truth(self, result: NormalMap) -> Array:
        return result.normals

    def paint(self, spec: TaskSpec, image: Array, truth: Array) -> Array:
        """Red grows to the right, green upwards and blue towards the camera."""
        known = (truth * truth).sum(axis=-1, keepdims=True) > _SHORTEST_SQUARE
        facing = truth * np.array([1, -1, -1], np.float32)
        return np.where(known, ((facing + 1) * 127.5).clip(0, 255), 0).astype(np.uint8)


def normals_loss(predicted: Tensor, target: Tensor, *, kind: str = "cosine") -> Tensor:
    """Mean error over pixels with a normal; (B, 3, H, W) of any length and (B, H, W, 3), 0 unknown.

    See LossSettings.normal_kind. The two are equal where true normals have unit length; they are shorter where an
    augmentation has interpolated them.
    """
    truth = target.permute(0, 3, 1, 2)
    if kind == "dot":
        error = 1.0 - (F.normalize(predicted, dim=1, eps=_EPSILON) * truth).sum(dim=1)
    else:
        error = 1.0 - F.cosine_similarity(predicted, truth, dim=1, eps=_EPSILON)
    return masked_mean(error, _known(truth, kind=kind, dim=1))


def _known(truth: Tensor, *, kind: str, dim: int) -> Tensor:
    """Where a true normal counts; `dim` is that of x, y, z."""
    if kind == "dot":
        return (truth != 0).any(dim=dim)
    return (truth * truth).sum(dim=dim) > _SHORTEST_SQUARE
