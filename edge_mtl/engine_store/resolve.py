"""Which graph runs where: the engines built on this machine, else the bundle's own graph in full precision.

Knows bundles, engine stores and backends; knows nothing about frames. A backend or precision that was named is used or
refused, never replaced; "auto" takes the fastest that is here and says why.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from edge_mtl.backends import (
    BACKENDS,
    PRECISIONS,
    Availability,
    Backend,
    CompiledGraph,
    available,
    none_usable,
    open_backend,
    prove,
    spec_of,
)
from edge_mtl.backends.selection import AUTO, check_any, check_known, on_kind, parse_device, resolve_gpu
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine_store.engines import EngineSelection, EngineStore
from edge_mtl.engine_store.sidecars import EngineRecord
from edge_mtl.errors import BackendUnavailable, BundleError, EngineMismatch
from edge_mtl.manifest import Manifest
from edge_mtl.onnx_graph.cut import cut_to, output_names
from edge_mtl.tasks import Placement, Specs, graph_outputs

__all__ = ["ResolvedEngine", "default_backend", "resolve_engine"]

_FULL = "fp32"
"""In which a bundle's own graph runs where no precision was named."""


@dataclass(frozen=True, slots=True)
class ResolvedEngine:
    """A graph to open.

    Attributes:
        model: its verified bytes.
        backend, precision: what to open it with.
        key: of the built engine; None for the bundle's own graph.
        reason: why this one, a sentence.
        fell_back: an engine or a runtime was passed over because the runtime is gone or broken.
        compiled: what the runtime made of the model when it was built; None where there is nothing of the kind.
        uncompiled: why that is, a sentence.
        tested: the engine's self-test when it was built; empty for the bundle's own graph.
    """

    model: bytes
    backend: str
    precision: str
    key: str | None
    reason: str
    fell_back: bool = False
    compiled: CompiledGraph | None = None
    uncompiled: str = ""
    tested: Mapping[str, Any] = field(default_factory=dict)

    def open(self, *, threads: int | None = None, device: int = 0, parallel: int = 1) -> Backend:
        """Make it ready to run; `device` is the index of the GPU. Raises as `edge_mtl.backends.open_backend` does."""
        return open_backend(
            self.backend,
            self.model,
            threads=threads,
            precision=self.precision,
            compiled=self.compiled,
            device=device,
            parallel=parallel,
        )

    def cut_to(self, tasks: Specs, manifest: Manifest) -> ResolvedEngine:
        """The same graph with the outputs of these tasks alone; itself where that changes nothing, or it is a plan.

        Nothing is stored: what was compiled of the whole graph does not fit, so the runtime compiles this one when it opens it.

        Raises:
            BundleError: the graph's outputs are not those of the manifest's tasks.
        """
        if len(tasks) == len(manifest.tasks) or not spec_of(self.backend).takes_graphs:
            return self
        size = (manifest.input.height, manifest.input.width)
        names = set(output_names(self.model))
        for place in get_args(Placement):
            if names == set(graph_outputs(manifest.tasks, size, place)):
                model = cut_to(self.model, graph_outputs(tasks, size, place).keys())
                why = f"it was cut to {', '.join(tasks)}" if self.compiled is not None else self.uncompiled
                return replace(self, model=model, compiled=None, uncompiled=why)
        raise BundleError(
            f"{manifest.name}: a graph for {', '.join(manifest.tasks)} was expected; found the outputs {', '.join(names)}. "
            "Export the bundle again."
        )


def default_backend(found: Mapping[str, Availability]) -> tuple[str | None, str]:
    """What runs a bundle's own graph where no engine was built and nothing was named, and why, a sentence."""
    usable = [name for name in BACKENDS if name in found and found[name].usable]
    chosen = _for_graphs(usable, _FULL)
    titles = " and ".join(spec_of(name).title for name in usable if not spec_of(name).takes_graphs)
    plans = f" {titles} runs engines only: build one with edge-mtl build-engine --int8." if titles else ""
    if chosen is not None and spec_of(chosen).device != "cpu":
        return chosen, f"it runs on the GPU, and the processor is not used in its place.{plans}"
    if chosen is not None:
        return chosen, f"nothing that runs graphs on a GPU is usable here: see the remarks on backends.{plans}"
    return None, f"no backend that runs graphs is usable here.{plans}"


