"""The kind "boxes": objects of one frame as boxes with a class and a score."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.numbers import is_number
from edge_mtl.tasks.box_agreement import box_agreement
from edge_mtl.tasks.box_coco import FullBoxMetric
from edge_mtl.tasks.box_metric import BoxMetric, resampled
from edge_mtl.tasks.box_objects import BoxTruth
from edge_mtl.tasks.class_names import check_classes, named, short
from edge_mtl.tasks.kind import (
    BudgetItem,
    ClassTopic,
    Kind,
    Measure,
    Once,
    Placement,
    Result,
    Scored,
    TaskSpec,
    Topic,
    TruthFiles,
    VisionTopic,
)

if TYPE_CHECKING:
    from edge_mtl.image.buffer_pool import BufferPool
    from edge_mtl.image.frames import Letterbox
    from edge_mtl.tasks.areas import CameraChange, MapArea
    from edge_mtl.tasks.box_decoding import Level

__all__ = ["BoxTruth", "Boxes", "BoxesKind", "BoxesSpec"]

Array = np.ndarray
Colour = tuple[int, int, int]

_MOST_CLASSES = 4096
_COARSEST = 128
"""Pixels of the network's input per cell, at most."""
_MOST_BOXES = 1000
_NEAR = 4.0
"""Logits: how far below the least score that is shown noise can bring a score above it."""
_LEAST_SCORE = 0.001
"""Boxes with a lower score change no precision that anybody measures."""
_FEWEST_CANDIDATES = 300
_CANDIDATES_EACH, _MEASURED_EACH = 3, 5
"""Boxes that suppression looks at, for each that a frame has at most: for what users see, and for measuring."""
_MEASURED = 100
"""Boxes of a frame that are measured, unless users see more: as many as COCO looks at."""


@dataclass(frozen=True, slots=True)
class BoxesSpec(TaskSpec):
    """A task of boxes.

    Attributes:
        classes: names by index.
        levels: strides of the network's outputs, in pixels of its input, finest first.
        score: boxes with a lower score are not answered.
        nms_iou: of two boxes of one class that overlap by more than this, the one with the lower score is not answered.
        most: boxes that a frame has at most, those with the highest scores.
    """

    classes: tuple[str, ...]
    levels: tuple[int, ...] = (8, 16, 32)
    score: float = 0.3
    nms_iou: float = 0.6
    most: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Boxes(Result):
    """Objects of one frame, highest score first.

    Boxes are edges in pixels of the map, where the centre of a pixel is at whole numbers, as a camera's centre is: a box over
    a whole image of 640x480 is (-0.5, -0.5, 639.5, 479.5).

    Attributes:
        xyxy: (N, 4) float32: left, top, right, bottom.
        scores: (N,) float32 in 0..1.
        classes: (N,) int64, class index.
        size: (height, width) of that map; None where it is not known.
        measured: the same boxes and those down to a score of 0.001, at least 100 of them, from which average precision is
            measured; computed when first asked for.
    """

    spec: BoxesSpec
    xyxy: Array
    scores: Array
    classes: Array
    size: tuple[int, int] | None = None
    make_measured: InitVar[Callable[[], Boxes] | None] = None
    _measured: Once[Boxes] | None = field(init=False, default=None, repr=False)

    def __post_init__(self, make_measured: Callable[[], Boxes] | None) -> None:
        if make_measured is not None:  # a lazy field of a frozen class is set once, here
            object.__setattr__(self, "_measured", Once(make_measured))

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> tuple[str, ...]:
        """The class of every box by name."""
        return tuple(self.spec.classes[index] for index in self.classes)

    @property
    def measured(self) -> Boxes:
        """See the class; the boxes themselves where nothing more is known."""
        return self if self._measured is None else self._measured.get()

    @property
    def map_size(self) -> tuple[int, int] | None:
        return self.size


