"""A graph of one frame made into one of N frames, with the same answers: to measure what a batch would gain. Knows ONNX only.

A tensor of N frames is N tensors of one frame behind one another along the first axis, whatever that axis is: graphs that
are written for speed fold the batch into rows, and rows behind rows stay rows. Where an operator would mix frames (the
products of attention, a transposition of the first axis) the tensor is split, the operator is repeated for every frame, and
the results are put together again where the next layer can take them all at once. For servers, which want the number of
frames left open, see `edge_mtl.builder.tensorrt.batch`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.onnx_graph.model import GraphIndex, attribute, import_onnx, parse

__all__ = ["MOST_FRAMES", "repeat_frames"]

MOST_FRAMES = 64
"""More would make graphs of hundreds of thousands of nodes."""

_ELEMENTWISE = frozenset(
    {
        "Abs",
        "Cast",
        "Ceil",
        "Clip",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Tanh",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)
_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"})
_PER_FRAME = frozenset(
    {"Conv", "ConvTranspose", "BatchNormalization", "MaxPool", "AveragePool", "GlobalAveragePool", "InstanceNormalization"}
)
_ALONG_AN_AXIS = frozenset({"Softmax", "LogSoftmax", "LayerNormalization", "ArgMax", "ArgMin", "Concat", "Split"})
_ALONG_AXES = frozenset({"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "Slice"})
_RESHAPES = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_STAYS_APART = _RESHAPES | frozenset({"Transpose", "Softmax", "Mul", "Div", "Add", "QuantizeLinear", "DequantizeLinear"})
"""Not worth putting frames together for."""
_OF_INTEGERS = {"QLinearSigmoid": "Identity", "QLinearMul": "Max"}
"""Operators of ONNX Runtime's own that INT8 graphs hold, and operators of ONNX whose answers have the same shape."""


def repeat_frames(model: bytes, frames: int, *, name: str = "the graph") -> bytes:
    """`model` for `frames` frames at once.

    Args:
        model: ONNX for one frame; all its shapes are fixed.
        name: of it, for messages.
    Raises:
        BuildError: too many frames, shapes that are not fixed, or a graph whose first axis is not one frame.
        BackendUnavailable: the package onnx is missing.
    """
    if not 1 <= frames <= MOST_FRAMES:
        raise BuildError(f"expected 1 to {MOST_FRAMES} frames at once; found {frames}")
    proto = parse(model, name=name)
    for value in (*proto.graph.input, *proto.graph.output):
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
        if not sides or sides[0] != 1 or not all(sides):
            raise BuildError(f"{name}: {value.name} should be one frame of a fixed size; found {sides}")
    onnx = import_onnx()
    try:
        repeated = _Repeated(proto, frames, name)
        onnx.checker.check_model(repeated.proto)
        inferred = _shaped(repeated.proto, strict=True)
    except EdgeMtlError:
        raise
    except Exception as exc:  # onnx raises several kinds, and rewriting a graph that only looks like one of a network others
        raise BuildError(f"{name} does not take {frames} frames: {' '.join(str(exc).split())[:300]}") from exc
    for value in inferred.graph.output:
        if value.type.tensor_type.shape.dim[0].dim_value != frames:
            raise BuildError(f"{name} does not take {frames} frames: {value.name} has another number of them")
    return bytes(repeated.proto.SerializeToString())