def resolve_engine(
    bundle: Bundle,
    *,
    backend: str = AUTO,
    precision: str = AUTO,
    threads: int | None = None,
    build_missing: bool = False,
    trust_engine: bool = False,
    kind: str = AUTO,
    device: int = 0,
) -> ResolvedEngine:
    """Pick the engine for `bundle` on this machine. Its runtime is imported; "auto" passes over one that is broken.

    Args:
        trust_engine: let a plan, which is a program, run although this user did not build it.
        kind: "cpu" or "cuda": only what runs there; "auto" for both.
        device: index of the GPU that plans must have been built for.
    Raises:
        BackendUnavailable: an unknown or missing backend, or none at all.
        EngineMismatch: there is no engine of the named precision, or only engines of another machine, runtime version
            or graph; not with `build_missing`. Or a plan that is not trusted.
    """
    check_known(backend)
    if precision not in (AUTO, *PRECISIONS):
        raise BackendUnavailable(f"Unknown precision {precision!r}. Choose {AUTO} or one of: {', '.join(PRECISIONS)}")
    found = on_kind(available(), kind)
    while True:
        usable = tuple(name for name in BACKENDS if found[name].usable)
        if backend != AUTO and backend not in usable:
            raise BackendUnavailable(found[backend].reason)
        check_any(found, kind)
        if not usable:
            raise none_usable(found)
        if only := _only_unbuilt(precision):
            usable = _check_unbuilt(found, backend, precision, only)
        where = f"cuda:{device}" if device else kind
        chosen = _resolved(bundle, backend, precision, threads, build_missing, trust_engine, where, found, usable)
        proof = prove(spec_of(chosen.backend), found[chosen.backend])
        if proof.usable:
            return _with_broken(chosen, found) if backend == AUTO else chosen
        found[chosen.backend] = proof


def _with_broken(chosen: ResolvedEngine, found: Mapping[str, Availability]) -> ResolvedEngine:
    """`chosen`, with what is to be said of runtimes that are broken; of plug-ins that do not load the registry has said it."""
    broken = dict.fromkeys(entry.reason for name, entry in found.items() if entry.broken and not spec_of(name).problem)
    return replace(chosen, reason="; ".join((chosen.reason, *broken)), fell_back=True) if broken else chosen


def _resolved(
    bundle: Bundle,
    backend: str,
    precision: str,
    threads: int | None,
    build_missing: bool,
    trust_engine: bool,
    where: str,
    found: Mapping[str, Availability],
    usable: Sequence[str],
) -> ResolvedEngine:
    """The engine of `usable` runtimes that `resolve_engine` picks, or the bundle's own graph."""
    store = EngineStore(
        bundle, runtimes={name: found[name].version for name in usable}, gpu=resolve_gpu(parse_device(where)[1])
    )
    failed: EngineRecord | None = None
    while True:
        selection = _selection(bundle, store, backend, precision, threads, build_missing, where)
        record = selection.record
        if record is None:
            chosen = _graph_backend(bundle, backend, precision, usable, selection.reason)
            return _from_bundle(bundle, chosen, precision, selection.reason)
        try:
            model = store.load(record, trust_engine=trust_engine)
            break
        except BundleError:
            if record == failed and record in store.list():
                raise
            failed = record  # another process replaced or removed it since it was picked, or put it back by now: pick again
    fell_back = any(
        other.ratio > record.ratio and other.backend not in usable for other in store.find(precision=precision, backend=backend)
    )
    compiled, why = (None, "it is compiled already") if record.plan else store.compiled.load(record)
    return ResolvedEngine(
        model=model,
        backend=record.backend,
        precision=record.precision,
        key=record.key,
        reason=selection.reason,
        fell_back=fell_back,
        compiled=compiled,
        uncompiled=why,
        tested=record.self_test,
    )


