"""Rendered rooms for benchmarks, from the renderer in train/. Knows one split at a time; knows nothing about bundles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["open_rooms"]


def open_rooms(root: Path, split: str, count: int, size: tuple[int, int]) -> Any:
    """Rooms 0 to count of a split, rendered first where they are missing: a source of `mtl.datasets.frame.Frame`.

    Args:
        size: (height, width) in pixels.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
    from mtl.datasets.rooms.source import RoomsRequest

    request: Any = RoomsRequest
    return request(str(root), split, count, *size).open()
