"""How often each of some classes occurs, by split, for reports."""

from __future__ import annotations

from typing import Any

import numpy as np

from .cache import SPLITS, Split

__all__ = ["Tally"]


class Tally:
    """How often each of some classes occurs, by split."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._counts = {split: np.zeros(len(names), np.int64) for split in SPLITS}
        self._frames = {split: np.zeros(len(names), np.int64) for split in SPLITS}

    @property
    def classes(self) -> int:
        """How many there are."""
        return len(self._names)

    def __bool__(self) -> bool:
        return any(counts.any() for counts in self._counts.values())

    def add(self, split: Split, counts: np.ndarray) -> None:
        """Add a frame."""
        self._counts[split] += counts
        self._frames[split] += counts > 0

    def found(self) -> str:
        total = sum(self._counts.values(), np.zeros(len(self._names), np.int64))
        return f"{int((total > 0).sum())} of {len(self._names)} classes"

    def details(self, of: str = "labelled pixels") -> dict[str, Any]:
        """For tables and JSON: what shares are of, and share and frames of every class."""
        splits = [split for split in SPLITS if self._counts[split].any()]
        if not splits:
            return {}
        classes = {
            name: {
                split: {
                    "share": round(int(self._counts[split][index]) / int(self._counts[split].sum()), 6),
                    "frames": int(self._frames[split][index]),
                }
                for split in splits
            }
            for index, name in enumerate(self._names)
        }
        return {"of": of, "classes": classes}
