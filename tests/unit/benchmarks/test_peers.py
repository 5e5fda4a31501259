"""Comparisons with others and with single-task engines: same frames, accuracy beside speed, and what is left out is said."""

from __future__ import annotations

import importlib
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.backends import available, open_backend
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError
from edge_mtl.tasks import NYU_TASKS, TASK_NAMES
from tests.bundles import answer_of, host_model, make_image
from tests.unit.benchmarks.conftest import BENCHMARKS

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


def row(name: str, ratio: float, *, ours: bool, fit: bool = True) -> dict[str, Any]:
    return {"name": name, "ratio": ratio, "ours": ours, "within_budget": fit, "miou": 0.7, "times": {"p50_ms": 120.0 / ratio}}


def seconds_of(rows: list[dict[str, Any]], *, noise: float = 0.01, rounds: int = 40) -> dict[str, list[float]]:
    """Times of every round that fit the ratios, and what they differ by."""
    random = np.random.default_rng(0)
    return {one["name"]: list(one["times"]["p50_ms"] / 1e3 * np.exp(noise * random.standard_normal(rounds))) for one in rows}


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
    assert "torch.compile fp32: " in left_out, "this bundle's weights are no network of torch"
    assert "ncnn INT8, optimized export: " in left_out
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
    times = seconds_of(rows)
    found = conclusion(rows, times)
    assert (found["ours"], found["rival"]) == ("edge_mtl int8 on openvino", "OpenVINO bf16, plain export")
    assert found["faster_ours"] == ["edge_mtl bf16 on openvino"]
    assert conclusion([one for one in rows if one["ours"]], times) == {}


@pytest.mark.parametrize(
    ("ratio", "noise", "rounds", "verdict"),
    [(2.4, 0.01, 40, "faster"), (2.04, 0.3, 40, "no difference shown"), (1.6, 0.01, 40, "slower"), (2.4, 0.01, 3, None)],
)
def test_ours_is_ahead_only_where_pairs_of_times_show_it(
    ratio: float, noise: float, rounds: int, verdict: str | None, script
) -> None:
    rows = [row("edge_mtl int8 on openvino", ratio, ours=True), row("OpenVINO bf16, plain export", 2.0, ours=False)]
    found = script("peers").conclusion(rows, seconds_of(rows, noise=noise, rounds=rounds))
    assert found["verdict"] == (verdict or "no difference shown")
    low, high = found["ahead_sure"]
    assert low <= found["ahead"] <= high
    content = {
        "rows": rows, "conclusion": found, "baseline": rows[1]["name"], "classes": 13, "aim": None,
        "kinds": [{"kind": "resizing", "milliseconds": 9.0, "share": 1.0, "layers": 2}],
    }  # fmt: skip
    text = "\n".join(script("peers_reasons").reasons(content))
    assert ("not ahead of every peer" in text) == (verdict != "faster")
    assert ("- resizing: 9.00 ms" in text) == (verdict != "faster"), "why, wherever it is not ahead"


def test_torch_of_other_weights_is_refused(script) -> None:
    peers = script("peers")
    same, other = np.zeros((4, 4), np.uint8), np.ones((4, 4), np.uint8)

    def answers(labels: np.ndarray) -> Any:
        return lambda frame: answer_of({"segmentation": labels})

    paths = {peers.BASELINE: answers(same), "PyTorch eager fp32": answers(same)}
    peers._check_same_weights(NYU_TASKS, paths, None, Path("a"))
    with pytest.raises(peers.BuildError, match=r"not what model\.onnx was exported from"):
        peers._check_same_weights(NYU_TASKS, {**paths, "PyTorch eager fp32": answers(other)}, None, Path("a"))


def test_an_engine_of_ours_that_fails_its_test_is_left_out_and_one_that_breaks_is_not(script, tiny_bundle: Bundle) -> None:
    peers, left_out = script("peers"), []
    plain = peers.Row(peers.BASELINE, False, lambda: open_backend("onnxruntime", tiny_bundle.read(REFERENCE_ONNX), threads=1))

    def measured(error: Exception) -> None:
        def opened() -> Any:
            raise error

        rows, depth = [plain, peers.Row("edge_mtl bf16", True, opened)], peers.BenchmarkConfig(3, 1.0, prepare=True)
        peers.measure(tiny_bundle, rows, left_out, depth=depth, checkpoint=None, step=lambda what, done, total: None)

    measured(AccuracyError("it disagrees\nmore"))
    assert left_out == ["edge_mtl bf16: it disagrees"]
    with pytest.raises(BuildError, match="broken"):
        measured(BuildError("broken"))


