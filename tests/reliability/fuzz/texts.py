"""Mutations of JSON and TOML by their structure: values of other types, missing, foreign and repeated keys, deep nesting."""

from __future__ import annotations

import copy
import json
import random
import re
from typing import Any

from tests.reliability.fuzz.mutations import mutate_bytes

__all__ = ["mutate_json", "mutate_lines", "mutate_toml"]

_NUMBERS = (
    0,
    -1,
    1,
    2,
    3,
    255,
    256,
    65536,
    2**31,
    2**32,
    2**53 + 1,
    2**63,
    2**64,
    -(2**63),
    10**40,
    10**400,
    0.5,
    -0.0,
    1e-320,
)
_FLOATS = (1e308, float("nan"), float("inf"), -float("inf"), 1e19)
_TEXTS = (
    "",
    " ",
    "\0",
    "\ud800",
    "a" * 5000,
    "../../etc/passwd",
    "/",
    ".",
    "\n",
    "é\u202e",
    "0",
    "-1",
    "nan",
    "1e999",
    "%s{0}",
    "__class__",
)
_TOML = (
    "0", "-1", "9223372036854775807", "99999999999999999999999", "1e308", "-1.5", "nan", "inf", "-inf", '""', '"a"', "''",
    '"../../x"', '"\\u0000"', "true", "false", "[]", "[1, 2, 3]", '["a"]', "[[]]", "{}", "{ a = 1 }", "[{ a = 1 }, { a = 2 }]",
    "1979-05-27", "1979-05-27T07:32:00Z", "07:32:00", '"""\n\n"""', "0x7fffffff", "[0.5, -1]", "1_000", '"é"',
)  # fmt: skip


