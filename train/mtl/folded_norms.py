"""Batch norms that were multiplied into the convolutions before them, and what they need to be trained again.

Such a norm passes its input on as it is. Training replaces its statistics by those of the batch, and the answers change at
once; with the statistics of real frames, and a scale and a shift that undo them, they hardly do. Knows layers, no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtl.models import MultiTaskModel

__all__ = ["folded_norms", "restore_statistics"]

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_NEAR_1 = 1e-4


def folded_norms(model: nn.Module) -> list[str]:
    """Names of the batch norms whose statistics are those of no input: mean 0 and variance 1 in every channel."""
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, _NORMS)
        and layer.running_mean is not None
        and not bool(layer.running_mean.any())
        and bool(((layer.running_var - 1.0).abs() < _NEAR_1).all())
    ]


def restore_statistics(model: MultiTaskModel, names: Iterable[str], images: Iterable[np.ndarray]) -> None:
    """Give batch norms the mean and the variance of their input; the answers in evaluation stay, but for rounding.

    Args:
        model: in evaluation mode.
        names: of the norms; those that no image reaches stay as they are.
        images: (H, W, 3) uint8 RGB, sides in multiples of 32.
    """
    norms = {name: model.get_submodule(name) for name in names}
    sums: dict[str, tuple[Tensor, Tensor, int]] = {}

    def seen(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0].double().transpose(0, 1).flatten(1)
            total, squares, count = sums.get(name, (0.0, 0.0, 0))
            sums[name] = (total + x.sum(dim=1), squares + (x * x).sum(dim=1), count + x.shape[1])

        return hook

    hooks = [norm.register_forward_pre_hook(seen(name)) for name, norm in norms.items()]
    try:
        with torch.no_grad():
            for image in images:
                pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
                model.quarter_maps(model.normalise(pixels))
    finally:
        for one in hooks:
            one.remove()
    _give(norms, sums)


@torch.no_grad()
def _give(norms: Mapping[str, Any], sums: Mapping[str, tuple[Tensor, Tensor, int]]) -> None:
    for name, (total, squares, count) in sums.items():
        norm = norms[name]
        factor = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - factor * norm.running_mean.double()
        mean = total / count
        norm.running_mean.copy_(mean)
        norm.running_var.copy_((squares / count - mean * mean).clamp_min(0.0))
        norm.weight.copy_(factor * (norm.running_var.double() + norm.eps).sqrt())
        norm.bias.copy_(shift + factor * norm.running_mean.double())
