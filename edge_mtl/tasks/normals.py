"""The kind "normals": unit vectors in the camera frame (x right, y down, z forward) that face the camera, one per pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.tasks.kind import BudgetItem, DenseKind, Measure, Result, TaskSpec, Topic, TruthFiles
from edge_mtl.tasks.label_metric import same_shape

if TYPE_CHECKING:
    from edge_mtl.image.buffer_pool import BufferPool
    from edge_mtl.image.frames import Letterbox
    from edge_mtl.tasks.areas import CameraChange, MapArea

__all__ = ["NormalMap", "NormalMetric", "Normals", "angles_deg"]

Array = np.ndarray

FRAME = "camera: x right, y down, z forward; unit length, facing the camera"

_LENGTH_OFF = 0.2
"""By which the median length of true normals may differ from 1."""
_GUESSED_DEG = 57.0
"""Mean angle that is no better than a guess: that between the optical axis and directions that face the camera at random."""
_ANGLE_STEPS = 2**32 - 1
"""Angles of 0..180 degrees are kept as 32-bit integers: steps of 4e-8 degrees."""


@dataclass(frozen=True, slots=True, eq=False)
class NormalMap(Result):
    """Surface normals of one frame.

    Attributes:
        normals: (H, W, 3) float32 unit, camera frame, facing the camera; NaN where unknown.
    """

    normals: Array

    @property
    def map_size(self) -> tuple[int, int] | None:
        return self.normals.shape[0], self.normals.shape[1]


class Normals(DenseKind[TaskSpec, NormalMap]):
    """See the module."""

    name: ClassVar[str] = "normals"
    result: ClassVar[type[Result]] = NormalMap
    measures = (
        Measure("normal_mean_deg", "normals °", "Normals, mean error in degrees", False, 1.0, 1, "", True),
        Measure("normal_median_deg", "normals median °", "Normals, median error in degrees", False, 1.0, 1),
        Measure("normal_within_11_25", "within 11.25° %", "Normals within 11.25 degrees", True, 100.0, 1),
        Measure("normal_within_22_5", "within 22.5° %", "Normals within 22.5 degrees", True, 100.0, 1),
        Measure("normal_within_30", "within 30° %", "Normals within 30 degrees", True, 100.0, 1),
    )
    agreements = (Measure("normal_angle_deg", "normals °", "Normals, mean angle", False, 1.0, 1, "°", True),)
    budgets = (
        BudgetItem("normal", "normal_mean_deg", True, 0.5, 180.0, "angle to the true normals rose by", "°"),
        BudgetItem("angle", "normal_angle_deg", False, 3.0, 180.0, "angle to FP32's normals:", "°"),
    )
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "fp32": {"normal_angle_deg": 0.2},
        "tf32": {"normal_angle_deg": 0.2},
        "bf16": {"normal_angle_deg": 1.0},
        "fp16": {"normal_angle_deg": 0.2},
        "int8": {"normal_angle_deg": 4.25},
        "int8+bf16": {"normal_angle_deg": 2.0},
        "int8+fp16": {"normal_angle_deg": 4.25},
    }
    drift: ClassVar[Mapping[str, float]] = {"normal_angle_deg": 0.2}
    rounding: ClassVar[Mapping[str, float]] = {"normal_angle_deg": 0.5}
    heading = "surface normals"
    viewed_as = "image"

    def spec(self, name: str, entry: Mapping[str, Any]) -> TaskSpec:
        if entry.get("frame", FRAME) != FRAME:
            raise ValueError(f"frame of {name} should be {FRAME!r}; found {str(entry['frame'])[:80]!r}")
        return TaskSpec(name, self.name)

    def describe(self, spec: TaskSpec) -> dict[str, Any]:
        return {"frame": FRAME}

    def channels(self, spec: TaskSpec) -> int:
        return 3

    def finished_shape(self, spec: TaskSpec, size: tuple[int, int]) -> tuple[int, ...]:
        return (*size, 3)

    def finish(
        self, spec: TaskSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[NormalMap, int]:
        """Bilinear with half-pixel centres, then division to unit length; what is not finite is NaN."""
        from edge_mtl.image.upsample import upsampled_units

        finished = area.placement == "graph"
        source = outputs[spec.name][0].transpose(2, 0, 1) if finished else outputs[self.host_output(spec)][0]
        planes, bad = area.cropped(source), 0
        if not math.isfinite(float(planes.sum())):
            flawed = ~np.isfinite(planes).all(axis=0)
            bad = int(flawed.sum())
            planes = np.where(flawed, np.float32(np.nan), planes)
        if change is not None and change.turns_normals:
            planes = np.tensordot(np.array(change.normals, np.float32), planes, axes=1)
        return NormalMap(spec, area.placed(upsampled_units(planes, area.size, pool=pool), np.nan, pool)), bad

    def thin(self, result: NormalMap, step: int) -> NormalMap:
        return NormalMap(result.spec, result.normals[::step, ::step])

    def resize(self, result: NormalMap, size: tuple[int, int]) -> NormalMap:
        import cv2

        normals = cv2.resize(result.normals, size[::-1], interpolation=cv2.INTER_LINEAR)
        return NormalMap(result.spec, normals / np.maximum(np.linalg.norm(normals, axis=2, keepdims=True), 1e-6))

    def known_share(self, spec: TaskSpec, result: NormalMap) -> float:
        return float(np.isfinite(result.normals).all(axis=-1).mean())

    def of_truth(self, spec: TaskSpec, truth: Array) -> NormalMap:
        return NormalMap(spec, truth)

    def metric(self, spec: TaskSpec) -> NormalMetric:
        return NormalMetric()

    def near_chance(self, spec: TaskSpec, metric: NormalMetric) -> str:
        angle = metric.compute()["normal_mean_deg"]
        if not angle >= _GUESSED_DEG:  # true for NaN as well
            return ""
        return f"{spec.name}: they are {angle:.0f}° from the truth on average. Are its axes x right, y down, z forward?"

    def resample(self, spec: TaskSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        with np.errstate(invalid="ignore", divide="ignore"):
            sums = weights @ np.array(statistics, np.float64).reshape(-1, 2)
            return {"normal_mean_deg": sums[:, 0] / sums[:, 1]}

    def agreement(self, spec: TaskSpec, found: NormalMap, reference: NormalMap) -> dict[str, float]:
        """normal_angle_deg: mean angle between the normals where both are known."""
        metric = NormalMetric()
        metric.update(found, reference.normals)
        return {"normal_angle_deg": metric.compute()["normal_mean_deg"]}

    def read_truth(self, spec: TaskSpec, stem: str, size: tuple[int, int], files: TruthFiles) -> Array | None:
        """(H, W, 3) float32, zeros where unknown; stored as 128 + 127 n in RGB, 0 unknown. Raises BundleError: it is not."""
        from edge_mtl.errors import BundleError
        from edge_mtl.image.encoding import DRAWN, png_text
        from edge_mtl.tasks.truth import EXPORT_AGAIN, read_map

        name = f"{stem}{self.truth_endings(spec)[0]}"
        stored = read_map(name, (*size, 3), files, kinds=("uint8",))
        if stored is None:
            return None
        if png_text(files.read(name), DRAWN):
            raise BundleError(
                f"{files.where(name)} should hold normals as 128 + 127 n; found a drawing of them, whose axes are others. "
                "Take them from the NPZ of predict --files npz."
            )
        known = (stored != 0).any(axis=2)
        found = np.where(known[..., None], (stored[..., ::-1].astype(np.float32) - 128.0) / 127.0, 0.0)
        length = float(np.median(np.linalg.norm(found[known], axis=-1))) if known.any() else 1.0
        if abs(length - 1.0) > _LENGTH_OFF:
            raise BundleError(
                f"{files.where(name)} should hold unit vectors as 128 + 127 n; found a median length of {length:.2f}. "
                f"{EXPORT_AGAIN}"
            )
        return found

    def write_truth(self, spec: TaskSpec, truth: Array) -> dict[str, bytes]:
        from edge_mtl.image.encoding import encode_png

        known = (truth * truth).sum(axis=-1, keepdims=True) > 0
        coded = np.where(known, np.rint(truth * 127) + 128, 0).astype(np.uint8)
        return {self.truth_endings(spec)[0]: encode_png(coded[..., ::-1])}

    def fit_truth(self, spec: TaskSpec, truth: Array, box: Letterbox) -> Array:
        from edge_mtl.tasks.truth import fit_map

        return fit_map(truth, box, 0)

    def thin_truth(self, truth: Array, step: int) -> Array:
        return truth[::step, ::step]

    def draw(self, spec: TaskSpec, frame: Array, result: NormalMap, *, scale: Any = None) -> Array:
        """Red grows to the right, green upwards and blue towards the camera."""
        return self.colours(spec, result)

    def colours(self, spec: TaskSpec, result: NormalMap, *, scale: Any = None) -> Array:
        from edge_mtl.image.colour import colour_normals

        return colour_normals(result.normals)

    def words(self, spec: TaskSpec) -> str:
        return "surface normals"

    def note(self, values: Mapping[str, float]) -> str:
        error = values["normal_mean_deg"]
        return f"error {error:.0f}°" if math.isfinite(error) else ""

    def arrays(self, spec: TaskSpec, result: NormalMap) -> dict[str, Array]:
        return {spec.name: result.normals}

    def images(self, spec: TaskSpec, result: NormalMap) -> dict[str, bytes]:
        from edge_mtl.image.encoding import DRAWN, encode_image, with_text

        return {f"{spec.name}.png": with_text(encode_image(self.colours(spec, result)), DRAWN, "for people to look at")}

    def topics(self, spec: TaskSpec) -> tuple[Topic, ...]:
        return (
            Topic(spec.name, "32FC3", lambda result: result.normals),
            Topic(f"{spec.name}/color", "rgb8", lambda result: self.colours(spec, result), transport="jpeg"),
        )


class NormalMetric:
    """Angles between predicted and true normals. All are kept, four bytes a pixel, so that the median is exact."""

    def __init__(self) -> None:
        self._angles: list[Array] = []
        self._counts = np.zeros(1 << 16, np.int64)
        self._within = np.zeros(3, np.int64)
        self._sum_deg = 0.0
        self.missing = 0
        """Valid target pixels without a usable predicted normal; excluded from the angles."""

    def update(self, result: NormalMap, truth: Array) -> None:
        """Add a result and its truth, (..., H, W, 3); zeros are unknown."""
        self.add(result.normals, truth)

    def add(self, predicted: Array, target: Array, valid: Array | None = None) -> None:
        """Add normals of equal shape (..., 3); lengths do not matter.

        Args:
            predicted: normals; NaN or zero where unknown.
            target: true normals; zero or NaN where invalid.
            valid: (...) bool, which pixels count besides (default: all).
        """
        same_shape(predicted, target)
        known = _usable(target)
        if valid is not None:
            known &= np.asarray(valid, bool)
        answered = known & _usable(predicted)
        self.missing += int(known.sum()) - int(answered.sum())
        angles = angles_deg(np.asarray(predicted)[answered], np.asarray(target)[answered])
        self._sum_deg += float(angles.sum())
        self._within += [int((angles < limit).sum()) for limit in (11.25, 22.5, 30.0)]
        steps = np.round(angles * (_ANGLE_STEPS / 180.0)).astype(np.uint32)
        self._angles.append(steps)
        self._counts += np.bincount(steps >> 16, minlength=self._counts.size)

    def compute(self) -> dict[str, float]:
        """normal_mean_deg, normal_median_deg, normal_within_11_25, normal_within_22_5, normal_within_30."""
        count = int(self._counts.sum())
        within = [int(number) / count if count else float("nan") for number in self._within]
        return {
            "normal_mean_deg": self._sum_deg / count if count else float("nan"),
            "normal_median_deg": self._median_deg(count),
            "normal_within_11_25": within[0],
            "normal_within_22_5": within[1],
            "normal_within_30": within[2],
        }

    def statistics(self) -> tuple[float, int]:
        """Sum of the angles in degrees, and pixels."""
        return self._sum_deg, int(self._counts.sum())

    def details(self) -> dict[str, Any]:
        return {}

    def _median_deg(self, count: int) -> float:
        if count == 0:
            return float("nan")
        middle = (self._ranked((count - 1) // 2) + self._ranked(count // 2)) / 2
        return middle * (180.0 / _ANGLE_STEPS)

    def _ranked(self, rank: int) -> float:
        """The angle, in steps, that `rank` others precede; sorts only those that share its upper 16 bits."""
        up_to = np.cumsum(self._counts)
        upper = int(np.searchsorted(up_to, rank, side="right"))
        alike = np.concatenate([steps[(steps >> 16) == upper] for steps in self._angles])
        return float(np.sort(alike)[rank - (up_to[upper] - self._counts[upper])])


def angles_deg(first: Array, second: Array) -> Array:
    """Angles between two fields of vectors (..., 3), in degrees, 0..180, (...) float64; lengths do not matter.

    Uses 2 atan2(|a - b|, |a + b|) of the unit vectors, which keeps its precision near 0 and 180 degrees where the
    arc cosine loses it (Kahan 2006, "How futile are mindless assessments of roundoff").
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    a = a / np.linalg.norm(a, axis=-1, keepdims=True)
    b = b / np.linalg.norm(b, axis=-1, keepdims=True)
    return np.degrees(2.0 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1)))


def _usable(normals: Array) -> Array:
    square = np.square(np.asarray(normals, np.float64)).sum(axis=-1)
    return np.isfinite(square) & (square > 1e-12)
