"""The runtimes that there are: those of the package, those of installed plug-ins, and those registered by a call.

A plug-in is an installed distribution with an entry point in the group `edge_mtl.backends`, whose value is a
`BackendSpec`. The registry is filled when it is first read; no runtime is imported for that.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import threading
from collections.abc import Iterator, Mapping

from edge_mtl.backends.spec import BackendSpec, QdqStyle
from edge_mtl.errors import BackendUnavailable, BuildError

__all__ = ["BACKENDS", "GROUP", "qdq_styles", "register", "spec_of", "style_of", "unregister"]

GROUP = "edge_mtl.backends"
"""Entry points of plug-ins; each is a `BackendSpec`."""

_LOG = logging.getLogger("edge_mtl")


class _Registry(Mapping[str, BackendSpec]):
    """Specifications by name, in the order in which runtimes are preferred: the package's, then plug-ins by name."""

    def __init__(self) -> None:
        self._specs: dict[str, BackendSpec] = {}
        self._filled = self._filling = False
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> BackendSpec:
        return self._all()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._all()))

    def __len__(self) -> int:
        return len(self._all())

    def add(self, spec: BackendSpec) -> None:
        with self._lock:
            self._add(self._all(), spec)

    def remove(self, name: str) -> None:
        with self._lock:
            del self._all()[name]

    def _all(self) -> dict[str, BackendSpec]:
        if not self._filled:
            with self._lock:
                if not self._filling:  # set while this thread fills it: a plug-in may register itself when it is imported
                    self._filling = True
                    for spec in _own():
                        self._add(self._specs, spec)
                    self._add_plug_ins(self._specs)
                    self._filled = True
        return self._specs

    @staticmethod
    def _add(specs: dict[str, BackendSpec], spec: BackendSpec) -> None:
        if not isinstance(spec, BackendSpec):
            raise ValueError(f"a backend is registered by a BackendSpec; found {type(spec).__name__}")
        if specs.get(spec.name, spec) != spec:
            raise ValueError(f"A backend {spec.name!r} is registered already ({specs[spec.name].module}). Choose another name.")
        for other in specs.values():
            if spec.qdq is not None and other.qdq is not None and spec.qdq.name == other.qdq.name and spec.qdq != other.qdq:
                raise ValueError(
                    f"{spec.name}: the Q/DQ style {spec.qdq.name!r} is that of {other.name}, and says something else there. "
                    "Share it, or choose another name."
                )
        specs[spec.name] = spec

    def _add_plug_ins(self, specs: dict[str, BackendSpec]) -> None:
        """One that does not load is listed with the reason, and hinders nobody else."""
        for entry in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
            try:
                self._add(specs, entry.load())
            except Exception as exc:  # what a plug-in raises is its author's choice
                problem = f"The plug-in {entry.name!r} ({entry.value}) does not load: {exc}. Repair or uninstall it."
                _LOG.warning("%s", problem)
                with contextlib.suppress(ValueError):  # its name is taken, or none
                    self._add(specs, BackendSpec(entry.name, entry.name, "", {}, "", unbuilt=(), problem=problem))


def _own() -> tuple[BackendSpec, ...]:
    from edge_mtl.backends.onnxruntime.spec import SPEC as ONNXRUNTIME
    from edge_mtl.backends.onnxruntime_cuda.spec import SPEC as ONNXRUNTIME_CUDA
    from edge_mtl.backends.openvino.spec import SPEC as OPENVINO
    from edge_mtl.backends.tensorrt.spec import SPEC as TENSORRT

    return ONNXRUNTIME, OPENVINO, ONNXRUNTIME_CUDA, TENSORRT


_REGISTRY = _Registry()

BACKENDS: Mapping[str, BackendSpec] = _REGISTRY
"""Every backend by name, installed or not; always as it is now."""


def register(spec: BackendSpec) -> None:
    """Add a runtime; the same specification again does nothing.

    Raises:
        ValueError: another one has that name, or its Q/DQ style differs from one of the same name.
    """
    _REGISTRY.add(spec)


def unregister(name: str) -> None:
    """Take a runtime out again. Raises BackendUnavailable for one that is not there."""
    spec_of(name)
    _REGISTRY.remove(name)


def spec_of(name: str) -> BackendSpec:
    """The specification of a backend. Raises BackendUnavailable for an unknown one, with the names of those that there are."""
    if name not in BACKENDS:
        raise BackendUnavailable(f"Unknown backend {name!r}. Choose one of: {', '.join(BACKENDS)}")
    return BACKENDS[name]


def qdq_styles() -> dict[str, QdqStyle]:
    """Every Q/DQ style by name: what a recipe may have among its targets."""
    return {spec.qdq.name: spec.qdq for spec in BACKENDS.values() if spec.qdq is not None}


def style_of(target: str) -> QdqStyle:
    """The Q/DQ style that a recipe calls `target`. Raises BuildError for an unknown one, with the names of the others."""
    styles = qdq_styles()
    if target not in styles:
        raise BuildError(f"Unknown target {target!r} of quantization. Choose one of: {', '.join(styles)}")
    return styles[target]
