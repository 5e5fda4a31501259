"""What several scripts take on their command lines."""

from __future__ import annotations

import argparse

__all__ = ["numbers", "size"]


def numbers(text: str) -> tuple[int, ...]:
    """Whole numbers with commas between."""
    if not all(word.strip().isdigit() for word in text.split(",")):
        raise argparse.ArgumentTypeError(f"numbers with commas between such as 11,13 are expected, not {text!r}")
    return tuple(int(word) for word in text.split(","))


def size(text: str) -> tuple[int, int]:
    """(height, width) in pixels from HEIGHTxWIDTH."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"a size is HEIGHTxWIDTH such as 480x640, not {text!r}")
    return int(height), int(width)
