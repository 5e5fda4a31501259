"""Several frames at once: a graph of N frames answers as N graphs of one, and where that cannot be had it is refused."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_mtl.backends import available, open_backend
from edge_mtl.bench import batches, measures, targets
from edge_mtl.bench.batches import ALONE, Graph, batch_line_up, difference
from edge_mtl.bench.collect_targets import TargetFilter, planned
from edge_mtl.bench.energy import measure_energy
from edge_mtl.bundle import Bundle
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError
from edge_mtl.onnx_graph.batches import MOST_FRAMES, repeat_frames
from edge_mtl.quantization.quantize import quantize_for_cpu
from edge_mtl.quantization.recipes import load_recipe
from tests.bundles import graph_model, host_model, make_image
from tests.command_line import assert_failed, edge_mtl
from tests.transformers import transformer_block

pytestmark = pytest.mark.skipif(not available()["onnxruntime"].usable, reason="needs onnxruntime")

FRAMES = 3
RUNTIMES = [name for name in ("onnxruntime", "openvino") if available()[name].usable]


def planes(number: int) -> np.ndarray:
    return np.ascontiguousarray(make_image(number).transpose(2, 0, 1)[None]).astype(np.float32)


def integers(model: bytes, backend: str) -> bytes:
    target: Any = backend
    return quantize_for_cpu(model, [make_image(10 + number) for number in range(4)], recipe=load_recipe(), target=target)


def answers(model: bytes, feed: np.ndarray, backend: str) -> dict[str, np.ndarray]:
    opened = open_backend(backend, model, threads=1)
    found = opened.run({next(iter(opened.inputs)): feed})
    opened.close()
    return found


@pytest.mark.parametrize("backend", RUNTIMES)
@pytest.mark.parametrize("kind", ["plain", "deploy", "attention", "int8", "int8 attention"])
def test_frames_at_once_are_answered_as_one_by_one(kind: str, backend: str) -> None:
    make = {
        "plain": graph_model,
        "deploy": host_model,
        "attention": transformer_block,
        "int8": lambda: integers(host_model(), backend),
        "int8 attention": lambda: integers(transformer_block(), backend),
    }
    model = make[kind]()
    frames = [make_image(number)[None] if kind == "plain" else planes(number) for number in range(FRAMES)]
    single = [answers(model, frame, backend) for frame in frames]
    together = answers(repeat_frames(model, FRAMES), np.concatenate(frames), backend)
    for name, found in together.items():
        expected = np.concatenate([one[name] for one in single])
        most = 0.02 if "int8" in kind else 1e-4
        assert difference(found, expected) < most
        assert difference(found[::-1], expected) > 2 * most, "the control: frames that changed places are seen"


def test_one_frame_stays_one_frame() -> None:
    model = transformer_block()
    found = answers(repeat_frames(model, 1), planes(0), "onnxruntime")
    assert difference(found["normals_quarter"], answers(model, planes(0), "onnxruntime")["normals_quarter"]) < 1e-5


def test_what_is_no_single_frame_or_too_much_is_refused() -> None:
    with pytest.raises(BuildError, match=f"1 to {MOST_FRAMES} frames"):
        repeat_frames(host_model(), MOST_FRAMES + 1)
    twice = onnx.load_from_string(repeat_frames(host_model(), 2)).SerializeToString()
    with pytest.raises(BuildError, match="one frame of a fixed size"):
        repeat_frames(twice, 2)
    open_side = onnx.load_from_string(host_model())
    open_side.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "rows"
    with pytest.raises(BuildError, match="fixed size"):
        repeat_frames(open_side.SerializeToString(), 2)


def test_a_mean_over_the_first_axis_is_taken_of_each_frame_alone() -> None:
    """The first axis of the tensor is not the batch any more, so that the operator must be repeated."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("image", [1, 4, 6]), ("mean", [1, 6]))
    ]
    rows = helper.make_tensor("rows", TensorProto.INT64, [2], [4, 6])
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [
        helper.make_node("Reshape", ["image", "rows"], ["flat"]),
        helper.make_node("ReduceMean", ["flat", "axes"], ["mean"], keepdims=1),
    ]
    graph = helper.make_graph(nodes, "mean", ends[:1], ends[1:], [rows, axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    data = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    found = answers(repeat_frames(model, 2), data, "onnxruntime")["mean"]
    assert np.allclose(found, data.mean(axis=1), atol=1e-6)


def test_a_batch_is_measured_beside_the_same_frames_one_by_one(tiny_bundle: Bundle, tmp_path: Path) -> None:
    options = ["--precision", "fp32", "--backend", ",".join(RUNTIMES), "--threads", 1, "--rounds", 3]
    outcome = edge_mtl("benchmark", tiny_bundle.path, "--batch", FRAMES, *options, "--json", "--html", tmp_path / "card.html")
    assert outcome.code == 0, outcome
    content = outcome.records[-1]
    rows = {row["name"]: row for row in content["rows"]}
    assert len(rows) == 2 * (1 + len(RUNTIMES))
    known = planned((tiny_bundle,), TargetFilter(backends=tuple(RUNTIMES), precisions=("fp32",), batch=FRAMES))
    assert [(row["name"], row["batch"]) for row in known["rows"]] == [(name, FRAMES) for name in rows], "as was known before"
    for name, row in rows.items():
        assert row["batch"] == FRAMES
        assert row["frames_per_s"] == pytest.approx(FRAMES * 1e3 / row["p50_ms"])
        assert name.endswith(ALONE) or f"{name}{ALONE}" in rows
    page = (tmp_path / "card.html").read_text()
    assert f"inference of {FRAMES} frames at once" in page
    assert "frames/s" in page
    assert "whole frames" not in page


def test_energy_of_a_batch_is_that_of_each_of_its_frames(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    class Meter:
        """Counts a joule whenever it is read."""

        name, covers = "meter", "nothing"
        read = 0.0

        def joules(self) -> float:
            self.read += 1.0
            return self.read

    monkeypatch.setattr(targets, "measure", lambda *_, **__: None)
    monkeypatch.setattr(measures, "energy_sources", lambda **_: ((Meter(),), ()))
    monkeypatch.setattr(measures, "measure_energy", partial(measure_energy, block_s=0.0, idle_s=0.0))
    options = ["--precision", "fp32", "--backend", "onnxruntime", "--threads", 1, "--rounds", 3, "--json"]
    for batch in (1, FRAMES):
        outcome = edge_mtl("benchmark", tiny_bundle.path, "--batch", batch, *options)
        assert outcome.code == 0, outcome
        for row in outcome.records[-1]["rows"]:
            assert row["energy"][0]["joules"]["value"] == pytest.approx(1.0 / batch)


def test_a_camera_gives_one_frame_at_a_time(tiny_bundle: Bundle) -> None:
    assert_failed(edge_mtl("benchmark", tiny_bundle.path, "--batch", 2, "--rate", 30), 2, "--rate", "--batch 2")


def test_other_answers_at_once_are_not_measured(
    tiny_bundle: Bundle, frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Graph("deploy", "onnxruntime", "fp32", host_model())
    assert len(list(batch_line_up(tiny_bundle, frame, 2, 1, iter([graph])))) == 2
    other = repeat_frames(host_model(seed=1), 2)
    monkeypatch.setattr(batches, "repeat_frames", lambda model, frames, name: other)
    with pytest.raises(AccuracyError, match="answers otherwise when frames come at once"):
        list(batch_line_up(tiny_bundle, frame, 2, 1, iter([graph])))


def test_a_plan_is_refused_with_its_reason(tiny_bundle: Bundle, frame: np.ndarray) -> None:
    with pytest.raises(BackendUnavailable, match="built for one frame at a time"):
        list(batch_line_up(tiny_bundle, frame, 2, 1, iter([Graph("plan", "tensorrt", "fp16", b"")])))


def test_what_is_not_there_is_refused_before_anything_is_loaded(tiny_bundle: Bundle) -> None:
    for option, value in (("--backend", "abacus"), ("--precision", "int8")):
        outcome = edge_mtl("benchmark", tiny_bundle.path, option, value)
        assert outcome.code != 0
        assert value in outcome.err
        assert len(outcome.err.splitlines()) == 1
