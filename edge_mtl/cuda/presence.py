"""Whether this machine shows an NVIDIA GPU to this process, without loading anything: files and one variable are looked at."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["no_gpu"]

_NODES = ("nvidia[0-9]*", "nvhost-gpu", "nvgpu/igpu0", "nvmap", "dxg")
"""Device files of a desktop or server, of Jetsons (two generations of drivers), and of a GPU within Windows' Linux."""


def no_gpu(*, root: Path = Path("/")) -> str:
    """Why CUDA will find no device, a sentence; "" where it should find one.

    Args:
        root: where dev/ is; anything but "/" is for tests.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU from this process. Unset it."
    if any(next((root / "dev").glob(node), None) is not None for node in _NODES):
        return ""
    return "there is no NVIDIA GPU here, or its driver is not loaded: check with nvidia-smi."
