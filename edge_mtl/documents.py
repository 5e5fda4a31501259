"""JSON and TOML from files that anybody may have written: whatever is wrong with one is a ValueError, also its nesting."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["finite_json", "parse_json", "parse_toml"]

_DEEPEST = 64
"""Levels; what is written here has less than ten. Whoever walks through the values needs no guard against its own depth."""


def parse_json(text: str | bytes) -> Any:
    """The value that JSON holds.

    Raises:
        ValueError: it is no JSON, no Unicode, has a number of thousands of digits, or is nested deeper than 64 levels.
    """
    return _parsed(text)


def finite_json(text: str | bytes) -> Any:
    """The same, with finite numbers and whole characters only, so that it can be written again.

    Raises:
        ValueError: as `parse_json`; also where it has NaN, infinity, a number that is too large or half a character.
    """
    content = _parsed(text, parse_constant=_not_finite, parse_float=_finite)
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as exc:
        raise ValueError("text should be Unicode; found half of a surrogate pair") from exc
    return content


def parse_toml(text: str | bytes) -> dict[str, Any]:
    """The tables that TOML holds.

    Raises:
        ValueError: it is no TOML, bytes are no UTF-8, or it is nested deeper than 64 levels.
    """
    try:
        content = tomllib.loads(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _require_shallow(content)
    return content


_TOO_DEEP = f"it is nested deeper than {_DEEPEST} levels"


def _parsed(text: str | bytes, **options: Any) -> Any:
    try:
        content = json.loads(text, **options)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _require_shallow(content)
    return content


def _require_shallow(content: Any) -> None:
    level, depth = [content], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(_TOO_DEEP)
        inside = (one.values() if isinstance(one, dict) else one for one in level if isinstance(one, (dict, list)))
        level = [value for values in inside for value in values]


def _not_finite(word: str) -> float:
    raise ValueError(f"numbers should be finite; found {word[:40]}")


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _not_finite(digits)