class _Repeated:
    """One graph while it is rewritten; `proto` is the result."""

    def __init__(self, proto: Any, frames: int, name: str) -> None:
        self._frames, self._name = frames, name
        self._index = GraphIndex(_shaped(proto))
        self._constants: Mapping[str, Any] = {tensor.name: tensor for tensor in proto.graph.initializer}
        self._dynamic = {value.name for value in proto.graph.input}
        self._together: dict[str, str] = {name: name for name in self._dynamic}
        self._apart: dict[str, list[str]] = {}
        self._nodes: list[Any] = []
        self._added: dict[str, Any] = {}
        for node in list(proto.graph.node):
            self._add(node)
        for value in proto.graph.output:
            self._joined(value.name, at_end=True)
        self.proto = proto
        del proto.graph.node[:]
        del proto.graph.value_info[:]
        proto.graph.node.extend(self._nodes)
        proto.graph.initializer.extend(self._added.values())
        for value in (*proto.graph.input, *proto.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = frames

    def _add(self, node: Any) -> None:
        moving = [tensor for tensor in node.input if tensor in self._dynamic]
        if not moving:
            self._nodes.append(node)  # works on constants
            return
        self._dynamic |= set(node.output)
        kept_apart = node.op_type in _STAYS_APART or (node.op_type == "MatMul" and len(moving) > 1)
        if self._can_be_joined(node, moving) and not (kept_apart and any(tensor in self._apart for tensor in moving)):
            self._nodes.append(self._for_all(node))
            self._together |= {tensor: tensor for tensor in node.output}
            return
        sources = {tensor: self._split(tensor) for tensor in dict.fromkeys(moving)}
        for frame in range(self._frames):
            copy = type(node)()
            copy.CopyFrom(node)
            copy.name = f"{node.name or node.output[0]}__frame{frame}"
            for place, tensor in enumerate(node.input):
                if tensor in sources:
                    copy.input[place] = sources[tensor][frame]
            for place, tensor in enumerate(node.output):
                if tensor:
                    copy.output[place] = f"{tensor}__frame{frame}"
            self._nodes.append(copy)
        self._apart |= {
            tensor: [f"{tensor}__frame{frame}" for frame in range(self._frames)] for tensor in node.output if tensor
        }

    def _for_all(self, node: Any) -> Any:
        """`node` for all frames; its inputs are put together first."""
        onnx = import_onnx()
        sources = [self._joined(tensor) if tensor in self._dynamic else tensor for tensor in node.input]
        if node.op_type in _RESHAPES:
            shape = self._shape(node.output[0])
            target = self._constant(f"{node.output[0]}__shape", np.array([shape[0] * self._frames, *shape[1:]], np.int64))
            return onnx.helper.make_node("Reshape", [sources[0], target], list(node.output), name=node.name)
        if node.op_type == "Resize" and len(sources) > 3 and sources[3]:
            sizes = self._values(node.input[3]).copy()
            sizes[0] *= self._frames
            sources[3] = self._constant(f"{node.output[0]}__sizes", sizes)
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:] = sources
        return copy

    def _joined(self, tensor: str, *, at_end: bool = False) -> str:
        """The tensor of all frames; at the end under its own name."""
        if tensor not in self._together:
            name = tensor if at_end else f"{tensor}__frames"
            self._nodes.append(import_onnx().helper.make_node("Concat", self._apart[tensor], [name], name=name, axis=0))
            self._together[tensor] = name
        return self._together[tensor]

    def _split(self, tensor: str) -> list[str]:
        """The tensors of each frame."""
        if tensor not in self._apart:
            names = [f"{tensor}__frame{frame}" for frame in range(self._frames)]
            sizes = self._constant(f"{tensor}__sizes", np.full(self._frames, self._shape(tensor)[0], np.int64))
            source = self._together[tensor]
            self._nodes.append(import_onnx().helper.make_node("Split", [source, sizes], names, name=f"{tensor}__split", axis=0))
            self._apart[tensor] = names
        return self._apart[tensor]

    def _can_be_joined(self, node: Any, moving: list[str]) -> bool:
        """Whether the operator leaves frames that lie behind one another along the first axis alone."""
        kind, data = node.op_type, node.input[0]
        shape, rank = self._shape(data), len(self._shape(data))
        only_data = moving == [data]
        if kind in _ELEMENTWISE:
            return only_data and (len(node.input) < 2 or self._rank(node.input[1]) == 0 or self._axis(node, 1, rank) != 0)
        if kind in _OF_INTEGERS:
            operands = [tensor for tensor in node.input if tensor in moving]
            result = self._shape(node.output[0])
            return all(self._broadcasts(tensor, result, True) for tensor in operands) and all(
                self._rank(tensor) == 0 for tensor in node.input if tensor and tensor not in moving
            )
        if kind in _BROADCASTING:
            result = self._shape(node.output[0])
            return all(self._broadcasts(tensor, result, tensor in moving) for tensor in node.input)
        if kind in _PER_FRAME:
            return only_data
        if kind == "Gemm":
            bias = self._shape(node.input[2]) if len(node.input) > 2 and node.input[2] else (1,)
            return only_data and not attribute(node, "transA", 0) and (len(bias) < 2 or bias[0] == 1)
        if kind == "MatMul":
            other = self._shape(node.input[1])
            return (only_data and len(other) == 2) or (
                len(moving) == 2 and rank > 2 and len(other) == rank and other[0] == shape[0]
            )
        if kind in _RESHAPES:
            return only_data and len(self._shape(node.output[0])) > 0
        if kind == "Transpose":
            return bool(next(iter(attribute(node, "perm", ())), -1) == 0)
        if kind in _ALONG_AN_AXIS:
            default = 1 if kind in ("Concat", "Split") else (0 if kind.startswith("Arg") else -1)
            return len(moving) == (len(node.input) if kind == "Concat" else 1) and self._axis(node, default, rank) != 0
        if kind in _ALONG_AXES:
            place = 3 if kind == "Slice" else 1
            axes = self._values(node.input[place]).tolist() if len(node.input) > place and node.input[place] else [0]
            return only_data and all(int(axis) % rank != 0 for axis in axes)
        if kind == "Gather":
            return only_data and self._axis(node, 0, rank) != 0
        return kind == "Resize" and only_data and rank == len(self._shape(node.output[0]))

    def _broadcasts(self, tensor: str, result: tuple[int, ...], moves: bool) -> bool:
        shape = self._shape(tensor)
        if moves:
            return len(shape) == len(result) and shape[0] == result[0]
        return len(shape) < len(result) or shape[0] == 1

    def _axis(self, node: Any, default: int, rank: int) -> int:
        return int(attribute(node, "axis", default)) % max(rank, 1)

    def _rank(self, tensor: str) -> int:
        return len(self._shape(tensor))

    def _shape(self, tensor: str) -> tuple[int, ...]:
        if tensor in self._constants:
            return tuple(self._constants[tensor].dims)
        found = self._index.shapes.get(tensor)
        if found is None or not all(found):
            raise BuildError(f"{self._name}: the shape of {tensor} is not fixed, so that frames cannot be told apart")
        return found

    def _values(self, tensor: str) -> np.ndarray:
        if tensor not in self._constants:
            raise BuildError(f"{self._name}: {tensor} is computed; a constant was expected")
        return np.asarray(_numpy()(self._constants[tensor]))

    def _constant(self, name: str, values: np.ndarray) -> str:
        self._added[name] = import_module("onnx.numpy_helper").from_array(values, name)
        return name


def _shaped(proto: Any, *, strict: bool = False) -> Any:
    """The graph with shapes of all tensors. Operators that ONNX does not know are replaced: it is good for shapes only."""
    onnx = import_onnx()
    copy = type(proto)()
    copy.CopyFrom(proto)
    for node in copy.graph.node:
        if node.domain and node.op_type in _OF_INTEGERS:
            operands = [node.input[0]] if node.op_type == "QLinearSigmoid" else [node.input[0], node.input[3]]
            node.op_type, node.domain = _OF_INTEGERS[node.op_type], ""
            node.input[:] = operands
    return onnx.shape_inference.infer_shapes(copy, strict_mode=strict, data_prop=strict)


def _numpy() -> Callable[[Any], np.ndarray]:
    found: Callable[[Any], np.ndarray] = import_module("onnx.numpy_helper").to_array
    return found
