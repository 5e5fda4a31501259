"""Accuracy against time: who is beaten, the table and the figure, what files are refused, and a small real run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import prepare_nyuv2
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl.backends import available
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BackendUnavailable, BuildError, BundleError
from edge_mtl.tasks.nyu13 import NYU13_CLASSES
from tests import nyu_files
from tests.bundles import HEIGHT, WIDTH
from tests.unit.benchmarks.conftest import BENCHMARKS

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")


def row(name: str, ms: float, miou: float | None = None, depth_rel: float | None = None) -> dict[str, Any]:
    network, _, engine = name.partition(" ")
    times = {"median_ms": ms, "p90_ms": ms * 1.1, "ratio": 40.0 / ms, "ratio_sure": [39.0 / ms, 41.0 / ms]}
    return {"name": name, "network": network, "engine": engine, "miou": miou, "depth_rel": depth_rel, **times}


ROWS = [
    row("b0 fp32", 40.0, 0.40, 0.17),
    row("b0 int8", 10.0, 0.39, 0.17),
    row("lite0 fp32", 20.0, 0.36, 0.20),
    row("lite0 int8", 6.0, 0.35, 0.21),
    row("other litert", 200.0, 0.30),
]


def content_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    networks = [
        {"name": name, "size": size, "about": f"what {name} is", "accuracy_from": f"{name}.json"}
        for name, size in (("b0", [288, 384]), ("lite0", [192, 256]), ("other", [513, 513]))
    ]
    return {
        "date": "2026-11-29",
        "commit": "abc",
        "command": "python accuracy_time.py",
        "device": {"description": "a processor, 2 cores", "cpu_model": "a processor"},
        "versions": {"numpy": "2"},
        "load": {"before": 0.1, "after": 0.9},
        "data": "NYU Depth v2",
        "frames": 654,
        "frame": [480, 640],
        "rounds": 60,
        "networks": networks,
        "tables": [{"threads": 1, "baseline": "b0 fp32", "disturbed": "", "rows": rows}],
    }


def test_a_row_is_beaten_by_the_best_of_those_that_are_as_fast_and_better(script: Any) -> None:
    page = script("accuracy_time_page")
    miou, depth = page.MEASURES
    found = {one["name"]: page.beaten(one, ROWS, miou) for one in ROWS}
    assert found["other litert"]["name"] == "b0 fp32"
    assert found["lite0 fp32"]["name"] == "b0 int8"
    assert [name for name, by in found.items() if by is None] == ["b0 fp32", "b0 int8", "lite0 int8"]
    assert page.beaten(ROWS[0], ROWS, depth)["name"] == "b0 int8", "as good, in less time"
    assert page.beaten(ROWS[2], ROWS, depth)["name"] == "b0 int8", "a smaller error is better"
    assert page.beaten(ROWS[4], ROWS, depth) is None, "what has no depth is not compared"


def test_equal_rows_do_not_beat_each_other(script: Any) -> None:
    page = script("accuracy_time_page")
    twins = [row("a x", 10.0, 0.4), row("b x", 10.0, 0.4)]
    assert [page.beaten(one, twins, page.MEASURES[0]) for one in twins] == [None, None]


def test_the_figure_joins_exactly_those_that_are_not_beaten(script: Any) -> None:
    page = script("accuracy_time_page")
    for measure in page.MEASURES:
        panel = page.panel(ROWS, measure)
        measured = [one for one in ROWS if measure.value(one) is not None]
        assert len(panel.points) == len(measured)
        free = {one["name"] for one in measured if page.beaten(one, ROWS, measure) is None}
        assert {one.name for one in panel.best} == free
        assert [one.cost for one in panel.best] == sorted(one.cost for one in panel.best)
    assert panel.lower_is_better
    assert {one.gain for one in panel.best} == {17.0, 21.0}, "errors are drawn as they are, in percent"


def test_the_figure_names_every_row_and_the_processor(script: Any) -> None:
    page = script("accuracy_time_page")
    content = content_of(ROWS)
    drawn = page.figure(content, content["tables"][0])
    assert drawn.startswith("<svg")
    for words in ("b0 int8", "other litert", "mIoU, %", "relative depth error, %", "one thread, a processor"):
        assert words in drawn
    assert ">150<" not in drawn, "6 and 200 ms are too far apart for a linear axis"
    near = content_of(ROWS[:3])
    assert ">15<" in page.figure(near, near["tables"][0])


def test_the_table_says_in_words_who_beats_a_row_and_who_nothing_beats(script: Any) -> None:
    text = script("accuracy_time_page").markdown(content_of(ROWS), {1: "x-1.svg"})
    lines = {line.split(" | ")[0].lstrip("| "): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["lite0 int8"].endswith("| none |")
    assert lines["lite0 fp32"].endswith(
        "| mIoU: b0 int8, 39.00 % in 10.0 ms; relative depth error: b0 int8, 17.00 % in 10.0 ms |"
    )
    assert "| 513x513 | 200.0 |" in lines["other litert"]
    assert "| 30.00 | - |" in lines["other litert"]
    assert "![Accuracy against milliseconds, one thread](x-1.svg)" in text
    assert "654 test frames of NYU Depth v2" in text
    assert "shows nothing" not in text
    disturbed = content_of(ROWS)
    disturbed["tables"][0]["disturbed"] = "others took 40 %"
    assert "**This table shows nothing: others took 40 %.**" in script("accuracy_time_page").markdown(disturbed, {})


def evaluation(path: Path, model: str, *, frames: int = 3, split: str = "test", **measures: float) -> Path:
    rows = {"fp32": measures, "fp32 onnxruntime": measures}
    details = {name: {"data": "NYU Depth v2", "frames": frames, "size": [64, 96]} for name in rows}
    path.write_text(json.dumps({"models": [model], "split": split, "metrics": rows, "details": details}))
    return path


def test_evaluations_are_found_by_the_network_they_are_of(script: Any, tmp_path: Path) -> None:
    files = script("accuracy_files")
    known = files.read_files([evaluation(tmp_path / "a.json", "bundles/b0", miou=0.4), evaluation(tmp_path / "b.json", "x/b1")])
    assert known["b0"].row("fp32 onnxruntime")["miou"] == 0.4
    assert files.same_frames(list(known.values())) == ("NYU Depth v2", 3)
    with pytest.raises(BundleError, match=r"a.json has no accuracy of b0 as int8 openvino, only of fp32"):
        known["b0"].row("int8 openvino")


def test_evaluations_that_cannot_be_compared_are_refused(script: Any, tmp_path: Path, tiny_bundle: Bundle) -> None:
    files = script("accuracy_files")
    one, other = evaluation(tmp_path / "a.json", "b0"), evaluation(tmp_path / "b.json", "b1", frames=4)
    with pytest.raises(BundleError, match=r"b\.json is of 4 frames of NYU Depth v2, a\.json is of 3 frames"):
        files.same_frames(list(files.read_files([one, other]).values()))
    with pytest.raises(BundleError, match="both of b0"):
        files.read_files([one, evaluation(tmp_path / "c.json", "elsewhere/b0")])
    with pytest.raises(BundleError, match="not of test frames"):
        files.read_files([evaluation(tmp_path / "d.json", "b0", split="val")])
    (tmp_path / "e.json").write_text("{}")
    with pytest.raises(BundleError, match="not an evaluation of one model"):
        files.read_files([tmp_path / "e.json"])
    with pytest.raises(BundleError, match="cannot be read"):
        files.read_files([tmp_path / "missing.json"])
    with pytest.raises(BundleError, match="no file has the accuracy of tiny"):
        files.accuracy_of_bundle("tiny", tiny_bundle, {}, nyuv2=None, keep=tmp_path / "none.json")


def external(path: Path, *, last: bool = False, planes: int = 151) -> Path:
    """float32 image in -1..1, H/4 x W/4 logits: floor (4) where a pixel is bright, ceiling (6) elsewhere."""
    weights, bias = np.zeros((planes, 3, 4, 4), np.float32), np.full(planes, -9.0, np.float32)
    weights[4], weights[6] = 1.0, -1.0
    bias[[4, 6]] = 0.0
    nodes = [helper.make_node("Conv", ["planes", "w", "b"], ["logits"], strides=[4, 4], kernel_shape=[4, 4])]
    image, answer, given = [1, 3, 48, 64], [1, planes, 12, 16], "planes"
    if last:
        nodes = [
            helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2]),
            *nodes,
            helper.make_node("Transpose", ["logits"], ["last"], perm=[0, 2, 3, 1]),
        ]
        image, answer, given = [1, 48, 64, 3], [1, 12, 16, planes], "image"
    graph = helper.make_graph(
        nodes,
        "external",
        [helper.make_tensor_value_info(given, TensorProto.FLOAT, image)],
        [helper.make_tensor_value_info("last" if last else "logits", TensorProto.FLOAT, answer)],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(bias, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("last", [False, True])
def test_an_external_network_sees_the_frame_at_its_own_size_and_answers_at_the_frames(
    script: Any, tmp_path: Path, last: bool
) -> None:
    frame = np.zeros((96, 128, 3), np.uint8)
    frame[:, 64:] = 255
    with script("external_networks").ExternalNetwork(
        external(tmp_path / "x.onnx", last=last), scale="symmetric", threads=1
    ) as one:
        assert one.size == (48, 64)
        assert one.engine == "onnxruntime"
        labels = one.segment(frame)
        assert one.results(frame)["segmentation"].labels.shape == (96, 128)
    assert (labels[:, :64] == NYU13_CLASSES.index("ceiling")).all()
    assert (labels[:, 64:] == NYU13_CLASSES.index("floor")).all()
    with script("external_networks").ExternalNetwork(tmp_path / "x.onnx", scale="bytes", threads=1) as wrong:
        assert not np.array_equal(wrong.segment(frame), labels), "0 is not dark for it: the scale is used"


def test_files_that_are_no_such_network_are_refused(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make = script("external_networks").ExternalNetwork
    with pytest.raises(BuildError, match=r"expected one that ends in \.onnx or \.tflite"):
        make(tmp_path / "missing.onnx", scale="unit", threads=1)
    with pytest.raises(BuildError, match="19 classes"):
        make(external(tmp_path / "city.onnx", planes=19), scale="unit", threads=1)
    (tmp_path / "x.tflite").write_bytes(b"TFL3")
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(BackendUnavailable, match="pip install ai-edge-litert"):
        make(tmp_path / "x.tflite", scale="unit", threads=1)


def test_a_bundle_and_an_external_network_are_measured_and_drawn(own_bundle: Bundle, tmp_path: Path) -> None:
    source = nyu_files.write_images(tmp_path / "copy", train=1, val=2)
    assert prepare_nyuv2.main(["images", str(source), "--out", str(tmp_path / "nyuv2"), "--size", f"{HEIGHT}x{WIDTH}"]) == 0
    build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1, budget=None)
    network, out = external(tmp_path / "x.onnx"), tmp_path / "curve"
    command = [sys.executable, str(BENCHMARKS / "accuracy_time.py"), str(own_bundle.path)]
    command += ["--nyuv2", str(tmp_path / "nyuv2"), "--external", "other", str(network), "--threads", "1", "--rounds", "3"]
    done = subprocess.run([*command, "--frame", "48x80", "--out", str(out)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "curve.json").read_text())
    assert (content["frames"], content["frame"], content["threads"]["runtime"]) == (2, [48, 80], 1)
    (table,) = content["tables"]
    rows = {one["name"]: one for one in table["rows"]}
    assert list(rows) == ["tiny fp32 onnxruntime", "tiny int8 onnxruntime", "other onnxruntime"]
    assert rows["tiny fp32 onnxruntime"]["ratio"] == 1
    saved = json.loads((tmp_path / "curve-accuracy-tiny.json").read_text())["metrics"]
    for engine in ("fp32 onnxruntime", "int8 onnxruntime"):
        assert rows[f"tiny {engine}"]["miou"] == saved[engine]["miou"]
        assert rows[f"tiny {engine}"]["depth_rel"] == saved[engine]["depth_rel"]
    assert 0 <= rows["other onnxruntime"]["miou"] <= 1
    assert rows["other onnxruntime"]["depth_rel"] is None
    other = json.loads((tmp_path / "curve-accuracy-other.json").read_text())["details"]["onnxruntime"]
    assert (other["size"], other["compared_at"], other["frames"]) == ([48, 64], [HEIGHT, WIDTH], 2)
    assert (tmp_path / "curve.md").read_text() in done.stdout
    assert (tmp_path / "curve-1.svg").read_text().startswith("<svg")
    again = [*command, "--accuracy", str(tmp_path / "curve-accuracy-tiny.json"), "--out", str(tmp_path / "again")]
    again.remove("--nyuv2")
    again.remove(str(tmp_path / "nyuv2"))
    refused = subprocess.run(again, capture_output=True, text=True, check=False)
    assert refused.returncode == BundleError.exit_code
    assert "no file has the accuracy of other" in refused.stderr
