"""Plans of TensorRT as `edge_mtl.builder.converters` asks for them: with the library and on the GPU that are here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

from edge_mtl.backends.tensorrt.api import find_library
from edge_mtl.builder.tensorrt.builder import PlanReport, build_plan
from edge_mtl.builder.tensorrt.images import with_casts_at_the_ends
from edge_mtl.builder.tensorrt.options import PlanOptions, PlanPrecision
from edge_mtl.cuda import current_gpu

__all__ = ["convert", "prepare"]


def prepare(graph: bytes, *, name: str) -> bytes:
    """See `edge_mtl.builder.converters.Converter.prepare`."""
    return with_casts_at_the_ends(graph, name=name)


def convert(
    graph: bytes,
    *,
    precision: str,
    asked: PlanOptions,
    cache_folder: Path,
    device: int,
    progress: Callable[[int, int], None],
) -> PlanReport:
    """See `edge_mtl.builder.converters.Converter.convert`."""
    options = replace(asked, precision=cast(PlanPrecision, precision))
    with current_gpu(device):
        return build_plan(find_library(), graph, options, cache_folder=cache_folder, device=device, progress=progress)
