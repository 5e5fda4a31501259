"""A graph cut down to some of its outputs: the nodes and weights that only the others needed are gone.

A runtime computes every node of a graph, whichever outputs it is asked for. Works on the bytes, without any ONNX library, as
engines are opened where none is installed; what stays is copied byte for byte, in its order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from edge_mtl.errors import BundleError
from edge_mtl.onnx_graph.wire import ANNOTATION, GRAPH, MODEL, NODE, TENSOR, VALUE, Message, Refused, fields, written

__all__ = ["cut_to", "output_names"]

_GRAPH_FIELD = 7
_NODE, _INITIALIZER, _OUTPUT, _VALUE_INFO, _ANNOTATION = 1, 5, 12, 13, 14
_NAMED: dict[int, tuple[Message, int]] = {
    _INITIALIZER: (TENSOR, 8),
    _OUTPUT: (VALUE, 1),
    _VALUE_INFO: (VALUE, 1),
    _ANNOTATION: (ANNOTATION, 1),
}
"""Fields of a graph that belong to one tensor, and which field of theirs names it."""


@dataclass(frozen=True, slots=True)
class _Node:
    """The names of one node's tensors; "" stands for an input that is left out."""

    inputs: tuple[bytes, ...]
    outputs: tuple[bytes, ...]


def output_names(model: bytes) -> tuple[str, ...]:
    """Names of a graph's outputs. Raises BundleError where it is no ONNX model."""
    try:
        found = [_name(model, field, first, last) for field, first, last in _graph(model) if field == _OUTPUT]
        return tuple(name.decode() for name in found)
    except (Refused, UnicodeDecodeError) as exc:
        raise BundleError(f"The graph's outputs cannot be read: {exc}. Export the bundle again.") from exc


def cut_to(model: bytes, outputs: Collection[str]) -> bytes:
    """`model` with these outputs alone, and with what they need.

    Args:
        model: an ONNX file that `edge_mtl.onnx_graph.allowlist` lets pass: no graphs within its graph.
        outputs: some of `output_names`.
    Raises:
        BundleError: it is no ONNX model, or it has not all of these outputs.
        ValueError: `outputs` is empty.
    """
    if not outputs:
        raise ValueError("a graph should keep at least one output; found none")
    if missing := [name for name in outputs if name not in output_names(model)]:
        raise BundleError(f"The graph gives no {', '.join(missing)}; found {', '.join(output_names(model))}. Export it again.")
    try:
        return _cut(model, {name.encode() for name in outputs})
    except Refused as exc:
        raise BundleError(f"The graph cannot be cut: {exc}. Export the bundle again.") from exc


def _cut(model: bytes, outputs: set[bytes]) -> bytes:
    parts = list(_graph(model))
    nodes = {first: _node(model, first, last) for field, first, last in parts if field == _NODE}
    kept = _needed(nodes, outputs)
    tensors = outputs.union(*(nodes[first].inputs + nodes[first].outputs for first in kept))
    graph: list[bytes] = []
    for field, first, last in parts:
        if field == _NODE:
            stays = first in kept
        elif field == _OUTPUT:
            stays = _name(model, field, first, last) in outputs
        else:
            stays = field not in _NAMED or _name(model, field, first, last) in tensors
        if stays:
            graph.append(written(field, model[first:last]))
    return _with_graph(model, b"".join(graph))


def _needed(nodes: dict[int, _Node], outputs: set[bytes]) -> set[int]:
    """Places of the nodes on the ways to `outputs`."""
    producers = {tensor: place for place, node in nodes.items() for tensor in node.outputs if tensor}
    needed: set[int] = set()
    todo = list(outputs)
    while todo:
        place = producers.get(todo.pop())
        if place is not None and place not in needed:
            needed.add(place)
            todo += nodes[place].inputs
    return needed


def _with_graph(model: bytes, graph: bytes) -> bytes:
    """The model with another graph; its other fields as they are."""
    found, position, done = [], 0, False
    for field, _, last in fields(model, 0, len(model), MODEL):
        if field != _GRAPH_FIELD:
            found.append(model[position:last])
        elif not done:
            found.append(written(_GRAPH_FIELD, graph))
            done = True
        position = last
    return b"".join(found)


def _graph(model: bytes) -> Iterator[tuple[int, int, int]]:
    """The fields of the graph in a model."""
    for field, start, end in fields(model, 0, len(model), MODEL):
        if field == _GRAPH_FIELD:
            yield from fields(model, start, end, GRAPH)


def _node(model: bytes, start: int, end: int) -> _Node:
    inputs, outputs = [], []
    for field, first, last in fields(model, start, end, NODE):
        if field == 1:
            inputs.append(model[first:last])
        elif field == 2:
            outputs.append(model[first:last])
    return _Node(tuple(inputs), tuple(outputs))


def _name(model: bytes, field: int, start: int, end: int) -> bytes:
    message, place = _NAMED[field]
    return next((model[first:last] for inner, first, last in fields(model, start, end, message) if inner == place), b"")