@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="needs nncf")
def test_nncf_runs_on_the_plain_export(script, tiny_bundle: Bundle) -> None:
    plain = tiny_bundle.read(REFERENCE_ONNX)
    frames = [make_image(index) for index in range(4)]
    runtimes = script("peer_runtimes")
    rival = runtimes.NncfRuntime(runtimes.quantized_by_nncf(plain, frames), threads=1, floats="fp32")
    expected = open_backend("onnxruntime", plain, threads=1)
    feeds = {"image": make_image(9)[None]}
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
    frames = [make_image(index) for index in range(4)]

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
    assert {"opening engines", "time, interleaved", "memory, in processes of its own"} == set(steps)
    assert not left_out
    assert {one["backend"] for one in found} == {name for name in ("onnxruntime", "openvino") if available()[name].usable}
    for one in found:
        assert 0 < one["time"]["share"] < float("inf")
        assert set(one["time"]["each_ms"]) == set(TASK_NAMES)
        assert one["memory"]["shared"]["above_empty_bytes"] > one["memory"]["shared"]["runtime_bytes"] > 0
        assert one["size"]["shared_parameters"] == one["size"]["single_parameters"] == 3
    content = {
        "date": "", "commit": "", "device": {"description": ""}, "threads": {"runtime": 1}, "load": {"before": 0, "after": 0},
        "size": [64, 96], "rounds": 3, "decoder": "none", "weights": "", "rows": found, "left_out": [], "command": "",
    }  # fmt: skip
    assert "| tiny | int8 | onnxruntime |" in script("multitask_saving").markdown(content)


def saving_row(*, time_sure: tuple[float, float], memory_mib: tuple[float, float] | None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "network": "tiny", "precision": "int8", "backend": "openvino", "size": {"share": 0.3}, "energy": [],
        "time": {"shared_ms": 4.0, "single_ms": 10.0, "share": 0.4, "share_sure": list(time_sure)},
    }  # fmt: skip
    if memory_mib is not None:
        shared, single = memory_mib
        found["memory"] = {
            "shared": {"above_empty_bytes": int(shared * 2**20), "runtime_bytes": 30 * 2**20},
            "single": {"above_empty_bytes": int(single * 2**20), "runtime_bytes": 30 * 2**20},
            "share": shared / single,
            "graphs_share": (shared - 30) / (single - 30),
        }
    return found


def test_the_aim_of_sharing_is_judged_and_missed_memory_is_told_in_megabytes(script) -> None:
    saving = script("multitask_saving")
    held = saving_row(time_sure=(0.38, 0.42), memory_mib=(80.0, 200.0))
    missed = saving_row(time_sure=(0.47, 0.52), memory_mib=(120.0, 200.0))
    unsure = saving_row(time_sure=(0.40, 0.52), memory_mib=None)
    assert saving.judged(held) == {"time": "held", "memory": "held"}
    assert saving.judged(missed) == {"time": "missed", "memory": "missed"}
    assert saving.judged(unsure) == {"time": "not shown"}
    content = {
        "date": "", "commit": "", "device": {"description": ""}, "threads": {"runtime": 1}, "load": {"before": 0, "after": 0},
        "size": [64, 96], "rounds": 3, "decoder": "none", "weights": "", "left_out": [], "command": "",
    }  # fmt: skip
    page = saving.markdown({**content, "rows": [held, missed, unsure]})
    assert [line.rsplit("|", 2)[1].strip() for line in page.splitlines() if line.startswith("| tiny")] == [
        "time held, memory held",
        "time missed, memory missed",
        "time not shown",
    ]
    assert page.count("memory misses the aim by 30.0 MiB, 120.0 MiB being 0.600 of 200.0 MiB") == 1  # 120 - 0.45 * 200
    assert "misses" not in saving.markdown({**content, "rows": [held, unsure]})


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


