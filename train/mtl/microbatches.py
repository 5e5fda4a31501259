"""Batches in parts: cutting them, and what each part's losses count for so that their mean is the loss of the whole batch.

Knows where truth is in a frame's targets; knows nothing about losses, models or processes.

A loss is a mean over the pixels that have truth, and parts have different numbers of those. With n parts, c_i such pixels
in part i and L_i the mean over them, the loss of the whole is mean_i(f_i L_i) with f_i = n c_i / sum(c).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION, VOID
from mtl.datasets.frame import Batch

__all__ = ["part_factors", "split", "truth_counts"]


def split(batch: Batch, parts: int) -> list[Batch]:
    """A batch in equal parts, in order; `parts` divides its size."""
    if parts == 1:
        return [batch]
    size = batch.image.shape[0] // parts
    images = batch.image.split(size)
    targets = {task: value.split(size) for task, value in batch.targets.items()}
    return [
        Batch(image, {task: values[index] for task, values in targets.items()}, batch.phase)
        for index, image in enumerate(images)
    ]


def truth_counts(
    targets: Mapping[str, Tensor], tasks: Sequence[str], *, class_weights: Tensor | None = None, normal_kind: str = "cosine"
) -> Tensor:
    """(tasks,) float64: pixels with truth of each task, as its loss counts them.

    Args:
        targets: as in `Batch`.
        class_weights: (13,) of the cross-entropy, which weighs pixels by them.
        normal_kind: as in `LossSettings`.
    """
    counts = []
    for task in tasks:
        truth = targets[task]
        if task == SEGMENTATION:
            weights = torch.ones(VOID + 1, device=truth.device)
            if class_weights is not None:
                weights[: len(class_weights)] = class_weights
            weights[VOID] = 0.0
            counts.append(weights[truth.long()].sum(dtype=torch.float64))
        elif task == DEPTH:
            counts.append((truth > 0).sum(dtype=torch.float64))
        elif task == NORMALS:
            known = (truth != 0).any(dim=-1) if normal_kind == "dot" else (truth * truth).sum(dim=-1) > 0.25
            counts.append(known.sum(dtype=torch.float64))
    return torch.stack(counts)


def part_factors(own: Tensor, total: Tensor, *, parts: int) -> Tensor:
    """(tasks,) float32: what the losses of a part are multiplied by; 0 where no part has any truth."""
    return torch.where(total > 0, parts * own / total.clamp_min(torch.finfo(torch.float64).tiny), 0.0).float()
