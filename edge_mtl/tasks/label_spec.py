"""What a manifest says of a task of labels: classes, colours, which of them means leave out, and whether they are lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.image import VOID
from edge_mtl.tasks.class_names import check_classes, short
from edge_mtl.tasks.kind import TaskSpec
from edge_mtl.tasks.nyu13 import NYU13_CLASSES, NYU13_PALETTE
from edge_mtl.tasks.palette import generated_palette

__all__ = ["LabelsSpec", "describe_spec", "read_spec"]

Array = np.ndarray
Colour = tuple[int, int, int]
_FEWEST, _MOST = 2, VOID
"""How many classes a task may have: one byte a pixel, of which 255 is void."""
_WIDEST_PX = 20
"""The largest tolerance of lines."""


@dataclass(frozen=True, slots=True)
class LabelsSpec(TaskSpec):
    """A task of labels.

    Attributes:
        classes: names by index.
        colours: RGB by index, as given; empty for those of `palette`.
        ignored: indices of classes that the mean over classes leaves out.
        tolerance_px: of a task whose classes are lines, how far from a true pixel one is right, in pixels of the network's
            input; None for regions.
    """

    classes: tuple[str, ...]
    colours: tuple[Colour, ...] = ()
    ignored: tuple[int, ...] = ()
    tolerance_px: int | None = None

    @property
    def palette(self) -> Array:
        """(C, 3) uint8 RGB: the colours given, those of NYU-13, or generated ones."""
        if self.colours:
            return np.array(self.colours, np.uint8)
        return NYU13_PALETTE if self.classes == NYU13_CLASSES else generated_palette(len(self.classes))


def read_spec(name: str, entry: Mapping[str, Any], *, kind: str) -> LabelsSpec:
    """The task from its entry in a manifest. Raises ValueError naming what was expected and found."""
    classes = entry.get("classes", list(NYU13_CLASSES))
    check_classes(name, classes, fewest=_FEWEST, most=_MOST)
    if entry.get("void", VOID) != VOID:
        raise ValueError(f"void of {name} should be {VOID}; found {short(entry['void'])}")
    left_out = entry.get("ignore_in_mean", [])
    if not isinstance(left_out, list) or not set(map(str, left_out)) < set(classes):
        wanted = "some of its classes, not all of them"
        raise ValueError(f"ignore_in_mean of {name} should name {wanted}; found {short(left_out)}")
    ignored = tuple(index for index, one in enumerate(classes) if one in left_out)
    colours = _colours(name, entry.get("colours"), len(classes))
    return LabelsSpec(name, kind, tuple(classes), colours, ignored, _tolerance(name, entry.get("tolerance_px")))


def describe_spec(spec: LabelsSpec) -> dict[str, Any]:
    """Its entry in a manifest, without "kind": the inverse of `read_spec`."""
    found: dict[str, Any] = {"classes": list(spec.classes), "void": VOID}
    if spec.colours:
        found["colours"] = [list(colour) for colour in spec.colours]
    if spec.ignored:
        found["ignore_in_mean"] = [spec.classes[index] for index in spec.ignored]
    if spec.tolerance_px is not None:
        found["tolerance_px"] = spec.tolerance_px
    return found


def _colours(task: str, given: Any, classes: int) -> tuple[Colour, ...]:
    if given is None:
        return ()
    fits = isinstance(given, list) and len(given) == classes
    if not fits or not all(isinstance(c, list) and len(c) == 3 and all(_byte(value) for value in c) for c in given):
        wanted = f"[r, g, b] of 0 to 255 for each of {classes} classes"
        raise ValueError(f"colours of {task} should be {wanted}; found {short(given)}")
    return tuple((c[0], c[1], c[2]) for c in given)


def _tolerance(task: str, given: Any) -> int | None:
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= _WIDEST_PX:
        raise ValueError(
            f"tolerance_px of {task} should be a whole number of pixels from 1 to {_WIDEST_PX}; found {short(given)}"
        )
    return given


def _byte(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 255
