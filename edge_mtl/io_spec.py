"""Inputs and outputs of an engine's graph against what the bundle says, and what an engine says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edge_mtl.backends import Backend
from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image import OUTPUT_STRIDE
from edge_mtl.image.frames import Intrinsics
from edge_mtl.manifest import Manifest
from edge_mtl.tasks import Placement, Specs, graph_outputs

if TYPE_CHECKING:
    from edge_mtl.evaluation.self_test import SelfTestReport

__all__ = ["EngineInfo", "canonical_camera", "placement"]


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an Engine runs, and why.

    Attributes:
        bundle: folder of the bundle.
        name, revision: of the bundle.
        tasks: what it predicts: those of the bundle, or those it was opened for.
        input_size: (height, width) of the network's input.
        backend, runtime_version, device, threads: what computes.
        parallel_frames: how many frames are computed at once, each by `threads`.
        precision: "fp32", "bf16", "int8", "int8+bf16", ...
        placement: "host" or "graph": where pre- and post-processing happen.
        engine_key: of the built engine; None for the bundle's own graph.
        reason: why this one was chosen, a sentence.
        self_test: its report; None when it was switched off.
        load_s: seconds from the call of Engine() until it was ready, self-test included.
        loading: "compiled code" where it was loaded as it was built, else "the graph", and why it had to be compiled.
        computed: the tasks whose outputs the runtime computes: `tasks`, or all of the bundle where a plan cannot be cut.
        depth_scale: what distances are multiplied by.
        depth_scale_from: what says so, its file; empty for a number.
        digest: SHA-256 of the bundle's manifest, hexadecimal; the identity of that revision.
        shortfall: what whoever opened it wanted and did not get, and why, a sentence; empty where this is what was wanted.
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
    placement: Placement
    engine_key: str | None
    reason: str
    self_test: SelfTestReport | None
    load_s: float
    loading: str
    computed: tuple[str, ...] = ()
    depth_scale: float = 1.0
    depth_scale_from: str = ""
    digest: str = ""
    shortfall: str = ""
    parallel_frames: int = 1


def placement(backend: Backend, manifest: Manifest, tasks: Specs | None = None) -> Placement:
    """Where the graph leaves pre- and post-processing, read from its inputs and outputs.

    Args:
        tasks: a graph that was cut to these will do, too.
    Raises:
        BundleError: they are not those of the manifest's tasks and input size.
    """
    size = (manifest.input.height, manifest.input.width)
    found = {name: (spec.shape, str(spec.dtype)) for name, spec in backend.inputs.items()}
    answers = {name: spec.shape for name, spec in backend.outputs.items()}
    inputs: Mapping[Placement, Mapping[str, tuple[tuple[int, ...], str]]] = {
        "host": {"image": ((1, 3, *size), "float32")},
        "graph": {"image": ((1, *size, 3), "uint8")},
    }
    if size[0] % OUTPUT_STRIDE == 0 and size[1] % OUTPUT_STRIDE == 0:
        for place, expected in inputs.items():
            fitting = [graph_outputs(specs, size, place) for specs in (manifest.tasks, tasks) if specs is not None]
            if found == expected and answers in fitting:
                return place
    raise BundleError(
        f"{manifest.name}: a graph for {', '.join(manifest.tasks)} at {size[0]}x{size[1]} was expected; found inputs {found} "
        f"and outputs {answers}. Export the bundle again."
    )


def canonical_camera(manifest: Manifest) -> Intrinsics:
    """The camera that predictions in network space are of. Raises BundleError: the manifest names none."""
    try:
        return Intrinsics(*manifest.canonical_intrinsics)
    except FrameError as exc:
        raise BundleError(f"{manifest.name}: canonical_intrinsics are not a camera ({exc}). Export the bundle again.") from exc
