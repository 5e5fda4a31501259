"""The kind "depth" in training: metres along z, learnt as their logarithm or as they are."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from edge_mtl.tasks import DepthMap
from edge_mtl.tasks.depth import DepthSpec
from mtl.geometry import Intrinsics, depth_for_camera
from mtl.tasks.head import Column, DenseHead, HeadOptions, LossTerms, masked_mean

if TYPE_CHECKING:
    from mtl.datasets.augment import Sampling
    from mtl.settings import DataSettings, LossSettings, ModelSettings

__all__ = ["DEPTH_RANGE_M", "DepthHead", "depth_from_log", "depth_loss"]

Array = np.ndarray

DEPTH_RANGE_M: tuple[float, float] = (0.05, 80.0)
"""Canonical depths that the head can express, in metres; of a task that reaches beyond 40 m twice as far as that."""

_START_M, _START_SHARE = 2.5, 0.25
_EPSILON = 1e-6
_PAINTED_M, _PAINTED_SHARE = 8.0, 0.8
_PAINTED_TIMES = 50.0
"""How many times nearer than the farthest colour the nearest one of a logarithmic scale is."""


class DepthHead(DenseHead[DepthSpec, DepthMap]):
    """See the module. A truth is (H, W) float32 metres, 0 unknown; an answer is canonical metres (B, 1, h, w).

    The truth of a data set whose depth was stored in steps is (H, W, 2): the metres, and half a step there (`within`).
    """

    kind = "depth"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("depth_abs_m", "abs", 4, words="mean absolute error"),
        Column("depth_rel", "rel", 4, score=-1.0, curve=True),
    )

    def channels(self, spec: DepthSpec) -> int:
        return 1

    def joined(self, spec: DepthSpec, other: DepthSpec) -> DepthSpec:
        """Metres are metres; the range is that of both."""
        nearest, farthest = zip(spec.range_m, other.range_m, strict=True)
        return replace(spec, range_m=(min(nearest), max(farthest)))

    def start(self, spec: DepthSpec, layer: nn.Conv2d, options: HeadOptions) -> None:
        """2.5 m, or a quarter of the range of a task that reaches beyond 10 m."""
        assert layer.bias is not None
        start_m = max(_START_M, _START_SHARE * spec.range_m[1])
        layer.bias.fill_(math.log(start_m) if options.depth_output == "log" else start_m)

    def answer(self, spec: DepthSpec, raw: Tensor, options: HeadOptions, *, clamp: bool) -> Tensor:
        """Metres within `DEPTH_RANGE_M`, from their logarithm; "linear" ones are kept there only where `clamp`."""
        found, (low, high) = raw.float(), DEPTH_RANGE_M
        high = max(high, 2.0 * spec.range_m[1])
        if options.depth_output == "log":
            return depth_from_log(found, (low, high))
        return found.clamp(low, high) if clamp else found

    def finished(self, full: Tensor) -> Tensor:
        return full[:, 0]

    def view(self, spec: DepthSpec, truth: Array, sampling: Sampling) -> Array:
        """The nearest pixel; a zoom leaves depth as it is, but for LibMTL's, which divides it. So of half a step."""
        depth = sampling.nearest(truth).astype(np.float32)
        if sampling.view.libmtl_zoom:
            depth = depth / np.float32(sampling.view.libmtl_zoom)
        if sampling.seen_by == sampling.wanted:
            return depth
        return depth_for_camera(depth, seen_by=sampling.seen_by, wanted=sampling.wanted)

    def within(self, spec: DepthSpec, truth: Array, settings: DataSettings) -> Array:
        step_m = settings.depth_step_m
        return np.stack([truth, np.full_like(truth, step_m / 2)], axis=-1) if step_m > 0 else truth

    def error(self, spec: DepthSpec, maps: Tensor, target: Tensor, terms: LossTerms) -> Tensor:
        return depth_loss(maps, target, kind=terms.settings.depth_kind)

    def count(self, spec: DepthSpec, target: Tensor, terms: LossTerms) -> Tensor:
        depth = target if target.ndim == 3 else target[..., 0]
        return (depth > 0).sum(dtype=torch.float64)

    def distance(self, spec: DepthSpec, found: Tensor, wanted: Tensor, settings: LossSettings) -> Tensor:
        return depth_loss(found, wanted[:, 0], kind=settings.depth_kind)

    def problem(self, spec: DepthSpec, model: ModelSettings, losses: LossSettings) -> str | None:
        if model.depth_output == "linear" and losses.depth_kind == "log_l1":
            return 'model.depth_output "linear" may be below 0: losses.depth_kind should be "l1" or "relative_l1"'
        return None

    def full_result(self, spec: DepthSpec, full: Tensor, *, seen_by: Intrinsics, camera: Intrinsics) -> DepthMap:
        return DepthMap(spec, depth_for_camera(full[0].numpy(), seen_by=seen_by, wanted=camera))

    def as_truth(self, result: DepthMap) -> Array:
        return result.depth_m

    def paint(self, spec: DepthSpec, image: Array, truth: Array) -> Array:
        """Red is near, blue is 8 m and farther; of a task that reaches beyond 10 m four fifths of its range, and where it
        reaches farther than rooms do colours follow the logarithm."""
        far = max(_PAINTED_M, _PAINTED_SHARE * spec.range_m[1])
        share = np.clip(truth / far, 0.0, 1.0)
        if spec.outdoors:
            share = np.clip(1.0 + np.log(np.maximum(share, _EPSILON)) / math.log(_PAINTED_TIMES), 0.0, 1.0)
        near = 1.0 - share
        colours = cv2.applyColorMap((near * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
        return np.where((truth > 0)[..., None], colours, np.uint8(0))


def depth_from_log(log_depth: Tensor, range_m: tuple[float, float] = DEPTH_RANGE_M) -> Tensor:
    """exp of the log-depth, in metres within `range_m`.

    Errors of log-depth are relative errors of depth at any distance, and so is the step of an integer log-depth: eight
    bits over 0.5 to 10 m are steps of 1.2 %, while eight bits of linear depth are steps of 8 % at 0.5 m.
    """
    low, high = range_m
    return torch.exp(log_depth.clamp(math.log(low), math.log(high)))


def depth_loss(predicted: Tensor, target: Tensor, *, kind: str) -> Tensor:
    """Mean error over pixels with depth (target > 0); (B, 1, H, W) and (B, H, W) in metres. See LossSettings.depth_kind.

    A target (B, H, W, 2) has how far from it every value is as good in its second channel: of these the nearest one counts.
    """
    guess = predicted[:, 0]
    if target.ndim == 4:
        target, around = target.unbind(dim=-1)
        nearest = torch.clamp(guess.detach().float(), target - around, target + around)
        target = torch.where(target > 0, nearest.clamp_min(_EPSILON), target)
    valid = target > 0
    truth = torch.where(valid, target, torch.ones_like(target))
    if kind == "log_l1":
        error = (torch.log(guess.clamp_min(_EPSILON)) - torch.log(truth)).abs()
    elif kind == "relative_l1":
        error = (guess - truth).abs() / truth
    else:
        error = (guess - truth).abs()
    return masked_mean(error, valid)