def mutate_json(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to three changes of the values; now and then of the bytes, which a parser should refuse."""
    if rng.random() < 0.1:
        return mutate_bytes(data, other, rng)
    try:
        content, foreign = json.loads(data), json.loads(other)
    except (ValueError, RecursionError):
        return mutate_bytes(data, other, rng)
    holder = [content]
    for _ in range(rng.randint(1, 3)):
        _change(holder, foreign, rng)
    text = json.dumps(holder[0], ensure_ascii=rng.random() < 0.8, indent=rng.choice((None, 2)))
    if rng.random() < 0.03:
        text = text.replace("{", '{"a": 1, "a": 2, ', 1) if text.count("}") > 1 else "[" * 100_000 + text
    return text.encode("utf-8", "surrogatepass")


def _change(holder: list[Any], foreign: Any, rng: random.Random) -> None:
    """One change anywhere below holder[0]."""
    places = _places(holder)
    place, key = rng.choice(places)
    match rng.randrange(9):
        case 0 | 1 | 2:
            place[key] = _value(rng)
        case 3 if place is not holder:
            del place[key]
        case 4:
            place[key] = _altered(place[key], rng)
        case 5 if isinstance(place, dict):
            place[rng.choice([*place, *_TEXTS])] = place.pop(key)
        case 6:
            there, name = rng.choice(_places([foreign]))
            place[key] = copy.deepcopy(there[name])
        case 7:
            there, name = rng.choice(places)
            place[key], there[name] = copy.deepcopy(there[name]), copy.deepcopy(place[key])
        case _ if isinstance(place, dict):
            place[rng.choice(_TEXTS)] = copy.deepcopy(place[key])
        case _:
            place[key:key] = [copy.deepcopy(place[key])] * rng.choice((1, 2, 300)) if place is not holder else []


def _places(holder: list[Any]) -> list[tuple[Any, Any]]:
    """Container and key of every value."""
    found: list[tuple[Any, Any]] = []
    left: list[Any] = [holder]
    while left and len(found) < 5000:
        container = left.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], (dict, list)):
                left.append(container[key])
    return found


def _value(rng: random.Random) -> Any:
    match rng.randrange(6):
        case 0:
            return rng.choice(_NUMBERS)
        case 1:
            return rng.choice(_FLOATS)
        case 2:
            return rng.choice(_TEXTS)
        case 3:
            return rng.choice((None, True, False))
        case 4:
            return rng.choice(([], {}, [None], {"": None}, [[]], [{}], {"a": {"b": {}}}, [0] * 1000))
        case _:
            deep: Any = rng.choice(([], {}, 0))
            for _ in range(rng.choice((3, 100, 400))):
                deep = [deep] if rng.random() < 0.5 else {"a": deep}
            return deep


def _altered(value: Any, rng: random.Random) -> Any:
    """A value near to `value`, mostly of its type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        try:
            return rng.choice((value + 1, value - 1, -value, value * 2, value / 2, str(value), [value], float(value)))
        except OverflowError:
            return -value
    if isinstance(value, str):
        start = rng.randrange(len(value) + 1)
        return rng.choice((value + rng.choice(_TEXTS), value[:start], value[start:], value[::-1], value.upper(), [value]))
    if isinstance(value, list):
        return rng.choice((value[::-1], value[:-1], value * 2, dict.fromkeys(map(str, value)), value[:1]))
    if isinstance(value, dict):
        return list(value.values())
    return _value(rng)


_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_ENTRY = re.compile(r"^\s*([^=#\[\]]+?)\s*=\s*(.*)$")


def mutate_toml(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to three changes of entries and tables; now and then of the bytes."""
    if rng.random() < 0.1:
        return mutate_bytes(data, other, rng)
    try:
        lines, foreign = data.decode().split("\n"), other.decode().split("\n")
    except UnicodeDecodeError:
        return mutate_bytes(data, other, rng)
    for _ in range(rng.randint(1, 3)):
        number = rng.randrange(len(lines))
        entry = _ENTRY.match(lines[number])
        match rng.randrange(8):
            case 0 | 1 | 2 if entry:
                lines[number] = f"{entry[1]} = {rng.choice(_TOML)}"
            case 3 if entry:
                lines[number] = f"{rng.choice([entry[1] + 'x', 'a.b', _key(foreign, rng)])} = {entry[2]}"
            case 4:
                lines[number] = re.sub(
                    r"-?\d+(\.\d+)?", lambda found: rng.choice((found[0], "-" + found[0], "0", found[0] * 9)), lines[number]
                )
            case 5:
                lines.insert(number, rng.choice(foreign))
            case 6:
                _lines(lines, foreign, rng)
            case _ if entry:
                lines[number] = f"{entry[1]} = {_foreign_value(foreign, rng)}"
            case _:
                del lines[number]
                lines = lines or [""]
    return "\n".join(lines).encode()


def _key(lines: list[str], rng: random.Random) -> str:
    found = [entry[1] for line in lines if (entry := _ENTRY.match(line))]
    return rng.choice(found) if found else "x"


def _foreign_value(lines: list[str], rng: random.Random) -> str:
    found = [entry[2] for line in lines if (entry := _ENTRY.match(line))]
    return rng.choice(found) if found else rng.choice(_TOML)


def mutate_lines(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Lines of JSON or of words: one removed, moved, repeated, cut, taken from `other`, or changed as JSON."""
    lines, foreign = data.split(b"\n"), other.split(b"\n")
    number = rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[number] = mutate_json(lines[number], rng.choice(foreign), rng)
    else:
        _lines(lines, foreign, rng)
    return b"\n".join(lines)


def _lines(lines: list[Any], foreign: list[Any], rng: random.Random) -> None:
    """Move, repeat, replace or cut a line, in place."""
    number = rng.randrange(len(lines))
    match rng.randrange(4):
        case 0:
            lines.insert(rng.randrange(len(lines)), lines.pop(number))
        case 1:
            lines.insert(number, lines[number])
        case 2:
            lines[number] = rng.choice(foreign)
        case _:
            lines[number] = lines[number][: rng.randrange(len(lines[number]) + 1)]
