"""What every form of the card says in words: table columns, conditions, sentences. Knows the JSON of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge_mtl.bench.conditions import disturbed
from edge_mtl.bench.statistics import FEWEST_SAMPLES
from edge_mtl.tasks import headlines

__all__ = ["columns", "conditions", "headline", "sentences", "subject"]

Report = Mapping[str, Any]
Row = Mapping[str, Any]


Table = tuple[list[str], list[list[str]]]


def columns(report: Report) -> tuple[Table, Table]:
    """Two tables, of time and of everything else: headings and one line of cells per row.

    Columns that no row fills are left out.
    """
    rows: Sequence[Row] = report["rows"]
    energy = next((row["energy"][0]["source"] for row in rows if row.get("energy")), None)
    paced = next((row["paced"]["rate_hz"] for row in rows if row.get("paced")), None)
    name: tuple[str, Any] = ("engine", lambda row: row["name"])
    frames_per_s = [("frames/s", lambda row: f"{row['batch'] * 1e3 / row['p50_ms']:.1f}")] if _batch(report) > 1 else []
    time: list[tuple[str, Any]] = [
        name,
        *frames_per_s,
        ("p50 ms", lambda row: f"{row['p50_ms']:.2f}"),
        ("95 % interval", lambda row: "{:.2f}–{:.2f}".format(*row["stages"]["total"]["p50_sure"])),
        ("p90", lambda row: f"{row['p90_ms']:.2f}"),
        ("p99", lambda row: f"{row['p99_ms']:.2f}"),
        ("max", lambda row: f"{row['max_ms']:.2f}"),
        ("jitter", lambda row: f"{row['jitter_ms']:.2f}"),
        ("engine only ms", lambda row: f"{row['stages']['engine']['p50_ms']:.2f}"),
        ("times faster", lambda row: f"{row['ratio']:.2f}"),
        ("its interval", lambda row: "{:.2f}–{:.2f}".format(*row["ratio_sure"])),
    ]
    other: list[tuple[str, Any]] = [
        name,
        ("stream f/s", lambda row: f"{row['stream_fps']['value']:.1f}"),
        ("start to first prediction s", lambda row: f"{row['start_up']['start_s']:.2f}"),
        ("load s", lambda row: f"{row['start_up']['load_s']:.2f}"),
        ("first ms", lambda row: f"{row['start_up']['first_s'] * 1e3:.0f}"),
        ("peak MB", lambda row: f"{row['memory']['peak_rss'] / 1e6:.0f}"),
        ("MB above empty", lambda row: f"{row['memory']['above_empty'] / 1e6:.0f}"),
        ("GPU MB", lambda row: f"{row['memory']['device'] / 1e6:.0f}"),
        ("file MB", lambda row: f"{row['size_bytes'] / 1e6:.1f}"),
        (f"mJ a frame ({energy})", lambda row: f"{row['energy'][0]['joules']['value'] * 1e3:.1f}"),
        ("W", lambda row: f"{row['energy'][0]['watts']:.1f}"),
        (f"age p50 ms at {paced or 0:g} Hz", lambda row: f"{row['paced']['age']['p50_ms']:.1f}"),
        ("age p99", lambda row: f"{row['paced']['age']['p99_ms']:.1f}"),
        ("missed", lambda row: f"{row['paced']['missed']} of {row['paced']['frames']}"),
        *(
            (measure.title, lambda row, key=key, measure=measure: measure.show(row["accuracy"][key]))
            for key, measure in headlines(*(row.get("accuracy") or {} for row in rows)).items()
        ),
    ]
    return _table(rows, time), _table(rows, other)


def subject(report: Report) -> str:
    """What one timed call is."""
    height, width = report["frame_size"]
    what = "whole frames" if _batch(report) == 1 else f"inference of {_batch(report)} frames at once, each"
    return f"{what} of {height}×{width}, {report['rounds']} interleaved rounds"


def _batch(report: Report) -> int:
    return max(int(row.get("batch", 1)) for row in report["rows"])


def headline(report: Report) -> list[tuple[str, str]]:
    """A few figures of the fastest row: (value, what it is); says of which row it was not shown to be faster.

    None at all where the machine was `disturbed`: who reads the top only must not take a wrong figure along.
    """
    if why := disturbed(report):
        return [("nothing shown", f"{why}: measure again")]
    best = min(report["rows"], key=lambda row: row["p50_ms"])
    found = [
        (
            f"{best['p50_ms']:.1f} ms",
            f"{'a frame' if _batch(report) == 1 else f'{_batch(report)} frames'}, median: {best['name']}{_doubt(report)}",
        ),
        (f"{best['ratio']:.2f}×", f"times faster than {report['baseline']}"),
    ]
    if best.get("stream_fps"):
        found.append((f"{best['stream_fps']['value']:.0f} f/s", "of a recording, by stream()"))
    if best.get("memory"):
        found.append((f"{best['memory']['peak_rss'] / 1e6:.0f} MB", "peak memory of a process"))
    if best.get("energy"):
        found.append((f"{best['energy'][0]['joules']['value'] * 1e3:.0f} mJ", f"a frame: {best['energy'][0]['covers']}"))
    return found


def _doubt(report: Report) -> str:
    """What limits that the fastest row is the fastest; empty where it was shown. Differences begin with the fastest."""
    first = next(iter(report["differences"]), None)
    if first is None or first["verdict"] == "faster":
        return ""
    return f"; not shown to be faster than {first['second']}"


def conditions(report: Report) -> list[tuple[str, str]]:
    """(what, value) pairs: device, versions, commit, date, command, state before and after."""
    device = report["device"]
    pairs = [
        ("device", device["description"]),
        ("fingerprint", f"{device['key']}, {device['system']}, Python {device['python']}"),
        ("date", report["date"]),
        ("commit", report["commit"] or "not in a repository"),
        ("command", report["command"]),
        (
            "bundles",
            "; ".join(f"{item['name']}, revision {item['revision']}, {item['digest'][:16]}" for item in report["bundles"]),
        ),
        ("versions", ", ".join(f"{name} {version}" for name, version in report["versions"].items())),
        ("threads", ", ".join(dict.fromkeys(str(row["threads"]) for row in report["rows"]))),
    ]
    pairs += [(f"state {when}", _state(report["state"][when])) for when in ("before", "after")]
    return pairs


def sentences(report: Report) -> list[str]:
    """What a reader must know before believing a figure."""
    found = [f"Held back while measuring: {entry}." for entry in report["throttling"]]
    if report["rounds"] < FEWEST_SAMPLES:
        found.append(f"Below {FEWEST_SAMPLES} rounds an interval is the range of what was seen, and no difference is shown.")
    for entry in () if disturbed(report) else report["differences"]:
        if entry["verdict"] == "no difference shown":
            ratio = entry["ratio"]
            found.append(
                f"No difference shown between {entry['first']} and {entry['second']}: {ratio['value']:.3f}× "
                f"({ratio['low']:.3f} to {ratio['high']:.3f})."
            )
    for row in report["rows"]:
        if not row["warm_up"]["steady"]:
            found.append(
                f"{row['name']} did not become steady within {row['warm_up']['calls']} calls and "
                f"{row['warm_up']['seconds']:.1f} s of warming up."
            )
    found += [f"Not available here: {entry['name']}: {entry['reason']}" for entry in report["unavailable"]]
    return found


def _table(rows: Sequence[Row], wanted: Sequence[tuple[str, Any]]) -> Table:
    heads, cells = [], []
    for head, read in wanted:
        column = [_cell(read, row) for row in rows]
        if any(cell != "–" for cell in column):
            heads.append(head)
            cells.append(column)
    return heads, [list(line) for line in zip(*cells, strict=True)]


def _cell(read: Any, row: Row) -> str:
    try:
        return str(read(row))
    except (KeyError, TypeError, IndexError):  # not measured for this row
        return "–"


def _state(state: Mapping[str, Any]) -> str:
    parts = []
    for name, value in state.items():
        if name.endswith("_ticks"):
            continue
        if isinstance(value, Mapping):
            value = ", ".join(f"{key} {entry}" for key, entry in value.items() if entry != 0)
        elif isinstance(value, (list, tuple)):
            value = " to ".join(f"{entry:g}" for entry in value)
        if value != "":
            parts.append(f"{name.replace('_', ' ')}: {value}")
    return "; ".join(parts) or "this machine tells nothing"
