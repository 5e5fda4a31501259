"""Graphs as the ONNX library reads them: those that break its rules are typed errors before anything works on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.batches import repeat_frames
from edge_mtl.onnx_graph.model import GraphIndex, facts, parse
from edge_mtl.quantization.cross_layer_equalization import junctions
from tests.bundles import host_model


def changed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    proto = onnx.load_from_string(host_model())
    change(proto)
    return bytes(proto.SerializeToString())


def groups_in_a_list(proto: onnx.ModelProto) -> None:
    node = next(node for node in proto.graph.node if node.op_type == "Conv")
    kept = [one for one in node.attribute if one.name != "group"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("group", [1, 2])])


def endless_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 1 << 50


def negative_input(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[2].dim_value = -64


def without_versions(proto: onnx.ModelProto) -> None:
    del proto.opset_import[:]


@pytest.mark.parametrize("change", [groups_in_a_list, endless_input, negative_input, without_versions])
def test_a_graph_that_breaks_the_rules_of_onnx_is_a_typed_error(change: Callable[[onnx.ModelProto], None]) -> None:
    with pytest.raises(BuildError, match="not a usable ONNX model"):
        facts(changed(change))


def test_a_constant_output_has_no_frames_to_tell_apart() -> None:
    def constant(proto: onnx.ModelProto) -> None:
        output = proto.graph.output[0]
        shape = [side.dim_value for side in output.type.tensor_type.shape.dim]
        proto.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), "constant"))
        output.name = "constant"

    with pytest.raises(BuildError, match="does not take 2 frames"):
        repeat_frames(changed(constant), 2)


def test_a_reshape_whose_sizes_do_not_fit_moves_no_scale() -> None:
    weights = numpy_helper.from_array(np.ones((4, 3, 1, 1), np.float32), "weights")
    shape = numpy_helper.from_array(np.array([1, 4, 8], np.int64), "shape")
    nodes = [helper.make_node("Conv", ["image", "weights"], ["wide"]), helper.make_node("Reshape", ["wide", "shape"], ["flat"])]
    ends = [helper.make_tensor_value_info(*each) for each in (("image", 1, [1, 3, 8, 8]), ("out", 1, [1, 4, 8]))]
    nodes.append(helper.make_node("Relu", ["flat"], ["out"]))
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weights, shape])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    assert junctions(GraphIndex(parse(proto.SerializeToString(), name="g"))) == []
