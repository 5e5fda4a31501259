"""The modules of training, which are not installed: they lie in the folder `train` of this checkout."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

__all__ = ["installed", "training_modules"]

_FOLDERS = ("train", "calibration")


def training_modules() -> None:
    """Let `mtl` and the scripts of training be imported."""
    for name in _FOLDERS:
        folder = str(Path(__file__).resolve().parents[3] / name)
        if folder not in sys.path:
            sys.path.append(folder)


def installed(*packages: str) -> bool:
    """Whether all of them are here: targets that need others are left out."""
    return all(importlib.util.find_spec(one) is not None for one in packages)
