"""The card, from reports made of numbers: whole, self-contained, escaped, and honest about gaps."""

from __future__ import annotations

import dataclasses
import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from edge_mtl.bench.card import to_html, to_markdown
from edge_mtl.bench.card.svg import nice_ticks
from edge_mtl.bench.interleaved import WarmUp
from edge_mtl.cli.benchmark_table import show
from edge_mtl.cli.terminal import Terminal
from tests.benchmark_reports import EVIL, measured, report, row, stolen


def well_formed(html: str) -> ET.Element:
    return ET.fromstring(html.partition("\n")[2])


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    html = to_html(report(full=True), images=[("a <room>", b"\xff\xd8jpeg")])
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


INJECTED = '<script>alert(1)</script>\n# x\n![i](http://evil) [a](javascript:b) =HYPERLINK(1) " onload="x'


def test_names_of_bundles_devices_and_engines_are_text_on_the_page_and_in_markdown() -> None:
    content = report(full=True)
    content["bundles"] = [{**item, "name": INJECTED} for item in content["bundles"]]
    content["device"]["description"] = INJECTED
    for each in content["rows"]:
        each["name"] = each["bundle"] = f"{INJECTED}{each['name']}"
    html, markdown = to_html(content, images=[(INJECTED, b"\xff\xd8jpeg")]), to_markdown(content)
    tree = well_formed(html)
    assert not [node for node in tree.iter() if node.tag.endswith("script") or any(key.startswith("on") for key in node.attrib)]
    assert INJECTED.split("\n")[0] in "".join(tree.itertext()), "it is shown"
    assert "<" not in markdown
    assert "\n# x" not in markdown
    assert re.search(r"(?<!\\)\[", markdown) is None


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


def test_a_winner_is_named_only_where_a_difference_was_shown() -> None:
    doubt = "not shown to be faster than"
    clear, close, few = report(), report(gain=1.0), {**report(), "rounds": 5}
    assert doubt not in to_markdown(clear)
    assert doubt in to_markdown(close)
    assert doubt in to_html(close)
    few["differences"][0]["verdict"] = "no difference shown"
    assert doubt in to_markdown(few)
    assert "Below 6 rounds" in to_markdown(few)
    assert "Below 6 rounds" not in to_markdown(clear)


def test_the_table_stresses_the_fastest_row_only_where_a_difference_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, shown = Terminal(), list[Any]()
    monkeypatch.setattr(terminal, "show", shown.append)
    for gain, name in ((2.0, EVIL), (1.0, None)):
        found = measured(gain=gain)
        assert found.fastest == name
        show(terminal, found)
        first = shown[0]
        assert [row.style for row in first.rows] == [None, "bold" if name else None]
        shown.clear()


def test_a_row_that_did_not_become_steady_is_named_and_nothing_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, shown = Terminal(), list[Any]()
    monkeypatch.setattr(terminal, "show", shown.append)
    found = measured()
    slow = dataclasses.replace(found.rows[1], warm_up=WarmUp(3, 5.2, 1.7, False))
    show(terminal, dataclasses.replace(found, rows=(found.rows[0], slow)))
    assert f"{EVIL} did not become steady within 3 calls and 5.2 s of warming up." in shown


def test_the_markdown_table_has_one_cell_per_heading() -> None:
    lines = [line for line in to_markdown(report(full=True)).splitlines() if line.startswith("|")]
    for start, line in enumerate(lines):
        if line.startswith("| ---"):
            assert line.count("|") == lines[start - 1].count("|") == lines[start + 1].count("|")


def test_ticks_are_round_and_inside() -> None:
    assert list(nice_ticks(0, 10, count=5)) == [0, 2, 4, 6, 8, 10]
    assert list(nice_ticks(1.5, 120, log=True)) == [2, 5, 10, 20, 50, 100]
    assert list(nice_ticks(3, 3)) == [3]


def test_rows_are_values() -> None:
    times = np.full(5, 0.01)
    with pytest.raises(dataclasses.FrozenInstanceError):
        row("a", times, times).ratio = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(("share", "shown"), [(0.09, True), (0.2, False)])
def test_a_disturbed_machine_gets_no_headline_and_no_verdict(
    share: float, shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measured()
    found = dataclasses.replace(found, conditions={**found.conditions, "state": stolen(share)}).redacted()
    show(Terminal(), found)
    content = found.to_dict()
    for text in (to_html(content), to_markdown(content)):
        assert ("times faster than" in text.partition("Measured")[0].partition("<h2>")[0]) is shown
        assert ("gave 20% of the processors" in text) is not shown
    assert ("Nothing is shown by these times" in capsys.readouterr().out) is not shown
    assert (found.fastest is not None) is shown
    assert {row.verdict for row in found.rows} == {None, "faster" if shown else "no difference shown"}
