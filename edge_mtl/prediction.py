"""What an Engine answers: the results of one frame by task, when it took what, and views of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.errors import FrameError, TaskError
from edge_mtl.image.frames import Intrinsics, check_frame
from edge_mtl.tasks import Boxes, ClassScores, DepthMap, LabelMap, NormalMap, Result
from edge_mtl.tasks.asked import LazyResults
from edge_mtl.tasks.boxes_3d import Boxes3D, boxes_in_space
from edge_mtl.tasks.kind import Once
from edge_mtl.tasks.points import cloud_maps, first_of, main_labels, only_of

__all__ = ["PointCloud", "Prediction", "Timing"]

Array = np.ndarray

_ASK = "Name it in tasks of Engine.predict, stream or Engine itself, wherever tasks are named."


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one frame went, in seconds.

    Attributes:
        prepare: letterbox and colour planes.
        copy_in, copy_out: to and from the device; 0 on a CPU, and where they are part of `infer`.
        infer: the runtime.
        postprocess: upsampling, classes, metres, unit normals; not of results that are finished later, when they are read.
        total: from the frame's arrival to its prediction; in a stream this includes waiting for the frame before.
    """

    prepare: float = 0.0
    copy_in: float = 0.0
    infer: float = 0.0
    copy_out: float = 0.0
    postprocess: float = 0.0
    total: float = 0.0

    def milliseconds(self) -> dict[str, float]:
        """prepare, infer, postprocess and total in milliseconds, to the microsecond."""
        stages = {"prepare": self.prepare, "infer": self.infer, "postprocess": self.postprocess, "total": self.total}
        return {name: round(seconds * 1000.0, 3) for name, seconds in stages.items()}


