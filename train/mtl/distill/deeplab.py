"""DeepLabV3 around MobileNetV2 as a TensorFlow Lite file has it, whose classes are grouped into fewer: a teacher to be.

Chen et al. 2018, arXiv:1802.02611: one branch of the pyramid and the mean of the image, then the fine map of stride 4 beside
it. Pixel i of a map lies over pixel i x stride of the image, as in the file at its sizes of 32 n + 1. The answers are moved to
where the pixels of a resized map are, so that nobody has to know that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from mtl.models.backbone import build_backbone
from mtl.models.mobilenet_tflite import RELU, RELU6, Convolution, read_convolutions

__all__ = ["DeepLab", "deeplab_from_tflite"]

_STRIDE = 4
"""Of the answers."""

_OFFSET = 1.5 / _STRIDE
"""From pixel i of the network's maps, over pixel 4 i of the image, to the middle of its pixels 4 i to 4 i + 3."""

_HEAD = ("pool", "pyramid", "project", "skip", "depthwise0", "pointwise0", "depthwise1", "pointwise1", "logits")
"""Its convolutions in the order of the file, after those of the backbone."""

_FINE = (1, 1)
"""Stage and block of MobileNetV2 whose widest map is the fine one."""

_LEAST = 1e-9
"""Probability of a class below which it is as unlikely as any other."""