def test_a_benchmark_is_repeated_in_processes_of_its_own_and_runs_are_kept(script, tiny_bundle: Bundle, tmp_path: Path) -> None:
    command = [sys.executable, str(BENCHMARKS / "repeatability.py"), str(tiny_bundle.path), "--runs", "2", "--duration", "0.2"]
    command += ["--pause", "0", "--threads", "1", "--options", "--precision fp32 --backend onnxruntime"]
    command += [
        "--threshold",
        "0.98",
        "--most-stolen",
        "1",
        "--work",
        str(tmp_path / "runs"),
        "--out",
        str(tmp_path / "repeated"),
    ]
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1), done.stderr
        content = json.loads((tmp_path / "repeated.json").read_text())
        assert [len(row["ratios"]) for row in content["rows"]] == [2]
        assert (tmp_path / "repeated.md").read_text() in done.stdout
    asked = {"threads": 1, "duration_s": 0.2, "pause_s": 0.0, "options": "--precision fp32 --backend onnxruntime"}
    what = script("repeatability").decided_by(tiny_bundle.digest, **asked)
    work = script("work_folder").WorkFolder(tmp_path / "runs")
    kept = [json.loads(work.place(f"run-{number}.json", what).read_text()) for number in (1, 2)]
    assert [run["date"] for run in content["runs"]] == [run["date"] for run in kept], "kept, not run again"
    assert all("commit" in run for run in content["runs"])


