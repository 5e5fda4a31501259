"""Tables of the outdoors study, and the sentences that its report opens with. Knows findings; measures nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edge_mtl.tasks import measure_of
from mtl.outdoors.domains import cell_name
from mtl.outdoors.findings import CLEAN, Cell, Drawn, Findings, Focal, together
from mtl.outdoors.measuring import headline_keys
from mtl.outdoors.statistics import Interval, interval, mean_under_corruption, spearman
from mtl.study.document import TextTable

__all__ = [
    "cell_table", "confidence_table", "consistency_table", "corruption_table", "focal_table", "heading", "in_short",
    "kinds_table", "places", "ranking_table", "rankings", "reach_table", "robustness", "transfer_table", "worst_cell",
]  # fmt: skip

Array = np.ndarray


def heading(task: str, key: str) -> str:
    """ "lane mIoU %", of a task and the key of its measure."""
    measure = measure_of(key)
    assert measure is not None
    return measure.title if measure.title.startswith(task) else f"{task} {measure.title}"


def shown(key: str, value: float, *, unit: bool = False) -> str:
    """A value of a measure as tables show it."""
    measure = measure_of(key)
    assert measure is not None
    if not np.isfinite(value):
        return "-"
    return f"{value * measure.scale:.{measure.digits}f}" + (measure.title.rsplit(" ", 1)[-1] if unit else "")


def _with_interval(key: str, one: Interval) -> str:
    return f"{shown(key, one.value)} ({shown(key, one.low)} to {shown(key, one.high)})"


def _share(one: Interval, digits: int = 0) -> str:
    """A share in percent with its interval."""
    if not np.isfinite(one.value):
        return "-"
    return f"{100 * one.value:.{digits}f} ({100 * one.low:.{digits}f} to {100 * one.high:.{digits}f})"


def _better_high(key: str) -> bool:
    measure = measure_of(key)
    assert measure is not None
    return measure.higher_is_better


def worst_cell(cells: Mapping[Cell, Drawn], key: str) -> Cell:
    """Where a measure is worst."""
    sign = 1.0 if _better_high(key) else -1.0
    return min(cells, key=lambda cell: sign * float(cells[cell].values[key][0]))


def reach_table(found: Findings, home: Sequence[str]) -> TextTable:
    """Of every network and task: at home, in all other cells together, in the worst one."""
    rows = []
    for name, cells in found.cells.items():
        at_home = cells[_home(cells, home)]
        others = together([one for cell, one in cells.items() if cell != _home(cells, home)])
        for task, key in headline_keys(at_home.measured).items():
            worst = worst_cell(cells, key)
            ratio = interval(_ratio(others.values[key], at_home.values[key]))
            row = [name, heading(task, key)]
            row += [_with_interval(key, interval(one.values[key])) for one in (at_home, others)]
            row += [f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})"]
            rows.append((*row, f"{_with_interval(key, interval(cells[worst].values[key]))}, {cell_name(worst)}"))
    headings = ("network", "measure", " ".join(home), "the 11 other cells", "their ratio", "the worst cell")
    return TextTable(headings, tuple(rows), caption=f"From {cell_name(_home_of(home))} to other cells.")


def cell_table(name: str, cells: Mapping[Cell, Drawn]) -> TextTable:
    """One network in every cell."""
    keys = headline_keys(next(iter(cells.values())).measured)
    rows = tuple(
        (cell_name(cell), *(_with_interval(key, interval(one.values[key])) for key in keys.values()))
        for cell, one in cells.items()
    )
    headings = ("cell", *(heading(task, key) for task, key in keys.items()))
    return TextTable(headings, rows, caption=f"{name}, in every cell.")


def robustness(spoilt: Mapping[tuple[str, int], Drawn]) -> dict[str, tuple[Interval, Interval]]:
    """mPC and rPC by key of the tasks' measures."""
    clean = spoilt[CLEAN]
    found = {}
    for key in headline_keys(clean.measured).values():
        mean = mean_under_corruption({where: one.values[key] for where, one in spoilt.items() if where != CLEAN})
        found[key] = interval(mean), interval(_ratio(mean, clean.values[key]))
    return found


