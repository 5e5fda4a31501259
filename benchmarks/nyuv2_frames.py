"""NYUv2's test frames for benchmarks, from a folder that train/prepare_nyuv2.py wrote. Knows nothing about bundles."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["open_nyuv2"]


def open_nyuv2(root: Path, count: int) -> Any:
    """The first `count` test frames: a source of `mtl.datasets.frame.Frame`. Raises DatasetError: the folder cannot be used."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
    from mtl.datasets.nyuv2.frames import NyuRequest

    request: Any = NyuRequest
    return request(str(root), "val", first=count).open()
