"""Two benchmarks side by side: ratios of ratios, row by row. Knows the JSON of benchmarks; prints nothing.

Times of two runs cannot be compared: the machine, its load and its clocks were others. Each run has a reference of its
own, measured in the same minutes, so what is compared are the rows' ratios to it. Any JSON with "baseline" and "rows" of
"name", "ratio" and "ratio_sure" will do: that of `edge-mtl benchmark`, of benchmarks/peers.py and of
benchmarks/whole_frame.py. Runs that measured something else, frames of another size or another number at once, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edge_mtl.bench.conditions import disturbed
from edge_mtl.bench.statistics import FEWEST_SAMPLES, Interval
from edge_mtl.documents import parse_json
from edge_mtl.errors import BundleError, RegressionError
from edge_mtl.numbers import is_number

__all__ = ["THRESHOLD", "Change", "Comparison", "check_comparable", "compare", "judge", "read"]

THRESHOLD = 0.05
"""Share by which repeated runs of one benchmark on one noisy machine are expected to agree."""

Judgement = Literal["slower", "faster", "same", "unclear"]
_MAX_BYTES = 1 << 28
_SIZES = ("frame_size", "size", "network", "frame")
"""Where benchmarks write sizes of frames, [height, width] in pixels."""


@dataclass(frozen=True, slots=True)
class Change:
    """One row in both runs.

    Attributes:
        before, after: ratio to the reference of the run, how many times faster than it.
        change: after / before with its 95 % interval; below 1 is slower.
        judgement: "slower" or "faster" where the change is larger than the threshold and the interval excludes 1;
            "same" where the interval lies within the threshold; else "unclear": more rounds would tell. Always "unclear"
            where a run had fewer than `FEWEST_SAMPLES` rounds or was `disturbed`.
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
        remarks: why a comparison may mislead, a sentence each: another bundle, machine, versions or threads, throttling.
    """

    baseline: str
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    remarks: tuple[str, ...]
    threshold: float

    @property
    def slower(self) -> tuple[Change, ...]:
        """Rows that became slower."""
        return tuple(change for change in self.changes if change.judgement == "slower")

    @property
    def regressions(self) -> tuple[str, ...]:
        """Names of rows that became slower, and of those that the second run does not have any more."""
        return (*(change.name for change in self.slower), *self.only_before)

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON."""
        return {**asdict(self), "regressions": list(self.regressions)}


def judge(found: Comparison) -> None:
    """Raises RegressionError where a row became slower or is gone."""
    sentences = []
    if found.slower:
        worst = min((change.change for change in found.slower), key=lambda change: change.value)
        names = ", ".join(change.name for change in found.slower)
        sentences.append(
            f"slower than before against {found.baseline}: {names}; worst {worst.value:.3f}× "
            f"({worst.low:.3f} to {worst.high:.3f}), at least {1 / (1 + found.threshold):.3f}× was expected."
        )
    if found.only_before:
        sentences.append(
            f"not measured any more, which counts as slower: {', '.join(found.only_before)}. "
            "Build what is missing with edge-mtl build-engine, or measure both with the same options."
        )
    if sentences:
        raise RegressionError(" ".join(sentences))


def read(path: Path) -> dict[str, Any]:
    """A benchmark's JSON, its rows checked.

    Raises:
        BundleError: missing, or not what a benchmark writes.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path} is too large for a benchmark's JSON.")
        content = parse_json(path.read_bytes())
    except OSError as exc:
        raise BundleError(f"{path} cannot be read ({exc.strerror or exc}). {_EXPECTED}") from exc
    except ValueError as exc:
        raise BundleError(f"{path} is no JSON ({exc}). {_EXPECTED}") from exc
    if not isinstance(content, dict) or "baseline" not in content or not isinstance(content.get("rows"), list):
        raise BundleError(f'{path} has no "baseline" and "rows". {_EXPECTED}')
    _ratios(content)
    return content


def check_comparable(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Refuse two benchmarks that measured different things; the second may be one that is only planned.

    Args:
        before: as `read` gives it.
        after: the same; of its rows "name" and "batch" are looked at, so that no time need have been measured.
    Raises:
        BundleError: they have different references, other frames, more or fewer at once, or no row in common.
    """
    if before["baseline"] != after["baseline"]:
        raise BundleError(
            f"The benchmarks refer to different baselines, {before['baseline']!r} and {after['baseline']!r}: "
            "their ratios cannot be compared."
        )
    batches = [" and ".join(dict.fromkeys(str(row.get("batch", 1)) for row in run["rows"])) for run in (before, after)]
    if batches[0] != batches[1]:
        raise BundleError(
            f"The benchmarks measured different things: frames at once are {batches[0]} and {batches[1]}. "
            "Measure both with the same --batch."
        )
    for name in _SIZES:
        if name in before and name in after and before[name] != after[name]:
            raise BundleError(
                f"The benchmarks measured different things: {name} is {before[name]} and {after[name]}. "
                "Measure both with bundles of the same size."
            )
    names = [[str(row["name"]) for row in run["rows"]] for run in (before, after)]
    if not any(name in names[1] and name != before["baseline"] for name in names[0]):
        raise BundleError(f"The benchmarks have no row in common: {', '.join(names[0])} against {', '.join(names[1])}.")


