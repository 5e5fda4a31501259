"""Ranges that were learnt in training together with the weights, and travel inside the graph that holds those weights.

A bundle that was fine-tuned for integers keeps its trained network as it was, which stays the FP32 reference, and brings
`model.qat.onnx` besides: the float graph that INT8 is made from. Its metadata says which ranges go with its weights, for
which runtime and by which recipe. Knows graphs and recipes; quantizes nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_mtl.backends import qdq_styles, style_of
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import import_onnx, parse
from edge_mtl.quantization.ranges import Range
from edge_mtl.quantization.recipes import CPU_INT8, Recipe, Target, load_recipe, parse_recipe, read_recipe

__all__ = ["OWN_RECIPE", "QAT_MODEL", "Learned", "forget", "int8_graph", "int8_recipe", "read_learned", "write_learned"]

QAT_MODEL = "model.qat.onnx"
OWN_RECIPE = "recipe.toml"
"""In a bundle that was calibrated by a recipe of somebody's own: that recipe."""
_KEY = "edge_mtl.learned"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Learned:
    """What fine-tuning settled.

    Attributes:
        target: the runtime whose Q/DQ placement was trained with.
        ranges: by tensor.
        recipe: what the placement came from. Scales were moved before training and rounding was trained with, so its
            equalization and bias correction are off.
    """

    target: Target
    ranges: Mapping[str, Range]
    recipe: Recipe


def write_learned(model: Any, learned: Learned) -> None:
    """Put `learned` into the metadata of `model`, a ModelProto, which is changed."""
    _drop(model)
    entry = model.metadata_props.add()
    entry.key = _KEY
    ranges = {name: [item.low, item.high] for name, item in sorted(learned.ranges.items())}
    content = {"version": _VERSION, "target": learned.target, "ranges": ranges, "recipe": asdict(learned.recipe)}
    entry.value = json.dumps(content, sort_keys=True)


def read_learned(model: Any) -> Learned | None:
    """What `write_learned` wrote; None for a graph that was not fine-tuned. Raises BuildError where it is damaged."""
    for entry in model.metadata_props:
        if entry.key == _KEY:
            try:
                return _parsed(parse_json(entry.value))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as exc:
                raise BuildError(f"The learnt ranges of the graph cannot be read ({exc}). Export the bundle again.") from exc
    return None


def forget(model: bytes) -> bytes:
    """The graph without what was learnt about ranges, so that frames decide them again; the weights stay."""
    proto = import_onnx().load_model_from_string(model)
    _drop(proto)
    return bytes(proto.SerializeToString())


def int8_graph(bundle: Bundle, *, own_frames: bool = True) -> bytes:
    """The float graph that INT8 is made from: the fine-tuned one where there is one.

    Args:
        own_frames: whether ranges come from the bundle's calibration; for other frames what was learnt is forgotten.
    Raises:
        BundleError: it is missing or damaged.
    """
    if not bundle.has(QAT_MODEL):
        return bundle.read(OPTIMIZED_ONNX)
    graph = bundle.read(QAT_MODEL)
    return graph if own_frames else forget(graph)


def int8_recipe(bundle: Bundle) -> Recipe:
    """The recipe for CPUs where nobody named one: the bundle's own, what it was fine-tuned with, or that of the package.

    Raises:
        BundleError, BuildError: the bundle's own is damaged, or this version does not understand it.
    """
    if bundle.has(OWN_RECIPE):
        return read_recipe(bundle.read(OWN_RECIPE), source=str(bundle.path / OWN_RECIPE))
    learned = read_learned(parse(int8_graph(bundle), name=QAT_MODEL)) if bundle.has(QAT_MODEL) else None
    return load_recipe(CPU_INT8) if learned is None or style_of(learned.target).recipe else learned.recipe


def _parsed(content: Mapping[str, Any]) -> Learned:
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']!r}, expected {_VERSION}")
    if content["target"] not in qdq_styles():
        raise ValueError(f"unknown target {content['target']!r}")
    ranges = {name: Range(float(low), float(high)) for name, (low, high) in content["ranges"].items()}
    for name, item in ranges.items():
        if not (math.isfinite(item.low) and math.isfinite(item.high) and item.low <= 0.0 <= item.high):
            raise ValueError(f"the range of {name} is {item.low:g} to {item.high:g}")
    return Learned(content["target"], ranges, parse_recipe(content["recipe"]))


def _drop(model: Any) -> None:
    kept = [entry for entry in model.metadata_props if entry.key != _KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
