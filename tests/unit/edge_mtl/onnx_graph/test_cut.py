"""Graphs cut down to some outputs: the same answers to the last bit, and nothing left that they do not need."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edge_mtl.backends import available, open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.errors import BundleError
from edge_mtl.onnx_graph.cut import cut_to, output_names
from tests.bundles import ROOMS_B0, graph_model, host_model, make_image

HERE = [name for name, found in available().items() if found.usable]
OUTPUTS = ("segmentation_logits", "depth_quarter", "normals_quarter")
SOME = [kept for count in (1, 2) for kept in combinations(OUTPUTS, count)]


def planes(height: int = 64, width: int = 96) -> np.ndarray:
    return np.ascontiguousarray(make_image(7, height=height, width=width).transpose(2, 0, 1)[None]).astype(np.float32)


def answers(model: bytes, backend: str, image: np.ndarray) -> dict[str, np.ndarray]:
    opened = open_backend(backend, model, threads=1)
    try:
        return opened.run({"image": image})
    finally:
        opened.close()


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("kept", SOME)
def test_what_is_kept_answers_as_in_the_whole_graph_to_the_last_bit(kept: tuple[str, ...], backend: str) -> None:
    model, image = host_model(), planes()
    whole, cut = answers(model, backend, image), answers(cut_to(model, kept), backend, image)
    assert set(cut) == set(kept)
    for name in kept:
        assert np.array_equal(cut[name], whole[name]), name


@pytest.mark.parametrize("task", ["segmentation", "depth", "normals"])
def test_a_graph_that_finishes_maps_itself_is_cut_likewise(task: str) -> None:
    model, image = graph_model(), make_image(7)[None]
    assert np.array_equal(answers(cut_to(model, [task]), HERE[0], image)[task], answers(model, HERE[0], image)[task])


def test_the_depth_of_rooms_b0_is_the_same_to_the_last_bit() -> None:
    bundle = Bundle.open(ROOMS_B0)
    model = bundle.read(OPTIMIZED_ONNX)
    image = planes(bundle.manifest.input.height, bundle.manifest.input.width)
    cut = cut_to(model, ["depth_quarter"])
    assert len(cut) < len(model)
    assert np.array_equal(answers(cut, HERE[0], image)["depth_quarter"], answers(model, HERE[0], image)["depth_quarter"])


@pytest.mark.parametrize("model", [host_model(), Bundle.open(ROOMS_B0).read(OPTIMIZED_ONNX)], ids=["tiny", "rooms-b0"])
@pytest.mark.parametrize("kept", OUTPUTS)
def test_nodes_and_weights_are_those_that_onnx_extracts_itself(model: bytes, kept: str) -> None:
    cut = onnx.load_from_string(cut_to(model, [kept]))
    onnx.checker.check_model(cut, full_check=True)
    expected = onnx.utils.Extractor(onnx.load_from_string(model)).extract_model(["image"], [kept])
    assert [node.output for node in cut.graph.node] == [node.output for node in expected.graph.node]
    assert {tensor.name for tensor in cut.graph.initializer} == {tensor.name for tensor in expected.graph.initializer}
    assert [value.name for value in cut.graph.input] == ["image"]
    there = {tensor for node in cut.graph.node for tensor in node.output} | {tensor.name for tensor in cut.graph.initializer}
    assert {value.name for value in cut.graph.value_info} <= there


def test_a_graph_that_keeps_all_its_outputs_keeps_all_its_bytes() -> None:
    model = host_model()
    assert cut_to(model, output_names(model)) == model


def test_inputs_that_are_left_out_and_constants_as_outputs_do_no_harm() -> None:
    nodes = [
        helper.make_node("Clip", ["image", "", "most"], ["clipped"]),  # its second input is left out
        helper.make_node("Relu", ["image"], ["positive"]),
    ]
    shapes = {"clipped": [1, 2], "positive": [1, 2], "most": []}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor("most", TensorProto.FLOAT, [], [6.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    clipped = onnx.load_from_string(cut_to(model, ["clipped"])).graph
    assert ([node.op_type for node in clipped.node], len(clipped.initializer)) == (["Clip"], 1)
    constant = onnx.load_from_string(cut_to(model, ["most"])).graph
    assert (len(constant.node), [tensor.name for tensor in constant.initializer]) == (0, ["most"])
    positive = onnx.load_from_string(cut_to(model, ["positive"])).graph
    assert ([node.op_type for node in positive.node], len(positive.initializer)) == (["Relu"], 0)


def test_outputs_that_are_not_there_are_named_and_what_is_no_model_is_refused() -> None:
    model = host_model()
    with pytest.raises(BundleError, match="gives no lane_logits; found segmentation_logits, depth_quarter, normals_quarter"):
        cut_to(model, ["depth_quarter", "lane_logits"])
    with pytest.raises(ValueError, match="at least one output"):
        cut_to(model, [])
    with pytest.raises(BundleError, match="cannot be read"):
        cut_to(model[: len(model) // 2], ["depth_quarter"])
    with pytest.raises(BundleError, match="cannot be read"):
        output_names(b"\xff" * 40)
