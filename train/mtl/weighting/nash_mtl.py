"""Nash-MTL: the gradients bargain for a common direction (Navon et al. 2022, arXiv:2202.01017). Knows Gramians only."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.weighting.gradient_weighting import GradientWeighting

__all__ = ["NashMtl"]

_REGULAR = 1e-6
_TOLERANCE = 1e-10
_MOST_STEPS = 500


class NashMtl(GradientWeighting):
    """Weights a > 0 that solve G a = 1 / a for the Gramian G (the paper's claim 3.1).

    They are where 1/2 a G a - sum(ln a), a self-concordant function, is least. The paper linearises the problem for a
    convex solver instead; Newton's method finds the same weights from nothing but the batch, without a state and without
    a package. Where a convex combination of the gradients is 0 there are no finite weights; a millionth of the square of
    each length on the diagonal of G bounds them. The combined gradient always has the length sqrt(k), in root mean
    squares of the gradients' lengths: the paper's clipping of its norm would only rescale it.
    """

    def solve(self, products: Tensor) -> Tensor:
        lengths = products.diagonal().sqrt()
        matrix = products / torch.outer(lengths, lengths) + _REGULAR * torch.eye(len(products), dtype=products.dtype)
        weights = torch.ones_like(lengths)  # of unit gradients: the bargain does not see lengths
        for _ in range(_MOST_STEPS):
            slope = matrix @ weights - 1.0 / weights
            step = torch.linalg.solve(matrix + torch.diag(weights**-2), slope)
            decrement = float((slope @ step).clamp_min(0.0).sqrt())
            weights = weights - step / (1.0 + decrement)  # never leaves the positive weights
            if decrement < _TOLERANCE:
                return weights / lengths
        raise ArithmeticError(f"no bargain after {_MOST_STEPS} steps, Newton decrement {decrement:.3g}")
