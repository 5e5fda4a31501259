"""Backbone, decoder and output activations as one model. Knows nothing about data, losses or files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import DEPTH
from mtl.models.aspp import AsppDecoder
from mtl.models.backbone import Backbone, Stages, check_divisible
from mtl.models.edge import EdgeDecoder
from mtl.models.sharing import TaskParts

__all__ = [
    "DEPTH_RANGE_M",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "DepthOutput",
    "MultiTaskModel",
    "Sharing",
    "finish_maps",
]

DepthOutput = Literal["log", "linear"]
Sharing = Literal["full", "partial", "separate"]

DEPTH_RANGE_M: tuple[float, float] = (0.05, 80.0)
"""Canonical depths that the depth head can express, in metres."""

IMAGENET_MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)
IMAGENET_STD: tuple[float, float, float] = (0.229, 0.224, 0.225)


class MultiTaskModel(nn.Module):
    """One image in, one map per task out.

    Attributes:
        tasks: names of the tasks, in the order of `edge_mtl.tasks.TASKS`.
        stride: pixels of the image per pixel of the output: 4 (edge) or 1 (aspp).
        sharing: "full" | "partial" | "separate": how much of the backbone all tasks share.
        depth_output: whether the depth head says "log" metres or "linear" metres.
        mean, std: of image / 255, per RGB channel: `forward` expects (image / 255 - mean) / std.
    """

    def __init__(
        self,
        backbone: Backbone | Stages,
        decoder: EdgeDecoder | AsppDecoder | TaskParts,
        *,
        tasks: Sequence[str],
        sharing: Sharing = "full",
        depth_output: DepthOutput = "log",
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.tasks = tuple(tasks)
        self.stride = decoder.stride
        self.sharing = sharing
        self.depth_output = depth_output
        self.mean = mean
        self.std = std

    def forward(self, image: Tensor, *, upsample: bool = False) -> dict[str, Tensor]:
        """Predict every task.

        Args:
            image: (B, 3, H, W) float RGB, normalised; H and W multiples of 32.
            upsample: whether to give maps of the image's size (bilinear, half-pixel centres) instead of stride `stride`.
        Returns:
            "segmentation" (B, 13, h, w) logits, "depth" (B, 1, h, w) canonical metres, "normals" (B, 3, h, w) of any
            length. Float32, also under autocast. Depth is above 0, unless it is "linear" and the model in training.
        Raises:
            BuildError: a size that is not a multiple of 32.
        """
        size = _size(image)
        maps = self._finish(self.decoder(self._read(image), size))
        return upsample_maps(maps, size) if upsample else maps

    def features(self, image: Tensor) -> tuple[Tensor, ...]:
        """The representation that all tasks share: those outputs of the shared stages that the task parts read.

        Args:
            image: (B, 3, H, W) float RGB, normalised; H and W multiples of 32.
        Returns:
            Maps (B, C_i, H / s_i, W / s_i), finest first; () where nothing is shared.
        Raises:
            BuildError: a size that is not a multiple of 32.
        """
        return () if self.sharing == "separate" else self._read(image)

    def from_features(
        self, features: Sequence[Tensor], size: tuple[int, int], *, image: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The task parts: what `forward` gives without upsampling, from what `features` gave.

        Args:
            features: of `features`.
            size: (H, W) of the image.
            image: what `features` was given; needed only where nothing is shared.
        Raises:
            BuildError: nothing is shared and there is no image.
        """
        if self.sharing == "separate":
            if image is None:
                raise BuildError('nothing is shared (sharing "separate"): from_features needs the image, or call the model')
            features = (image,)
        return self._finish(self.decoder(features, size))

    def quarter_maps(self, image: Tensor) -> dict[str, Tensor]:
        """As `forward`, at stride 4 with every decoder: what the exported graphs compute, and a host finishes."""
        return self._finish(self.decoder(self._read(image), _size(image), stride=4))

    def _read(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the decoder reads: maps of the shared stages, or the image where there are none."""
        check_divisible(image, by=32)
        maps = self.backbone(image)
        return tuple(maps[level] if level >= 0 else image for level in self.decoder.reads)

    def _finish(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return finish_maps(raw, depth_output=self.depth_output, clamp=not self.training)

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..255 -> what `forward` expects."""
        image = image / 255.0
        if any(self.mean):
            image = image - image.new_tensor(self.mean).reshape(1, 3, 1, 1)
        return image if set(self.std) == {1.0} else image / image.new_tensor(self.std).reshape(1, 3, 1, 1)


def finish_maps(raw: dict[str, Tensor], *, depth_output: DepthOutput = "log", clamp: bool = True) -> dict[str, Tensor]:
    """Raw maps of a decoder -> predictions in float32, with depth in metres.

    Args:
        raw: (B, C, h, w) per task.
        depth_output: what the depth head says.
        clamp: whether "linear" metres are kept within `DEPTH_RANGE_M`, as "log" ones always are. Not in training: where
            the clamp holds there is no gradient.
    """
    maps = {task: value.float() for task, value in raw.items()}
    if DEPTH in maps and depth_output == "log":
        maps[DEPTH] = depth_from_log(maps[DEPTH])
    elif DEPTH in maps and clamp:
        maps[DEPTH] = maps[DEPTH].clamp(*DEPTH_RANGE_M)
    return maps


def upsample_maps(maps: dict[str, Tensor], size: tuple[int, int]) -> dict[str, Tensor]:
    """Maps of (H, W) `size`, bilinear with half-pixel centres."""
    return {
        task: value if tuple(value.shape[2:]) == size else F.interpolate(value, size=size, mode="bilinear", align_corners=False)
        for task, value in maps.items()
    }


def depth_from_log(log_depth: Tensor) -> Tensor:
    """exp of the clamped log-depth, in metres.

    Errors of log-depth are relative errors of depth at any distance, and so is the step of an integer log-depth: eight
    bits over 0.5 to 10 m are steps of 1.2 %, while eight bits of linear depth are steps of 8 % at 0.5 m.
    """
    low, high = DEPTH_RANGE_M
    return torch.exp(log_depth.clamp(math.log(low), math.log(high)))


def _size(image: Tensor) -> tuple[int, int]:
    """(H, W) of a batch of images."""
    return int(image.shape[2]), int(image.shape[3])
