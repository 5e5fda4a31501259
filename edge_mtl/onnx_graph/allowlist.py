"""Which ONNX files may reach a runtime: one self-contained graph of known operators, read without any ONNX library.

Knows operators; how the file is read is in `edge_mtl.onnx_graph.wire`, and knows nothing about bundles or runtimes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from edge_mtl.errors import BundleError
from edge_mtl.onnx_graph.wire import ATTRIBUTE, GRAPH, MODEL, NODE, OPERATOR_SET, TENSOR, VALUE, Refused, fields, text, varint

__all__ = ["MAX_ELEMENTS", "MAX_MODEL_BYTES", "OPERATORS", "check_graph"]

MAX_MODEL_BYTES = 1 << 30
MAX_NODES = 20_000
MAX_ELEMENTS = 1 << 31
"""Of one tensor, as it is described."""

_ANY = 1 << 20
_STANDARD = {
    (0, 0): "Constant",
    (1, 1): """
        Abs ArgMax AveragePool Cast Ceil DepthToSpace DynamicQuantizeLinear Elu Erf Exp Flatten Floor Gelu GlobalAveragePool
        GlobalMaxPool HardSigmoid HardSwish Identity LeakyRelu Log LogSoftmax MaxPool Neg Not Reciprocal Relu Round Shape
        Sigmoid Softmax Softplus SpaceToDepth Sqrt Tanh Transpose
    """,
    (1, 2): "ReduceL2 ReduceMax ReduceMean ReduceMin ReduceSum Split Squeeze",
    (1, 3): "Clip",
    (1, 4): "Resize",
    (1, _ANY): "Concat Max Min Sum",
    (2, 2): "Add And Div Equal Expand Gather Greater Less MatMul Mul Or PRelu Pow Reshape Sub Unsqueeze",
    (2, 3): "Conv ConvTranspose DequantizeLinear Gemm LayerNormalization QuantizeLinear",
    (2, 4): "ConvInteger MatMulInteger Pad",
    (3, 3): "GroupNormalization InstanceNormalization Where",
    (3, 5): "Slice",
    (5, 5): "BatchNormalization",
    (8, 8): "QLinearMatMul",
    (8, 9): "QLinearConv",
}
"""Operators by the fewest and the most inputs that they have in any version from 13 on. OpenVINO died of a Pad of one."""
_INPUTS = {operator: counts for counts, operators in _STANDARD.items() for operator in operators.split()}
_QUANTIZED = """
    QGemm QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul
    QLinearReduceMean QLinearSigmoid QLinearSoftmax
"""
OPERATORS: Mapping[str, frozenset[str]] = {
    "": frozenset(_INPUTS),
    "com.microsoft": frozenset(_QUANTIZED.split()),
}
"""By domain: arithmetic on tensors of fixed shape, the second domain for quantized engines of ONNX Runtime.

No control flow, no functions, no random numbers, text, sequences or images, and nothing whose only use is to make large
tensors of small numbers (ConstantOfShape, Range, Tile).
"""

_DEFAULT_DOMAINS = ("", "ai.onnx")
_LEAVE_OUT = ("Clip", "Pad", "Resize", "Slice")
"""Operators that may leave out an input before their last one, by an empty name: ONNX Runtime follows others to nowhere."""

_POSITIVE = (b"blocksize", b"dilations", b"group", b"kernel_shape", b"strides")
"""Attributes whose numbers are one or more: ONNX Runtime divides by a group of zero."""

_MOST_VERSION, _LARGEST = 1000, 1 << 31
"""Of operators' versions, which OpenVINO counts up to; of a number of `_POSITIVE`."""

_CONTROL_FLOW = ("If", "Loop", "Scan")


