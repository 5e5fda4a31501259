"""Writes the record of the gates into docs/reliability.md, from the results that are committed.

python -m tests.reliability.page
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from edge_mtl.files import write_atomic
from tests.reliability.gates import GATES
from tests.reliability.record import read_records

__all__ = ["PAGE", "with_records"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- records: python -m tests.reliability.page -->", "<!-- end of records -->"


def with_records(text: str, records: Iterable[Mapping[str, Any]]) -> str:
    """The page with its generated part made of `records`."""
    before, rest = text.split(_BEGIN)
    _, after = rest.split(_END)
    return f"{before}{_BEGIN}\n{_tables(list(records))}\n{_END}{after}"


def _tables(records: list[Mapping[str, Any]]) -> str:
    lines = ["| gate | what holds | long run | quick part | runs | counts over all runs | positive control, seen to fail |"]
    lines.append("|---|---|---|---|---|---|---|")
    for gate in GATES.values():
        own = [record for record in records if record["gate"] == gate.name]
        counts = sum((Counter(record["counts"]) for record in own), Counter())
        # As one run saw each. It may name a test that is not there; on the page only tests that are there are named as such.
        found = [(each["fault"], each["seen"].replace(".py::", ".py, ")) for record in own for each in record["controls"]]
        controls = dict(found)
        lines.append(
            f"| {gate.name} | {gate.promise} | `{gate.command}` | `{gate.quick}` | {len(own) or 'none yet'} | "
            f"{', '.join(f'{count:,} {name}' for name, count in sorted(counts.items())) or '-'} | "
            f"{'; '.join(sorted(_cell(f'{fault}: {seen}') for fault, seen in controls.items())) or '-'} |"
        )
    lines += ["", "| run | date | machine | commit | minutes | counts | violations |", "|---|---|---|---|---|---|---|"]
    for record in records:
        counted = ", ".join(f"{count:,} {name}" for name, count in record["counts"].items())
        lines.append(
            f"| [{record['gate']}](../benchmarks/results/{record['file']}) | {record['date'][:10]} | "
            f"{_cell(record['device']['description'])} | {str(record['commit'])[:9]} | {record['seconds'] / 60:.0f} | "
            f"{counted} | {len(record['violations'])} |"
        )
    notes = [f"- {record['gate']}: {_cell(note)}" for record in records for note in record["notes"]]
    return "\n".join([*lines, *(["", "What could not be tried in these runs:", "", *dict.fromkeys(notes)] if notes else [])])


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|").strip()


if __name__ == "__main__":
    write_atomic(PAGE, with_records(PAGE.read_text(encoding="utf-8"), read_records()).encode())
