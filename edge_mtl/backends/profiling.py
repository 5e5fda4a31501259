"""How long each layer of a graph takes, by the runtime's own profiler, which its `BackendSpec` names.

Knows layers as runtimes name them; which part of a network they belong to is told in edge_mtl.bench.layer_groups. No runtime
is imported before it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from edge_mtl.backends import BACKENDS, import_runtime, spec_of
from edge_mtl.errors import BackendUnavailable

__all__ = ["LayerProfile", "LayerTime", "profile_graph"]


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One layer as it was run: fused and rewritten by the runtime.

    Attributes:
        name: the runtime's name for it.
        kind: operator or kernel.
        sources: names of nodes and tensors of the graph that it was made of, as far as the runtime tells.
        seconds: of each run, in order.
    """

    name: str
    kind: str
    sources: tuple[str, ...]
    seconds: tuple[float, ...]

    @property
    def median_s(self) -> float:
        """Median over the runs."""
        return median(self.seconds)


@dataclass(frozen=True, slots=True)
class LayerProfile:
    """All layers that took time, in the order they ran.

    Attributes:
        run_s: of each run by the clock, profiler included.
    """

    backend: str
    version: str
    precision: str
    threads: int
    layers: tuple[LayerTime, ...]
    run_s: tuple[float, ...]


def profile_graph(
    name: str, model: bytes, *, precision: str = "fp32", threads: int | None = None, runs: int = 20, device: int = 0
) -> LayerProfile:
    """Run a graph, or a plan, on a grey image and ask the runtime `name` for the time of each layer.

    Args: as for `edge_mtl.backends.open_backend`.
    Raises:
        BackendUnavailable: unknown, not installed, or it has no profiler of layers.
        BundleError: the graph is refused.
        InferenceError: it does not run.
    """
    spec = spec_of(name)
    if not spec.profiler:
        able = ", ".join(other for other, known in BACKENDS.items() if known.profiler)
        raise BackendUnavailable(f"{name} has no profiler that tells the time of a layer on its device. Choose one of: {able}")
    module = import_runtime(spec, spec.profiler, model)
    profile: LayerProfile = module.profile(model, precision=precision, threads=threads, runs=runs, device=device)
    return profile
