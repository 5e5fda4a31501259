"""What a runtime compiled of a graph, kept beside the graph's file. Knows two files; knows nothing about what the graph is."""

from __future__ import annotations

from pathlib import Path

from edge_mtl.backends import CompiledGraph, compile_graph
from edge_mtl.errors import BackendUnavailable
from edge_mtl.files import write_atomic

__all__ = ["compiled", "compiled_file"]


def compiled(graph: Path, backend: str, precision: str) -> CompiledGraph | None:
    """What the runtime compiled of a graph, kept beside it; None where the runtime gives none away or lacks the precision."""
    code = compiled_file(graph, backend, precision)
    origin = code.with_suffix(".origin")
    if not (code.is_file() and origin.is_file()):
        try:
            made = compile_graph(backend, graph.read_bytes(), precision=precision)
        except BackendUnavailable:
            made = None
        write_atomic(code, b"" if made is None else made.payload)
        write_atomic(origin, b"" if made is None else made.origin.encode())
    payload = code.read_bytes()
    return CompiledGraph(payload, origin.read_text()) if payload else None


def compiled_file(graph: Path, backend: str, precision: str) -> Path:
    """Where the code is kept; which runtime it is of lies beside it, in a file that ends in .origin."""
    return graph.with_name(f"{graph.name}.{backend}.{precision}.compiled")
