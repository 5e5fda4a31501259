"""What every method that reads the tasks' gradients shares: one Gramian in, one backward pass out. Knows no method."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.settings import LossSettings
from mtl.weighting.base import Weighting, WeightingError, WeightingReport
from mtl.weighting.gradients import backward_to, encoder_backward, gramian
from mtl.weighting.ranks import from_first_rank

__all__ = ["GradientWeighting"]

_MOST_UNSOLVED = 100
_NO_GRADIENT = 1e-24


class GradientWeighting(Weighting):
    """Weighs the tasks' gradients on the shared representation; subclasses say how in `solve`.

    The shared encoder gets the weighted gradients and each task's own part the plain gradient of its loss, as in the
    papers: a weight of 0 or below would otherwise stop or reverse the training of a decoder. What the decoder shares
    among the tasks behind the representation counts as the tasks' own.

    A task without a loss or gradient (a batch without any truth of it) gets weight 0 for that batch. Where a solver fails, the
    weights of the last batch are used again.

    Attributes:
        last: (tasks,) float64 weights of the last batch; all 1 before the first.
        unsolved: for how many batches in a row the solver has failed.
    """

    needs_features = True
    last: Tensor
    unsolved: Tensor

    def __init__(self, settings: LossSettings, *, tasks: Sequence[str]) -> None:
        super().__init__(settings, tasks=tasks)
        self.register_buffer("last", torch.ones(len(self.tasks), dtype=torch.float64))
        self.register_buffer("unsolved", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def solve(self, products: Tensor) -> Tensor:
        """Gramian (k, k) float64 on the CPU, mean of the diagonal 1 -> weights (k,). May raise what its solver raises."""

    def backward(self, losses: Mapping[str, Tensor], features: Sequence[Tensor] = (), *, share: float = 1.0) -> WeightingReport:
        known = [number for number, task in enumerate(self.tasks) if task in losses]
        scaled = [losses[self.tasks[number]] * float(self.scale[number]) for number in known]
        gradients = backward_to(features, scaled, share=share)
        values = torch.stack([loss.detach().float() for loss in scaled])
        weights = from_first_rank(self._weights(gramian(gradients), known).to(values))
        self.last[known] = weights.to(self.last)
        encoder_backward(features, gradients, (weights * share).tolist())
        every = values.new_zeros(len(self.tasks))
        every[known] = weights
        return self.report((weights * values).sum(), every)

    def _weights(self, products: Tensor, known: Sequence[int] | None = None) -> Tensor:
        """(k,) float64 on the CPU, from the Gramian (k, k) as it is of the tasks `known` by number, of all by default."""
        lengths = products.diagonal()
        last = self.last.cpu() if known is None else self.last.cpu()[list(known)]
        if not bool(torch.isfinite(products).all()):
            return last  # the gradients that follow are not finite either, and the loop skips the step
        active = lengths > _NO_GRADIENT * lengths.max()
        if not bool(active.any()):
            return last
        chosen = products[active][:, active]
        try:
            solved = self.solve(chosen / chosen.diagonal().mean()).double()
            fine = bool(torch.isfinite(solved).all())
            problem = f"weights {solved.tolist()}"
        except Exception as exc:  # solvers have errors of many kinds
            fine, problem = False, (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        if not fine:
            self.unsolved += 1
            if int(self.unsolved) >= _MOST_UNSOLVED:
                raise WeightingError(
                    f"losses.weighting {self._settings.weighting!r} found no weights for {int(self.unsolved)} batches in a "
                    f"row ({problem}). Use another one, for example --losses.weighting mgda"
                )
            return last
        self.unsolved.zero_()
        return torch.zeros_like(last).masked_scatter(active, solved)
