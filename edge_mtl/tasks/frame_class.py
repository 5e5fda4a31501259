"""The kind "class": one class for the whole frame, such as the kind of scene; 2 to 4,096 classes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from edge_mtl.tasks.class_metric import FEW, ClassMetric, ranking, shares_of_draws
from edge_mtl.tasks.class_names import check_classes, named
from edge_mtl.tasks.kind import (
    BudgetItem,
    ClassTopic,
    Kind,
    Measure,
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
    from edge_mtl.tasks.areas import CameraChange, MapArea

__all__ = ["ClassScores", "ClassSpec", "FrameClass"]

Array = np.ndarray
_FEWEST, _MOST = 2, 4096
_TEXT_SHARE = 12
"""The height of a frame in heights of the text on it."""
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True, slots=True)
class ClassSpec(TaskSpec):
    """A task of one class per frame.

    Attributes:
        classes: names by index.
    """

    classes: tuple[str, ...]


@dataclass(frozen=True, slots=True, eq=False)
class ClassScores(Result):
    """What kind of frame it is. A truth is the index alone, an int.

    Attributes:
        probabilities: (C,) float32, by class, their sum is 1; NaN where the network's answer cannot be used.
    """

    spec: ClassSpec
    probabilities: Array

    @property
    def known(self) -> bool:
        """Whether the network's answer can be used."""
        return bool(np.isfinite(self.probabilities).all())

    @property
    def index(self) -> int:
        """Of the most probable class; the lowest of several; -1 where it is not known."""
        return int(self.probabilities.argmax()) if self.known else -1

    @property
    def name(self) -> str:
        """Of the most probable class; empty where it is not known."""
        return self.spec.classes[self.index] if self.known else ""

    def best(self, most: int = FEW) -> tuple[tuple[int, float], ...]:
        """Index and probability of the most probable classes, best first; empty where they are not known."""
        return tuple((int(index), float(self.probabilities[index])) for index in ranking(self.probabilities)[:most])


