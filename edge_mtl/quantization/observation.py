"""What has to be looked at before a graph can be quantized, and looking: one pass over the frames serves several recipes.

`request_of` says which tensors, `observe_activations` runs the float graph on frames, or takes what was recorded of them
(`edge_mtl.quantization.recorded`). Knows graphs and recipes; chooses no ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes
from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse
from edge_mtl.quantization.cross_layer_equalization import apply_scales, choose_scales, junctions
from edge_mtl.quantization.integer_ops import steep_gelu
from edge_mtl.quantization.layers import channel_axis
from edge_mtl.quantization.learned import Learned, read_learned
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.recipes import CrossLayerEqualization, Recipe
from edge_mtl.quantization.recorded import Recorded, Request
from edge_mtl.quantization.statistics import Observed, observe

__all__ = ["STEEP", "Material", "Observed", "Progress", "observe_activations", "request_of", "settled"]

Array = np.ndarray
Progress = Callable[[str, int, int], None]
Material = Iterable[Array] | Recorded
"""What ranges are learnt from: frames, (H, W, 3) uint8 RGB of the network's size, or what was recorded of them."""

STEEP = "_on_bytes"
"""Ending of the names of tensors that are added to the graph: GELU as it is computed on bytes."""


@dataclass(frozen=True, slots=True)
class _Need:
    """A request, with the graph that it is about."""

    request: Request
    tensors: Mapping[str, int | None]
    gelus: tuple[Any, ...]
    nothing: bool


def request_of(deploy_model: bytes, recipes: Sequence[Recipe]) -> Request:
    """What `observe_activations` would look at. Raises as it does."""
    return _need(deploy_model, parse(deploy_model, name="the optimized ONNX"), recipes).request


def observe_activations(
    deploy_model: bytes,
    frames: Material,
    *,
    recipes: Sequence[Recipe],
    threads: int | None = None,
    progress: Progress | None = None,
) -> Observed:
    """Run the float graph once over all frames, and before that over a few where scales are to be equalized.

    Every tensor that any of `recipes` quantizes for any of its targets is looked at, with all layers that an override
    might bring back; but for those whose range was learnt. Raises as `edge_mtl.quantization.quantize.quantize` does.
    """
    model = parse(deploy_model, name="the optimized ONNX")
    need = _need(deploy_model, model, recipes)
    request = need.request
    if isinstance(frames, Recorded):
        return Observed({}, {}) if need.nothing else frames.observed(request)
    images = list(frames)
    index = GraphIndex(model)
    scales: dict[str, Array] = {}
    few: list[Array] = []
    if request.equalisation.enabled:
        count = min(len(images), request.equalisation.frames)
        few = [images[at] for at in np.linspace(0, len(images) - 1, count).astype(int)]

    def done(number: int) -> None:
        if progress is not None:
            progress("calibrate", number, len(few) + len(images))

    places = {junction.tensor: junction.axis for junction in junctions(index)}
    if few and places:
        seen = observe(model, places, few, bins=request.bins, threads=threads, progress=done)
        reach = {name: item.reach for name, item in seen.items() if item.reach is not None}
        scales = choose_scales(index, reach, strength=request.equalisation.strength)
        apply_scales(model, index, scales)
    if need.nothing:
        return Observed(scales, {})
    _add_steep_gelus(model, need.gelus)
    found = observe(
        model,
        need.tensors,
        images,
        bins=request.bins,
        threads=threads,
        progress=lambda number: done(len(few) + number),
    )
    return Observed(scales, found)


def settled(recipe: Recipe, learned: Learned | None) -> Recipe:
    """`recipe`, without what would change weights that were fine-tuned together with their rounding."""
    if learned is None:
        return recipe
    return replace(
        recipe, equalisation=CrossLayerEqualization(enabled=False), weights=replace(recipe.weights, bias_correction=False)
    )


def _need(deploy_model: bytes, model: Any, recipes: Sequence[Recipe]) -> _Need:
    learned = read_learned(model)
    recipes = [settled(recipe, learned) for recipe in recipes]
    first = recipes[0]
    if any(recipe.equalisation != first.equalisation for recipe in recipes):
        names = ", ".join(recipe.name for recipe in recipes)
        raise BuildError(f"Recipes that share one calibration should equalise alike; these do not: {names}.")
    index = GraphIndex(model)
    known = {*index.inputs, *(learned.ranges if learned is not None else ())}
    tensors = {name: axis for name, axis in _tensors(index, recipes).items() if name not in known}
    nothing = learned is not None and not tensors
    gelus: list[Any] = []
    if any(recipe.weights.bias_correction for recipe in recipes):
        gelus = [node for node in index.nodes if node.op_type == "Gelu" and tensors.get(node.output[0]) is not None]
        tensors |= {f"{node.output[0]}{STEEP}": tensors[node.output[0]] for node in gelus}
    bins = max(recipe.activations.bins for recipe in recipes)
    way = first.equalisation if first.equalisation.enabled else CrossLayerEqualization(enabled=False)
    request = Request(sha256_bytes(deploy_model), way, bins, frozenset(tensors))
    return _Need(request, tensors, tuple(gelus), nothing)


def _tensors(index: GraphIndex, recipes: Sequence[Recipe]) -> dict[str, int | None]:
    """Names of what is to be observed, each with its channel axis where a layer reads it."""
    axes: dict[str, int | None] = {}
    for recipe in recipes:
        for target in recipe.targets:
            plan = place(index, recipe, target=target)
            axes.update({name: axes.get(name) for name in plan.ranged})
            axes.update({node.input[0]: channel_axis(node) for node in plan.layers})
    return axes


def _add_steep_gelus(model: Any, gelus: Sequence[Any]) -> None:
    """Compute GELU as bytes do beside each of the nodes `gelus` of `model`, which is changed."""
    numpy_helper = import_onnx().numpy_helper

    def constant(name: str, value: Any) -> str:
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    for node in gelus:
        model.graph.node.extend(steep_gelu(node.input[0], f"{node.output[0]}{STEEP}", constant=constant))
