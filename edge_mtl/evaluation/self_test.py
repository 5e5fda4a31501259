"""The self-test: golden frames through a loaded graph, compared with the FP32 reference stored in the bundle.

Knows tolerances and finished maps; knows nothing about files of engines or how a graph was made. Either placement is
tested alike, because both are compared after post-processing. Every frame must pass on its own, so that an engine which
passed when it was built also passes on the one frame that is run when it is loaded.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from edge_mtl.backends import Backend
from edge_mtl.bundle import GOLDEN, Bundle
from edge_mtl.errors import AccuracyError, BundleError
from edge_mtl.evaluation.metrics import Agreement, agreement
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import letterbox
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks.postprocess import Maps, finish

__all__ = ["TOLERANCES", "SelfTestReport", "Tolerance", "golden_agreement", "golden_frame", "run_self_test", "since_build"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The worst difference from the reference that passes, for every golden frame; see `evaluation.metrics.Agreement`."""

    argmax_agreement: float
    depth_relative_difference: float
    normal_angle_deg: float


TOLERANCES: Mapping[str, Tolerance] = {
    "fp32": Tolerance(0.998, 0.002, 0.2),
    "tf32": Tolerance(0.995, 0.003, 0.2),
    "bf16": Tolerance(0.97, 0.01, 1.0),
    "fp16": Tolerance(0.995, 0.003, 0.2),
    "int8": Tolerance(0.90, 0.05, 4.25),
    "int8+bf16": Tolerance(0.95, 0.02, 2.0),
    "int8+fp16": Tolerance(0.90, 0.05, 4.25),
}
"""By precision: at least 1.4 times the worst difference of any room from FP32, see docs/decisions/0007. References are stored
as float16 and processors differ, so FP32 is allowed more. Broken engines that stay within are caught by `since_build` or by
the accuracy check: these tolerances only say that a graph is not nonsense. "tf32" has the mantissa of "fp16", and so its
tolerance; "int8+fp16" has that of "int8". On GPUs neither was measured; rounding alone, emulated, leaves 1.8 times room:
decision 0010.
"""

