"""What every script of training needs of its surroundings, looked at before anything is imported that dies without it."""

from __future__ import annotations

import os

from edge_mtl import opencv
from edge_mtl.errors import SystemFault

__all__ = ["require_surroundings"]


def require_surroundings() -> None:
    """A usable OpenCV, and a working folder, without which the library of PyTorch ends the process.

    Raises:
        BackendUnavailable: see `edge_mtl.opencv.require`.
        SystemFault: the working folder was deleted.
    """
    opencv.require()
    try:
        os.getcwd()
    except FileNotFoundError as exc:
        raise SystemFault("the working folder was deleted. Change to another one: cd") from exc
