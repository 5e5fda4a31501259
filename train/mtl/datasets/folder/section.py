"""One table of `dataset.toml`, read with errors that name file and key. Knows values; knows nothing about data sets."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_mtl.errors import BuildError
from edge_mtl.numbers import is_number

__all__ = ["Section", "shown"]

_REQUIRED: Any = object()


def shown(value: Any) -> str:
    """A value for messages, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


class Section:
    """The values of one table; `done` refuses keys that nothing asked for.

    Every method raises BuildError with the file, the key, what was expected and what was found.

    Args:
        path: of the file, for messages.
        name: of the table within it: "tasks.depth", or "" for the file itself.
    """

    def __init__(self, content: Any, path: Path, name: str = "") -> None:
        self.path, self.name = path, name
        if not isinstance(content, Mapping):
            raise self.error("", f"expected a table, found {shown(content)}")
        self.content: Mapping[str, Any] = content
        self._known: list[str] = []

    def error(self, key: str, problem: str) -> BuildError:
        """An error about a key of this table; "" for the table itself."""
        return BuildError(f"{self.path}: {self.place(key)}: {problem}")

    def place(self, key: str) -> str:
        """The key as it is written from the top of the file."""
        return ".".join(part for part in (self.name, key) if part) or "the file"

    def has(self, key: str) -> bool:
        """Whether the key is there; it becomes a known one."""
        self._known.append(key)
        return key in self.content

    def take(self, key: str, noun: str, default: Any = _REQUIRED) -> Any:
        """The value as TOML gives it."""
        if self.has(key):
            return self.content[key]
        if default is _REQUIRED:
            raise self.error(key, f"is missing; expected {noun}")
        return default

    def text(self, key: str, noun: str = "text", default: Any = _REQUIRED) -> str:
        """Text that is not empty."""
        value = self.take(key, noun, default)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"expected {noun}, found {shown(value)}")
        return value

    def choice(self, key: str, among: Sequence[str], default: Any = _REQUIRED) -> str:
        """One of several words."""
        value = self.take(key, f"one of {', '.join(among)}", default)
        if value not in among:
            raise self.error(key, f"expected one of {', '.join(among)}, found {shown(value)}")
        return str(value)

    def flag(self, key: str, noun: str) -> bool:
        """True or false."""
        value = self.take(key, noun)
        if not isinstance(value, bool):
            raise self.error(key, f"expected {noun}, found {shown(value)}")
        return value

    def whole(self, key: str, noun: str, *, low: int, high: int, default: Any = _REQUIRED) -> int:
        """A whole number from `low` to `high`."""
        value = self.take(key, noun, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self.error(key, f"expected {noun}, found {shown(value)}")
        return value

    def number(
        self, key: str, noun: str, *, above: float = -math.inf, below: float = math.inf, default: Any = _REQUIRED
    ) -> float:
        """A finite number above `above` and below `below`."""
        value = self.take(key, noun, default)
        if not is_number(value) or not above < value < below:
            raise self.error(key, f"expected {noun}, found {shown(value)}")
        return float(value)

    def numbers(self, key: str, noun: str, count: int, default: Any = _REQUIRED) -> tuple[float, ...]:
        """A list of finite numbers."""
        value = self.take(key, noun, default)
        if not isinstance(value, (list, tuple)) or len(value) != count or not all(is_number(one) for one in value):
            raise self.error(key, f"expected {noun}, found {shown(value)}")
        return tuple(float(one) for one in value)

    def section(self, key: str, noun: str) -> Section:
        """A table within this one."""
        value = self.take(key, noun)
        if not isinstance(value, Mapping):
            raise self.error(key, f"expected {noun}, found {shown(value)}")
        return Section(value, self.path, self.place(key))

    def folder(self, key: str, default: Any = _REQUIRED) -> str:
        """A folder below that of the file."""
        value = self.text(key, "a folder beside dataset.toml", default)
        parts = Path(value).parts
        if Path(value).is_absolute() or ".." in parts or "\0" in value:
            raise self.error(key, f"expected a folder beside dataset.toml, without '..', found {shown(value)}")
        return value

    def done(self) -> None:
        """Refuses keys that nothing asked for."""
        for key in self.content:
            if key not in self._known:
                near = difflib.get_close_matches(key, self._known, n=1)
                guess = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(self._known)}"
                raise self.error(key, f"is not a key of {self.name or 'this file'}: {guess}")