def compare(before: Mapping[str, Any], after: Mapping[str, Any], *, threshold: float = THRESHOLD) -> Comparison:
    """What changed from one benchmark to another, both as `read` gives them.

    Raises:
        BundleError: see `check_comparable`, or rows that are not rows.
        ValueError: a threshold that is not a share.
    """
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold should be a share, 0 to 1; found {threshold}")
    old, new = _ratios(before), _ratios(after)
    check_comparable(before, after)
    common = [name for name in old if name in new and name != before["baseline"]]
    enough = min(_rounds(before), _rounds(after)) >= FEWEST_SAMPLES and not (disturbed(before) or disturbed(after))
    return Comparison(
        baseline=str(before["baseline"]),
        changes=tuple(_change(name, old[name], new[name], threshold, enough=enough) for name in common),
        only_before=tuple(name for name in old if name not in new),
        only_after=tuple(name for name in new if name not in old),
        remarks=tuple(_remarks(before, after)),
        threshold=threshold,
    )


def _ratios(content: Mapping[str, Any]) -> dict[str, Interval]:
    found = {}
    try:
        for row in content["rows"]:
            values = (row["ratio"], *row["ratio_sure"])
            if len(values) != 3 or not all(map(is_number, values)) or not 0 < values[1] <= values[0] <= values[2]:
                raise ValueError(f"{row['name']} has the ratio {str(values)[:80]}")
            found[str(row["name"])] = Interval(*map(float, values))
    except (KeyError, TypeError, ValueError) as exc:
        what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
        raise BundleError(f'Rows should have "name", "ratio" and "ratio_sure": {what}. {_EXPECTED}') from exc
    return found


def _rounds(content: Mapping[str, Any]) -> float:
    """Timed frames of each row; many where the run does not tell."""
    rounds = content.get("rounds")
    return rounds if isinstance(rounds, int) else math.inf


def _change(name: str, before: Interval, after: Interval, threshold: float, *, enough: bool) -> Change:
    """Intervals of a quotient: half-widths of the logarithms add up as squares, the two runs being independent."""
    value = after.value / before.value
    down = math.hypot(math.log(after.value / after.low), math.log(before.high / before.value))
    up = math.hypot(math.log(after.high / after.value), math.log(before.value / before.low))
    change = Interval(value, value * math.exp(-down), value * math.exp(up))
    allowed = 1.0 + threshold
    judgement: Judgement = "unclear"
    if not enough:
        pass
    elif change.value < 1 / allowed and change.high < 1:
        judgement = "slower"
    elif change.value > allowed and change.low > 1:
        judgement = "faster"
    elif change.low >= 1 / allowed and change.high <= allowed:
        judgement = "same"
    return Change(name, before, after, change, judgement)


def _remarks(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    found = []
    for what, tell in (("bundles", _bundles), ("threads", _threads)):
        told = [tell(run) for run in (before, after)]
        if all(told) and told[0] != told[1]:
            found.append(f"the {what} differ: {told[0]}; {told[1]}")
    for which, run in (("first", before), ("second", after)):
        if (rounds := _rounds(run)) < FEWEST_SAMPLES:
            found.append(f"the {which} run had {rounds} rounds: below {FEWEST_SAMPLES} nothing is shown")
    places = [_entry(run, "device", "description") for run in (before, after)]
    if places[0] != places[1]:
        found.append(f"the machines differ: {places[0]}; {places[1]}")
    old, new = (run["versions"] if isinstance(run.get("versions"), dict) else {} for run in (before, after))
    found += [f"{name} {old[name]} became {new[name]}" for name in sorted(old.keys() & new.keys()) if old[name] != new[name]]
    for which, run in (("first", before), ("second", after)):
        why = disturbed(run)
        if why:
            found.append(f"the {which} run was disturbed: {why}. Measure again")
        noted = run.get("throttling")
        sentences: Sequence[object] = noted if isinstance(noted, list) else ()
        found += [f"the {which} run was held back: {text}" for text in map(str, sentences) if not why.startswith(text)]
    return found


def _bundles(content: Mapping[str, Any]) -> str:
    """What was measured; empty where the run does not tell."""
    told = content.get("bundles") or [content.get("bundle")]
    known = [entry for entry in told if isinstance(entry, dict)] if isinstance(told, list) else []
    return ", ".join(f"{one.get('name')} revision {one.get('revision')} ({str(one.get('digest'))[:16]})" for one in known)


def _threads(content: Mapping[str, Any]) -> str:
    """Those of the rows, in benchmarks of scripts those of runtime and OpenCV; empty where the run does not tell."""
    told = content.get("threads")
    if isinstance(told, dict):
        return ", ".join(f"{told[name]} ({name})" for name in sorted(told))
    return ", ".join(dict.fromkeys(str(row["threads"]) for row in content["rows"] if "threads" in row))


def _entry(content: Mapping[str, Any], outer: str, inner: str) -> object:
    inside = content.get(outer)
    return inside.get(inner) if isinstance(inside, dict) else None


_EXPECTED = "Expected what edge-mtl benchmark --save FILE wrote, or benchmarks/peers.py or benchmarks/whole_frame.py."
