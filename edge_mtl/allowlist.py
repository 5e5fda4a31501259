"""Which ONNX files may reach a runtime: one self-contained graph of known operators, read without any ONNX library.

Knows the wire format of protocol buffers and the numbers of ONNX's fields; knows nothing about bundles or runtimes. A
field that is not known is refused rather than skipped, so that nothing here overlooks what a runtime would read.

Sources: Protocol Buffers encoding, https://protobuf.dev/programming-guides/encoding; field numbers: onnx.proto3 of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from edge_mtl.errors import BundleError

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

No control flow, no functions, no random numbers, text, sequences or pictures, and nothing whose only use is to make large
tensors of small numbers (ConstantOfShape, Range, Tile).
"""

_DEFAULT_DOMAINS = ("", "ai.onnx")
_CONTROL_FLOW = ("If", "Loop", "Scan")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Kind = Literal["varint", "bytes", "any"]

# Fields by number: what wire type they have. The ones with a meaning here are read below, the others skipped.
_MODEL: Mapping[int, _Kind] = {1: "varint", 2: "bytes", 3: "bytes", 4: "bytes", 5: "varint", 6: "bytes", 7: "bytes"}
_MODEL = {**_MODEL, 8: "bytes", 14: "bytes"}
_GRAPH: Mapping[int, _Kind] = dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 16), "bytes")
_NODE: Mapping[int, _Kind] = dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9), "bytes")
_ATTRIBUTE: Mapping[int, _Kind] = {**dict.fromkeys((1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 21), "any"), 20: "varint"}
_TENSOR: Mapping[int, _Kind] = {**dict.fromkeys((1, 3, 4, 5, 7, 10, 11), "any"), **dict.fromkeys((6, 8, 9, 12, 16), "bytes")}
_TENSOR = {**_TENSOR, 2: "varint", 14: "varint"}


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
    except _Refused as exc:
        raise BundleError(f"{name} is refused before a runtime sees it: {exc}. Export the bundle again.") from exc
    if nodes == 0:
        raise BundleError(f"{name} is no ONNX model: no graph with operators was found. Export the bundle again.")


class _Refused(Exception):
    """Why a file is refused."""


def _check_model(data: bytes) -> int:
    """Check a ModelProto; the number of nodes."""
    fields = _fields(data, 0, len(data), _MODEL, "model")
    return sum(_check_graph(data, start, end) for field, start, end in fields if field == 7)


def _check_graph(data: bytes, start: int, end: int) -> int:
    nodes = 0
    for field, first, last in _fields(data, start, end, _GRAPH, "graph"):
        if field == 1:
            nodes += 1
            if nodes > MAX_NODES:
                raise _Refused(f"it has more than {MAX_NODES} operators")
            _check_node(data, first, last)
        elif field == 5:
            _check_tensor(data, first, last)
    return nodes


def _check_node(data: bytes, start: int, end: int) -> None:
    operators, domain = [], ""
    for field, first, last in _fields(data, start, end, _NODE, "operator"):
        if field == 4:
            operators.append(_text(data, first, last))
        elif field == 5:
            _check_attribute(data, first, last)
        elif field == 7:
            domain = _known_domain(_text(data, first, last))
        elif field == 8 and last > first:
            raise _Refused("an operator names an overload of a function")
    if len(operators) != 1:
        raise _Refused(f"an operator has {len(operators)} types")
    if operators[0] not in OPERATORS[domain]:
        if operators[0] in _CONTROL_FLOW:
            raise _Refused(f"it has control flow ({operators[0]})")
        raise _Refused(f"operator {operators[0]!r} is not among those a network of this package is made of")


def _check_attribute(data: bytes, start: int, end: int) -> None:
    for field, first, last in _fields(data, start, end, _ATTRIBUTE, "attribute"):
        if field in (5, 10):
            _check_tensor(data, first, last)


def _check_tensor(data: bytes, start: int, end: int) -> None:
    for field, first, last in _fields(data, start, end, _TENSOR, "tensor"):
        if field == 14 and data[first:last] != b"\0":
            raise _Refused("it has weights in other files")


def _known_domain(domain: str) -> str:
    """The key of `OPERATORS` for a domain."""
    if domain in _DEFAULT_DOMAINS:
        return ""
    if domain not in OPERATORS:
        raise _Refused(f"operators of the domain {domain!r} are foreign code")
    return domain


def _text(data: bytes, start: int, end: int) -> str:
    try:
        return data[start : min(end, start + 200)].decode("utf-8")
    except UnicodeDecodeError as exc:
        raise _Refused("a name is not text") from exc


def _fields(data: bytes, position: int, end: int, known: Mapping[int, _Kind], what: str) -> Iterator[tuple[int, int, int]]:
    """Fields of the message in data[position:end]: number, start and end of the content."""
    while position < end:
        tag, position = _varint(data, position, end)
        field, wire = tag >> 3, tag & 7
        kind = known.get(field)
        if kind is None or (kind == "varint" and wire != _VARINT) or (kind == "bytes" and wire != _BYTES):
            raise _Refused(_unknown(what, field))
        start = position
        if wire == _BYTES:
            size, start = _varint(data, position, end)
            position = start + size
        elif wire == _VARINT:
            position = _varint(data, position, end)[1]
        elif wire == _FIXED32:
            position += 4
        elif wire == _FIXED64:
            position += 8
        else:
            raise _Refused("it is no ONNX model")
        if position > end:
            raise _Refused("it is cut short")
        yield field, start, position


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of up to 64 bits in groups of seven, and where it ends."""
    if position < end and (first := data[position]) < 0x80:
        return first, position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise _Refused("it is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise _Refused("it is no ONNX model")


_FOREIGN = {
    ("model", 20): "it carries training code",
    ("model", 25): "it defines functions of its own",
    ("graph", 15): "it has sparse tensors",
    ("attribute", 6): "it has control flow (graphs within the graph)",
    ("attribute", 11): "it has control flow (graphs within the graph)",
    ("attribute", 22): "it has sparse tensors",
    ("attribute", 23): "it has sparse tensors",
    ("tensor", 13): "it has weights in other files",
}


def _unknown(what: str, field: int) -> str:
    return _FOREIGN.get((what, field), f"it is no ONNX model that this version knows (field {field} of a {what})")
