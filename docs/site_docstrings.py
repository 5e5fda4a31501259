"""Docstrings of this repository for the API pages: a section may follow the one before without a blank line."""

from __future__ import annotations

import re
from typing import Any

import griffe

_SECTION = re.compile(r"(?<!\n)\n( *)(Args|Attributes|Returns|Yields|Raises):\n")


def with_blank_lines(docstring: str) -> str:
    """The docstring with a blank line before every section, which the parser asks for."""
    return _SECTION.sub(r"\n\n\1\2:\n", docstring)


class Sections(griffe.Extension):
    """Called by mkdocstrings for every object that it reads."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            obj.docstring.value = with_blank_lines(obj.docstring.value)
