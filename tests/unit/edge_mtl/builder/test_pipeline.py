"""Whole builds on a tiny bundle: what is tried, tested, chosen, stored and reported."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge_mtl.backends import Availability
from edge_mtl.bench import latency
from edge_mtl.bench.latency import LatencyReport, LatencyRow
from edge_mtl.bench.sensors.state import MachineState
from edge_mtl.builder import candidate_builds, pipeline
from edge_mtl.builder.build_records import warnings_of
from edge_mtl.builder.candidates import Candidate, candidates, with_weight_bits
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.device import DeviceFingerprint, fingerprint
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError, BundleError, CalibrationError
from edge_mtl.evaluation.budget import Budget
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.onnx_graph.model import facts
from edge_mtl.tasks.labels import Labels
from edge_mtl.weights.store import PARTS
from tests.bundles import make_image, write_image

HERE = {
    "onnxruntime": Availability(True, "1.0", "onnxruntime 1.0 is installed", "cpu"),
    "openvino": Availability(True, "2.0", "openvino 2.0 is installed", "openvino"),
}
NOT_HERE = {**HERE, "openvino": Availability(False, "", "openvino is not installed.", "openvino")}


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_ROUNDS", 3)


@pytest.fixture
def own_bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the session's bundle: much faster than making one."""
    return Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))


def device(*isa: str) -> DeviceFingerprint:
    return dataclasses.replace(fingerprint(), architecture="x86_64", isa=isa)


def test_an_int8_build_tries_every_runtime_and_stores_what_passed(own_bundle: Bundle) -> None:
    steps: list[str] = []
    report = build_engine(
        own_bundle, precision="int8", threads=1, budget=None, progress=lambda step, done, total: steps.append(step)
    )
    baseline, *rows = report.rows
    assert baseline.baseline
    assert baseline.precision == "fp32"
    assert baseline.ratio == 1.0
    assert baseline.accuracy["miou"] > 0.99
    assert baseline.agreement["argmax_agreement"] == 1.0
    assert {row.backend for row in rows} >= {"onnxruntime", "openvino"}
    assert all(row.precision.startswith("int8") for row in rows)
    assert [row.chosen for row in rows].count(True) == 1
    assert report.chosen.ratio == max(row.ratio for row in rows if row.ratio is not None)
    for row in rows:
        assert row.latency_ms is not None
        assert row.agreement["argmax_agreement"] > 0.8
        assert row.agreement["depth_relative_difference"] < 0.05
        assert row.accuracy["normal_mean_deg"] < 8
        assert row.self_test["passed"] is True
    assert "integer" in report.graph
    assert report.calibration["count"] == 6
    assert not any("left out" in warning for warning in report.warnings)
    assert not report.reused
    assert list(dict.fromkeys(steps)) == ["calibrate", "quantize", "self-test", "time", "evaluate", "store"]
    json.dumps(report.to_dict(), allow_nan=False)

    store = EngineStore(own_bundle)
    kinds = {(row.backend, row.precision) for row in rows}  # of one kind with weights of 7 and of 8 bits the faster is kept
    assert {(record.backend, record.precision) for record in store.list()} == kinds
    assert len(store.list()) == len(kinds) == [row.stored for row in rows].count(True)
    assert store.best() == report.record
    assert report.path.read_bytes() == store.load(report.record)
    assert facts(store.load(report.record)).integer_layers == 4
    assert report.record.accuracy["fp32"]["miou"] > 0.99
    own_bundle.verify()


@pytest.mark.parametrize(("stolen", "told"), [(50, False), (200, True)])
def test_a_choice_made_while_others_took_the_machine_is_said_to_be_unshown(
    own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, stolen: int, told: bool
) -> None:
    looks = iter((MachineState(cpu_ticks=0, stolen_ticks=0), MachineState(cpu_ticks=1000, stolen_ticks=stolen)))
    monkeypatch.setattr(latency, "read_state", lambda: next(looks))
    report = build_engine(own_bundle, precision="fp32", backend="onnxruntime", threads=1)
    assert any("not shown to be the fastest" in warning and "gave 20%" in warning for warning in report.warnings) is told


