"""The accuracy card: what a verification found, as plain values for the manifest and as images of the worst frames.

Knows scores, verdicts and maps; knows nothing about runtimes or folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.evaluation.budget import Budget, Verdict
from edge_mtl.evaluation.metrics import Maps
from edge_mtl.evaluation.scores import DROPS, FrameScore, Score
from edge_mtl.image.panel import column, fit, map_tiles, row, titled

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
    found: dict[str, WorstFrame] = {}
    for graph, score in candidates.items():
        for before, after in zip(reference.frames, score.frames, strict=True):
            losses = _losses(before, after) if labelled else _differences(after)
            excess = max((value / max(getattr(budget, name), 1e-9) for name, value in losses.items()), default=0.0)
            if after.name not in found or excess > found[after.name].excess:
                found[after.name] = WorstFrame(after.name, graph, excess, losses)
    return tuple(sorted(found.values(), key=lambda item: (-item.excess, item.frame))[:count])


def draw(frame: Array, reference: Maps, found: Maps, worst: WorstFrame, *, classes: Sequence[str]) -> bytes:
    """A JPEG: what FP32 and the other graph say about a frame, and where their classes differ.

    Args:
        frame: (H, W, 3) uint8 RGB, of the maps' size.
    """
    depth = reference.depth
    known = depth[np.isfinite(depth)] if depth is not None else np.empty(0)
    range_m = (float(known.min()), float(known.max())) if known.size and known.max() > known.min() else None
    differs = frame.copy()
    if reference.segmentation is not None and found.segmentation is not None:
        differs[reference.segmentation != found.segmentation] = (255, 40, 40)
    rows = []
    for first, graph, maps in (
        ((f"frame {worst.frame}", frame), "fp32", reference),
        (("classes that differ", differs), worst.graph, found),
    ):
        tiles = [titled(fit(first[1], _TILE_WIDTH), first[0])]
        for name, tile in map_tiles(frame, maps, classes=classes, range_m=range_m):
            tiles.append(titled(fit(tile, _TILE_WIDTH), name, graph))
        rows.append(row(tiles))
    fine, payload = cv2.imencode(".jpg", column(rows)[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not fine:
        raise BuildError("an image of the accuracy card could not be encoded")
    return bytes(payload.tobytes())


def describe(
    scores: Mapping[str, Score],
    verdicts: Mapping[str, Verdict],
    *,
    reference: str,
    budget: Budget,
    classes: Sequence[str],
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
        if score.ece is not None:
            entry["ece"] = round(score.ece, _DIGITS)
        if name != reference:
            entry |= {f"agreement_{key}": value for key, value in _rounded(score.agreement).items()}
        if score.class_iou:
            entry["class_iou"] = {classes[index]: round(value, _DIGITS) for index, value in score.class_iou.items()}
        if sqnr.get(name):
            entry["sqnr_db"] = dict(sqnr[name])
        graphs[name] = entry
    return {
        "measured": dict(measured),
        "reference": reference,
        "budget": budget.to_dict(),
        "graphs": graphs,
        "verdicts": {name: verdict.to_dict() for name, verdict in verdicts.items()},
        "worst": [
            {"picture": file, "frame": item.frame, "graph": item.graph, "losses": _rounded(item.losses)}
            for file, item in worst.items()
        ],
    }


def _losses(before: FrameScore, after: FrameScore) -> dict[str, float]:
    old, new = before.metrics(), after.metrics()
    found = {
        name: sign * (new[metric] - old[metric]) for name, (metric, sign) in DROPS.items() if metric in old and metric in new
    }
    return found or _differences(after)


def _differences(after: FrameScore) -> dict[str, float]:
    agreed = after.agreement
    found = {}
    if "argmax_agreement" in agreed:
        found["classes"] = 1.0 - agreed["argmax_agreement"]
    if "depth_relative_difference" in agreed:
        found["depth"] = agreed["depth_relative_difference"]
    if "normal_angle_deg" in agreed:
        found["angle"] = agreed["normal_angle_deg"]
    return found


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), _DIGITS) for name, value in values.items()}
