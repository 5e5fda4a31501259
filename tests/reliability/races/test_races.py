"""The quick part of the races: a few schedules, and the positive controls that must be seen to fail."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.races.__main__ import play, stage_of
from tests.reliability.races.controls import CONTROLS
from tests.reliability.races.processes import together
from tests.reliability.races.scenarios import SCENARIOS
from tests.reliability.races.stage import Stage

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

QUICK = (
    "an engine replaced under readers",
    "a revision rolled back under readers",
    "a bundle replaced under readers",
    "engines removed and swept under readers",
    "engines removed while one is stored",
    "compiled code kept by several builds",
    "an engine shared by threads",
)
"""Scenarios of a second or so; the others are in the long run, and three here on a machine with time."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage_of(tmp_path_factory.mktemp("races")) as made:
        yield made


@pytest.mark.parametrize("title", QUICK)
def test_a_schedule_leaves_everything_whole(stage: Stage, title: str) -> None:
    assert play(stage, SCENARIOS[title][0], 1) == []


@pytest.mark.slow
@pytest.mark.parametrize("title", [title for title in SCENARIOS if title not in QUICK and title != "two calibrations"])
def test_a_longer_schedule_leaves_everything_whole(stage: Stage, title: str) -> None:
    assert play(stage, SCENARIOS[title][0], 2) == []


@pytest.mark.parametrize("title", CONTROLS)
def test_what_is_taken_away_is_seen(stage: Stage, title: str) -> None:
    for seed in range(5):
        if play(stage, CONTROLS[title], seed):
            return
    pytest.fail(f"{title} was not seen in 5 schedules")


def test_a_process_that_dies_or_fails_is_told(tmp_path: Path) -> None:
    def dies() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def fails() -> None:
        raise KeyError("x")

    died, failed, fine = together(1, [("dies", dies), ("fails", fails), ("fine", lambda: 7)])
    assert died.error == "Died: the process ended with -9"
    assert failed.error == "KeyError: 'x'"
    assert not failed.typed
    assert (fine.value, fine.error) == (7, "")
