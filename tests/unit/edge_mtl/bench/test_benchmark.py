"""`edge-mtl benchmark` on a tiny bundle: what is measured, what is written, what is refused; and its own overhead."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_mtl.backends import BackendInfo, TensorSpec, available
from edge_mtl.bench import benchmark, targets
from edge_mtl.bench.collect_targets import TargetFilter, planned
from edge_mtl.bench.footprint import Footprint, measure
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.measures import add_footprints
from edge_mtl.bench.report import Difference, Memory, StartUp
from edge_mtl.bench.sensors import Unavailable
from edge_mtl.bench.statistics import Interval
from edge_mtl.bench.targets import GraphTarget
from edge_mtl.bundle import Bundle
from tests.benchmark_reports import row as benchmark_row
from tests.bundles import CHANNELS, HOST_OUTPUTS
from tests.command_line import assert_failed, edge_mtl

ENGINE = ("--precision", "fp32", "--backend", "onnxruntime", "--threads", 1)

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


class KnownDelay:
    """A backend whose runs take a known time of a clock that only moves then."""

    def __init__(self, bundle: Bundle, delay_s: float) -> None:
        height, width = bundle.manifest.input.height, bundle.manifest.input.width
        self.now, self.delay_s, self.runs = 0.0, delay_s, 0
        self.info = BackendInfo("known delay", "1", "cpu", "fp32", 1)
        self.inputs: Mapping[str, TensorSpec] = {"image": TensorSpec((1, 3, height, width), np.dtype("float32"))}
        self.outputs: Mapping[str, TensorSpec] = {
            HOST_OUTPUTS[task]: TensorSpec((1, CHANNELS[task], height // 4, width // 4), np.dtype("float32"))
            for task in bundle.tasks
        }

    def perf_counter(self) -> float:
        return self.now

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feeds.keys() == self.inputs.keys()
        self.runs += 1
        self.now += self.delay_s
        return {name: np.ones(spec.shape, spec.dtype) for name, spec in self.outputs.items()}

    def close(self) -> None:
        pass


def test_a_known_delay_is_measured_and_nothing_is_added(
    tiny_bundle: Bundle, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = KnownDelay(tiny_bundle, 0.020)
    monkeypatch.setattr(targets, "time", backend)
    subject = GraphTarget("known", tiny_bundle, backend, frame, load_s=0.0)
    found = run_interleaved({"known": subject}, rounds=10, clock=backend.perf_counter)["known"]
    assert found.seconds == pytest.approx([0.020] * 10, rel=1e-9)
    assert [timing.infer for timing in found.answers] == pytest.approx([0.020] * 10)
    assert backend.runs == 20 + found.warm_up.calls, "a timed call follows one that is not timed, and that is all"
    monkeypatch.setattr(backend, "delay_s", 0.030)
    assert subject().infer == pytest.approx(0.030), "the control: another delay is seen"


@pytest.fixture(scope="module")
def results(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The files of a benchmark, and its JSON."""
    folder = tmp_path_factory.mktemp("card")
    options: list[object] = ["--precision", "fp32", "--backend", "onnxruntime", "--threads", 1, "--duration", 0.5]
    options += ["--rate", 100, "--html", folder / "card.html", "--markdown", folder / "card.md", "--save", folder / "card.json"]
    outcome = edge_mtl("benchmark", tiny_bundle.path, *options)
    assert outcome.code == 0, outcome
    assert "Not available here" in outcome.out or "mJ/frame" in outcome.out
    return folder, json.loads((folder / "card.json").read_text())


