"""A run by its steps: passes over the training frames, and the learning rate (linear warm-up, then a cosine, a staircase or
flat)."""

from __future__ import annotations

import math

from mtl.datasets.sources import data_set
from mtl.settings import OptimizerSettings, RunSettings

__all__ = ["ends_pass", "learning_rate", "passes_at", "steps_per_pass"]

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


def steps_per_pass(settings: RunSettings, index: int) -> int:
    """Steps of stage `index` that see every training frame once, but for a rest smaller than a batch."""
    stage, data = settings.stages[index], settings.data
    return max(1, (stage.train or data_set(data).train_count(data)) // stage.batch)


def ends_pass(settings: RunSettings, step: int) -> bool:
    """Whether the training frames have been seen once more after step number `step` (from 0)."""
    index = settings.stage_at(step)
    return (step + 1 - settings.start_of(index)) % steps_per_pass(settings, index) == 0


def passes_at(settings: RunSettings, step: int) -> float:
    """How often the training frames have been seen before step number `step` (from 0)."""
    last = settings.stage_at(step)
    whole = sum(settings.stages[index].steps / steps_per_pass(settings, index) for index in range(last))
    return whole + (step - settings.start_of(last)) / steps_per_pass(settings, last)
