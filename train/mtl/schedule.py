"""The learning rate by step: linear warm-up, then a cosine. Knows nothing about optimisers."""

from __future__ import annotations

import math

from mtl.settings import OptimizerSettings

__all__ = ["learning_rate"]


def learning_rate(step: int, *, steps: int, settings: OptimizerSettings) -> float:
    """Rate of step number `step` (from 0) of `steps`."""
    warm = max(1, round(settings.warmup * steps))
    if step < warm:
        return settings.lr * (step + 1) / warm
    done = min(1.0, (step - warm) / max(1, steps - warm))
    share = settings.floor + (1.0 - settings.floor) * 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.lr * share
