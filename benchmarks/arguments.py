"""What several scripts take on their command lines."""

from __future__ import annotations

import argparse

__all__ = ["size"]


def size(text: str) -> tuple[int, int]:
    """(height, width) in pixels from HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"a size is HEIGHTxWIDTH such as 480x640, not {text!r}")
    return int(height), int(width)
