"""Backbone, decoder and output activations as one model, and how to build it. Knows nothing about data, losses or files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from edge_mtl.tasks import DEPTH, NORMALS, TASKS
from mtl.model.aspp import AsppDecoder
from mtl.model.backbone import Backbone, build_backbone, check_divisible
from mtl.model.edge import EdgeDecoder

__all__ = ["DEPTH_RANGE_M", "IMAGENET_MEAN", "IMAGENET_STD", "DecoderName", "MultiTaskModel", "build_model", "finish_maps"]

DecoderName = Literal["edge", "aspp"]

DEPTH_RANGE_M: tuple[float, float] = (0.05, 80.0)
"""Canonical depths that the depth head can express, in metres."""

IMAGENET_MEAN: tuple[float, float, float] = (0.485, 0.456, 0.406)
IMAGENET_STD: tuple[float, float, float] = (0.229, 0.224, 0.225)

_START_DEPTH_M = 2.5
_OUTPUT_STD = 0.01


class MultiTaskModel(nn.Module):
    """One image in, one map per task out.

    Attributes:
        tasks: names of the tasks, in the order of `edge_mtl.tasks.TASKS`.
        stride: pixels of the image per pixel of the output: 4 (edge) or 1 (aspp).
        mean, std: of image / 255, per RGB channel: `forward` expects (image / 255 - mean) / std.
    """

    def __init__(
        self,
        backbone: Backbone,
        decoder: EdgeDecoder | AsppDecoder,
        *,
        tasks: Sequence[str],
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.decoder = decoder
        self.tasks = tuple(tasks)
        self.stride = decoder.stride
        self.mean = mean
        self.std = std

    def forward(self, image: Tensor, *, upsample: bool = False) -> dict[str, Tensor]:
        """Predict every task.

        Args:
            image: (B, 3, H, W) float RGB, normalised; H and W multiples of 32.
            upsample: whether to give maps of the image's size (bilinear, half-pixel centres) instead of stride `stride`.
        Returns:
            "segmentation" (B, 13, h, w) logits, "depth" (B, 1, h, w) canonical metres > 0, "normals" (B, 3, h, w) of any
            length. Float32, also under autocast.
        Raises:
            BuildError: a size that is not a multiple of 32.
        """
        check_divisible(image, by=32)
        size = (int(image.shape[2]), int(image.shape[3]))
        return finish_maps(self.decoder(self.backbone(image), size), size=size if upsample else None)

    def quarter_maps(self, image: Tensor) -> dict[str, Tensor]:
        """As `forward`, at stride 4 with either decoder: what the exported graphs compute, and a host finishes."""
        check_divisible(image, by=32)
        size = (int(image.shape[2]), int(image.shape[3]))
        return finish_maps(self.decoder(self.backbone(image), size, stride=4))

    def normalise(self, image: Tensor) -> Tensor:
        """(B, 3, H, W) float RGB in 0..255 -> what `forward` expects."""
        image = image / 255.0
        if any(self.mean):
            image = image - image.new_tensor(self.mean).reshape(1, 3, 1, 1)
        return image if set(self.std) == {1.0} else image / image.new_tensor(self.std).reshape(1, 3, 1, 1)


def finish_maps(raw: dict[str, Tensor], *, size: tuple[int, int] | None = None) -> dict[str, Tensor]:
    """Raw maps of a decoder -> predictions: metres from log-depth, then, if `size` is given, maps of that (H, W)."""
    maps = {task: value.float() for task, value in raw.items()}
    if DEPTH in maps:
        maps[DEPTH] = depth_from_log(maps[DEPTH])
    if size is None:
        return maps
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


def build_model(
    backbone: str,
    *,
    tasks: Sequence[str] = tuple(TASKS),
    decoder: DecoderName = "edge",
    width: int = 64,
    exchange: bool = True,
    pretrained: bool | Path = False,
    drop_path: float = 0.0,
    output_stride: int | None = None,
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0),
    std: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> MultiTaskModel:
    """Make a model, ready to train.

    Args:
        backbone: timm name, for example "pvt_v2_b0".
        tasks: any non-empty subset of `edge_mtl.tasks.TASKS`.
        decoder: "edge" (ours, stride 4, four stages) or "aspp" (the study's, full size, last stage).
        width: channels of the edge decoder; the ASPP's 256 are the study's and stay.
        exchange: whether the edge decoder's tasks read each other at stride 16.
        pretrained, drop_path, output_stride: see `build_backbone`.
        mean, std: normalisation that goes with the model. The study's protocol has none; `IMAGENET_MEAN` and
            `IMAGENET_STD` go with ImageNet weights.
    Raises:
        BuildError: unknown task, decoder or backbone; weights that do not load; a backbone without strides 4, 8, 16, 32
            for the edge decoder.
    """
    unknown = [task for task in tasks if task not in TASKS]
    if unknown or not tasks or len(set(tasks)) != len(tasks):
        raise BuildError(f"tasks are {list(tasks)}: expected some of {', '.join(TASKS)}, each at most once")
    if decoder not in get_args(DecoderName):
        raise BuildError(f"unknown decoder {decoder!r}: expected one of {', '.join(get_args(DecoderName))}")
    ordered = [task for task in TASKS if task in tasks]
    outputs = {task: TASKS[task].channels for task in ordered}
    encoder = build_backbone(backbone, pretrained=pretrained, drop_path=drop_path, output_stride=output_stride)
    head: EdgeDecoder | AsppDecoder
    if decoder == "edge":
        if encoder.strides != (4, 8, 16, 32):
            raise BuildError(f"{backbone} has strides {encoder.strides}: the edge decoder needs (4, 8, 16, 32). Use aspp")
        head = EdgeDecoder(encoder.channels, outputs, width=width, exchange=exchange)
        layers = {task: branch.output for task, branch in head.branches.items()}
    else:
        head = AsppDecoder(encoder.channels, outputs)
        layers = {task: aspp.output for task, aspp in head.heads.items()}
    for task, layer in layers.items():
        _initialise_output(task, layer)
    return MultiTaskModel(encoder, head, tasks=ordered, mean=mean, std=std)


def _initialise_output(task: str, layer: nn.Conv2d) -> None:
    """Start every pixel at an answer that is plausible: all classes alike, 2.5 m, facing the camera."""
    nn.init.normal_(layer.weight, std=_OUTPUT_STD)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        if task == DEPTH:
            layer.bias.fill_(math.log(_START_DEPTH_M))
        elif task == NORMALS:
            layer.bias[2] = -1.0
