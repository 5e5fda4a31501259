"""`edge-mtl`: one module per command, which declares it, calls what does the work, and prints what came out."""

from edge_mtl.cli import (  # isort: skip  # registers commands, in the order of --help
    build_engine,
    engines,
    export,
    predict,
    scale,
    inspect,
    doctor,
    benchmark,
    demo,
    compare,
    profile,
    verify,
    sign,
    calibrate,
    sensitivity,
    old_commands,
)
from edge_mtl.cli.application import app
from edge_mtl.cli.process import main

__all__ = [
    "app",
    "benchmark",
    "build_engine",
    "calibrate",
    "compare",
    "demo",
    "doctor",
    "engines",
    "export",
    "inspect",
    "main",
    "old_commands",
    "predict",
    "profile",
    "scale",
    "sensitivity",
    "sign",
    "verify",
]
