"""A moving average of a model's weights and statistics. Knows nothing about training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

__all__ = ["Ema"]


class Ema:
    """A copy of a model that follows it slowly; early on it follows faster, so that it is never far behind.

    Attributes:
        model: the averaged copy, in evaluation mode, without gradients.
    """

    def __init__(self, model: nn.Module, *, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self._followed: nn.Module | None = None
        self._pairs: tuple[list[Tensor], list[Tensor], list[tuple[Tensor, Tensor]]] = ([], [], [])

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards `model` after step number `step` (from 0)."""
        decay = min(self._decay, (1 + step) / (10 + step))
        if model is not self._followed:
            self._follow(model)
        average, current, counters = self._pairs
        torch._foreach_lerp_(average, current, 1.0 - decay)
        for own, other in counters:
            own.copy_(other)

    def _follow(self, model: nn.Module) -> None:
        """Pair the tensors of both models; they stay the same objects, and collecting them costs more than the update."""
        own, other = self.model.state_dict(), model.state_dict()
        floating = [name for name, value in own.items() if value.is_floating_point()]
        counters = [(value, other[name]) for name, value in own.items() if name not in set(floating)]
        self._pairs = ([own[name] for name in floating], [other[name] for name in floating], counters)
        self._followed = model
