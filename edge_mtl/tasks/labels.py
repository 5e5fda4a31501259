"""The kind "labels": one class per pixel, 2 to 255 classes; every task of this kind has classes of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.image import VOID
from edge_mtl.tasks.kind import BudgetItem, ClassTopic, DenseKind, Measure, Once, Result, Topic, TruthFiles
from edge_mtl.tasks.label_metric import LabelMetric, resampled
from edge_mtl.tasks.label_spec import LabelsSpec, describe_spec, read_spec
from edge_mtl.tasks.line_metric import FullLineMetric, LineMetric, resampled_f
from edge_mtl.tasks.palette import generated_palette

if TYPE_CHECKING:
    from edge_mtl.image.buffer_pool import BufferPool
    from edge_mtl.image.frames import Letterbox
    from edge_mtl.tasks.areas import CameraChange, MapArea

__all__ = ["LabelMap", "Labels", "LabelsSpec", "confidence_bytes", "generated_palette"]

Array = np.ndarray
Colour = tuple[int, int, int]
_LINE_F = "line_f"
_LEGEND_MOST = 24
"""Classes that a legend names; the others are only counted."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelMap(Result):
    """Classes of one frame.

    Attributes:
        labels: (H, W) uint8, class index, 255 where unknown.
        confidence: (H, W) float32 in 0..1, softmax at the chosen class, computed when first asked for; None where the
            engine's graph ends in labels.
    """

    spec: LabelsSpec
    labels: Array
    make_confidence: InitVar[Callable[[], Array] | None] = None
    _confidence: Once[Array] | None = field(init=False, default=None, repr=False)

    def __post_init__(self, make_confidence: Callable[[], Array] | None) -> None:
        if make_confidence is not None:  # a lazy field of a frozen class is set once, here
            object.__setattr__(self, "_confidence", Once(make_confidence))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index."""
        return self.spec.classes

    @property
    def confidence(self) -> Array | None:
        """See the class."""
        return None if self._confidence is None else self._confidence.get()

    @property
    def confidence_maker(self) -> Callable[[], Array] | None:
        """What computes `confidence`, for results made from this one."""
        return None if self._confidence is None else self._confidence.get

    @property
    def map_size(self) -> tuple[int, int] | None:
        return self.labels.shape[0], self.labels.shape[1]


class Labels(DenseKind[LabelsSpec, LabelMap]):
    """See the module. Tasks with a tolerance are measured as lines, too, and the accuracy check limits that in place of IoU."""

    name: ClassVar[str] = "labels"
    result: ClassVar[type[Result]] = LabelMap
    suffix: ClassVar[str] = "logits"
    measures = (
        Measure("miou", "mIoU %", "Classes, mIoU", True, 100.0, 1, "", True),
        Measure("pixel_accuracy", "pixels %", "Classes, pixels right", True, 100.0, 1),
        Measure(_LINE_F, "lines F %", "Lines, F-measure", True, 100.0, 1, "", True),
    )
    agreements = (Measure("argmax_agreement", "classes %", "Classes that agree", True, 100.0, 1, " %", True),)
    budgets = (
        BudgetItem("miou", "miou", True, 0.01, 1.0, "mIoU fell by"),
        BudgetItem(_LINE_F, _LINE_F, True, 0.01, 1.0, "the F-measure of lines fell by"),
        BudgetItem("classes", "argmax_agreement", False, 0.05, 1.0, "classes that differ from FP32:"),
    )
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "fp32": {"argmax_agreement": 0.998},
        "tf32": {"argmax_agreement": 0.995},
        "bf16": {"argmax_agreement": 0.97},
        "fp16": {"argmax_agreement": 0.995},
        "int8": {"argmax_agreement": 0.90},
        "int8+bf16": {"argmax_agreement": 0.95},
        "int8+fp16": {"argmax_agreement": 0.90},
    }
    drift: ClassVar[Mapping[str, float]] = {"argmax_agreement": 0.002}
    rounding: ClassVar[Mapping[str, float]] = {"argmax_agreement": 0.005}
    viewed_as = "labels"

    def spec(self, name: str, entry: Mapping[str, Any]) -> LabelsSpec:
        return read_spec(name, entry, kind=self.name)

    def describe(self, spec: LabelsSpec) -> dict[str, Any]:
        return describe_spec(spec)

    def channels(self, spec: LabelsSpec) -> int:
        return len(spec.classes)

    def finished_shape(self, spec: LabelsSpec, size: tuple[int, int]) -> tuple[int, ...]:
        return size

    def finish(
        self, spec: LabelsSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[LabelMap, int]:
        """Bilinear logits with half-pixel centres, then argmax; labels of a graph by the nearest pixel."""
        if area.placement == "graph":
            return LabelMap(spec, _placed_labels(outputs[spec.name][0], area, pool)), 0
        logits, unknown, flaws = area.cropped(outputs[self.host_output(spec)][0]), None, 0
        if not math.isfinite(float(logits.sum())):
            flawed = ~np.isfinite(logits).all(axis=0)
            flaws = int(flawed.sum())
            unknown = area.resized(flawed.astype(np.float32), pool) > 0 if flawed.any() else None
            logits = np.nan_to_num(logits, nan=0.0, posinf=0.0, neginf=0.0)
        from edge_mtl.image.upsample import upsampled_argmax, upsampled_confidence

        labels = upsampled_argmax(logits, area.size, pool=pool)
        if unknown is not None:
            labels[unknown] = VOID

        def confidence() -> Array:
            result = upsampled_confidence(logits, area.size, pool=pool)
            if unknown is not None:
                result[unknown] = 0.0
            return area.placed(result, 0.0, pool)

        return LabelMap(spec, area.placed(labels, VOID, pool), confidence), flaws

    def thin(self, result: LabelMap, step: int) -> LabelMap:
        return LabelMap(result.spec, result.labels[::step, ::step])

    def resize(self, result: LabelMap, size: tuple[int, int]) -> LabelMap:
        import cv2

        return LabelMap(result.spec, cv2.resize(result.labels, size[::-1], interpolation=cv2.INTER_NEAREST))

    def known_share(self, spec: LabelsSpec, result: LabelMap) -> float:
        return float((result.labels != VOID).mean())

    def of_truth(self, spec: LabelsSpec, truth: Array) -> LabelMap:
        return LabelMap(spec, truth)

    def measures_of(self, spec: LabelsSpec) -> tuple[Measure, ...]:
        """Without line_f where the task has no tolerance."""
        return tuple(one for one in self.measures if one.name != _LINE_F or spec.tolerance_px is not None)

    def budgets_of(self, spec: LabelsSpec) -> tuple[BudgetItem, ...]:
        """Of lines line_f in place of miou: a line of two pixels that moves by one has an IoU of a third."""
        other = _LINE_F if spec.tolerance_px is None else "miou"
        return tuple(one for one in self.budgets if one.name != other)

    def metric(self, spec: LabelsSpec) -> LabelMetric:
        return self._metric(spec, LineMetric)

    def full_metric(self, spec: LabelsSpec) -> LabelMetric:
        return self._metric(spec, FullLineMetric)

    def _metric(self, spec: LabelsSpec, of_lines: type[LineMetric]) -> LabelMetric:
        classes, ignored, names = len(spec.classes), spec.ignored, spec.classes
        if spec.tolerance_px is None:
            return LabelMetric(classes=classes, ignored=ignored, names=names)
        return of_lines(tolerance_px=spec.tolerance_px, classes=classes, ignored=ignored, names=names)

    def near_chance(self, spec: LabelsSpec, metric: LabelMetric) -> str:
        if not metric.near_chance():
            return ""
        share, first = metric.compute()["pixel_accuracy"], spec.classes[0]
        one_based = f" No pixel is {first}, class 0: were they counted from 1?" if not metric.confusion[0].any() else ""
        return (
            f"{spec.name}: {share:.1%} of the pixels are right, no more than by chance. Are its classes "
            f"{', '.join(spec.classes[:5])}{', ...' if len(spec.classes) > 5 else ''}, in this order?{one_based}"
        )

    def resample(self, spec: LabelsSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        found = {"miou": resampled(statistics, weights, spec.ignored)}
        if spec.tolerance_px is not None:
            found[_LINE_F] = resampled_f([frame[-1] for frame in statistics], weights)
        return found

    def agreement(self, spec: LabelsSpec, found: LabelMap, reference: LabelMap) -> dict[str, float]:
        """argmax_agreement: share of pixels with the same class, 0..1."""
        if found.labels.shape != reference.labels.shape:
            shapes = f"{found.labels.shape} and {reference.labels.shape}"
            raise ValueError(f"two maps of one frame should have one shape; found {shapes}")
        return {"argmax_agreement": float((found.labels == reference.labels).mean())}

    def truth_endings(self, spec: LabelsSpec) -> tuple[str, ...]:
        return (".label.png",) if spec.name == "segmentation" else (f".{spec.name}.png",)

    def read_truth(self, spec: LabelsSpec, stem: str, size: tuple[int, int], files: TruthFiles) -> Array | None:
        """(H, W) uint8 class indices, 255 void. Raises BundleError: an index is none of the classes, nor void."""
        from edge_mtl.errors import BundleError
        from edge_mtl.tasks.truth import EXPORT_AGAIN, read_map

        name = f"{stem}{self.truth_endings(spec)[0]}"
        stored = read_map(name, size, files, kinds=("uint8", "uint16"))
        if stored is None:
            return None
        count = len(spec.classes)
        strange = np.unique(stored[(stored >= count) & (stored != VOID)])
        if strange.size:
            shown = ", ".join(map(str, strange[:8])) + (" and more" if strange.size > 8 else "")
            once = strange.tolist() == [count] and stored.min() > 0
            guess = " They look as if counted from 1: subtract 1." if once else ""
            raise BundleError(
                f"{files.where(name)} should hold the indices 0 to {count - 1} of the classes of {spec.name}, and {VOID} for "
                f"void; found {shown}.{guess} {EXPORT_AGAIN}"
            )
        return stored.astype(np.uint8)

    def write_truth(self, spec: LabelsSpec, truth: Array) -> dict[str, bytes]:
        from edge_mtl.image.encoding import encode_png

        return {self.truth_endings(spec)[0]: encode_png(truth)}

    def fit_truth(self, spec: LabelsSpec, truth: Array, box: Letterbox) -> Array:
        from edge_mtl.tasks.truth import fit_map

        return fit_map(truth, box, VOID)

    def thin_truth(self, truth: Array, step: int) -> Array:
        return truth[::step, ::step]

    def draw(self, spec: LabelsSpec, frame: Array, result: LabelMap, *, scale: Any = None) -> Array:
        """The frame with its classes in colour, their borders drawn and their names on the larger regions."""
        from edge_mtl.image.panel import draw_labels

        return draw_labels(frame, result.labels, classes=spec.classes, palette=spec.palette)

    def colours(self, spec: LabelsSpec, result: LabelMap, *, scale: Any = None) -> Array:
        from edge_mtl.image.colour import colour_labels

        return colour_labels(np.ascontiguousarray(result.labels), palette=spec.palette)

    def remarks(self, spec: LabelsSpec) -> tuple[str, ...]:
        lines, mean = spec.tolerance_px is not None, f"The mean IoU of {spec.name}"
        said = [f"Lines of {spec.name} are right within {spec.tolerance_px} px of the network's input."] if lines else []
        if spec.ignored:
            means = f"{mean} and its F-measure leave out" if lines else f"{mean} leaves out"
            said.append(f"{means}: {', '.join(spec.classes[index] for index in spec.ignored)}.")
        return tuple(said)

    def words(self, spec: LabelsSpec) -> str:
        return f"{len(spec.classes)} classes" if spec.name == "segmentation" else f"{spec.name} ({len(spec.classes)} classes)"

    def note(self, values: Mapping[str, float]) -> str:
        share = values["pixel_accuracy"]
        return f"{100 * share:.0f} % of pixels right" if math.isfinite(share) else ""

    def draw_difference(self, spec: LabelsSpec, frame: Array, found: LabelMap, reference: LabelMap) -> tuple[str, Array] | None:
        differs = frame.copy()
        differs[reference.labels != found.labels] = (255, 40, 40)
        return "classes that differ", differs

    def legend(self, spec: LabelsSpec, result: LabelMap) -> tuple[tuple[str, Colour], ...]:
        """The classes that occur, by index; of more than 24 those with the most pixels, and how many more there are."""
        return _legend(spec, _counts(spec, result), _LEGEND_MOST)

    def overlay(self, spec: LabelsSpec, result: LabelMap, frame: Array) -> Array:
        """(H, W, 3) uint8 RGB: `frame`, RGB of the map's size, under the classes, and the names of those that occur.

        Names take at most a third of the height; where they need more, those of the classes with the most pixels stay.
        """
        from edge_mtl.image.colour import blend
        from edge_mtl.image.panel import draw_legend

        image = blend(frame, self.colours(spec, result))
        draw_legend(image, partial(_legend, spec, _counts(spec, result)), most=_LEGEND_MOST)
        return image

    def summary(self, spec: LabelsSpec, result: LabelMap) -> dict[str, Any]:
        """shares: of the pixels of each class that occurs, 0..1."""
        counts = np.bincount(result.labels.ravel(), minlength=VOID + 1).tolist()
        shares = {name: round(counts[index] / result.labels.size, 6) for index, name in enumerate(spec.classes)}
        return {"shares": {name: share for name, share in shares.items() if share}}

    def arrays(self, spec: LabelsSpec, result: LabelMap) -> dict[str, Array]:
        confidence = result.confidence
        name = "confidence" if spec.name == "segmentation" else f"{spec.name}_confidence"
        return {spec.name: result.labels} | ({} if confidence is None else {name: confidence})

    def images(self, spec: LabelsSpec, result: LabelMap) -> dict[str, bytes]:
        from edge_mtl.image.encoding import encode_labels

        return {f"{spec.name}.png": encode_labels(result.labels, palette=spec.palette)}

    def topics(self, spec: LabelsSpec) -> tuple[Topic, ...]:
        """Labels, colours, the image under them, confidence in 0..255, and the classes as JSON for those who join."""
        below = _below(spec)
        overlay = partial(self.overlay, spec)
        return (
            Topic(spec.name, "mono8", lambda result: result.labels, transport="png"),
            Topic(f"{spec.name}/color", "rgb8", lambda result: self.colours(spec, result), transport="jpeg"),
            Topic(f"{below}overlay", "rgb8", overlay, over_frame=True, transport="jpeg"),
            Topic(f"{below}confidence", "mono8", confidence_bytes),
            Topic(f"{below}labels_json", "", lambda _: _classes_json(spec), latched=True),
        )

    def class_topic(self, spec: LabelsSpec) -> ClassTopic | None:
        return ClassTopic(f"{_below(spec)}label_info", spec.classes, _classes_json(spec))


def confidence_bytes(result: LabelMap) -> Array | None:
    """(H, W) uint8, 0..255 for a confidence of 0..1; None where the result has none."""
    values = result.confidence
    return None if values is None else np.rint(values * np.float32(255.0)).astype(np.uint8)


def _counts(spec: LabelsSpec, result: LabelMap) -> Array:
    """(C,) pixels of each class."""
    return np.bincount(result.labels.ravel(), minlength=VOID + 1)[: len(spec.classes)]


def _legend(spec: LabelsSpec, counts: Array, most: int) -> tuple[tuple[str, Colour], ...]:
    """The classes that occur, by index; of more than `most` those with the most pixels, and how many more there are."""
    present = np.flatnonzero(counts)
    named = np.sort(present[np.argsort(-counts[present], kind="stable")[:most]])
    palette = spec.palette
    entries = [(spec.classes[index], (int(c[0]), int(c[1]), int(c[2]))) for index in named for c in (palette[index],)]
    hidden = len(present) - len(named)
    return (*entries, (f"and {hidden} more", (0, 0, 0))) if hidden else tuple(entries)


def _below(spec: LabelsSpec) -> str:
    """Where its topics begin: "segmentation" keeps the names without a task's."""
    return "" if spec.name == "segmentation" else f"{spec.name}/"


def _classes_json(spec: LabelsSpec) -> str:
    palette = spec.palette
    entries = [{"id": index, "name": name, "color": palette[index].tolist()} for index, name in enumerate(spec.classes)]
    return json.dumps({"classes": entries, "unlabelled": VOID})


def _placed_labels(labels: Array, area: MapArea, pool: BufferPool) -> Array:
    import cv2

    part = area.cropped(labels)
    if part.shape != area.size:
        part = cv2.resize(part, area.size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return area.placed(part, VOID, pool)
