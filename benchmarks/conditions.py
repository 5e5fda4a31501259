"""What every committed result says about how it was measured: see `edge_mtl.bench.conditions`; here also threads and load."""

from __future__ import annotations

import os
import sys
from typing import Any

import cv2

from edge_mtl.bench import conditions

__all__ = ["Conditions"]


class Conditions:
    """Made when a measurement starts, described when it has ended.

    Args:
        threads: of the runtimes; OpenCV, which prepares and finishes frames, gets as many.
    """

    def __init__(self, *, threads: int) -> None:
        cv2.setNumThreads(threads)
        self._threads = threads
        self._load = os.getloadavg()
        self._conditions = conditions.Conditions(["python", *sys.argv])

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON. `load` is the number of busy processes before and after, averaged over a minute."""
        content = self._conditions.describe()
        return content | {
            "date": content["date"][:10],
            "threads": {"runtime": self._threads, "opencv": cv2.getNumThreads()},
            "load": {"before": round(self._load[0], 2), "after": round(os.getloadavg()[0], 2)},
        }
