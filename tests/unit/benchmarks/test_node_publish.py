"""What `publish` costs: medians, pairs and the table, of samples whose answer is known; wrong arguments."""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def publishing(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("node_publish")


def samples_of(milliseconds: float, count: int = 12) -> list[tuple[float, float]]:
    """(clock, processor) in seconds; by the clock each takes a millisecond more."""
    return [((milliseconds + 1) / 1e3, milliseconds / 1e3) for _ in range(count)]


def samples(publishing: ModuleType, by_listener: dict[str, list[tuple[float, float]]]) -> dict[Any, list[tuple[float, float]]]:
    message = publishing.Message("depth", "32FC1", (288, 384), 442368, object, lambda _: (0.0, 0.0))
    return {(message, who): by_listener[who] for who in publishing.LISTENERS}


def test_a_row_has_the_medians_and_what_a_listener_adds(publishing: ModuleType) -> None:
    taken = {who: samples_of(ms) for who, ms in zip(publishing.LISTENERS, (0.5, 1.0, 2.0), strict=True)}
    nobody, here, other = publishing.rows_of(samples(publishing, taken))
    assert [row["listener"] for row in (nobody, here, other)] == list(publishing.LISTENERS)
    assert (here["message"], here["encoding"], here["size"], here["bytes"]) == ("depth", "32FC1", [288, 384], 442368)
    assert (here["processor_ms"], here["clock_ms"], here["clock_p90_ms"], here["count"]) == (1.0, 2.0, 2.0, 12)
    assert here["processor_sure"] == [1.0, 1.0]
    assert (nobody["times"], here["times"], other["times"]) == (1.0, 2.0, 4.0)


def test_what_slows_both_of_a_pair_changes_no_ratio(publishing: ModuleType) -> None:
    slowed = [1.0] * 6 + [5.0] * 6
    nobody, here = ([(ms / 1e3 * factor, ms / 1e3 * factor) for factor in slowed] for ms in (1.0, 3.0))
    found = publishing.row(here, nobody)
    assert (found["times"], found["times_sure"]) == (3.0, [3.0, 3.0])
    assert found["processor_ms"] == pytest.approx(9.0), "the median of 3 and 15"
    assert found["processor_sure"] == [3.0, 15.0]


def test_the_table_has_a_line_for_each_message_and_a_column_for_each_listener(publishing: ModuleType) -> None:
    taken = {who: samples_of(ms) for who, ms in zip(publishing.LISTENERS, (0.5, 1.0, 2.0), strict=True)}
    lines = publishing.table(publishing.rows_of(samples(publishing, taken))).splitlines()
    assert lines[0] == "| message | size | kB | nobody | this process | another process |"
    assert lines[1] == "|---|---|---|---|---|---|"
    assert lines[2:] == ["| depth, 32FC1 | 288x384 | 442 | 0.50 (1.50) | 1.00 (2.00) | 2.00 (3.00) |"]


def test_each_listener_follows_each_other_one_as_often(publishing: ModuleType) -> None:
    (message, _), *_ = samples(publishing, {who: [] for who in publishing.LISTENERS})
    rounds = [[who for _, who in publishing.turns([message], number)] for number in range(6)]
    assert all(set(each) == set(publishing.LISTENERS) for each in rounds)
    follow = Counter(pair for each in rounds for pair in itertools.pairwise(["nothing", *each]))
    both = itertools.product(["nothing", *publishing.LISTENERS], publishing.LISTENERS)
    assert dict(follow) == {(before, who): 2 for before, who in both if before != who}


def test_topics_are_names_that_ros_takes_and_no_two_are_the_same(publishing: ModuleType) -> None:
    (message, _), *_ = samples(publishing, {who: [] for who in publishing.LISTENERS})
    names = {publishing.topic(message, who) for who in publishing.LISTENERS}
    assert names == {"depth_288x384_to_nobody", "depth_288x384_to_this_process", "depth_288x384_to_another_process"}


@pytest.mark.parametrize("wrong", [["--rounds", "5"], ["--sizes", "wide"]])
def test_wrong_arguments_end_in_one_line_before_ros_is_imported(
    publishing: ModuleType, wrong: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["node_publish.py", *wrong])
    monkeypatch.setitem(sys.modules, "rclpy", None)
    with pytest.raises(SystemExit) as ended:
        publishing.main()
    assert ended.value.code == 2
    assert wrong[1] in capsys.readouterr().err.splitlines()[-1]
