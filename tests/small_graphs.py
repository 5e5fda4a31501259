"""Graphs written by hand for tests of quantization: an image of 64x96 in, one map of normals at a quarter of that out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper


def graph_of(nodes: Sequence[NodeProto], constants: Mapping[str, np.ndarray], *, name: str) -> bytes:
    """The checked model of nodes from `image` (1, 3, 64, 96) to `normals_quarter` (1, 3, 16, 24), float32."""
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 64, 96])],
        [helper.make_tensor_value_info("normals_quarter", TensorProto.FLOAT, [1, 3, 16, 24])],
        [numpy_helper.from_array(value, key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
