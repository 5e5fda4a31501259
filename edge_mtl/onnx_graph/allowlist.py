"""Which ONNX files may reach a runtime: one self-contained graph of known operators, read without any ONNX library.

Knows operators; how the file is read is in `edge_mtl.onnx_graph.wire`, and knows nothing about bundles or runtimes.
"""

from __future__ import annotations

from collections.abc import Mapping

from edge_mtl.errors import BundleError
from edge_mtl.onnx_graph.wire import ATTRIBUTE, GRAPH, MODEL, NODE, TENSOR, Refused, fields, text

__all__ = ["MAX_MODEL_BYTES", "OPERATORS", "check_graph"]

MAX_MODEL_BYTES = 1 << 30
MAX_NODES = 20_000

_STANDARD = """
    Abs Add And ArgMax AveragePool BatchNormalization Cast Ceil Clip Concat Constant Conv ConvInteger ConvTranspose
    DepthToSpace DequantizeLinear Div DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor Gather Gelu Gemm
    GlobalAveragePool GlobalMaxPool Greater GroupNormalization HardSigmoid HardSwish Identity InstanceNormalization
    LayerNormalization LeakyRelu Less Log LogSoftmax MatMul MatMulInteger Max MaxPool Min Mul Neg Not Or PRelu Pad Pow
    QLinearConv QLinearMatMul QuantizeLinear Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape
    Resize Round Shape Sigmoid Slice Softmax Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Transpose Unsqueeze
    Where
"""
_QUANTIZED = """
    QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
    QLinearReduceMean QLinearSigmoid QLinearSoftmax
"""
OPERATORS: Mapping[str, frozenset[str]] = {
    "": frozenset(_STANDARD.split()),
    "com.microsoft": frozenset(_QUANTIZED.split()),
}
"""By domain: arithmetic on tensors of fixed shape, the second domain for quantized engines of ONNX Runtime.

No control flow, no functions, no random numbers, text, sequences or images, and nothing whose only use is to make large
tensors of small numbers (ConstantOfShape, Range, Tile).
"""

_DEFAULT_DOMAINS = ("", "ai.onnx")
_CONTROL_FLOW = ("If", "Loop", "Scan")


def check_graph(model: bytes, *, name: str = "the graph") -> None:
    """Refuse what a runtime should not see.

    Args:
        name: of the file, for messages.
    Raises:
        BundleError: not an ONNX model, too large, with operators outside `OPERATORS`, control flow, functions, sparse
            tensors, or weights in other files.
    """
    if len(model) > MAX_MODEL_BYTES:
        raise BundleError(f"{name} has {len(model)} bytes: at most {MAX_MODEL_BYTES} were expected.")
    try:
        nodes = _check_model(model)
    except Refused as exc:
        raise BundleError(f"{name} is refused before a runtime sees it: {exc}. Export the bundle again.") from exc
    if nodes == 0:
        raise BundleError(f"{name} is no ONNX model: no graph with operators was found. Export the bundle again.")


def _check_model(data: bytes) -> int:
    """Check a ModelProto; the number of nodes."""
    found = fields(data, 0, len(data), MODEL)
    return sum(_check_graph(data, start, end) for field, start, end in found if field == 7)


def _check_graph(data: bytes, start: int, end: int) -> int:
    nodes = 0
    for field, first, last in fields(data, start, end, GRAPH):
        if field == 1:
            nodes += 1
            if nodes > MAX_NODES:
                raise Refused(f"it has more than {MAX_NODES} operators")
            _check_node(data, first, last)
        elif field == 5:
            _check_tensor(data, first, last)
    return nodes


def _check_node(data: bytes, start: int, end: int) -> None:
    operators, domain = [], ""
    for field, first, last in fields(data, start, end, NODE):
        if field == 4:
            operators.append(text(data, first, last))
        elif field == 5:
            _check_attribute(data, first, last)
        elif field == 7:
            domain = _known_domain(text(data, first, last))
        elif field == 8 and last > first:
            raise Refused("an operator names an overload of a function")
    if len(operators) != 1:
        raise Refused(f"an operator has {len(operators)} types")
    if operators[0] not in OPERATORS[domain]:
        if operators[0] in _CONTROL_FLOW:
            raise Refused(f"it has control flow ({operators[0]})")
        raise Refused(f"operator {operators[0]!r} is not among those a network of this package is made of")


def _check_attribute(data: bytes, start: int, end: int) -> None:
    for field, first, last in fields(data, start, end, ATTRIBUTE):
        if field in (5, 10):
            _check_tensor(data, first, last)


def _check_tensor(data: bytes, start: int, end: int) -> None:
    for field, first, last in fields(data, start, end, TENSOR):
        if field == 14 and data[first:last] != b"\0":
            raise Refused("it has weights in other files")


def _known_domain(domain: str) -> str:
    """The key of `OPERATORS` for a domain."""
    if domain in _DEFAULT_DOMAINS:
        return ""
    if domain not in OPERATORS:
        raise Refused(f"operators of the domain {domain!r} are foreign code")
    return domain
