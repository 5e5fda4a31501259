"""The study's decoder: one DeepLab head (ASPP) per task on the last stage alone. Knows nothing about backbones or losses.

Parameter for parameter the head of LibMTL's NYUv2 example (median-research-group/LibMTL, examples/nyu/aspp.py, MIT), which
follows torchvision's DeepLabV3 head (Chen et al. 2017, arXiv:1706.05587).

Folded, it is the same function of maps up to one size without the weights that can only read padding there: on a 9x12 map a
tap 12 pixels away is always outside, so the 3x3 at rates 12, 24 and 36 are 1x1, and nothing is left in them to train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from mtl.models.fold import without_dead_taps
from mtl.models.output import OutputConv

__all__ = ["RATES", "AsppDecoder", "AsppHead"]

RATES: tuple[int, ...] = (12, 24, 36)
"""Dilations of the three 3x3 convolutions."""


def _conv_norm_act(inputs: int, outputs: int, kernel: int = 1, dilation: int = 1) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=padding, dilation=dilation, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class ImagePooling(nn.Module):
    """The mean of the map through 1x1, batch norm and ReLU, spread over the map again."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.project = _conv_norm_act(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x.mean(dim=(2, 3), keepdim=True)).expand(-1, -1, x.shape[2], x.shape[3])


class AsppHead(nn.Module):
    """1x1, three dilated 3x3 and image pooling side by side; project 1x1, dropout, 3x3, output 1x1."""

    def __init__(
        self, inputs: int, outputs: int, *, width: int = 256, dropout: float = 0.5, largest: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.point = _conv_norm_act(inputs, width)
        self.dilated = nn.ModuleList(_conv_norm_act(inputs, width, 3, rate) for rate in RATES)
        if largest is not None:
            for dilated in self.dilated:
                dilated[0] = without_dead_taps(dilated[0], *largest).requires_grad_(True).train()
        self.pooling = ImagePooling(inputs, width)
        self.project = _conv_norm_act((2 + len(RATES)) * width, width)
        self.dropout = nn.Dropout(dropout)
        self.smooth = _conv_norm_act(width, width, 3)
        self.output = OutputConv(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, h, w) -> (B, outputs, h, w)."""
        views = [self.point(x), *(dilated(x) for dilated in self.dilated), self.pooling(x)]
        return self.output(self.smooth(self.dropout(self.project(torch.cat(views, dim=1)))))


class AsppDecoder(nn.Module):
    """Features of four stages -> raw maps at the image's full size, one per task.

    Each head predicts at the stride of the last stage (32 for PVT v2) and is upsampled bilinearly with aligned corners,
    as LibMTL does: that is the resolution at which this model was trained and is judged.

    Args:
        channels: of the four feature maps, finest first.
        outputs: output channels per task.
        width: channels inside a head.
        largest: (h, w) of the largest map of the last stage that is ever given: cuts the taps that read nothing there.
    Attributes:
        reads: which of the four feature maps `forward` takes, from 0.
    """

    stride = 1
    reads: tuple[int, ...] = (3,)

    def __init__(
        self,
        channels: Sequence[int],
        outputs: Mapping[str, int],
        *,
        width: int = 256,
        largest: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self._largest = largest
        self.heads = nn.ModuleDict(
            {task: AsppHead(channels[-1], count, width=width, largest=largest) for task, count in outputs.items()}
        )

    def forward(self, features: Sequence[Tensor], size: tuple[int, int], *, stride: int = 1) -> dict[str, Tensor]:
        """The last stage's map and the image's size (H, W) -> raw (B, C, H / stride, W / stride) per task.

        Raises:
            BuildError: folded, and a map larger than it was made for: it would be another function there.
        """
        (x,) = features
        height, width = int(x.shape[2]), int(x.shape[3])
        if self._largest is not None and (height > self._largest[0] or width > self._largest[1]):
            most = "x".join(map(str, self._largest))
            raise BuildError(
                f'the decoder "aspp_folded" was cut for maps up to {most}: found {height}x{width}. '
                'Build it for the larger size, or use "aspp"'
            )
        return {task: resample(head(x), size=size, stride=stride) for task, head in self.heads.items()}

    def output_layers(self) -> dict[str, nn.Conv2d]:
        """The last layer of every task."""
        return {task: head.output for task, head in self.heads.items()}


def resample(x: Tensor, *, size: tuple[int, int], stride: int) -> Tensor:
    """The full-size map (bilinear, aligned corners) seen at the centres of stride x stride blocks of pixels.

    A host that upsamples the result by `stride` with half-pixel centres gets the full-size map back, but for the kinks
    between source pixels and the outermost stride / 2 pixels. Two products with constant matrices: every runtime
    computes them alike, which cannot be said of aligned corners.

    Args:
        x: (B, C, h, w).
        size: (H, W) of the full-size map.
    Returns:
        (B, C, H / stride, W / stride).
    """
    if stride == 1:
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    rows, columns = (_sampling(source, target, stride) for source, target in zip(x.shape[2:], size, strict=True))
    return rows.to(x) @ (x @ columns.to(x).T)


def _sampling(source: int, size: int, stride: int) -> Tensor:
    """(size / stride, source) float32 weights of linear interpolation at the centres of blocks of `stride` pixels."""
    centres = torch.arange(size // stride, dtype=torch.float64) * stride + (stride - 1) / 2
    positions = centres * (source - 1) / (size - 1)
    distance = (positions[:, None] - torch.arange(source, dtype=torch.float64)[None, :]).abs()
    return (1.0 - distance).clamp(min=0.0).float()
