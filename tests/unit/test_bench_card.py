"""The card and the comparison, from reports made of numbers: whole, self-contained, escaped, and honest about gaps."""

from __future__ import annotations

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mtl.bench.card import to_html, to_markdown
from edge_mtl.bench.card.svg import nice_ticks
from edge_mtl.bench.compare import compare, read
from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.energy import EnergyRow
from edge_mtl.bench.paced import PacedRow
from edge_mtl.bench.report import BenchmarkReport, BenchmarkRow, Memory, StartUp, differences
from edge_mtl.bench.statistics import Interval, distribution, ratio_interval, verdict
from edge_mtl.bench.turns import WarmUp
from edge_mtl.commands.terminal import plain
from edge_mtl.errors import BundleError
from tests.command_line import assert_failed, edge_mtl

BASELINE = "fp32 on onnxruntime, plain"
EVIL = 'int8 on <b>"openvino"</b> & more'


def row(name: str, seconds: np.ndarray, baseline: np.ndarray, **more: Any) -> BenchmarkRow:
    total, ratio = distribution(seconds), ratio_interval(baseline, seconds)
    stages = {"prepare": distribution(seconds * 0.1), "infer": distribution(seconds * 0.8), "total": total}
    fields: dict[str, Any] = {
        "name": name,
        "bundle": "rooms",
        "precision": "int8",
        "backend": "openvino",
        "runtime_version": "1",
        "device": "cpu",
        "threads": 2,
        "engine_key": None,
        "size_bytes": 5_000_000,
        "batch": 1,
        "p50_ms": total.p50_ms,
        "p90_ms": total.p90_ms,
        "p99_ms": total.p99_ms,
        "max_ms": total.max_ms,
        "jitter_ms": total.jitter_ms,
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "ratio_sure": (ratio.low, ratio.high),
        "verdict": verdict(ratio),
        "prepare_ms": 1.0,
        "infer_ms": 8.0,
        "postprocess_ms": None,
        "stages": stages | {"engine": stages["infer"]},
        "warm_up": WarmUp(5, 0.1, 0.05, True),
        "load_s": 0.5,
        "samples_ms": tuple(seconds * 1e3),
    }
    return BenchmarkRow(**{**fields, **more})


def report(*, gain: float = 2.0, noise: float = 0.03, full: bool = False, rounds: int = 200) -> dict[str, Any]:
    """A benchmark of two rows, as its JSON."""
    random = np.random.default_rng(0)
    slow = 0.040 * random.lognormal(0.0, noise, rounds)
    fast = 0.040 / gain * random.lognormal(0.0, noise, rounds)
    fast[5] = 0.9  # an outlier
    more: dict[str, Any] = {}
    if full:
        more = {
            "start_up": StartUp(1.5, 0.8, 0.030),
            "memory": Memory(300_000_000, 200_000_000, 50_000_000),
            "stream_fps": Interval(60.0, 55.0, 65.0),
            "paced": PacedRow(30.0, 60, 55, 5, distribution([0.05] * 55), 27.0),
            "energy": (EnergyRow("RAPL", "processor package", Interval(0.5, 0.4, 0.6), 0.3, 12.0, 5.0, 100),),
            "accuracy": {"miou": 0.71, "depth_rel": 0.16, "normal_mean_deg": 20.0, "frames": 20},
        }
    rows = (row(BASELINE, slow, slow, verdict=None), row(EVIL, fast, slow, **more))
    found = BenchmarkReport(
        bundles=[{"name": "rooms", "revision": 1, "digest": "0" * 64, "tasks": []}],
        baseline=BASELINE,
        frame_size=(288, 384),
        rounds=rounds,
        rows=rows,
        differences=differences({BASELINE: slow, EVIL: fast}),
        unavailable=[] if full else [{"name": "energy from RAPL", "reason": "no such thing"}],
        conditions=Conditions(["edge-mtl", "benchmark"]).describe() | {"throttling": ["the processor was hot"]},
    )
    content: dict[str, Any] = json.loads(json.dumps(plain(found.to_dict()), allow_nan=False))
    return content


def well_formed(html: str) -> ET.Element:
    return ET.fromstring(html.partition("\n")[2])


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    html = to_html(report(full=True), pictures=[("a <room>", b"\xff\xd8jpeg")])
    tree = well_formed(html)
    assert len(tree.findall(".//figure")) >= 9
    assert "data:image/jpeg;base64," in html
    assert "prefers-color-scheme:dark" in html
    for forbidden in ("<script", "http://", "https://", "url(", "@import"):
        assert forbidden not in html.replace("http://www.w3.org/2000/svg", "")
    assert EVIL not in html, "names are escaped"
    sources = [image.get("src", "") for image in tree.iter("img")]
    assert sources
    assert all(source.startswith("data:") for source in sources)


def test_no_frame_is_left_out_of_the_plot() -> None:
    html = to_html(report(rounds=50))
    assert html.count("<circle") >= 100
    thinned = to_html(report(rounds=5000))
    assert thinned.count("<circle") <= 700
    ends = [max(float(x) for x in re.findall(r'<circle cx="([\d.]+)"', text)) for text in (html, thinned)]
    assert min(ends) > 700, "the outlier of 0.9 s stays, at the right end"


