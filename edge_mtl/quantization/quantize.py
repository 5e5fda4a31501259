"""Static quantization of a graph: look at its activations once, choose ranges, write Q/DQ graphs for several runtimes.

Knows graphs, recipes and ranges; knows nothing about bundles, frames on disk or engines. One pass over the frames serves
every method and every target: `observe_activations` gathers, `choose_ranges` cuts, `insert_qdq` writes. A graph that was
fine-tuned for integers brings ranges along, which count before all others; its scales and biases are left as they were learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_mtl.backends import style_of
from edge_mtl.backends.reference import CPU_STYLE
from edge_mtl.device import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.cross_layer_equalization import apply_scales
from edge_mtl.quantization.insert_qdq import Emission
from edge_mtl.quantization.layers import layer_name, matching
from edge_mtl.quantization.learned import read_learned
from edge_mtl.quantization.observation import STEEP, Material, Observed, Progress, observe_activations, settled
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.ranges import Range, choose_range
from edge_mtl.quantization.recipes import TENSORRT_INT8, Activations, Recipe, Target, load_recipe
from edge_mtl.quantization.weights import LEVELS, weight_bits

__all__ = [
    "CPU_MODEL",
    "TENSORRT_MODEL",
    "Calibrated",
    "Observed",
    "calibrate",
    "choose_ranges",
    "equalized",
    "insert_qdq",
    "observe_activations",
    "portable_bits",
    "quantize",
    "quantize_for_cpu",
]

Array = np.ndarray

TENSORRT_MODEL = "model.int8.onnx"
CPU_MODEL = "model.int8-cpu.onnx"

_IMAGE_RANGE = Range(0.0, 255.0)
"""The input holds whole numbers of 0..255: with this range an unsigned scale is 1, the zero point 0, and nothing is lost."""


@dataclass(frozen=True, slots=True)
class Calibrated:
    """All that `insert_qdq` needs besides the graph.

    Attributes:
        ranges: by tensor.
        means: by tensor, (C,) float64 by channel, of what layers read; empty unless biases are to be corrected.
        scales: see `Observed`.
        drifts: by tensor that a GELU makes, (C,) float64: how much larger its means are where GELU is computed on bytes.
    """

    ranges: Mapping[str, Range]
    means: Mapping[str, Array]
    scales: Mapping[str, Array]
    drifts: Mapping[str, Array] = field(default_factory=dict)


def quantize(
    deploy_model: bytes,
    frames: Material,
    *,
    recipes: Mapping[str, Recipe] | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, bytes]:
    """The quantized graphs of a bundle, from one pass over the frames; the same bytes every time.

    Args:
        deploy_model: ONNX; its input is float32 (1, 3, H, W) RGB of 0..255, or uint8 (1, H, W, 3).
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size, or what was recorded of them.
        recipes: by file name, each emitted for the first of its targets; those of the package when not given.
        threads: of ONNX Runtime; its default when None.
        progress: called with ("calibrate", frames done, frames in all); those that equalization looks at count twice.
    Returns:
        ONNX files by name. Weights have 8 bits whatever this machine is, unless the recipe says 7: engines are emitted again
        on each device, and backends compute 8 bits exactly.
    Raises:
        CalibrationError: no frames, or activations that never change.
        BuildError: the graph cannot be used, nothing is left to quantize, or the recipes equalise differently.
        BackendUnavailable: onnx or ONNX Runtime is missing.
    """
    wanted = recipes or {TENSORRT_MODEL: load_recipe(TENSORRT_INT8), CPU_MODEL: load_recipe()}
    observed = observe_activations(deploy_model, frames, recipes=list(wanted.values()), threads=threads, progress=progress)
    models = {}
    for name, recipe in wanted.items():
        target = recipe.targets[0]
        calibrated = choose_ranges(deploy_model, observed, recipe=recipe)
        models[name] = insert_qdq(deploy_model, calibrated, recipe=recipe, target=target, bits=portable_bits(recipe))
    return models


def portable_bits(recipe: Recipe) -> int:
    """Bits of the weights in graphs that travel: the machine that runs them is not known yet."""
    return 7 if recipe.weights.reduce_range == "always" else 8


def quantize_for_cpu(
    deploy_model: bytes,
    frames: Material,
    *,
    recipe: Recipe,
    target: Target = CPU_STYLE,
    bits: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Quantize for one target; see `quantize` and `insert_qdq` for arguments and errors."""
    calibrated = calibrate(deploy_model, frames, recipe=recipe, threads=threads, progress=progress)
    return insert_qdq(deploy_model, calibrated, recipe=recipe, target=target, bits=bits)


