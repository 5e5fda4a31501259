"""Comparisons with others and with single-task engines: same frames, accuracy beside speed, and what is left out is said."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.backends import available, open_backend
from edge_mtl.bundle import PLAIN_MODEL, Bundle
from edge_mtl.errors import BackendUnavailable
from edge_mtl.tasks import TASK_NAMES
from tests.bundles import host_model, picture

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    return load


def row(name: str, ratio: float, *, ours: bool, fit: bool = True) -> dict[str, Any]:
    return {"name": name, "ratio": ratio, "ours": ours, "within_budget": fit}


def test_peers_are_timed_and_scored_in_one_table(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "peers-1.0"
    command = [sys.executable, str(BENCHMARKS / "peers.py"), str(tiny_bundle.path), "--threads", "1", "--rounds", "3"]
    command += ["--precisions", "int8", "--without", "NNCF", "--work", str(tmp_path / "work")]
    done = subprocess.run([*command, "--prepare"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert any(path.name.endswith(".onnx") for path in made)
    done = subprocess.run([*command, "--out", str(out)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "calibrate" not in done.stderr
    assert all(path.stat().st_mtime_ns == when for path, when in made.items()), "what is kept is not made again"
    content = json.loads((tmp_path / "peers-1.0.json").read_text())
    rows = {one["name"]: one for one in content["rows"]}
    baseline = rows[content["baseline"]]
    assert baseline["ratio"] == 1
    assert baseline["within_budget"]
    assert any(one["ours"] and " int8" in name for name, one in rows.items()), content["left_out"]
    for one in rows.values():
        assert one["ratio_sure"][0] <= one["ratio"] <= one["ratio_sure"][1]
        assert 0 <= one["miou"] <= 1
        assert one["depth_rel"] >= 0
        assert one["normal_mean_deg"] >= 0
    left_out = " ".join(content["left_out"])
    assert "torch.compile fp32: no checkpoint" in left_out
    assert "NNCF INT8, plain export: not asked for" in left_out
    page = (tmp_path / "peers-1.0.md").read_text()
    assert page in done.stdout
    assert all(name in page for name in rows)
    assert not (tiny_bundle.path / "engines").exists()


def test_the_conclusion_compares_only_what_keeps_the_accuracy(script) -> None:
    conclusion = script("peers").conclusion
    rows = [
        row("edge_mtl int8 on openvino", 3.0, ours=True),
        row("edge_mtl bf16 on openvino", 3.5, ours=True),
        row("NNCF INT8, plain export", 4.0, ours=False, fit=False),
        row("OpenVINO bf16, plain export", 2.0, ours=False),
    ]
    found = conclusion(rows)
    assert (found["ours"], found["rival"]) == ("edge_mtl int8 on openvino", "OpenVINO bf16, plain export")
    assert conclusion([one for one in rows if one["ours"]]) == {}


def test_torch_of_other_weights_is_refused(script) -> None:
    peers = script("peers")
    same, other = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)

    def answers(labels: np.ndarray) -> Any:
        return lambda frame: type("Maps", (), {"segmentation": labels, "depth": None, "normals": None})()

    paths = {peers.BASELINE: answers(same), "PyTorch eager fp32": answers(same)}
    peers._check_same_weights(paths, None, Path("a"))
    with pytest.raises(peers.BuildError, match=r"not what model\.onnx was exported from"):
        peers._check_same_weights({**paths, "PyTorch eager fp32": answers(other)}, None, Path("a"))


@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="needs nncf")
def test_nncf_runs_on_the_plain_export(script, tiny_bundle: Bundle) -> None:
    plain = tiny_bundle.read(PLAIN_MODEL)
    frames = [picture(index) for index in range(4)]
    runtimes = script("peer_runtimes")
    rival = runtimes.NncfRuntime(runtimes.quantized_by_nncf(plain, frames), threads=1, floats="fp32")
    expected = open_backend("onnxruntime", plain, threads=1)
    feeds = {"image": picture(9)[None]}
    ours, theirs = expected.run(feeds), rival.run(feeds)
    assert ours.keys() == theirs.keys()
    assert np.abs(ours["depth"] / theirs["depth"] - 1).mean() < 0.1
    rival.close()
    expected.close()


def test_without_nncf_its_row_says_so(script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BackendUnavailable, match="pip install"):
        script("peer_runtimes").quantized_by_nncf(b"", [])


def test_one_shared_engine_is_compared_with_three_single_ones(script, tiny_bundle: Bundle, tmp_path: Path) -> None:
    graphs, work = script("multitask_graphs"), script("work_folder").WorkFolder(tmp_path)
    frames = [picture(index) for index in range(4)]

    def network(tasks: tuple[str, ...], frames: list[np.ndarray]) -> Any:
        options: dict[str, Any] = {"parameters": len(tasks), "precisions": ["int8"], "work": work}
        return graphs.quantized(host_model(tasks=tasks), tasks, frames, **options)

    networks = {"tiny": [network(tasks, frames) for tasks in graphs.ENGINES]}
    steps: list[str] = []
    found, left_out = script("multitask_rows").measure(
        networks,
        tiny_bundle,
        precisions=["int8"],
        threads=1,
        rounds=3,
        duration_s=60.0,
        repeats=1,
        energy_s=0.0,
        step=lambda what, done, total: steps.append(what),
    )
    assert {"opening engines", "time, in turns", "memory, in processes of its own"} == set(steps)
    assert not left_out
    assert {one["backend"] for one in found} == {name for name in ("onnxruntime", "openvino") if available()[name].usable}
    for one in found:
        assert 0 < one["time"]["share"] < 2
        assert set(one["time"]["each_ms"]) == set(TASK_NAMES)
        assert one["memory"]["shared"]["above_empty_bytes"] > one["memory"]["shared"]["runtime_bytes"] > 0
        assert one["size"]["shared_parameters"] == one["size"]["single_parameters"] == 3
    content = {
        "date": "", "commit": "", "device": {"description": ""}, "threads": {"runtime": 1}, "load": {"before": 0, "after": 0},
        "size": [64, 96], "rounds": 3, "decoder": "none", "weights": "", "rows": found, "left_out": [], "command": "",
    }  # fmt: skip
    assert "| tiny | int8 | onnxruntime |" in script("multitask_saving").markdown(content)


def test_a_work_folder_makes_a_thing_once_and_another_thing_again(script, tmp_path: Path) -> None:
    work, made = script("work_folder").WorkFolder(tmp_path), []

    def make() -> bytes:
        made.append(1)
        return b"content"

    first = work.kept("graph.int8.onnx", {"frames": 4}, make)
    assert work.kept("graph.int8.onnx", {"frames": 4}, make) == first
    assert (first.read_bytes(), len(made)) == (b"content", 1)
    assert first.name.endswith(".int8.onnx")
    assert work.kept("graph.int8.onnx", {"frames": 5}, make) != first
    assert len(made) == 2
    assert len(work.made()) == 2
    with pytest.raises(ZeroDivisionError):
        work.kept("graph.onnx", {}, lambda: bytes(1 // 0))
    assert len(list(tmp_path.glob("graph-*"))) == 2, "what fails leaves nothing behind"


def test_memory_sees_what_a_larger_graph_takes(script, tmp_path: Path) -> None:
    megabytes = {}
    for side in (64, 3200):
        weight = numpy_helper.from_array(np.ones((side, side), np.float32), "weight")
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "weight"], ["y"])],
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, side])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, side])],
            [weight],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        path = tmp_path / f"{side}.onnx"
        path.write_bytes(model.SerializeToString())
        found = script("resident_memory").resident_memory([path], backend="onnxruntime", precision="fp32", threads=1, repeats=1)
        assert found.peak >= found.loaded > found.runtime
        megabytes[side] = found.graphs / 2**20
    assert megabytes[3200] - megabytes[64] > 30


def benchmark_of(ratio: float) -> dict[str, Any]:
    rows = [
        {"name": name, "ratio": value, "ratio_sure": [value * 0.99, value * 1.01], "p50_ms": 10.0 / value}
        for name, value in (("reference", 1.0), ("int8", ratio))
    ]
    return {"bundle": "tiny", "baseline": "reference", "rows": rows}


def test_repeated_runs_agree_where_ratios_do_and_the_spread_is_told(script) -> None:
    spread = script("repeatability").spread
    (steady,) = spread([benchmark_of(2.0), benchmark_of(2.02), benchmark_of(2.04)], threshold=0.05)
    assert steady["spread"] == pytest.approx(0.02)
    assert steady["pairs"] == {"same": 3}
    (wild,) = spread([benchmark_of(2.0), benchmark_of(2.5)], threshold=0.05)
    assert wild["spread"] == pytest.approx(0.25)
    assert wild["pairs"] == {"faster": 1}


def test_a_benchmark_is_repeated_in_processes_of_its_own_and_runs_are_kept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "repeatability.py"), str(tiny_bundle.path), "--runs", "2", "--duration", "0.2"]
    command += ["--pause", "0", "--threads", "1", "--options", "--precision fp32 --backend onnxruntime"]
    command += ["--threshold", "0.98", "--work", str(tmp_path / "runs"), "--out", str(tmp_path / "repeated")]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        content = json.loads((tmp_path / "repeated.json").read_text())
        assert [len(row["ratios"]) for row in content["rows"]] == [2]
        assert (tmp_path / "repeated.md").read_text() in done.stdout
    first, second = (json.loads((tmp_path / "runs" / f"run-{number}.json").read_text())["date"] for number in (1, 2))
    assert [run["date"] for run in content["runs"]] == [first, second], "kept, not run again"


def test_the_page_says_why_an_aim_is_missed_with_this_runs_figures_only(script) -> None:
    reasons = script("peers_reasons").reasons
    rows = [
        {**row("edge_mtl int8+bf16 on openvino", 3.0, ours=True), "times": {"p50_ms": 40.0}},
        row("OpenVINO bf16, plain export", 2.0, ours=False),
    ]
    kinds = [{"kind": "attention products", "milliseconds": 9.0, "share": 0.25, "layers": 8}]
    content = {"rows": rows, "conclusion": script("peers").conclusion(rows), "kinds": kinds, "aim": 4.0}
    text = "\n".join(reasons(content))
    assert "1.50 times as fast, ahead of every peer" in text
    assert "not reached" in text
    assert "40.0 ms and would have to take 30.0 ms, 10.0 ms less" in text
    assert "attention products: 25% of the layers' time, about 10.0 ms; without it 4.00 times at most" in text
    assert "reached." in reasons({**content, "aim": 2.5})[-1]
    assert reasons({**content, "conclusion": {}}) == []
