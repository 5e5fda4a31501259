"""The layers of a graph: which nodes they are and what people call them. Knows graphs; decides nothing.

Exporters name nodes by number but keep the names of weights, so a layer is called after its weight:
`backbone.blocks.0.1.mlp.expand`. Where the exporter renamed the weight (a transposed Linear), its bias tells.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

from edge_mtl.onnx_graph.model import GraphIndex, attribute
from edge_mtl.quantization.recipes import LayerOverride

__all__ = ["channel_axis", "is_layer", "is_product", "layer_name", "matching", "without_layers"]

_WRAPPERS = re.compile(r"^(network\.)?(model\.)?")
_PARAMETER = re.compile(r"\.(weight|bias|weight_bias)$")


def is_layer(node: Any, index: GraphIndex, kinds: Sequence[str]) -> bool:
    """Whether `node` multiplies an activation by constant weights in a way that integers can do."""
    if node.op_type not in kinds or len(node.input) < 2 or node.input[1] not in index.weights:
        return False
    if node.input[0] in index.weights:
        return False
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
        return plain and not attribute(node, "transA", 0)
    return node.op_type == "Conv" or len(index.weights[node.input[1]].dims) == 2


def is_product(node: Any, index: GraphIndex) -> bool:
    """Whether `node` multiplies two activations, as attention does."""
    return node.op_type == "MatMul" and not any(name in index.weights for name in node.input)


def layer_name(node: Any, index: GraphIndex) -> str:
    """What to call a layer: its weight's name without wrappers; for products and anonymous weights the node's name."""
    named = [name for name in node.input[1:] if name in index.weights and _PARAMETER.search(name)]
    if not named and (reader := index.only_consumer(node.output[0])) is not None and reader.op_type == "Add":
        named = [name for name in reader.input if name in index.weights and _PARAMETER.search(name)]
    if not named:
        return str(node.name or node.output[0]).lstrip("/")
    return _WRAPPERS.sub("", _PARAMETER.sub("", named[0]))


def matching(name: str, overrides: Iterable[LayerOverride]) -> list[LayerOverride]:
    """The overrides for the layer called `name`, in order."""
    return [override for override in overrides if fnmatchcase(name, override.match)]


def without_layers(overrides: Iterable[LayerOverride], index: GraphIndex) -> list[LayerOverride]:
    """The overrides that no layer or product of the graph matches: in a recipe of one's own most likely a slip."""
    kinds = ("Conv", "Gemm", "MatMul")
    names = [layer_name(node, index) for node in index.nodes if is_layer(node, index, kinds) or is_product(node, index)]
    return [override for override in overrides if not any(fnmatchcase(name, override.match) for name in names)]


def channel_axis(node: Any) -> int:
    """Which axis of its first input a layer sums over: 1 for convolutions, the last one for products."""
    return 1 if node.op_type == "Conv" else -1