class DeepLab(nn.Module):
    """See the module; made by `deeplab_from_tflite`.

    Args:
        backbone: timm's name of a MobileNetV2.
        head: the convolutions after it.
        groups: by class of the network, the class that it belongs to.
        classes: how many of those there are.
        output_stride: of the coarse map, 8 or 16: 8 is the file's, 16 a quarter of its cost.
    Attributes:
        stages: numbers of the backbone's stages whose maps are its features, and `strides`, of the maps that they are for: of a
            MobileNetV2 that is not dilated.
        channels: of the features.
    """

    stages = (2, 4, 6)
    strides = (8, 16, 32)

    def __init__(
        self, backbone: str, head: Sequence[Convolution], groups: Sequence[int], *, classes: int, output_stride: int = 16
    ) -> None:
        super().__init__()
        whole = build_backbone(backbone, output_stride=output_stride)
        self.net: Any = whole.net
        self.channels = whole.channels[1:]
        for name, one in zip(_HEAD, head, strict=True):
            self.add_module(name, _layer(one))
        members = torch.zeros(classes, len(groups), 1, 1)
        members[torch.as_tensor(list(groups)), torch.arange(len(groups))] = 1.0
        self.register_buffer("members", members, persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Log-probabilities of the grouped classes and the features.

        Args:
            image: (B, 3, H, W) float RGB in 0..255, sides in multiples of 32.
        Returns:
            (B, classes, H / 4, W / 4) float32, and (B, channels[i], h, w) of each stage.
        """
        x = self.net.bn1(self.net.conv_stem(image / 127.5 - 1.0))
        features: list[Tensor] = []
        fine = x
        for number, stage in enumerate(self.net.blocks):
            for place, block in enumerate(stage):
                if (number, place) == _FINE:
                    fine = block.bn2(block.conv_dw(block.bn1(block.conv_pw(x))))
                    x = block.bn3(block.conv_pwl(fine)) + x
                else:
                    x = block(x)
            if number in self.stages:
                features.append(x)
        pooled = self.pool(x.mean((2, 3), keepdim=True))
        coarse = self.project(self.pyramid(x), pooled)
        fine = self.skip(fine)
        x = torch.cat([_grown(coarse, (fine.shape[2], fine.shape[3])), fine], dim=1)
        x = self.pointwise1(self.depthwise1(self.pointwise0(self.depthwise0(x))))
        return self._grouped(self.logits(x)), *features

    def _grouped(self, logits: Tensor) -> Tensor:
        """The log of the sum of the probabilities of each group, at the middles of pixels."""
        with torch.autocast(logits.device.type, enabled=False):
            every = logits.float()[:, logits.shape[1] - self.members.shape[1] :].softmax(dim=1)
            grouped = F.conv2d(every, self.members)
            for dim in (2, 3):
                grouped = grouped + _OFFSET * (_next(grouped, dim) - grouped)
            return grouped.clamp_min(_LEAST).log()


def deeplab_from_tflite(
    path: Path,
    groups: Sequence[int],
    *,
    classes: int,
    output_stride: int = 16,
    backbone: str = "mobilenetv2_100",
) -> DeepLab:
    """The network of a file, in evaluation mode.

    Args:
        groups: by class of the file, the class that it belongs to; a first output of the file that is for none is left out.
    Raises:
        BuildError: no such file, or one of another network or with another number of classes.
        BackendUnavailable: the package tflite is not here.
    """
    if not path.is_file():
        raise BuildError(f"there is no file {path}. Give the TensorFlow Lite file of a DeepLabV3-MobileNetV2")
    if path.suffix != ".tflite":
        raise BuildError(
            f"{path} should be the TensorFlow Lite file of a DeepLabV3-MobileNetV2, whose name ends in .tflite. "
            "Rename it, or give another"
        )
    body = build_backbone(backbone, pretrained=path, output_stride=output_stride)
    head = read_convolutions(path)[sum(isinstance(one, nn.Conv2d) for one in body.net.modules()) :]
    fine = body.net.blocks[_FINE[0]][_FINE[1]].conv_dw.out_channels
    _check(head, path, channels=body.channels[-1], fine=fine, groups=len(groups))
    found = DeepLab(backbone, head, groups, classes=classes, output_stride=output_stride)
    found.net.load_state_dict(body.net.state_dict())
    return found.eval()


def _check(head: Sequence[Convolution], path: Path, *, channels: int, fine: int, groups: int) -> None:
    """Raises BuildError where the convolutions after the backbone are not those of a DeepLab for so many classes."""
    if len(head) != len(_HEAD):
        raise BuildError(
            f"{path} has {len(head)} convolutions after its MobileNetV2: expected the {len(_HEAD)} of a DeepLabV3 with a fine "
            "map, such as DeepLabV3-MobileNetV2 of ADE20K"
        )
    pool, pyramid, project, skip, _, point0, _, point1, logits = (one.weight.shape for one in head)
    joined = project[0] + skip[0]
    expected = (
        (pool[0], channels, 1, 1),
        (pyramid[0], channels, 1, 1),
        (project[0], pool[0] + pyramid[0], 1, 1),
        (skip[0], fine, 1, 1),
        (joined, 1, 3, 3),
        (point0[0], joined, 1, 1),
        (point0[0], 1, 3, 3),
        (point1[0], point0[0], 1, 1),
        (logits[0], point1[0], 1, 1),
    )
    for name, one, wanted in zip(_HEAD, head, expected, strict=True):
        if one.weight.shape != wanted:
            raise BuildError(f"{path} is no DeepLabV3 with a fine map: {name} should be {wanted}, found {one.weight.shape}")
    if logits[0] not in (groups, groups + 1):
        raise BuildError(
            f"{path} has {logits[0]} classes: expected {groups}, or one more for none. Give a file of these classes"
        )


def _layer(one: Convolution) -> nn.Module:
    channels, inner, height, width = one.weight.shape
    depthwise = inner == 1 and height > 1
    source = channels if depthwise else inner
    layer = nn.Conv2d(source, channels, (height, width), padding=(height // 2, width // 2), groups=source if depthwise else 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(one.weight))
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(one.bias))
    activation = {RELU: nn.ReLU, RELU6: nn.ReLU6}.get(one.activation, nn.Identity)
    return _Layer(layer, activation())


class _Layer(nn.Module):
    """A convolution and its activation.

    Called with a second map of one pixel, it is that of both beside one another, the second everywhere the same and first.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.activation = conv, activation

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        if pooled is None:
            return self.activation(self.conv(x))  # type: ignore[no-any-return]
        own, other = self.conv.weight[:, pooled.shape[1] :], self.conv.weight[:, : pooled.shape[1]]
        return self.activation(F.conv2d(x, own, self.conv.bias) + F.conv2d(pooled, other))  # type: ignore[no-any-return]


def _next(x: Tensor, dim: int) -> Tensor:
    """Every pixel's neighbour further along; the last one's is itself."""
    return torch.cat([x.narrow(dim, 1, x.shape[dim] - 1), x.narrow(dim, x.shape[dim] - 1, 1)], dim=dim)


def _grown(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear to a size that is a whole factor larger, pixel 0 on pixel 0; beyond the last pixel it repeats it."""
    for dim in (2, 3):
        x = torch.cat([x, x.narrow(dim, x.shape[dim] - 1, 1)], dim=dim)
    factors = [wanted // (have - 1) for wanted, have in zip(size, x.shape[2:], strict=True)]
    larger = [(have - 1) * factor + 1 for have, factor in zip(x.shape[2:], factors, strict=True)]
    return F.interpolate(x, size=larger, mode="bilinear", align_corners=True)[:, :, : size[0], : size[1]]
