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
from edge_mtl.bench.turns import take_turns
from edge_mtl.bundle import Bundle
from edge_mtl.commands import subjects
from edge_mtl.commands.subjects import GraphSubject
from edge_mtl.postprocess import HOST_OUTPUTS
from edge_mtl.tasks import TASKS
from tests.command_line import assert_failed, edge_mtl

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


class KnownDelay:
    """A backend whose runs take a known time of a clock that only moves then."""

    def __init__(self, bundle: Bundle, delay_s: float) -> None:
        height, width = bundle.manifest.input.height, bundle.manifest.input.width
        self.now, self.delay_s, self.runs = 0.0, delay_s, 0
        self.info = BackendInfo("known delay", "1", "cpu", "fp32", 1)
        self.inputs: Mapping[str, TensorSpec] = {"image": TensorSpec((1, 3, height, width), np.dtype("float32"))}
        self.outputs: Mapping[str, TensorSpec] = {
            HOST_OUTPUTS[task]: TensorSpec((1, TASKS[task].channels, height // 4, width // 4), np.dtype("float32"))
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
    monkeypatch.setattr(subjects, "time", backend)
    subject = GraphSubject("known", tiny_bundle, backend, frame, load_s=0.0)
    found = take_turns({"known": subject}, rounds=10, clock=backend.perf_counter)["known"]
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
    options += ["--rate", 100, "--html", folder / "card.html", "--markdown", folder / "card.md", "--out", folder / "card.json"]
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
    assert content["command"].startswith("edge-mtl ")
    assert all(entry["reason"] for entry in content["unavailable"])


def test_the_card_is_written_with_pictures(results: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = results
    html = (folder / "card.html").read_text()
    assert html.count("data:image/jpeg;base64,") >= 2
    assert "Accuracy against latency" in html
    assert (folder / "card.md").read_text().startswith("# Benchmark of tiny")


def test_an_impossible_place_or_an_unreadable_reference_is_refused_before_measuring(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    assert_failed(edge_mtl("benchmark", tiny_bundle.path, "--html", tmp_path), 74, "file name")
    assert_failed(edge_mtl("benchmark", tiny_bundle.path, "--against", tmp_path / "no.json"), 3, "no.json")


def test_the_script_that_measures_the_overhead_runs(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """What it finds is not judged here: other things run beside a test."""
    script = Path(__file__).parents[2] / "benchmarks/benchmark_overhead.py"
    command = [sys.executable, str(script), str(tiny_bundle.path), "--delays", "2,4", "--rounds", "3"]
    done = subprocess.run([*command, "--out", str(tmp_path / "o.json")], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done
    first, second = json.loads((tmp_path / "o.json").read_text())["rows"]
    assert (first["delay_ms"], second["delay_ms"]) == (2.0, 4.0)
    assert first["took_ms"] >= 2.0
    assert first["infer_ms"] >= first["took_ms"] * 0.99
