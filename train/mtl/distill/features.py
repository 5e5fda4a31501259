"""Features of a backbone that saw real images, as hints for one that did not.

Every map that the student's decoder reads goes through a 1x1 convolution of its own, which is learnt with it and dropped at
export, and should point, at every pixel, in the direction of the teacher's map of the same stride: FitNets (Romero et al. 2015,
arXiv:1412.6550) with the cosine as the distance, which leaves out how long features are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edge_mtl.errors import BuildError
from mtl.models.backbone import STAGES, Backbone, build_backbone
from mtl.models.model import NORMALISATIONS

__all__ = ["FeatureTeacher", "feature_teacher"]


class FeatureTeacher(nn.Module):
    """A frozen backbone and the projections of the student's features onto its own.

    Its parameters and its state are those of the projections alone.

    Args:
        channels: of the student's maps that are taught.
        stages: of the teacher's maps, by number, the ones that they should resemble.
        mean, std: what the teacher's input is normalised with, per RGB channel.
    """

    def __init__(
        self,
        teacher: Backbone,
        channels: Sequence[int],
        stages: Sequence[int],
        *,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self._teacher = (teacher.eval().requires_grad_(False),)  # in a tuple: no part of the state
        self._stages = tuple(stages)
        self.projections = nn.ModuleList(
            nn.Conv2d(own, teacher.channels[stage], 1) for own, stage in zip(channels, stages, strict=True)
        )
        self.register_buffer("mean", torch.tensor(list(mean)).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(list(std)).reshape(1, 3, 1, 1), persistent=False)

    def prepared(self, device: torch.device) -> FeatureTeacher:
        """The same one, where the student is."""
        self._teacher[0].to(device)
        return self.to(device)

    def forward(self, image: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Mean of 1 - cosine over the pixels of a map, then over the maps.

        Args:
            image: (B, 3, H, W) float RGB in 0..255.
            features: (B, C_i, h_i, w_i) of the student, as `channels`.
        """
        with torch.no_grad():
            every = self._teacher[0]((image / 255.0 - self.mean) / self.std)
        errors = []
        for projection, own, stage in zip(self.projections, features, self._stages, strict=True):
            wanted = every[stage].float()
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
    return FeatureTeacher(net, channels, [stages[one] for one in strides], mean=mean, std=std)
