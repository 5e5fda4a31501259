"""What an engine is held to: its graph fits what the bundle says, and it tells what it runs.

Knows a bundle's manifest and a backend's inputs and outputs; knows nothing about frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edge_mtl.backends import Backend
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image.frames import OUTPUT_STRIDE, Intrinsics
from edge_mtl.tasks import NORMALS, NYU13_CLASSES, SEGMENTATION, TASKS
from edge_mtl.tasks.postprocess import HOST_OUTPUTS

if TYPE_CHECKING:
    from edge_mtl.evaluation.self_test import SelfTestReport

__all__ = ["EngineInfo", "canonical_camera", "class_names", "placement"]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an Engine runs, and why.

    Attributes:
        bundle: folder of the bundle.
        name, revision: of the bundle.
        tasks: what it predicts.
        input_size: (height, width) of the network's input.
        backend, runtime_version, device, threads: what computes.
        precision: "fp32", "bf16", "int8", "int8+bf16", ...
        placement: "host" or "graph": where pre- and post-processing happen.
        engine_key: of the built engine; None for the bundle's own graph.
        reason: why this one was chosen, a sentence.
        self_test: its report; None when it was switched off.
        load_s: seconds from the call of Engine() until it was ready, self-test included.
        loading: "compiled code" where it was loaded as it was built, else "the graph", and why it had to be compiled.
    """

    bundle: Path
    name: str
    revision: int
    tasks: tuple[str, ...]
    input_size: tuple[int, int]
    backend: str
    runtime_version: str
    device: str
    threads: int
    precision: str
    placement: Literal["host", "graph"]
    engine_key: str | None
    reason: str
    self_test: SelfTestReport | None
    load_s: float
    loading: str


def placement(backend: Backend, bundle: Bundle) -> Literal["host", "graph"]:
    """Where the graph leaves pre- and post-processing, read from its inputs and outputs.

    Raises:
        BundleError: they are not those of the bundle's tasks and input size.
    """
    height, width = bundle.manifest.input.height, bundle.manifest.input.width
    found = {name: (spec.shape, str(spec.dtype)) for name, spec in backend.inputs.items()}
    answers = {name: spec.shape for name, spec in backend.outputs.items()}
    cells = (height // OUTPUT_STRIDE, width // OUTPUT_STRIDE)
    host = {HOST_OUTPUTS[task]: (1, TASKS[task].channels, *cells) for task in bundle.tasks}
    graph = {task: (1, height, width, 3) if task == NORMALS else (1, height, width) for task in bundle.tasks}
    if height % OUTPUT_STRIDE == 0 and width % OUTPUT_STRIDE == 0:
        if found == {"image": ((1, 3, height, width), "float32")} and answers == host:
            return "host"
        if found == {"image": ((1, height, width, 3), "uint8")} and answers == graph:
            return "graph"
    raise BundleError(
        f"{bundle.path}: a graph for {', '.join(bundle.tasks)} at {height}x{width} was expected; found inputs {found} "
        f"and outputs {answers}. Export the bundle again."
    )


def canonical_camera(bundle: Bundle) -> Intrinsics:
    """The camera that predictions in network space are of. Raises BundleError: the manifest names none."""
    try:
        return Intrinsics(*bundle.manifest.canonical_intrinsics)
    except FrameError as exc:
        raise BundleError(f"{bundle.path}: canonical_intrinsics are no camera ({exc}). Export the bundle again.") from exc


def class_names(bundle: Bundle) -> tuple[str, ...]:
    """Of segmentation, by index. Raises BundleError: not as many as the network tells apart, or no names."""
    described = bundle.manifest.tasks.get(SEGMENTATION, {})
    names = described.get("classes", NYU13_CLASSES) if isinstance(described, Mapping) else None
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
        raise BundleError(f"{bundle.path}: classes of segmentation should be a list of names. Export the bundle again.")
    if len(names) != TASKS[SEGMENTATION].channels:
        raise BundleError(
            f"{bundle.path} names {len(names)} classes; the network tells {TASKS[SEGMENTATION].channels} apart. "
            "Export the bundle again."
        )
    return tuple(names)
