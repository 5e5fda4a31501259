"""Whether a runtime computes with integers as they are meant: an INT8 graph as it runs here against its exact arithmetic.

Exact is the graph as it is written, Q and DQ nodes and floats between them, in ONNX Runtime without its optimisations. A
runtime that is right differs from that by rounding; sums that saturate, which no runtime reports, carry it away from FP32.
So what is compared is how far both are from the FP32 reference of the golden frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from edge_mtl.backends import Backend
from edge_mtl.backends.reference import has_reference
from edge_mtl.bundle import Bundle
from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.self_test import golden_agreement
from edge_mtl.tasks import Specs, kind_of, measure_names, scoped

__all__ = ["excess", "require_exact"]


def require_exact(backend: Backend, model: bytes, bundle: Bundle, *, threads: int | None = None) -> None:
    """Compare `backend`, which has opened `model`, with the exact arithmetic of that graph; without ONNX Runtime do nothing.

    Raises:
        AccuracyError: it is further from FP32 than rounding explains.
        BundleError, InferenceError: as the self-test says.
    """
    if not has_reference():
        return
    from edge_mtl.backends.onnxruntime.backend import OnnxRuntimeBackend

    with closing(OnnxRuntimeBackend(model, threads=threads, precision="int8", optimize=False)) as exact:
        meant = golden_agreement(exact, bundle)
    if found := excess(bundle.manifest.tasks, golden_agreement(backend, bundle), meant):
        raise AccuracyError(
            f"{backend.info.name} {backend.info.version} does not compute this INT8 graph as it is written: "
            f"{'; '.join(found)}. "
            "Take another version of it, or another runtime: edge-mtl doctor tries the sums of each."
        )


def excess(specs: Specs, found: Mapping[str, float], meant: Mapping[str, float]) -> list[str]:
    """Where `found`, an agreement with FP32, is worse than `meant` by more than rounding explains; a sentence by measure.

    How much that is, each kind says (`rounding`). For labels, depth and normals it was measured with rooms-b0 on Zen 3
    (docs/decisions/0015), in the mean of the golden frames: sound graphs are at most 0.03 points, 0.03 % and 0.03 degrees
    further away in either runtime; saturating ones 3.2 points, 2.4 % and 2.5 degrees or more.
    """
    measures, said = measure_names(specs, agreement=True), []
    rounding = {scoped(specs, spec, name): most for spec in specs.values() for name, most in kind_of(spec).rounding.items()}
    for key, most in rounding.items():
        if key in found and key in meant and not measures[key].loss(meant[key], found[key]) <= most:
            shown = measures[key].show(found[key]), measures[key].show(meant[key])
            said.append(f"{key} with FP32 is {shown[0]}, {shown[1]} in exact arithmetic")
    return said
