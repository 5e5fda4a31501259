"""What a kind of task is: one object that owns its manifest entry, graph outputs, results, metrics, budgets and drawings.

A kind is added by writing a subclass of `Kind` and passing it to `edge_mtl.tasks.register`; a distribution does that through
the entry point group `edge_mtl.kinds`. Importing this module loads no runtime, no torch and no OpenCV.
"""

from __future__ import annotations

import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import numpy as np

from edge_mtl.image import OUTPUT_STRIDE
from edge_mtl.tasks.measures import BudgetItem, Measure, Metric
from edge_mtl.tasks.messages import ClassTopic, Scored, Topic, Transport, VisionTopic

if TYPE_CHECKING:
    from edge_mtl.image.buffer_pool import BufferPool
    from edge_mtl.image.frames import Letterbox
    from edge_mtl.tasks.areas import CameraChange, MapArea

__all__ = [
    "BudgetItem",
    "ClassTopic",
    "DenseKind",
    "Kind",
    "Measure",
    "Metric",
    "Once",
    "Placement",
    "Result",
    "Scored",
    "TaskSpec",
    "Topic",
    "Transport",
    "TruthFiles",
    "VisionTopic",
    "check_name",
]

Array = np.ndarray
Placement = Literal["host", "graph"]
"""Where post-processing happens: on the host, behind maps at a quarter of the size, or in a graph of finished maps."""

