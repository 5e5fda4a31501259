"""The trained model rewritten for speed, with the same outputs. Knows nothing about ONNX.

What is rewritten is told in `deploy_pvt` and `deploy_decoder`. Here the input normalisation joins the first convolution, and
the result is compared with the trained model before anyone may use it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from mtl.models.aspp import AsppDecoder
from mtl.models.backbone import PVT_V2_NAMES, Backbone, Stages, check_divisible
from mtl.models.deploy_decoder import DeployAspp, DeployEdge, DeployHead
from mtl.models.deploy_pvt import DeployPvt
from mtl.models.deploy_pvt_bn import DeployBatchNormPvt
from mtl.models.edge import EdgeDecoder
from mtl.models.head_network import HeadNetwork
from mtl.models.model import MultiTaskModel, finish_maps
from mtl.models.pvt_variants import TokenBatchNorm
from mtl.models.sharing import TaskPart, TaskParts
from mtl.nested import tensors

__all__ = ["LARGEST_ERROR", "ROUNDING_FACTOR", "TOLERANCE", "DeployModel", "deploy", "relative_error"]

TOLERANCE = 1e-5
"""Relative error (L2 over a map) of the rewrite against the trained model that is never questioned."""

ROUNDING_FACTOR = 4.0
"""A larger error is compared with float64: it may be so many times what rounding does to the trained model itself."""

LARGEST_ERROR = 1e-3
"""Never more than this, however badly the weights round."""


class Normalise(nn.Module):
    """(image - mean) * scale per channel, for an image in 0..255; the identity when both are left to the first convolution.

    A mean is never folded into the convolution's bias: its padding is zero after the subtraction, not before.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...], *, scaled: bool) -> None:
        super().__init__()
        self.mean: Tensor | None
        self.scale: Tensor | None
        self.register_buffer("mean", 255.0 * torch.tensor(mean).reshape(1, 3, 1, 1) if any(mean) else None)
        self.register_buffer("scale", torch.tensor(input_scale(std)).reshape(1, 3, 1, 1) if scaled else None)

    def forward(self, image: Tensor) -> Tensor:
        if self.mean is not None:
            image = image - self.mean
        return image if self.scale is None else image * self.scale


def input_scale(std: tuple[float, ...]) -> list[float]:
    """Factors that take RGB in 0..255 to the model's units."""
    return [1.0 / (255.0 * value) for value in std]


class DeployPart(nn.Module):
    """The stages and the decoder of one task, rewritten; as `TaskPart`."""

    def __init__(self, part: TaskPart, height: int, width: int, std: tuple[float, ...]) -> None:
        super().__init__()
        self.first, self.reads = part.first, part.decoder.reads
        self.backbone = deploy_stages(part.backbone, height, width, std)
        self.decoder = deploy_decoder(part.decoder, height, width, part.backbone.strides[-1])

    def forward(self, shared: Mapping[int, Tensor]) -> dict[str, Any]:
        maps = {**shared, **dict(enumerate(self.backbone(shared[self.first - 1]), start=self.first))}
        return self.decoder([maps[level] for level in self.reads])


class DeployParts(nn.Module):
    """One `DeployPart` per task; as `TaskParts`."""

    def __init__(self, parts: TaskParts, height: int, width: int, std: tuple[float, ...]) -> None:
        super().__init__()
        self.reads = parts.reads
        self.parts = nn.ModuleDict({task: DeployPart(part, height, width, std) for task, part in parts.parts.items()})

    def forward(self, features: Sequence[Tensor]) -> dict[str, Any]:
        shared = dict(zip(self.reads, features, strict=True))
        return {task: part(shared)[task] for task, part in self.parts.items()}


def deploy_stages(stages: Backbone | Stages, height: int, width: int, std: tuple[float, ...]) -> nn.Module:
    """A backbone or a part of one for inference: PVT v2 rewritten, anything else as it is.

    A rewritten stage 0 takes RGB in 0..255 (less the mean), anything else what the trained one takes.
    """
    if stages.name not in PVT_V2_NAMES or (isinstance(stages, Stages) and stages.first == stages.last):
        return stages
    first, last = (stages.first, stages.last) if isinstance(stages, Stages) else (0, len(stages.strides))
    pvt: DeployPvt | DeployBatchNormPvt
    if any(isinstance(module, TokenBatchNorm) for module in stages.net.modules()):
        pvt = DeployBatchNormPvt(stages.net, first=first, last=last)
    else:
        pvt = DeployPvt(stages.net, height, width, strides=stages.strides, first=first, last=last)
    if first == 0:
        pvt.scale_image(input_scale(std))
    return pvt


