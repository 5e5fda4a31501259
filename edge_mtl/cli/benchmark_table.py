"""A benchmark as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.tasks import headlines

if TYPE_CHECKING:
    from edge_mtl.bench.report import BenchmarkReport

__all__ = ["show"]


def show(terminal: Terminal, report: BenchmarkReport) -> None:
    """Latency first, then what else was measured, then what was not and why; nothing with --json.

    The fastest row is stressed where it was shown to be faster than the next.
    """
    from edge_mtl.bench.statistics import FEWEST_SAMPLES

    if terminal.json_output:
        return
    _latency(terminal, report)
    if any(row.stream_fps or row.energy or row.paced or row.accuracy for row in report.rows):
        _more(terminal, report)
    terminal.show(f"Device: {report.conditions['device']['description']}")
    terminal.show("gain: times faster than the first row, median over rounds; sure: its 95 % interval.")
    if report.disturbed:
        terminal.show(f"Nothing is shown by these times: {report.disturbed}. Measure again.")
    if report.rounds < FEWEST_SAMPLES:
        terminal.show(f"Below {FEWEST_SAMPLES} rounds an interval is the range of what was seen, and no difference is shown.")
    if report.rows[0].batch == 1:
        terminal.show("start, MB: of a process of its own.")
    for entry in () if report.disturbed else report.differences:
        if entry.verdict == "no difference shown":
            terminal.show(
                f"No difference shown between {entry.first} and {entry.second}: "
                f"{entry.ratio.value:.3f}× ({entry.ratio.low:.3f} to {entry.ratio.high:.3f})."
            )
    for row in report.rows:
        if not row.warm_up.steady:
            warm = f"{row.warm_up.calls} calls and {row.warm_up.seconds:.1f} s"
            terminal.show(f"{row.name} did not become steady within {warm} of warming up.")
    for sentence in report.conditions["throttling"]:
        terminal.show(f"Held back: {sentence}.")
    for missing in report.unavailable:
        terminal.show(f"Not available here: {missing['name']}: {missing['reason']}")


def _latency(terminal: Terminal, report: BenchmarkReport) -> None:
    height, width = report.frame_size
    batch = report.rows[0].batch
    numbers = ["p50 ms", "p90", "p99", "max", "jitter", "gain", "sure"]
    numbers = [*numbers, "prepare", "infer", "post", "start s", "MB"] if batch == 1 else ["frames/s", *numbers]
    names = " and ".join(dict.fromkeys(str(bundle["name"]) for bundle in report.bundles))
    what = "whole frames" if batch == 1 else f"inference of {batch} frames at once, each"
    title = f"{names}: {what} of {height}x{width}, {report.rounds} interleaved rounds, {report.rows[0].threads} threads"
    result = table(title, "engine", *numbers, right=tuple(numbers))
    for row in report.rows:
        cells = [f"{value:.2f}" for value in (row.p50_ms, row.p90_ms, row.p99_ms, row.max_ms, row.jitter_ms)]
        cells += [f"{row.ratio:.2f}×", f"{row.ratio_sure[0]:.2f}–{row.ratio_sure[1]:.2f}"]
        if batch != 1:
            result.add_row(row.name, f"{row.frames_per_s:.1f}", *cells, style="bold" if row.name == report.fastest else None)
            continue
        cells += [_number(value, "{:.2f}") for value in (row.prepare_ms, row.infer_ms, row.postprocess_ms)]
        cells += [_number(row.start_s, "{:.2f}"), _number(row.rss_bytes and row.rss_bytes / 1e6, "{:.0f}")]
        result.add_row(row.name, *cells, style="bold" if row.name == report.fastest else None)
    terminal.show(result)


def _more(terminal: Terminal, report: BenchmarkReport) -> None:
    numbers = ["stream f/s", "load s", "first ms", "MB above empty"]
    energy = any(row.energy for row in report.rows)
    paced = next((row.paced for row in report.rows if row.paced), None)
    numbers += ["mJ/frame", "W"] if energy else []
    numbers += [f"age p50 at {paced.rate_hz:g} Hz", "p99", "missed"] if paced else []
    metrics = headlines(*(row.accuracy for row in report.rows))
    titles = [measure.title for measure in metrics.values()]
    result = table("", "engine", *numbers, *titles, right=(*numbers, *titles))
    for row in report.rows:
        start, memory = row.start_up, row.memory
        cells = [
            "–" if row.stream_fps is None else f"{row.stream_fps.value:.1f}",
            "–" if start is None else f"{start.load_s:.2f}",
            "–" if start is None else f"{start.first_s * 1e3:.0f}",
            "–" if memory is None else f"{memory.above_empty / 1e6:.0f}",
        ]
        if energy:
            cells += [f"{row.energy[0].joules.value * 1e3:.1f}", f"{row.energy[0].watts:.1f}"] if row.energy else ["–", "–"]
        if paced and row.paced is not None:
            age, missed = row.paced.age, f"{row.paced.missed} of {row.paced.frames}"
            cells += [f"{age.p50_ms:.1f}", f"{age.p99_ms:.1f}", missed]
        cells += [measure.show(row.accuracy[key]) if key in row.accuracy else "–" for key, measure in metrics.items()]
        result.add_row(row.name, *cells, style="bold" if row.name == report.fastest else None)
    terminal.show(result)


def _number(value: float | None, text: str) -> str:
    return "–" if value is None else text.format(value)