@pytest.mark.parametrize(("low", "high", "told"), [(0.91, 0.97, True), (0.95, 1.02, False), (1.6, 1.7, False)])
def test_integers_that_are_slower_than_full_precision_are_said_to_be(low: float, high: float, told: bool) -> None:
    ratio = (low + high) / 2
    rows = (
        LatencyRow("fp32", 10.0, 10.0, 10.0, 10.0, 1.0, 1.0, 1.0, (1.0, 1.0), 9),
        LatencyRow("int8", 10.0 / ratio, 10.0, 10.0, 10.0, ratio, low, high, (low, high), 9),
    )
    winner: Any = SimpleNamespace(candidate=SimpleNamespace(name="int8"), quantized=True, verdict=None, failure=None)
    found = warnings_of(None, winner, [winner], LatencyReport("fp32", rows))
    assert any("int8 takes 1.06 times as long as plain FP32" in text for text in found) is told


def test_a_full_precision_build_keeps_the_graph_as_it_is(own_bundle: Bundle) -> None:
    report = build_engine(own_bundle, precision="fp32", backend="onnxruntime", threads=1)
    assert report.record.precision == "fp32"
    assert EngineStore(own_bundle).load(report.record) == own_bundle.read(OPTIMIZED_ONNX)
    assert report.chosen.agreement["argmax_agreement"] > 0.999
    assert report.calibration == {}