def _selection(
    bundle: Bundle, store: EngineStore, backend: str, precision: str, threads: int | None, build_missing: bool, device: str
) -> EngineSelection:
    try:
        selection = store.select(precision=precision, backend=backend)
    except EngineMismatch:
        if not build_missing:
            raise
        selection = EngineSelection(None, "the engines here are stale")
    if selection.record is not None:
        return selection
    if build_missing and precision not in _unbuilt():
        from edge_mtl.builder.pipeline import build_engine

        family = "int8" if precision == AUTO else precision.partition("+")[0]
        build_engine(bundle, precision=family, backend=backend, device=device, threads=threads, store=store)
        return store.select(precision=precision, backend=backend)
    if precision not in (AUTO, *_unbuilt()):
        raise EngineMismatch(_missing(bundle, backend, precision, selection.reason))
    return selection


def _graph_backend(bundle: Bundle, backend: str, precision: str, usable: Sequence[str], why: str) -> str:
    """What runs the bundle's own graph: the backend that was named, else one on a GPU, else the first.

    Raises EngineMismatch where only a plan would do.
    """
    chosen = _for_graphs([name for name in usable if backend in (AUTO, name)], _FULL if precision == AUTO else precision)
    if chosen is None:
        raise EngineMismatch(_missing(bundle, backend, "int8" if precision == AUTO else precision, why))
    return chosen


def _for_graphs(names: Iterable[str], precision: str) -> str | None:
    """Of backends that run a bundle's own graph in `precision` the first on a GPU, else the first."""
    able = [name for name in names if precision in spec_of(name).unbuilt]
    return min(able, key=lambda name: spec_of(name).device == "cpu", default=None)


def _unbuilt() -> set[str]:
    """Precisions in which a bundle's own graph runs, without an engine."""
    return {precision for spec in BACKENDS.values() for precision in spec.unbuilt}


def _only_unbuilt(precision: str) -> tuple[str, ...]:
    """The backends that run `precision` without an engine, if it is one that no engine is built in; else none."""
    if any(variant.precision == precision for spec in BACKENDS.values() for each in spec.builds.values() for variant in each):
        return ()
    return tuple(name for name, spec in BACKENDS.items() if precision in spec.unbuilt)


def _from_bundle(bundle: Bundle, backend: str, precision: str, why: str) -> ResolvedEngine:
    # On a GPU pre- and post-processing belong in the graph: labels cross the bus, not logits. See docs/decisions/0003.
    graph = OPTIMIZED_ONNX if bundle.has(OPTIMIZED_ONNX) and spec_of(backend).device == "cpu" else REFERENCE_ONNX
    if precision in spec_of(backend).unbuilt:
        reason = f"{graph} in {precision} on {backend}, as asked for"
    else:
        precision = _FULL
        reason = f"{graph} in {_FULL} on {backend}: {why}. For a faster one run: edge-mtl build-engine {bundle.path} --int8"
    return ResolvedEngine(bundle.read(graph), backend, precision, None, reason, uncompiled="it is not a built engine")


def _check_unbuilt(found: Mapping[str, Availability], backend: str, precision: str, able: Sequence[str]) -> tuple[str, ...]:
    """Those of `able` that run `precision` here. Raises BackendUnavailable where another was asked for, or none is here."""
    names = " or ".join(able)
    if backend not in (AUTO, *able):
        raise BackendUnavailable(f"{precision} is a precision of {names}; {backend} was asked for. Leave one of the two out.")
    usable = tuple(name for name in able if found[name].usable)
    if not usable:
        reasons = " ".join(found[name].reason for name in able)
        raise BackendUnavailable(f"{precision} is a precision of {names}, which cannot run here. {reasons}")
    return usable


def _missing(bundle: Bundle, backend: str, precision: str, why: str) -> str:
    wanted = precision if backend == AUTO else f"{precision} on {backend}"
    where = "" if backend == AUTO else f" --backend {backend}"
    return (
        f"There is no {wanted} engine of {bundle.path}: {why}. "
        f"Run: edge-mtl build-engine {bundle.path} --{precision.partition('+')[0]}{where}"
    )
