"""Quantizing small real graphs, and running them."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_mtl import packages
from edge_mtl.backends import open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.errors import BackendUnavailable, BuildError, CalibrationError
from edge_mtl.onnx_graph.model import GraphIndex, facts, parse
from edge_mtl.quantization.placement import place
from edge_mtl.quantization.quantize import Calibrated, calibrate, insert_qdq, quantize_for_cpu
from edge_mtl.quantization.recipes import Recipe, load_recipe
from tests.bundles import host_model, make_image, reference, write_image
from tests.small_graphs import graph_of

FRAMES = [make_image(seed) for seed in range(6)]
RECIPE = load_recipe()
TARGETS = RECIPE.targets


def changed(recipe: Recipe = RECIPE, **placement: object) -> Recipe:
    return dataclasses.replace(recipe, placement=dataclasses.replace(recipe.placement, **placement))


def run(model: bytes, frame: np.ndarray, *, backend: str = "onnxruntime") -> Mapping[str, np.ndarray]:
    planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
    opened = open_backend(backend, model, threads=1, precision="int8")
    try:
        return opened.run({"image": planes})
    finally:
        opened.close()


def signal_to_noise_db(found: np.ndarray, expected: np.ndarray) -> float:
    noise = np.square(found.astype(np.float64) - expected).sum()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / max(noise, 1e-30)))


def transformer_like() -> bytes:
    """The patterns of the real networks: GELU between convolutions, a 1x1 convolution to tokens, Gemm, merge, upsampling."""
    random = np.random.default_rng(3)
    weights = {
        "stem.w": random.normal(0, 1 / 255, (8, 3, 4, 4)) * 0.3,
        "expand.w": random.normal(0, 0.5, (16, 8, 1, 1)),
        "expand.b": random.normal(0, 0.1, 16),
        "depthwise.w": random.normal(0, 0.5, (16, 1, 3, 3)),
        "depthwise.b": random.normal(0, 0.1, 16),
        "shrink.w": random.normal(0, 0.3, (8, 16, 1, 1)),
        "shrink.b": random.normal(0, 0.1, 8),
        "linear.w": random.normal(0, 0.4, (8, 8)),
        "linear.b": random.normal(0, 0.1, 8),
        "coarse.w": random.normal(0, 0.4, (8, 8, 1, 1)),
        "fine.w": random.normal(0, 0.4, (8, 8, 1, 1)),
        "out.w": random.normal(0, 0.4, (3, 8, 1, 1)),
    }
    constants = {name: value.astype(np.float32) for name, value in weights.items()} | {
        "tokens": np.array([-1, 8], np.int64),
        "map": np.array([1, 16, 24, 8], np.int64),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "stem.w"], ["stem"], strides=[4, 4], kernel_shape=[4, 4]),
        node("Conv", ["stem", "expand.w", "expand.b"], ["expanded"], name="/mlp/expand"),
        node("Conv", ["expanded", "depthwise.w", "depthwise.b"], ["spread"], group=16, pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("Gelu", ["spread"], ["gelu"]),
        node("Conv", ["gelu", "shrink.w", "shrink.b"], ["shrunk"]),
        node("Transpose", ["shrunk"], ["shrunk_last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["shrunk_last", "tokens"], ["shrunk_tokens"]),
        node("Gemm", ["shrunk_tokens", "linear.w", "linear.b"], ["linear"], transB=1),
        node("Add", ["shrunk_tokens", "linear"], ["sum"]),
        node("Reshape", ["sum", "map"], ["sum_map"]),
        node("Transpose", ["sum_map"], ["features"], perm=[0, 3, 1, 2]),
        node("MaxPool", ["features"], ["pooled"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["pooled", "coarse.w"], ["coarse"]),
        node("Resize", ["coarse", "", "scales"], ["up"], mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor"),
        node("Conv", ["features", "fine.w"], ["fine"]),
        node("Add", ["fine", "up"], ["merged_raw"]),
        node("Relu", ["merged_raw"], ["merged"]),
        node("Conv", ["merged", "out.w"], ["normals_quarter"]),
    ]  # fmt: skip
    return graph_of(nodes, constants, name="patterns")


@pytest.mark.parametrize("target", TARGETS)
def test_integers_give_nearly_what_floats_give(target: str) -> None:
    model = host_model()
    quantized = quantize_for_cpu(model, FRAMES, recipe=RECIPE, target=target)
    expected = reference(model, make_image(50))
    for backend in TARGETS:
        found = run(quantized, make_image(50), backend=backend)
        assert found.keys() == expected.keys()
        for name in expected:
            assert signal_to_noise_db(found[name], expected[name]) > 18, (backend, name)


@pytest.mark.parametrize("target", TARGETS)
def test_every_layer_but_the_last_of_each_head_runs_on_integers(target: str) -> None:
    found = facts(quantize_for_cpu(host_model(), FRAMES, recipe=RECIPE, target=target))
    assert (found.integer_layers, found.float_layers) == (4, 3)
    assert found.quantize_nodes > 0
    everything = facts(quantize_for_cpu(host_model(), FRAMES, recipe=changed(float_tail={}), target=target))
    assert (everything.integer_layers, everything.float_layers) == (7, 0)


def test_the_image_is_quantized_without_loss() -> None:
    model = onnx.load_from_string(quantize_for_cpu(host_model(), FRAMES, recipe=RECIPE))
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "image")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert values[first.input[1]] == 1.0
    assert values[first.input[2]] == 0
    assert values[first.input[2]].dtype == np.uint8


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse", "entropy"])
def test_every_method_gives_a_working_graph(method: str) -> None:
    recipe = dataclasses.replace(RECIPE, activations=dataclasses.replace(RECIPE.activations, method=method))
    model = host_model()
    expected, found = reference(model, make_image(50)), run(quantize_for_cpu(model, FRAMES, recipe=recipe), make_image(50))
    assert signal_to_noise_db(found["depth_quarter"], expected["depth_quarter"]) > 20


@pytest.mark.parametrize("target", TARGETS)
def test_the_patterns_of_real_networks_survive(target: str) -> None:
    model = transformer_like()
    quantized = quantize_for_cpu(model, FRAMES, recipe=RECIPE, target=target)
    expected = reference(model, make_image(50))["normals_quarter"]
    for backend in ("onnxruntime",) if target == "onnxruntime" else TARGETS:
        found = run(quantized, make_image(50), backend=backend)["normals_quarter"]
        assert signal_to_noise_db(found, expected) > 22, backend


def test_for_onnx_runtime_gelu_and_upsampling_become_integer_operators() -> None:
    operators = facts(quantize_for_cpu(transformer_like(), FRAMES, recipe=RECIPE)).operators
    assert operators["QLinearSigmoid"] == operators["QLinearMul"] == 1
    assert "Gelu" not in operators
    assert "Resize" not in operators
    assert operators["Gather"] == 2
    assert operators["Gemm"] == 2, "the 1x1 convolution to tokens is a Gemm"
    plain = facts(quantize_for_cpu(transformer_like(), FRAMES, recipe=RECIPE, target="openvino")).operators
    assert plain["Gelu"] == plain["Resize"] == plain["Gemm"] == 1
    assert "QLinearMul" not in plain


def test_what_gelu_on_bytes_adds_to_the_mean_of_its_result_is_taken_out_of_the_next_bias() -> None:
    model = transformer_like()
    calibrated = calibrate(model, FRAMES, recipe=RECIPE)
    (drift,) = calibrated.drifts.values()
    assert drift.shape == (16,)
    assert 1e-4 < np.abs(drift).max() < 0.02, "GELU and its stand-in differ by at most that"
    without = dataclasses.replace(calibrated, drifts={})
    expected = np.concatenate([reference(model, frame)["normals_quarter"] for frame in FRAMES])

    def error_of_the_mean(ranges: Calibrated) -> float:
        graph = insert_qdq(model, ranges, recipe=RECIPE, target="onnxruntime", bits=8)
        found = np.concatenate([run(graph, frame)["normals_quarter"] for frame in FRAMES])
        return float(np.abs((found - expected).mean(axis=(0, 2, 3))).mean())

    assert error_of_the_mean(calibrated) < 0.8 * error_of_the_mean(without)
    in_floats = [insert_qdq(model, ranges, recipe=RECIPE, target="openvino", bits=8) for ranges in (calibrated, without)]
    assert in_floats[0] == in_floats[1], "where GELU is computed in floating point nothing is taken out"
    floats = changed(element_wise=("Add", "Relu", "Resize"))
    kept = [insert_qdq(model, ranges, recipe=floats, target="onnxruntime", bits=8) for ranges in (calibrated, without)]
    assert kept[0] == kept[1]


def test_element_wise_operators_stay_float_when_the_recipe_says_so() -> None:
    operators = facts(quantize_for_cpu(transformer_like(), FRAMES, recipe=changed(element_wise=()))).operators
    assert operators["Gelu"] == operators["Resize"] == operators["Relu"] == 1
    assert "QLinearSigmoid" not in operators


def test_nearest_upsampling_of_bytes_is_exact() -> None:
    model, exact = transformer_like(), changed(element_wise=("Add", "Relu", "Resize"))
    ranges = calibrate(model, FRAMES, recipe=exact)
    with_gather = insert_qdq(model, ranges, recipe=exact, target="onnxruntime")
    proto = parse(model, name="model")
    for value in list(proto.graph.value_info):
        if value.name in ("coarse", "up"):
            value.type.tensor_type.shape.dim[2].dim_param = "unknown"
    index = GraphIndex(proto)
    assert "up" in place(index, exact, target="onnxruntime").shared
    resized = [node.op_type for node in onnx.load_from_string(with_gather).graph.node]
    assert "Resize" not in resized
    expected = run(insert_qdq(model, ranges, recipe=changed(element_wise=("Add", "Relu")), target="onnxruntime"), make_image(9))
    found = run(with_gather, make_image(9))
    assert signal_to_noise_db(found["normals_quarter"], expected["normals_quarter"]) > 30


def test_seven_bit_weights_where_bytes_would_saturate() -> None:
    model = host_model()
    ranges = calibrate(model, FRAMES, recipe=RECIPE)
    for bits, levels in ((7, 63), (8, 127)):
        proto = onnx.load_from_string(insert_qdq(model, ranges, recipe=RECIPE, target="onnxruntime", bits=bits))
        weights = [numpy_helper.to_array(t) for t in proto.graph.initializer if t.name.endswith("_weight_integers")]
        assert weights
        assert max(int(np.abs(w.astype(int)).max()) for w in weights) == levels


def test_layers_can_be_excluded_by_name() -> None:
    found = facts(quantize_for_cpu(host_model(), FRAMES, recipe=changed(exclude=("/depthwise", "/stem"))))
    assert found.integer_layers == 2
    with pytest.raises(BuildError, match="leaves no layer to quantize"):
        quantize_for_cpu(host_model(), FRAMES, recipe=changed(exclude=(".*",)))


def test_a_range_that_is_missing_is_named() -> None:
    with pytest.raises(BuildError, match="no range for activation"):
        insert_qdq(host_model(), Calibrated({}, {}, {}), recipe=RECIPE, target="onnxruntime")


def test_no_frames_are_an_error() -> None:
    with pytest.raises(CalibrationError, match="no calibration frames"):
        quantize_for_cpu(host_model(), [], recipe=RECIPE)


def test_activations_that_never_change_are_an_error() -> None:
    proto = onnx.load_from_string(host_model())
    for tensor in proto.graph.initializer:
        if tensor.name == "stem.weight":
            tensor.CopyFrom(numpy_helper.from_array(np.zeros((8, 3, 3, 3), np.float32), "stem.weight"))
        if tensor.name == "stem.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, -1, np.float32), "stem.bias"))
    with pytest.raises(CalibrationError, match="a range cannot be learnt"):
        quantize_for_cpu(proto.SerializeToString(), FRAMES, recipe=RECIPE)


def test_activations_that_are_not_finite_are_an_error() -> None:
    proto = onnx.load_from_string(host_model())
    for tensor in proto.graph.initializer:
        if tensor.name == "stem.bias":
            tensor.CopyFrom(numpy_helper.from_array(np.full(8, np.inf, np.float32), "stem.bias"))
    with pytest.raises(CalibrationError, match="not finite"):
        quantize_for_cpu(proto.SerializeToString(), FRAMES, recipe=RECIPE)


@pytest.mark.parametrize("model", [b"", b"not onnx", b"\x08\x0a" * 50])
def test_what_is_no_model_is_refused(model: bytes) -> None:
    with pytest.raises(BuildError):
        quantize_for_cpu(model, FRAMES, recipe=RECIPE)


def test_control_flow_and_outside_weights_are_refused() -> None:
    proto = onnx.load_from_string(host_model())
    proto.graph.initializer[0].data_location = TensorProto.EXTERNAL
    with pytest.raises(BuildError, match="weights in other files"):
        parse(proto.SerializeToString(), name="model")
    proto = onnx.load_from_string(host_model())
    proto.graph.node.append(helper.make_node("Loop", ["image"], ["x"]))
    with pytest.raises(BuildError, match="control flow"):
        parse(proto.SerializeToString(), name="model")


def test_without_the_package_onnx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    model = host_model()
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr(packages, "_installed_by", lambda module: [])
    with pytest.raises(BackendUnavailable, match=r"edge-mtl\[build\]"):
        quantize_for_cpu(model, FRAMES, recipe=RECIPE)


def test_progress_counts_frames() -> None:
    seen: list[tuple[str, int, int]] = []
    calibrate(host_model(), FRAMES[:2], recipe=RECIPE, progress=lambda *step: seen.append(step))
    assert seen == [("calibrate", number, 4) for number in (1, 2, 3, 4)], "both passes over two frames"


def test_a_histogram_that_grows_counts_as_one_that_was_large_from_the_start() -> None:
    from edge_mtl.quantization.statistics import Histogram

    random = np.random.default_rng(0)
    values = [random.normal(0, spread, 5000).astype(np.float32) for spread in (0.01, 1.0, 0.1, 30.0)]
    growing, large = Histogram(2048), Histogram(2048)
    for value in values:
        growing.add(value)
    large.add(np.concatenate(values))
    for found, expected in zip(growing.occupied(), large.occupied(), strict=True):
        np.testing.assert_allclose(found, expected)
    assert growing.occupied()[0].sum() == 20_000
    assert (growing.low, growing.high) == (min(v.min() for v in values), max(v.max() for v in values))


@pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
def test_many_exact_zeros_do_not_cut_a_range(method: str) -> None:
    from edge_mtl.quantization.ranges import choose_range
    from edge_mtl.quantization.statistics import Histogram

    random = np.random.default_rng(0)
    positive = np.abs(random.normal(0, 1, 20_000)).astype(np.float32)
    histogram = Histogram(2048)
    histogram.add(np.concatenate([positive, np.zeros(180_000, np.float32)]))
    found = choose_range("relu", histogram, dataclasses.replace(RECIPE.activations, method=method))
    assert found.low == 0.0
    assert found.high > 2.5, "nine of ten values are zero; the others still have a tail worth keeping"


class TestCalibrationFrames:
    """Frames from the bundle or a folder."""

    def test_the_bundles_own_frames_are_used_when_nothing_is_named(self, tiny_bundle: Bundle) -> None:
        found = load_calibration(tiny_bundle, count=4, unreadable_share=0.0)
        assert len(found.frames) == 4
        assert found.source == "bundle"
        assert found.frames[0].shape == (64, 96, 3)
        assert found.digest == load_calibration(tiny_bundle, count=4, unreadable_share=0.0).digest

    def test_images_of_any_size_are_letterboxed(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        write_image(tmp_path / "deep" / "tall.jpg", make_image(1)) if (tmp_path / "deep").mkdir() else None
        write_image(tmp_path / "deep" / "tall.jpg", make_image(1, height=200, width=100))
        found = load_calibration(tiny_bundle, tmp_path, count=9, unreadable_share=0.0)
        assert found.source == tmp_path.name
        assert found.frames[0].shape == (64, 96, 3)
        assert not found.frames[0][:, :20].any(), "the bars are black"

    def test_an_empty_folder_is_an_error(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("no image")
        with pytest.raises(CalibrationError, match=r"holds no images.*--calibration"):
            load_calibration(tiny_bundle, tmp_path, count=9, unreadable_share=0.0)
        with pytest.raises(CalibrationError, match="is not a folder"):
            load_calibration(tiny_bundle, tmp_path / "nowhere", count=9, unreadable_share=0.0)

    def test_unreadable_images_are_named_and_left_out_up_to_a_share(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        for index in range(4):
            write_image(tmp_path / f"{index}.png", make_image(index))
        (tmp_path / "broken.png").write_bytes(b"\x89PNG but no more")
        (tmp_path / "empty.jpg").touch()
        found = load_calibration(tiny_bundle, tmp_path, count=9, unreadable_share=0.5)
        assert len(found.frames) == 4
        assert {Path(name).name for name in found.skipped} == {"broken.png", "empty.jpg"}
        with pytest.raises(CalibrationError, match=r"2 of 6 .*broken\.png.*At most 5%"):
            load_calibration(tiny_bundle, tmp_path, count=9, unreadable_share=0.05)

    def test_images_of_one_colour_are_an_error(self, tiny_bundle: Bundle, tmp_path: Path) -> None:
        write_image(tmp_path / "black.png", np.zeros((64, 96, 3), np.uint8))
        with pytest.raises(CalibrationError, match="single colour"):
            load_calibration(tiny_bundle, tmp_path, count=9, unreadable_share=0.0)

    def test_a_bundle_without_frames_says_so(self, tmp_path: Path) -> None:
        from tests.bundles import make_bundle

        bundle = make_bundle(tmp_path / "b", calibration=0)
        with pytest.raises(CalibrationError, match="has no calibration frames"):
            load_calibration(bundle, count=9, unreadable_share=0.0)

    def test_the_deploy_graph_of_the_bundle_can_be_quantized(self, tiny_bundle: Bundle) -> None:
        frames = load_calibration(tiny_bundle, count=4, unreadable_share=0.0).frames
        assert facts(quantize_for_cpu(tiny_bundle.read(OPTIMIZED_ONNX), frames, recipe=RECIPE)).integer_layers == 4
