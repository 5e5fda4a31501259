"""Moving scales between neighbouring layers, so that channels that share one activation scale reach about as far.

A tensor's channel c is divided by s_c in the layer that makes it and multiplied by s_c in the layers that read it: the
function stays the same. Between two convolutions, also across a ReLU (not a ReLU6, which cuts all channels at one height),
this is cross-layer equalization (Nagel et al. 2019, arXiv:1906.04721); between a LayerNorm and the layers behind it,
smoothing (Xiao et al. 2023, arXiv:2211.10438).
Knows graphs and arrays; what channels reach is measured elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.onnx_graph.model import GraphIndex, attribute, import_onnx
from edge_mtl.quantization.layers import channel_axis, is_layer

__all__ = ["Junction", "apply_scales", "choose_scales", "junctions"]

Array = np.ndarray

_KINDS = ("Conv", "Gemm", "MatMul")
_LARGEST_SCALE = 32.0
"""Scales stay within this factor of one another, or dead channels would blow up weights for nothing."""


@dataclass(frozen=True, slots=True)
class Junction:
    """A tensor whose channels may be scaled.

    Attributes:
        tensor: its name; its readers are layers, behind Relu, Reshape and Transpose at most.
        axis: of its channels.
        producer: the Conv or LayerNormalization that makes it.
        readers: (node, for each of its input features the channel it comes from).
    """

    tensor: str
    axis: int
    producer: Any
    readers: tuple[tuple[Any, Array], ...]


def junctions(index: GraphIndex) -> list[Junction]:
    """Every tensor of the graph whose scale can move, in the graph's order."""
    found = []
    for node in index.nodes:
        if node.op_type == "Conv" and is_layer(node, index, _KINDS):
            axis, channels = 1, _first_side(node, index)
        elif node.op_type == "LayerNormalization" and _is_affine(node, index):
            axis, channels = -1, _first_side(node, index)
        else:
            continue
        tensor = node.output[0]
        shape = index.shapes.get(tensor, ())
        if not all(shape) or shape[axis:][:1] != (channels,) or tensor in index.outputs:
            continue
        side = [channels if dimension == axis % len(shape) else 1 for dimension in range(len(shape))]
        marks = np.broadcast_to(np.arange(channels, dtype=np.int32).reshape(side), shape)
        readers = _readers(tensor, marks, index)
        if readers:
            found.append(Junction(tensor, axis, node, tuple(readers)))
    return found


def _first_side(node: Any, index: GraphIndex) -> int:
    """Of a layer's weights; 0 where they have none."""
    return int(next(iter(index.weights[node.input[1]].dims), 0))


def choose_scales(index: GraphIndex, reach: Mapping[str, Array], *, strength: float) -> dict[str, Array]:
    """Scales by tensor, (C,) float32 around 1, from how far each channel reaches.

    A depthwise reader has a weight scale per channel, so all of the spread moves into it. Other readers share a scale
    over channels: their weights take `strength` of the spread, s = reach^strength / weight^(1 - strength).
    """
    scales = {}
    for junction in junctions(index):
        if junction.tensor not in reach:
            continue
        spread = np.maximum(reach[junction.tensor], 1e-5)
        if not all(_is_depthwise(node) for node, _ in junction.readers):
            weight = np.maximum(_weight_reach(junction, index), 1e-5)
            spread = spread**strength / weight ** (1.0 - strength)
        spread = spread / np.exp(np.log(spread).mean())
        scales[junction.tensor] = np.clip(spread, 1 / _LARGEST_SCALE, _LARGEST_SCALE).astype(np.float32)
    return scales


def apply_scales(model: Any, index: GraphIndex, scales: Mapping[str, Array]) -> None:
    """Write scales into the weights of `model`, which is changed; `index` is of the model as it was."""
    numpy_helper = import_onnx().numpy_helper
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    shared: dict[str, int] = {}
    for node in index.nodes:
        for name in node.input:
            shared[name] = shared.get(name, 0) + 1

    def change(name: str, factor: Array) -> None:
        array = numpy_helper.to_array(weights[name]) * factor
        weights[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))

    for junction in junctions(index):
        scale = scales.get(junction.tensor)
        touched = [*junction.producer.input[1:3], *(node.input[1] for node, _ in junction.readers)]
        if scale is None or any(shared[name] > 1 for name in touched):
            continue
        for name in junction.producer.input[1:3]:
            change(name, (1.0 / scale).reshape([-1] + [1] * (len(weights[name].dims) - 1)))
        for node, channels in junction.readers:
            change(node.input[1], _along_inputs(node, scale[channels], len(weights[node.input[1]].dims)))


def _is_affine(node: Any, index: GraphIndex) -> bool:
    parameters = [index.weights.get(name) for name in node.input[1:3]]
    return len(parameters) == 2 and all(value is not None and len(value.dims) == 1 for value in parameters)


def _readers(tensor: str, marks: Array, index: GraphIndex) -> list[tuple[Any, Array]]:
    """The layers that read `tensor`, with the channel each of their input features is; empty if anything else reads it."""
    found: list[tuple[Any, Array]] = []
    todo = [(tensor, marks)]
    while todo:
        name, marked = todo.pop(0)
        if name in index.outputs:
            return []
        for node in index.consumers.get(name, []):
            if node.op_type in ("Relu", "Identity"):
                todo.append((node.output[0], marked))
            elif node.op_type == "Reshape" and math.prod(shape := index.shapes.get(node.output[0], (0,))) == marked.size:
                todo.append((node.output[0], marked.reshape(shape)))
            elif node.op_type == "Transpose":
                order = list(attribute(node, "perm", [])) or [*range(marked.ndim)][::-1]
                if sorted(order) != [*range(marked.ndim)]:
                    return []
                todo.append((node.output[0], marked.transpose(order)))
            elif node.input[0] == name and is_layer(node, index, _KINDS):
                axis = channel_axis(node)
                if not -marked.ndim <= axis < marked.ndim:
                    return []
                features = np.moveaxis(marked, axis, 0).reshape(marked.shape[axis], -1)
                sides = index.weights[node.input[1]].dims
                if list(sides[_input_axis(node) :][:1]) != [len(features)] or not (features == features[:, :1]).all():
                    return []
                if node.op_type == "Conv" and attribute(node, "group", 1) != 1 and not _is_depthwise(node):
                    return []
                found.append((node, features[:, 0]))
            else:
                return []
    return found


def _is_depthwise(node: Any) -> bool:
    return node.op_type == "Conv" and attribute(node, "group", 1) > 1


def _weight_reach(junction: Junction, index: GraphIndex) -> Array:
    """(C,) float64, largest magnitude of the readers' weights by channel of the junction."""
    channels = index.weights[junction.producer.input[1]].dims[0]
    reach = np.zeros(channels)
    for node, sources in junction.readers:
        weights = np.abs(index.array(node.input[1]))
        axis = _input_axis(node)
        by_feature = np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1).max(axis=1)
        np.maximum.at(reach, sources, by_feature)
    return reach


def _input_axis(node: Any) -> int:
    """Which axis of a layer's weights counts input features; for depthwise convolutions the first, one per channel."""
    if node.op_type == "Conv":
        return 0 if _is_depthwise(node) else 1
    return 1 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 0


def _along_inputs(node: Any, factor: Array, dimensions: int) -> Array:
    axis = _input_axis(node)
    return factor.reshape([-1 if dimension == axis else 1 for dimension in range(dimensions)])