TASK_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One task of a bundle. Kinds with options of their own subclass it.

    Attributes:
        name: of the task, key of results, outputs and truths: "segmentation", "lane", "depth", ...
        kind: name of its kind: "labels", "depth", "normals", ...
    """

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Result:
    """What one task answers for one frame. Kinds subclass it and add their values.

    Attributes:
        spec: the task.
    """

    spec: TaskSpec

    @property
    def map_size(self) -> tuple[int, int] | None:
        """(height, width) where the result is a map, else None."""
        return None


T = TypeVar("T")
S = TypeVar("S", bound=TaskSpec)
R = TypeVar("R", bound=Result)


class Once(Generic[T]):
    """A value made when it is first asked for, once, whichever thread asks. Copies and pickles of it hold the value."""

    __slots__ = ("_lock", "_make", "_value")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._lock = threading.Lock()

    @property
    def made(self) -> bool:
        """Whether it was made already."""
        return self._make is None

    def get(self) -> T:
        with self._lock:
            if self._make is not None:
                self._value = self._make()
                self._make = None
            return self._value

    def __reduce__(self) -> tuple[Callable[[T], Once[T]], tuple[T]]:
        return _made, (self.get(),)


def _made(value: T) -> Once[T]:
    once = Once(lambda: value)
    once.get()
    return once


class TruthFiles(Protocol):
    """The files beside labelled frames. `read` raises BundleError where a file was altered."""

    @property
    def names(self) -> frozenset[str]: ...
    def read(self, name: str) -> bytes: ...
    def where(self, name: str) -> str: ...


class Kind(ABC, Generic[S, R]):
    """All that differs between kinds of tasks.

    Class attributes:
        name: of the kind in manifests.
        measures: against truth, in the order of reports; which of them a task has, `measures_of` says.
        agreements: against FP32's answers.
        budgets: what the accuracy check limits; which of them a task has, `budgets_of` says.
        tolerances: by precision, the worst agreement of any golden frame that passes the self-test, by measure.
        drift: by agreement, how much worse than when it was built an engine may be when loaded, besides a quarter.
        rounding: by agreement, how much further from FP32 than exact arithmetic an INT8 graph may be.
        result: class of the results.
        metric_scale: whether answers are in metres, so that they need the camera's intrinsics.
        heading: of panels and views, where it is not the task's name.
        viewed_as: how the viewer shows a result: as class indices, metres, a drawn image; as boxes over the image or as text,
            which both come from `vision_topic`; None for not at all.
    """

    name: ClassVar[str]
    result: ClassVar[type[Result]]
    measures: ClassVar[tuple[Measure, ...]] = ()
    agreements: ClassVar[tuple[Measure, ...]] = ()
    budgets: ClassVar[tuple[BudgetItem, ...]] = ()
    tolerances: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    drift: ClassVar[Mapping[str, float]] = {}
    rounding: ClassVar[Mapping[str, float]] = {}
    metric_scale: ClassVar[bool] = False
    heading: ClassVar[str] = ""
    viewed_as: ClassVar[Literal["labels", "depth", "image", "boxes", "text"] | None] = None

    # ---- manifest and graph

    @abstractmethod
    def spec(self, name: str, entry: Mapping[str, Any]) -> S:
        """The task from its entry in a manifest. Raises ValueError naming what was expected and found."""

    @abstractmethod
    def describe(self, spec: S) -> dict[str, Any]:
        """Its entry in a manifest, without "kind": the inverse of `spec`."""

    @abstractmethod
    def outputs(self, spec: S, size: tuple[int, int], placement: Placement) -> dict[str, tuple[int, ...]]:
        """Names and shapes of its outputs in a graph whose input is `size` (height, width)."""

    def with_min_score(self, spec: S, score: float) -> S | None:
        """The task answering only what has at least this score; None where results are not scored one by one.

        Raises:
            ValueError: no score, or a lower one than that of `spec`, with which the bundle was measured.
        """
        return None

    # ---- results

    @abstractmethod
    def finish(
        self, spec: S, outputs: Mapping[str, Array], area: MapArea, change: CameraChange | None, pool: BufferPool
    ) -> tuple[R, int]:
        """From a graph's outputs to a result, and how many of its values cannot be used (not finite, say).

        Args:
            outputs: at least those of `outputs(spec, ..., area.placement)`, batch 1; arrays may become part of the result.
            area: which part of the maps belongs to the frame, and the size that is wanted.
            change: from the canonical camera to the frame's; None where nothing changes.
            pool: where maps and working memory come from.
        """

    def thin(self, result: R, step: int) -> R:
        """Every step-th pixel along both axes; results that are not maps stay as they are."""
        return result

    def resize(self, result: R, size: tuple[int, int]) -> R:
        """At another size (height, width), for drawing; results that are not maps stay as they are."""
        return result

    def known_share(self, spec: S, result: R) -> float | None:
        """Share of the places of a map that have a value, 0..1; None where a result does not leave places out."""
        return None

    def of_truth(self, spec: S, truth: Any) -> R | None:
        """A truth as if it had been answered, for drawing; None where that makes no sense."""
        return None

    # ---- accuracy

    def measures_of(self, spec: S) -> tuple[Measure, ...]:
        """Those of `measures` that the task has: all by default."""
        return self.measures

    def budgets_of(self, spec: S) -> tuple[BudgetItem, ...]:
        """Those of `budgets` that hold for the task: all by default."""
        return self.budgets

    @abstractmethod
    def metric(self, spec: S) -> Metric:
        """An empty metric; its measures are those of `measures_of`."""

    def near_chance(self, spec: S, metric: Any) -> str:
        """Why answers are no better than guesses, from a metric of them, in sentences; "" where they are better."""
        return ""

    def full_metric(self, spec: S) -> Metric:
        """As `metric`, with all that the field reports besides in its `details`; for reports, not for devices."""
        return self.metric(spec)

    @abstractmethod
    def resample(self, spec: S, statistics: Sequence[Any], weights: Array) -> dict[str, Array]:
        """Measures of several draws of frames, for error bars by the bootstrap.

        Args:
            statistics: of F frames, from `Metric.statistics`.
            weights: (R, F) float64, how often each frame is in each draw.
        Returns:
            (R,) float64 by measure, at least those that budgets limit; NaN where a draw has nothing to measure.
        """

    @abstractmethod
    def agreement(self, spec: S, found: R, reference: R) -> dict[str, float]:
        """How far two results of one frame agree, by the names of `agreements`."""

    def noise_masks(self, spec: S, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """Which values count where noise is measured, by output: bool of its shape; of outputs that are not named all do.

        Args:
            outputs: FP32's, of a graph that leaves post-processing to the host.
        """
        return {}

    def remarks(self, spec: S) -> tuple[str, ...]:
        """What a reader of its measures should know, in sentences: what they leave out, for example."""
        return ()

    # ---- truth beside labelled frames

    def truth_endings(self, spec: S) -> tuple[str, ...]:
        """Endings of truth files after the frame's stem, so that they are not taken for frames: (".depth.png",)."""
        return (f".{spec.name}.png",)

    def read_truth(self, spec: S, stem: str, size: tuple[int, int], files: TruthFiles) -> Any | None:
        """The truth of the frame `stem`, whose size is (height, width); None without one. Raises BundleError."""
        return None

    def write_truth(self, spec: S, truth: Any) -> dict[str, bytes]:
        """The truth as files, by ending."""
        return {}

    def fit_truth(self, spec: S, truth: Any, box: Letterbox) -> Any:
        """The truth of a frame that was letterboxed; unknown in the bars."""
        return truth

    def crop_truth(self, spec: S, truth: Any, part: tuple[slice, slice]) -> Any:
        """The truth of a part of its frame, rows and columns; what is said of the whole frame stays as it is."""
        return truth

    def thin_truth(self, truth: Any, step: int) -> Any:
        """As `thin`."""
        return truth

    # ---- for people

    def draw(self, spec: S, frame: Array, result: R, *, scale: Any = None) -> Array:
        """(H, W, 3) uint8 RGB of the result, over the frame of the same size where that helps.

        Args:
            scale: from `scale`, of this result or of one that it is to be compared with; by default this result's own.
        """
        return frame.copy()

    def colours(self, spec: S, result: R, *, scale: Any = None) -> Array | None:
        """(H, W, 3) uint8 RGB of the values alone; None where a result is not a map."""
        return None

    def words(self, spec: S) -> str:
        """What the task gives, in two or three words, for headlines."""
        return spec.name.replace("_", " ")

    def note(self, values: Mapping[str, float]) -> str:
        """How good one result is, in a few words, from the measures of its metric; empty where that is not known."""
        return ""

    def scale(self, spec: S, result: R, *, margin: float = 0.0) -> Any:
        """What the colours of a drawing span, wider by `margin` at each end; None where drawings have no scale."""
        return None

    def draw_difference(self, spec: S, frame: Array, found: R, reference: R) -> tuple[str, Array] | None:
        """A title and (H, W, 3) uint8 RGB that shows where two results of `frame` differ; None where that cannot be shown."""
        return None

    def legend(self, spec: S, result: R) -> tuple[tuple[str, tuple[int, int, int]], ...]:
        """Names and colours of what a drawing shows; empty where there is nothing to explain."""
        return ()

    def summary(self, spec: S, result: R) -> dict[str, Any]:
        """A few plain values for JSON."""
        return {}

    def arrays(self, spec: S, result: R) -> dict[str, Array]:
        """The values by name, for .npz files."""
        return {}

    def images(self, spec: S, result: R) -> dict[str, bytes]:
        """The values as encoded image files by suffix of the file name ("depth.png"), as exact as that format allows."""
        return {}

    def topics(self, spec: S) -> tuple[Topic, ...]:
        """What the ROS 2 node publishes of it."""
        return ()

    def class_topic(self, spec: S) -> ClassTopic | None:
        """Where the node names its classes, if vision_msgs is installed; None where results are not classes."""
        return None

    def vision_topic(self, spec: S) -> VisionTopic | None:
        """Its results as a message of vision_msgs; None where that has none for them."""
        return None


