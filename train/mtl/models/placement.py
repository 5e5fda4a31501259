"""Where pre- and post-processing run: in the graph (GPUs, the plain baseline) or on the host (CPUs). Knows no ONNX.

Graph:  `image` uint8 (1, H, W, 3) RGB -> `segmentation` uint8 (1, H, W), `depth` float32 (1, H, W) canonical metres,
        `normals` float32 (1, H, W, 3) unit.
Host:   `image` float32 (1, 3, H, W) RGB in 0..255 -> `segmentation_logits` (1, 13, H/4, W/4), `depth_quarter` (1, 1, H/4, W/4),
        `normals_quarter` (1, 3, H/4, W/4) of any length.

Post-processing is the same arithmetic in both places: bilinear x4 with half-pixel centres, then argmax, metres, unit length.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION
from mtl.models.deploy import DeployModel
from mtl.models.model import MultiTaskModel

__all__ = ["GraphPlacement", "HostPlacement", "Placement", "PlainModel"]

Placement = Literal["graph", "host"]

_QUARTER_NAMES = {SEGMENTATION: "segmentation_logits", DEPTH: "depth_quarter", NORMALS: "normals_quarter"}
_LEAST_LENGTH = 1e-6


class PlainModel(nn.Module):
    """The trained model as it is, from RGB in 0..255 to quarter-resolution maps."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model, self.tasks = model, model.tasks

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.model.quarter_maps(self.model.normalise(image))


class HostPlacement(nn.Module):
    """The network alone; the host makes the float image and finishes the quarter-resolution maps."""

    def __init__(self, network: PlainModel | DeployModel) -> None:
        super().__init__()
        self.network = network
        self.output_names = tuple(_QUARTER_NAMES[task] for task in network.tasks)

    @staticmethod
    def example(height: int, width: int) -> Tensor:
        """A noise image in the form that the graph takes."""
        return _noise(height, width).permute(0, 3, 1, 2).float()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(image)
        return tuple(maps[task] for task in self.network.tasks)


class GraphPlacement(nn.Module):
    """Everything in the graph: bytes of a frame in, finished maps out."""

    def __init__(self, network: PlainModel | DeployModel) -> None:
        super().__init__()
        self.network = network
        self.output_names = tuple(network.tasks)

    @staticmethod
    def example(height: int, width: int) -> Tensor:
        """A noise image in the form that the graph takes."""
        return _noise(height, width)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        maps = self.network(image.permute(0, 3, 1, 2).float())
        return tuple(_finish(task, maps[task]) for task in self.network.tasks)


def _finish(task: str, quarter: Tensor) -> Tensor:
    """A quarter-resolution map -> the finished map at the image's size."""
    full = F.interpolate(quarter, scale_factor=4.0, mode="bilinear", align_corners=False)
    if task == SEGMENTATION:
        return full.argmax(dim=1).to(torch.uint8)
    if task == DEPTH:
        return full[:, 0]
    length = torch.linalg.vector_norm(full, dim=1, keepdim=True)
    return (full / length.clamp(min=_LEAST_LENGTH)).permute(0, 2, 3, 1)


def _noise(height: int, width: int) -> Tensor:
    """(1, H, W, 3) uint8, always the same: blocks of colour with grain, so that neighbouring pixels resemble each other."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(1, 3, height // 16, width // 16, generator=generator) * 255.0
    grain = torch.randn(1, 3, height, width, generator=generator) * 8.0
    image = F.interpolate(blocks, size=(height, width), mode="bilinear", align_corners=False) + grain
    return image.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
