"""Writing Q/DQ nodes, integer weights and integer operators into a graph, as a plan says. Knows nothing about frames.

Two styles from one set of ranges: unsigned activations with integer weights and biases for CPUs; signed and symmetric
activations, float weights with Q/DQ behind them and float biases for TensorRT, which rounds the weights itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.backends import QdqStyle
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, attribute, import_onnx
from edge_mtl.quantization.integer_ops import CONTRIB_DOMAIN, gelu_nodes, upsampling_nodes
from edge_mtl.quantization.placement import Plan, ceiling
from edge_mtl.quantization.ranges import Range
from edge_mtl.quantization.weights import SMALLEST_SCALE, LayerArrays, quantize_layer

__all__ = ["Emission"]

Array = np.ndarray

_SIGNED_LEVELS = 127


@dataclass(frozen=True, slots=True)
class _Scale:
    """Names of the constants that hold one tensor's scale and zero point, and the scale itself."""

    scale: str
    zero_point: str
    value: float


class Emission:
    """Rewrites one graph according to a plan.

    Args:
        model: ModelProto; it is changed.
        levels: largest magnitude of an integer weight, 127, or 63 where sums of byte products saturate.
        means: mean by channel of what layers read, for bias correction; empty without it.
        drifts: by how much GELU on bytes moves the mean of its result, by channel.
    """

    def __init__(
        self,
        model: Any,
        index: GraphIndex,
        plan: Plan,
        ranges: Mapping[str, Range],
        *,
        style: QdqStyle,
        levels: int,
        means: Mapping[str, Array],
        drifts: Mapping[str, Array],
    ) -> None:
        self._onnx = import_onnx()
        self._model, self._index, self._plan, self._ranges = model, index, plan, ranges
        self._style, self._levels, self._means = style, levels, means
        approximated = {node.output[0] for node in plan.gelus}
        self._drifts = {name: drift for name, drift in drifts.items() if name in approximated}
        self._constants: dict[str, Any] = {}
        self._scales: dict[str, _Scale] = {}
        self._nodes: list[Any] = []

    def write(self) -> bytes:
        """The rewritten model. Raises BuildError if it is not valid ONNX."""
        plan = self._plan
        inputs, outputs = set(plan.inputs), set(plan.outputs)
        layers = {node.output[0] for node in plan.layers}
        products = {node.output[0] for node in plan.products}
        gelus = {node.output[0] for node in plan.gelus}
        folded = [node for node in plan.folded if self._cuts_no_more(node)]
        skipped = {node.output[0] for node in folded}
        skipped |= {node.output[0] for node in plan.tokens.values()}
        sources = {node.input[0]: node.output[0] for node in folded}
        for name in self._index.inputs:
            if name in inputs:
                self._quantize(name, name, f"{name}_dequantized")
        for node in self._index.nodes:
            result = node.output[0]
            if result in skipped:
                continue
            if result in gelus:
                self._gelu(node.input[0], result)
                continue
            if result in plan.tokens:
                self._token_layer(node, plan.tokens[result].output[0])
                continue
            if node.op_type == "Resize" and result in plan.shared and self._upsample(node):
                continue
            copy = self._onnx.NodeProto()
            copy.CopyFrom(node)
            if result in layers:
                if node.input[0] in inputs:
                    copy.input[0] = f"{node.input[0]}_dequantized"
                self._integer_weights(copy, node)
            if result in products:
                copy.input[:] = [f"{name}_dequantized" if name in inputs else name for name in node.input]
            tensor = sources.get(result, result)
            if tensor in outputs:
                copy.output[0] = f"{tensor}_float"
                self._nodes.append(copy)
                self._quantize(tensor, f"{tensor}_float", tensor)
            else:
                self._nodes.append(copy)
            for name in node.output:
                if name in inputs:
                    self._quantize(name, name, f"{name}_dequantized")
        return self._finish()

    def _cuts_no_more(self, node: Any) -> bool:
        """Whether bytes of the range of a folded node's output end below its ceiling; learnt ranges may not."""
        limit, name = ceiling(node, self._index), node.output[0]
        return limit is not None and self._ranges[name].high <= limit

    def _token_layer(self, node: Any, result: str) -> None:
        """A 1x1 convolution and the Transpose to channels-last behind it, as one Gemm on pixels: its output stays float."""
        source, make = node.input[0], self._onnx.helper.make_node
        shape = self._constant(f"{result}_shape", np.array(self._index.shapes[result], np.int64))
        columns = int(self._index.weights[node.input[1]].dims[1])
        flat = self._constant(f"{result}_source_shape", np.array([-1, columns], np.int64))
        last, pixels, gemm = (f"{result}_source_{name}" for name in ("last", "pixels", "gemm"))
        scale = self._scale(source)
        self._nodes += [
            make("Transpose", [f"{source}_quantized"], [last], name=f"{last}_transpose", perm=[0, 2, 3, 1]),
            make("Reshape", [last, flat], [pixels], name=f"{pixels}_reshape"),
            make("DequantizeLinear", [pixels, scale.scale, scale.zero_point], [f"{pixels}_dequantized"], name=f"{pixels}_DQ"),
        ]
        layer = make("Gemm", [f"{pixels}_dequantized", *node.input[1:]], [gemm], name=f"{gemm}_layer", transB=1)
        self._integer_weights(layer, node, flatten=True)
        self._nodes += [layer, make("Reshape", [gemm, shape], [result], name=f"{result}_reshape")]

    def _gelu(self, source: str, result: str) -> None:
        before, after = self._scale(source), self._scale(result)
        self._nodes += gelu_nodes(
            f"{source}_quantized",
            f"{result}_quantized",
            source_scale=(before.scale, before.zero_point, before.value),
            result_scale=(after.scale, after.zero_point),
            constant=self._constant,
        )
        self._dequantize(result, f"{result}_dequantized")

    def _upsample(self, node: Any) -> bool:
        """Write a nearest upsampling by whole factors on bytes; False if `node` is none."""
        before, after = (self._index.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
        if (
            len(before) != 4
            or len(after) != 4
            or not all(before[2:])
            or any(b % a for a, b in zip(before[2:], after[2:], strict=True))
        ):
            return False
        self._nodes += upsampling_nodes(
            f"{node.input[0]}_quantized",
            f"{node.output[0]}_quantized",
            size=(before[2], before[3]),
            factors=(after[2] // before[2], after[3] // before[3]),
            constant=self._constant,
        )
        self._dequantize(node.output[0], node.output[0])
        return True

    def _drop_dead_nodes(self) -> None:
        """Nodes whose outputs nobody reads, for example the DequantizeLinear before an operator now done in INT8."""
        wanted, alive = set(self._index.outputs), []
        for node in reversed(self._nodes):
            if wanted & set(node.output):
                alive.append(node)
                wanted |= set(node.input)
        self._nodes = alive[::-1]

    def _finish(self) -> bytes:
        graph = self._model.graph
        self._drop_dead_nodes()
        if any(node.domain == CONTRIB_DOMAIN for node in self._nodes):
            self._model.opset_import.append(self._onnx.helper.make_opsetid(CONTRIB_DOMAIN, 1))
        used = {tensor for node in self._nodes for tensor in node.input}
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend([*kept, *(value for name, value in self._constants.items() if name in used)])
        try:
            self._onnx.checker.check_model(self._model)
        except Exception as exc:
            raise BuildError(f"The quantized graph is not valid ONNX: {exc}") from exc
        return bytes(self._model.SerializeToString())

    def _quantize(self, tensor: str, source: str, result: str) -> None:
        """source -> QuantizeLinear -> DequantizeLinear -> result, with the range of `tensor`."""
        scale = self._scale(tensor)
        make = self._onnx.helper.make_node
        constants = [scale.scale, scale.zero_point]
        self._nodes.append(make("QuantizeLinear", [source, *constants], [f"{tensor}_quantized"], name=f"{tensor}_Q"))
        self._dequantize(tensor, result)

    def _dequantize(self, tensor: str, result: str) -> None:
        scale = self._scale(tensor)
        inputs = [f"{tensor}_quantized", scale.scale, scale.zero_point]
        self._nodes.append(self._onnx.helper.make_node("DequantizeLinear", inputs, [result], name=f"{tensor}_DQ"))

    def _scale(self, tensor: str) -> _Scale:
        while tensor in self._plan.shared:
            tensor = self._plan.shared[tensor]
        if tensor not in self._scales:
            value, zero_point = self._scale_of(self._ranges[tensor])
            names = (self._constant(f"{tensor}_scale", value), self._constant(f"{tensor}_zero_point", zero_point))
            self._scales[tensor] = _Scale(*names, float(value))
        return self._scales[tensor]

    def _scale_of(self, wanted: Range) -> tuple[Any, Any]:
        """Scale (float32) and zero point (uint8 or int8) of a range."""
        if self._style.signed:
            return np.float32(max(wanted.reach / _SIGNED_LEVELS, SMALLEST_SCALE)), np.int8(0)
        value = np.float32(max((wanted.high - wanted.low) / 255.0, SMALLEST_SCALE))
        return value, np.uint8(np.clip(round(-wanted.low / float(value)), 0, 255))

    def _integer_weights(self, copy: Any, node: Any, *, flatten: bool = False) -> None:
        """Replace weights and bias of `copy` by those of `node` as integers, with DequantizeLinear nodes."""
        style = self._style
        weights = self._index.array(node.input[1])
        if flatten:
            weights = weights.reshape(weights.shape[0], -1)
        axis = 0 if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)) else 1
        bias, foreign_bias = self._bias_of(node, weights.shape[axis])
        means = None if foreign_bias else self._means.get(node.input[0])
        layer = LayerArrays(node.op_type, weights, axis, bias, means, self._drifts.get(node.input[0]))
        activation = np.float32(self._scale(node.input[0]).value)
        found = quantize_layer(layer, levels=self._levels, input_scale=float(activation), integer_bias=style.integer_bias)
        base = f"{node.output[0]}_weight"
        if style.float_weights:
            copy.input[1] = self._rounded(base, node.input[1], found.scales, axis)
        else:
            copy.input[1] = self._dequantized(base, found.integers, found.scales, axis)
        if found.bias is None or (found.bias is bias and not style.integer_bias):
            return
        if style.integer_bias:
            products = (found.scales * activation).astype(np.float32)
            counts = np.round(found.bias.astype(np.float64) / products).astype(np.int32)
            named = self._dequantized(f"{node.output[0]}_bias", counts, products, 0)
        else:
            named = self._constant(f"{node.output[0]}_bias_corrected", found.bias)
        copy.input[:] = [*copy.input[:2], named]

    def _bias_of(self, node: Any, channels: int) -> tuple[Array | None, bool]:
        """The bias of `node`, one value per output channel, and whether it has another kind of bias that has to stay."""
        if len(node.input) < 3 or not node.input[2]:
            return None, False
        bias = self._index.array(node.input[2]) if node.input[2] in self._index.weights else None
        return (bias, False) if bias is not None and bias.shape == (channels,) else (None, True)

    def _rounded(self, base: str, weights: str, scales: Array, axis: int) -> str:
        """Float weights -> QuantizeLinear -> DequantizeLinear, by output channel."""
        constants = [
            self._constant(f"{base}_scales", scales),
            self._constant(f"{base}_zero_points", np.zeros(len(scales), np.int8)),
        ]
        make = self._onnx.helper.make_node
        self._nodes.append(make("QuantizeLinear", [weights, *constants], [f"{base}_integers"], name=f"{base}_Q", axis=axis))
        inputs = [f"{base}_integers", *constants]
        self._nodes.append(make("DequantizeLinear", inputs, [base], name=f"{base}_DQ", axis=axis))
        return base

    def _dequantized(self, base: str, integers: Array, scales: Array, axis: int) -> str:
        constants = [
            self._constant(f"{base}_integers", integers),
            self._constant(f"{base}_scales", scales),
            self._constant(f"{base}_zero_points", np.zeros(len(scales), integers.dtype)),
        ]
        node = self._onnx.helper.make_node("DequantizeLinear", constants, [base], name=f"{base}_DQ", axis=axis)
        self._nodes.append(node)
        return base

    def _constant(self, name: str, value: Any) -> str:
        self._constants[name] = self._onnx.numpy_helper.from_array(np.asarray(value), name)
        return name
