"""A report as a list of blocks, apart from how it is written: `mtl.study.markdown` and `mtl.study.html` write it.

Knows headings, text, tables and figures; knows nothing about studies. Text is plain: no markup of either language.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtl.study.answers import Answer

__all__ = ["Answers", "Block", "Document", "Facts", "Figure", "Heading", "Items", "Text", "TextTable"]


@dataclass(frozen=True, slots=True)
class Heading:
    """Starts a section."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph; `small` for remarks."""

    text: str
    small: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """A list of sentences; `code` for commands."""

    items: tuple[str, ...]
    code: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Short names with what they are."""

    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Questions with their answers."""

    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class TextTable:
    """Rows of finished text, the first column names them.

    Attributes:
        strong: (row, column) of cells to stress.
        caption: what it shows.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[tuple[int, int]] = frozenset()
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """An image.

    Attributes:
        name: of the file beside the Markdown report, with its suffix: .svg or .jpg.
        content: SVG text without a prolog, or JPEG bytes.
        caption: what it shows; also read out instead of it.
        columns: headings over equal parts of the image's width.
    """

    name: str
    content: str | bytes
    caption: str
    columns: tuple[str, ...] = ()


Block = Heading | Text | Items | Facts | Answers | TextTable | Figure


@dataclass(frozen=True, slots=True)
class Document:
    """A whole report."""

    title: str
    question: str
    blocks: Sequence[Block]
