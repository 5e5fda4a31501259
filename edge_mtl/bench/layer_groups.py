"""Which part of the network a layer belongs to: a stage of the backbone, the neck, a head, pre- or post-processing.

Read from the ONNX graph: exporters number the nodes but keep the names of weights, and what has no weights belongs to
the part that feeds it. Quantizing gives weights new names and keeps those of nodes and tensors, so an engine's layers are
looked up in the graph that it was made of. Runtimes fuse and rename nodes: a name is looked up as it is, then without what
they add. Knows graphs and names; knows nothing about times.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge_mtl.bench.op_types import DEPTHWISE, PRODUCT_OF_TWO
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import import_onnx
from edge_mtl.tasks import TASK_NAMES
from edge_mtl.tasks.kind import TASK_NAME

__all__ = ["BETWEEN", "NECK", "PARTS", "POST", "PRE", "LayerGroupMap", "in_order", "totals"]

PRE, NECK, POST, OTHER, BETWEEN = "pre-processing", "neck", "post-processing", "other", "between layers"
_STAGES = tuple(f"backbone stage {number}" for number in range(1, 5))
PARTS: tuple[str, ...] = (PRE, *_STAGES, OTHER, NECK, *(f"{task} head" for task in TASK_NAMES), POST, BETWEEN)
"""The parts, in the order data passes them; "between layers" is time that the runtime gives to no layer.

Heads of tasks with other names come before post-processing, see `in_order`.
"""

_TASKS = "|".join(TASK_NAMES)
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"backbone\.(?:net\.)?(?:patch_embed|conv1|bn1)\b"), _STAGES[0]),
    (re.compile(r"backbone\.(?:net\.)?(?:embeddings|blocks|norms|stages)[._](\d+)\b"), "backbone stage {from_zero}"),
    (re.compile(r"backbone\.(?:net\.)?layer(\d+)\b"), "backbone stage {from_one}"),
    (re.compile(rf"(?:^|\.)({_TASKS})\."), "{task} head"),
    (re.compile(rf"(?:^|\.)(?:heads|branches|enter|messages)\.({TASK_NAME.pattern})\."), "{task} head"),
    (re.compile(r"(?:^|\.)decoder\."), NECK),
)
_PARAMETER = re.compile(r"\.(?:weight|bias|weight_bias)(?:_|$)")
_ADDED = re.compile(
    r"(?:/\w+/?|_nchwc|_token_\d+|_quant|_QuantizeLinear\w*|_d?q|_D?Q|_(?:de)?quantized|_weight|_DequantizeLinear\w*|_abcd\w*|_acdb\w*|___.*)$"
)
_ACTIVATIONS = ("Clip", "Exp", "Softplus", "Relu", "Sigmoid", "QuantizeLinear", "DequantizeLinear", "Identity")


class LayerGroupMap:
    """The parts of one graph's nodes and tensors, by name."""

    def __init__(self, model: bytes) -> None:
        """Read the graph.

        Raises:
            BuildError: it cannot be read.
            BackendUnavailable: the package onnx is missing.
        """
        onnx = import_onnx()
        try:
            graph = onnx.load_model_from_string(model).graph
        except Exception as exc:
            raise BuildError(f"The graph is not a usable ONNX model ({type(exc).__name__}). Export the bundle again.") from exc
        self._parts: dict[str, str] = {}
        nodes = list(graph.node)
        constants = {tensor.name for tensor in graph.initializer}
        own = _own_parts(nodes, constants)
        self._operators: dict[str, str] = {}
        for node in nodes:
            self._operators |= dict.fromkeys(filter(None, (node.name, *node.output)), _operator(node, constants))
        useful = _feeds_a_layer(nodes, own)
        tensors: dict[str, str] = {}
        for place, node in enumerate(nodes):
            before = [tensors[name] for name in node.input if name in tensors]
            part = own[place] or max(before, key=_place, default=PRE)
            if not own[place] and not useful[place] and node.op_type not in _ACTIVATIONS and part != PRE:
                part = POST
            for name in node.output:
                tensors[name] = part
            self._parts |= dict.fromkeys(filter(None, (node.name, *node.output)), part)

    def part(self, names: Iterable[str]) -> str | None:
        """The part of a layer with any of these names; None where no name is known."""
        found = [part for name in names if (part := self._look_up(name, self._parts)) is not None]
        return max(found, key=_place, default=None)

    def group(self, layers: Sequence[Sequence[str]]) -> list[str]:
        """The part of each layer, given the names of each in the order they ran.

        A layer whose names tell nothing (a change of memory layout, say) goes with the layer before it.
        """
        found: list[str] = []
        last = PRE
        for names in layers:
            last = self.part(names) or last
            found.append(last)
        return found

    def operators(self, names: Iterable[str]) -> frozenset[str]:
        """Types of the nodes that a layer with these names was made of, as `edge_mtl.bench.op_types` calls them."""
        return frozenset(found for name in names if (found := self._look_up(name, self._operators)) is not None)

    def _look_up(self, name: str, known: Mapping[str, str]) -> str | None:
        while name:
            if name in known:
                return known[name]
            shorter = _ADDED.sub("", name)
            if shorter == name:
                return None
            name = shorter
        return None