def corruption_table(found: Findings) -> TextTable:
    """mPC and rPC of every network and task."""
    rows = []
    for name, spoilt in found.corruptions.items():
        clean = spoilt[CLEAN]
        robust = robustness(spoilt)
        for task, key in headline_keys(clean.measured).items():
            mean, share = robust[key]
            row = (name, heading(task, key), _with_interval(key, interval(clean.values[key])), _with_interval(key, mean))
            rows.append((*row, f"{share.value:.2f} ({share.low:.2f} to {share.high:.2f})"))
    return TextTable(("network", "measure", "clean", "mPC", "rPC"), tuple(rows), caption="All corruptions and severities.")


def kinds_table(name: str, spoilt: Mapping[tuple[str, int], Drawn]) -> TextTable:
    """rPC of every corruption alone, severities 1 to 5 together."""
    clean = spoilt[CLEAN]
    keys = headline_keys(clean.measured)
    rows = []
    for kind in dict.fromkeys(kind for kind, severity in spoilt if severity):
        own = {where: one for where, one in spoilt.items() if where[0] == kind}
        shares = []
        for key in keys.values():
            mean = mean_under_corruption({where: one.values[key] for where, one in own.items()})
            shares.append(interval(_ratio(mean, clean.values[key])))
        rows.append((kind, *(f"{one.value:.2f} ({one.low:.2f} to {one.high:.2f})" for one in shares)))
    headings = ("corruption", *(heading(task, key) for task, key in keys.items()))
    return TextTable(headings, tuple(rows), caption=f"{name}: rPC of each corruption alone; of errors, above 1 is worse.")


def places(found: Findings, name: str, home: Sequence[str]) -> dict[str, Drawn]:
    """Where confidences are looked at: at home, in the other cells, under corruption, if there was any."""
    cells = found.cells[name]
    at_home = _home(cells, home)
    every = {
        cell_name(at_home): cells[at_home],
        "other cells": together([one for cell, one in cells.items() if cell != at_home]),
    }
    if name in found.corruptions:
        every["corrupted"] = together([one for where, one in found.corruptions[name].items() if where != CLEAN])
    return every


def confidence_table(found: Findings, home: Sequence[str]) -> TextTable:
    """Of every task of labels: how many pixels are wrong, and whether their confidence says so."""
    rows = []
    for name in found.cells:
        for where, one in places(found, name, home).items():
            for task in one.measured.reliability:
                values = [interval(one.values[f"{task}.{what}"]) for what in ("wrong", "confidence", "ece", "auroc")]
                rows.append((name, where, task, *(_share(value, 1) for value in values)))
    headings = ("network", "frames", "task", "wrong pixels %", "confidence %", "ECE %", "AUROC %")
    return TextTable(headings, tuple(rows), caption="The softmax confidence of labels, and whether it tells wrong pixels.")


def consistency_table(found: Findings, home: Sequence[str]) -> TextTable | None:
    """The same of depth by its angle to the normals; None where no network predicts both."""
    rows = []
    for name in found.cells:
        for where, one in places(found, name, home).items():
            if one.measured.angles is not None:
                far, auroc, angle = (interval(one.values[f"depth.{what}"]) for what in ("far_off", "auroc", "angle"))
                mean = f"{angle.value:.1f} ({angle.low:.1f} to {angle.high:.1f})"
                rows.append((name, where, _share(far, 1), mean, _share(auroc, 1)))
    if not rows:
        return None
    headings = ("network", "frames", "depth off by more than 25 %, %", "mean angle °", "AUROC %")
    return TextTable(headings, tuple(rows), caption="Whether the angle between normals and depth tells wrong depth.")


def rankings(found: Findings) -> dict[str, dict[str, float | None]]:
    """By network and task, the rank correlation over cells of the mean doubt and of how much is wrong."""
    every: dict[str, dict[str, float | None]] = {}
    for name, cells in found.cells.items():
        first = next(iter(cells.values()))
        own = {}
        for task in first.measured.reliability:
            doubt, wrong = (
                np.array([one.values[f"{task}.{what}"][0] for one in cells.values()]) for what in ("confidence", "wrong")
            )
            own[task] = spearman(-doubt, wrong)
        if first.measured.angles is not None:
            angle, far = (np.array([one.values[f"depth.{what}"][0] for one in cells.values()]) for what in ("angle", "far_off"))
            own["depth"] = spearman(angle, far)
        every[name] = {task: value if np.isfinite(value) else None for task, value in own.items()}
    return every


