"""Random loss weighting: the control experiment of every method (Lin et al. 2022, arXiv:2111.10603, algorithm 2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mtl.settings import LossSettings
from mtl.weighting.base import LossWeighting

__all__ = ["RandomWeighting", "draw_seed"]


def draw_seed(seed: int, draw: int) -> int:
    """Seed of draw number `draw` of a run with `seed`: 32 bits, all that PyTorch's generator on the CPU looks at."""
    return int(np.random.SeedSequence([seed, draw]).generate_state(1)[0])


class RandomWeighting(LossWeighting):
    """Weights K softmax(z) with z drawn from the normal distribution again for every batch.

    The paper's weights sum to 1; these sum to K, the number of tasks, as those of equal weighting do.

    Attributes:
        draws: number of draws so far; draw n of a seed is the same on every rank and after every resume.
    """

    draws: Tensor

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(settings, tasks=tasks)
        self._seed = seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def weights(self, values: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(draw_seed(self._seed, int(self.draws)))
        self.draws += 1
        return len(self.tasks) * torch.softmax(torch.randn(len(self.tasks), generator=generator), dim=0)