def calibrate(
    deploy_model: bytes,
    frames: Material,
    *,
    recipe: Recipe,
    threads: int | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Look and choose for one recipe. Raises as `quantize` does."""
    observed = observe_activations(deploy_model, frames, recipes=[recipe], threads=threads, progress=progress)
    return choose_ranges(deploy_model, observed, recipe=recipe)


def choose_ranges(deploy_model: bytes, observed: Observed, *, recipe: Recipe) -> Calibrated:
    """Ranges for every tensor that `recipe` quantizes, by its method and overrides.

    Raises:
        CalibrationError: a tensor never changes.
        BuildError: a tensor was not observed: the graph or the recipe is another one.
    """
    model = parse(deploy_model, name="the optimized ONNX")
    learned = read_learned(model)
    recipe, index = settled(recipe, learned), GraphIndex(model)
    ranges: dict[str, Range] = dict(learned.ranges) if learned is not None else {}
    means: dict[str, Array] = {}
    drifts: dict[str, Array] = {}
    for target in recipe.targets:
        plan = place(index, recipe, target=target)
        settings = _settings(plan.layers, index, recipe)
        for name in plan.ranged:
            if name in ranges:
                continue
            if name in index.inputs:
                ranges[name] = _IMAGE_RANGE
                continue
            if name not in observed.statistics:
                raise BuildError(f"Activation {name} was not observed: calibrate this graph with this recipe first.")
            item = observed.statistics[name]
            ranges[name] = choose_range(name, item.histogram, settings.get(name, recipe.activations))
        if recipe.weights.bias_correction:
            for node in plan.layers:
                seen = observed.statistics.get(node.input[0])
                if seen is not None and seen.means is not None:
                    means[node.input[0]] = seen.means
                    steep = observed.statistics.get(f"{node.input[0]}{STEEP}")
                    if steep is not None and steep.means is not None:
                        drifts[node.input[0]] = steep.means - seen.means
    return Calibrated(ranges, means, observed.scales, drifts)


def insert_qdq(
    deploy_model: bytes, calibrated: Calibrated, *, recipe: Recipe, target: Target, bits: int | None = None
) -> bytes:
    """Write Q/DQ nodes into `deploy_model`.

    Args:
        calibrated: of this graph, with ranges of every tensor that the target's placement quantizes.
        bits: of the weights, 7 or 8; the likely fastest of those that are right on this machine, see `weight_bits`, when None.
    Returns:
        The quantized ONNX model; inputs and outputs are named and typed as before.
    Raises:
        BuildError: a range is missing, the graph cannot be used, or `target` is unknown.
    """
    if bits is None:
        bits = weight_bits(recipe.weights.reduce_range, target, fingerprint())[-1]
    model = parse(deploy_model, name="the optimized ONNX")
    if calibrated.scales:
        apply_scales(model, GraphIndex(model), calibrated.scales)
    index = GraphIndex(model)
    plan = place(index, recipe, target=target)
    missing = [name for name in plan.ranged if name not in calibrated.ranges]
    if missing:
        raise BuildError(f"There is no range for activation {missing[0]}: calibrate this graph with this recipe first.")
    means = calibrated.means if recipe.weights.bias_correction else {}
    emission = Emission(
        model,
        index,
        plan,
        calibrated.ranges,
        style=style_of(target),
        levels=LEVELS[bits],
        means=means,
        drifts=calibrated.drifts,
    )
    return emission.write()


def equalized(deploy_model: bytes, calibrated: Calibrated) -> bytes:
    """The float graph with its scales moved, as `insert_qdq` starts from it: the same function, other activations inside."""
    if not calibrated.scales:
        return deploy_model
    model = parse(deploy_model, name="the optimized ONNX")
    apply_scales(model, GraphIndex(model), calibrated.scales)
    return bytes(model.SerializeToString())


def _settings(layers: Sequence[Any], index: GraphIndex, recipe: Recipe) -> dict[str, Activations]:
    """Range settings of the tensors that overridden layers read."""
    found: dict[str, Activations] = {}
    for node in layers:
        for override in matching(layer_name(node, index), recipe.layers):
            before = found.get(node.input[0], recipe.activations)
            method = override.method or before.method
            percentile = before.percentile if override.percentile is None else override.percentile
            found[node.input[0]] = Activations(method, percentile, before.bins)
    return found