def test_everything_is_measured_in_one_run(results: tuple[Path, dict[str, Any]]) -> None:
    _, content = results
    assert (content["kind"], content["format_version"]) == ("edge-mtl benchmark", 1)
    plain, engine = content["rows"]
    assert plain["name"] == content["baseline"]
    assert plain["verdict"] is None
    assert engine["verdict"] in ("faster", "slower", "no difference shown")
    for row in content["rows"]:
        assert {"prepare", "infer", "postprocess", "total", "engine"} <= set(row["stages"])
        assert len(row["samples_ms"]) == content["rounds"] >= 3
        assert max(row["samples_ms"]) == pytest.approx(row["max_ms"], abs=1e-3), "outliers are kept"
        assert row["ratio_sure"][0] <= row["ratio"] <= row["ratio_sure"][1]
        assert row["stages"]["total"]["p50_sure"][0] <= row["p50_ms"] <= row["stages"]["total"]["p50_sure"][1]
        assert 0 < row["accuracy"]["miou"] <= 1
        assert row["paced"]["answered"] + row["paced"]["missed"] == row["paced"]["frames"] == 50
        assert row["start_up"]["start_s"] > row["start_up"]["load_s"] > 0
        assert row["memory"]["peak_rss"] > row["memory"]["above_empty"] > 0
        assert row["warm_up"]["calls"] >= 3
    assert engine["stream_fps"]["value"] > 0
    assert {"before", "after"} == set(content["state"])
    assert content["command"].split()[0] == "edge-mtl"
    assert all(entry["reason"] for entry in content["unavailable"])