def test_calibration_images_of_the_users_are_used_and_unreadable_ones_named(own_bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(30):
        write_image(folder / f"{index:02d}.png", make_image(index, height=80, width=100))
    (folder / "30.png").write_bytes(b"no image")
    report = build_engine(own_bundle, precision="int8", backend="onnxruntime", calibration=folder, threads=1, budget=None)
    assert report.calibration["count"] == 30
    assert report.calibration["source"] == "pictures"
    assert "30.png" in report.warnings[0]
    assert report.record.options["calibration"] == report.calibration["digest"]


def test_a_budget_of_no_task_is_refused_before_anything_is_built(own_bundle: Bundle) -> None:
    steps: list[str] = []
    with pytest.raises(AccuracyError, match=r"no budget lane\.miou; this bundle has"):
        build_engine(own_bundle, budget=Budget({"lane.miou": 0.01}), progress=lambda step, done, total: steps.append(step))
    assert not steps


def test_without_usable_frames_nothing_is_built(own_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError):
        build_engine(own_bundle, precision="int8", calibration=tmp_path / "nowhere")
    assert EngineStore(own_bundle).list() == ()


def test_an_engine_that_misses_its_tolerance_is_not_stored(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Labels, "tolerances", {"int8": {"argmax_agreement": 0.9999}})
    with pytest.raises(AccuracyError, match="disagrees with the FP32 reference"):
        build_engine(own_bundle, precision="int8", backend="onnxruntime", threads=1)
    assert EngineStore(own_bundle).list() == ()


def test_one_candidate_that_fails_does_not_stop_the_others(own_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = candidate_builds.open_backend

    def broken(name: str, *arguments: object, **options: object) -> object:
        if name == "openvino":
            raise BundleError("the runtime does not like this graph")
        return opened(name, *arguments, **options)

    monkeypatch.setattr(candidate_builds, "open_backend", broken)
    report = build_engine(own_bundle, precision="int8", threads=1, budget=None)
    assert report.record.backend == "onnxruntime"
    failed = [row for row in report.rows if row.backend == "openvino"]
    assert failed
    assert all(row.latency_ms is None and not row.stored and "does not like" in row.reason for row in failed)
    assert any("was left out" in warning for warning in report.warnings)
    with pytest.raises(BuildError, match="does not like this graph"):
        build_engine(own_bundle, precision="int8", backend="openvino", threads=1)


def test_a_bundle_without_a_deploy_graph_is_refused(own_bundle: Bundle) -> None:
    assembled = {name: entry for name, entry in own_bundle.manifest.assembled.items() if name != OPTIMIZED_ONNX}
    manifest = dataclasses.replace(own_bundle.manifest, assembled=assembled)
    (own_bundle.path / "manifest.json").write_bytes(manifest.to_json())
    with pytest.raises(BundleError, match=r"has no model\.deploy\.onnx"):
        build_engine(Bundle.open(own_bundle.path), precision="fp32", backend="onnxruntime")


def test_an_altered_graph_is_refused(own_bundle: Bundle) -> None:
    path = own_bundle.path / (OPTIMIZED_ONNX + PARTS)
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    with pytest.raises(BundleError, match="was altered"):
        build_engine(own_bundle, precision="fp32", backend="onnxruntime")


def test_labelled_frames_come_with_their_camera_and_targets(tiny_bundle: Bundle) -> None:
    items = list(evaluation_frames(tiny_bundle))
    assert len(items) == 4
    assert items[0].frame.shape == (64, 96, 3)
    assert items[0].intrinsics is not None
    assert set(items[0].targets) == {"segmentation", "depth", "normals"}
    normals = items[0].targets["normals"]
    assert np.abs(np.linalg.norm(normals, axis=2) - 1).max() < 0.02
    assert normals[..., 2].mean() < 0, "they face the camera"


class TestCandidates:
    """What is worth building where."""

    def test_int8_tries_integers_with_and_without_bfloat16(self) -> None:
        found = candidates("int8", backend="auto", available=HERE, device=device("avx512_vnni", "avx512_bf16"))
        assert [item.name for item in found] == ["int8 on onnxruntime", "int8 on openvino", "int8+bf16 on openvino"]
        without = candidates("int8", backend="auto", available=HERE, device=device("avx_vnni"))
        assert [item.name for item in without] == ["int8 on onnxruntime", "int8 on openvino"]
        alone = candidates("int8", backend="onnxruntime", available=HERE, device=device("amx_int8"))
        assert alone == (Candidate("onnxruntime", "int8"),)

    def test_without_vnni_seven_bits_are_tried_beside_eight_where_a_runtime_is_right_with_both(self) -> None:
        found = candidates("int8", backend="auto", available=HERE, device=device("avx2", "avx512f"))
        assert [(item.backend, item.weight_bits) for item in found] == [("onnxruntime", 8), ("onnxruntime", 7), ("openvino", 7)]
        assert [item.name for item in found][1:] == ["int8 on onnxruntime, 7-bit weights", "int8 on openvino, 7-bit weights"]
        for mode, bits in (("always", 7), ("never", 8)):
            assert {item.weight_bits for item in with_weight_bits(found, mode, device("avx2"))} == {bits}
            assert {item.weight_bits for item in with_weight_bits(found, mode, device("avx_vnni"))} == {bits}
        assert with_weight_bits(found, "auto", device("avx2")) == found

    def test_gpus_and_floats_have_no_bits_to_choose(self) -> None:
        tried = (Candidate("tensorrt", "int8+fp16"), Candidate("onnxruntime", "fp32"))
        assert with_weight_bits(tried, "auto", device("avx2")) == tried

    def test_half_precisions_need_openvino_and_a_processor(self) -> None:
        assert candidates("bf16", backend="auto", available=HERE, device=device("amx_bf16")) == (Candidate("openvino", "bf16"),)
        assert candidates("fp16", backend="auto", available=HERE, device=device("asimdhp")) == (Candidate("openvino", "fp16"),)
        for precision in ("bf16", "fp16"):
            with pytest.raises(BuildError, match=rf"does not compute in {precision} .*--int8"):
                candidates(precision, backend="auto", available=HERE, device=device("avx2"))
        with pytest.raises(BuildError, match=r"ONNX Runtime does not compute in bf16.*--bf16 --backend openvino"):
            candidates("bf16", backend="onnxruntime", available=HERE, device=device("amx_bf16"))
        with pytest.raises(BackendUnavailable, match=r"OpenVINO does.*openvino is not installed"):
            candidates("bf16", backend="auto", available=NOT_HERE, device=device("amx_bf16"))

    def test_what_is_not_there_is_never_replaced(self) -> None:
        with pytest.raises(BackendUnavailable, match="openvino is not installed"):
            candidates("int8", backend="openvino", available=NOT_HERE, device=device())
        with pytest.raises(BackendUnavailable, match="Unknown backend 'tpu'"):
            candidates("int8", backend="tpu", available=HERE, device=device())
        with pytest.raises(BuildError, match="Unknown precision 'int4'"):
            candidates("int4", backend="auto", available=HERE, device=device())
        nothing = {name: Availability(False, "", f"{name} is not installed.", "x") for name in HERE}
        with pytest.raises(BackendUnavailable, match="No runtime is installed"):
            candidates("int8", backend="auto", available=nothing, device=device())