class BoxesKind(Kind[BoxesSpec, Boxes]):
    """See the module."""

    name: ClassVar[str] = "boxes"
    result: ClassVar[type[Result]] = Boxes
    measures = (
        Measure("ap", "AP %", "Boxes, AP", True, 100.0, 1, "", True),
        Measure("ap50", "AP50 %", "Boxes, AP at an overlap of 0.5", True, 100.0, 1),
        Measure("ap75", "AP75 %", "Boxes, AP at an overlap of 0.75", True, 100.0, 1),
    )
    agreements = (
        Measure("box_f1", "boxes %", "Boxes that agree", True, 100.0, 1, " %", True),
        Measure("box_iou", "overlap %", "Overlap of boxes that agree", True, 100.0, 1, " %"),
    )
    budgets = (
        BudgetItem("ap", "ap", True, 0.01, 1.0, "AP fell by"),
        BudgetItem("boxes", "box_f1", False, 0.05, 1.0, "boxes that differ from FP32:"),
    )
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "fp32": {"box_f1": 0.98},
        "tf32": {"box_f1": 0.95},
        "bf16": {"box_f1": 0.90},
        "fp16": {"box_f1": 0.95},
        "int8": {"box_f1": 0.90},
        "int8+bf16": {"box_f1": 0.90},
        "int8+fp16": {"box_f1": 0.90},
    }
    drift: ClassVar[Mapping[str, float]] = {"box_f1": 0.02}
    rounding: ClassVar[Mapping[str, float]] = {"box_f1": 0.03}
    viewed_as = "boxes"

    def spec(self, name: str, entry: Mapping[str, Any]) -> BoxesSpec:
        classes, levels = entry.get("classes"), entry.get("levels", [8, 16, 32])
        check_classes(name, classes, fewest=1, most=_MOST_CLASSES)
        whole = isinstance(levels, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in levels)
        if not whole or not levels or levels != sorted(set(levels)) or not 1 <= levels[0] <= levels[-1] <= _COARSEST:
            raise ValueError(f"levels of {name} should be strides of 1 to {_COARSEST}, finest first; found {short(levels)}")
        score, overlap, most = entry.get("score", 0.3), entry.get("nms_iou", 0.6), entry.get("most", 100)
        if not is_number(score) or not _LEAST_SCORE <= score < 1:
            raise ValueError(f"score of {name} should be {_LEAST_SCORE} to less than 1; found {short(score)}")
        if not is_number(overlap) or not 0 < overlap <= 1:
            raise ValueError(f"nms_iou of {name} should be above 0, at most 1; found {short(overlap)}")
        if not isinstance(most, int) or isinstance(most, bool) or not 1 <= most <= _MOST_BOXES:
            raise ValueError(f"most of {name} should be a number of boxes, 1 to {_MOST_BOXES}; found {short(most)}")
        return BoxesSpec(name, self.name, tuple(classes or ()), tuple(levels), float(score), float(overlap), most)

    def describe(self, spec: BoxesSpec) -> dict[str, Any]:
        return {
            "classes": list(spec.classes),
            "levels": list(spec.levels),
            "score": spec.score,
            "nms_iou": spec.nms_iou,
            "most": spec.most,
        }

    def with_min_score(self, spec: BoxesSpec, score: float) -> BoxesSpec:
        if not is_number(score) or not spec.score <= score < 1:
            raise ValueError(
                f"min_score of {spec.name} should be at least {spec.score:g}, with which the bundle was measured, and less "
                f"than 1; found {short(score)}. To answer boxes of lower scores export the bundle with them: export.boxes"
            )
        return replace(spec, score=float(score))

    def outputs(self, spec: BoxesSpec, size: tuple[int, int], placement: Placement) -> dict[str, tuple[int, ...]]:
        """`<task>_scores_<stride>` of all levels, logits, then `<task>_boxes_<stride>`, in strides; either placement alike."""
        cells = {stride: (size[0] // stride, size[1] // stride) for stride in spec.levels}
        found: dict[str, tuple[int, ...]] = {}
        for what, channels in (("scores", len(spec.classes)), ("boxes", 4)):
            found |= {f"{spec.name}_{what}_{stride}": (1, channels, *cells[stride]) for stride in spec.levels}
        return found

    def finish(
        self, spec: BoxesSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[Boxes, int]:
        """Boxes from `spec.score` on, within the frame, without those that another one of their class stands for."""
        from edge_mtl.tasks.box_decoding import Level, bad_values

        levels = [
            Level(stride, outputs[f"{spec.name}_scores_{stride}"][0], outputs[f"{spec.name}_boxes_{stride}"][0])
            for stride in spec.levels
        ]
        measured = replace(spec, score=_LEAST_SCORE, most=max(spec.most, _MEASURED))
        more = partial(_decoded, measured, levels, area, candidates=_MEASURED_EACH * measured.most)
        candidates = max(_FEWEST_CANDIDATES, _CANDIDATES_EACH * spec.most)
        return _decoded(spec, levels, area, candidates=candidates, more=more), bad_values(levels)

    def resize(self, result: Boxes, size: tuple[int, int]) -> Boxes:
        """Boxes move with the map; those whose map is not known stay where they are."""
        if result.size is None:
            return result
        scale = np.array([size[1] / result.size[1], size[0] / result.size[0]] * 2)
        moved = ((result.xyxy.astype(np.float64) + 0.5) * scale - 0.5).astype(np.float32)
        return Boxes(result.spec, moved, result.scores, result.classes, size)

    def of_truth(self, spec: BoxesSpec, truth: BoxTruth) -> Boxes:
        """Its objects with scores of 1, without crowds."""
        own = ~truth.crowd
        return Boxes(spec, truth.xyxy[own], np.ones(own.sum(), np.float32), truth.classes[own])

    def metric(self, spec: BoxesSpec) -> BoxMetric:
        return BoxMetric(spec.classes)

    def full_metric(self, spec: BoxesSpec) -> FullBoxMetric:
        return FullBoxMetric(spec.classes)

    def near_chance(self, spec: BoxesSpec, metric: BoxMetric) -> str:
        if not metric.near_chance():
            return ""
        return (
            f"{spec.name}: AP50 is {metric.compute()['ap50']:.1%}, no more than by chance. Are its classes "
            f"{', '.join(spec.classes[:5])}{', ...' if len(spec.classes) > 5 else ''}, and are the boxes of its labels left, "
            "top, right, bottom in pixels of the frame?"
        )

    def resample(self, spec: BoxesSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        frames = [frame for one in statistics for frame in one]
        return resampled(frames, np.repeat(weights, [len(one) for one in statistics], axis=1))

    def agreement(self, spec: BoxesSpec, found: Boxes, reference: Boxes) -> dict[str, float]:
        """box_f1: share of boxes that both have; box_iou: how far these overlap, absent where there are none."""
        return box_agreement(found, reference)

    def noise_masks(self, spec: BoxesSpec, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Scores that are near the least shown or above it, and distances of cells that show a box: the rest is background."""
        least = math.log(spec.score / (1 - spec.score))
        found: dict[str, Array] = {}
        for stride in spec.levels:
            scores = outputs[f"{spec.name}_scores_{stride}"]
            found[f"{spec.name}_scores_{stride}"] = scores > least - _NEAR
            shown = scores.max(axis=1, keepdims=True) > least
            found[f"{spec.name}_boxes_{stride}"] = np.broadcast_to(shown, outputs[f"{spec.name}_boxes_{stride}"].shape)
        return found

    def remarks(self, spec: BoxesSpec) -> tuple[str, ...]:
        return (f"AP of {spec.name} is COCO's, of boxes from a score of {_LEAST_SCORE} on; {spec.score:g} is the least shown.",)

    def truth_endings(self, spec: BoxesSpec) -> tuple[str, ...]:
        return (f".{spec.name}.json",)

    def read_truth(self, spec: BoxesSpec, stem: str, size: tuple[int, int], files: TruthFiles) -> BoxTruth | None:
        from edge_mtl.tasks.box_truth import read_boxes

        return read_boxes(f"{stem}{self.truth_endings(spec)[0]}", spec.classes, size, files)

    def write_truth(self, spec: BoxesSpec, truth: BoxTruth) -> dict[str, bytes]:
        from edge_mtl.tasks.box_truth import encode_boxes

        names = [spec.classes[index] for index in truth.classes]
        return {self.truth_endings(spec)[0]: _json(encode_boxes(truth.xyxy, names, crowd=truth.crowd))}

    def fit_truth(self, spec: BoxesSpec, truth: BoxTruth, box: Letterbox) -> BoxTruth:
        from edge_mtl.tasks.box_truth import fit_boxes

        return fit_boxes(truth, box)

    def crop_truth(self, spec: BoxesSpec, truth: BoxTruth, part: tuple[slice, slice]) -> BoxTruth:
        """Objects of which nothing lies in that part are left out."""
        from edge_mtl.tasks.box_truth import crop_boxes

        return crop_boxes(truth, part)

    def draw(self, spec: BoxesSpec, frame: Array, result: Boxes, *, scale: Any = None) -> Array:
        """The frame with its boxes in the colours of their classes, with names and scores."""
        from edge_mtl.tasks.box_views import drawn

        return drawn(frame, result)

    def words(self, spec: BoxesSpec) -> str:
        return f"{spec.name.replace('_', ' ')} in boxes"

    def note(self, values: Mapping[str, float]) -> str:
        return f"AP50 {100 * values['ap50']:.0f} %" if math.isfinite(values["ap50"]) else ""

    def draw_difference(self, spec: BoxesSpec, frame: Array, found: Boxes, reference: Boxes) -> tuple[str, Array]:
        """Boxes that only the reference has, "-", and those that only the other has, "+"."""
        from edge_mtl.tasks.box_views import differences

        return "boxes that differ", differences(frame, found, reference)

    def legend(self, spec: BoxesSpec, result: Boxes) -> tuple[tuple[str, Colour], ...]:
        """The classes that occur, by index; of more than 24 those with the highest scores."""
        from edge_mtl.tasks.box_views import named_colours

        return named_colours(result)

    def summary(self, spec: BoxesSpec, result: Boxes) -> dict[str, Any]:
        """boxes: class, score and edges in pixels of the map (left, top, right, bottom) of each, highest score first."""
        rounded = [[round(value, 1) for value in row] for row in result.xyxy.tolist()]
        scores = [round(value, 4) for value in result.scores.tolist()]
        named = zip(result.names, scores, rounded, strict=True)
        return {"boxes": [{"class": name, "score": score, "xyxy": edges} for name, score, edges in named]}

    def arrays(self, spec: BoxesSpec, result: Boxes) -> dict[str, Array]:
        return {
            f"{spec.name}_xyxy": result.xyxy,
            f"{spec.name}_scores": result.scores,
            f"{spec.name}_classes": result.classes,
        }

    def images(self, spec: BoxesSpec, result: Boxes) -> dict[str, bytes]:
        """No image, but the boxes in the format of truths beside labelled frames, with their scores."""
        from edge_mtl.tasks.box_truth import encode_boxes

        return {f"{spec.name}.json": _json(encode_boxes(result.xyxy, result.names, scores=result.scores))}

    def topics(self, spec: BoxesSpec) -> tuple[Topic, ...]:
        """Boxes as JSON, as `summary` has them, and drawn over the frame; the names of all classes, once."""
        drawn = partial(_drawn_over, self, spec)
        return (
            Topic(f"{spec.name}/json", "", lambda result: json.dumps(self.summary(spec, result), ensure_ascii=False)),
            Topic(f"{spec.name}/color", "rgb8", drawn, over_frame=True, transport="jpeg"),
            Topic(f"{spec.name}/labels_json", "", lambda _: named(spec.classes), latched=True),
        )

    def class_topic(self, spec: BoxesSpec) -> ClassTopic | None:
        return ClassTopic(f"{spec.name}/label_info", spec.classes, named(spec.classes), spec.score)

    def vision_topic(self, spec: BoxesSpec) -> VisionTopic | None:
        return VisionTopic(spec.name, "detections", lambda result: Scored(result.classes, result.scores, result.xyxy))


def _decoded(
    spec: BoxesSpec, levels: Sequence[Level], area: MapArea, *, candidates: int, more: Callable[[], Boxes] | None = None
) -> Boxes:
    from edge_mtl.tasks.box_decoding import decoded

    found = decoded(levels, area, score=spec.score, overlap=spec.nms_iou, candidates=candidates, most=spec.most)
    return Boxes(spec, *found, area.whole, more)


def _drawn_over(kind: BoxesKind, spec: BoxesSpec, result: Boxes, frame: Array) -> Array:
    return kind.draw(spec, frame, result)


def _json(entries: list[dict[str, Any]]) -> bytes:
    return json.dumps({"boxes": entries}, ensure_ascii=False, indent=1).encode()
