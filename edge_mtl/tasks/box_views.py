"""Boxes as people see them: over their frame, beside those of another graph, and the names of their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edge_mtl.image import VOID
from edge_mtl.image.box_drawing import draw_boxes
from edge_mtl.image.lettering import Colour
from edge_mtl.tasks.box_agreement import pairs
from edge_mtl.tasks.nyu13 import NYU13_CLASSES, NYU13_PALETTE
from edge_mtl.tasks.palette import generated_palette

if TYPE_CHECKING:
    from edge_mtl.tasks.boxes import Boxes, BoxesSpec

__all__ = ["differences", "drawn", "named_colours"]

Array = np.ndarray

_LEGEND_MOST = 24
"""Classes that a legend names."""
_LOST: Colour = (255, 40, 40)
_NEW: Colour = (255, 200, 40)


def drawn(frame: Array, boxes: Boxes) -> Array:
    """(H, W, 3) uint8 RGB: the frame with its boxes in the colours of their classes, with names and scores."""
    return draw_boxes(frame, boxes.xyxy, _captions(boxes), [_colour(boxes.spec, index) for index in boxes.classes])


def differences(frame: Array, found: Boxes, reference: Boxes) -> Array:
    """(H, W, 3) uint8 RGB: boxes that only the reference has, red with "-", and those that only the other has, with "+"."""
    new, lost = (
        np.setdiff1d(np.arange(len(boxes)), paired)
        for boxes, paired in zip((found, reference), pairs(found, reference), strict=True)
    )
    captions = [f"- {_captions(reference)[index]}" for index in lost] + [f"+ {_captions(found)[index]}" for index in new]
    alone = np.concatenate([reference.xyxy[lost], found.xyxy[new]])
    return draw_boxes(frame, alone, captions, [_LOST] * len(lost) + [_NEW] * len(new))


def named_colours(boxes: Boxes) -> tuple[tuple[str, Colour], ...]:
    """Names and colours of the classes that occur, by index; of more than 24 those with the highest scores."""
    shown = sorted(list(dict.fromkeys(boxes.classes.tolist()))[:_LEGEND_MOST])
    return tuple((boxes.spec.classes[index], _colour(boxes.spec, index)) for index in shown)


def _captions(boxes: Boxes) -> list[str]:
    """Names, and scores but for those of truths."""
    named = zip(boxes.names, boxes.scores.tolist(), strict=True)
    return [name if score >= 1.0 else f"{name} {score:.2f}" for name, score in named]


def _colour(spec: BoxesSpec, index: int) -> Colour:
    """Of a class: as maps show it where all classes are some of NYU-13; else from the 256th class on colours return."""
    if set(spec.classes) <= set(NYU13_CLASSES):
        red, green, blue = NYU13_PALETTE[NYU13_CLASSES.index(spec.classes[int(index)])].tolist()
    else:
        red, green, blue = generated_palette(VOID)[int(index) % VOID].tolist()
    return red, green, blue
