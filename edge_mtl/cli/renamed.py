"""Flags that had another name in 0.1: they are hidden, do the same, and name the new form. All of them go away in 0.3."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from edge_mtl.cli.arguments import UsageError

__all__ = ["REMOVED_IN", "old_flag", "renamed_path", "say_renamed"]

REMOVED_IN = "0.3"


def old_flag(name: str, metavar: str) -> Any:
    """A hidden option under its old name."""
    return typer.Option(name, metavar=metavar, hidden=True)


def renamed_path(old: str, old_value: Path | None, new: str, value: Path | None) -> Path | None:
    """The value of an option that may have been given under its old name. Raises UsageError where both were given."""
    if old_value is None:
        return value
    if value is not None:
        raise UsageError(f"{old} is the old name of {new}: give {new} only.")
    say_renamed(f"{old} {old_value}", f"{new} {old_value}")
    return old_value


def say_renamed(old: str, new: str) -> None:
    """One line on standard error that names the new form."""
    sys.stderr.write(f"`{old}` is now `{new}`; the old name goes away in {REMOVED_IN}\n")
