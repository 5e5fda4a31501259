"""Batches in parts: cutting them, and what each part's losses count for so that their mean is the loss of the whole batch.

A loss is a mean over all that has truth, and parts have different amounts of that. With n parts, c_i such pixels in part i and
L_i the mean over them, the loss of the whole is mean_i(f_i L_i) with f_i = n c_i / sum(c).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mtl.datasets.frame import Batch

__all__ = ["on_device", "part_factors", "split"]


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in equal parts, in order; `parts` divides its size."""
    if parts == 1:
        return [batch]
    size = batch.image.shape[0] // parts
    cuts = [slice(first, first + size) for first in range(0, parts * size, size)]
    return [
        replace(batch, image=batch.image[cut], targets={task: target[cut] for task, target in batch.targets.items()})
        for cut in cuts
    ]


def on_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the network is."""
    if device.type == "cpu":
        return batch
    return replace(batch, image=_moved(batch.image, device), targets=_moved(batch.targets, device))


def part_factors(own: Tensor, total: Tensor, *, parts: int) -> Tensor:
    """(tasks,) float32: what the losses of a part are multiplied by; 0 where no part has any truth."""
    return torch.where(total > 0, parts * own / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0).float()


def _moved(value: Any, device: torch.device) -> Any:
    """A tensor, or a list or mapping of such, on a device."""
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, Mapping):
        return {key: _moved(one, device) for key, one in value.items()}
    return [_moved(one, device) for one in value]