def ranking_table(found: Findings) -> TextTable:
    """See `rankings`."""
    ranked = rankings(found)
    tasks = list(dict.fromkeys(task for own in ranked.values() for task in own))
    rows = tuple((name, *(_correlation(own.get(task)) for task in tasks)) for name, own in ranked.items())
    caption = (
        "Does a network know which of the 12 cells it does worse in? Spearman's rank correlation over cells of mean doubt (of "
    )
    caption += "depth: mean angle) and share of wrong pixels; 12 cells are few."
    return TextTable(("network", *tasks), rows, caption=caption)


def focal_table(name: str, every: Mapping[float, Focal]) -> TextTable:
    """One network through every lens."""
    keys = headline_keys(next(iter(every.values())).told.measured)
    headings = [f"{heading(task, key)}, {how}" for task, key in keys.items() for how in ("told", "assumed")]
    rows = []
    for factor, one in every.items():
        cells = [_with_interval(key, interval(own.values[key])) for key in keys.values() for own in (one.told, one.assumed)]
        rows.append((f"{factor:g}", *cells))
    return TextTable(("focal length", *headings), tuple(rows), caption=f"{name}, through other lenses.")


def transfer_table(found: Findings) -> TextTable:
    """Networks of rooms and of streets in both worlds."""
    rows = []
    for name, worlds in found.transfer.items():
        for world, one in worlds.items():
            shape = one.measured.details.get("depth_median_scaled", {})
            measures = one.measured.measures
            depth = _with_interval("depth_rel", interval(one.values["depth_rel"])) if "depth_rel" in one.values else "-"
            normal = one.values.get("normal_mean_deg")
            rows.append(
                (
                    name,
                    world,
                    depth,
                    _plain("depth_delta1", measures),
                    _plain("depth_rel", shape),
                    _plain("depth_delta1", shape),
                    "-" if normal is None else _with_interval("normal_mean_deg", interval(normal)),
                )
            )
    metres, scaled = ((f"depth %, {how}", f"within 1.25 %, {how}") for how in ("metres", "median scaled"))
    headings = ("network", "frames", *metres, *scaled, "normals °")
    return TextTable(headings, tuple(rows), caption="Networks of one world in the other.")


def in_short(found: Findings, home: Sequence[str]) -> list[str]:
    """The study in a few sentences, of what was measured alone."""
    said = []
    for name, cells in found.cells.items():
        at_home = cells[_home(cells, home)]
        parts = []
        for task, key in headline_keys(at_home.measured).items():
            worst = worst_cell(cells, key)
            here, there = (shown(key, float(one.values[key][0])) for one in (at_home, cells[worst]))
            parts.append(f"{heading(task, key)} {here}, at worst {there} ({cell_name(worst)})")
        said.append(f"{name}, in {cell_name(_home_of(home))} and in the worst cell: {'; '.join(parts)}.")
    for name, spoilt in found.corruptions.items():
        robust = robustness(spoilt)
        keys = headline_keys(spoilt[CLEAN].measured)
        said.append(f"{name}, rPC: {', '.join(f'{task} {robust[key][1].value:.2f}' for task, key in keys.items())}.")
    for name in found.cells:
        every = places(found, name, home)
        first, second = list(every.values())[:2]
        parts = []
        for task in first.measured.reliability:
            errors, told = (
                [100 * float(one.values[f"{task}.{what}"][0]) for one in (first, second)] for what in ("ece", "auroc")
            )
            parts.append(f"{task} {errors[0]:.1f} to {errors[1]:.1f} % (AUROC {told[0]:.0f} to {told[1]:.0f})")
        if parts:
            said.append(f"{name}, ECE from {cell_name(_home_of(home))} to the other cells: {'; '.join(parts)}.")
    return said


def _plain(key: str, values: Mapping[str, Any]) -> str:
    return shown(key, float(values[key])) if key in values else "-"


def _correlation(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Array = np.where(below != 0, above / below, np.nan)
    return found


def _home(cells: Mapping[Cell, Drawn], home: Sequence[str]) -> Cell:
    return next(cell for cell in cells if list(cell) == list(home))


def _home_of(home: Sequence[str]) -> Any:
    return home[0], home[1]
