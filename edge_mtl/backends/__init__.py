"""Runtimes that run ONNX graphs or plans made of them: one specification and one folder each, behind one small protocol.

What a runtime is, is said by its `BackendSpec`; which there are, by the registry. Knows nothing about tasks, images or
bundles. No runtime is imported before it is opened.
"""

from __future__ import annotations

import importlib
from typing import Any

from edge_mtl.backends.availability import Availability, availability_of, available, none_usable, prove, proven
from edge_mtl.backends.protocol import Array, Backend, BackendInfo, CompiledGraph, OpenOptions, TensorSpec
from edge_mtl.backends.registry import BACKENDS, qdq_styles, register, spec_of, style_of, unregister
from edge_mtl.backends.spec import PRECISIONS, BackendSpec, BuildVariant, Precision, QdqStyle
from edge_mtl.errors import BackendUnavailable
from edge_mtl.onnx_graph.allowlist import check_graph

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "Array",
    "Availability",
    "Backend",
    "BackendInfo",
    "BackendSpec",
    "BuildVariant",
    "CompiledGraph",
    "OpenOptions",
    "Precision",
    "QdqStyle",
    "TensorSpec",
    "available",
    "compile_graph",
    "import_runtime",
    "none_usable",
    "open_backend",
    "open_unguarded",
    "prove",
    "proven",
    "qdq_styles",
    "register",
    "spec_of",
    "style_of",
    "unregister",
]


def open_backend(
    name: str,
    model: bytes,
    *,
    threads: int | None = None,
    precision: str = "fp32",
    compiled: CompiledGraph | None = None,
    device: int = 0,
    parallel: int = 1,
) -> Backend:
    """Load a graph, or a plan made of one, with the runtime `name`.

    Args:
        model: an ONNX file whose digest has been checked; the runtime sees it only if `onnx_graph.allowlist` lets it pass.
            For a runtime that takes no graphs a plan. A plan is a program: it must have been built by this user,
            or be trusted by them, and its digest must have been checked; no list of operators can protect from it.
        threads: worker threads; by default one per physical core that this process may use.
        precision: what floating-point layers compute in; "int8" graphs carry their integers themselves.
        compiled: what `compile_graph` made of this model in this precision on this machine: loads faster. Where it does
            not fit the runtime, the model is compiled again and `Backend.info.loading` says why.
        device: index of the GPU, for runtimes on one.
        parallel: how many calls of `run` should compute at once, each by `threads`; more than that wait for one another.
    Raises:
        BackendUnavailable: unknown, not installed, broken, or it cannot compute in `precision` or on `device` here.
        BundleError: the graph is refused, by the allowlist or by the runtime.
        ValueError: `threads` is below 1.
    """
    return _open(name, model, OpenOptions(precision, threads, device, compiled, parallel=parallel))


def open_unguarded(name: str, model: bytes, *, threads: int) -> Backend:
    """An INT8 graph, also in a runtime that refuses what it would compute wrongly here. Raises as `open_backend`."""
    return _open(name, model, OpenOptions("int8", threads, guarded=False))


def compile_graph(name: str, model: bytes, *, precision: str = "fp32") -> CompiledGraph | None:
    """What the runtime `name` makes of a graph, for `open_backend`; None where it cannot give that away.

    It does not depend on the number of threads. Raises as `open_backend` does.
    """
    if not spec_of(name).compiles:
        return None
    module = _module(name, model, threads=None, precision=precision)
    compiled: CompiledGraph | None = module.compile_graph(model, precision=precision)
    return compiled


def _open(name: str, model: bytes, options: OpenOptions) -> Backend:
    module = _module(name, model, threads=options.threads, precision=options.precision)
    backend: Backend = module.open_graph(model, options)
    return backend


def _module(name: str, model: bytes, *, threads: int | None, precision: str) -> Any:
    """The module of a runtime, imported once everything that can be checked without it was."""
    spec = spec_of(name)
    if precision not in PRECISIONS:
        raise BackendUnavailable(f"Unknown precision {precision!r}. Choose one of: {', '.join(PRECISIONS)}")
    if threads is not None and threads < 1:
        raise ValueError(f"threads should be at least 1; found {threads}")
    return import_runtime(spec, spec.module, model)


def import_runtime(spec: BackendSpec, module: str, model: bytes) -> Any:
    """A module of a runtime, once the runtime is found, the graph that it is for is checked and its package is proven.

    Raises:
        BackendUnavailable: it is missing or broken.
        BundleError: the graph is refused; the runtime was not touched.
    """
    found = availability_of(spec)
    if not found.usable:
        raise BackendUnavailable(found.reason)
    if spec.takes_graphs:
        check_graph(model)
    proof = prove(spec, found)
    if not proof.usable:
        raise BackendUnavailable(proof.reason)
    return importlib.import_module(module)
