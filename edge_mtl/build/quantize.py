"""Static quantization of a deploy graph for CPUs: unsigned activations, signed weights per channel, as Q/DQ nodes.

Knows graphs and ranges; knows nothing about bundles, frames on disk or engines. One set of ranges serves every target:
`calibrate` measures it, `emit` writes a graph for one runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from edge_mtl.build.emission import Emission
from edge_mtl.build.graphs import GraphIndex, parse
from edge_mtl.build.placement import Target, place
from edge_mtl.build.ranges import Range, collect_ranges
from edge_mtl.device import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.recipes import Recipe

__all__ = ["TARGETS", "calibrate", "emit", "quantize_for_cpu"]

Array = np.ndarray
Progress = Callable[[str, int, int], None]

TARGETS: tuple[Target, ...] = ("onnxruntime", "openvino")

_IMAGE_RANGE = Range(0.0, 255.0)
"""The input holds whole numbers of 0..255: with this range the scale is 1, the zero point 0, and nothing is lost."""


def quantize_for_cpu(
    deploy_model: bytes,
    frames: Iterable[Array],
    *,
    recipe: Recipe,
    target: Target = "onnxruntime",
    reduce_range: bool | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
) -> bytes:
    """Quantize a graph of placement "host".

    Args:
        deploy_model: ONNX; its input is float32 (1, 3, H, W) RGB of 0..255.
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size.
        recipe: what to quantize and how.
        target: the runtime that the Q/DQ nodes are placed for; either graph is right on both.
        reduce_range: 7-bit weights; None follows the recipe.
        threads, progress: see `edge_mtl.build.ranges.collect_ranges`.
    Returns:
        The quantized ONNX model; inputs and outputs are named and typed as before.
    Raises:
        CalibrationError: no frames, or activations that never change.
        BuildError: the graph cannot be used, or nothing is left to quantize.
        BackendUnavailable: onnx or ONNX Runtime is missing.
    """
    ranges = calibrate(deploy_model, frames, recipe=recipe, threads=threads, progress=progress)
    return emit(deploy_model, ranges, recipe=recipe, target=target, reduce_range=reduce_range)


def calibrate(
    deploy_model: bytes,
    frames: Iterable[Array],
    *,
    recipe: Recipe,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Range]:
    """Ranges of every tensor that any target wants to quantize. Raises as `quantize_for_cpu` does."""
    model = parse(deploy_model, name="the deploy graph")
    index = GraphIndex(model)
    wanted: dict[str, None] = {}
    for target in TARGETS:
        wanted.update(dict.fromkeys(place(index, recipe.placement, target=target).ranged))
    images = [name for name in wanted if name in index.inputs]
    tensors = [name for name in wanted if name not in index.inputs]
    ranges = collect_ranges(model, tensors, list(frames), settings=recipe.activations, threads=threads, progress=progress)
    return {**ranges, **dict.fromkeys(images, _IMAGE_RANGE)}


def emit(
    deploy_model: bytes,
    ranges: Mapping[str, Range],
    *,
    recipe: Recipe,
    target: Target,
    reduce_range: bool | None = None,
) -> bytes:
    """Write Q/DQ nodes into `deploy_model`.

    Args:
        ranges: of every tensor the target's placement quantizes, from `calibrate`.
        reduce_range: 7-bit weights, for processors on which sums of byte products saturate; None follows the recipe,
            whose "auto" asks this machine.
    Raises:
        BuildError: a range is missing, or the graph cannot be used.
    """
    if reduce_range is None:
        mode = recipe.weights.reduce_range
        reduce_range = mode == "always" or (mode == "auto" and not fingerprint().has_vnni)
    model = parse(deploy_model, name="the deploy graph")
    index = GraphIndex(model)
    plan = place(index, recipe.placement, target=target)
    missing = [name for name in plan.ranged if name not in ranges]
    if missing:
        raise BuildError(f"There is no range for activation {missing[0]}: calibrate this graph with this recipe first.")
    writer = Emission(model, index, plan, ranges, levels=63 if reduce_range else 127, integer_bias=target == "onnxruntime")
    return writer.write()