def test_runs_that_others_disturbed_are_not_counted_and_more_are_made_in_their_place(
    script, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repeatability = script("repeatability")
    shares = iter([0.0, 0.4, 0.05, 0.4, 0.4, 0.4, 0.0])

    def one_run(_: Any, file: Path) -> int:
        looks = {"before": {"cpu_ticks": 0, "stolen_ticks": 0}}
        looks["after"] = {"cpu_ticks": 1000, "stolen_ticks": round(1000 * next(shares))}
        run = {**benchmark_of(2.0), "rounds": 9, "state": looks, "throttling": [], "date": "", "commit": "aaa"}
        file.write_text(json.dumps(run))
        return 0

    def measured(runs: int, folder: str) -> tuple[int, Path]:
        out = tmp_path / folder
        arguments = [str(tiny_bundle.path), "--runs", str(runs), "--pause", "0", "--work", str(tmp_path / f"{folder}-work")]
        monkeypatch.setattr(sys, "argv", ["repeatability.py", *arguments, "--out", str(out)])
        return repeatability.main(), out.with_suffix(".json")

    monkeypatch.setattr(repeatability, "one_run", one_run)
    code, result = measured(2, "enough")
    content = json.loads(result.read_text())
    assert code == 0
    assert [run["counted"] for run in content["runs"]] == [True, False, True]
    assert [len(row["ratios"]) for row in content["rows"]] == [2]
    code, result = measured(2, "too-few")
    assert code == 1
    assert not result.exists()


def test_kept_runs_are_those_of_one_bundle_and_one_set_of_arguments(script, tmp_path: Path) -> None:
    decided_by, work = script("repeatability").decided_by, script("work_folder").WorkFolder(tmp_path)
    asked: dict[str, Any] = {"threads": 2, "duration_s": 60.0, "pause_s": 10.0, "options": "--precision int8"}
    place = work.place("run-1.json", decided_by("digest", **asked))
    assert work.place("run-1.json", decided_by("digest", **asked)) == place
    others = [("threads", 1), ("duration_s", 45.0), ("pause_s", 0.0), ("options", "--precision fp32")]
    for name, value in others:
        assert work.place("run-1.json", decided_by("digest", **{**asked, name: value})) != place, name
    assert work.place("run-1.json", decided_by("another", **asked)) != place


def test_the_page_of_repeated_runs_tells_of_each_run_its_commit_and_what_held_it_back(script) -> None:
    repeatability = script("repeatability")
    runs = [
        {"date": "first", "commit": "aaa", "rounds": 9, "throttling": ["the hypervisor gave 6% away"], "counted": True},
        {"date": "second", "commit": "aaa", "rounds": 8, "throttling": [], "counted": True},
        {"date": "third", "commit": "aaa", "rounds": 8, "throttling": ["the hypervisor gave 46% away"], "counted": False},
    ]
    content = {
        "bundle": "tiny", "date": "", "commit": "", "device": {"description": ""}, "threads": {"runtime": 1},
        "load": {"before": 0, "after": 0}, "duration_s": 1.0, "pause_s": 0.0, "limit": 0.05, "baseline": "reference",
        "rows": repeatability.spread([benchmark_of(2.0), benchmark_of(2.02)], threshold=0.05), "runs": runs, "command": "",
    }  # fmt: skip
    page = repeatability.markdown(content)
    assert "| 1 | first | aaa | 9 | the hypervisor gave 6% away |" in page
    assert "| 2 | second | aaa | 8 | nothing was seen |" in page
    assert "| 3 | third | aaa | 8 | the hypervisor gave 46% away (not counted) |" in page
    assert "threads, 2 runs of 1 s" in page
    assert "not of one commit" not in page
    runs[1]["commit"] = "bbb"
    assert "not of one commit" in repeatability.markdown(content)


def why(script, *, took_ms: float = 40.0, milliseconds: float = 10.0) -> dict[str, Any]:
    rows = [
        {**row("edge_mtl int8+bf16 on openvino", 3.0, ours=True), "times": {"p50_ms": took_ms}},
        row("OpenVINO bf16, plain export", 2.0, ours=False),
    ]
    kinds = [
        {"kind": "attention products", "milliseconds": milliseconds, "share": 0.5, "layers": 8},
        {"kind": "resizing", "milliseconds": milliseconds, "share": 0.5, "layers": 8},
    ]
    found = script("peers").conclusion(rows, seconds_of(rows))
    return {"rows": rows, "conclusion": found, "kinds": kinds, "aim": 4.0, "baseline": rows[1]["name"], "classes": 13}


def test_the_page_says_why_an_aim_is_missed_with_this_runs_figures_only(script) -> None:
    reasons, content = script("peers_reasons").reasons, why(script)
    text = "\n".join(reasons(content))
    assert ", ahead of every peer" in text
    assert "not reached" in text
    assert "40.0 ms and would have to take 30.0 ms, 10.0 ms less" in text
    assert "reached." in reasons({**content, "aim": 2.5})[-1]


def test_what_takes_the_time_adds_up_to_the_frame_with_the_layers_own_milliseconds(script) -> None:
    module, content = script("peers_reasons"), why(script)
    found = {one["kind"]: one for one in module.frame_by_kind(content)}
    assert found["attention products"]["milliseconds"] == 10.0
    assert found[module.OUTSIDE]["milliseconds"] == pytest.approx(20.0)
    assert sum(one["milliseconds"] for one in found.values()) == pytest.approx(40.0)
    assert sum(one["share"] for one in found.values()) == pytest.approx(1.0)
    text = "\n".join(module.reasons(content))
    assert "- attention products: 10.00 ms, 25% of the frame; without it 4.00 times at most." in text
    assert f"- {module.OUTSIDE}: 20.00 ms, 50% of the frame; without it 6.00 times at most." in text
    slower = why(script, milliseconds=50.0)  # under the profiler
    assert module.OUTSIDE not in "\n".join(module.reasons(slower))


def test_where_none_of_our_integers_is_within_the_budget_the_page_says_so(script) -> None:
    reasons, peer = script("peers_reasons").reasons, row("OpenVINO bf16, plain export", 2.0, ours=False)
    content = {"conclusion": {}, "kinds": [], "aim": 4.0, "baseline": peer["name"], "classes": 13}
    outside = [row("edge_mtl int8 on openvino", 3.0, ours=True, fit=False), peer]
    assert (
        "None of our INT8 engines is within the budget (edge_mtl int8 on openvino)" in reasons({**content, "rows": outside})[0]
    )
    assert "None of our INT8 engines was measured" in reasons({**content, "rows": [peer]})[0]


def test_a_network_that_was_hardly_trained_is_named_as_such(script) -> None:
    reasons, content = script("peers_reasons").reasons, why(script)
    assert not any("hardly trained" in sentence for sentence in reasons(content))
    content["rows"][1]["miou"] = 0.034
    assert "its mIoU is 3.4%, and the same answer for every pixel can have up to 7.7%" in reasons(content)[0]
    content["rows"][1]["miou"] = None  # no segmentation
    assert not any("hardly trained" in sentence for sentence in reasons({**content, "classes": 0}))
