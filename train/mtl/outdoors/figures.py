"""Which plots the report gets, and from which findings; how they are drawn is in `mtl.outdoors.plots`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_mtl.tasks import measure_of
from mtl.datasets.streets.classes import TIMES, WEATHERS
from mtl.outdoors.findings import CLEAN, Drawn, Findings
from mtl.outdoors.measuring import headline_keys
from mtl.outdoors.plots import HeatPanel, Line, heat_maps, lines, reliability
from mtl.outdoors.statistics import interval
from mtl.outdoors.tables import heading, places
from mtl.study.definition import slug
from mtl.study.document import Figure

__all__ = ["cell_figure", "focal_figure", "reliability_figure", "severity_figure"]


def cell_figure(found: Findings, name: str) -> Figure:
    """Every task of a network in all cells; colours are those of all networks together, so that maps compare."""
    cells = found.cells[name]
    panels = []
    for task, key in headline_keys(next(iter(cells.values())).measured).items():
        measure = measure_of(key)
        assert measure is not None
        every = [float(one.values[key][0]) for own in found.cells.values() for one in own.values() if key in one.values]
        best, worst = (max(every), min(every)) if measure.higher_is_better else (min(every), max(every))
        values = np.array([[float(cells[weather, time].values[key][0]) for time in TIMES] for weather in WEATHERS])
        scale = measure.scale
        panels.append(HeatPanel(heading(task, key), values * scale, best * scale, worst * scale, measure.digits))
    drawn = heat_maps(panels, rows=WEATHERS, columns=TIMES)
    caption = f"{name} in every cell of weather and time of day; the darker the better, on one scale for all networks."
    return Figure(f"cells-{slug(name)}.svg", drawn, caption)


def severity_figure(found: Findings, name: str) -> Figure:
    """Every task over severities, one line for each corruption."""
    spoilt = found.corruptions[name]
    clean = spoilt[CLEAN]
    kinds = dict.fromkeys(kind for kind, severity in spoilt if severity)
    severities = sorted({severity for _, severity in spoilt})
    panels = {}
    for task, key in headline_keys(clean.measured).items():
        measure = measure_of(key)
        assert measure is not None
        panels[heading(task, key)] = {
            kind: Line(
                tuple(map(float, severities)),
                tuple(float((spoilt[kind, at] if at else clean).values[key][0]) * measure.scale for at in severities),
            )
            for kind in kinds
        }
    caption = f"{name}: the tasks over the severity of each corruption; 0 is the clean frame."
    return Figure(f"corruptions-{slug(name)}.svg", lines(panels, x_label="severity", whole=True), caption)


def reliability_figure(found: Findings, home: Sequence[str]) -> Figure | None:
    """How often labels of each confidence are right, in and out of the home cell; None where no network predicts labels."""
    panels: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for name in found.cells:
        for where, one in list(places(found, name, home).items())[:2]:
            for task in one.measured.reliability:
                confidence, right, _ = one.measured.reliability_curve(task)
                panels.setdefault(task, {})[f"{name}: {where}"] = confidence, right
    if not panels:
        return None
    caption = "Labels by their confidence, in 15 bins. Below the dotted line a network is surer than it may be."
    return Figure("reliability.svg", reliability(panels), caption)


def focal_figure(found: Findings, name: str) -> Figure:
    """Errors over the focal length."""
    every = found.focal[name]
    first = next(iter(every.values()))
    panels = {}
    for task, key in headline_keys(first.told.measured).items():
        panels[heading(task, key)] = {
            "told": _line({factor: one.told for factor, one in every.items()}, key),
            "assumed": _line({factor: one.assumed for factor, one in every.items()}, key),
        }
    drawn = lines(panels, x_label="focal length, in canonical ones", shaded=found.trained_focal[name])
    caption = f"{name} through other lenses, with 95 % intervals; shaded: focal lengths of its training."
    return Figure(f"focal-{slug(name)}.svg", drawn, caption)


def _line(every: dict[float, Drawn], key: str) -> Line:
    measure = measure_of(key)
    assert measure is not None
    found = [interval(one.values[key]) for one in every.values()]
    values, lows, highs = (tuple(getattr(one, side) * measure.scale for one in found) for side in ("value", "low", "high"))
    return Line(tuple(every), values, lows, highs)
