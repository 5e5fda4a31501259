"""Recording calibration statistics: all that the package's recipes take from frames, and what most others would.

One pass looks at every activation that some placement quantizes, with the scales of the package's recipes and with none.
A recipe of the package whose own pass gives other bits, because a runtime fuses other operators where fewer tensors are
looked at, is recorded besides: INT8 from the record is the same graph as from the frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edge_mtl.backends import qdq_styles
from edge_mtl.errors import CalibrationError
from edge_mtl.files import sha256_bytes
from edge_mtl.onnx_graph.model import parse
from edge_mtl.quantization.learned import read_learned
from edge_mtl.quantization.observation import Progress, observe_activations, request_of
from edge_mtl.quantization.recipes import TENSORRT_INT8, CrossLayerEqualization, Placement, Recipe, load_recipe
from edge_mtl.quantization.recorded import Recorded, RecordedPass
from edge_mtl.quantization.statistics import Observed, TensorStatistics

__all__ = ["record"]

Array = np.ndarray


def record(
    deploy_model: bytes,
    frames: Sequence[Array],
    *,
    fingerprints: Array,
    recipes: Sequence[Recipe] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Recorded:
    """What to write down of `frames` for the float graph `deploy_model`.

    Args:
        frames: (H, W, 3) uint8 RGB of the network's size, in the order in which they would be calibrated with.
        fingerprints: (N, B) uint8, one row a frame, see `Recorded`.
        recipes: whose graphs are to be the same as from the frames; those of the package when not given.
        threads: of ONNX Runtime; its default when None.
        progress: called with ("record", passes done, passes in all).
    Raises:
        CalibrationError: no frames, or an activation that is not finite.
        BuildError, BackendUnavailable: as `observe_activations` does.
    """
    if not frames:
        raise CalibrationError("There are no calibration frames to record statistics of.")
    own = list(recipes) if recipes is not None else [load_recipe(), load_recipe(TENSORRT_INT8)]
    learned = read_learned(parse(deploy_model, name="the optimized ONNX"))
    ways = dict.fromkeys((*(recipe.equalisation for recipe in own), CrossLayerEqualization(enabled=False)))
    if learned is not None:  # its scales stay as they were learnt
        own.append(learned.recipe)
        ways = dict.fromkeys((CrossLayerEqualization(enabled=False),))
    asked = [_every_placement(own, way) for way in ways] + [[recipe] for recipe in own]
    passes: list[RecordedPass] = []
    for number, together in enumerate(asked):
        request = request_of(deploy_model, together)
        observed = observe_activations(deploy_model, frames, recipes=together, threads=threads)
        if request.tensors and not any(one.answers(request) and _alike(observed, one.observed) for one in passes):
            passes.append(RecordedPass(request, observed))
        if progress is not None:
            progress("record", number + 1, len(asked))
    pixels = [np.ascontiguousarray(frame).tobytes() for frame in frames]
    return Recorded(sha256_bytes(b"".join(pixels)), tuple(map(sha256_bytes, pixels)), fingerprints, tuple(passes))


def _every_placement(recipes: Sequence[Recipe], equalisation: CrossLayerEqualization) -> list[Recipe]:
    """Recipes that quantize together whatever a placement can name: with and without each of the element-wise operators."""
    usual = Placement(products=True, float_tail={})
    wise = usual.element_wise
    choices = (wise, (), *(tuple(other for other in wise if other != one) for one in wise))
    base = replace(recipes[0], name="every placement", targets=tuple(qdq_styles()), equalisation=equalisation, layers=())
    return [replace(base, placement=replace(usual, element_wise=choice)) for choice in choices]


def _alike(some: Observed, more: Observed) -> bool:
    """Whether `more` holds all that `some` does, to the last bit."""
    return _same_arrays(some.scales, more.scales) and all(
        name in more.statistics and _same(one, more.statistics[name]) for name, one in some.statistics.items()
    )


def _same_arrays(some: Mapping[str, Array], more: Mapping[str, Array]) -> bool:
    return some.keys() == more.keys() and all(np.array_equal(value, more[name]) for name, value in some.items())


def _same(one: TensorStatistics, other: TensorStatistics) -> bool:
    mine, theirs = one.histogram, other.histogram
    if (mine.low, mine.high, mine.reach) != (theirs.low, theirs.high, theirs.reach):
        return False
    if not np.array_equal(mine.counts, theirs.counts):
        return False
    pairs = ((one.means, other.means), (one.reach, other.reach))
    return all(a is None or (b is not None and np.array_equal(a, b)) for a, b in pairs)
