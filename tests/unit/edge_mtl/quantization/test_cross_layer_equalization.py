"""CrossLayerEqualization keeps the function and narrows the spread; bias correction takes the mean error out; bytes repeat."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.bias import corrected_bias, mean_output
from edge_mtl.quantization.cross_layer_equalization import apply_scales, choose_scales, junctions
from edge_mtl.quantization.quantize import calibrate, choose_ranges, insert_qdq, observe_activations, quantize
from edge_mtl.quantization.recipes import CPU_INT8, TENSORRT_INT8, load_recipe
from edge_mtl.quantization.statistics import observe
from edge_mtl.quantization.weights import LayerArrays, quantize_layer
from tests.bundles import host_model, make_image, reference
from tests.transformers import transformer_block

FRAMES = [make_image(seed) for seed in range(4)]


def reach(model: bytes) -> dict[str, np.ndarray]:
    proto = parse(model, name="model")
    places = {junction.tensor: junction.axis for junction in junctions(GraphIndex(proto))}
    seen = observe(proto, places, FRAMES, bins=256, threads=1)
    return {name: item.reach for name, item in seen.items() if item.reach is not None}


def equalized(model: bytes, *, strength: float = 0.5) -> bytes:
    proto = parse(model, name="model")
    index = GraphIndex(proto)
    apply_scales(proto, index, choose_scales(index, reach(model), strength=strength))
    return bytes(proto.SerializeToString())


def output(model: bytes, seed: int = 50) -> np.ndarray:
    return reference(model, make_image(seed))["normals_quarter"]


def with_recipe(*, equalise: bool = False, correct: bool = False, method: str = "minmax", path: Path = TENSORRT_INT8) -> object:
    recipe = load_recipe(path)
    return dataclasses.replace(
        recipe,
        activations=dataclasses.replace(recipe.activations, method=method),
        equalisation=dataclasses.replace(recipe.equalisation, enabled=equalise),
        weights=dataclasses.replace(recipe.weights, bias_correction=correct),
    )


class TestEqualisation:
    """Scales move between layers; the network stays the same function."""

    def test_scales_move_behind_layernorm_before_depthwise_and_across_relu(self) -> None:
        found = {j.tensor: len(j.readers) for j in junctions(GraphIndex(parse(transformer_block(), name="m")))}
        assert found == {"normed": 3, "normed2": 1, "expanded": 1, "refined_raw": 1}

    @pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
    def test_the_function_stays_the_same(self, strength: float) -> None:
        model = transformer_block()
        np.testing.assert_allclose(output(equalized(model, strength=strength)), output(model), rtol=1e-4, atol=1e-5)

    def test_channels_before_a_depthwise_convolution_reach_equally_far_afterwards(self) -> None:
        model = transformer_block()
        before, after = reach(model)["expanded"], reach(equalized(model))["expanded"]
        assert before.max() / before.min() > 3
        assert after.max() / after.min() < 1.01

    def test_a_wrong_scale_would_be_noticed(self) -> None:
        model = parse(transformer_block(), name="m")
        for tensor in model.graph.initializer:
            if tensor.name.endswith("expand.weight"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.5), tensor.name))
        assert np.abs(output(model.SerializeToString()) - output(transformer_block())).max() > 1e-2

    def test_a_tensor_that_others_read_too_is_left_alone(self) -> None:
        found = {junction.tensor for junction in junctions(GraphIndex(parse(host_model(), name="m")))}
        assert "pointwise_raw" not in found, "the residual sum reads it as well"
        assert found == {"stem_raw", "depthwise"}

    def test_channels_are_followed_through_a_spatial_reduction(self) -> None:
        node, helper = onnx.helper.make_node, onnx.helper
        nodes = [
            node("LayerNormalization", ["tokens", "g", "b"], ["normed"], axis=-1),
            node("Reshape", ["normed", "grid"], ["blocks"]),
            node("Transpose", ["blocks"], ["turned"], perm=[0, 2, 1, 3]),
            node("Reshape", ["turned", "flat"], ["reduced_input"]),
            node("Gemm", ["reduced_input", "w"], ["result"], transB=1),
        ]
        random = np.random.default_rng(0)
        constants = {
            "g": np.ones(4, np.float32),
            "b": np.zeros(4, np.float32),
            "grid": np.array([2, 2, 2, 8], np.int64),
            "flat": np.array([4, 16], np.int64),
            "w": random.normal(0, 1, (3, 16)).astype(np.float32),
        }
        graph = helper.make_graph(
            nodes,
            "reduction",
            [helper.make_tensor_value_info("tokens", onnx.TensorProto.FLOAT, [16, 4])],
            [helper.make_tensor_value_info("result", onnx.TensorProto.FLOAT, [4, 3])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        proto = parse(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString(), name="m"
        )
        feed = {"tokens": random.normal(0, 1, (16, 4)).astype(np.float32)}
        before = ReferenceEvaluator(proto).run(None, feed)[0]
        index = GraphIndex(proto)
        (junction,) = junctions(index)
        assert [list(channels) for _, channels in junction.readers] == [[0, 1, 2, 3] * 4]
        apply_scales(proto, index, {"normed": np.array([0.25, 1, 2, 4], np.float32)})
        assert numpy_helper.to_array(proto.graph.initializer[0])[0] == 4.0
        np.testing.assert_allclose(ReferenceEvaluator(proto).run(None, feed)[0], before, rtol=1e-5, atol=1e-6)

    def test_it_lowers_the_noise_of_unevenly_spread_channels(self) -> None:
        model, noise = transformer_block(), {}
        for equalise in (False, True):
            recipe = with_recipe(equalise=equalise)
            quantized = insert_qdq(model, calibrate(model, FRAMES, recipe=recipe), recipe=recipe, target="tensorrt")
            noise[equalise] = np.square(output(quantized) - output(model)).mean()
        assert noise[True] < noise[False]

    def test_recipes_that_share_a_pass_must_equalise_alike(self) -> None:
        recipes = [with_recipe(equalise=True), with_recipe(equalise=False)]
        with pytest.raises(BuildError, match="should equalise alike"):
            observe_activations(transformer_block(), FRAMES, recipes=recipes)


class TestBiasCorrection:
    """The mean error of rounded weights goes into the bias."""

    @pytest.mark.parametrize(("groups", "shape"), [(1, (6, 4, 3, 3)), (4, (4, 1, 3, 3)), (2, (6, 2, 1, 1))])
    def test_the_mean_of_a_convolution_is_that_of_a_constant_image(self, groups: int, shape: tuple[int, ...]) -> None:
        random = np.random.default_rng(0)
        weights, means = random.normal(0, 1, shape), random.normal(0, 1, 4)
        found = mean_output(weights, means, kind="Conv", axis=0)
        per_group = shape[0] // groups
        expected = [
            (weights[o] * means[(o // per_group) * shape[1] : (o // per_group + 1) * shape[1], None, None]).sum()
            for o in range(shape[0])
        ]
        np.testing.assert_allclose(found, expected)

    def test_shapes_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="do not fit"):
            mean_output(np.zeros((6, 4, 3, 3)), np.zeros(5), kind="Conv", axis=0)

    @pytest.mark.parametrize("axis", [0, 1])
    def test_the_mean_output_of_the_rounded_layer_is_right_again(self, axis: int) -> None:
        random = np.random.default_rng(1)
        weights = random.normal(0, 1, (5, 7)).astype(np.float32)
        inputs = random.gamma(2.0, 1.0, (4000, 7)).astype(np.float32)
        stored = weights if axis == 0 else weights.T
        for means, close in ((inputs.mean(axis=0).astype(np.float64), True), (None, False)):
            layer = LayerArrays("Gemm", stored, axis, np.zeros(5, np.float32), means)
            found = quantize_layer(layer, levels=7, input_scale=1.0, integer_bias=False)
            matrix = found.integers * found.scales.reshape((-1, 1) if axis == 0 else (1, -1))
            result = inputs @ (matrix if axis == 0 else matrix.T).T + found.bias
            error = np.abs(result.mean(axis=0) - (inputs @ weights.T).mean(axis=0)).max()
            assert bool(error < 1e-3) is close

    def test_a_layer_without_bias_gets_one(self) -> None:
        corrected = corrected_bias(None, np.ones((2, 3)), np.array([1.0, 2.0, 3.0]), kind="Gemm", axis=0)
        np.testing.assert_array_equal(corrected, [-6.0, -6.0])
        model = onnx.load_from_string(transformer_block())
        for node in model.graph.node:
            if node.name in ("node_shrunk", "node_query"):
                del node.input[2]
        changed = model.SerializeToString()
        for path, target in ((CPU_INT8, "onnxruntime"), (CPU_INT8, "openvino"), (TENSORRT_INT8, "tensorrt")):
            recipe = with_recipe(correct=True, path=path)
            proto = onnx.load_from_string(
                insert_qdq(changed, calibrate(changed, FRAMES, recipe=recipe), recipe=recipe, target=target)
            )
            index = GraphIndex(proto)
            made = index.producer["shrunk"] if "shrunk" in index.producer else index.producer["shrunk_last_source_gemm"]
            assert len(made.input) == 3, target


class TestDeterminism:
    """The same graph, frames and recipe give the same bytes."""

    def test_quantizing_twice_gives_the_same_bytes(self) -> None:
        model = transformer_block()
        first, second = (quantize(model, FRAMES, threads=1) for _ in range(2))
        assert first == second

    def test_other_frames_give_other_bytes(self) -> None:
        model = transformer_block()
        first, second = (quantize(model, frames, threads=1) for frames in (FRAMES, FRAMES[1:]))
        assert all(first[name] != second[name] for name in first)

    def test_one_pass_serves_every_method(self) -> None:
        model, recipe = transformer_block(), with_recipe()
        observed = observe_activations(model, FRAMES, recipes=[recipe])
        reaches = {
            method: choose_ranges(model, observed, recipe=with_recipe(method=method)).ranges["gelu"].reach
            for method in ("minmax", "percentile", "entropy", "mse")
        }
        assert all(reach <= reaches["minmax"] for reach in reaches.values())
        assert len(set(reaches.values())) > 2
