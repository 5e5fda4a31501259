"""The quick part of the four fuzz gates: seconds of mutants a target, every find of before, and faults that must be seen."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.fuzz.__main__ import main
from tests.reliability.fuzz.driver import fuzz, replay
from tests.reliability.fuzz.finds import Find, fault_of_dump, keep, kept, minimised
from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.targets import all_targets
from tests.reliability.fuzz.texts import mutate_json, mutate_lines, mutate_toml
from tests.reliability.fuzz.worker import FAULTS
from tests.reliability.gates import GATES

TARGETS = all_targets()
FINDS = Path(__file__).parent / "finds"
ANY = "depth-scale"
"""A target that is there without torch, a runtime or media."""
PATIENCE_S = 1.0


def test_every_target_belongs_to_a_gate_and_every_gate_has_targets() -> None:
    gates = {name for name in GATES if name.startswith("fuzz-")}
    assert {target.gate for _, target in TARGETS.values()} <= gates
    assert {"fuzz-texts", "fuzz-graphs"} <= {target.gate for _, target in TARGETS.values()}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TARGETS))
def test_mutants_are_read_or_refused(name: str, tmp_path: Path) -> None:
    module, target = TARGETS[name]
    outcome = fuzz(module, target, tmp_path, seconds=0.7, mutants=500, seed=1, guided=False)
    if outcome.unavailable:
        pytest.skip(outcome.unavailable)
    traces = [path.with_suffix(".txt").read_text() for path in outcome.finds.values()]
    assert not traces, "\n\n".join(traces)
    assert outcome.mutants > 0


@pytest.mark.parametrize("name", sorted(path.name for path in FINDS.iterdir()) if FINDS.is_dir() else [])
def test_what_was_found_before_is_refused(name: str) -> None:
    module, target = TARGETS[name]
    files = sorted((FINDS / name).iterdir())
    assert files
    assert not replay(module, target, files)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_that_is_put_in_is_found(fault: str, tmp_path: Path) -> None:
    module, target = TARGETS[ANY]
    outcome = fuzz(
        module, target, tmp_path, seconds=60, mutants=500, watchdog_s=PATIENCE_S, fault=fault, first=True, guided=False
    )
    (found,) = outcome.finds
    assert found.startswith({"abort": "SIGABRT"}.get(fault, fault)), found
    (path,) = outcome.finds.values()
    assert replay(module, target, [path], watchdog_s=PATIENCE_S, fault=fault) == {path: found}
    assert not replay(module, target, [path])


def test_a_fault_is_one_find_however_often_it_shows_and_in_later_runs(tmp_path: Path) -> None:
    module, target = TARGETS[ANY]
    outcome = fuzz(module, target, tmp_path, seconds=60, mutants=30, fault="KeyError", guided=False)
    assert outcome.mutants >= 30
    assert len(outcome.finds) == 1
    again = fuzz(module, target, tmp_path, seconds=60, mutants=30, fault="KeyError", guided=False)
    assert not again.finds, "known from the run before"


def test_a_run_writes_a_record_with_its_controls(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["--targets", ANY, "--mutants", "40", "--out", "."]) == 0, capsys.readouterr().out
    record = json.loads((tmp_path / "reliability-fuzz-texts.json").read_bytes())
    assert record["passed"]
    assert record["counts"]["mutants"] >= 40
    assert len(record["controls"]) == len(FAULTS)


@pytest.mark.parametrize("mutate", [mutate_bytes, mutate_json, mutate_lines, mutate_toml])
def test_a_mutant_follows_from_its_seed_alone(mutate: Callable[[bytes, bytes, random.Random], bytes]) -> None:
    data = b'{"a": [1, 2.5, "x"], "b": {"c": null}}\nx = 1\n[t]\ny = "z"\n'
    made = [mutate(data, data, random.Random(seed)) for seed in range(200)]
    assert made == [mutate(data, data, random.Random(seed)) for seed in range(200)]
    assert len(set(made)) > 100


def test_minimising_takes_out_what_the_fault_does_not_need() -> None:
    assert minimised(b"some [ text" * 9, lambda candidate: b"[" in candidate) == b"["


def test_the_innermost_line_of_the_project_names_a_death() -> None:
    dump = 'Fatal Python error: Aborted\n\n  File "/usr/lib/python3/json.py", line 3 in loads\n'
    root = Path(__file__).resolve().parents[3]
    dump += f'  File "{root}/edge_mtl/manifest.py", line 99 in from_json\n  File "{root}/edge_mtl/bundle.py", line 9 in open\n'
    assert fault_of_dump("SIGABRT", dump) == "SIGABRT at edge_mtl/manifest.py:99 (from_json)"


def test_the_smallest_mutant_of_a_fault_is_kept(tmp_path: Path) -> None:
    for mutant in (b"long enough", b"short", b"longer again"):
        keep(tmp_path, Find("KeyError at a", mutant, "a trace"))
    (path,) = kept(tmp_path).values()
    assert path.read_bytes() == b"short"
