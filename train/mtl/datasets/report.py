"""What a look at every file of a data set found: checks, each with problems that name files. Knows nothing about printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Check", "Progress", "Report", "Status"]

Status = Literal["ok", "note", "problem"]
Progress = Callable[[str, int, int], None]
"""(what, files done, files in all)."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of a report; `problems` are sentences that name files.

    Attributes:
        details: figures by name, plain values for JSON.
    """

    name: str
    found: str
    problems: tuple[str, ...] = ()
    note: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def status(self) -> Status:
        return "problem" if self.problems else "note" if self.note else "ok"


@dataclass(frozen=True, slots=True)
class Report:
    """Every check of a folder."""

    folder: str
    checks: tuple[Check, ...]

    @property
    def fine(self) -> bool:
        """Whether nothing is a problem."""
        return not any(check.problems for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = []
        for check in self.checks:
            content = {**asdict(check), "status": check.status}
            if not check.details:
                del content["details"]
            checks.append(content)
        return {"folder": self.folder, "fine": self.fine, "checks": checks}
