"""The graphs that multitask_saving.py compares, in every precision and for every runtime, kept in a work folder.

Knows quantization and files; measures nothing, and knows nothing about how networks are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from kept_code import compiled
from work_folder import WorkFolder

from edge_mtl.backends import available
from edge_mtl.device import fingerprint
from edge_mtl.files import sha256_bytes
from edge_mtl.quantization.quantize import Calibrated, calibrate, insert_qdq
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.quantization.weights import weight_bits
from edge_mtl.tasks import TASK_NAMES

__all__ = ["ENGINES", "Exported", "quantized", "runtimes"]

Array = np.ndarray

ENGINES: tuple[tuple[str, ...], ...] = (TASK_NAMES, *((task,) for task in TASK_NAMES))
"""Tasks of each engine: the shared one, then the single ones."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A network as files.

    Attributes:
        graphs: what a runtime opens, by precision and runtime; `compiled` is what became of it.
        parameters: of the trained network.
    """

    tasks: tuple[str, ...]
    graphs: Mapping[tuple[str, str], Path]
    parameters: int


def quantized(
    deploy: bytes,
    tasks: tuple[str, ...],
    frames: Sequence[Array],
    *,
    parameters: int,
    precisions: Sequence[str],
    work: WorkFolder,
) -> Exported:
    """`deploy` in the precisions asked for, for every runtime that is here; what the folder holds is not made again."""
    recipe = load_recipe()
    network = {"graph": sha256_bytes(deploy), "frames": len(frames), "recipe": recipe.digest}
    name = "-".join(tasks)
    ranges: list[Calibrated] = []

    def integers(target: Any) -> bytes:
        if not ranges:
            ranges.append(calibrate(deploy, frames, recipe=recipe))
        return insert_qdq(deploy, ranges[0], recipe=recipe, target=target, bits=bits_for(target))

    def bits_for(target: Any) -> int:
        return weight_bits(recipe.weights.reduce_range, target, fingerprint())[-1]

    graphs = {}
    for backend in runtimes():
        for precision in precisions:
            if precision.startswith("int8"):
                target = "openvino" if backend == "openvino" else "onnxruntime"
                path = work.kept(
                    f"{name}.{target}.int8.onnx",
                    {**network, "target": target, "bits": bits_for(target)},
                    partial(integers, target),
                )
            else:
                path = work.kept(f"{name}.onnx", network, lambda: deploy)
            graphs[precision, backend] = path
            compiled(path, backend, precision)
    return Exported(tasks, graphs, parameters)


def runtimes() -> list[str]:
    """Those that run graphs on a CPU here."""
    found = available()
    return [name for name in ("onnxruntime", "openvino") if found[name].usable]