class DenseKind(Kind[S, R]):
    """A kind whose graph output is one map of `channels` at a quarter of the input, and whose result is one map of numbers."""

    suffix: ClassVar[str] = "quarter"
    """The output of a graph that leaves post-processing to the host is `<task>_<suffix>`; else `<task>`."""

    @abstractmethod
    def channels(self, spec: S) -> int:
        """Channels of the network's map."""

    @abstractmethod
    def finished_shape(self, spec: S, size: tuple[int, int]) -> tuple[int, ...]:
        """Shape of the finished map of one frame, without the batch."""

    def outputs(self, spec: S, size: tuple[int, int], placement: Placement) -> dict[str, tuple[int, ...]]:
        if placement == "graph":
            return {spec.name: (1, *self.finished_shape(spec, size))}
        return {self.host_output(spec): (1, self.channels(spec), size[0] // OUTPUT_STRIDE, size[1] // OUTPUT_STRIDE)}

    def crop_truth(self, spec: S, truth: Array, part: tuple[slice, slice]) -> Array:
        return truth[part]

    def host_output(self, spec: S) -> str:
        """Name of its output where post-processing happens on the host."""
        return f"{spec.name}_{self.suffix}"


def check_name(name: Any) -> str:
    """A task's name as manifests may have it. Raises ValueError."""
    if not isinstance(name, str) or not TASK_NAME.fullmatch(name):
        raise ValueError(f"names of tasks should match {TASK_NAME.pattern}; found {name!r}")
    return name
