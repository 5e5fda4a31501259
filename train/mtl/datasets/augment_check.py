"""What cannot work in the settings of augmentation, said before anything is trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from edge_mtl.errors import BuildError
from mtl.datasets.sources import data_tasks

if TYPE_CHECKING:
    from mtl.settings import RunSettings

__all__ = ["augment_problem"]

_SHARES = ("grey", "jpeg", "erase", "mix")


def augment_problem(settings: RunSettings) -> str | None:
    """The first of them, for an error message; None where all is well."""
    augment = settings.augment
    for name in _SHARES:
        value = getattr(augment, name)
        if not 0 <= value <= 1:
            return f"augment.{name} is a probability, 0 to 1, found {value}"
    if not (math.isfinite(augment.shot_noise) and augment.shot_noise >= 0):
        return f"augment.shot_noise should be 0 or more, found {augment.shot_noise}"
    low, high = augment.jpeg_quality
    if not 1 <= low <= high <= 100:
        return f"augment.jpeg_quality should rise within 1 to 100, found {list(augment.jpeg_quality)}"
    used = next((name for name in (*_SHARES, "shot_noise") if getattr(augment, name) > 0), None)
    if used is not None and augment.mode != "consistent":
        return f'augment.{used} goes with augment.mode "consistent", found {augment.mode!r}'
    if augment.mix <= 0:
        return None
    small = next((index for index, stage in enumerate(settings.stages) if stage.batch < 2), None)
    if small is not None:
        return f"augment.mix pastes from another frame of the batch: stages.{small}.batch should be 2 or more"
    return _cannot_be_mixed(settings)


def _cannot_be_mixed(settings: RunSettings) -> str | None:
    from mtl.tasks import Head, head_of  # with torch, which reading settings alone does without

    try:
        specs = data_tasks(settings.data)
    except BuildError as exc:
        return str(exc)
    for task, spec in specs.items():
        head = head_of(spec)
        if type(head).pasted is Head.pasted:
            return f"augment.mix: {task} is of the kind {spec.kind}, whose truths cannot be pasted. Set it to 0"
    return None
