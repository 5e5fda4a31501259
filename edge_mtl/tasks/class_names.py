"""Names of classes as manifests may have them, for every kind whose tasks have classes of their own."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

__all__ = ["check_classes", "named", "short"]

_UNWRITTEN = ("Cc", "Cs", "Zl", "Zp")
"""Unicode's control characters, halves of characters and line ends: not what a name is made of."""


def check_classes(task: str, found: Any, *, fewest: int, most: int) -> None:
    """Raise ValueError where `found` is no list of `fewest` to `most` names, all different; `task` is named in the message."""
    wanted = f"classes of {task} should be a list of {fewest} to {most} names"
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError(f"{wanted}; found {short(found)}")
    if not fewest <= len(found) <= most:
        raise ValueError(f"{wanted}; found {len(found)}")
    seen: dict[str, int] = {}
    for index, one in enumerate(found):
        if not one.strip():
            raise ValueError(f"{wanted}, none of them empty; found {one!r} at index {index}")
        if any(unicodedata.category(character) in _UNWRITTEN for character in one):
            raise ValueError(f"{wanted} without control characters; found {one!r} at index {index}")
        if one in seen:
            raise ValueError(f"{wanted}, each once; found {one!r} at indices {seen[one]} and {index}")
        seen[one] = index


def named(classes: Sequence[str]) -> str:
    """Names by id as JSON, for those who read messages that hold ids: {"classes": [{"id": 0, "name": "chair"}, ...]}."""
    return json.dumps({"classes": [{"id": index, "name": name} for index, name in enumerate(classes)]})


def short(value: Any) -> str:
    """A value for messages, at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
