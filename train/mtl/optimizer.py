"""The optimiser of a run, from its settings: what decays and what does not."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mtl.settings import OptimizerSettings

__all__ = ["make_optimizer"]


def make_optimizer(
    parameters: Iterable[nn.Parameter], settings: OptimizerSettings, *, never_decayed: Iterable[nn.Parameter] = ()
) -> torch.optim.Optimizer:
    """AdamW decays matrices and kernels, not biases and norms; Adam decays all.

    Args:
        parameters: of networks; those without a gradient are left out.
        never_decayed: others that are learnt with them, such as weights of losses.
    """
    decayed: list[Tensor] = []
    plain: list[Tensor] = list(never_decayed)
    for parameter in parameters:
        if parameter.requires_grad:
            (decayed if parameter.ndim > 1 or settings.name == "adam" else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=settings.lr, betas=settings.betas, fused=True)