def test_the_card_is_written_with_images(results: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = results
    html = (folder / "card.html").read_text()
    assert html.count("data:image/jpeg;base64,") >= 2
    assert "Accuracy against latency" in html
    assert (folder / "card.md").read_text().startswith("# Benchmark of tiny")


def test_a_process_that_fails_says_why_start_up_is_missing(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"backend": "onnxruntime", "precision": "fp32", "threads": 1}
    found = measure(tiny_bundle.path / "elsewhere", **asked)
    assert isinstance(found, Unavailable)
    assert "elsewhere" in found.reason
    assert isinstance(measure(tiny_bundle.path, **asked), Footprint), "the control"

    monkeypatch.setattr(targets, "measure", lambda *_, **__: found)
    outcome = edge_mtl("benchmark", tiny_bundle.path, *ENGINE, "--rounds", 3, "--json")
    assert outcome.code == 0, outcome
    (content,) = outcome.records
    reasons = {entry["name"]: entry["reason"] for entry in content["unavailable"]}
    for row in content["rows"]:
        assert row["start_up"] is None
        assert reasons[f"start-up and memory of {row['name']}"] == found.reason


def test_start_up_and_memory_are_medians_of_processes_that_take_turns() -> None:
    asked: list[str] = []

    class Stub:
        def __init__(self, name: str, answers: list[Footprint | Unavailable | None]) -> None:
            self.name, self._answers = name, iter(answers)

        def footprint(self) -> Footprint | Unavailable | None:
            asked.append(self.name)
            return next(self._answers)

    def took(seconds: float, device: int | None) -> Footprint:
        return Footprint(seconds, seconds / 2, seconds / 4, int(1000 * seconds), 100, device)

    times = np.linspace(0.01, 0.02, 20)
    rows = {name: benchmark_row(name, times, times) for name in ("steady", "breaks", "batch")}
    unavailable: list[dict[str, str]] = []
    stubs = [
        Stub("steady", [took(1.0, None), took(9.0, 70), took(2.0, 50)]),
        Stub("breaks", [took(1.0, None), Unavailable("start-up and memory", "killed")]),
        Stub("batch", [None]),
    ]
    add_footprints(rows, stubs, lambda *_: None, unavailable, processes=3)  # type: ignore[arg-type]
    assert asked == ["steady", "breaks", "batch", "steady", "breaks", "steady"]
    assert rows["steady"].start_up == StartUp(2.0, 1.0, 0.5)
    assert rows["steady"].memory == Memory(2000, 1900, 60)
    assert rows["breaks"].start_up is None
    assert rows["batch"].memory is None
    assert unavailable == [{"name": "start-up and memory of breaks", "reason": "killed"}]


def test_an_impossible_place_or_an_unreadable_reference_is_refused_before_measuring(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    assert_failed(edge_mtl("benchmark", tiny_bundle.path, "--html", tmp_path), 74, "file name")
    assert_failed(edge_mtl("benchmark", tiny_bundle.path, "--against", tmp_path / "no.json"), 3, "no.json")


def older(content: dict[str, Any], path: Path, *, ratio: float, **other: Any) -> Path:
    """The JSON of a run whose engines were `ratio` times faster than its baseline."""
    rows = [{**row, "ratio": ratio, "ratio_sure": [ratio * 0.99, ratio * 1.01]} for row in content["rows"]]
    path.write_text(json.dumps({**content, "rows": rows, "rounds": 100, **other}))
    return path


@pytest.mark.parametrize(("ratio", "code"), [(1e-4, 0), (1e4, 15)])
def test_a_benchmark_is_measured_and_compared_at_once(
    results: tuple[Path, dict[str, Any]],
    ratio: float,
    code: int,
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(targets, "measure", lambda *_, **__: None)
    monkeypatch.setattr("edge_mtl.bench.conditions.MOST_STOLEN", 1.0)  # this machine's others are not what is tested
    before = older(results[1], tmp_path / "before.json", ratio=ratio)
    after = tmp_path / "after.json"
    outcome = edge_mtl("benchmark", tiny_bundle.path, *ENGINE, "--rounds", 6, "--json", "--against", before, "--save", after)
    assert outcome.code == code, outcome
    (record,) = outcome.records
    (change,) = record["comparison"]["changes"]
    assert change["judgement"] == ("faster" if code == 0 else "slower")
    assert record["comparison"]["regressions"] == ([] if code == 0 else [change["name"]])
    written = json.loads(after.read_text())
    assert [row["name"] for row in written["rows"]] == [row["name"] for row in record["rows"]]
    known = planned((tiny_bundle,), TargetFilter(backends=("onnxruntime",), precisions=("fp32",)))
    assert [row["name"] for row in written["rows"]] == [row["name"] for row in known["rows"]], "as was known before"
    assert (written["baseline"], written["frame_size"]) == (known["baseline"], known["frame_size"])
    assert "comparison" not in written


@pytest.mark.parametrize(("most", "verdict"), [(1.0, "faster"), (-1.0, "no difference shown")])
def test_a_benchmark_of_a_disturbed_machine_gives_no_verdict(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: float, verdict: str
) -> None:
    monkeypatch.setattr(targets, "measure", lambda *_, **__: None)
    monkeypatch.setattr(benchmark, "differences", lambda _: (Difference("a", "b", Interval(2.0, 1.9, 2.1), "faster"),))
    monkeypatch.setattr("edge_mtl.bench.conditions.MOST_STOLEN", most)
    path = tmp_path / "found.json"
    outcome = edge_mtl("benchmark", tiny_bundle.path, *ENGINE, "--rounds", 3, "--save", path)
    assert outcome.code == 0, outcome
    assert [entry["verdict"] for entry in json.loads(path.read_text())["differences"]] == [verdict]
    assert ("Nothing is shown by these times" in outcome.out) is (most < 0)


def test_what_cannot_be_compared_is_refused_before_measuring(
    results: tuple[Path, dict[str, Any]], tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("something was opened")

    monkeypatch.setattr(benchmark, "collect_targets", never)
    path = tmp_path / "before.json"
    others: list[tuple[dict[str, Any], tuple[object, ...], str]] = [
        ({}, ("--batch", 2), "frames at once are 1 and 2"),
        ({"baseline": "eager"}, (), "different baselines"),
        ({"frame_size": [1, 2]}, (), "frame_size"),
        ({"rows": results[1]["rows"][:1]}, (), "no row in common"),
        ({"rows": [{"name": "a", "ratios": [1.0]}]}, (), "ratio"),
    ]
    for other, options, words in others:
        path.write_text(json.dumps({**results[1], **other}))
        assert_failed(edge_mtl("benchmark", tiny_bundle.path, *ENGINE, *options, "--against", path), 3, words)
    path.write_text(json.dumps(results[1]))
    opened = edge_mtl("benchmark", tiny_bundle.path, *ENGINE, "--against", path)
    assert "something was opened" in opened.err, "the control: the same thing is measured"


def test_the_script_that_measures_the_overhead_runs(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What it finds is not judged here: other things run beside a test."""
    script = Path(__file__).parents[4] / "benchmarks/benchmark_overhead.py"
    command = [sys.executable, str(script), str(tiny_bundle.path), "--delays", "2,4", "--rounds", "3"]
    done = subprocess.run([*command, "--out", str(tmp_path / "o.json")], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done
    first, second = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert (first["delay_ms"], second["delay_ms"]) == (2.0, 4.0)
    assert first["took_ms"] >= 2.0
    assert first["infer_ms"] >= first["took_ms"] * 0.99
