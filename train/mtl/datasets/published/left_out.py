"""Entries of a data set that cannot be used: an error that names them, or left out where that many may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_mtl.errors import BuildError

__all__ = ["LeftOut", "Tally"]

_NAMED = 3
_KEPT = 500


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Entries of one sort that cannot be used.

    Attributes:
        what: of what sort: "boxes", "images".
        count, of: how many cannot be used, of how many.
        reasons: sentences that name the first of them.
    """

    what: str
    count: int
    of: int
    reasons: tuple[str, ...] = ()

    def check(self, where: str, may_skip: float) -> None:
        """Raises BuildError where more of them cannot be used than may be left out."""
        if self.count <= may_skip * self.of:
            return
        named = "; ".join(self.reasons[:_NAMED])
        more = f"; and {self.count - _NAMED} more" if self.count > _NAMED else ""
        needed = min(1.0, self.count / max(1, self.of) * 1.0001)
        raise BuildError(
            f"{where}: {self.count} of {self.of} {self.what} cannot be used: {named}{more}. Mend them, or leave them out: "
            f"data.may_skip = {needed:.2g} or more (it is {may_skip:g})"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"what": self.what, "count": self.count, "of": self.of, "reasons": list(self.reasons)}

    @classmethod
    def of_dict(cls, content: Mapping[str, Any]) -> LeftOut:
        """The inverse of `as_dict`."""
        return cls(content["what"], content["count"], content["of"], tuple(content["reasons"]))


class Tally:
    """Collects what cannot be used."""

    def __init__(self, what: str) -> None:
        self._what, self._count, self._reasons = what, 0, list[str]()

    def __len__(self) -> int:
        return self._count

    def add(self, reason: str) -> None:
        """One more."""
        self._count += 1
        if len(self._reasons) < _KEPT:
            self._reasons.append(reason)

    def result(self, of: int) -> LeftOut:
        """All of them, of so many entries."""
        return LeftOut(self._what, self._count, of, tuple(self._reasons))
