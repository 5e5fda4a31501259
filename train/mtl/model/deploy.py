"""The trained model rewritten for speed, with the same outputs. Knows nothing about ONNX.

What is rewritten is told in `deploy_pvt` and `deploy_decoder`. Here the input normalisation joins the first convolution, and
the result is compared with the trained model before anyone may use it.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from edge_mtl.errors import BuildError
from mtl.model.aspp import AsppDecoder
from mtl.model.backbone import PVT_V2_NAMES, check_divisible
from mtl.model.deploy_decoder import DeployAspp, DeployEdge
from mtl.model.deploy_pvt import DeployPvt
from mtl.model.model import MultiTaskModel, finish_maps

__all__ = ["TOLERANCE", "DeployModel", "deploy", "relative_error"]

TOLERANCE = 1e-5
"""Largest relative error (L2 over a map) of the rewrite against the trained model."""


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


class DeployModel(nn.Module):
    """RGB in 0..255 to quarter-resolution maps, batch 1, one input size.

    Attributes:
        tasks: names of the tasks, as the trained model's.
        size: (H, W) of the input.
    """

    def __init__(self, model: MultiTaskModel, height: int, width: int) -> None:
        super().__init__()
        self.tasks, self.size = model.tasks, (height, width)
        rewritten = model.backbone.name in PVT_V2_NAMES
        self.normalise = Normalise(model.mean, model.std, scaled=not rewritten)
        self.backbone: nn.Module = model.backbone
        if rewritten:
            pvt = DeployPvt(model.backbone.net, height, width)
            pvt.scale_image(input_scale(model.std))
            self.backbone = pvt
        self.decoder: nn.Module
        if isinstance(model.decoder, AsppDecoder):
            self.decoder = DeployAspp(model.decoder, height, width, model.backbone.strides[-1])
        else:
            self.decoder = DeployEdge(model.decoder)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """(1, 3, H, W) float RGB in 0..255 -> what `MultiTaskModel.quarter_maps` gives for (image / 255 - mean) / std."""
        return finish_maps(self.decoder(self.backbone(self.normalise(image))))


def deploy(model: MultiTaskModel, *, height: int, width: int) -> DeployModel:
    """Rewrite a trained model for one input size.

    Args:
        model: in any mode; it is copied, never changed.
        height, width: multiples of 32.
    Raises:
        BuildError: a size that is not a multiple of 32, or a result that differs from the model's by more than
            `TOLERANCE` on a noise image (the number is in the message).
    """
    check_divisible((height, width), by=32)
    trained = copy.deepcopy(model).float().cpu().eval().requires_grad_(False)
    rewritten = DeployModel(copy.deepcopy(trained), height, width).eval().requires_grad_(False)
    image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255.0
    with torch.inference_mode():
        expected, found = trained.quarter_maps(trained.normalise(image)), rewritten(image)
    worst = max(relative_error(found[task], expected[task]) for task in trained.tasks)
    if not worst <= TOLERANCE:
        raise BuildError(
            f"the deploy graph of {model.backbone.name} is off by {worst:.1e}: expected <= {TOLERANCE:.0e}. "
            "Check the weights for values that are not finite"
        )
    return rewritten


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected| in the Euclidean norm of the whole map."""
    return float(torch.linalg.vector_norm((found - expected).double()) / torch.linalg.vector_norm(expected.double()))
