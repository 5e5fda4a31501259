"""The quick part of the gate `threats`: every row has tests and a way to take its defence away; one is taken away."""

from __future__ import annotations

import re

import pytest

from tests.reliability.threats import sabotage
from tests.reliability.threats.gate import gaps, judge
from tests.reliability.threats.model import ROOT, Threat, threats
from tests.reliability.threats.sabotage import SABOTAGES

ROWS = threats()


def test_every_threat_has_tests_and_a_defence_that_can_be_taken_away() -> None:
    assert len(ROWS) > 15
    assert gaps(ROWS, SABOTAGES) == []


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name[:40])
def test_the_tests_of_a_threat_exist(row: Threat) -> None:
    assert row.tests
    for test in row.tests:
        path, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(), re.MULTILINE), test


def test_a_row_without_tests_or_defence_is_seen() -> None:
    row = Threat("it", ("a::b",))
    assert gaps([row], {"it": ("x",)}) == []
    assert gaps([Threat("it", ())], {"it": ("x",)}) == ["it: no tests are named"]
    assert gaps([row], {}) == ["it: nothing takes its defence away"]
    assert gaps([row], {"it": ("x",), "more": ("x",)}) == ["more: no such row in SECURITY.md"]


def test_rows_are_read_from_the_table() -> None:
    table = "| a | b | c |\n|---|---|---|\n| it | so | `tests/x.py::test_a`, `::test_b` |"
    text = f"## What we defend against\n{table}\n\n| no | no | no |"
    assert threats(text) == (Threat("it", ("tests/x.py::test_a", "tests/x.py::test_b")),)


def test_a_defence_that_was_renamed_is_an_error_and_not_silence() -> None:
    with pytest.raises(AttributeError):
        sabotage.replace("edge_mtl.files", "no_such_name", None)


TERMINAL = next(row for row in ROWS if "command the terminal" in row.name)


def test_a_defence_taken_away_is_seen_by_a_test_and_one_left_in_place_is_a_violation() -> None:
    one = Threat(TERMINAL.name, ("tests/unit/edge_mtl/cli/test_terminal.py::test_messages_fit_on_one_line",))
    violation, failed = judge(one, f"{one.name}: control characters are printed")
    assert violation == ""
    assert failed.endswith("test_messages_fit_on_one_line")
    violation, failed = judge(one, "nothing")
    assert "pass with the defence taken away" in violation
    assert failed == ""