@dataclass(frozen=True, slots=True)
class PointCloud:
    """The pixels of known depth as points.

    Attributes:
        points: (N, 3) float32 metres, camera frame: x right, y down, z forward.
        labels: (N,) uint8 class index, VOID where unknown; None without segmentation.
        colours: (N, 3) uint8 RGB of the frame; None where no frame was given.
        normals: (N, 3) float32; None without normals.
    """

    points: Array
    labels: Array | None
    colours: Array | None
    normals: Array | None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prediction:
    """The results of one frame, by task: `prediction["segmentation"].labels`. What is unknown is void or NaN.

    It goes through queues of other processes: `pickle` and `copy.deepcopy` finish what is lazy and take all of it.

    Attributes:
        results: by task, in the bundle's order, those that were asked for; what a result holds depends on its kind, see
            `edge_mtl.tasks`. Of a prediction that is finished lazily `LazyResults`: each is finished when it is first read.
        timing: seconds per stage.
        intrinsics: the camera of these results, in the pixels of their maps.
        intrinsics_assumed: none was given: distances are right only up to a factor, and `intrinsics` is the network's.
        frame_size: (height, width) of the frame, whatever the size of the maps.
        bad_values: places where the network answered NaN, Inf or no positive depth; they are NaN or void here. Of lazy
            results those that were read so far count.
        not_asked: tasks of the bundle that this prediction was not asked for.
        depth_scale: what the network's metric distances were multiplied by: `depth_scale` of the Engine.
        results_size: (height, width) of the pixels that results are in, maps or not; where nobody says, that of the first
            map, else the frame's.
    """

    results: Mapping[str, Result]
    timing: Timing
    intrinsics: Intrinsics
    intrinsics_assumed: bool
    frame_size: tuple[int, int]
    bad_values: int = 0
    not_asked: tuple[str, ...] = ()
    depth_scale: float = 1.0
    results_size: tuple[int, int] | None = None
    _consistency: Once[Array | None] = field(init=False)

    def __post_init__(self) -> None:
        # Not a bound method: a reference cycle would keep the maps until the garbage collector comes by.
        make = partial(_disagreement, self.results, self.intrinsics)
        object.__setattr__(self, "_consistency", Once(make))  # a lazy field of a frozen class is set once, here
        if isinstance(self.results, LazyResults):
            object.__delattr__(self, "bad_values")  # not known yet: left to `__getattr__`

    if not TYPE_CHECKING:  # it would hide misspelt attributes

        def __getattr__(self, name: str) -> Any:
            """`bad_values` of lazy results, which grows as they are read; called for what a prediction does not hold itself."""
            if name == "bad_values" and isinstance(self.results, LazyResults):
                return self.results.bad_values
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __reduce__(self) -> tuple[type[Prediction], tuple[Any, ...]]:
        """What `pickle` and `copy` take: plain data, so lazy results are finished first."""
        results = {task: self.results[task] for task in self.results}
        camera = (self.intrinsics, self.intrinsics_assumed, self.frame_size)
        asked = (self.not_asked, self.depth_scale, self.map_size)
        return Prediction, (results, self.timing, *camera, self.bad_values, *asked)

    def __getitem__(self, task: str) -> Any:
        """The result of a task. Raises TaskError where it was not asked for, or the bundle does not have it."""
        if task in self.results:
            return self.results[task]
        if task in self.not_asked:
            raise TaskError(f"{task!r} was not asked for, only {', '.join(self.results)}. {_ASK}")
        raise TaskError(f"This bundle has no task {task!r}; it predicts {', '.join((*self.results, *self.not_asked))}.")

    def __repr__(self) -> str:
        height, width = self.map_size
        return f"Prediction({', '.join(self.results)}; {height}x{width}; {self.timing.total * 1e3:.1f} ms)"

    @property
    def map_size(self) -> tuple[int, int]:
        """(height, width) of the maps; boxes and `intrinsics` are in their pixels, also where no result is a map."""
        if isinstance(self.results, LazyResults):
            return self.results.map_size
        if self.results_size is not None:
            return self.results_size
        return next((size for result in self.results.values() if (size := result.map_size) is not None), self.frame_size)

    @property
    def segmentation(self) -> Array | None:
        """(H, W) uint8 class index, 255 void, of the task of that name; None without it, or not asked."""
        result = self.results.get("segmentation")
        return result.labels if isinstance(result, LabelMap) else None

    @property
    def depth(self) -> Array | None:
        """(H, W) float32 metres along z, NaN where unknown, of the task of that name; None without it, or not asked."""
        result = self.results.get("depth")
        return result.depth_m if isinstance(result, DepthMap) else None

    @property
    def normals(self) -> Array | None:
        """(H, W, 3) float32 unit, camera frame (x right, y down, z forward), facing the camera; NaN where unknown.

        Of the task of that name; None without it.
        """
        result = self.results.get("normals")
        return result.normals if isinstance(result, NormalMap) else None

    @property
    def boxes(self) -> Boxes | None:
        """The objects of the only task of boxes; None without one, or not asked. Raises TaskError where there are several."""
        return only_of(self.results, Boxes)

    @property
    def scene(self) -> ClassScores | None:
        """What kind of frame it is, of the only task that says so; None without one. Raises TaskError: there are several."""
        return only_of(self.results, ClassScores)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class index of `segmentation`, else of the first task with classes; empty without one."""
        labels = main_labels(self.results)
        return () if labels is None else labels.classes

    @property
    def confidence(self) -> Array | None:
        """(H, W) float32 in 0..1: softmax at the class that `segmentation` chose; computed when first asked for.

        None without that task, or where the engine's graph ends in labels.
        """
        labels = main_labels(self.results)
        return None if labels is None else labels.confidence

    @property
    def consistency(self) -> Array | None:
        """(H, W) float32 degrees between `normals` and the normals of `depth`: how well two heads agree, a free confidence.

        Computed when first asked for, see `edge_mtl.tasks.consistency`; a wrong scale of the depth changes nothing. NaN where
        unknown; None without both tasks. How much it says about the true error was measured: benchmarks/consistency.py.
        """
        return self._consistency.get()

    def point_cloud(self, frame: Array | None = None, *, step: int = 1) -> PointCloud:
        """The points of known depth, in row order.

        Args:
            frame: (H, W, 3) uint8 RGB for the colours, of the maps' size.
            step: use every step-th pixel in each direction.
        Raises:
            TaskError: there is no depth.
            FrameError: the frame does not fit the maps.
        """
        from edge_mtl.image.geometry import points_of_depth

        maps = cloud_maps(self.results)
        if maps is None:
            raise self._lacks("A point cloud needs depth")
        if step < 1:
            raise ValueError(f"step should be at least 1; found {step}")
        colours = None if frame is None else self._fitting(frame)
        every = (slice(None, None, step), slice(None, None, step))
        known = np.isfinite(maps.depth.depth_m[every])
        points = points_of_depth(maps.depth.depth_m, self.intrinsics)[every][known]

        def chosen(values: Array | None) -> Array | None:
            return None if values is None else values[every][known]

        return PointCloud(
            points,
            chosen(None if maps.labels is None else maps.labels.labels),
            chosen(colours),
            chosen(None if maps.normals is None else maps.normals.normals),
        )

    def boxes_3d(self) -> Boxes3D:
        """Where the objects of `boxes` are: the median of the depth in each box, and its middle and size at that depth.

        In metres, camera frame: x right, y down, z forward. NaN where the depth in a box is unknown; without the frame's
        intrinsics right only up to a factor, as the depth is.

        Raises:
            TaskError: there are no boxes or no depth, or there are several tasks of boxes.
        """
        boxes, depth = self.boxes, first_of(self.results, DepthMap)
        if boxes is None or depth is None:
            raise self._lacks(f"Boxes in space need {'boxes' if boxes is None else 'depth'}")
        return boxes_in_space(boxes, depth.depth_m, self.intrinsics)

    def overlay(self, frame: Array, *, opacity: float = 0.55) -> Array:
        """(H, W, 3) uint8 RGB: the classes in colour over the frame.

        Args:
            frame: (H, W, 3) uint8 RGB of the maps' size.
        Raises:
            TaskError: there is no segmentation.
            FrameError: the frame does not fit the maps.
        """
        from edge_mtl.image.colour import blend, colour_labels

        labels = main_labels(self.results)
        if labels is None:
            raise self._lacks("An overlay needs segmentation")
        colours = colour_labels(labels.labels, palette=labels.spec.palette)
        return blend(self._fitting(frame), colours, opacity=opacity)

    def depth_image(self, *, range_m: tuple[float, float] | None = None) -> Array:
        """(H, W, 3) uint8 RGB: depth in colour, black where unknown; `range_m` are the ends of the scale."""
        from edge_mtl.image.colour import colour_depth

        result = self.results.get("depth")
        if not isinstance(result, DepthMap):
            raise self._lacks("A depth image needs depth")
        return colour_depth(result.depth_m, range_m, logarithmic=result.spec.outdoors)

    def normals_image(self) -> Array:
        """(H, W, 3) uint8 RGB: normals in colour, black where unknown."""
        from edge_mtl.image.colour import colour_normals

        if self.normals is None:
            raise self._lacks("An image of normals needs normals")
        return colour_normals(self.normals)

    depth_picture = depth_image  # the names until 0.1
    normals_picture = normals_image

    def panel(self, frame: Array, *, title: str = "") -> Array:
        """(h, w, 3) uint8 RGB: the frame and its maps with titles, and a legend of the classes that occur.

        Args:
            frame: (H, W, 3) uint8 RGB of the maps' size.
        """
        from edge_mtl.image.panel import column, legend, panel
        from edge_mtl.tasks.drawing import legend_entries, tiles

        checked = self._fitting(frame)
        image = panel(checked, tiles(checked, self.results), title=title)
        entries = legend_entries(self.results)
        return column([image, legend(entries, image.shape[1])], gap=0) if entries else image

    def _lacks(self, need: str) -> TaskError:
        """`need` begins a sentence: what needs which result."""
        if self.not_asked:
            return TaskError(f"{need}, which is not among {', '.join(self.results)}. {_ASK}")
        return TaskError(f"{need}, which this bundle does not predict. Use a bundle with that task.")

    def _fitting(self, frame: Array) -> Array:
        checked = check_frame(frame, on_remark=None)  # said when it was predicted on
        if checked.shape[:2] != self.map_size:
            raise FrameError(
                f"the frame should have the size of the maps, {self.map_size}; found {checked.shape[:2]}. "
                'Pass the frame that was predicted, from an Engine with output_size="frame".'
            )
        return checked


def _disagreement(results: Mapping[str, Result], camera: Intrinsics) -> Array | None:
    from edge_mtl.tasks.consistency import depth_normal_angle

    depth, normals = first_of(results, DepthMap), first_of(results, NormalMap)
    return None if depth is None or normals is None else depth_normal_angle(depth.depth_m, normals.normals, camera)
