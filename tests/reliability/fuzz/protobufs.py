"""Mutations of ONNX files by the structure of their protocol buffers: the tree of fields is altered and written again."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass

from tests.reliability.fuzz.mutations import mutate_bytes

__all__ = ["mutate_onnx"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# What lies in fields of bytes, by the kind of message and the field's number: another message, a name, or an operator's type.
_MESSAGES = {
    ("model", 7): "graph", ("model", 8): "opset", ("model", 14): "entry",
    ("graph", 1): "node", ("graph", 5): "tensor", ("graph", 11): "value", ("graph", 12): "value", ("graph", 13): "value",
    ("graph", 14): "annotation", ("node", 5): "attribute", ("attribute", 5): "tensor", ("attribute", 10): "tensor",
    ("value", 2): "type", ("type", 1): "tensor-type", ("tensor-type", 2): "shape", ("shape", 1): "dimension",
    ("annotation", 2): "entry",
}  # fmt: skip
_NAMES = {
    ("node", 1), ("node", 2), ("node", 3), ("tensor", 8), ("value", 1), ("attribute", 1), ("graph", 2), ("annotation", 1),
    ("dimension", 2),
}  # fmt: skip
_OPERATOR = ("node", 4)
_FOREIGN = ("If", "Loop", "Scan", "ConstantOfShape", "NonZero", "Einsum", "Relu\0", "")
_NUMBERS = (
    *(0, 1, 2, 3, 4, 6, 7, 8, 10, 11, 13, 16, 17, 23, 64, 255, 1 << 16, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 32, 1 << 40),
    *((1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 2, (1 << 64) - (1 << 31)),
)


@dataclass(slots=True)
class _Field:
    """One field; `value` is a number, bytes, or the fields of a message of the kind `inside`."""

    number: int
    wire: int
    value: int | bytes | list[_Field]
    inside: str = ""


def mutate_onnx(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to three alterations of fields; now and then of the bytes."""
    if rng.random() < 0.08:
        return mutate_bytes(data, other, rng)
    try:
        tree, foreign = _parsed(data, "model"), _parsed(other, "model")
    except ValueError:
        return mutate_bytes(data, other, rng)
    for _ in range(rng.randint(1, 3)):
        _alter(tree, foreign, rng)
    return b"".join(map(_written, tree))


def _parsed(data: bytes, kind: str) -> list[_Field]:
    """Fields of a message. Raises ValueError where it is none."""
    found, position = [], 0
    while position < len(data):
        tag, position = _varint(data, position)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, position = _varint(data, position)
            found.append(_Field(number, wire, value))
            continue
        if wire == _BYTES:
            size, position = _varint(data, position)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError("no field")
        if position + size > len(data):
            raise ValueError("cut short")
        content = data[position : position + size]
        position += size
        inside = _MESSAGES.get((kind, number), "") if wire == _BYTES else ""
        found.append(_Field(number, wire, _parsed(content, inside) if inside else content, inside))
    return found


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            raise ValueError("cut short")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("no number")


def _written(field: _Field) -> bytes:
    head = _varint_of(field.number << 3 | field.wire)
    if isinstance(field.value, int):
        return head + _varint_of(field.value)
    content = field.value if isinstance(field.value, bytes) else b"".join(map(_written, field.value))
    return head + (_varint_of(len(content)) if field.wire == _BYTES else b"") + content


def _varint_of(value: int) -> bytes:
    value &= (1 << 64) - 1
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


Place = tuple[str, list[_Field], int]
"""The kind of a message, its fields, and one of them."""


def _places(fields: list[_Field], kind: str = "model") -> list[Place]:
    found: list[Place] = []
    for number, field in enumerate(fields):
        found.append((kind, fields, number))
        if isinstance(field.value, list):
            found += _places(field.value, field.inside)
    return found


def _alter(tree: list[_Field], foreign: list[_Field], rng: random.Random) -> None:
    """One alteration: of the structure, or of a value by what it means."""
    places = _places(tree)
    if not places:
        return
    kind, fields, number = rng.choice(places)
    field = fields[number]
    if rng.random() < 0.6 and not isinstance(field.value, list):
        _alter_value(kind, field, places, rng)
        return
    alike = [one for one in _places(foreign) if one[0] == kind]
    match rng.randrange(8):
        case 0:
            del fields[number]
        case 1:
            fields.insert(rng.randrange(len(fields) + 1), copy.deepcopy(field))
        case 2:
            fields.insert(rng.randrange(len(fields)), fields.pop(number))
        case 3 if alike:
            _, others, at = rng.choice(alike)
            fields[number] = copy.deepcopy(others[at])
        case 4 if alike:
            _, others, at = rng.choice(alike)
            fields.insert(number, copy.deepcopy(others[at]))
        case 5:
            field.number = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 20, 21, 25, 1 << 28))
        case 6:
            fields[number:number] = [copy.deepcopy(field) for _ in range(rng.choice((2, 50)))]
        case _ if isinstance(field.value, list):
            field.value = b"".join(map(_written, field.value))[: rng.randrange(64)]
        case _:
            field.wire, field.value = _VARINT, rng.choice(_NUMBERS)


def _alter_value(kind: str, field: _Field, places: list[Place], rng: random.Random) -> None:
    """Another value of the same meaning: a name of another tensor, another operator, a number that is too large."""
    if isinstance(field.value, int):
        field.value = rng.choice((*_NUMBERS, field.value + 1, max(0, field.value - 1), field.value * 2))
        return
    if (kind, field.number) == _OPERATOR:
        field.value = rng.choice([*_operators(), *_FOREIGN]).encode()
    elif (kind, field.number) in _NAMES and rng.random() < 0.8:
        named = [one[number] for message, one, number in places if (message, one[number].number) in _NAMES]
        value = rng.choice(named).value
        field.value = value if isinstance(value, bytes) else b""
    elif kind == "attribute" or field.wire != _BYTES:
        field.wire, field.value = _VARINT, rng.choice(_NUMBERS)
    elif isinstance(field.value, bytes):
        field.value = rng.choice(
            (mutate_bytes(field.value, b"\xff", rng), b"", field.value * 2, field.value[: len(field.value) // 2])
        )


def _operators() -> list[str]:
    from edge_mtl.onnx_graph.allowlist import OPERATORS

    return sorted(name for names in OPERATORS.values() for name in names)
