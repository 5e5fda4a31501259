"""How much noise quantization adds, block by block: signal to quantization noise against the float graph, in decibels.

Knows graphs and tensors; knows nothing about heads or accuracy. A block ends where its result is added to the stream
(residual sums, the decoder's top-down sums) or leaves the graph: what equalization does inside a block cancels there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, parse
from edge_mtl.quantization.layers import is_layer, layer_name
from edge_mtl.quantization.statistics import open_session

__all__ = ["block_ends", "sqnr_db"]

Array = np.ndarray

_LAYERS = ("Conv", "Gemm", "MatMul")


def sqnr_db(float_model: bytes, quantized: bytes, frames: Sequence[Array], *, threads: int | None = None) -> dict[str, float]:
    """Noise at the end of every block, all quantization before it included.

    Args:
        float_model: ONNX of placement "host".
        quantized: what was made of it, with Q/DQ nodes.
        frames: (H, W, 3) uint8 RGB of the network's size.
    Returns:
        By block, in the order of the graph: 10 log10(sum x^2 / sum (x - y)^2). Blocks are named after their last layer.
        Blocks that the quantized graph computes in one piece with others are left out.
    Raises:
        BackendUnavailable: onnx or ONNX Runtime is missing.
        BuildError: a graph does not run.
    """
    model, other = parse(float_model, name="the optimized ONNX"), parse(quantized, name="the quantized graph")
    index, present = GraphIndex(model), {tensor for node in other.graph.node for tensor in node.output}
    blocks = {tensor: name for tensor, name in block_ends(index).items() if tensor in present}
    before, after = (open_session(graph, list(blocks), threads, why="Measuring noise") for graph in (model, other))
    signal, noise = np.zeros(len(blocks)), np.zeros(len(blocks))
    for frame in frames:
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
        for number, (x, y) in enumerate(zip(_run(before, blocks, planes), _run(after, blocks, planes), strict=True)):
            signal[number] += float(np.square(x, dtype=np.float64).sum())
            noise[number] += float(np.square(x - y, dtype=np.float64).sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = 10.0 * np.log10(signal / noise)
    return {name: round(float(value), 2) for name, value in zip(blocks.values(), ratios, strict=True) if np.isfinite(value)}


def block_ends(index: GraphIndex) -> dict[str, str]:
    """Name of every block by the tensor that ends it, in the order of the graph."""
    found: dict[str, str] = {}
    for node in index.nodes:
        tensor = node.output[0]
        if tensor in index.outputs:
            found[tensor] = tensor
        elif node.op_type == "Add" and not any(name in index.weights for name in node.input):
            found[tensor] = _last_layer(tensor, index) or str(node.name or tensor)
    doubles = {name for name in found.values() if list(found.values()).count(name) > 1}
    return {tensor: f"{name} ({tensor})" if name in doubles else name for tensor, name in found.items()}


def _last_layer(tensor: str, index: GraphIndex) -> str:
    """Name of the nearest layer before `tensor`, the second summand first: that is where a block's own branch is."""
    todo, seen = [tensor], {tensor}
    while todo:
        node = index.producer.get(todo.pop(0))
        if node is None:
            continue
        if is_layer(node, index, _LAYERS):
            return layer_name(node, index)
        for source in reversed(node.input):
            if source and source not in seen and source not in index.weights:
                seen.add(source)
                todo.append(source)
    return ""


def _run(session: Any, tensors: dict[str, str], planes: Array) -> list[Array]:
    try:
        return list(session.run(list(tensors), {session.get_inputs()[0].name: planes}))
    except Exception as exc:
        raise BuildError(f"A graph does not run on a frame: {str(exc).splitlines()[0]}") from exc
