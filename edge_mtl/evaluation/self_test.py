"""The self-test: golden frames through a loaded graph, compared with the FP32 reference stored in the bundle.

Knows tolerances and finished maps; knows nothing about files of engines or how a graph was made. Either placement is
tested alike, because both are compared after post-processing. Every frame must pass on its own, so that an engine which
passed when it was built also passes on the one frame that is run when it is loaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_mtl.array_files import read_arrays
from edge_mtl.backends import Backend
from edge_mtl.bundle import GOLDEN, Bundle
from edge_mtl.errors import AccuracyError, BundleError
from edge_mtl.evaluation.metrics import agreement, mean_agreement
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import letterbox
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import Specs, kind_of, measure_names, scoped
from edge_mtl.tasks.asked import asked_of
from edge_mtl.tasks.finishing import Answer, finish

__all__ = [
    "SelfTestReport",
    "Tolerance",
    "golden_agreement",
    "golden_frame",
    "golden_frames",
    "run_self_test",
    "since_build",
    "tolerance_of",
]

Array = np.ndarray


_DRIFT = 1.25
"""What an engine may be worse when loaded than when built: a quarter, and the `drift` of each kind."""

Tolerance = Mapping[str, float]
"""The worst agreement with the reference that passes, for every golden frame, by key: see `tolerance_of`."""


def tolerance_of(specs: Specs, precision: str, tasks: Collection[str] | None = None) -> dict[str, float]:
    """By key of the agreement: what graphs of a precision must reach on every golden frame, of all tasks or of `tasks`.

    The kinds hold the figures. For labels, depth and normals they are at least 1.4 times the worst difference of any room from
    FP32, see docs/decisions/0007. References are stored as float16 and processors differ, so FP32 is allowed more. Broken
    engines that stay within are caught by `since_build` or by the accuracy check: these tolerances only say that a graph is
    not nonsense. "tf32" has the mantissa of "fp16", and so its tolerance; "int8+fp16" has that of "int8". On GPUs neither was
    measured; rounding alone, emulated, leaves 1.8 times room: decision 0010.
    """
    found = {}
    for spec in asked_of(specs, tasks).values():
        for name, value in kind_of(spec).tolerances.get(precision, {}).items():
            found[scoped(specs, spec, name)] = value
    return found


@dataclass(frozen=True, slots=True)
class SelfTestReport:
    """A self-test that passed.

    Attributes:
        precision: which tolerance was applied.
        frames: golden frames that were run.
        worst: the worst agreement of any frame, by key.
        tolerance: what it was compared with.
    """

    precision: str
    frames: int
    worst: Mapping[str, float]
    tolerance: Mapping[str, float]

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
    tasks: Collection[str] | None = None,
) -> SelfTestReport:
    """Run golden frames and compare.

    Args:
        backend: a loaded graph of the bundle, of either placement; it may have been cut to `tasks`.
        bundle: with golden frames.
        frames: how many golden frames, all by default.
        tolerance: in place of that of the backend's precision.
        built: the engine's self-test when it was built, as its sidecar holds it: it must still do about as well.
        tasks: those that are judged, all by default.
    Raises:
        AccuracyError: a head is missing, a value is not finite, or a map is too far from the reference.
        BundleError: the bundle has no golden frames, or they were altered.
    """
    precision, specs = backend.info.precision, bundle.manifest.tasks
    usual = tolerance_of(specs, precision, tasks) if tolerance is None else tolerance
    allowed = since_build(specs, usual, built or {})
    names = _golden_names(bundle)[:frames]
    pipeline = InferencePipeline(backend, bundle.manifest, tasks=tasks)
    worst: dict[str, float] = {}
    for name in names:
        frame, reference = _image(bundle, name), _reference(bundle, name)
        found = pipeline(frame)
        if found.bad_values:
            raise AccuracyError(
                f"{name}: {found.bad_values} values of the {precision} graph are not finite, or depths not positive."
            )
        difference = agreement(specs, found.results, reference.results)
        if failures := _failures(specs, difference, allowed):
            remedy = (
                "Build it with other calibration frames or in another precision."
                if _failures(specs, difference, usual)
                else "It did better when it was built here: build it again."
            )
            raise AccuracyError(
                f"The {precision} graph on {backend.info.name} disagrees with the FP32 reference on {name}: "
                f"{'; '.join(failures)}. {remedy}"
            )
        for key, measure in measure_names(specs, agreement=True).items():
            if key in difference:
                choose = min if measure.higher_is_better else max
                worst[key] = choose(worst.get(key, difference[key]), difference[key])
    return SelfTestReport(precision, len(names), worst, allowed)


def since_build(specs: Specs, usual: Mapping[str, float], built: Mapping[str, Any]) -> dict[str, float]:
    """What an engine must reach when it is loaded: as at build and a little less, never less than `usual`.

    The same engine on the same machine gives the same answers but for the order in which threads sum. So a driver,
    a damaged library or failing memory shows here long before it would reach the tolerance of the precision.

    Args:
        built: `SelfTestReport.to_dict` of then; what it lacks keeps the usual tolerance.
    """
    worst = built.get("worst")
    then = worst if isinstance(worst, Mapping) else {}
    measures, found = measure_names(specs, agreement=True), dict(usual)
    drift = {scoped(specs, spec, name): value for spec in specs.values() for name, value in kind_of(spec).drift.items()}
    for key, most in usual.items():
        value = then.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        if measures[key].higher_is_better:
            found[key] = max(most, 1.0 - (_DRIFT * (1.0 - value) + drift.get(key, 0.0)))
        else:
            found[key] = min(most, _DRIFT * value + drift.get(key, 0.0))
    return found


def golden_agreement(backend: Backend, bundle: Bundle) -> dict[str, float]:
    """How far a loaded graph is from the FP32 reference, in the mean of the golden frames, by key.

    Raises:
        BundleError: the bundle has no golden frames, or they were altered.
        InferenceError: the graph does not run.
    """
    pipeline, specs = InferencePipeline(backend, bundle.manifest), bundle.manifest.tasks
    return mean_agreement(
        [
            agreement(specs, pipeline(_image(bundle, name)).results, _reference(bundle, name).results)
            for name in _golden_names(bundle)
        ]
    )


def golden_frame(bundle: Bundle) -> Array:
    """The first golden frame, (H, W, 3) uint8 RGB: a real image to time engines on.

    Raises:
        BundleError: there is none, or it was altered.
    """
    return _image(bundle, _golden_names(bundle)[0])


def golden_frames(bundle: Bundle) -> list[Array]:
    """The images of all golden frames, (H, W, 3) uint8 RGB. Raises as `golden_frame` does."""
    return [_image(bundle, name) for name in _golden_names(bundle)]


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


def _reference(bundle: Bundle, name: str) -> Answer:
    """The stored "host" outputs of the FP32 graph, post-processed as the graph's own will be."""
    arrays = f"{name.rpartition('.')[0]}.npz"
    network = (bundle.manifest.input.height, bundle.manifest.input.width)
    try:
        outputs = {key: values.astype(np.float32) for key, values in read_arrays(bundle.read(arrays)).items()}
        return finish(
            bundle.manifest.tasks,
            outputs,
            letterbox(network, network),
            placement="host",
            output_size="network",
            change=None,
            pool=BufferPool(),
        )
    except BundleError:
        raise
    except Exception as exc:  # damaged archives raise many kinds, wrong shapes others
        raise BundleError(f"{bundle.path / arrays} does not hold reference outputs ({exc}). Export the bundle again.") from exc


def _failures(specs: Specs, found: Mapping[str, float], allowed: Mapping[str, float]) -> list[str]:
    """What is out of tolerance; written so that NaN is."""
    measures, failures = measure_names(specs, agreement=True), []
    for key, limit in allowed.items():
        measure, value = measures[key], found.get(key, float("nan"))
        task = key.rpartition(".")[0]
        what = f"{task}: {measure.label}" if task else measure.label
        if measure.higher_is_better and not value >= limit:
            failures.append(f"{what}: {measure.show(value)}, at least {measure.show(limit)} expected")
        if not measure.higher_is_better and not value <= limit:
            failures.append(f"{what}: {measure.show(value)}, at most {measure.show(limit)} expected")
    return failures
