"""Tables beside the study's: the IoU of every class, and depth by all that the field reports, as text.

Knows the details that metrics give (`edge_mtl.tasks.Metric.details`); knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Cells", "class_cells", "depth_cells"]

Rows = Mapping[str, Mapping[str, Any]]
Cells = tuple[tuple[str, ...], list[tuple[str, ...]]]
"""Headings, and lines of text."""

_IOU, _SCALED = "class_iou", "depth_median_scaled"
_DEPTH = {
    "depth_abs_m": ("abs m", 4),
    "depth_rel": ("rel", 4),
    "depth_rmse_m": ("RMSE m", 4),
    "depth_log10": ("log10", 4),
    "depth_delta1": ("δ1 <1.25", 4),
    "depth_delta2": ("δ2 <1.25²", 4),
    "depth_delta3": ("δ3 <1.25³", 4),
}


def class_cells(details: Rows) -> dict[str, Cells]:
    """By task of labels, the IoU of every class (percent) of every model; "" for the only task.

    Args:
        details: by model, what its metrics say besides.
    """
    keys = dict.fromkeys(key for row in details.values() for key in row if key.rpartition(".")[2] == _IOU)
    found: dict[str, Cells] = {}
    for key in keys:
        classes = dict.fromkeys(name for row in details.values() for name in row.get(key, {}))
        lines = [(name, *(_percent(row.get(key, {}).get(name)) for row in details.values())) for name in classes]
        found[key.rpartition(".")[0]] = ("IoU %", *details), lines
    return found


def depth_cells(metrics: Rows, details: Rows) -> dict[str, Cells]:
    """By task of depth, all measures of every model: metric as it answers, and after median scaling of every frame.

    Args:
        metrics: by model, its measures by key.
        details: by model, what its metrics say besides.
    """
    keys = dict.fromkeys(key for row in details.values() for key in row if key.rpartition(".")[2] == _SCALED)
    found: dict[str, Cells] = {}
    for key in keys:
        task = key.rpartition(".")[0]
        lines = []
        for name, row in details.items():
            own = {measure: {**metrics[name], **row}.get(f"{task}.{measure}" if task else measure) for measure in _DEPTH}
            lines.append((f"{name}, metric", *_depth_line(own)))
            if key in row:
                lines.append((f"{name}, median-scaled", *_depth_line(row[key])))
        found[task] = ("depth", *(heading for heading, _ in _DEPTH.values())), lines
    return found


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _depth_line(values: Mapping[str, float | None]) -> tuple[str, ...]:
    return tuple(
        "-" if (value := values.get(measure)) is None else f"{value:.{digits}f}" for measure, (_, digits) in _DEPTH.items()
    )
