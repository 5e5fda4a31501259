"""`edge-mtl`: parse, call, print. What the commands do is in edge_mtl.commands and the modules it calls."""

from edge_mtl.cli import building, running, measuring, accuracy  # isort: skip  # registers commands, in the order of --help
from edge_mtl.cli.application import app
from edge_mtl.cli.process import main

__all__ = ["accuracy", "app", "building", "main", "measuring", "running"]
