"""Batches in parts: cutting them, and what each part's losses count for so that their mean is the loss of the whole batch.

A loss is a mean over all that has truth, and parts have different amounts of that. With n parts, c_i such pixels in part i and
L_i the mean over them, the loss of the whole is mean_i(f_i L_i) with f_i = n c_i / sum(c).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mtl.datasets.frame import Batch
from mtl.nested import mapped

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

    def moved(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return replace(batch, image=moved(batch.image), targets=mapped(batch.targets, moved))


def part_factors(own: Tensor, total: Tensor, *, parts: int) -> Tensor:
    """(tasks,) float32: what the losses of a part are multiplied by; 0 where no part has any truth."""
    return torch.where(total > 0, parts * own / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0).float()
