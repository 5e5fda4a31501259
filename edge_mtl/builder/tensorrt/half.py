"""A float graph in half precision, written before the build: since TensorRT 11 only the graph decides what layers compute in.

Knows ONNX; knows nothing about TensorRT or GPUs. Layers and their weights become float16. Sums over many values and what
has a large range (LayerNorm, means, exponentials) stay float32 behind casts, and so do inputs and outputs of the graph, and
operators with a single number that float16 cannot hold well: an epsilon that guards a division must not become zero.
Q/DQ pairs stay where they are; their scales take the type of the float side, as opset 19 and later have it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import import_onnx, load, parse

__all__ = ["KEPT_IN_FP32", "to_half"]

KEPT_IN_FP32: tuple[str, ...] = (
    *("LayerNormalization", "InstanceNormalization", "GroupNormalization"),
    *("ReduceMean", "ReduceSum", "ReduceL2", "Exp", "Log", "Pow", "Softplus"),
)
"""Softmax is not among them: its results are within 0..1, TensorRT adds up in float32, and casts would break its fusion."""

_OTHER_INPUTS_FP32 = {"Resize": 1}
"""Operators of which only that many first inputs take the type of the data."""

_QDQ = ("QuantizeLinear", "DequantizeLinear")
_HALF_QDQ_OPSET = 19
_LAYERS = ("Conv", "Gemm", "MatMul")
_LARGEST = float(np.finfo(np.float16).max)
_SMALLEST_NORMAL = float(np.finfo(np.float16).tiny)
_SMALLEST = float(np.finfo(np.float16).smallest_subnormal)


def to_half(model: bytes, *, name: str = "the graph") -> bytes:
    """`model` with its layers in float16.

    Args:
        model: ONNX in float32, with or without Q/DQ pairs.
        name: of the model, for messages.
    Returns:
        ONNX; inputs and outputs have the names and types they had.
    Raises:
        BuildError: a weight does not fit float16, a scale vanishes in it, the opset is too old for Q/DQ pairs in half
            precision, or the graph cannot be used.
        BackendUnavailable: the package onnx is missing.
    """
    onnx = import_onnx()
    written = load(model, name=name)
    opset = max((entry.version for entry in written.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    quantized = any(node.op_type in _QDQ for node in written.graph.node)
    if quantized and opset < _HALF_QDQ_OPSET:
        raise BuildError(f"Q/DQ pairs in half precision need opset {_HALF_QDQ_OPSET}; {name} has {opset}. Export it again.")
    proto = parse(model, name=name)
    _Rewrite(proto, name).write()
    result = bytes(proto.SerializeToString())
    try:
        onnx.checker.check_model(onnx.load_model_from_string(result), full_check=True)
    except Exception as exc:  # onnx raises several kinds
        raise BuildError(f"{name} is not valid in half precision: {exc}") from exc
    return result


class _Rewrite:
    """One graph on its way to half precision. `parse` has sorted the nodes and inferred every type."""

    def __init__(self, proto: Any, name: str) -> None:
        self._onnx = import_onnx()
        self._graph, self._name = proto.graph, name
        floating = self._onnx.TensorProto.FLOAT
        typed = [*self._graph.value_info, *self._graph.input, *self._graph.output]
        self._floats = {value.name for value in typed if value.type.tensor_type.elem_type == floating}
        self._weights = {tensor.name: tensor for tensor in self._graph.initializer if tensor.data_type == floating}
        self._outputs = {value.name for value in self._graph.output}
        self._in_half: set[str] = set()  # tensors that are float16 now
        self._renamed: dict[str, str] = {}  # outputs of the graph, which stay float32 under their name
        self._cast: dict[tuple[str, bool], str] = {}
        self._added: dict[str, Any] = {}
        self._nodes: list[Any] = []

    def write(self) -> None:
        for node in list(self._graph.node):
            self._node(node)
        used = {source for node in self._nodes for source in node.input}
        initializers = [tensor for tensor in self._graph.initializer if tensor.name in used] + list(self._added.values())
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(self._nodes)
        self._graph.initializer.extend(initializers)

    def _node(self, node: Any) -> None:
        half = node.op_type not in (*KEPT_IN_FP32, "Cast", "Constant") and not self._has_number_beyond_half(node)
        typed = _OTHER_INPUTS_FP32.get(node.op_type, len(node.input))
        for place, source in enumerate(node.input):
            if source in self._weights:
                if half and place < typed:
                    node.input[place] = self._half_weight(source, scale=place == 1 and node.op_type in _QDQ)
            elif source in self._floats and place < typed:
                node.input[place] = self._as(source, half=half) if node.op_type != "Cast" else self._now(source)
        self._nodes.append(node)
        for place, result in enumerate(node.output):
            if not half or result not in self._floats:
                continue
            self._in_half.add(result)
            if result in self._outputs:
                inner = f"{result}__half"
                node.output[place] = self._renamed[result] = inner
                self._nodes.append(self._cast_node(inner, result, half=False))

    def _has_number_beyond_half(self, node: Any) -> bool:
        """Whether a single number that `node` reads is too small or too large for a normal float16."""
        if node.op_type in (*_LAYERS, *_QDQ):
            return False
        for source in node.input:
            tensor = self._weights.get(source)
            if tensor is None or int(np.prod(tensor.dims)) != 1:
                continue
            size = abs(float(import_module("onnx.numpy_helper").to_array(tensor).item()))
            if size > _LARGEST or 0.0 < size < _SMALLEST_NORMAL:
                return True
        return False

    def _now(self, tensor: str) -> str:
        return self._renamed.get(tensor, tensor)

    def _as(self, tensor: str, *, half: bool) -> str:
        """The name under which `tensor` is to be had in that type; adds a cast the first time."""
        if tensor in self._renamed and not half:
            return tensor  # the output of the graph is its float32 copy
        if (tensor in self._in_half) == half:
            return self._now(tensor)
        key = (tensor, half)
        if key not in self._cast:
            self._cast[key] = f"{tensor}__as_{'half' if half else 'float'}"
            self._nodes.append(self._cast_node(self._now(tensor), self._cast[key], half=half))
        return self._cast[key]

    def _cast_node(self, source: str, result: str, *, half: bool) -> Any:
        kind = self._onnx.TensorProto.FLOAT16 if half else self._onnx.TensorProto.FLOAT
        return self._onnx.helper.make_node("Cast", [source], [result], name=f"{result}_cast", to=kind)

    def _half_weight(self, weight: str, *, scale: bool) -> str:
        name = f"{weight}__half"
        if name not in self._added:
            helper = import_module("onnx.numpy_helper")
            values = np.asarray(helper.to_array(self._weights[weight]))
            reach = float(np.abs(values).max(initial=0.0))
            if not reach <= _LARGEST:
                raise BuildError(
                    f"{self._name}: the weights {weight} reach {reach:.3g}, float16 ends at {_LARGEST:.0f}. Build --fp32."
                )
            if scale and float(values.min(initial=1.0)) < _SMALLEST:
                raise BuildError(
                    f"{self._name}: a scale in {weight} is below {_SMALLEST:.1e}, the smallest float16. Build --fp16."
                )
            self._added[name] = helper.from_array(values.astype(np.float16), name)
        return name
