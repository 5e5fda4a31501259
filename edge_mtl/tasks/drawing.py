"""Results of a frame as images that people look at: a titled drawing of each task, and a legend."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mtl.tasks import Result, kind_of

__all__ = ["legend_entries", "scales", "tiles", "title", "true_results"]

Array = np.ndarray


def title(result: Result) -> str:
    """What a drawing of it is called."""
    return kind_of(result.spec).heading or result.spec.name.replace("_", " ")


def tiles(frame: Array, results: Mapping[str, Result], *, scales: Mapping[str, Any] | None = None) -> list[tuple[str, Array]]:
    """(title, (H, W, 3) uint8 RGB) of each result, over the frame of the same size where that helps.

    Args:
        scales: by task, from `scales`, where drawings are to be compared; by default each has its own.
    """
    chosen = {} if scales is None else scales
    return [
        (title(result), kind_of(result.spec).draw(result.spec, frame, result, scale=chosen.get(name)))
        for name, result in results.items()
    ]


def scales(results: Mapping[str, Result], *, margin: float = 0.0) -> dict[str, Any]:
    """What the colours of each drawing span, by task; only of kinds that have a scale."""
    found = {name: kind_of(result.spec).scale(result.spec, result, margin=margin) for name, result in results.items()}
    return {name: scale for name, scale in found.items() if scale is not None}


def true_results(results: Mapping[str, Result], truths: Mapping[str, Any]) -> dict[str, Result]:
    """Truths as results of the same tasks, where that makes sense."""
    found = {}
    for name, result in results.items():
        if truths.get(name) is not None:
            made = kind_of(result.spec).of_truth(result.spec, truths[name])
            if made is not None:
                found[name] = made
    return found


def legend_entries(results: Mapping[str, Result]) -> list[tuple[str, tuple[int, int, int]]]:
    """Names and colours of what the drawings show, each once."""
    found = (entry for result in results.values() for entry in kind_of(result.spec).legend(result.spec, result))
    return list(dict.fromkeys(found))
