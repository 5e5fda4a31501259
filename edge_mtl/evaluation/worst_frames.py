"""The accuracy card: what a verification found, as plain values for the manifest and as images of the worst frames.

Knows scores, verdicts and maps; knows nothing about runtimes or folders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.evaluation.budget import Budget, Verdict
from edge_mtl.evaluation.scores import Score, frame_differences, frame_losses
from edge_mtl.image.panel import column, fit, row, titled
from edge_mtl.tasks import kind_of
from edge_mtl.tasks.drawing import scales, tiles
from edge_mtl.tasks.finishing import Answer

__all__ = ["CARD", "WorstFrame", "describe", "draw", "worst_frames"]

Array = np.ndarray

CARD = "card"
"""Folder of the card's images in a bundle."""

_QUALITY = 85
_TILE_WIDTH = 320
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class WorstFrame:
    """A frame on which a graph loses the most.

    Attributes:
        frame: its name.
        graph: which graph.
        excess: the largest loss of a head there, in budgets: 1 is a whole budget.
        losses: by head's budget name, in the metric's unit.
    """

    frame: str
    graph: str
    excess: float
    losses: Mapping[str, float]

    def describe(self) -> str:
        """One line under the image."""
        return ", ".join(f"{name} {value:+.3f}" for name, value in self.losses.items())


def worst_frames(
    reference: Score, candidates: Mapping[str, Score], *, budget: Budget, labelled: bool, count: int = 3
) -> tuple[WorstFrame, ...]:
    """The frames that lose the most against FP32, over all graphs; a frame is shown once, for the graph that it hurts most."""
    specs, allowed = reference.specs, budget.to_dict(reference.specs)
    found: dict[str, WorstFrame] = {}
    for graph, score in candidates.items():
        for before, after in zip(reference.frames, score.frames, strict=True):
            losses = frame_losses(specs, before, after) if labelled else frame_differences(specs, after)
            excess = max((value / max(allowed[name], 1e-9) for name, value in losses.items()), default=0.0)
            if after.name not in found or excess > found[after.name].excess:
                found[after.name] = WorstFrame(after.name, graph, excess, losses)
    return tuple(sorted(found.values(), key=lambda item: (-item.excess, item.frame))[:count])


def draw(frame: Array, reference: Answer, found: Answer, worst: WorstFrame) -> bytes:
    """A JPEG: what FP32 and the other graph say about a frame, and where they differ.

    Args:
        frame: (H, W, 3) uint8 RGB, of the maps' size.
    """
    scale = scales(reference.results)
    rows = []
    for first, graph, answer in (
        ((f"frame {worst.frame}", frame), "fp32", reference),
        (_difference(frame, reference, found), worst.graph, found),
    ):
        shown = [titled(fit(first[1], _TILE_WIDTH), first[0])]
        for name, tile in tiles(frame, answer.results, scales=scale):
            shown.append(titled(fit(tile, _TILE_WIDTH), name, graph))
        rows.append(row(shown))
    fine, payload = cv2.imencode(".jpg", column(rows)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not fine:
        raise BuildError("an image of the accuracy card could not be encoded")
    return bytes(payload.tobytes())


def _difference(frame: Array, reference: Answer, found: Answer) -> tuple[str, Array]:
    """Of the first task that can show one; else the frame again."""
    for name, result in found.results.items():
        shown = kind_of(result.spec).draw_difference(result.spec, frame, result, reference.results[name])
        if shown is not None:
            return shown
    return "frame", frame


def describe(
    scores: Mapping[str, Score],
    verdicts: Mapping[str, Verdict],
    *,
    reference: str,
    budget: Budget,
    sqnr: Mapping[str, Mapping[str, float]],
    worst: Mapping[str, WorstFrame],
    measured: Mapping[str, Any],
) -> dict[str, Any]:
    """The card as plain values.

    Args:
        scores, verdicts: by name of the graph; the reference has no verdict.
        sqnr: by name of the graph, decibels by block.
        worst: by file name of the image.
        measured: when, where and on which frames.
    """
    graphs = {}
    for name, score in scores.items():
        entry: dict[str, Any] = {**_rounded(score.accuracy)}
        entry |= {
            key: _rounded(value) if isinstance(value, Mapping) else round(value, _DIGITS)
            for key, value in score.details.items()
        }
        if name != reference:
            entry |= {f"agreement_{key}": value for key, value in _rounded(score.agreement).items()}
        if sqnr.get(name):
            entry["sqnr_db"] = dict(sqnr[name])
        graphs[name] = entry
    return {
        "measured": dict(measured),
        "reference": reference,
        "budget": budget.to_dict(scores[reference].specs),
        "graphs": graphs,
        "verdicts": {name: verdict.to_dict() for name, verdict in verdicts.items()},
        "worst": [
            {"picture": file, "frame": item.frame, "graph": item.graph, "losses": _rounded(item.losses)}
            for file, item in worst.items()
        ],
    }


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), _DIGITS) for name, value in values.items()}
