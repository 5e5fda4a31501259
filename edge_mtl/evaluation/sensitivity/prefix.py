"""The part of a graph in front of a block, run once in FP32 and remembered, so that only what follows is run again.

Knows graphs and tensors; knows nothing about quantization or metrics. A few cuts are chosen where little crosses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.onnx_graph.model import GraphIndex, attribute, import_onnx, parse
from edge_mtl.quantization.layers import layer_name

__all__ = ["Cut", "choose_cuts", "cut_before", "suffix"]

_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Cut:
    """A place between two nodes of a graph.

    Attributes:
        position: how many nodes come before it.
        tensors: what crosses it: outputs of earlier nodes or inputs of the graph that later nodes read.
        work: share of the graph's multiplications that lie before it, 0..1.
        size_bytes: of the tensors.
    """

    position: int
    tensors: tuple[str, ...]
    work: float
    size_bytes: int


def choose_cuts(deploy_model: bytes, *, count: int = 8, limit_bytes: int = 6 << 20) -> tuple[Cut, ...]:
    """Up to `count` cuts with at most `limit_bytes` across each, spread evenly over the graph's work, in its order.

    Raises:
        BuildError: the graph cannot be used.
    """
    index = GraphIndex(parse(deploy_model, name="the optimized ONNX"))
    every = [cut for cut in _cuts(index) if cut.position and cut.size_bytes <= limit_bytes and cut.tensors]
    chosen: dict[int, Cut] = {}
    for number in range(count):
        wanted = (number + 0.5) / count
        near = [cut for cut in every if abs(cut.work - wanted) <= 0.5 / count]
        if near:
            best = min(near, key=lambda cut: (cut.size_bytes, -cut.position))
            chosen[best.position] = best
    return tuple(chosen[position] for position in sorted(chosen))


def cut_before(deploy_model: bytes, layers: Iterable[str], cuts: Sequence[Cut]) -> Cut | None:
    """The last of `cuts` in front of all of `layers`; None where there is none."""
    index = GraphIndex(parse(deploy_model, name="the optimized ONNX"))
    wanted = set(layers)
    first = next((at for at, node in enumerate(index.nodes) if len(node.input) > 1 and layer_name(node, index) in wanted), 0)
    before = [cut for cut in cuts if cut.position <= first]
    return before[-1] if before else None


def suffix(model: bytes, deploy_model: bytes, cut: Cut) -> bytes:
    """What of `model` comes after `cut`, with the cut's tensors as inputs.

    Args:
        model: the optimized ONNX with nodes added or changed after the cut only.
    Raises:
        BuildError: the graph cannot be used.
    """
    onnx = import_onnx()
    shapes = GraphIndex(parse(deploy_model, name="the optimized ONNX")).shapes
    proto = parse(model, name="the quantized graph")
    graph = proto.graph
    wanted, alive = {output.name for output in graph.output}, []
    for node in reversed(graph.node):
        if wanted & (set(node.output) - set(cut.tensors)):
            alive.append(node)
            wanted |= {name for name in node.input if name}
    constants = [tensor for tensor in graph.initializer if tensor.name in wanted]
    fed = [name for name in cut.tensors if name in wanted]
    del graph.node[:], graph.initializer[:], graph.value_info[:], graph.input[:]
    graph.node.extend(alive[::-1])
    graph.initializer.extend(constants)
    make = onnx.helper.make_tensor_value_info
    graph.input.extend(make(name, onnx.TensorProto.FLOAT, list(shapes[name])) for name in fed)
    return bytes(proto.SerializeToString())


def _cuts(index: GraphIndex) -> list[Cut]:
    """Every place between two nodes."""
    last_use = {name: at for at, node in enumerate(index.nodes) for name in node.input if name}
    last_use |= dict.fromkeys(index.outputs, len(index.nodes))
    work = np.cumsum([0.0, *(_work(node, index) for node in index.nodes)])
    total = max(float(work[-1]), 1.0)
    live = set(index.inputs)
    cuts = []
    for at, node in enumerate(index.nodes):
        crossing = tuple(name for name in live if last_use.get(name, -1) >= at)
        sizes = [int(np.prod(index.shapes.get(name, (1 << 40,)))) * _FLOAT_BYTES for name in crossing]
        cuts.append(Cut(at, tuple(sorted(crossing)), float(work[at]) / total, sum(sizes)))
        live = {name for name in live if last_use.get(name, -1) > at} | {name for name in node.output if name in last_use}
    return cuts


def _work(node: Any, index: GraphIndex) -> float:
    """Multiplications of a layer or product, about."""
    outputs = float(np.prod(index.shapes.get(node.output[0], (0,))))
    if node.op_type == "Conv" and node.input[1] in index.weights:
        return outputs * float(np.prod(index.weights[node.input[1]].dims[1:]))
    if node.op_type in ("Gemm", "MatMul"):
        source = index.shapes.get(node.input[0], (0,))
        return outputs * float(source[0 if attribute(node, "transA", 0) else -1])
    return outputs
