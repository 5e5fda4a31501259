"""The threat model: the table of SECURITY.md as data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Threat", "threats"]

ROOT = Path(__file__).resolve().parents[3]
_TEST = re.compile(r"`(tests/[\w/]+\.py)((?:, )?::\w+)?`|`(::\w+)`")


@dataclass(frozen=True, slots=True)
class Threat:
    """One row.

    Attributes:
        name: the threat, as it is written there.
        tests: what pytest calls them: path::name.
    """

    name: str
    tests: tuple[str, ...]


def threats(text: str | None = None) -> tuple[Threat, ...]:
    """The rows of the table of defences. A test is named `path::name`, or `::name` in the file named before it in the row."""
    content = (ROOT / "SECURITY.md").read_text(encoding="utf-8") if text is None else text
    table = content.partition("## What we defend against")[2].partition("\n\n")[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in table.splitlines() if line.startswith("| ")
    ]
    found = []
    for row in rows[1:]:
        tests, path = [], ""
        for file, first, other in _TEST.findall(row[-1]):
            path = file or path
            tests.append(f"{path}{first or other}")
        found.append(Threat(row[0], tuple(tests)))
    return tuple(found)
