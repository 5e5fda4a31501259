"""Whole networks as layers of TensorFlow Lite files, with random weights: what `tests.tflite_files` writes."""

from __future__ import annotations

import numpy as np
import torch
from mtl.models.backbone import build_backbone
from torch import nn

from tests.tflite_files import Layer

__all__ = ["deeplab_layers"]


def deeplab_layers(backbone: str, *, classes: int, width: int = 6, skip: int = 4, seed: int = 4) -> list[Layer]:
    """The convolutions of a DeepLabV3 with a fine map around a MobileNetV2, in the order of the published file."""
    torch.manual_seed(seed)
    body = build_backbone(backbone)
    draws = np.random.default_rng(seed)
    modules = [one for one in body.net.modules() if isinstance(one, (nn.Conv2d, nn.BatchNorm2d))]
    layers = []
    for convolution, norm in zip(modules[::2], modules[1::2], strict=True):
        bias = draws.normal(0, 0.3, convolution.out_channels).astype(np.float32)
        weight = convolution.weight.detach().numpy().copy()
        layers.append(Layer(weight, bias, isinstance(getattr(norm, "act", None), nn.ReLU6)))
    coarse, fine, joined = body.channels[-1], body.net.blocks[1][1].conv_dw.out_channels, width + skip

    def layer(channels: int, inner: int, side: int = 1, *, relu6: bool = True) -> Layer:
        scale = 1.5 / (inner * side * side) ** 0.5
        weight = draws.normal(0, scale, (channels, inner, side, side)).astype(np.float32)
        return Layer(weight, draws.normal(0, 0.2, channels).astype(np.float32), relu6)

    return [
        *layers,
        layer(width, coarse),
        layer(width, coarse),
        layer(width, 2 * width),
        layer(skip, fine),
        layer(joined, 1, 3),
        layer(width, joined),
        layer(width, 1, 3),
        layer(width, width),
        layer(classes, width, relu6=False),
    ]