_DRIFT = 1.25
_ROUNDING = Tolerance(0.002, 0.002, 0.2)
"""What an engine may be worse when loaded than when built: a quarter, and as much as FP32 may differ from itself; the first
of the three is a share of classes that differ."""


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """A self-test that passed.

    Attributes:
        precision: which tolerance was applied.
        frames: golden frames that were run.
        worst: the largest difference of any frame, by head; None for a head that the bundle does not have.
        tolerance: what it was compared with.
    """

    precision: str
    frames: int
    worst: Agreement
    tolerance: Tolerance

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a sidecar."""
        return {"passed": True, **asdict(self)}


def run_self_test(
    backend: Backend,
    bundle: Bundle,
    *,
    frames: int | None = None,
    tolerance: Tolerance | None = None,
    built: Mapping[str, Any] | None = None,
) -> SelfTestReport:
    """Run golden frames and compare.

    Args:
        backend: a loaded graph of the bundle, of either placement.
        bundle: with golden frames.
        frames: how many golden frames, all by default.
        tolerance: in place of that of the backend's precision.
        built: the engine's self-test when it was built, as its sidecar holds it: it must still do about as well.
    Raises:
        AccuracyError: a head is missing, a value is not finite, or a map is too far from the reference.
        BundleError: the bundle has no golden frames, or they were altered.
    """
    precision = backend.info.precision
    usual = tolerance or TOLERANCES[precision]
    allowed = since_build(usual, built or {})
    names = _golden_names(bundle)[:frames]
    path = InferencePipeline(backend, bundle.manifest)
    worst = Agreement(None, None, None)
    for name in names:
        frame, reference = _image(bundle, name), _reference(bundle, name)
        found = path(frame)
        _check_heads(bundle, found, name, precision)
        difference = agreement(found, reference)
        if failures := _failures(difference, allowed):
            remedy = (
                "Build it with other calibration frames or in another precision."
                if _failures(difference, usual)
                else "It did better when it was built here: build it again."
            )
            raise AccuracyError(
                f"The {precision} graph on {backend.info.name} disagrees with the FP32 reference on {name}: "
                f"{'; '.join(failures)}. {remedy}"
            )
        worst = _worse(worst, difference)
    return SelfTestReport(precision, len(names), worst, allowed)


def since_build(usual: Tolerance, built: Mapping[str, Any]) -> Tolerance:
    """What an engine may differ by when it is loaded: as at build and a little more, never more than `usual`.

    The same engine on the same machine gives the same answers but for the order in which threads sum. So a driver,
    a damaged library or failing memory shows here long before it would reach the tolerance of the precision.

    Args:
        built: `SelfTestReport.to_dict` of then; what it lacks keeps the usual tolerance.
    """
    worst = built.get("worst")
    found = worst if isinstance(worst, Mapping) else {}

    def allowed(name: str, most: float, *, share: bool = False) -> float:
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return most
        before = 1.0 - value if share else float(value)
        return min(most, _DRIFT * before + getattr(_ROUNDING, name))

    return Tolerance(
        argmax_agreement=1.0 - allowed("argmax_agreement", 1.0 - usual.argmax_agreement, share=True),
        depth_relative_difference=allowed("depth_relative_difference", usual.depth_relative_difference),
        normal_angle_deg=allowed("normal_angle_deg", usual.normal_angle_deg),
    )


def golden_agreement(backend: Backend, bundle: Bundle) -> Agreement:
    """How far a loaded graph is from the FP32 reference, in the mean of the golden frames.

    Raises:
        BundleError: the bundle has no golden frames, or they were altered.
        InferenceError: the graph does not run.
    """
    path = InferencePipeline(backend, bundle.manifest)
    found = [agreement(path(_image(bundle, name)), _reference(bundle, name)) for name in _golden_names(bundle)]
    return Agreement(*(_mean([getattr(each, item.name) for each in found]) for item in fields(Agreement)))


def golden_frame(bundle: Bundle) -> Array:
    """The first golden frame, (H, W, 3) uint8 RGB: a real image to time engines on.

    Raises:
        BundleError: there is none, or it was altered.
    """
    return _image(bundle, _golden_names(bundle)[0])


def _golden_names(bundle: Bundle) -> tuple[str, ...]:
    names = bundle.list(GOLDEN, suffixes=(".png",))
    if not names:
        raise BundleError(f"{bundle.path} has no golden frames, so no engine of it can be tested. Export the bundle again.")
    return names


def _image(bundle: Bundle, name: str) -> Array:
    image = decode_image(bundle.read(name))
    network = (bundle.manifest.input.height, bundle.manifest.input.width, 3)
    if image is None or image.shape != network:
        found = "no image" if image is None else f"{image.shape[0]}x{image.shape[1]}"
        expected = f"{network[0]}x{network[1]}"
        raise BundleError(f"{bundle.path / name} should be an image of {expected}; found {found}. Export the bundle again.")
    return image


def _reference(bundle: Bundle, name: str) -> Maps:
    """The stored "host" outputs of the FP32 graph, post-processed as the graph's own will be."""
    arrays = f"{name.rpartition('.')[0]}.npz"
    network = (bundle.manifest.input.height, bundle.manifest.input.width)
    try:
        with np.load(io.BytesIO(bundle.read(arrays)), allow_pickle=False) as content:
            outputs = {key: content[key].astype(np.float32) for key in content.files}
        return finish(outputs, letterbox(network, network), output_size="network", change=None, pool=BufferPool())
    except BundleError:
        raise
    except Exception as exc:  # damaged archives raise many kinds, wrong shapes others
        raise BundleError(f"{bundle.path / arrays} does not hold reference outputs ({exc}). Export the bundle again.") from exc


def _check_heads(bundle: Bundle, found: Maps, name: str, precision: str) -> None:
    missing = [task for task in bundle.tasks if getattr(found, task) is None]
    if missing:
        raise AccuracyError(f"The {precision} graph gives no {', '.join(missing)}: expected {', '.join(bundle.tasks)}.")
    if found.bad_values:
        raise AccuracyError(
            f"{name}: {found.bad_values} values of the {precision} graph are not finite, or depths not positive."
        )


def _failures(found: Agreement, allowed: Tolerance) -> list[str]:
    """What is out of tolerance; written so that NaN is."""
    failures = []
    same, depth, angle = found.argmax_agreement, found.depth_relative_difference, found.normal_angle_deg
    if same is not None and not same >= allowed.argmax_agreement:
        failures.append(f"{same:.1%} of the classes agree, at least {allowed.argmax_agreement:.1%} expected")
    if depth is not None and not depth <= allowed.depth_relative_difference:
        failures.append(f"depth differs by {depth:.1%}, at most {allowed.depth_relative_difference:.1%} expected")
    if angle is not None and not angle <= allowed.normal_angle_deg:
        failures.append(f"normals differ by {angle:.1f} degrees, at most {allowed.normal_angle_deg:.1f} expected")
    return failures


def _worse(first: Agreement, second: Agreement) -> Agreement:
    return Agreement(
        argmax_agreement=_pick(min, first.argmax_agreement, second.argmax_agreement),
        depth_relative_difference=_pick(max, first.depth_relative_difference, second.depth_relative_difference),
        normal_angle_deg=_pick(max, first.normal_angle_deg, second.normal_angle_deg),
    )


def _mean(values: list[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _pick(choose: Any, first: float | None, second: float | None) -> float | None:
    present = [value for value in (first, second) if value is not None]
    return choose(present) if present else None
