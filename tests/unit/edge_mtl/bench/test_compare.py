"""Two benchmarks side by side: what is a regression, what is noise, and what cannot be compared at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_mtl.bench.compare import compare, read
from edge_mtl.bench.conditions import disturbed
from edge_mtl.errors import BundleError
from tests.benchmark_reports import BASELINE, EVIL, report, stolen
from tests.command_line import assert_failed, edge_mtl


def test_a_run_is_the_same_as_itself_and_a_slower_one_is_a_regression() -> None:
    same = compare(report(), report())
    assert [change.judgement for change in same.changes] == ["same"]
    slower = compare(report(), report(gain=1.6))
    (change,) = slower.slower
    assert slower.regressions == (EVIL,)
    assert change.name == EVIL
    assert change.change.value == pytest.approx(0.8, rel=0.02)
    assert change.change.low <= change.change.value <= change.change.high < 1
    assert [change.judgement for change in compare(report(), report(gain=2.4)).changes] == ["faster"]
    assert not compare(report(), report(gain=1.6), threshold=0.5).regressions


OTHERWISE: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "frames at once": (lambda run: [entry.update(batch=4) for entry in run["rows"]], "frames at once are 1 and 4"),
    "size": (lambda run: run.update(frame_size=[480, 640]), r"frame_size is \[288, 384\] and \[480, 640\]"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_runs_that_measured_something_else_are_refused(name: str) -> None:
    change, words = OTHERWISE[name]
    other = report()
    assert compare(report(), other).changes, "the control: they can be compared"
    change(other)
    with pytest.raises(BundleError, match=words):
        compare(report(), other)


def test_another_bundle_and_other_threads_are_named() -> None:
    assert not [remark for remark in compare(report(), report()).remarks if "differ" in remark]
    other = report()
    other["bundles"][0] |= {"digest": "1" * 64, "revision": 2}
    for entry in other["rows"]:
        entry["threads"] = 8
    remarks = " ".join(compare(report(), other).remarks)
    for words in ("bundles differ", "rooms revision 1 (0000", "rooms revision 2 (1111", "threads differ: 2; 8"):
        assert words in remarks


def test_a_row_that_is_gone_is_a_regression(tmp_path: Path) -> None:
    before, after = report(), report()
    before["rows"].append({**before["rows"][1], "name": "fastest"})
    assert compare(after, before).regressions == (), "a new row is none"
    assert compare(before, after).regressions == ("fastest",)
    for name, content in (("before", before), ("after", after)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    outcome = edge_mtl("compare", tmp_path / "before.json", tmp_path / "after.json")
    assert outcome.code == 15
    assert "not measured any more, which counts as slower: fastest" in outcome.err
    assert len(outcome.err.splitlines()) == 1
    assert edge_mtl("compare", tmp_path / "after.json", tmp_path / "before.json").code == 0


def test_few_rounds_show_no_change() -> None:
    few, enough = ({**report(gain=1.2), "rounds": rounds} for rounds in (5, 6))
    for runs in ((few, report()), (report(), few)):
        found = compare(*runs)
        assert [change.judgement for change in found.changes] == ["unclear"]
        assert any("5 rounds" in remark for remark in found.remarks)
    assert [change.judgement for change in compare(report(), enough).changes] == ["slower"], "the control"


@pytest.mark.parametrize(
    ("others", "idle", "told"),
    [(0.09, 0.0, ""), (0.2, 0.1, "other processes took 20% of the processors' time"), (0.2, 0.3, ""), (0.0, 0.5, "")],
)
def test_other_processes_disturb_where_they_leave_less_than_they_take(others: float, idle: float, told: str) -> None:
    found = disturbed({"state": stolen(0.01, others=others, idle=idle)})
    assert found.startswith(told)
    assert bool(found) is bool(told)


@pytest.mark.parametrize(("share", "judged"), [(0.0, "slower"), (0.09, "slower"), (0.2, "unclear")])
def test_a_run_that_others_took_a_good_part_of_shows_nothing(share: float, judged: str) -> None:
    before, after = report(), report(gain=1.6)
    after["state"] = stolen(share)
    after["throttling"] = [f"the hypervisor gave {share:.0%} of the processors' time to others", "the processor was hot"]
    found = compare(before, after)
    assert sum("hypervisor" in remark for remark in found.remarks) == 1, "told once"
    assert any("second run was held back: the processor was hot" in remark for remark in found.remarks)
    assert [change.judgement for change in found.changes] == [judged]
    assert any("second run was disturbed" in remark for remark in found.remarks) is (judged == "unclear")
    before["state"], after["state"] = after["state"], {"before": {}, "after": {}}
    assert [change.judgement for change in compare(before, after).changes] == [judged]


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
    for ratio, sure in ((10**400, [1, 10**400]), (2.0, [2.5, 3.0]), (1e300, [1e-300, 1e-290]), (1.0, ["1", 2]), (1.0, [1.0])):
        with pytest.raises(BundleError, match="has the ratio"):
            compare(report(), {"baseline": BASELINE, "rows": [{"name": "a", "ratio": ratio, "ratio_sure": sure}]})
    with pytest.raises(ValueError, match="threshold"):
        compare(report(), report(), threshold=1.5)
    (tmp_path / "rows.json").write_text(json.dumps({"baseline": BASELINE, "rows": [{"name": "a", "ratios": [1.0]}]}))
    with pytest.raises(BundleError, match="ratio"):
        read(tmp_path / "rows.json")
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
    folder = Path(__file__).parents[4] / "benchmarks/results"
    paths = [path for kind in ("card", "peers", "whole-frame") for path in sorted(folder.glob(f"{kind}-*.json"))]
    assert len(paths) >= 3
    for path in paths:
        found = compare(read(path), read(path))
        assert found.changes
        assert all(change.judgement in ("same", "unclear") for change in found.changes)


@pytest.mark.parametrize("throttling", [3.5, "hot", {"cpu": 1}, None])
def test_throttling_that_is_no_list_of_sentences_is_left_out(throttling: object) -> None:
    changed = report() | {"throttling": throttling}
    assert not any("held back" in remark for remark in compare(changed, report() | {"throttling": []}).remarks)