def test_what_was_not_measured_is_said_and_no_empty_section_is_drawn() -> None:
    bare, full = report(), report(full=True)
    html, markdown = to_html(bare), to_markdown(bare)
    for text in (html, markdown):
        assert "Not available here: energy from RAPL: no such thing" in text
        assert "the processor was hot" in text
        assert "edge-mtl benchmark" in text
    assert "<h2>Energy</h2>" not in html
    assert "<h2>Memory</h2>" not in html
    well_formed(html)
    for words in ("<h2>Energy</h2>", "<h2>Memory</h2>", "Accuracy against latency", "500.0 mJ", "5 of 60"):
        assert words in to_html(full)


def test_the_markdown_table_has_one_cell_per_heading() -> None:
    lines = [line for line in to_markdown(report(full=True)).splitlines() if line.startswith("|")]
    for start, line in enumerate(lines):
        if line.startswith("| ---"):
            assert line.count("|") == lines[start - 1].count("|") == lines[start + 1].count("|")


def test_ticks_are_round_and_inside() -> None:
    assert list(nice_ticks(0, 10, count=5)) == [0, 2, 4, 6, 8, 10]
    assert list(nice_ticks(1.5, 120, log=True)) == [2, 5, 10, 20, 50, 100]
    assert list(nice_ticks(3, 3)) == [3]


def test_a_run_is_the_same_as_itself_and_a_slower_one_is_a_regression() -> None:
    same = compare(report(), report())
    assert [change.judgement for change in same.changes] == ["same"]
    slower = compare(report(), report(gain=1.6))
    (change,) = slower.regressions
    assert change.name == EVIL
    assert change.change.value == pytest.approx(0.8, rel=0.02)
    assert change.change.low <= change.change.value <= change.change.high < 1
    assert [change.judgement for change in compare(report(), report(gain=2.4)).changes] == ["faster"]
    assert not compare(report(), report(gain=1.6), threshold=0.5).regressions


def test_noise_is_no_regression() -> None:
    unclear = compare(report(rounds=8, noise=0.5), report(gain=1.8, rounds=8, noise=0.5))
    assert [change.judgement for change in unclear.changes] == ["unclear"]


def test_times_alone_change_nothing_because_ratios_are_compared() -> None:
    other = report()
    for entry in other["rows"]:
        entry["p50_ms"] *= 3
    assert compare(report(), other).changes == compare(report(), report()).changes


def test_other_machines_and_missing_rows_are_named() -> None:
    other = report()
    other["device"]["description"] = "another"
    other["versions"] = {**other["versions"], "numpy": "0.0"}
    other["rows"].append({**other["rows"][1], "name": "new"})
    found = compare(report(), other)
    assert found.only_after == ("new",)
    remarks = " ".join(found.remarks)
    for words in ("machines differ", "became 0.0", "the processor was hot"):
        assert words in remarks


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    other = report()
    other["baseline"] = "something else"
    with pytest.raises(BundleError, match="different baselines"):
        compare(report(), other)
    other["baseline"], other["rows"] = BASELINE, other["rows"][:1]
    with pytest.raises(BundleError, match="no row in common"):
        compare(report(), other)
    with pytest.raises(BundleError, match="ratio_sure"):
        compare(report(), {"baseline": BASELINE, "rows": [{"name": "a", "ratio": 1}]})
    with pytest.raises(ValueError, match="threshold"):
        compare(report(), report(), threshold=1.5)
    for name, text in (("none.json", None), ("text.json", "no json"), ("list.json", "[]")):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(BundleError, match="edge-mtl benchmark"):
            read(tmp_path / name)


def test_the_command_fails_on_a_regression_and_only_then(tmp_path: Path) -> None:
    paths = []
    for name, gain in (("before", 2.0), ("slower", 1.5), ("same", 2.0)):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps(report(gain=gain)))
    before, slower, same = paths
    fine = edge_mtl("compare", before, same)
    assert fine.code == 0
    assert "same" in fine.out
    bad = edge_mtl("compare", before, slower)
    assert bad.code == 15
    assert "slower than before" in bad.err
    assert len(bad.err.splitlines()) == 1
    assert edge_mtl("compare", before, slower, "--threshold", "0.5").code == 0
    (record,) = edge_mtl("compare", before, slower, "--json").records
    assert record["regressions"] == [EVIL]
    assert_failed(edge_mtl("compare", before, tmp_path / "none.json"), 3, "none.json")


def test_results_of_the_scripts_can_be_compared_too() -> None:
    for path in sorted((Path(__file__).parents[2] / "benchmarks/results").glob("whole-frame-*.json")):
        found = compare(read(path), read(path))
        assert found.changes
        assert all(change.judgement in ("same", "unclear") for change in found.changes)


def test_rows_are_values() -> None:
    times = np.full(5, 0.01)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row("a", times, times).ratio = 2.0  # type: ignore[misc]
