"""A graph of batch 1 with its first side left open, for servers that run several frames at once. Knows ONNX, no runtime.

Possible only where the graph keeps frames apart: shapes written into it must start with the batch. The graph that is
rewritten for speed folds the batch into rows, so the plain one is what this is for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse

__all__ = ["open_batch"]

_SYMBOL = "batch"
_TRIED = 3
_SHAPE_INPUT = {"Reshape": 1, "Expand": 1}


def open_batch(model: bytes, *, name: str = "the graph") -> bytes:
    """`model` for any number of frames.

    Args:
        model: ONNX whose inputs and outputs have 1 as their first side.
        name: of it, for messages.
    Returns:
        ONNX with a first side called "batch" on every input and output.
    Raises:
        BuildError: the graph mixes the frames of a batch, or its shapes do not allow one.
        BackendUnavailable: the package onnx is missing.
    """
    onnx = import_onnx()
    proto = parse(model, name=name)
    for value in (*proto.graph.input, *proto.graph.output):
        sides = value.type.tensor_type.shape.dim
        if not sides or sides[0].dim_value != 1:
            raise BuildError(f"{name}: {value.name} should have batch 1 as its first side. Give a graph made for one frame.")
    _open_shapes(proto, name)
    del proto.graph.value_info[:]
    _check(proto, name)
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = _SYMBOL
    result = bytes(proto.SerializeToString())
    onnx.checker.check_model(onnx.load_model_from_string(result))
    return result


def _open_shapes(proto: Any, name: str) -> None:
    """Reshapes to (1, ...) keep their first side instead."""
    helper = import_module("onnx.numpy_helper")
    index = GraphIndex(proto)
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    added: dict[str, Any] = {}
    for node in proto.graph.node:
        place = _SHAPE_INPUT.get(node.op_type)
        if place is None:
            continue
        shape = constants.get(node.input[place])
        sides = np.asarray(helper.to_array(shape)).tolist() if shape is not None else []
        known = index.shapes.get(node.output[0], ())  # what a -1 in the shape stands for
        if len(known) == len(sides) and all(known):
            sides = list(known)
        if node.op_type != "Reshape" or not sides or sides[0] != 1 or any(side < 1 for side in sides):
            raise BuildError(
                f"{name}: {node.op_type} {node.name} to {sides or 'a computed shape'} does not keep frames apart. "
                "Use the bundle's reference ONNX, model.onnx."
            )
        opened = f"{node.output[0]}__batch_shape"
        added[opened] = helper.from_array(np.array([-1, *sides[1:]], np.int64), opened)
        node.input[place] = opened
    used = {source for node in proto.graph.node for source in node.input}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in used]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*kept, *added.values()])


def _check(proto: Any, name: str) -> None:
    """With a batch of three every output has three."""
    onnx = import_onnx()
    build = type(proto)()
    build.CopyFrom(proto)
    for value in build.graph.input:
        value.type.tensor_type.shape.dim[0].dim_value = _TRIED
    for value in build.graph.output:
        value.type.tensor_type.shape.dim[0].Clear()
    try:
        inferred = onnx.shape_inference.infer_shapes(build, strict_mode=True, data_prop=True)
    except Exception as exc:  # onnx raises several kinds
        raise BuildError(f"{name} does not take a batch: {' '.join(str(exc).split())}") from exc
    for value in inferred.graph.output:
        found = value.type.tensor_type.shape.dim[0].dim_value
        if found != _TRIED:
            raise BuildError(f"{name}: a batch of {_TRIED} gives {value.name}: {found or '?'} frames. It mixes them.")
