"""Reading TOML tables with errors that name the key, and writing values back as TOML. Knows nothing about studies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_mtl.documents import parse_toml
from edge_mtl.errors import EdgeMtlError

__all__ = ["StudyError", "TableReader", "flat", "merged", "read_toml", "toml_value"]


class StudyError(EdgeMtlError):
    """A study cannot be read, or one of its rows failed."""

    exit_code = 14


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file. Raises StudyError: unreadable, or no TOML."""
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise StudyError(f"{path} cannot be read ({exc.strerror}). Studies are in train/studies") from exc
    except ValueError as exc:  # also a path with a zero in it
        raise StudyError(f"{path} is not TOML: {exc}") from exc


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables laid over each other; anything that is not a table is replaced whole."""
    result = dict(below)
    for key, value in above.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged(before, value) if both else value  # type: ignore[arg-type]
    return result


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loop": {"threads": 1}} -> {"loop.threads": 1}."""
    result: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, Mapping):
            result.update(flat(value, f"{prefix}{key}."))
        else:
            result[prefix + key] = value
    return result


def toml_value(value: Any) -> str:
    """A plain value as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


class TableReader:
    """Values of a TOML table with errors that name the key."""

    def __init__(self, content: Mapping[str, Any], source: str) -> None:
        self._content, self.source = content, source

    def text(self, key: str, *, default: str | None = None) -> str:
        return str(self._typed(key, str, "text", default))

    def number(self, key: str, *, default: int | None = None) -> int:
        return int(self._typed(key, int, "a whole number", default))

    def table(self, key: str, *, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._typed(key, Mapping, "a table", default)
        return found

    def items(self, key: str, kind: type, *, default: Sequence[Any] | None = None) -> list[Any]:
        found = self._typed(key, (list, tuple), "a list", default)
        if any(not isinstance(item, kind) or isinstance(item, bool) for item in found):
            raise StudyError(f"{self.source}: {key} should be a list of {'whole numbers' if kind is int else 'texts'}")
        return list(found)

    def tables(self, key: str) -> list[Mapping[str, Any]]:
        return self.items(key, Mapping)

    def nothing_else(self, known: set[str]) -> None:
        unknown = sorted(set(self._content) - known)
        if unknown:
            raise StudyError(f"{self.source}: unknown key {unknown[0]!r}; the keys are {', '.join(sorted(known))}")

    def _typed(self, key: str, kind: Any, noun: str, default: Any) -> Any:
        if key not in self._content:
            if default is None:
                raise StudyError(f"{self.source}: {key} is missing, it should be {noun}")
            return default
        value = self._content[key]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise StudyError(f"{self.source}: {key} should be {noun}, found {value!r}")
        return value