class FrameClass(Kind[ClassSpec, ClassScores]):
    """See the module.

    The self-test compares probabilities, not classes: where two classes are equally probable, any rounding may exchange them.
    A change of class without that needs a large change of probabilities.
    """

    name: ClassVar[str] = "class"
    result: ClassVar[type[Result]] = ClassScores
    measures = (
        Measure("top1", "top-1 %", "Class, first answer right", True, 100.0, 1, "", True),
        Measure("top5", "top-5 %", "Class, among the first five", True, 100.0, 1),
    )
    agreements = (
        Measure("top1_agreement", "same class %", "Class that agrees", True, 100.0, 1, " %", True),
        Measure("probability_change", "probability %", "Class, change of probability", False, 100.0, 1, " %"),
    )
    budgets = (
        BudgetItem("top1", "top1", True, 0.005, 1.0, "top-1 accuracy fell by"),
        BudgetItem("frame_class", "top1_agreement", False, 0.02, 1.0, "frames whose class differs from FP32:"),
    )
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "fp32": {"probability_change": 0.005},
        "tf32": {"probability_change": 0.01},
        "bf16": {"probability_change": 0.05},
        "fp16": {"probability_change": 0.02},
        "int8": {"probability_change": 0.25},
        "int8+bf16": {"probability_change": 0.25},
        "int8+fp16": {"probability_change": 0.25},
    }
    drift: ClassVar[Mapping[str, float]] = {"probability_change": 0.005}
    rounding: ClassVar[Mapping[str, float]] = {"probability_change": 0.02}
    viewed_as = "text"

    def spec(self, name: str, entry: Mapping[str, Any]) -> ClassSpec:
        classes = entry.get("classes")
        check_classes(name, classes, fewest=_FEWEST, most=_MOST)
        return ClassSpec(name, self.name, tuple(classes or ()))

    def describe(self, spec: ClassSpec) -> dict[str, Any]:
        return {"classes": list(spec.classes)}

    def outputs(self, spec: ClassSpec, size: tuple[int, int], placement: Placement) -> dict[str, tuple[int, ...]]:
        """Logits, whatever the placement: what is left for the host is a softmax of a few numbers."""
        return {f"{spec.name}_logits": (1, len(spec.classes))}

    def finish(
        self, spec: ClassSpec, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[ClassScores, int]:
        """Softmax of the logits in float32; all NaN where one of them is not finite."""
        logits = outputs[f"{spec.name}_logits"][0].astype(np.float32)
        flaws = int((~np.isfinite(logits)).sum())
        return ClassScores(spec, np.full_like(logits, np.nan) if flaws else softmax(logits)), flaws

    def of_truth(self, spec: ClassSpec, truth: int) -> ClassScores:
        """Certainty."""
        return ClassScores(spec, np.eye(len(spec.classes), dtype=np.float32)[truth])

    def metric(self, spec: ClassSpec) -> ClassMetric:
        return ClassMetric(spec.classes)

    def near_chance(self, spec: ClassSpec, metric: ClassMetric) -> str:
        if not metric.near_chance():
            return ""
        right, (name, share) = metric.compute()["top1"], metric.most_frequent()
        return (
            f"{spec.name}: the class of {right:.1%} of the frames is right, no more than by chance: {share:.1%} of them are "
            f"{name}. Are its classes {', '.join(spec.classes[:5])}{', ...' if len(spec.classes) > 5 else ''}, in this order?"
        )

    def resample(self, spec: ClassSpec, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        first, few = shares_of_draws(statistics, weights, len(spec.classes))
        return {"top1": first, "top5": few}

    def agreement(self, spec: ClassSpec, found: ClassScores, reference: ClassScores) -> dict[str, float]:
        """top1_agreement: 1 for the same class, else 0; probability_change: total variation of both, 0..1.

        Total variation is half the sum of absolute differences: the most by which the probability of a set of classes changed.
        A class that is not known agrees with nothing but another one.
        """
        if not (found.known and reference.known):
            same = found.known == reference.known
            return {"top1_agreement": float(same), "probability_change": float(not same)}
        change = np.abs(found.probabilities.astype(np.float64) - reference.probabilities).sum() / 2
        return {"top1_agreement": float(found.index == reference.index), "probability_change": float(change)}

    # ---- truth

    def truth_endings(self, spec: ClassSpec) -> tuple[str, ...]:
        return (f".{spec.name}.json",)

    def read_truth(self, spec: ClassSpec, stem: str, size: tuple[int, int], files: TruthFiles) -> int | None:
        """The index of {"class": NAME}. Raises BundleError: that is not what the file holds, or no class has that name."""
        from edge_mtl.errors import BundleError
        from edge_mtl.tasks.truth import EXPORT_AGAIN, read_json

        name = f"{stem}{self.truth_endings(spec)[0]}"
        content = read_json(name, files)
        if content is None:
            return None
        found = content.get("class")
        if found not in spec.classes:
            known = ", ".join(spec.classes[:24]) + (f" and {len(spec.classes) - 24} more" if len(spec.classes) > 24 else "")
            raise BundleError(
                f'{files.where(name)} should hold {{"class": NAME}}, a class of {spec.name}: {known}; found {found!r}. '
                f"{EXPORT_AGAIN}"
            )
        return spec.classes.index(found)

    def write_truth(self, spec: ClassSpec, truth: int) -> dict[str, bytes]:
        return {self.truth_endings(spec)[0]: _json({"class": spec.classes[truth]})}

    # ---- for people

    def draw(self, spec: ClassSpec, frame: Array, result: ClassScores, *, scale: Any = None) -> Array:
        """The frame with the class and its probability written on it, upper left."""
        image = frame.copy()
        _write(image, _shown(result), row=0)
        return image

    def draw_difference(
        self, spec: ClassSpec, frame: Array, found: ClassScores, reference: ClassScores
    ) -> tuple[str, Array] | None:
        image = frame.copy()
        for row, one in enumerate((found, reference)):
            _write(image, _shown(one), row=row)
        return "class, above the reference's", image

    def words(self, spec: ClassSpec) -> str:
        return f"{spec.name.replace('_', ' ')} ({len(spec.classes)} classes)"

    def note(self, values: Mapping[str, float]) -> str:
        """Of one frame: whether its class is right."""
        share = values["top1"]
        return "" if not np.isfinite(share) else "right" if share == 1.0 else "wrong" if share == 0.0 else f"{share:.0%} right"

    def summary(self, spec: ClassSpec, result: ClassScores) -> dict[str, Any]:
        """class, probability and most_probable, which are up to five, best first; null and none where it is not known."""
        best = {spec.classes[index]: round(probability, 6) for index, probability in result.best()}
        first = next(iter(best.items()), (None, None))
        return {"class": first[0], "probability": first[1], "most_probable": best}

    def arrays(self, spec: ClassSpec, result: ClassScores) -> dict[str, Array]:
        """The probabilities."""
        return {spec.name: result.probabilities}

    def images(self, spec: ClassSpec, result: ClassScores) -> dict[str, bytes]:
        """No image, but the class in the format of truths beside labelled frames, where it is known."""
        return {f"{spec.name}.json": _json({"class": result.name})} if result.known else {}

    def topics(self, spec: ClassSpec) -> tuple[Topic, ...]:
        """The summary as JSON, for those without vision_msgs; the names of all classes, once."""
        return (
            Topic(f"{spec.name}/json", "", lambda result: json.dumps(self.summary(spec, result), ensure_ascii=False)),
            Topic(f"{spec.name}/labels_json", "", lambda _: named(spec.classes), latched=True),
        )

    def class_topic(self, spec: ClassSpec) -> ClassTopic | None:
        return ClassTopic(f"{spec.name}/label_info", spec.classes, named(spec.classes))

    def vision_topic(self, spec: ClassSpec) -> VisionTopic | None:
        return VisionTopic(spec.name, "classification", scored)


def softmax(logits: Array) -> Array:
    """(C,) float32 -> (C,) float32, their sum is 1, whatever the size of the logits."""
    powers = np.exp(logits - logits.max())
    found: Array = powers / powers.sum()
    return found


def scored(result: ClassScores) -> Scored:
    """The five most probable classes for a message; none where they are not known."""
    best = result.best()
    return Scored(np.array([index for index, _ in best], np.int64), np.array([share for _, share in best], np.float32))


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def _shown(result: ClassScores) -> str:
    return f"{result.name} {result.probabilities[result.index]:.0%}" if result.known else "unknown"


def _write(image: Array, text: str, *, row: int) -> None:
    """Write a line into `image`, smaller where it would not fit; in place."""
    from edge_mtl.image.lettering import put_text, text_width

    height, width = image.shape[:2]
    size = max(8, height // _TEXT_SHARE)
    margin = size // 3
    room = width - 2 * margin
    while size > 8 and text_width(text, size=size, bold=True) > room:
        size -= 1
    baseline = margin + size + row * (size + margin)
    put_text(image, text, (margin, baseline), size=size, colour=_WHITE, bold=True, outline=_BLACK)
