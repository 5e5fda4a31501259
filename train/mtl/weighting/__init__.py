"""Weighting of task losses: how several losses become one gradient."""

from mtl.weighting.base import Weighting, WeightingError, WeightingReport
from mtl.weighting.gradients import gradient_cosines, tapped
from mtl.weighting.make import make_weighting

__all__ = ["Weighting", "WeightingError", "WeightingReport", "gradient_cosines", "make_weighting", "tapped"]
