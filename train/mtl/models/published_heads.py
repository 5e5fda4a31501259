"""The heads that PVT v2 was published with for detection and segmentation, as rivals of ours: to count and to run.

RetinaNet (Lin et al. 2017, arXiv:1708.02002), GFL (Li et al. 2020, arXiv:2006.04388) and Semantic FPN (Kirillov et al. 2019,
arXiv:1901.02446), each with its feature pyramid (Lin et al. 2017, arXiv:1612.03144) of 256 channels, in the form of the
configurations that PVT v2 (Wang et al. 2022, arXiv:2106.13797) was trained with. They are for comparison: boxes are left in the
form of each method, and nothing here trains or exports them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.models.edge_blocks import upsample_x2

__all__ = ["GflHead", "Pyramid", "RetinaNetHead", "SemanticFpnHead"]

_WIDTH = 256
_ANCHORS = 9
"""Of each cell in RetinaNet: three sizes by three shapes."""
_BINS = 17
"""Distances 0 to 16 of which GFL says how probable each is."""


class Pyramid(nn.Module):
    """Stages of a backbone -> maps of one width, each joined by the coarser one, and more of ever half the size.

    Args:
        channels: of the stages that are read, finest first.
        more: how many maps beyond the coarsest stage.
        made_from: whether the first of them is made from the "stage" or from the pyramid's own coarsest "map".
    """

    def __init__(self, channels: Sequence[int], *, more: int = 0, made_from: Literal["stage", "map"] = "stage") -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(one, _WIDTH, 1) for one in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in channels)
        inputs = [channels[-1] if made_from == "stage" else _WIDTH, *[_WIDTH] * more][:more]
        self.more = nn.ModuleList(nn.Conv2d(one, _WIDTH, 3, stride=2, padding=1) for one in inputs)
        self._from_stage = made_from == "stage"

    def forward(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """(B, channels, h, w), each half the size of the one before -> (B, 256, h, w), finest first."""
        seen = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        for level in range(len(seen) - 2, -1, -1):
            seen[level] = seen[level] + upsample_x2(seen[level + 1])
        maps = [smooth(one) for smooth, one in zip(self.smooth, seen, strict=True)]
        coarsest = stages[-1] if self._from_stage else maps[-1]
        for layer in self.more:
            coarsest = layer(coarsest)
            maps.append(coarsest)
        return maps


class RetinaNetHead(nn.Module):
    """Four convolutions each for classes and boxes, shared by all maps of the pyramid, nine anchors a cell."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.class_tower, self.box_tower = _tower(), _tower()
        self.scores = nn.Conv2d(_WIDTH, _ANCHORS * classes, 3, padding=1)
        self.boxes = nn.Conv2d(_WIDTH, _ANCHORS * 4, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """By map, logits (B, 9 classes, h, w) and offsets from the anchors (B, 36, h, w)."""
        return [(self.scores(self.class_tower(one)), self.boxes(self.box_tower(one))) for one in maps]


class GflHead(nn.Module):
    """As RetinaNet's with group norm and no anchors; each distance is a distribution over 17 bins."""

    def __init__(self, classes: int, *, maps: int = 5) -> None:
        super().__init__()
        self.class_tower, self.box_tower = _tower(norm=True), _tower(norm=True)
        self.scores = nn.Conv2d(_WIDTH, classes, 3, padding=1)
        self.bins = nn.Conv2d(_WIDTH, 4 * _BINS, 3, padding=1)
        self.scales = nn.Parameter(torch.ones(maps))

    def forward(self, maps: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """By map, logits (B, classes, h, w) and expected distances (B, 4, h, w) in the map's cells."""
        found = []
        for one, scale in zip(maps, self.scales, strict=True):
            bins = (self.bins(self.box_tower(one)) * scale).unflatten(1, (4, _BINS)).softmax(dim=2)
            distances = (bins * torch.arange(_BINS, device=one.device)[:, None, None]).sum(dim=2)
            found.append((self.scores(self.class_tower(one)), distances))
        return found


class SemanticFpnHead(nn.Module):
    """Every map of a pyramid of four is brought to the finest one's size in steps, and their sum is classified."""

    def __init__(self, classes: int, *, width: int = 128) -> None:
        super().__init__()
        self.ways = nn.ModuleList(
            nn.ModuleList(_normed(_WIDTH if step == 0 else width, width) for step in range(max(1, level))) for level in range(4)
        )
        self.output = nn.Conv2d(width, classes, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Four maps, finest first -> logits (B, classes, h, w) at the finest one's size."""
        total = None
        for level, (way, x) in enumerate(zip(self.ways, maps, strict=True)):
            for layer in way:
                x = layer(x)
                if level:
                    x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = x if total is None else total + x
        logits: Tensor = self.output(total)
        return logits


def _tower(*, norm: bool = False) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(4):
        layers += [nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=not norm), *([nn.GroupNorm(32, _WIDTH)] if norm else [])]
        layers.append(nn.ReLU())
    return nn.Sequential(*layers)


def _normed(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())
