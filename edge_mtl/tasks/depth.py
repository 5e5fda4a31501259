"""The kind "depth": metres along z, one per pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.numbers import is_number
from edge_mtl.tasks.depth_metric import DepthMetric, FullDepthMetric
from edge_mtl.tasks.kind import BudgetItem, DenseKind, Measure, Result, TaskSpec, Topic, TruthFiles

if TYPE_CHECKING:
    from edge_mtl.image.buffer_pool import BufferPool
    from edge_mtl.image.frames import Letterbox
    from edge_mtl.tasks.areas import CameraChange, MapArea

__all__ = ["MILLIMETRES", "TRUTH_UNITS_PER_M", "Depth", "DepthMap", "DepthMetric", "DepthSpec", "units_per_m"]

Array = np.ndarray

TRUTH_UNITS_PER_M = 5000.0
"""Depth beside labelled frames is stored as 16-bit integers, 0.2 mm each, which reach 13.1 m; of tasks that reach farther in
coarser ones. 0 is unknown, or farther."""
MILLIMETRES = 1000.0
"""Units a metre of depth that is read by other programs, unless they do not reach as far as the task."""
_UNITS_PER_M = (5000.0, 2000.0, 1000.0, 500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0, 2.0)
_LARGEST_UNIT = 65535
_ROOMS_M = 20.0
"""What reaches farther is drawn on a logarithmic scale: on a linear one most of a street is red, and the rest sky."""
_LEAST_SHARE = 0.01
"""The median of a true depth map, in the farthest distance that the task was made for: nearer is another unit."""
_GUESSED = 0.1
"""Of the pixels, within a factor 1.25: less than one in ten is worse than a guess, which is within it for one in seven where
distances span a factor of 20."""


@dataclass(frozen=True, slots=True)
class DepthSpec(TaskSpec):
    """A task of depth.

    Attributes:
        range_m: the nearest and farthest distance it was made for.
    """

    range_m: tuple[float, float] = (0.0, 10.0)

    @property
    def outdoors(self) -> bool:
        """Whether it reaches farther than rooms do, so that colours are spread over the logarithm of depth."""
        return self.range_m[1] > _ROOMS_M


@dataclass(frozen=True, slots=True, eq=False)
class DepthMap(Result):
    """Distances of one frame.

    Attributes:
        depth_m: (H, W) float32 metres along z, NaN where unknown.
    """

    spec: DepthSpec
    depth_m: Array

    @property
    def map_size(self) -> tuple[int, int] | None:
        return self.depth_m.shape[0], self.depth_m.shape[1]


class Depth(DenseKind[DepthSpec, DepthMap]):
    """See the module."""

    name: ClassVar[str] = "depth"
    result: ClassVar[type[Result]] = DepthMap
    measures = (
        Measure("depth_abs_m", "depth m", "Depth, mean absolute error in metres", False, 1.0, 3, " m"),
        Measure("depth_rel", "depth %", "Depth, mean relative error", False, 100.0, 1, "", True),
        Measure("depth_rmse_m", "depth RMSE m", "Depth, RMSE in metres", False, 1.0, 3, " m"),
        Measure("depth_delta1", "depth within 1.25 %", "Depth within a factor 1.25", True, 100.0, 1),
    )
    agreements = (Measure("depth_relative_difference", "depth %", "Depth, mean difference", False, 100.0, 1, " %", True),)
    budgets = (
        BudgetItem("rel", "depth_rel", True, 0.02, 10.0, "relative depth error rose by"),
        BudgetItem("depth", "depth_relative_difference", False, 0.05, 10.0, "difference from FP32's depth:"),
    )
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "fp32": {"depth_relative_difference": 0.002},
        "tf32": {"depth_relative_difference": 0.003},
        "bf16": {"depth_relative_difference": 0.01},
        "fp16": {"depth_relative_difference": 0.003},
        "int8": {"depth_relative_difference": 0.05},
        "int8+bf16": {"depth_relative_difference": 0.02},
        "int8+fp16": {"depth_relative_difference": 0.05},
    }
    drift: ClassVar[Mapping[str, float]] = {"depth_relative_difference": 0.002}
    rounding: ClassVar[Mapping[str, float]] = {"depth_relative_difference": 0.005}
    metric_scale = True
    viewed_as = "depth"

    def spec(self, name: str, entry: Mapping[str, Any]) -> DepthSpec:
        if entry.get("unit", "m") != "m" or entry.get("along", "z") != "z":
            raise ValueError(f"{name} should be in unit m along z; found {entry.get('unit')!r} along {entry.get('along')!r}")
        found = entry.get("range_m", [0.0, 10.0])
        numbers = isinstance(found, list) and len(found) == 2 and all(is_number(value) for value in found)
        if not numbers or not 0.0 <= found[0] < found[1] < math.inf:
            raise ValueError(f"range_m of {name} should be two distances, the nearer first; found {str(found)[:80]}")
        return DepthSpec(name, self.name, (float(found[0]), float(found[1])))

    def describe(self, spec: DepthSpec) -> dict[str, Any]:
        return {"unit": "m", "along": "z", "range_m": list(spec.range_m)}

    def channels(self, spec: DepthSpec) -> int:
        return 1

    def finished_shape(self, spec: DepthSpec, size: tuple[int, int]) -> tuple[int, ...]:
        return size

    def finish(
        self, spec: DepthSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[DepthMap, int]:
        """Bilinear with half-pixel centres; what is not a positive distance is NaN."""
        source = outputs[spec.name][0] if area.placement == "graph" else outputs[self.host_output(spec)][0, 0]
        plane, bad = area.cropped(source), 0
        if not (float(plane.min()) > 0 and math.isfinite(float(plane.max()))):  # false for NaN as well
            flawed = ~(np.isfinite(plane) & (plane > 0))
            bad = int(flawed.sum())
            plane = np.where(flawed, np.float32(np.nan), plane)
        if change is not None:
            plane = plane * np.float32(change.depth_factor)
        return DepthMap(spec, area.placed(area.resized(plane, pool), np.nan, pool)), bad

    def thin(self, result: DepthMap, step: int) -> DepthMap:
        return DepthMap(result.spec, result.depth_m[::step, ::step])

    def resize(self, result: DepthMap, size: tuple[int, int]) -> DepthMap:
        import cv2

        return DepthMap(result.spec, cv2.resize(result.depth_m, size[::-1], interpolation=cv2.INTER_LINEAR))

    def known_share(self, spec: DepthSpec, result: DepthMap) -> float:
        return float(np.isfinite(result.depth_m).mean())

    def of_truth(self, spec: DepthSpec, truth: Array) -> DepthMap:
        return DepthMap(spec, np.where(np.isfinite(truth) & (truth > 0), truth, np.float32(np.nan)))

    def metric(self, spec: DepthSpec) -> DepthMetric:
        return DepthMetric()

    def near_chance(self, spec: DepthSpec, metric: DepthMetric) -> str:
        found = metric.compute()
        within, error = found["depth_delta1"], found["depth_rel"]
        if not (within < _GUESSED or error >= 1.0):  # false for NaN as well
            return ""
        return (
            f"{spec.name}: {within:.0%} of the depth is within a factor of 1.25 of the truth, and its error is {error:.0%}. Is "
            "its unit right, and are the cameras those of the frames?"
        )

    def full_metric(self, spec: DepthSpec) -> FullDepthMetric:
        return FullDepthMetric()

    def resample(self, spec: DepthSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            sums = weights @ np.array(statistics, np.float64).reshape(-1, 2)
            return {"depth_rel": sums[:, 0] / sums[:, 1]}

    def agreement(self, spec: DepthSpec, found: DepthMap, reference: DepthMap) -> dict[str, float]:
        """depth_relative_difference: mean |a - b| / b over pixels that both know."""
        metric = DepthMetric()
        metric.update(found, reference.depth_m)
        return {"depth_relative_difference": metric.compute()["depth_rel"]}

    def read_truth(self, spec: DepthSpec, stem: str, size: tuple[int, int], files: TruthFiles) -> Array | None:
        """(H, W) float32 metres, 0 unknown; stored as 16-bit integers of the unit that the file states, else of 0.2 mm.

        Raises BundleError where that makes no distances that a camera sees, or where no unit is stated and 0.2 mm do not reach
        as far as the task does.
        """
        from edge_mtl.errors import BundleError
        from edge_mtl.image.encoding import stated_unit_m
        from edge_mtl.tasks.truth import EXPORT_AGAIN, read_map

        name = f"{stem}{self.truth_endings(spec)[0]}"
        stored = read_map(name, size, files, kinds=("uint16",))
        if stored is None:
            return None
        stated = stated_unit_m(files.read(name))
        if stated is None and units_per_m(spec.range_m[1]) != TRUTH_UNITS_PER_M:
            raise BundleError(
                f"{files.where(name)} should state its unit, in metres, as the text depth_unit_m of the PNG: integers of "
                f"0.2 mm, for which it would be taken, do not reach the {spec.range_m[1]:g} m of {spec.name}. {EXPORT_AGAIN}"
            )
        unit_m = 1.0 / TRUTH_UNITS_PER_M if stated is None else stated
        known = stored[stored > 0]
        middle_m, least_m = float(np.median(known)) * unit_m if known.size else math.inf, _LEAST_SHARE * spec.range_m[1]
        if middle_m < least_m:
            raise BundleError(
                f"{files.where(name)} should hold depth in units of {1000 * unit_m:g} mm; half of it would be nearer than "
                f"{middle_m:.3g} m, and {least_m:g} m is the least that makes sense. Convert its unit. {EXPORT_AGAIN}"
            )
        return stored.astype(np.float32) * np.float32(unit_m)

    def write_truth(self, spec: DepthSpec, truth: Array) -> dict[str, bytes]:
        from edge_mtl.image.encoding import DEPTH_UNIT, encode_png, with_text

        per_m = units_per_m(spec.range_m[1])
        units = np.rint(truth * np.float32(per_m))
        png = encode_png(np.where(units > _LARGEST_UNIT, 0, units).astype(np.uint16))
        return {self.truth_endings(spec)[0]: with_text(png, DEPTH_UNIT, f"{1.0 / per_m:g}")}

    def fit_truth(self, spec: DepthSpec, truth: Array, box: Letterbox) -> Array:
        from edge_mtl.tasks.truth import fit_map

        return fit_map(truth, box, 0)

    def thin_truth(self, truth: Array, step: int) -> Array:
        return truth[::step, ::step]

    def draw(self, spec: DepthSpec, frame: Array, result: DepthMap, *, scale: Any = None) -> Array:
        """Warm is near, cold is far, with the scale in the lower left corner."""
        from edge_mtl.image.panel import draw_depth

        span = self.scale(spec, result) if scale is None else scale
        return draw_depth(result.depth_m, span, logarithmic=spec.outdoors)

    def colours(self, spec: DepthSpec, result: DepthMap, *, scale: Any = None) -> Array:
        from edge_mtl.image.colour import colour_depth

        return colour_depth(result.depth_m, scale, logarithmic=spec.outdoors)

    def words(self, spec: DepthSpec) -> str:
        return "metric depth"

    def note(self, values: Mapping[str, float]) -> str:
        error = values["depth_rel"]
        return f"error {100 * error:.0f} %" if math.isfinite(error) else ""

    def scale(self, spec: DepthSpec, result: DepthMap, *, margin: float = 0.0) -> tuple[float, float]:
        """(nearest, farthest) in metres without the outermost 2 %."""
        from edge_mtl.image.colour import depth_range

        near, far = depth_range(result.depth_m)
        return near * (1.0 - margin), far * (1.0 + margin)

    def summary(self, spec: DepthSpec, result: DepthMap) -> dict[str, Any]:
        """nearest_m, median_m and farthest_m of the known pixels, without the outermost 2 %; empty where none is known."""
        known = result.depth_m[np.isfinite(result.depth_m)]
        if known.size == 0:
            return {}
        near, middle, far = (round(float(value), 4) for value in np.percentile(known, (2, 50, 98)))
        return {"nearest_m": near, "median_m": middle, "farthest_m": far}

    def arrays(self, spec: DepthSpec, result: DepthMap) -> dict[str, Array]:
        return {spec.name: result.depth_m}

    def images(self, spec: DepthSpec, result: DepthMap) -> dict[str, bytes]:
        from edge_mtl.image.colour import colour_depth
        from edge_mtl.image.encoding import encode_depth, encode_image

        coloured = encode_image(colour_depth(result.depth_m, logarithmic=spec.outdoors))
        depth = encode_depth(result.depth_m, units_per_m=units_per_m(spec.range_m[1], finest=MILLIMETRES))
        return {f"{spec.name}.png": depth, f"{spec.name}-colour.png": coloured}

    def topics(self, spec: DepthSpec) -> tuple[Topic, ...]:
        """Metres, or millimetres where 16UC1 is asked for: 0 unknown, also beyond 65.535 m, as ROS has it (REP 118)."""
        return (Topic(spec.name, "32FC1", lambda result: result.depth_m, transport="depth", also=(("16UC1", _millimetres),)),)


def units_per_m(farthest_m: float, *, finest: float = TRUTH_UNITS_PER_M) -> float:
    """Units a metre, for depth as 16-bit integers: the most of 5000, 2000, 1000, ... up to `finest` that reach `farthest_m`."""
    reaching = (per_m for per_m in _UNITS_PER_M if per_m <= finest and farthest_m * per_m <= _LARGEST_UNIT)
    return next(reaching, _UNITS_PER_M[-1])


def _millimetres(result: DepthMap) -> Array:
    from edge_mtl.image.encoding import depth_units

    return depth_units(result.depth_m, beyond=0)
