"""The gradient methods whose solvers are TorchJD's (Quinton & Rey 2024, arXiv:2406.16232). Knows Gramians only.

- pcgrad: each gradient projected off those it conflicts with, in random order (Yu et al. 2020, arXiv:2001.06782)
- cagrad: the best worst task within c |g| of the mean gradient g (Liu et al. 2021, arXiv:2110.14048), c = 0.4 as in LibMTL
- imtl_g: equal projections on all gradients (Liu et al. 2021, ICLR, "Towards Impartial Multi-task Learning")
- mgda: the shortest convex combination (Desideri 2012; Sener & Koltun 2018, arXiv:1810.04650)
- aligned_mtl: principal components of equal length (Senushkin et al. 2023, CVPR)
- upgrad: every gradient projected onto the dual cone of all, then added (Quinton & Rey 2024)

TorchJD gives sums for pcgrad and means for the others; here all are sums: tasks that do not conflict and have gradients of
one length weigh 1 with every method but cagrad, which adds to the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from mtl.settings import LossSettings
from mtl.weighting.base import WeightingError
from mtl.weighting.gradient_weighting import GradientWeighting
from mtl.weighting.rlw import draw_seed

__all__ = ["METHODS", "PcGrad", "TorchJdWeighting"]

Solver = Callable[[Tensor], Tensor]

CAGRAD_C = 0.4


@dataclass(frozen=True, slots=True)
class _Method:
    """How to make a solver out of `torchjd.aggregation`, and the extra of TorchJD that it needs ("" for none)."""

    make: Callable[[Any], Solver]
    extra: str = ""


METHODS: Mapping[str, _Method] = {
    "cagrad": _Method(lambda torchjd: torchjd.CAGradWeighting(c=CAGRAD_C), "cagrad"),
    "imtl_g": _Method(lambda torchjd: torchjd.IMTLGWeighting()),
    "mgda": _Method(lambda torchjd: torchjd.MGDAWeighting()),
    "aligned_mtl": _Method(lambda torchjd: torchjd.AlignedMTLWeighting()),
    "upgrad": _Method(lambda torchjd: torchjd.UPGradWeighting(), "quadprog-projector"),
}
"""The methods without a state."""


def _load(name: str, make: Callable[[Any], Any], *, extra: str = "") -> Any:
    """What `make` makes of the module `torchjd.aggregation`. Raises WeightingError if a package is missing."""
    try:
        return make(import_module("torchjd.aggregation"))
    except (ImportError, AttributeError) as exc:
        package = f"torchjd[{extra}]" if extra else "torchjd"
        line = str(exc).strip().splitlines()[0]
        raise WeightingError(
            f'losses.weighting {name!r} needs a package that is missing ({line}). Install it with: pip install "{package}"'
        ) from exc


class TorchJdWeighting(GradientWeighting):
    """A method of `METHODS`."""

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str]) -> None:
        super().__init__(settings, tasks=tasks)
        method = METHODS[settings.weighting]
        self._solver = _load(settings.weighting, method.make, extra=method.extra)

    def solve(self, products: Tensor) -> Tensor:
        return len(products) * self._solver(products)


class PcGrad(GradientWeighting):
    """PCGrad, with an order of projections that is the same on every rank and after every resume.

    Attributes:
        draws: number of batches so far, of which the order is a function.
    """

    draws: Tensor

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str], seed: int = 0) -> None:
        super().__init__(settings, tasks=tasks)
        self._solver = _load("pcgrad", lambda torchjd: torchjd.PCGradWeighting())
        self._seed = seed
        self.register_buffer("draws", torch.zeros((), dtype=torch.int64))

    def solve(self, products: Tensor) -> Tensor:
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(draw_seed(self._seed, int(self.draws)))
        self.draws += 1
        try:
            return self._solver(products)
        finally:
            torch.set_rng_state(before)