def _operator(node: Any, constants: set[str]) -> str:
    """What `edge_mtl.bench.op_types` calls the operator of a node."""
    if node.op_type == "Conv" and any(item.name == "group" and item.i > 1 for item in node.attribute):
        return DEPTHWISE
    if node.op_type == "MatMul" and not constants.intersection(node.input):
        return PRODUCT_OF_TWO
    return str(node.op_type)


def _own_parts(nodes: Sequence[Any], constants: set[str]) -> list[str | None]:
    """The part that the names of a node's weights tell; None for nodes without weights."""
    named: dict[str, tuple[str, ...]] = {name: (name,) for name in constants}
    found: list[str | None] = []
    for node in nodes:
        names = tuple(origin for tensor in node.input for origin in named.get(tensor, ()))
        if all(tensor in named for tensor in node.input if tensor):
            named |= dict.fromkeys(node.output, names)  # still a constant: weights behind a DequantizeLinear, say
        found.append(_part_of(names))
    return found


def _part_of(names: Iterable[str]) -> str | None:
    parameters = [name for name in names if _PARAMETER.search(name)]
    for name in parameters:
        for pattern, text in _PATTERNS:
            if (match := pattern.search(name)) is not None:
                group = match.group(1) if match.groups() else ""
                number = int(group) if group.isdigit() else 0
                return text.format(from_zero=number + 1, from_one=number, task=group)
    return OTHER if parameters else None


def _feeds_a_layer(nodes: Sequence[Any], own: Sequence[str | None]) -> list[bool]:
    """Whether a node with weights comes after each node."""
    wanted: set[str] = set()
    found = [False] * len(nodes)
    for place in range(len(nodes) - 1, -1, -1):
        node = nodes[place]
        found[place] = any(name in wanted for name in node.output)
        if found[place] or own[place]:
            wanted |= set(node.input)
    return found


def totals(parts: Sequence[str], seconds: Sequence[float]) -> Mapping[str, float]:
    """Seconds by part, `in_order`; parts without a layer are left out."""
    sums: dict[str, float] = {}
    for part, spent in zip(parts, seconds, strict=True):
        sums[part] = sums.get(part, 0.0) + spent
    return {part: sums[part] for part in in_order(sums)}


def in_order(parts: Iterable[str]) -> list[str]:
    """Parts in the order data passes them; heads that `PARTS` does not name before post-processing, by name."""
    return sorted(parts, key=_place)


def _place(part: str) -> tuple[int, str]:
    return (PARTS.index(part), "") if part in PARTS else (PARTS.index(POST) - 1, part)