def check_graph(model: bytes, *, name: str = "the graph") -> None:
    """Refuse what a runtime should not see.

    Args:
        name: of the file, for messages.
    Raises:
        BundleError: not an ONNX model, too large, with operators outside `OPERATORS`, control flow, functions, sparse
            tensors, weights in other files, weights whose shape is not that of their bytes, or operators in an order that they
            cannot run in.
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
    graphs = []
    for field, start, end in fields(data, 0, len(data), MODEL):
        if field == 7:
            graphs.append((start, end))
        elif field == 8:
            _check_version(data, start, end)
    if len(graphs) > 1:
        raise Refused("it has several graphs, which readers merge")
    return sum(_check_graph(data, start, end) for start, end in graphs)


def _check_version(data: bytes, start: int, end: int) -> None:
    """Of an OperatorSetIdProto."""
    for field, first, last in fields(data, start, end, OPERATOR_SET):
        if field == 2 and not 0 < varint(data, first, last)[0] <= _MOST_VERSION:
            raise Refused("it names a version of ONNX's operators that there is not")


def _check_graph(data: bytes, start: int, end: int) -> int:
    nodes: list[_Ends] = []
    weights: list[bytes] = []
    inputs: list[bytes] = []
    outputs: list[bytes] = []
    for field, first, last in fields(data, start, end, GRAPH):
        if field == 1:
            if len(nodes) == MAX_NODES:
                raise Refused(f"it has more than {MAX_NODES} operators")
            nodes.append(_check_node(data, first, last))
        elif field == 5:
            weights.append(_check_tensor(data, first, last))
        elif field == 11:
            inputs.append(_name_of_value(data, first, last))
        elif field == 12:
            outputs.append(_name_of_value(data, first, last))
    for names in (weights, inputs):
        if len(set(names)) < len(names):
            raise Refused("two of its weights or inputs have the same name")
    _check_order(nodes, {*weights, *inputs}, outputs)
    return len(nodes)


_Ends = tuple[list[bytes], list[bytes]]
"""Names of the tensors that an operator reads, and of those that it makes."""


def _check_order(nodes: list[_Ends], known: set[bytes], outputs: list[bytes]) -> None:
    """ONNX wants operators in an order that they can run in: runtimes hang on circles.

    Args:
        known: tensors that are there before any operator runs; those that are made are added.
    """
    for inputs, made in nodes:
        for name in inputs:
            if name and name not in known:
                raise Refused(f"an operator reads {_shown(name)}, which none before it makes")
        for name in made:
            if name and name in known:
                raise Refused(f"the tensor {_shown(name)} is made twice")
            known.add(name)
    for name in outputs:
        if name not in known:
            raise Refused(f"no operator makes its output {_shown(name)}")


def _shown(name: bytes) -> str:
    return repr(name[:80].decode("utf-8", "replace"))


def _name_of_value(data: bytes, start: int, end: int) -> bytes:
    """Of a ValueInfoProto."""
    return b"".join(data[first:last] for field, first, last in fields(data, start, end, VALUE) if field == 1)


def _check_node(data: bytes, start: int, end: int) -> _Ends:
    operators, domain = [], ""
    ends: _Ends = [], []
    for field, first, last in fields(data, start, end, NODE):
        if field in (1, 2):
            ends[field - 1].append(data[first:last])
        elif field == 4:
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
    least, most = _INPUTS[operators[0]] if domain == "" else (1, _ANY)
    if not least <= len(ends[0]) <= most:
        raise Refused(f"an operator {operators[0]} has {len(ends[0])} inputs")
    if b"" in ends[0] and operators[0] not in _LEAVE_OUT:
        raise Refused(f"an operator {operators[0]} leaves out an input")
    if b"" in ends[1] or not ends[1]:
        raise Refused(f"an operator {operators[0]} leaves out an output")
    return ends


def _check_attribute(data: bytes, start: int, end: int) -> None:
    name, tensors = b"", 0
    numbers: list[int] = []
    for field, first, last in fields(data, start, end, ATTRIBUTE):
        if field == 1:
            name = data[first:last]
        elif field in (3, 8):
            numbers += _numbers(data, first, last)
        elif field in (5, 10):
            tensors += field == 5
            _check_tensor(data, first, last)
    if tensors > 1:
        raise Refused("an attribute has several tensors, which readers merge")
    if name in _POSITIVE and not (numbers and all(0 < number < _LARGEST for number in numbers)):
        raise Refused(f"an operator's {name.decode()} should be one or more")


def _check_tensor(data: bytes, start: int, end: int) -> bytes:
    """Weights: in the file itself, and as many as their shape says. Gives their name."""
    sides: list[int] = []
    kind, raw, other, name = 0, -1, 0, b""
    for field, first, last in fields(data, start, end, TENSOR):
        if field == _EXTERNAL and data[first:last] != b"\0":
            raise Refused("it has weights in other files")
        if field == _SIDES:
            sides += _numbers(data, first, last)
        elif field == _KIND:
            kind = varint(data, first, last)[0]
        elif field == _RAW:
            raw = last - first
        elif field == _NAME:
            name = data[first:last]
        elif field in _TYPED:
            other += last - first
    count = math.prod(sides)
    if any(side >= MAX_ELEMENTS for side in sides) or count > MAX_ELEMENTS:
        raise Refused(f"a tensor of its weights has the shape {sides[:8]}")
    bits = _BITS.get(kind)
    if raw >= 0 and bits is not None and raw != -(-count * bits // 8):
        raise Refused(f"a tensor of its weights has the shape {sides[:8]} and {raw} bytes")
    if raw < 0 and count > other:
        raise Refused(f"a tensor of its weights has the shape {sides[:8]} and lacks values")
    return name


def _numbers(data: bytes, start: int, end: int) -> list[int]:
    """Numbers of 64 bits: one, or several packed. Negative ones are very large."""
    found = []
    while start < end:
        value, start = varint(data, start, end)
        found.append(value)
    return found


_SIDES, _KIND, _NAME, _RAW, _EXTERNAL = 1, 2, 8, 9, 14
_TYPED = (4, 5, 6, 7, 10, 11)
"""Fields of a tensor that hold its values, but for the raw bytes; a value takes a byte or more."""

_BITS = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 8),
    **dict.fromkeys((4, 5, 10, 16), 16),
    **dict.fromkeys((1, 6, 12), 32),
    **dict.fromkeys((7, 11, 13, 14), 64),
    **dict.fromkeys((21, 22, 23), 4),
    15: 128,
}
"""Of one value, by the number of its type in onnx.proto3."""


def _known_domain(domain: str) -> str:
    """The key of `OPERATORS` for a domain."""
    if domain in _DEFAULT_DOMAINS:
        return ""
    if domain not in OPERATORS:
        raise Refused(f"operators of the domain {domain!r} are foreign code")
    return domain
