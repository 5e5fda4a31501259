"""What the project says to people: documents, messages, help; and the commands that it says it about."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import typer

from edge_mtl.cli import app

ROOT = Path(__file__).resolve().parents[1]
GROUP: Any = typer.main.get_command(app)
COMMANDS: dict[str, Any] = GROUP.commands
PRESENT = {name: command for name, command in COMMANDS.items() if not command.hidden}
"""Without the old names."""
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "docs/guides/*.md", "docs/decisions/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
SOURCES = sorted(
    path
    for folder in ("edge_mtl", "ros2_ws/src", "train", "calibration", "examples", "benchmarks", "deploy")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".toml", ".yaml", ".service")
)
END = r"[`;,)\n#|&\"]|\. |: |$"
FLAG = re.compile(r"--[a-zA-Z][\w.-]*\w")


def holding(text: str, paths: Iterable[Path]) -> list[Path]:
    """Those of the files that hold `text`."""
    return [path for path in paths if text in path.read_text(encoding="utf-8")]


@cache
def texts(path: Path) -> tuple[str, ...]:
    """What a file says to people: all of a document or script, the strings of a module."""
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        return (content.replace("\\\n", " "),)
    nodes = list(ast.walk(ast.parse(content)))
    joined = [node for node in nodes if isinstance(node, ast.JoinedStr)]
    told = ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values) for node in joined]
    return (*told, *(node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)))


def options(command: str) -> dict[str, Any]:
    return {name: item for item in COMMANDS[command].params for name in (*item.opts, *item.secondary_opts)}
