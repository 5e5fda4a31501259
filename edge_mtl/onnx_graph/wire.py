"""ONNX files on the wire: fields of protocol buffers and their numbers in onnx.proto3, without any ONNX library.

Knows which fields each message may have; knows nothing about operators. A field that is not known is refused rather than
skipped, so that nothing here overlooks what a runtime would read.

Sources: Protocol Buffers encoding, https://protobuf.dev/programming-guides/encoding; field numbers: onnx.proto3 of ONNX.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

__all__ = [
    "ANNOTATION",
    "ATTRIBUTE",
    "GRAPH",
    "MODEL",
    "NODE",
    "OPERATOR_SET",
    "TENSOR",
    "VALUE",
    "Message",
    "Refused",
    "fields",
    "text",
    "varint",
    "written",
]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_Kind = Literal["varint", "bytes", "any"]
Message = tuple[str, Mapping[int, _Kind]]
"""What a message is called, and the wire type of each field by number."""

MODEL: Message = ("model", {**dict.fromkeys((2, 3, 4, 6, 7, 8, 14), "bytes"), **dict.fromkeys((1, 5), "varint")})
GRAPH: Message = ("graph", dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 16), "bytes"))
NODE: Message = ("operator", dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9), "bytes"))
ATTRIBUTE: Message = ("attribute", {**dict.fromkeys((1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 21), "any"), 20: "varint"})
TENSOR: Message = (
    "tensor",
    {
        **dict.fromkeys((1, 3, 4, 5, 7, 10, 11), "any"),
        **dict.fromkeys((6, 8, 9, 12, 16), "bytes"),
        **dict.fromkeys((2, 14), "varint"),
    },
)
VALUE: Message = ("tensor's description", dict.fromkeys((1, 2, 3, 4), "bytes"))
OPERATOR_SET: Message = ("operator set", {1: "bytes", 2: "varint"})
ANNOTATION: Message = ("tensor's annotation", dict.fromkeys((1, 2), "bytes"))


class Refused(Exception):
    """Why a file is refused."""


def fields(data: bytes, position: int, end: int, message: Message) -> Iterator[tuple[int, int, int]]:
    """Fields of the message in data[position:end]: number, start and end of the content.

    Raises:
        Refused: an unknown field, or no message.
    """
    what, known = message
    while position < end:
        tag, position = varint(data, position, end)
        field, wire = tag >> 3, tag & 7
        kind = known.get(field)
        if kind is None or (kind == "varint" and wire != _VARINT) or (kind == "bytes" and wire != _BYTES):
            raise Refused(_unknown(what, field))
        start = position
        if wire == _BYTES:
            size, start = varint(data, position, end)
            position = start + size
        elif wire == _VARINT:
            position = varint(data, position, end)[1]
        elif wire == _FIXED32:
            position += 4
        elif wire == _FIXED64:
            position += 8
        else:
            raise Refused("it is no ONNX model")
        if position > end:
            raise Refused("it is cut short")
        yield field, start, position


def text(data: bytes, start: int, end: int) -> str:
    """The first 200 bytes of a name. Raises Refused if they are no text."""
    try:
        return data[start : min(end, start + 200)].decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Refused("a name is not text") from exc


def varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of up to 64 bits in groups of seven, and where it ends. Raises Refused if there is none."""
    if position < end and (first := data[position]) < 0x80:
        return first, position + 1
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise Refused("it is cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise Refused("it is no ONNX model")


def written(field: int, content: bytes) -> bytes:
    """A field of bytes: a message, a text or raw data."""
    return _varint_of(field << 3 | _BYTES) + _varint_of(len(content)) + content


def _varint_of(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


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
