"""Whether a runtime computes with integers as they are meant: an INT8 graph as it runs here against its exact arithmetic.

Exact is the graph as it is written, Q and DQ nodes and floats between them, in ONNX Runtime without its optimisations. A
runtime that is right differs from that by rounding; sums that saturate, which no runtime reports, carry it away from FP32.
So what is compared is how far both are from the FP32 reference of the golden frames.
"""

from __future__ import annotations

from contextlib import closing

from edge_mtl.backends import Backend, available
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.bundle import Bundle
from edge_mtl.errors import AccuracyError
from edge_mtl.evaluation.metrics import Agreement
from edge_mtl.evaluation.self_test import Tolerance, golden_agreement

__all__ = ["ROUNDING", "excess", "require_exact"]

ROUNDING = Tolerance(0.005, 0.005, 0.5)
"""How much further from FP32 than its exact arithmetic an INT8 graph may be as it runs, in the mean of the golden frames; the
first of the three is a share of classes. Measured with rooms-b0 on Zen 3 (docs/decisions/0015): sound graphs are at most 0.03
points, 0.03 % and 0.03 degrees further away in either runtime; saturating ones 3.2 points, 2.4 % and 2.5 degrees or more."""


def require_exact(backend: Backend, model: bytes, bundle: Bundle, *, threads: int | None = None) -> None:
    """Compare `backend`, which has opened `model`, with the exact arithmetic of that graph; without ONNX Runtime do nothing.

    Raises:
        AccuracyError: it is further from FP32 than rounding explains.
        BundleError, InferenceError: as the self-test says.
    """
    if not available()[REFERENCE_RUNTIME].usable:
        return
    from edge_mtl.backends.onnxruntime.backend import OnnxRuntimeBackend

    with closing(OnnxRuntimeBackend(model, threads=threads, precision="int8", optimize=False)) as exact:
        meant = golden_agreement(exact, bundle)
    if found := excess(golden_agreement(backend, bundle), meant):
        raise AccuracyError(
            f"{backend.info.name} {backend.info.version} does not compute this INT8 graph as it is written: "
            f"{'; '.join(found)}. "
            "Take another version of it, or another runtime: edge-mtl doctor tries the sums of each."
        )


def excess(found: Agreement, meant: Agreement) -> list[str]:
    """Where `found`, an agreement with FP32, is worse than `meant` by more than rounding explains; a sentence by head."""
    same, depth, angle = (
        (getattr(found, name), getattr(meant, name))
        for name in ("argmax_agreement", "depth_relative_difference", "normal_angle_deg")
    )
    said = []
    if None not in same and not same[0] >= same[1] - ROUNDING.argmax_agreement:
        said.append(f"{same[0]:.1%} of the classes agree with FP32, {same[1]:.1%} in exact arithmetic")
    if None not in depth and not depth[0] <= depth[1] + ROUNDING.depth_relative_difference:
        said.append(f"depth differs by {depth[0]:.1%}, by {depth[1]:.1%} in exact arithmetic")
    if None not in angle and not angle[0] <= angle[1] + ROUNDING.normal_angle_deg:
        said.append(f"normals differ by {angle[0]:.1f} degrees, by {angle[1]:.1f} in exact arithmetic")
    return said
