"""From the settings that trained a network to those that fine-tune it for integers. Knows settings only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from mtl.config import ConfigError
from mtl.settings import DistillSettings, RunSettings

__all__ = ["for_qat"]

_BEST = "best.safetensors"


def for_qat(settings: RunSettings, *, given: Collection[str] = ()) -> RunSettings:
    """The fine-tuning run that belongs to the run `settings` describe.

    It begins with that run's best weights, has a name of its own, trains at the size of the last stage only, because a
    optimized ONNX has one size, and in float32: bfloat16 has fewer digits than an eight-bit step needs. Its teacher is the
    network that it began with (`qat.teacher`), not those of `distill`.

    Args:
        given: keys that a person set on the command line; these stay.
    Raises:
        ConfigError: values that cannot work.
    """
    qat, last = settings.qat, settings.stages[-1]
    if qat.steps < 1 or qat.calibration < 1 or not qat.lr > 0:
        raise ConfigError(
            "qat.steps and qat.calibration should be 1 or more and qat.lr above 0, "
            f"found {qat.steps}, {qat.calibration} and {qat.lr:g}"
        )
    if not 0.0 <= qat.teacher <= 1.0:
        raise ConfigError(f"qat.teacher should be from 0 (labels only) to 1 (no labels), found {qat.teacher:g}")
    first = settings.model.init if "model.init" in given else str(Path(settings.folder) / settings.name / _BEST)
    return replace(
        settings,
        name=settings.name if "name" in given else f"{settings.name}-qat",
        stages=(replace(last, steps=qat.steps, epochs=0),),
        model=replace(settings.model, init=first, init_part="all", pretrained="", drop_path=0.0),
        optimizer=replace(settings.optimizer, lr=settings.optimizer.lr if "optimizer.lr" in given else qat.lr),
        loop=replace(settings.loop, precision="fp32", compile=False),
        qat=replace(qat, enabled=True),
        distill=DistillSettings(),
    )
