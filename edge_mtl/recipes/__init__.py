"""Recipes: how to quantize, as TOML files read into frozen dataclasses. Knows nothing about graphs or frames."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from edge_mtl.errors import BuildError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["CPU_INT8", "Activations", "Calibration", "Placement", "Recipe", "Weights", "load_recipe"]

CPU_INT8 = Path(__file__).parent / "cpu-int8.toml"

Method = Literal["minmax", "percentile", "entropy", "mse"]
ReduceRange = Literal["auto", "always", "never"]

_QUANTIZABLE = ("Conv", "Gemm", "MatMul")
_ELEMENT_WISE = ("Add", "Concat", "Gelu", "Relu", "Resize")


@dataclass(frozen=True, slots=True)
class Activations:
    """How the range of an activation is chosen."""

    method: Method = "percentile"
    percentile: float = 99.99
    bins: int = 2048


@dataclass(frozen=True, slots=True)
class Weights:
    """How weights are quantized: always symmetric, one scale per output channel."""

    reduce_range: ReduceRange = "auto"


@dataclass(frozen=True, slots=True)
class Placement:
    """What runs on integers.

    Attributes:
        op_types: layers with constant weights.
        element_wise: operators that run on integers where all their inputs are integers.
        exclude: regular expressions; a layer stays float if one matches the start of its node's name.
        float_tail: by output name, how many of the last layers before it stay float.
    """

    op_types: tuple[str, ...] = _QUANTIZABLE
    element_wise: tuple[str, ...] = _ELEMENT_WISE
    exclude: tuple[str, ...] = ()
    float_tail: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Calibration:
    """Which frames are used: at most `frames`, and at most this share of unreadable ones."""

    frames: int = 32
    unreadable_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything about one way to quantize."""

    name: str
    activations: Activations = field(default_factory=Activations)
    weights: Weights = field(default_factory=Weights)
    placement: Placement = field(default_factory=Placement)
    calibration: Calibration = field(default_factory=Calibration)


def load_recipe(path: Path = CPU_INT8) -> Recipe:
    """Read and check a recipe.

    Raises:
        BuildError: the file cannot be read, is not TOML, or holds an unknown key or a value out of range.
    """
    try:
        content = tomllib.loads(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise BuildError(f"recipe {path} cannot be read: {exc}. See {CPU_INT8} for an example.") from exc
    try:
        return _recipe(content)
    except (TypeError, ValueError) as exc:
        raise BuildError(f"recipe {path} is not valid: {exc}. See {CPU_INT8} for an example.") from exc


def _recipe(content: Mapping[str, Any]) -> Recipe:
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
    calibration = _section(Calibration, content, "calibration")
    _within(calibration.frames, 1, 100_000, "calibration.frames")
    _within(calibration.unreadable_share, 0.0, 1.0, "calibration.unreadable_share")
    return Recipe(name, activations, weights, _placement(content), calibration)


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
    return Placement(
        tuple(placement.op_types), tuple(placement.element_wise), tuple(placement.exclude), dict(placement.float_tail)
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


def _one_of(value: Any, choices: tuple[str, ...], name: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} should be one of {', '.join(choices)}; found {value!r}")


def _within(value: Any, low: float, high: float, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{name} should be a number from {low:g} to {high:g}; found {value!r}")
