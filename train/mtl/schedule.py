"""The learning rate by step: linear warm-up, then a cosine, a staircase or a plain. Knows nothing about optimisers."""

from __future__ import annotations

import math

from mtl.settings import OptimizerSettings

__all__ = ["learning_rate"]

_PASSES_PER_STAIR = 100
_STAIR = 0.5


def learning_rate(step: int, *, steps: int, settings: OptimizerSettings, passes: float = 0.0) -> float:
    """Rate of step number `step` (from 0) of `steps`.

    Args:
        passes: how often the training frames have been seen before this step; what the staircase counts.
    """
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "step":
        return settings.lr * _STAIR ** int(passes / _PASSES_PER_STAIR)
    done = min(1.0, (step - warm) / max(1, steps - warm))
    share = settings.floor + (1.0 - settings.floor) * 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.lr * share
