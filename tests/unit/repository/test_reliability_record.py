"""The page of reliability is made of the records that are committed, and a record is believed only with its control."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.reliability.gates import GATES
from tests.reliability.page import PAGE, with_records
from tests.reliability.record import GateRun, read_records


def test_the_page_shows_the_records_that_are_committed() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert with_records(text, read_records()) == text, "run python -m tests.reliability.page"


def test_every_committed_record_holds_and_names_code_that_is_committed() -> None:
    for record in read_records():
        assert record["passed"], record["file"]
        assert not record["violations"], record["file"]
        assert record["commit"], record["file"]


def test_there_are_seventeen_gates_and_their_quick_parts_are_there() -> None:
    assert len(GATES) == 17
    for gate in GATES.values():
        assert (ROOT / gate.quick).is_file(), gate.name


@pytest.mark.parametrize("flaw", ["a violation", "a control that saw nothing", "no control", "nothing counted"])
def test_a_run_with_a_flaw_does_not_pass(flaw: str, tmp_path: Path) -> None:
    run = GateRun("kills", ["kills"])
    if flaw != "nothing counted":
        run.count("kills", 3)
    if flaw != "no control":
        run.control("an in-place writer", "" if flaw == "a control that saw nothing" else "torn: engine.onnx")
    if flaw == "a violation":
        run.violation("seed 7: half an engine")
    assert run.finish(tmp_path / "record.json") == 1
    assert (tmp_path / "record.json").is_file()


def test_a_run_without_a_flaw_passes() -> None:
    run = GateRun("kills", ["kills"])
    run.count("kills", 3)
    run.control("an in-place writer", "torn: engine.onnx")
    assert run.finish() == 0
