"""Where sums of byte products are right, and how ONNX Runtime keeps them right on processors without VNNI.

Without VNNI, x86 processors multiply unsigned by signed bytes two at a time and add both products in 16 bits (VPMADDUBSW,
Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). 2 x 255 x 64 still fits into 32767, so weights of 7
bits (-63..63) are always exact, and larger ones saturate where activations are large: no error is raised, answers are just
wrong. ONNX Runtime can instead make such weights unsigned and multiply in 16 bits (`session.x64quantprecision`): exact, and
slower. OpenVINO has no such choice, and is not given such graphs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.device import DeviceFingerprint, fingerprint
from edge_mtl.errors import BundleError
from edge_mtl.onnx_graph.wire import ATTRIBUTE, GRAPH, MODEL, NODE, TENSOR, Refused, fields, text, varint

__all__ = ["EXACT_WEIGHT", "keep_exact", "products_saturate", "saturating_weights"]

Array = np.ndarray

EXACT_WEIGHT = 64
"""Two products of an unsigned byte and a weight up to this magnitude add up within 16 bits."""

_UNSIGNED_WEIGHTS = "session.x64quantprecision"
_INT8 = 3
"""TensorProto.DataType of signed bytes."""


def products_saturate(device: DeviceFingerprint | None = None) -> bool:
    """Whether runtimes add products of an unsigned and a signed byte in 16 bits on `device`; on this machine if not given."""
    found = device or fingerprint()
    return found.architecture in ("x86_64", "AMD64") and not found.has_vnni


def saturating_weights(model: bytes) -> bool:
    """Whether an ONNX graph may hold signed bytes that saturate: weights of 8 bits, or what it rounds to signed bytes itself.

    Raises:
        BundleError: not an ONNX model.
    """
    try:
        return any(_may_saturate(model, start, end) for field, start, end in fields(model, 0, len(model), MODEL) if field == 7)
    except Refused as exc:
        raise BundleError(f"The graph cannot be read: {exc}. Export the bundle again.") from exc


def _may_saturate(data: bytes, start: int, end: int) -> bool:
    """Whether a GraphProto holds an int8 constant out of range, or rounds to int8 itself."""
    signed: set[str] = set()
    rounding: list[_Node] = []
    for field, first, last in fields(data, start, end, GRAPH):
        if field == 5:
            name, values = _signed_bytes(data, first, last)
            if _out_of_range(values):
                return True
            if name is not None:
                signed.add(name)
        elif field == 1:
            node = _node(data, first, last)
            if any(_out_of_range(values) for values in node.constants):
                return True
            if node.constants:
                signed.update(node.outputs)
            if node.operator == "QuantizeLinear":
                rounding.append(node)
    return any(node.output_type == _INT8 or signed.intersection(node.inputs[2:]) for node in rounding)


@dataclass(frozen=True, slots=True)
class _Node:
    """What matters here of a NodeProto.

    Attributes:
        constants: the int8 tensors among its attributes.
        output_type: its attribute "output_dtype", 0 without one.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: tuple[Array | None, ...]
    output_type: int


def _node(data: bytes, start: int, end: int) -> _Node:
    operator, output_type = "", 0
    inputs: list[str] = []
    outputs: list[str] = []
    constants: list[Array | None] = []
    for field, first, last in fields(data, start, end, NODE):
        if field in (1, 2):
            (inputs if field == 1 else outputs).append(data[first:last].decode("utf-8", "replace"))
        elif field == 4:
            operator = text(data, first, last)
        elif field == 5:
            name, number = "", 0
            for inner, begin, stop in fields(data, first, last, ATTRIBUTE):
                if inner == 1:
                    name = text(data, begin, stop)
                elif inner == 3:
                    number = varint(data, begin, stop)[0]
                elif inner == 5 and (found := _signed_bytes(data, begin, stop))[0] is not None:
                    constants.append(found[1])
            output_type = number if name == "output_dtype" else output_type
    return _Node(operator, tuple(inputs), tuple(outputs), tuple(constants), output_type)


def _signed_bytes(data: bytes, start: int, end: int) -> tuple[str, Array | None] | tuple[None, Array]:
    """Name and values of a TensorProto of int8, the values None where they are not stored as bytes; no name of other types."""
    name, kind, raw = "", 0, None
    for field, first, last in fields(data, start, end, TENSOR):
        if field == 2:
            kind = varint(data, first, last)[0]
        elif field == 8:
            name = data[first:last].decode("utf-8", "replace")
        elif field == 9:
            raw = np.frombuffer(data, np.int8, last - first, first)
    return (name, raw) if kind == _INT8 else (None, np.empty(0, np.int8))


def _out_of_range(values: Array | None) -> bool:
    """Whether weights may saturate; None is not known, and taken to."""
    return values is None or bool(values.size and (int(values.max()) > EXACT_WEIGHT or int(values.min()) < -EXACT_WEIGHT))


def keep_exact(options: Any, model: bytes) -> None:
    """Have ONNX Runtime compute `model` exactly where it would saturate here; what is exact anyway stays as fast as it is.

    Args:
        options: the SessionOptions to be used for it, which are changed.
    Raises:
        BundleError: not an ONNX model.
    """
    if products_saturate() and saturating_weights(model):
        options.add_session_config_entry(_UNSIGNED_WEIGHTS, "1")
