"""One parameter of the node: default, description, range and effect, and what is wrong with a value. Imports nothing of ROS."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from edge_mtl.depth_scale import check_factor
from edge_mtl.errors import DepthScaleError

__all__ = ["Effect", "Parameter", "Value", "converted", "costs_of", "fault_of", "parameter", "scale_fault"]

Value = bool | int | float | str | tuple[str, ...]
Effect = Literal["at once", "reload", "start"]
_T = TypeVar("_T")
_BLOCKED = 100
"""The cost of what may not be driven on."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter.

    Attributes:
        default: its value where none is given; also decides the type. A whole number is taken for a fraction.
        description: for people; says when a change takes effect.
        limits: smallest and largest value of a number.
        choices: the allowed values of a text.
        effect: when a change counts: "at once", from the next "reload" or configure on, or it is given at the "start" only.
        check: says what is wrong with a value of any type, in place of the other rules; empty if nothing is.
        of_camera: each of several cameras may have a value of its own, which is given at the start only if not "at once".
    """

    name: str
    default: Value
    description: str
    limits: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    effect: Effect = "at once"
    check: Callable[[Any], str] | None = None
    of_camera: bool = False

    @property
    def read_only(self) -> bool:
        """Whether it cannot change while the node runs."""
        return self.effect == "start"

    @property
    def any_type(self) -> bool:
        """Whether ROS must accept values of more than one type: YAML and the command line take 100 for an integer."""
        return self.check is not None or isinstance(self.default, float)


def parameter(
    default: _T,
    description: str,
    *,
    limits: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    effect: Effect = "at once",
    check: Callable[[Any], str] | None = None,
    of_camera: bool = False,
) -> _T:
    """A field of `Settings`, typed as its value like `dataclasses.field`; see `Parameter`."""
    facts: dict[str, Any] = {"description": description, "limits": limits, "choices": choices, "effect": effect}
    return field(default=default, metadata=facts | {"check": check, "of_camera": of_camera})


def scale_fault(value: Any) -> str:
    """What is wrong with a scale of depth: a factor, its text, the name of a file that ends in .json, or empty."""
    if isinstance(value, str):
        if not value or value.endswith(".json"):
            return ""
        try:
            value = float(value)
        except ValueError:
            return f"depth_scale should be a number, or a file of edge-mtl scale that ends in .json; found {value!r}"
    try:
        check_factor(value)
    except DepthScaleError as exc:
        return f"depth_scale: {exc}"
    return ""


def costs_of(text: str) -> dict[str, int]:
    """Costs by class, of "direct:0, alternative:50". Raises ValueError where the text is none, a sentence."""
    found: dict[str, int] = {}
    for part in text.split(",") if text.strip() else ():
        name, _, cost = (piece.strip() for piece in part.rpartition(":"))
        if not name or not cost.isascii() or not cost.isdigit() or not int(cost) < _BLOCKED:
            raise ValueError(
                f"drivable_classes should be classes with a cost of 0 to {_BLOCKED - 1} each, as direct:0, alternative:50; "
                f"found {part.strip()!r}"
            )
        found[name] = int(cost)
    return found


def converted(parameter: Parameter, value: Any) -> Any:
    """A whole number as the fraction that the parameter is, a list as a tuple, empty where nothing is named; else as it is."""
    if isinstance(parameter.default, tuple):  # an empty list has no type in ROS: it comes as nothing, or as one empty text
        names = () if value is None else tuple(value) if isinstance(value, (list, tuple)) else value
        return () if names == ("",) else names
    return float(value) if isinstance(parameter.default, float) and type(value) is int else value


def fault_of(parameter: Parameter, value: Any) -> str:
    """What is wrong with a value; empty if nothing is."""
    if parameter.check is not None:
        return parameter.check(value)
    kind = type(parameter.default)
    if type(value) is not kind:
        return f"{parameter.name} should be {kind.__name__}; found {value!r}"
    if parameter.choices and value not in parameter.choices:
        return f"{parameter.name} should be one of {', '.join(map(repr, parameter.choices))}; found {value!r}"
    if parameter.limits is not None and isinstance(value, (int, float)):
        low, high = parameter.limits
        if not (math.isfinite(value) and low <= value <= high):
            return f"{parameter.name} should lie in {low:g}..{high:g}; found {value!r}"
    return ""
