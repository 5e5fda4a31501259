"""Kinds of command-line arguments that several scripts take. Knows nothing about what they are used for."""

from __future__ import annotations

import argparse

__all__ = ["size_argument"]


def size_argument(text: str) -> tuple[int, int]:
    """ "192x256" -> (192, 256), height and width in pixels. Raises argparse.ArgumentTypeError."""
    height, _, width = text.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"a size is HEIGHTxWIDTH such as 192x256, not {text!r}")
    return int(height), int(width)
