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
    command += ["--precisions", "int8", "--without", "NNCF", "--out", str(out)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
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
    rival = script("peer_runtimes").NncfRuntime(plain, frames, threads=1, floats="fp32")
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
        script("peer_runtimes").NncfRuntime(b"", [], threads=1, floats="fp32")


def test_one_shared_engine_is_compared_with_three_single_ones(script, tiny_bundle: Bundle) -> None:
    rows = script("multitask_rows")
    frames = [picture(index) for index in range(4)]
    networks = {
        "tiny": [rows.quantized(host_model(tasks=tasks), tasks, frames, parameters=len(tasks)) for tasks in rows.ENGINES]
    }
    found, left_out = rows.measure(networks, tiny_bundle, precisions=["int8"], threads=1, rounds=3, repeats=1, energy_s=0.0)
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
