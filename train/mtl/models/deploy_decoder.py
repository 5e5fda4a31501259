"""The decoders and other heads written for inference at one input size. Knows nothing about backbones or export.

The same functions as in training, with batch norm inside the convolutions; and the ASPP without the taps that only ever read
padding: at 288x384 the last stage is 9x12 and a tap 12 pixels away is always outside, so a 3x3 at rate 12, 24 or 36
is its centre, a 1x1 (39.0 M parameters become 29.6 M, with the same outputs).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtl.models.aspp import AsppDecoder, AsppHead, resample
from mtl.models.edge import EdgeDecoder
from mtl.models.edge_blocks import Merge, upsample_x2
from mtl.models.fold import conv_from, fold_norm, norm_affine, without_dead_taps
from mtl.models.head_network import HeadNetwork

__all__ = ["DeployAspp", "DeployEdge", "DeployHead", "Offset", "fold_norms", "without_dead_taps"]


def fold_norms(module: nn.Module) -> nn.Module:
    """Replace every convolution + batch norm that follow each other in an `nn.Sequential`, and every `Merge`, in place."""
    for name, child in list(module.named_children()):
        setattr(module, name, DeployMerge(child) if isinstance(child, Merge) else fold_norms(child))
    if not isinstance(module, nn.Sequential):
        return module
    folded: list[nn.Module] = []
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d) and folded and isinstance(folded[-1], nn.Conv2d):
            folded[-1] = fold_norm(folded[-1], layer)
        else:
            folded.append(layer)
    return nn.Sequential(*folded)


class DeployMerge(nn.Module):
    """`Merge` with its batch norm in the two convolutions; the shift goes to the coarse one, where pixels are few."""

    def __init__(self, merge: Merge) -> None:
        super().__init__()
        scale, shift = norm_affine(merge.norm)
        factor = scale[:, None, None, None]
        self.coarse = conv_from(merge.coarse.weight.double() * factor, shift, like=merge.coarse)
        self.fine = conv_from(merge.fine.weight.double() * factor, None, like=merge.fine)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return F.relu(self.fine(fine) + upsample_x2(self.coarse(coarse)))


class Offset(nn.Module):
    """x + a constant: `Rays` at one size."""

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.offset: Tensor
        self.register_buffer("offset", offset.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


class DeployEdge(nn.Module):
    """The edge decoder for one input size with batch norm folded away: raw maps at stride 4."""

    def __init__(self, decoder: EdgeDecoder, height: int, width: int) -> None:
        super().__init__()
        self.decoder = fold_norms(decoder)
        if decoder.rays is not None:
            sizes = ((height // stride, width // stride) for stride in (32, 16))
            offsets = [Offset(rays.offset(*size)) for rays, size in zip(decoder.rays, sizes, strict=True)]
            self.decoder.rays = nn.ModuleList(offsets)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return self.decoder(features, (0, 0))


class DeployHead(nn.Module):
    """The network of a task whose answer is no map, with batch norm folded away.

    Attributes:
        reads: as of the network.
    """

    def __init__(self, head: HeadNetwork) -> None:
        super().__init__()
        self.reads = head.reads
        self.head = fold_norms(head)

    def forward(self, features: Sequence[Tensor]) -> dict[str, Any]:
        return self.head(features)


class DeployAsppHead(nn.Module):
    """One ASPP head without batch norm, dropout or dead taps.

    The pooled view is one pixel: its share of the projection is computed there and added as a bias, so that nothing
    is spread over the map and concatenated.
    """

    def __init__(self, head: AsppHead, height: int, width: int) -> None:
        super().__init__()
        self.views = nn.ModuleList()
        for conv, norm, _ in (head.point, *head.dilated):
            self.views.append(without_dead_taps(fold_norm(conv, norm), height, width))
        self.pooled = fold_norm(head.pooling.project[0], head.pooling.project[1])
        project = fold_norm(head.project[0], head.project[1])
        split = len(self.views) * self.pooled.out_channels
        self.project = conv_from(project.weight[:, :split], None, like=project)
        self.project_pooled = conv_from(project.weight[:, split:], project.bias, like=project)
        self.smooth = fold_norm(head.smooth[0], head.smooth[1])
        self.output = head.output

    def forward(self, x: Tensor) -> Tensor:
        views = torch.cat([F.relu(view(x)) for view in self.views], dim=1)
        pooled = F.relu(self.pooled(F.adaptive_avg_pool2d(x, 1)))
        projected = F.relu(self.project(views) + self.project_pooled(pooled))
        return self.output(F.relu(self.smooth(projected)))


class DeployAspp(nn.Module):
    """The ASPP decoder for one input size: raw maps at stride 4."""

    def __init__(self, decoder: AsppDecoder, height: int, width: int, stride: int) -> None:
        super().__init__()
        self.size = (height, width)
        self.heads = nn.ModuleDict(
            {task: DeployAsppHead(head, height // stride, width // stride) for task, head in decoder.heads.items()}
        )

    def forward(self, features: Sequence[Tensor]) -> dict[str, Tensor]:
        return {task: resample(head(features[-1]), size=self.size, stride=4) for task, head in self.heads.items()}
