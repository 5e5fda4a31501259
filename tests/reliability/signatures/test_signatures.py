"""The quick part of the gate `signatures`: every bit of a signature and of a key, some thousands of other alterations."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_mtl.bundle import SIGNATURE
from tests.reliability.record import GateRun
from tests.reliability.signatures.gate import CONTROLS, KEY_FILE, against_minisign, in_memory, judge_all, make_subject


@pytest.fixture
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield Path(folder)


TEXTS = (f"bundle/{SIGNATURE}", KEY_FILE)


def test_nothing_altered_verifies(scratch: Path) -> None:
    run = GateRun("signatures")
    subject = make_subject(scratch)
    judge_all(run, subject, exhaustive=[*TEXTS, "bundle/golden/000.npz"], more=500, seed=0, scratch=scratch)
    assert run.violations == []
    assert run.counts["alterations"] > 4_000


@pytest.mark.parametrize("fault", CONTROLS)
def test_a_verifier_that_leaves_a_check_out_is_seen(scratch: Path, fault: str) -> None:
    run = GateRun("signatures")
    subject = make_subject(scratch)
    with CONTROLS[fault]():
        judge_all(run, subject, exhaustive=TEXTS, more=0, seed=0, scratch=scratch, enough=1)
    assert len(run.violations) == 1
    assert "verifies as signed by" in run.violations[0]


@pytest.mark.skipif(shutil.which("minisign") is None, reason="needs the program minisign: apt-get install minisign")
def test_what_is_accepted_is_accepted_by_minisign(scratch: Path) -> None:
    run = GateRun("signatures")
    against_minisign(run, make_subject(scratch), str(shutil.which("minisign")), number=80, seed=0)
    assert run.violations == []
    assert run.counts["accepted by both"] > 10
