"""Features of a network that saw real images, as hints for a backbone that did not.

Every map that the student's decoder reads goes through a 1x1 convolution of its own, which is learnt with it and dropped at
export, and should point, at every pixel, in the direction of the teacher's map of the same stride: FitNets (Romero et al. 2015,
arXiv:1412.6550) with the cosine as the distance, which leaves out how long features are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from mtl.models.backbone import STAGES, Backbone, build_backbone
from mtl.models.model import NORMALISATIONS

__all__ = ["BackboneMaps", "FeatureTeacher", "Maps", "feature_teacher"]


class Maps(Protocol):
    """Where the maps come from that a student's should resemble: a backbone, or a graph (`mtl.distill.graph`)."""

    @property
    def channels(self) -> Sequence[int]:
        """Of each map."""

    def to(self, device: torch.device) -> Maps:
        """The same one, where the student is."""

    def __call__(self, image: Tensor) -> Sequence[Tensor]:
        """(B, 3, H, W) float RGB in 0..255 -> a map (B, channels, h, w) for each of the student's, of any size."""


class BackboneMaps:
    """Maps of a frozen backbone.

    Args:
        stages: by number, those of its maps that are taught.
        mean, std: what its input, of 0..1, is normalised with, per RGB channel.
    Attributes:
        net: the backbone.
        channels: of the maps.
    """

    def __init__(self, net: Backbone, stages: Sequence[int], *, mean: Sequence[float], std: Sequence[float]) -> None:
        self.net = net.eval().requires_grad_(False)
        self.channels = tuple(net.channels[stage] for stage in stages)
        self._stages = tuple(stages)
        self._mean, self._std = (torch.tensor(list(values)).reshape(1, 3, 1, 1) for values in (mean, std))

    def to(self, device: torch.device) -> BackboneMaps:
        """The same one, where the student is."""
        self.net.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @torch.no_grad()
    def __call__(self, image: Tensor) -> list[Tensor]:
        """See `Maps`."""
        every = self.net((image / 255.0 - self._mean) / self._std)
        return [every[stage] for stage in self._stages]


class FeatureTeacher(nn.Module):
    """Maps of a teacher and the projections of the student's features onto them.

    Its parameters and its state are those of the projections alone.

    Args:
        channels: of the student's maps that are taught.
    Attributes:
        maps: what they should resemble, in the same order.
    """

    def __init__(self, maps: Maps, channels: Sequence[int]) -> None:
        super().__init__()
        self.maps = maps
        self.projections = nn.ModuleList(nn.Conv2d(own, wanted, 1) for own, wanted in zip(channels, maps.channels, strict=True))

    def prepared(self, device: torch.device) -> FeatureTeacher:
        """The same one, where the student is."""
        self.maps.to(device)
        return self.to(device)

    def forward(self, image: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Mean of 1 - cosine over the pixels of a map, then over the maps.

        Args:
            image: (B, 3, H, W) float RGB in 0..255.
            features: (B, C_i, h_i, w_i) of the student, as `channels`.
        """
        errors = []
        for projection, own, wanted in zip(self.projections, features, self.maps(image), strict=True):
            wanted = wanted.float()
            found = projection(own.float())
            if found.shape[2:] != wanted.shape[2:]:
                wanted = F.interpolate(wanted, size=found.shape[2:], mode="bilinear", align_corners=False)
            errors.append(1.0 - F.cosine_similarity(found, wanted, dim=1, eps=1e-6).mean())
        return torch.stack(errors).mean()


def feature_teacher(
    name: str, path: Path, *, channels: Sequence[int], strides: Sequence[int], normalisation: str = ""
) -> FeatureTeacher:
    """The teacher that a backbone of timm is with the weights of a local file.

    Args:
        channels, strides: of the student's maps.
        normalisation: of the teacher's input, by its name in `NORMALISATIONS`; empty: what timm states for the backbone.
    Raises:
        BuildError: no such backbone or file, weights that do not fit, no maps of the student's strides.
    """
    if not path.is_file():
        raise BuildError(f"distill.features_file: there is no file {path}. Give the weights of {name}, downloaded before")
    net = build_backbone(name, pretrained=path)
    stages = {stride: stage for stage, stride in enumerate(net.strides)}
    lacking = [stride for stride in strides if stride not in stages]
    if lacking:
        raise BuildError(
            f"distill.features: the last {STAGES} maps of {name} are at strides {', '.join(map(str, net.strides))}, and the "
            f"network has one at {lacking[0]}. Choose another backbone to learn from"
        )
    stated = net.net.default_cfg
    mean, std = NORMALISATIONS[normalisation] if normalisation else (stated["mean"], stated["std"])
    return FeatureTeacher(BackboneMaps(net, [stages[one] for one in strides], mean=mean, std=std), channels)
