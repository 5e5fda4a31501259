"""Where pre- and post-processing run: in the graph (GPUs, the plain baseline) or on the host (CPUs). Knows no ONNX.

Graph:  `image` uint8 (1, H, W, 3) RGB -> finished maps: labels uint8 (1, H, W), depth float32 (1, H, W) canonical metres,
        normals float32 (1, H, W, 3) unit.
Host:   `image` float32 (1, 3, H, W) RGB in 0..255 -> maps at a quarter of the size: logits (1, classes, H/4, W/4), depth
        (1, 1, H/4, W/4), normals (1, 3, H/4, W/4) of any length.

Names of outputs are those of `edge_mtl.tasks.Kind.outputs`. Post-processing is the same arithmetic in both places: bilinear
x4 with half-pixel centres, then argmax, metres, unit length.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.tasks import Placement, Specs
from mtl.models.deploy import DeployModel
from mtl.models.model import MultiTaskModel
from mtl.tasks import head_of, output_names

__all__ = ["GraphPlacement", "HostPlacement", "Placement", "PlainModel"]


class PlainModel(nn.Module):
    """The trained model as it is, from RGB in 0..255 to quarter-resolution maps."""

    def __init__(self, model: MultiTaskModel) -> None:
        super().__init__()
        self.model, self.specs = model, model.specs

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        return self.model.quarter_maps(self.model.normalise(image))


class HostPlacement(nn.Module):
    """The network alone; the host makes the float image and finishes the quarter-resolution maps."""

    def __init__(self, network: PlainModel | DeployModel) -> None:
        super().__init__()
        self.network = network
        self.output_names = _names(network.specs, "host")

    @staticmethod
    def example(height: int, width: int) -> Tensor:
        """A noise image in the form that the graph takes."""
        return _noise(height, width).permute(0, 3, 1, 2).float()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return _outputs(self.network.specs, self.network(image), "host")


class GraphPlacement(nn.Module):
    """Everything in the graph: bytes of a frame in, finished maps out."""

    def __init__(self, network: PlainModel | DeployModel) -> None:
        super().__init__()
        self.network = network
        self.output_names = _names(network.specs, "graph")

    @staticmethod
    def example(height: int, width: int) -> Tensor:
        """A noise image in the form that the graph takes."""
        return _noise(height, width)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return _outputs(self.network.specs, self.network(image.permute(0, 3, 1, 2).float()), "graph")


def _names(specs: Specs, placement: Placement) -> tuple[str, ...]:
    return tuple(name for names in output_names(specs, placement).values() for name in names)


def _outputs(specs: Specs, answers: Mapping[str, Any], placement: Placement) -> tuple[Tensor, ...]:
    """The outputs of all tasks, in the order of `_names`."""
    return tuple(output for task, spec in specs.items() for output in head_of(spec).exported(spec, answers[task], placement))


def _noise(height: int, width: int) -> Tensor:
    """(1, H, W, 3) uint8, always the same: blocks of colour with grain, so that neighbouring pixels resemble each other."""
    generator = torch.Generator().manual_seed(0)
    blocks = torch.rand(1, 3, height // 16, width // 16, generator=generator) * 255.0
    grain = torch.randn(1, 3, height, width, generator=generator) * 8.0
    image = F.interpolate(blocks, size=(height, width), mode="bilinear", align_corners=False) + grain
    return image.clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
