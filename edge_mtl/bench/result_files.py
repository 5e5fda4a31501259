"""Where a benchmark goes besides the terminal: JSON, the card as HTML and Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mtl.bench.card import to_html, to_markdown
from edge_mtl.files import require_file_names, write_atomic

__all__ = ["OutputPaths"]

_IMAGES = 3


@dataclass(frozen=True, slots=True)
class OutputPaths:
    """Files to write; None for none.

    Attributes:
        json: all figures.
        html, markdown: the card.
    """

    json: Path | None = None
    html: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """Refuse what would fail after minutes of measuring. Raises OSError where a name is that of a folder."""
        require_file_names(self.json, self.html, self.markdown)

    @property
    def images(self) -> int:
        """How many images of predictions they have room for."""
        return 0 if self.html is None else _IMAGES

    def write(self, content: dict[str, Any], images: Sequence[tuple[str, bytes]]) -> list[Path]:
        """Write what was asked for, and return it.

        Args:
            content: of the report, plain values.
            images: (title, JPEG).
        Raises:
            OSError: a file cannot be written.
        """
        written = []
        for path, payload in (
            (self.json, lambda: json.dumps(content, indent=1, allow_nan=False) + "\n"),
            (self.html, lambda: to_html(content, images=images)),
            (self.markdown, lambda: to_markdown(content)),
        ):
            if path is not None:
                write_atomic(path, payload().encode())
                written.append(path)
        return written
