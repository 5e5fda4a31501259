"""Two benchmarks side by side: ratios of ratios, row by row. Knows the JSON of benchmarks; prints nothing.

Times of two runs cannot be compared: the machine, its load and its clocks were others. Each run has a reference of its
own, measured in the same minutes, so what is compared are the rows' ratios to it. Any JSON with "baseline" and "rows" of
"name", "ratio" and "ratio_sure" will do: that of `edge-mtl benchmark`, and the results of the scripts in benchmarks/.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edge_mtl.bench.statistics import Interval
from edge_mtl.errors import BundleError

__all__ = ["THRESHOLD", "Change", "Comparison", "compare", "read"]

THRESHOLD = 0.05
"""Share by which repeated runs of one benchmark on one noisy machine are expected to agree."""

Judgement = Literal["slower", "faster", "same", "unclear"]
_MAX_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Change:
    """One row in both runs.

    Attributes:
        before, after: ratio to the reference of the run, how many times faster than it.
        change: after / before with its 95 % interval; below 1 is slower.
        judgement: "slower" or "faster" where the change is larger than the threshold and the interval excludes 1;
            "same" where the interval lies within the threshold; else "unclear": more rounds would tell.
    """

    name: str
    before: Interval
    after: Interval
    change: Interval
    judgement: Judgement


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two runs.

    Attributes:
        changes: rows in both, in the order of the first.
        only_before, only_after: names of rows that the other run does not have.
        remarks: why a comparison may mislead, a sentence each: another machine, other versions, throttling.
    """

    baseline: str
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    remarks: tuple[str, ...]
    threshold: float

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Rows that became slower."""
        return tuple(change for change in self.changes if change.judgement == "slower")


def read(path: Path) -> dict[str, Any]:
    """A benchmark's JSON.

    Raises:
        BundleError: missing, or not what a benchmark writes.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path} is too large for a benchmark's JSON.")
        content = json.loads(path.read_bytes())
    except OSError as exc:
        raise BundleError(f"{path} cannot be read ({exc.strerror or exc}). {_EXPECTED}") from exc
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{path} is no JSON ({exc}). {_EXPECTED}") from exc
    if not isinstance(content, dict) or "baseline" not in content or not isinstance(content.get("rows"), list):
        raise BundleError(f'{path} has no "baseline" and "rows". {_EXPECTED}')
    return content


def compare(before: Mapping[str, Any], after: Mapping[str, Any], *, threshold: float = THRESHOLD) -> Comparison:
    """What changed from one benchmark to another, both as `read` gives them.

    Raises:
        BundleError: they have different references, no row in common, or rows that are not rows.
        ValueError: a threshold that is not a share.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold should be a share, 0 to 1; found {threshold}")
    if before["baseline"] != after["baseline"]:
        raise BundleError(
            f"The benchmarks refer to different baselines, {before['baseline']!r} and {after['baseline']!r}: "
            "their ratios cannot be compared."
        )
    old, new = _ratios(before), _ratios(after)
    common = [name for name in old if name in new and name != before["baseline"]]
    if not common:
        raise BundleError(f"The benchmarks have no row in common: {', '.join(old)} against {', '.join(new)}.")
    return Comparison(
        baseline=str(before["baseline"]),
        changes=tuple(_change(name, old[name], new[name], threshold) for name in common),
        only_before=tuple(name for name in old if name not in new),
        only_after=tuple(name for name in new if name not in old),
        remarks=tuple(_remarks(before, after)),
        threshold=threshold,
    )


def _ratios(content: Mapping[str, Any]) -> dict[str, Interval]:
    found = {}
    try:
        for row in content["rows"]:
            low, high = row["ratio_sure"]
            ratio = Interval(float(row["ratio"]), float(low), float(high))
            if not all(math.isfinite(value) and value > 0 for value in (ratio.value, ratio.low, ratio.high)):
                raise ValueError(f"{row['name']} has the ratio {row['ratio']}")
            found[str(row["name"])] = ratio
    except (KeyError, TypeError, ValueError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise BundleError(f'Rows should have "name", "ratio" and "ratio_sure": {what}. {_EXPECTED}') from exc
    return found


def _change(name: str, before: Interval, after: Interval, threshold: float) -> Change:
    """Intervals of a quotient: half-widths of the logarithms add up as squares, the two runs being independent."""
    value = after.value / before.value
    down = math.hypot(math.log(after.value / after.low), math.log(before.high / before.value))
    up = math.hypot(math.log(after.high / after.value), math.log(before.value / before.low))
    change = Interval(value, value * math.exp(-down), value * math.exp(up))
    allowed = 1.0 + threshold
    judgement: Judgement = "unclear"
    if change.value < 1 / allowed and change.high < 1:
        judgement = "slower"
    elif change.value > allowed and change.low > 1:
        judgement = "faster"
    elif change.low >= 1 / allowed and change.high <= allowed:
        judgement = "same"
    return Change(name, before, after, change, judgement)


def _remarks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    places = [_entry(run, "device", "description") for run in (before, after)]
    if places[0] != places[1]:
        found.append(f"the machines differ: {places[0]}; {places[1]}")
    old, new = (run["versions"] if isinstance(run.get("versions"), dict) else {} for run in (before, after))
    found += [f"{name} {old[name]} became {new[name]}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    for which, run in (("first", before), ("second", after)):
        sentences: Sequence[object] = run.get("throttling") or ()
        found += [f"the {which} run was held back: {sentence}" for sentence in sentences]
    return found


def _entry(content: Mapping[str, Any], outer: str, inner: str) -> object:
    inside = content.get(outer)
    return inside.get(inner) if isinstance(inside, dict) else None


_EXPECTED = "Expected what edge-mtl benchmark --out FILE wrote, or a result of a script in benchmarks/."
