"""Where sums of byte products are right, and how ONNX Runtime keeps them right on processors without VNNI.

Without VNNI, x86 processors multiply unsigned by signed bytes two at a time and add both products in 16 bits (VPMADDUBSW,
Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). 2 x 255 x 64 still fits into 32767, so weights of 7
bits (-63..63) are always exact, and larger ones saturate where activations are large: no error is raised, answers are just
wrong. ONNX Runtime can instead make such weights unsigned and multiply in 16 bits (`session.x64quantprecision`): exact, and
slower. OpenVINO has no such choice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_mtl.device import DeviceFingerprint, fingerprint
from edge_mtl.errors import BundleError
from edge_mtl.onnx_wire import GRAPH, MODEL, NODE, TENSOR, Refused, fields, text, varint

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
    """Whether a GraphProto holds an int8 constant out of range, or a QuantizeLinear whose zero point is int8."""
    signed: set[str] = set()
    zero_points: set[str] = set()
    for field, first, last in fields(data, start, end, GRAPH):
        if field == 5:
            name, values = _signed_bytes(data, first, last)
            if values is None or (values.size and (int(values.max()) > EXACT_WEIGHT or int(values.min()) < -EXACT_WEIGHT)):
                return True
            if name:
                signed.add(name)
        elif field == 1:
            zero_points |= _zero_point(data, first, last)
    return bool(zero_points & signed)


def _signed_bytes(data: bytes, start: int, end: int) -> tuple[str, Array | None]:
    """Name and values of a TensorProto of int8; "" and nothing for other types, None for values not stored as bytes."""
    name, kind, raw = "", 0, None
    for field, first, last in fields(data, start, end, TENSOR):
        if field == 2:
            kind = varint(data, first, last)[0]
        elif field == 8:
            name = data[first:last].decode("utf-8", "replace")
        elif field == 9:
            raw = np.frombuffer(data, np.int8, last - first, first)
    return (name, raw) if kind == _INT8 else ("", np.empty(0, np.int8))


def _zero_point(data: bytes, start: int, end: int) -> set[str]:
    """Name of the zero point of a NodeProto that is a QuantizeLinear."""
    inputs, operator = [], ""
    for field, first, last in fields(data, start, end, NODE):
        if field == 1:
            inputs.append(data[first:last].decode("utf-8", "replace"))
        elif field == 4:
            operator = text(data, first, last)
    return set(inputs[2:]) if operator == "QuantizeLinear" else set()


def keep_exact(options: Any, model: bytes) -> bool:
    """Have ONNX Runtime compute `model` exactly where it would saturate here; what is exact anyway stays as fast as it is.

    Args:
        options: the SessionOptions to be used for it, which are changed.
    Returns:
        Whether anything had to be changed.
    Raises:
        BundleError: not an ONNX model.
    """
    if not products_saturate() or not saturating_weights(model):
        return False
    options.add_session_config_entry(_UNSIGNED_WEIGHTS, "1")
    return True
