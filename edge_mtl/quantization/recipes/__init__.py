"""Recipes: how to quantize, as TOML files read into frozen dataclasses. Knows nothing about graphs or frames.

What a recipe leaves out is as in the package's own for CPUs, `cpu-int8.toml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from edge_mtl.backends import qdq_styles, style_of
from edge_mtl.backends.reference import CPU_STYLES
from edge_mtl.documents import parse_toml
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes

__all__ = [
    "CPU_INT8",
    "TENSORRT_INT8",
    "Activations",
    "Calibration",
    "CrossLayerEqualization",
    "LayerOverride",
    "Placement",
    "Recipe",
    "Target",
    "Weights",
    "load_recipe",
    "parse_recipe",
    "read_recipe",
    "recipe_for",
]

CPU_INT8 = Path(__file__).parent / "cpu-int8.toml"
TENSORRT_INT8 = Path(__file__).parent / "tensorrt-int8.toml"

Method = Literal["minmax", "percentile", "entropy", "mse"]
ReduceRange = Literal["auto", "always", "never"]
Target = str
"""Name of a Q/DQ style; `edge_mtl.backends.style_of` knows them, and raises for an unknown one."""
LayerPrecision = Literal["", "int8", "float"]

_QUANTIZABLE = ("Conv", "Gemm", "MatMul")
_ELEMENT_WISE = ("Add", "Concat", "Gelu", "Relu", "Resize")
_FLOAT_TAIL: Mapping[str, int] = {"*_logits": 1, "*_quarter": 1, "*_scores_*": 1, "*_boxes_*": 1}


@dataclass(frozen=True, slots=True)
class Activations:
    """How the range of an activation is chosen."""

    method: Method = "percentile"
    percentile: float = 99.99
    bins: int = 2048


@dataclass(frozen=True, slots=True)
class Weights:
    """How weights are quantized: always symmetric, one scale per output channel.

    Attributes:
        reduce_range: whether weights have 7 bits; "auto": where sums of byte products would saturate, see docs/decisions/0015.
        bias_correction: take the mean error that rounded weights make out of the biases; see
            `edge_mtl.quantization.bias`.
    """

    reduce_range: ReduceRange = "auto"
    bias_correction: bool = True


@dataclass(frozen=True, slots=True)
class CrossLayerEqualization:
    """Whether scales move between neighbouring layers before quantization; see `cross_layer_equalization`.

    Attributes:
        enabled: whether they do.
        strength: of the activations' spread, how much moves into weights that share a scale with others, 0..1.
        frames: how many calibration frames the spread is measured on.
    """

    enabled: bool = True
    strength: float = 0.5
    frames: int = 8


@dataclass(frozen=True, slots=True)
class Placement:
    """What runs in INT8.

    Attributes:
        op_types: layers with constant weights.
        element_wise: operators that run in INT8 where all their inputs are integers.
        products: whether attention's products of two activations run in INT8 too (TensorRT only).
        exclude: regular expressions; a layer stays float if one matches the start of its node's name.
        float_tail: by glob over names of outputs, how many of the last layers before them stay float; of several globs that
            match an output, the last one counts.
    """

    op_types: tuple[str, ...] = _QUANTIZABLE
    element_wise: tuple[str, ...] = _ELEMENT_WISE
    products: bool = False
    exclude: tuple[str, ...] = ()
    float_tail: Mapping[str, int] = field(default_factory=lambda: dict(_FLOAT_TAIL))


@dataclass(frozen=True, slots=True)
class Calibration:
    """Which frames are used: at most `frames`, and at most this share of unreadable ones."""

    frames: int = 32
    unreadable_share: float = 0.05


@dataclass(frozen=True, slots=True)
class LayerOverride:
    """What is different for some layers; of several that match a layer, the last one that says something counts.

    Attributes:
        match: glob over layer names, as `edge-mtl sensitivity --level layer` lists them: "backbone.blocks.0.*.mlp.*".
        precision: "int8" or "float", against what placement says; "" leaves that.
        method, percentile: of the range of what the layer reads; None leaves them.
    """

    match: str
    precision: LayerPrecision = ""
    method: Method | None = None
    percentile: float | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything about one way to quantize, and the Q/DQ styles it is for."""

    name: str
    targets: tuple[Target, ...] = CPU_STYLES
    activations: Activations = field(default_factory=Activations)
    weights: Weights = field(default_factory=Weights)
    equalisation: CrossLayerEqualization = field(default_factory=CrossLayerEqualization)
    placement: Placement = field(default_factory=Placement)
    layers: tuple[LayerOverride, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def digest(self) -> str:
        """SHA-256 over everything that it says; comments and order in a file do not count."""
        return sha256_bytes(repr(self).encode())


def recipe_for(target: Target, recipe: Recipe) -> Recipe:
    """`recipe`, or the package's own for the Q/DQ style `target` where there is one and `recipe` does not name that style.

    Processors and GPUs want different integers. Raises BuildError for an unknown style.
    """
    own = style_of(target).recipe
    return recipe if not own or target in recipe.targets else load_recipe(Path(__file__).parent / f"{own}.toml")


def load_recipe(path: Path = CPU_INT8) -> Recipe:
    """Read and check a recipe.

    Raises:
        BuildError: the file cannot be read, is not TOML, or holds an unknown key or a value out of range.
    """
    try:
        payload = path.read_bytes()
    except OSError as exc:
        raise BuildError(f"recipe {path} cannot be read: {exc.strerror or exc}. See {CPU_INT8} for an example.") from exc
    return read_recipe(payload, source=str(path))


def read_recipe(payload: bytes, *, source: str) -> Recipe:
    """A recipe from the bytes of its file. Raises BuildError as `load_recipe`, naming `source`."""
    try:
        content = parse_toml(payload)
    except ValueError as exc:
        raise BuildError(f"recipe {source} cannot be read: {exc}. See {CPU_INT8} for an example.") from exc
    try:
        return parse_recipe(content)
    except (TypeError, ValueError) as exc:
        raise BuildError(f"recipe {source} is not valid: {exc}. See {CPU_INT8} for an example.") from exc


def parse_recipe(content: Mapping[str, Any]) -> Recipe:
    """Nested plain values -> recipe. Raises TypeError or ValueError naming an unknown key or a value out of range."""
    known = {item.name for item in fields(Recipe)}
    if unknown := sorted(set(content) - known):
        raise ValueError(f"unknown key {unknown[0]!r}; expected some of {', '.join(sorted(known))}")
    name = content.get("name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"name should be a word; found {name!r}")
    activations = _section(Activations, content, "activations")
    _one_of(activations.method, get_args(Method), "activations.method")
    _within(activations.percentile, 90.0, 100.0, "activations.percentile")
    _within(activations.bins, 64, 65536, "activations.bins")
    weights = _section(Weights, content, "weights")
    _one_of(weights.reduce_range, get_args(ReduceRange), "weights.reduce_range")
    _switch(weights.bias_correction, "weights.bias_correction")
    equalisation = _section(CrossLayerEqualization, content, "equalisation")
    _switch(equalisation.enabled, "equalisation.enabled")
    _within(equalisation.strength, 0.0, 1.0, "equalisation.strength")
    _within(equalisation.frames, 1, 100_000, "equalisation.frames")
    calibration = _section(Calibration, content, "calibration")
    _within(calibration.frames, 1, 100_000, "calibration.frames")
    _within(calibration.unreadable_share, 0.0, 1.0, "calibration.unreadable_share")
    return Recipe(
        name=name,
        targets=_targets(content),
        activations=activations,
        weights=weights,
        equalisation=equalisation,
        placement=_placement(content),
        layers=_layers(content),
        calibration=calibration,
    )


def _targets(content: Mapping[str, Any]) -> tuple[Target, ...]:
    found, known = tuple(_words(content.get("targets", list(CPU_STYLES)), "targets")), tuple(qdq_styles())
    for target in found:
        _one_of(target, known, "targets")
    if not found:
        raise ValueError(f"targets should name some of {', '.join(known)}; found none")
    return found


def _layers(content: Mapping[str, Any]) -> tuple[LayerOverride, ...]:
    entries = content.get("layers", [])
    if not isinstance(entries, list):
        raise TypeError(f"layers should be tables, written [[layers]]; found {entries!r}")
    found = []
    for number, entry in enumerate(entries):
        name = f"layers[{number}]"
        override = _section(LayerOverride, {name: {"match": "", **entry} if isinstance(entry, dict) else entry}, name)
        if not isinstance(override.match, str) or not override.match:
            raise ValueError(f"{name}.match should be a glob over layer names; found {override.match!r}")
        _one_of(override.precision, get_args(LayerPrecision), f"{name}.precision")
        if override.method is not None:
            _one_of(override.method, get_args(Method), f"{name}.method")
        if override.percentile is not None:
            _within(override.percentile, 90.0, 100.0, f"{name}.percentile")
        found.append(override)
    return tuple(found)


def _placement(content: Mapping[str, Any]) -> Placement:
    placement = _section(Placement, content, "placement")
    for kind in _words(placement.op_types, "placement.op_types"):
        _one_of(kind, _QUANTIZABLE, "placement.op_types")
    for kind in _words(placement.element_wise, "placement.element_wise"):
        _one_of(kind, _ELEMENT_WISE, "placement.element_wise")
    for pattern in _words(placement.exclude, "placement.exclude"):
        try:
            re.compile(pattern)
        except re.error as exc:
            raise ValueError(f"placement.exclude: {pattern!r} is not a regular expression ({exc})") from exc
    if not isinstance(placement.float_tail, dict):
        raise TypeError(f"placement.float_tail should be a table; found {placement.float_tail!r}")
    for output, count in placement.float_tail.items():
        _within(count, 0, 1000, f"placement.float_tail.{output}")
    _switch(placement.products, "placement.products")
    return Placement(
        op_types=tuple(placement.op_types),
        element_wise=tuple(placement.element_wise),
        products=placement.products,
        exclude=tuple(placement.exclude),
        float_tail=dict(placement.float_tail),
    )


def _section(kind: Any, content: Mapping[str, Any], name: str) -> Any:
    values = content.get(name, {})
    if not isinstance(values, dict):
        raise TypeError(f"{name} should be a table; found {values!r}")
    known = {item.name for item in fields(kind)}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown key {name}.{unknown[0]}; expected some of {', '.join(sorted(known))}")
    return kind(**values)


def _words(value: Any, name: str) -> list[str]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) for word in value):
        raise TypeError(f"{name} should be a list of words; found {value!r}")
    return list(value)


def _switch(value: Any, name: str) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} should be true or false; found {value!r}")


def _one_of(value: Any, choices: tuple[str, ...], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} should be one of {', '.join(choices)}; found {value!r}")


def _within(value: Any, low: float, high: float, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} should be a number from {low:g} to {high:g}; found {value!r}")
