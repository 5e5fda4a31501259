"""What makes plans: the module that the specification of such a runtime names, imported when there is a plan to make."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from edge_mtl.backends import spec_of
from edge_mtl.builder.tensorrt.options import PlanOptions

__all__ = ["BuiltPlan", "Converter", "converter_of"]


class BuiltPlan(Protocol):
    """A plan; `library` is the name and version of what made it."""

    @property
    def plan(self) -> bytes: ...
    @property
    def library(self) -> str: ...

    def describe(self) -> str:
        """What is in it, one line for reports."""
        ...


class Converter(Protocol):
    """A module that makes plans."""

    def prepare(self, graph: bytes, *, name: str) -> bytes:
        """The reference ONNX as this runtime's parser takes it. Raises BuildError naming `name`."""
        ...

    def convert(
        self,
        graph: bytes,
        *,
        precision: str,
        asked: PlanOptions,
        cache_folder: Path,
        device: int,
        progress: Callable[[int, int], None],
    ) -> BuiltPlan:
        """A plan of `graph`, which holds `precision`, for the GPU with that index.

        Args:
            asked: what the user set besides the precision; runtimes without such options leave them.
            cache_folder: where timings may be kept between builds.
            progress: called with units done and in all.
        Raises:
            BuildError, BackendUnavailable, CudaError: there is no plan; says why.
        """
        ...


def converter_of(backend: str) -> Converter | None:
    """What makes plans for a backend; None for one that takes graphs. Raises BackendUnavailable for an unknown one."""
    place = spec_of(backend).converter
    return cast(Converter, importlib.import_module(place)) if place else None
