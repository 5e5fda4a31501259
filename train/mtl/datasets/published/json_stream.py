"""Large JSON files item by item: the arrays of the outermost object, or the outermost array, never all of the file at once.

Knows no data set.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edge_mtl.errors import BuildError

__all__ = ["top_level_items"]

_CHUNK = 4 << 20
_UNFINISHED = 4
"""Characters of a number that may be read without being part of one yet: "1e+" of 1e+5."""

_NEAR_THE_END = 1 << 16
"""Characters before the end of what was read in which an error may only mean that more has to be read."""


def top_level_items(
    path: Path, *, on_bytes: Callable[[int], None] | None = None, array: str | None = None
) -> Iterator[tuple[str, Any]]:
    """(key, item) of every item of the arrays in the outermost object, and (key, value) of what is no array, as they come.

    Args:
        on_bytes: called with the bytes read so far.
        array: the key of the items where the outermost value is an array; None: it may be none.
    Raises:
        BuildError: the file cannot be read, is no JSON of UTF-8, was cut short, or its outermost value is no object.
    """
    try:
        with path.open("rb") as stream:
            yield from _items(_Text(stream, on_bytes), path, array)
    except OSError as exc:
        raise BuildError(f"{path} cannot be read ({exc.strerror or exc}). Copy it again, or name another file") from exc
    except UnicodeDecodeError as exc:
        raise BuildError(f"{path} is not UTF-8, as JSON is: {exc.reason}. Convert it: iconv -f ISO-8859-1 -t UTF-8") from exc
    except (json.JSONDecodeError, RecursionError) as exc:
        what = exc.msg if isinstance(exc, json.JSONDecodeError) else "nested too deep"
        raise BuildError(f"{path} is not JSON, or was cut short: {what}. Copy it again, or name another file") from exc


def _items(text: _Text, path: Path, array: str | None) -> Iterator[tuple[str, Any]]:
    if array is not None and text.peek() == "[":
        yield from _array(text, array)
        return
    if text.peek() != "{" and array is not None:
        raise BuildError(f"{path}: expected an array of {array}, or an object that has one, found something else")
    if text.peek() != "{":
        raise BuildError(f"{path}: expected an object with images, annotations and categories, found something else")
    text.at += 1
    if text.peek() == "}":
        return
    while True:
        key = text.value()
        if not isinstance(key, str):
            raise text.error("expected a key")
        text.expect(":")
        if text.peek() == "[":
            yield from _array(text, key)
        else:
            yield key, text.value()
        if text.expect(",}") == "}":
            return


def _array(text: _Text, key: str) -> Iterator[tuple[str, Any]]:
    text.at += 1
    if text.peek() == "]":
        text.at += 1
        return
    while True:
        yield key, text.value()
        if text.expect(",]") == "]":
            return


class _Text:
    """What was read and not yet understood; `at` is the place in it."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[int], None] | None) -> None:
        self._stream, self._on_bytes = stream, on_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict").decode
        self._parse = json.JSONDecoder().raw_decode
        self._bytes = 0
        self.text, self.at = "", 0

    def more(self) -> bool:
        """Read on, as much again as is waiting; whether there was something."""
        chunk = self._stream.read(max(_CHUNK, len(self.text) - self.at))
        text = self._decode(chunk, not chunk)
        if not chunk:
            return False
        self._bytes += len(chunk)
        self.text, self.at = self.text[self.at :] + text, 0
        if self._on_bytes is not None:
            self._on_bytes(self._bytes)
        return True

    def peek(self) -> str:
        """The next character that is not white space; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def expect(self, among: str) -> str:
        """One of these characters."""
        found = self.peek()
        if not found or found not in among:
            raise self.error(f"expected {' or '.join(among)}")
        self.at += 1
        return found

    def value(self) -> Any:
        """The value that begins here."""
        self.peek()
        while True:
            try:
                value, end = self._parse(self.text, self.at)
            except json.JSONDecodeError as exc:
                early = exc.pos < len(self.text) - _NEAR_THE_END and not exc.msg.startswith("Unterminated")
                if early or not self.more():
                    raise
                continue
            if end + _UNFINISHED < len(self.text) or isinstance(value, (dict, list, str)) or not self.more():
                self.at = end
                return value

    def error(self, what: str) -> json.JSONDecodeError:
        return json.JSONDecodeError(what, self.text, self.at)
