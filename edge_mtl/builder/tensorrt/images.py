"""A graph with bytes at its ends in the form that TensorRT takes. Knows ONNX, no runtime.

TensorRT has bytes only as inputs of a cast to floats, and as results of a cast from floats.
"""

from __future__ import annotations

from typing import Any

from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse

__all__ = ["with_casts_at_the_ends"]


def with_casts_at_the_ends(model: bytes, *, name: str = "the graph") -> bytes:
    """`model` with bytes cast before anything else happens to them; whole numbers that leave as bytes go by way of floats.

    Args:
        model: ONNX; graphs without bytes come back as they are.
    Raises:
        BuildError: no usable ONNX.
        BackendUnavailable: the package onnx is missing.
    """
    onnx = import_onnx()
    proto = parse(model, name=name)
    kinds = onnx.TensorProto
    images = [value.name for value in proto.graph.input if value.type.tensor_type.elem_type == kinds.UINT8]
    leaving = {value.name for value in proto.graph.output if value.type.tensor_type.elem_type == kinds.UINT8}
    if not images and not leaving:
        return model
    index = GraphIndex(proto)
    nodes: list[Any] = [onnx.helper.make_node("Cast", [name], [f"{name}__float"], to=kinds.FLOAT) for name in images]
    as_float = {name: f"{name}__float" for name in images}
    for node in index.nodes:
        node.input[:] = [as_float.get(source, source) for source in node.input]
        if node.op_type == "Cast" and node.output[0] in leaving:
            middle = f"{node.output[0]}__float"
            nodes.append(onnx.helper.make_node("Cast", [node.input[0]], [middle], to=kinds.FLOAT))
            node.input[0] = middle
        elif node.op_type == "Cast" and node.input[0] in as_float.values():
            node.op_type = "Identity"  # it is a float already
            del node.attribute[:]
        elif node.op_type in ("Transpose", "Reshape", "Slice", "Unsqueeze", "Squeeze") and node.input[0] in as_float.values():
            as_float[node.output[0]] = node.output[0]
        nodes.append(node)
    del proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.node.extend(nodes)
    result = bytes(proto.SerializeToString())
    onnx.checker.check_model(onnx.load_model_from_string(result), full_check=True)
    return result
