"""Which tensors of a graph become integers, in which Q/DQ style. Knows graphs and recipes; writes no nodes.

ONNX Runtime runs a convolution in INT8 only if its output is quantized too, so there the outputs of convolutions and
of the element-wise operators between them are quantized; its Gemm gives floats by itself, which attention and the
residual sums want. OpenVINO fuses what follows a layer into it, so there only the layers' inputs are quantized; its integer
Gemm was no faster than its bfloat16 one (AMX) nor, at these sizes, than FP32, so only convolutions are. TensorRT fuses
likewise and wants nothing but the inputs of layers, with LayerNorm, softmax, GELU and residual sums in floating point.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from edge_mtl.backends import QdqStyle, style_of
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, attribute
from edge_mtl.quantization.layers import is_layer, is_product, layer_name, matching
from edge_mtl.quantization.recipes import Placement, Recipe, Target

__all__ = ["Plan", "ceiling", "place"]


@dataclass(slots=True)
class Plan:
    """What to quantize.

    Attributes:
        layers: nodes with weights that run in INT8.
        products: nodes that multiply two activations and run in INT8.
        inputs: tensors quantized for those layers only; everyone else reads the floats.
        outputs: tensors quantized for all their readers.
        shared: tensors among `outputs` that take scale and zero point from another one.
        folded: Relu nodes, and Clip nodes from zero (ReLU6), that vanish because the range of their output starts at zero; a
            Clip only where that range also ends below its `ceiling`.
        gelus: Gelu nodes between two quantized tensors, done in INT8.
        tokens: by output of a 1x1 convolution, the Transpose to channels-last behind it: both become one Gemm on pixels.
    """

    layers: list[Any] = field(default_factory=list)
    products: list[Any] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    shared: dict[str, str] = field(default_factory=dict)
    folded: list[Any] = field(default_factory=list)
    gelus: list[Any] = field(default_factory=list)
    tokens: dict[str, Any] = field(default_factory=dict)

    @property
    def ranged(self) -> list[str]:
        """Tensors whose range must be known."""
        return [name for name in dict.fromkeys([*self.outputs, *self.inputs]) if name not in self.shared]


def place(index: GraphIndex, recipe: Recipe, *, target: Target) -> Plan:
    """Decide what to quantize.

    Raises:
        BuildError: nothing is left to quantize, or `target` is unknown.
    """
    placement, style = recipe.placement, style_of(target)
    plan = Plan(layers=_layers(index, recipe, style))
    if style.products and placement.products:
        plan.products = [node for node in index.nodes if is_product(node, index) and not _excluded(node, index, recipe)]
    if not plan.layers:
        raise BuildError("The recipe leaves no layer to quantize. Loosen placement.op_types, exclude, float_tail or layers.")
    if style.outputs:
        _place_outputs(index, placement, plan)
    integers = set(plan.outputs)
    if style.outputs and "Gelu" in placement.element_wise:
        plan.gelus = [node for node in index.nodes if node.op_type == "Gelu" and _between_integers(node, index, plan)]
    read = [node.input[0] for node in plan.layers] + [name for node in plan.products for name in node.input[:2]]
    plan.inputs = [name for name in dict.fromkeys(read) if name not in integers]
    return plan


def _layers(index: GraphIndex, recipe: Recipe, style: QdqStyle) -> list[Any]:
    """The nodes that run in INT8: what placement says, then what overrides say about single layers."""
    placement = recipe.placement
    kinds = [kind for kind in placement.op_types if kind in style.op_types]
    layers = [node for node in index.nodes if is_layer(node, index, kinds)]
    floating: set[str] = set()
    for output in index.outputs:
        counts = [count for pattern, count in placement.float_tail.items() if fnmatchcase(output, pattern)]
        if counts:
            floating |= index.layers_before(output, counts[-1], layers)
    patterns = [re.compile(pattern) for pattern in placement.exclude]
    found = []
    for node in layers:
        said = [override.precision for override in matching(layer_name(node, index), recipe.layers) if override.precision]
        floats = node.output[0] in floating or any(pattern.match(node.name) for pattern in patterns)
        if (said[-1] == "int8") if said else not floats:
            found.append(node)
    return found


def _excluded(node: Any, index: GraphIndex, recipe: Recipe) -> bool:
    said = [override.precision for override in matching(layer_name(node, index), recipe.layers) if override.precision]
    if said:
        return said[-1] == "float"
    return any(re.compile(pattern).match(node.name) for pattern in recipe.placement.exclude)


def _place_outputs(index: GraphIndex, placement: Placement, plan: Plan) -> None:
    """One walk in the graph's order: a node's inputs are decided before it is met."""
    layers = {node.output[0] for node in plan.layers}
    integers: set[str] = set()
    for node in index.nodes:
        tensor = node.output[0]
        if node.op_type == "Conv" and tensor in layers and (transpose := _to_channels_last(node, index)) is not None:
            plan.tokens[tensor] = transpose
        elif node.op_type == "Conv" and tensor in layers:
            integers.add(_quantize_output(tensor, index, placement, plan))
        elif node.op_type in placement.element_wise and node.op_type not in ("Gelu", "Relu") and _data_inputs(node) <= integers:
            if node.op_type != "Resize":
                integers.add(_quantize_output(tensor, index, placement, plan))
            elif attribute(node, "mode", b"nearest") == b"nearest":
                plan.outputs.append(tensor)
                plan.shared[tensor] = node.input[0]
                integers.add(tensor)


def ceiling(node: Any, index: GraphIndex) -> float | None:
    """Above which value a Relu (infinity) or a Clip from zero (6 in a ReLU6) cuts; None for any other node."""
    if node.op_type == "Relu":
        return math.inf
    if node.op_type != "Clip" or len(node.input) < 2 or index.scalars.get(node.input[1]) != 0.0:
        return None
    return index.scalars.get(node.input[2]) if len(node.input) > 2 and node.input[2] else math.inf


def _to_channels_last(node: Any, index: GraphIndex) -> Any | None:
    """The Transpose to channels-last that alone reads a 1x1 convolution; None for everything else.

    Done as a Gemm such a layer gives floats, which the residual sum behind it wants, where a convolution would give bytes.
    """
    weight = index.weights[node.input[1]]
    plain = attribute(node, "group", 1) == 1 and set(attribute(node, "strides", [1, 1])) == {1}
    if list(weight.dims[2:]) != [1, 1] or not plain or any(attribute(node, "pads", [0])):
        return None
    reader = index.only_consumer(node.output[0])
    if reader is None or reader.op_type != "Transpose" or list(attribute(reader, "perm", [])) != [0, 2, 3, 1]:
        return None
    return reader if all(index.shapes.get(reader.output[0], (0,))) else None


def _between_integers(node: Any, index: GraphIndex, plan: Plan) -> bool:
    """Whether `node` reads a quantized tensor and only integer layers read its output."""
    layers = {layer.output[0] for layer in plan.layers}
    readers = index.consumers.get(node.output[0], [])
    only_data = all(reader.output[0] in layers and reader.input[0] == node.output[0] for reader in readers)
    return node.input[0] in plan.outputs and node.output[0] not in index.outputs and bool(readers) and only_data


def _data_inputs(node: Any) -> set[str]:
    """Inputs of `node` that are activations; the sizes and scales of a Resize are not."""
    return set(node.input[:1]) if node.op_type == "Resize" else set(node.input)


def _quantize_output(tensor: str, index: GraphIndex, placement: Placement, plan: Plan) -> str:
    """Quantize `tensor`, or the output of the Relu or ReLU6 that alone reads it; returns what was quantized."""
    reader = index.only_consumer(tensor)
    if reader is not None and ceiling(reader, index) is not None and "Relu" in placement.element_wise:
        plan.folded.append(reader)
        tensor = reader.output[0]
    plan.outputs.append(tensor)
    return tensor
