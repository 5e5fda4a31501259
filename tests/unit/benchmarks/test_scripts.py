"""The benchmark scripts run, and what they write can be committed: machine, date, commit, versions, ratios with spread."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import prepare_nyuv2
import pytest
from mtl.pseudo_labels.dataset_file import describe_folder

from edge_mtl.backends import available
from edge_mtl.bundle import Bundle
from edge_mtl.image.encoding import encode_png
from tests import nyu_files
from tests.bundles import HEIGHT, WIDTH
from tests.pseudo_folders import STATED, painted_bundle, write_images

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


def run(script: str, *arguments: object) -> str:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True, check=True).stdout


def check_conditions(content: dict[str, Any]) -> None:
    assert content["bundle"]["name"] == "tiny"
    check_machine(content)


def check_machine(content: dict[str, Any]) -> None:
    assert content["device"]["cores"] >= 1
    assert content["date"].count("-") == 2
    assert {"numpy", "onnxruntime"} <= set(content["versions"])
    assert content["threads"] == {"runtime": 1, "opencv": 1}
    assert content["load"]["before"] >= 0
    assert "commit" in content
    assert content["command"].startswith("python ")


def check_rows(rows: list[dict[str, Any]], baseline: str) -> None:
    assert next(row for row in rows if row["name"] == baseline)["ratio"] == 1
    for row in rows:
        assert row["ratio_sure"][0] <= row["ratio"] <= row["ratio_sure"][1]
        assert row["minimum_ms"] <= row["median_ms"] <= row["p90_ms"]


def test_boxes_are_timed_by_the_number_of_candidates(tmp_path: Path) -> None:
    out = tmp_path / "boxes.json"
    shown = run("boxes_postprocess.py", "--candidates", "0,20", "--network", "64x96", "--rounds", 3, "--out", out)
    content = json.loads(out.read_text())
    check_machine(content)
    names = ["0 candidates", "20 candidates", "0 candidates, measured", "20 candidates, measured"]
    assert [row["name"] for row in content["rows"]] == names
    assert all(name in shown for name in names)
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in content["rows"])
    assert content["rows"][0]["boxes"] == 0 < content["rows"][1]["boxes"] <= 20


def test_whole_frames_are_compared_with_the_plain_graph(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "tiny-0.1"
    shown = run("whole_frame.py", tiny_bundle.path, "--threads", 1, "--rounds", 3, "--frame", "48x80", "--out", out)
    content = json.loads((tmp_path / "tiny-0.1.json").read_text())
    check_conditions(content)
    assert (content["network"], content["frame"]) == ([64, 96], [48, 80])
    check_rows(content["rows"], content["baseline"])
    assert len(content["rows"]) >= 3
    assert (tmp_path / "tiny-0.1.md").read_text() in shown
    assert not (tiny_bundle.path / "engines").exists()


def test_the_parts_of_a_frame_add_up_and_recordings_are_timed_each_way(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "parts.json"
    options = ("--threads", 1, "--rounds", 6, "--frame", "48x80", "--recording", 3)
    shown = run("frame_parts.py", tiny_bundle.path, *options, "--out", out)
    content = json.loads(out.read_text())
    check_conditions(content)
    assert content["frame"] == [48, 80]
    assert {"fp32 on onnxruntime", "int8 on onnxruntime"} <= {row["engine"] for row in content["rows"]}
    for row in content["rows"]:
        assert row["engine"] in shown
        overhead = row["overhead_ms"] or 0.0
        assert row["outside_ms"] == pytest.approx(row["prepare_ms"] + overhead + row["finish_ms"])
        assert set(row["finish_by_task_ms"]) == set(tiny_bundle.tasks)
        assert row["recording"]["frames_at_once"] == 1
        for way in ("predict", "stream", "stream, frames at once"):
            low, high = row["recording"][way]["sure"]
            assert 0 < low <= row["recording"][way]["times_faster"] <= high
    assert not (tiny_bundle.path / "engines").exists()


def test_frames_of_one_task_are_compared_with_whole_ones_and_say_what_each_task_costs(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "asked.json"
    options = ("--precision", "int8", "--backend", "onnxruntime", "--threads", 1, "--rounds", 3, "--frame", "48x80")
    shown = run("asked_tasks.py", tiny_bundle.path, *options, "--without", "depth,normals", "--out", out)
    content = json.loads(out.read_text())
    check_conditions(content)
    check_rows(content["rows"], content["baseline"])
    tasks = ("segmentation", "depth", "normals")
    alone = [f"{how} {task}" for how in ("predict", "engine of") for task in tasks]
    assert [row["name"] for row in content["rows"]] == ["all tasks", "all, unread", *alone, "engine without depth, normals"]
    assert content["added"]["tasks"] == ["depth", "normals"]
    assert content["added"]["times"] == content["rows"][-1]["ratio"]
    assert "depth, normals make a whole frame take" in shown
    assert content["engine"].startswith("int8 on onnxruntime ")
    assert all(content["shares"][row["name"]]["share"] == pytest.approx(1 / row["ratio"]) for row in content["rows"])
    costs, medians = content["costs"], {row["name"]: row["median_ms"] for row in content["rows"]}
    for task in tasks:
        parts = costs["common_ms"] + costs["head_ms"][task] + costs["finishing_ms"][task]
        assert parts == pytest.approx(medians[f"engine of {task}"])
    whole = costs["common_ms"] + sum(costs["head_ms"].values()) + sum(costs["finishing_ms"].values())
    assert whole == pytest.approx(medians["all tasks"])
    assert content["goal"]["found"] == max(content["shares"][f"engine of {task}"]["share"] for task in tasks)
    assert "the largest share of an engine of one task" in shown
    assert not (tiny_bundle.path / "engines").exists()


def test_the_engine_is_compared_with_the_same_steps_inline_and_stream_with_a_loop(tiny_bundle: Bundle, tmp_path: Path) -> None:
    run(
        "engine_overhead.py",
        tiny_bundle.path,
        "--precision",
        "fp32",
        "--threads",
        1,
        "--rounds",
        3,
        "--out",
        tmp_path / "o.json",
    )
    content = json.loads((tmp_path / "o.json").read_text())
    check_conditions(content)
    assert len(content["measurements"]) == 2
    for measurement in content["measurements"].values():
        assert measurement["engine"].startswith("fp32 on ")
        check_rows(measurement["rows"], measurement["baseline"])


def test_consistency_is_correlated_with_the_errors_on_rendered_rooms(tiny_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "consistency.json"
    run("consistency.py", tiny_bundle.path, "--rooms", tmp_path / "rooms", "--count", 2, "--out", out)
    content = json.loads(out.read_text())
    assert content["rooms"] == 2
    assert set(content["results"]) == {"fp32", "int8"}
    for result in content["results"].values():
        assert 0 < result["pixels"] <= 2 * content["pixels_per_room"]
        assert -1 <= result["both"]["depth_error"]["spearman"] <= 1


def test_consistency_on_nyuv2_says_what_its_truth_is(tiny_bundle: Bundle, tmp_path: Path) -> None:
    source = nyu_files.write_images(tmp_path / "copy", train=1, val=2)
    size = f"{tiny_bundle.manifest.input.height}x{tiny_bundle.manifest.input.width}"
    assert prepare_nyuv2.main(["images", str(source), "--out", str(tmp_path / "nyuv2"), "--size", size]) == 0
    out = tmp_path / "consistency.json"
    run("consistency.py", tiny_bundle.path, "--nyuv2", tmp_path / "nyuv2", "--out", out)
    content = json.loads(out.read_text())
    assert (content["data"], content["rooms"]) == ("NYU Depth v2", 2)
    assert content["truths"]["normals"]["pseudo"] is True
    assert content["truths"]["depth"]["made"].startswith("8 bits")


def test_classes_are_chosen_on_the_host_and_in_graphs_alike(tmp_path: Path) -> None:
    out = tmp_path / "classes.json"
    small = ("--network", "64x96", "--frame", "48x80", "--classes", 13, 40, "--rounds", 2, "--out", out)
    shown = run("classes.py", *small)
    content = json.loads(out.read_text())
    check_machine(content)
    assert [(table["classes"], table["logits"], table["size"]) for table in content["tables"]] == [
        (count, kind, size) for count in (13, 40) for kind in ("regions", "smooth") for size in ([64, 96], [48, 80])
    ]
    for table in content["tables"]:
        check_rows(table["rows"], "host")
        exact = [share for way, share in table["agreement"].items() if table["size"] == [64, 96] or way == "host, every plane"]
        assert min(exact) > 0.999
        assert "graph, onnxruntime" in table["agreement"]
        assert 1.0 <= table["possible"] < table["classes"]
    assert len(shown.splitlines()) == 1 + len(content["tables"])


def test_pseudo_labels_are_compared_with_labels_of_people(tmp_path: Path) -> None:
    bundle = painted_bundle(tmp_path / "bundle")
    root = write_images(tmp_path / "data", *(f"{index:02d}" for index in range(20)))  # walls at 2 m of class 5
    tasks = {name: spec for name, spec in bundle.manifest.tasks.items() if name != "normals"}
    describe_folder(root, tasks, STATED, first_size=lambda images: (HEIGHT, WIDTH)).write()
    mask, depth = np.full((HEIGHT, WIDTH), 5, np.uint8), np.full((HEIGHT, WIDTH), 2400, np.uint16)
    mask[:16], depth[:32] = 3, 0
    for index in range(20):
        for folder, truth in (("masks", mask), ("depth", depth)):
            (root / folder).mkdir(exist_ok=True)
            (root / folder / f"{index:02d}.png").write_bytes(encode_png(truth))
    out = tmp_path / "figures.json"
    run("pseudo_labels.py", bundle.path, "--folder", root, "--split", "train", "--count", 2, "--out", out)
    content = json.loads(out.read_text())
    check_conditions(content)
    assert content["frames"] == {"of": "painted rooms, split train", "count": 2}
    assert set(content["results"]) == {"segmentation", "depth"}
    everything = content["results"]["segmentation"][0]
    assert (everything["name"], everything["kept"], everything["right"]) == ("all pixels", 1.0, 0.75)
    assert [row["name"] for row in content["results"]["depth"]].count("default") == 1
    for row in content["results"]["depth"][:2]:
        assert row["kept"] == 1.0
        assert row["relative_error"] == pytest.approx(1 / 6, abs=0.01)
        assert (row["within_10_percent"], row["within_1_25"]) == (0.0, 1.0)
