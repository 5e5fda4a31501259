"""ONNX graphs as data: reading, facts about them, look-up of producers and consumers. Knows nothing about runtimes.

The `onnx` package comes with the extra "build" and is asked for here first (`import_onnx`), when it is needed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError, BundleError
from edge_mtl.onnx_graph.allowlist import MAX_ELEMENTS, check_graph
from edge_mtl.packages import import_package

__all__ = ["GraphFacts", "GraphIndex", "attribute", "facts", "import_onnx", "load", "parse"]

_NEEDED = ("ModelProto", "TensorProto", "checker", "helper", "load_model_from_string", "numpy_helper", "shape_inference")


def import_onnx() -> Any:
    """The `onnx` package. Raises BackendUnavailable with the command that installs or repairs it, where it cannot be used."""
    return import_package("onnx", *_NEEDED, use="Quantizing needs the package onnx", install="edge-mtl[build]")


def parse(model: bytes, *, name: str) -> Any:
    """An ONNX ModelProto from bytes, with inferred shapes.

    Args:
        name: of the model, for messages.
    Raises:
        BuildError: not an ONNX model, one that `edge_mtl.onnx_graph.allowlist` refuses, or one that breaks ONNX's rules: nodes
            out of order, attributes of other types, tensors of two makers, shapes that no memory holds.
        BackendUnavailable: the package onnx is missing.
    """
    onnx = import_onnx()
    proto = load(model, name=name)
    try:
        onnx.checker.check_model(proto)
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
        _check_sizes(inferred)
        return inferred
    except Exception as exc:  # protobuf and onnx raise many kinds
        raise _unusable(name, exc) from exc


def load(model: bytes, *, name: str) -> Any:
    """An ONNX ModelProto as it is written: only `edge_mtl.onnx_graph.allowlist` has looked at it. Raises as `parse`."""
    onnx = import_onnx()
    try:
        check_graph(model, name=name)
        return onnx.load_model_from_string(model)
    except BundleError as exc:
        raise BuildError(str(exc)) from exc
    except Exception as exc:  # protobuf and onnx raise many kinds
        raise _unusable(name, exc) from exc


def _unusable(name: str, exc: Exception) -> BuildError:
    why = " ".join(f"{type(exc).__name__}: {exc}".split())[:200]
    return BuildError(f"{name} is not a usable ONNX model ({why}). Export the bundle again.")


def _check_sizes(proto: Any) -> None:
    """Raises ValueError where a tensor is described that no memory holds."""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        sides = [side.dim_value for side in value.type.tensor_type.shape.dim]
        if any(side < 0 for side in sides) or math.prod(sides) > MAX_ELEMENTS:
            raise ValueError(f"{value.name} has the shape {sides}")


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """What a graph holds, to check that a build got the precision asked for.

    Attributes:
        operators: how many nodes of each type.
        integer_layers: Conv, Gemm and MatMul whose data and weights both come from DequantizeLinear.
        float_layers: the other Conv, Gemm and MatMul with constant weights.
    """

    operators: dict[str, int]
    quantize_nodes: int
    dequantize_nodes: int
    integer_layers: int
    float_layers: int

    def describe(self) -> str:
        """One line for reports."""
        layers = f"{self.integer_layers} integer and {self.float_layers} float layers"
        return f"{layers}, {self.quantize_nodes} Q, {self.dequantize_nodes} DQ"


def facts(model: bytes, *, name: str = "model") -> GraphFacts:
    """Count what is in a graph. Raises as `parse` does."""
    index = GraphIndex(parse(model, name=name))
    operators = Counter(node.op_type for node in index.nodes)
    integer = floating = 0
    for node in index.nodes:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            sources = [index.producer_type(tensor) for tensor in node.input[:2]]
            if sources == ["DequantizeLinear"] * 2:
                integer += 1
            elif node.input[1] in index.weights or sources[1] == "DequantizeLinear":
                floating += 1
    return GraphFacts(dict(operators), operators["QuantizeLinear"], operators["DequantizeLinear"], integer, floating)


class GraphIndex:
    """Producers, consumers and weights of one graph by tensor name. Built once; not updated when the graph changes."""

    def __init__(self, model: Any) -> None:
        onnx = import_onnx()
        graph = model.graph
        self.nodes: list[Any] = list(graph.node)
        self.inputs: tuple[str, ...] = tuple(value.name for value in graph.input)
        self.outputs: tuple[str, ...] = tuple(value.name for value in graph.output)
        self.producer: dict[str, Any] = {tensor: node for node in self.nodes for tensor in node.output if tensor}
        self.consumers: dict[str, list[Any]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.input):
                if tensor:
                    self.consumers.setdefault(tensor, []).append(node)
        floating = onnx.TensorProto.FLOAT
        self.weights: dict[str, Any] = {
            tensor.name: tensor for tensor in graph.initializer if tensor.data_type == floating and len(tensor.dims) >= 1
        }
        self.scalars: dict[str, float] = {
            tensor.name: float(onnx.numpy_helper.to_array(tensor))
            for tensor in graph.initializer
            if tensor.data_type == floating and not tensor.dims
        }
        typed = [*graph.value_info, *graph.input, *graph.output]
        self.shapes: dict[str, tuple[int, ...]] = {
            value.name: tuple(side.dim_value for side in value.type.tensor_type.shape.dim) for value in typed
        }

    def producer_type(self, tensor: str) -> str:
        """Operator that makes `tensor`, "" for inputs and weights."""
        node = self.producer.get(tensor)
        return str(node.op_type) if node is not None else ""

    def only_consumer(self, tensor: str) -> Any | None:
        """The node that alone reads `tensor`; None if there are several, or if it is an output of the graph."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def layers_before(self, output: str, count: int, layers: Iterable[Any]) -> set[str]:
        """Names (first outputs) of the `count` last of `layers` on each way to the graph's output `output`."""
        among = {node.output[0] for node in layers}
        found: set[str] = set()
        seen: set[tuple[str, int]] = set()
        todo = [(output, count)]
        while todo:
            tensor, left = todo.pop()
            node = self.producer.get(tensor)
            if node is None or left <= 0 or (tensor, left) in seen:
                continue
            seen.add((tensor, left))
            if node.output[0] in among:
                found.add(node.output[0])
                left -= 1
            todo += [(source, left) for source in node.input if source and source not in self.weights]
        return found

    def array(self, weight: str) -> np.ndarray:
        """Values of a constant."""
        return np.asarray(import_module("onnx.numpy_helper").to_array(self.weights[weight]))


def attribute(node: Any, name: str, default: Any) -> Any:
    """Value of a node's attribute, or `default`."""
    for item in node.attribute:
        if item.name == name:
            return import_onnx().helper.get_attribute_value(item)
    return default