def deploy_decoder(decoder: EdgeDecoder | AsppDecoder | HeadNetwork, height: int, width: int, stride: int) -> nn.Module:
    """A decoder of one or more tasks for inference; `stride` is that of the last stage."""
    if isinstance(decoder, HeadNetwork):
        return DeployHead(decoder)
    if isinstance(decoder, AsppDecoder):
        return DeployAspp(decoder, height, width, stride)
    return DeployEdge(decoder, height, width)


class DeployModel(nn.Module):
    """RGB in 0..255 to quarter-resolution maps, batch 1, one input size.

    Attributes:
        specs: the tasks, as the trained model's.
        size: (H, W) of the input.
    """

    def __init__(self, model: MultiTaskModel, height: int, width: int) -> None:
        super().__init__()
        self.specs, self.size = model.specs, (height, width)
        self.normalise = Normalise(model.mean, model.std, scaled=model.backbone.name not in PVT_V2_NAMES)
        self.reads, self.options = model.reads, model.options
        self.backbone = deploy_stages(model.backbone, height, width, model.std)
        self.decoder: nn.Module | None = None
        if isinstance(model.decoder, TaskParts):
            self.decoder = DeployParts(model.decoder, height, width, model.std)
        elif model.decoder is not None:
            self.decoder = deploy_decoder(model.decoder, height, width, model.backbone.strides[-1])
        self.decoder_reads = () if model.decoder is None else model.decoder.reads
        self.heads = nn.ModuleDict({task: DeployHead(head) for task, head in model.heads.items()})

    def forward(self, image: Tensor) -> dict[str, Any]:
        """(1, 3, H, W) float RGB in 0..255 -> what `MultiTaskModel.quarter_maps` gives for (image / 255 - mean) / std."""
        image = self.normalise(image)
        stages = self.backbone(image)
        maps = {level: stages[level] if level >= 0 else image for level in self.reads}
        raw: dict[str, Any] = {} if self.decoder is None else self.decoder([maps[level] for level in self.decoder_reads])
        for head in self.heads.values():
            raw |= head([maps[level] for level in head.reads])
        return finish_maps(raw, self.specs, self.options)


def deploy(model: MultiTaskModel, *, height: int, width: int) -> DeployModel:
    """Rewrite a trained model for one input size.

    Args:
        model: in any mode; it is copied, never changed.
        height, width: multiples of 32.
    Raises:
        BuildError: a size that is not a multiple of 32, or a result that differs from the model's on a noise image by more
            than rounding explains (the number is in the message).
    """
    check_divisible((height, width), by=32)
    trained = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    rewritten = DeployModel(copy.deepcopy(trained), height, width).eval().requires_grad_(False)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255.0
    with torch.inference_mode():
        expected, found = trained.quarter_maps(trained.normalise(image)), rewritten(image)
    errors = {task: relative_error(found[task], expected[task]) for task in trained.tasks}
    if not max(errors.values()) <= TOLERANCE:
        _check_rounding(trained, image, expected, found)
    return rewritten


def _check_rounding(trained: MultiTaskModel, image: Tensor, expected: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise BuildError unless `found` is about as near to the exact answer as `expected`, the trained model's in float32.

    The exact answer is the trained model's in float64: what separates the trained model from it is rounding alone.
    """
    exactly = copy.deepcopy(trained).double()
    with torch.inference_mode():
        exact = exactly.quarter_maps(exactly.normalise(image.double()))
    for task in trained.tasks:
        error, rounding = relative_error(found[task], exact[task]), relative_error(expected[task], exact[task])
        limit = min(max(TOLERANCE, ROUNDING_FACTOR * rounding), LARGEST_ERROR)
        if not error <= limit:
            raise BuildError(
                f"{task} in the optimized ONNX of {trained.backbone.name} is off by {error:.1e}: expected <= {limit:.0e}. "
                "Check the weights for values that are not finite"
            )


def relative_error(found: Any, expected: Any) -> float:
    """|found - expected| / |expected| in the Euclidean norm of the whole map; of several tensors, that of the worst.

    A tensor that is 0 throughout, as it should be, is not off.
    """
    pairs = list(zip(tensors(found), tensors(expected), strict=True))
    off = torch.stack([torch.linalg.vector_norm((one - other).double()) for one, other in pairs])
    norms = torch.stack([torch.linalg.vector_norm(other.double()) for _, other in pairs])
    return float(torch.where(off == 0, 0.0, off / norms).max().detach())
