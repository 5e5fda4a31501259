"""Sums of byte products: right on every processor, and as fast as they may be where nothing can go wrong."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edge_mtl.backends import compile_graph, open_backend
from edge_mtl.backends.int8_saturation import EXACT_WEIGHT, products_saturate, saturating_weights
from edge_mtl.backends.onnxruntime.backend import OnnxRuntimeBackend, session_options
from edge_mtl.backends.openvino.backend import OpenVinoBackend
from edge_mtl.backends.saturation_test import adds_exactly, hardest_layer
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.device import DISABLED_FEATURES, DeviceFingerprint, fingerprint
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BackendUnavailable, BundleError
from edge_mtl.evaluation.exact_arithmetic import excess, require_exact
from edge_mtl.evaluation.self_test import golden_agreement
from edge_mtl.quantization.quantize import CPU_MODEL, TENSORRT_MODEL, calibrate, insert_qdq, quantize
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe
from edge_mtl.quantization.statistics import open_session
from edge_mtl.quantization.weights import weight_bits
from edge_mtl.tasks import NYU_TASKS
from edge_mtl.tasks.depth import Depth
from edge_mtl.tasks.labels import Labels
from edge_mtl.tasks.normals import Normals
from tests.bundles import ROOMS_B0, host_model

CHANNELS = 32
ADDS_IN_32_BITS = "avx512_vnni avx_vnni amx_int8 asimddp i8mm"
OPTION = "session.x64quantprecision"
RECIPE = load_recipe()


@pytest.fixture
def without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLED_FEATURES, ADDS_IN_32_BITS)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def rounding_layer(weight: int) -> bytes:
    """`hardest_layer` with float weights that the graph itself rounds, as graphs for TensorRT have them."""
    model = onnx.load_from_string(hardest_layer(weight))
    for tensor in model.graph.initializer:
        if tensor.name == "weights":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), "float_weights"))
    names = ["float_weights", "weight_scales", "weight_zero_points"]
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", names, ["weights"], axis=0))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def typed_rounding_layer(weight: int) -> bytes:
    """`rounding_layer` whose QuantizeLinear says its type in an attribute, without a zero point (opset 21)."""
    model = onnx.load_from_string(rounding_layer(weight))
    (node,) = [node for node in model.graph.node if node.output[0] == "weights"]
    del node.input[2:]
    node.attribute.append(helper.make_attribute("output_dtype", onnx.TensorProto.INT8))
    model.opset_import[0].version = 21
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def constant_layer(weight: int) -> bytes:
    """`hardest_layer` with its weights in a Constant node."""
    model = onnx.load_from_string(hardest_layer(weight))
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == "weights"]
    model.graph.node.insert(0, helper.make_node("Constant", [], ["weights"], value=tensor))
    model.graph.initializer.remove(tensor)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def unsigned_weights(model: bytes | None = None) -> bool:
    """Whether a session of `model` is told to make signed weights unsigned."""
    try:
        return session_options(1, model).get_session_config_entry(OPTION) == "1"
    except RuntimeError:  # never set
        return False


def sums(weight: int) -> float:
    return float(255 * weight * CHANNELS)


BRIGHT = np.full((1, CHANNELS, 8, 8), 255, np.float32)


@pytest.mark.parametrize("make", [hardest_layer, rounding_layer, typed_rounding_layer, constant_layer])
@pytest.mark.parametrize("weight", [63, 127])
def test_onnxruntime_adds_byte_products_exactly_on_this_processor(weight: int, make: Callable[[int], bytes]) -> None:
    """On a processor without VNNI, 127 gives a quarter too little if the session is opened as any other."""
    model = make(weight)
    compiled = compile_graph("onnxruntime", model, precision="int8")
    for code in (None, compiled):
        with closing(open_backend("onnxruntime", model, threads=1, precision="int8", compiled=code)) as opened:
            assert opened.info.loading == ("the graph" if code is None else "compiled code")
            assert (opened.run({"x": BRIGHT})["y"] == sums(weight)).all()
    session = open_session(onnx.load_from_string(model), ["sums"], 1, why="testing")
    assert (session.run(["y"], {"x": BRIGHT})[0] == sums(weight)).all()


@pytest.mark.usefixtures("without_vnni")
def test_the_way_round_gives_the_same_sums_on_processors_that_do_not_need_it() -> None:
    for weight in (63, 127):
        with closing(open_backend("onnxruntime", hardest_layer(weight), threads=1, precision="int8")) as opened:
            assert (opened.run({"x": BRIGHT})["y"] == sums(weight)).all()


@pytest.mark.usefixtures("without_vnni")
def test_without_vnni_weights_are_made_unsigned_only_where_signed_ones_would_saturate() -> None:
    for weight, needed in ((63, False), (64, False), (65, True), (127, True), (-127, True)):
        assert unsigned_weights(hardest_layer(weight)) is needed
    assert unsigned_weights(rounding_layer(63))
    assert not unsigned_weights(host_model())
    assert not unsigned_weights()


@pytest.mark.usefixtures("without_vnni")
def test_without_vnni_openvino_is_not_given_weights_of_eight_bits() -> None:
    for make in (hardest_layer, constant_layer):
        with pytest.raises(BackendUnavailable, match=r"adds products of bytes in 16 bits on this processor.*of 7 bits"):
            open_backend("openvino", make(127), threads=1, precision="int8")
        with closing(open_backend("openvino", make(63), threads=1, precision="int8")) as opened:
            np.testing.assert_allclose(opened.run({"x": BRIGHT})["y"], sums(63), rtol=1e-6)


@pytest.mark.parametrize("feature", ["avx512_vnni", "avx_vnni", "amx_int8"])
def test_with_vnni_nothing_is_changed(monkeypatch: pytest.MonkeyPatch, feature: str) -> None:
    able = dataclasses.replace(fingerprint(), architecture="x86_64", isa=(feature,))
    monkeypatch.setattr("edge_mtl.backends.int8_saturation.fingerprint", lambda: able)
    assert not unsigned_weights(hardest_layer(127))


def test_the_probe_finds_out_what_the_features_of_the_processor_say() -> None:
    assert adds_exactly("onnxruntime")
    assert adds_exactly("onnxruntime", weight=63)
    assert adds_exactly("openvino", weight=63)
    if DISABLED_FEATURES not in os.environ:
        assert adds_exactly("openvino") is not products_saturate()


def test_which_processors_saturate() -> None:
    def saturates(architecture: str, *isa: str) -> bool:
        return products_saturate(dataclasses.replace(fingerprint(), architecture=architecture, isa=isa))

    assert saturates("x86_64", "avx2")
    assert saturates("x86_64", "avx2", "avx512f", "avx512bw")
    assert not saturates("x86_64", "avx2", "avx_vnni")
    assert not saturates("aarch64", "asimd")


@given(st.lists(st.integers(-127, 127), min_size=1, max_size=40))
def test_a_graph_may_saturate_if_a_weight_is_beyond_seven_bits(values: list[int]) -> None:
    model = onnx.load_from_string(hardest_layer(1))
    (weights,) = [tensor for tensor in model.graph.initializer if tensor.name == "weights"]
    weights.CopyFrom(numpy_helper.from_array(np.array(values, np.int8), "weights"))
    assert saturating_weights(model.SerializeToString()) is (max(map(abs, values)) > EXACT_WEIGHT)
    del weights.int32_data[:]
    weights.ClearField("raw_data")
    weights.int32_data.extend(values)
    assert saturating_weights(model.SerializeToString()), "stored in another way: taken to saturate"


@pytest.mark.parametrize("payload", [b"", b"\xff\xff", hardest_layer(127)[:-40]], ids=["nothing", "noise", "truncated"])
def test_what_is_no_graph_is_refused_in_our_words(payload: bytes) -> None:
    if payload:
        with pytest.raises(BundleError, match="cannot be read"):
            saturating_weights(payload)
    else:
        assert not saturating_weights(payload)


def test_bits_that_are_right_by_recipe_target_and_processor() -> None:
    def bits(mode: str, target: str, *isa: str) -> tuple[int, ...]:
        device = dataclasses.replace(fingerprint(), architecture="x86_64", isa=isa)
        return weight_bits(mode, target, device)  # type: ignore[arg-type]

    assert bits("auto", "onnxruntime", "avx2") == (8, 7)
    assert bits("auto", "openvino", "avx2") == (7,)
    assert bits("auto", "tensorrt", "avx2") == (8,)
    assert bits("auto", "openvino", "avx2", "avx_vnni") == bits("auto", "onnxruntime", "amx_int8") == (8,)
    assert bits("never", "openvino", "avx2") == (8,)
    assert bits("always", "onnxruntime", "amx_int8") == (7,)


def test_features_can_be_denied_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "cpuinfo").write_text("model name\t: Example\nflags\t\t: avx2 avx512_vnni amx_int8\n")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")

    def found() -> DeviceFingerprint:
        return fingerprint(root=tmp_path)

    monkeypatch.delenv(DISABLED_FEATURES, raising=False)
    before = found()
    assert before.has_vnni
    monkeypatch.setenv(DISABLED_FEATURES, "avx512_vnni, amx_int8")
    assert found().isa == ("avx2",)
    assert found().key != before.key, "engines built without them are of another machine"


class TestExactArithmetic:
    """The build's check of a runtime: the graph as it runs against what it says."""

    def test_a_sound_runtime_passes(self, tiny_bundle: Bundle) -> None:
        for bits in (7, 8):
            model = self.quantized(tiny_bundle, bits)
            with closing(open_backend("onnxruntime", model, threads=1, precision="int8")) as opened:
                require_exact(opened, model, tiny_bundle, threads=1)

    def test_a_runtime_that_computes_something_else_is_refused_with_what_to_do(self, tiny_bundle: Bundle) -> None:
        """In place of a saturating processor: a graph whose largest weights were cut at half their size."""
        model = self.quantized(tiny_bundle, 8)
        proto = onnx.load_from_string(model)
        for tensor in proto.graph.initializer:
            if tensor.name.endswith("_weight_integers"):
                cut = numpy_helper.to_array(tensor).clip(-64, 64)
                tensor.CopyFrom(numpy_helper.from_array(cut, tensor.name))
        with (
            closing(open_backend("onnxruntime", proto.SerializeToString(), threads=1, precision="int8")) as opened,
            pytest.raises(AccuracyError, match=r"as it is written: .* in exact arithmetic.*edge-mtl doctor"),
        ):
            require_exact(opened, model, tiny_bundle, threads=1)

    @pytest.mark.skipif(
        not products_saturate() or DISABLED_FEATURES in os.environ, reason="this processor adds byte products in 32 bits"
    )
    def test_openvino_with_weights_of_eight_bits_is_found_out_where_it_saturates(self, tiny_bundle: Bundle) -> None:
        model = self.quantized(tiny_bundle, 8, target="openvino")
        with (
            closing(OpenVinoBackend(model, threads=1, precision="int8")) as opened,
            pytest.raises(AccuracyError, match=r"openvino .* as it is written"),
        ):
            require_exact(opened, model, tiny_bundle, threads=1)

    def test_the_build_refuses_a_runtime_that_strays_from_it(
        self, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With less room than rounding needs every engine strays."""
        for kind in (Labels, Depth, Normals):
            monkeypatch.setattr(kind, "rounding", dict.fromkeys(kind.rounding, -1.0))
        own = Bundle.open(shutil.copytree(tiny_bundle.path, tmp_path / "own"))
        with pytest.raises(AccuracyError, match="does not compute this INT8 graph as it is written"):
            build_engine(own, precision="int8", backend="onnxruntime", threads=1, budget=None)
        assert not EngineStore(own).list()
        assert build_engine(own, precision="fp32", backend="onnxruntime", threads=1).chosen.stored

    def test_every_head_counts_by_itself(self) -> None:
        names = ("argmax_agreement", "depth_relative_difference", "normal_angle_deg")
        meant = dict(zip(names, (0.95, 0.02, 1.0), strict=True))
        assert not excess(NYU_TASKS, dict(zip(names, (0.946, 0.024, 1.4), strict=True)), meant)
        for worse in ({"argmax_agreement": 0.94}, {"depth_relative_difference": 0.03}, {"normal_angle_deg": 1.6}):
            assert len(excess(NYU_TASKS, meant | worse, meant)) == 1
        assert excess(NYU_TASKS, meant | {"argmax_agreement": float("nan")}, meant)
        assert not excess(NYU_TASKS, {}, meant)

    @staticmethod
    def quantized(bundle: Bundle, bits: int, target: str = "onnxruntime") -> bytes:
        frames = load_calibration(bundle, count=6, unreadable_share=0.0).frames
        deploy = bundle.read(OPTIMIZED_ONNX)
        return insert_qdq(deploy, calibrate(deploy, frames, recipe=RECIPE, threads=1), recipe=RECIPE, target=target, bits=bits)  # type: ignore[arg-type]


def test_the_graphs_that_a_bundle_brings_are_judged_as_their_exact_arithmetic_would_be() -> None:
    """8-bit weights of rooms-b0; without the way round, on a processor without VNNI, two points and two degrees."""
    bundle = Bundle.open(ROOMS_B0)
    frames = load_calibration(bundle, count=6, unreadable_share=0.0).frames
    plan = dataclasses.replace(load_recipe(TENSORRT_INT8), targets=("tensorrt",))
    cpu = dataclasses.replace(RECIPE, targets=("onnxruntime",))
    models = quantize(bundle.read(OPTIMIZED_ONNX), frames, recipes={TENSORRT_MODEL: plan, CPU_MODEL: cpu}, threads=2)
    for name, model in models.items():
        with closing(OnnxRuntimeBackend(model, threads=2, precision="int8", optimize=False)) as exact:
            meant = golden_agreement(exact, bundle)
        with closing(open_backend("onnxruntime", model, threads=2, precision="int8")) as opened:
            found = golden_agreement(opened, bundle)
        assert not excess(NYU_TASKS, found, meant), name
        same, depth, angle = (found[name] for name in ("argmax_agreement", "depth_relative_difference", "normal_angle_deg"))
        assert same > 0.97
        assert depth < 0.03
        assert angle < 2.0
