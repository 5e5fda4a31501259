"""From the name of a weighting method to the method. Knows which there are; knows nothing about how they work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from mtl.settings import LossSettings
from mtl.weighting.base import Weighting, WeightingError
from mtl.weighting.dwa import DynamicWeightAverage
from mtl.weighting.famo import Famo
from mtl.weighting.fixed import Fixed
from mtl.weighting.gls import GeometricMean
from mtl.weighting.nash_mtl import NashMtl
from mtl.weighting.rlw import RandomWeighting
from mtl.weighting.torchjd_methods import METHODS, PcGrad, TorchJdWeighting
from mtl.weighting.uncertainty import Uncertainty

__all__ = ["make_weighting"]

_KINDS: Mapping[str, Callable[..., Weighting]] = {
    "fixed": Fixed,
    "uncertainty": Uncertainty,
    "dwa": DynamicWeightAverage,
    "gls": GeometricMean,
    "famo": Famo,
    "nash_mtl": NashMtl,
    **dict.fromkeys(METHODS, TorchJdWeighting),
}
_DRAWING: Mapping[str, Callable[..., Weighting]] = {"rlw": RandomWeighting, "pcgrad": PcGrad}


def make_weighting(settings: LossSettings, *, tasks: Sequence[str], seed: int = 0) -> Weighting:
    """The method that `settings.weighting` names.

    Args:
        tasks: of the model, in its order, which is that of the method's state. A single task leaves nothing to weigh: it
            gets "fixed" whatever is named.
        seed: of the methods that draw random numbers.
    Raises:
        WeightingError: a package that the method needs is not installed.
    """
    name = settings.weighting if len(tasks) > 1 else "fixed"
    if name in _DRAWING:
        return _DRAWING[name](settings, tasks=tasks, seed=seed)
    if name in _KINDS:
        return _KINDS[name](settings, tasks=tasks)
    raise WeightingError(f"losses.weighting is {name!r}: expected one of {', '.join([*_KINDS, *_DRAWING])}")
