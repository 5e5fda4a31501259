"""How often each class occurs in the training frames, and the weights that follow. Knows frames; knows no losses."""

from __future__ import annotations

import numpy as np
import torch

from edge_mtl.tasks import SEGMENTATION, TASKS
from mtl.datasets.frame import FrameSource

__all__ = ["class_weights"]

_FRAMES = 400
_RAREST = 1e-3


def class_weights(frames: FrameSource) -> torch.Tensor:
    """(13,) float32: the inverse root of each class's share of the pixels, 1 for a pixel on average.

    Every other pixel of about 400 frames is counted; a share below 0.001 counts as that.
    """
    counts = np.zeros(256, np.int64)
    for index in range(0, len(frames), max(1, len(frames) // _FRAMES)):
        counts += np.bincount(frames[index].label[::2, ::2].ravel(), minlength=256)
    counts = counts[: TASKS[SEGMENTATION].channels]
    share = counts / max(1, counts.sum())
    weights = 1.0 / np.sqrt(np.maximum(share, _RAREST))
    return torch.tensor(weights / (weights * share).sum(), dtype=torch.float32)
