"""What a graph, a parsed network and a finished plan compute in, counted, so that a build is what was asked for.

Knows ONNX, networks and the inspector's JSON; builds nothing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.builder.tensorrt.options import PlanOptions
from edge_mtl.errors import BuildError
from edge_mtl.onnx_graph.model import GraphIndex, facts, import_onnx, parse

__all__ = ["NetworkContents", "check_precision", "network_contents", "plan_layers"]

_LAYERS = ("Conv", "Gemm", "MatMul")
_NEWEST_OPSET_OF_OLDEST = 20
_OPSET_20_UNTIL = (10, 5)
_COMPUTING = ("CONVOLUTION", "MATRIX_MULTIPLY")
_TYPES: tuple[tuple[str, str], ...] = (
    ("int8", r"\bint8\b"),
    ("fp16", r"\b(fp16|half|float16)\b"),
    ("bf16", r"\b(bf16|bfloat16)\b"),
    ("fp32", r"\b(fp32|float|float32)\b"),
)


@dataclass(frozen=True, slots=True)
class NetworkContents:
    """A parsed network in numbers.

    Attributes:
        layers: of all kinds.
        quantize, dequantize: layers that make and undo integers.
        computing: convolutions and matrix products by the type they give: "fp32", "fp16".
    """

    layers: int
    quantize: int
    dequantize: int
    computing: Mapping[str, int]

    def describe(self) -> str:
        """One line for reports."""
        kinds = ", ".join(f"{count} in {kind}" for kind, count in sorted(self.computing.items()))
        return f"{self.layers} layers, {self.quantize} Q, {self.dequantize} DQ, convolutions and products: {kinds}"


def check_precision(model: bytes, options: PlanOptions, *, library: Library, name: str = "the graph") -> None:
    """Refuse a graph that does not hold what was asked for: since TensorRT 11 nothing but the graph decides it.

    Raises:
        BuildError: the graph has other types, or an opset that this library is too old for.
    """
    found, index = facts(model, name=name), GraphIndex(parse(model, name=name))
    halves = {tensor.name for tensor in _initializers(model) if tensor.data_type == import_onnx().TensorProto.FLOAT16}
    layers = [node for node in index.nodes if node.op_type in _LAYERS]
    half = sum(any(_reaches(index, source, halves) for source in node.input[1:2]) for node in layers)
    held = f"{len(layers)} layers with {half} in half precision, {found.describe()}"
    asked = f"{options.precision} was asked for, but {name} has {held}."
    if options.quantized and (found.quantize_nodes == 0 or found.integer_layers == 0):
        raise BuildError(f"{asked} Quantize it first: edge-mtl build-engine --int8.")
    if not options.quantized and found.quantize_nodes + found.dequantize_nodes:
        raise BuildError(f"{asked} Give the graph without Q/DQ pairs, or build int8.")
    if options.typing == "strong" and options.half and half == 0:
        raise BuildError(f"{asked} Convert it first (edge_mtl.builder.tensorrt.half), or build fp32.")
    if (not options.half or options.typing == "weak") and half:
        raise BuildError(f"{asked} Give the graph in float32.")
    opset = max(entry.version for entry in parse(model, name=name).opset_import if entry.domain in ("", "ai.onnx"))
    if not library.rtx and library.version[:2] < _OPSET_20_UNTIL and opset > _NEWEST_OPSET_OF_OLDEST:
        raise BuildError(
            f"{name} has opset {opset}; {library.describe()} reads up to {_NEWEST_OPSET_OF_OLDEST}. Export it with that."
        )


def network_contents(library: Library, network: Any) -> NetworkContents:
    """Count what the parser made."""
    types, half = library.module.LayerType, library.module.DataType.HALF
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    kinds = Counter(layer.type for layer in layers)
    computing = [layer for layer in layers if layer.type in [getattr(types, name) for name in _COMPUTING]]
    return NetworkContents(
        layers=len(layers),
        quantize=kinds[types.QUANTIZE],
        dequantize=kinds[types.DEQUANTIZE],
        computing=dict(Counter("fp16" if layer.get_output(0).dtype == half else "fp32" for layer in computing)),
    )


def plan_layers(information: str) -> dict[str, int]:
    """How many layers of a finished plan give which type, from the inspector's JSON; empty where it says nothing of types.

    Args:
        information: of `EngineInspector.get_engine_information`; types are told where the plan was built "detailed".
    """
    try:
        content = json.loads(information)
        layers = content["Layers"] if isinstance(content, dict) else []
    except (ValueError, KeyError):
        return {}
    counts: Counter[str] = Counter()
    for layer in layers:
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        texts = " ".join(str(output.get("Format/Datatype", "")) for output in outputs if isinstance(output, dict)).lower()
        kind = next((kind for kind, pattern in _TYPES if re.search(pattern, texts)), None)
        if kind is not None:
            counts[kind] += 1
    return dict(counts)


def _initializers(model: bytes) -> list[Any]:
    return list(import_onnx().load_model_from_string(model).graph.initializer)


def _reaches(index: GraphIndex, tensor: str, weights: set[str]) -> bool:
    """Whether `tensor` is one of `weights`, or comes from one through Q/DQ pairs."""
    for _ in range(3):
        if tensor in weights:
            return True
        node = index.producer.get(tensor)
        if node is None or node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            return False
        if node.op_type == "DequantizeLinear" and node.input[1] in weights:
            return True
        tensor = node.input[0]
    return False
