"""What an Engine answers: three maps of one frame, when it took what, and views of them.

Knows maps, units and the camera they belong to; knows nothing about how they were made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Generic, TypeVar

import numpy as np

from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image.frames import Intrinsics, check_frame
from edge_mtl.tasks import NYU13_CLASSES, VOID

__all__ = ["PointCloud", "Prediction", "Timing"]

Array = np.ndarray
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Where the time of one frame went, in seconds.

    Attributes:
        prepare: letterbox and colour planes.
        copy_in, copy_out: to and from the device; 0 on a CPU, and where they are part of `infer`.
        infer: the runtime.
        postprocess: upsampling, classes, metres, unit normals.
        total: from the frame's arrival to its prediction; in a stream this includes waiting for the frame before.
    """

    prepare: float = 0.0
    copy_in: float = 0.0
    infer: float = 0.0
    copy_out: float = 0.0
    postprocess: float = 0.0
    total: float = 0.0


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


class _Once(Generic[T]):
    """A value made when it is first asked for, once, whichever thread asks."""

    __slots__ = ("_lock", "_make", "_value")

    def __init__(self, make: Callable[[], T]) -> None:
        self._make: Callable[[], T] | None = make
        self._lock = threading.Lock()

    def get(self) -> T:
        with self._lock:
            if self._make is not None:
                self._value = self._make()
                self._make = None
            return self._value


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Prediction:
    """The maps of one frame. A task that the bundle does not have is None; what is unknown is VOID or NaN.

    Attributes:
        segmentation: (H, W) uint8, class index, 255 void.
        depth: (H, W) float32 metres along z, NaN where unknown.
        normals: (H, W, 3) float32 unit, camera frame (x right, y down, z forward), facing the camera; NaN where unknown.
        timing: seconds per stage.
        intrinsics: the camera of these maps, in their pixels.
        intrinsics_assumed: none was given: `depth` is right only up to a factor, and `intrinsics` is the network's.
        frame_size: (height, width) of the frame, whatever the size of the maps.
        classes: names by class index.
        bad_values: places where the network answered NaN, Inf or no positive depth; they are NaN or void here.
    """

    segmentation: Array | None
    depth: Array | None
    normals: Array | None
    timing: Timing
    intrinsics: Intrinsics
    intrinsics_assumed: bool
    frame_size: tuple[int, int]
    classes: tuple[str, ...] = NYU13_CLASSES
    bad_values: int = 0
    make_confidence: InitVar[Callable[[], Array] | None] = None
    _confidence: _Once[Array] | None = field(init=False, default=None)
    _consistency: _Once[Array | None] = field(init=False)

    def __post_init__(self, make_confidence: Callable[[], Array] | None) -> None:
        # Lazy fields of a frozen class are set once, here.
        if make_confidence is not None:
            object.__setattr__(self, "_confidence", _Once(make_confidence))
        # Not a bound method: a reference cycle would keep the maps until the garbage collector comes by.
        make = partial(_disagreement, self.depth, self.normals, self.intrinsics)
        object.__setattr__(self, "_consistency", _Once(make))

    def __repr__(self) -> str:
        maps = [name for name in ("segmentation", "depth", "normals") if getattr(self, name) is not None]
        height, width = self.map_size
        return f"Prediction({', '.join(maps)}; {height}x{width}; {self.timing.total * 1e3:.1f} ms)"

    @property
    def map_size(self) -> tuple[int, int]:
        """(height, width) of the maps."""
        for maps in (self.segmentation, self.depth, self.normals):
            if maps is not None:
                return maps.shape[0], maps.shape[1]
        return self.frame_size

    @property
    def confidence(self) -> Array | None:
        """(H, W) float32 in 0..1: softmax at the predicted class; computed when first asked for.

        None without segmentation, or where the engine's graph ends in labels.
        """
        return None if self._confidence is None else self._confidence.get()

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
            BundleError: there is no depth.
            FrameError: the frame does not fit the maps.
        """
        from edge_mtl.image.geometry import points_of_depth

        if self.depth is None:
            raise BundleError("A point cloud needs depth, which this bundle does not predict. Use a bundle with that task.")
        if step < 1:
            raise ValueError(f"step should be at least 1; found {step}")
        colours = None if frame is None else self._fitting(frame)
        every = (slice(None, None, step), slice(None, None, step))
        known = np.isfinite(self.depth[every])
        cameras_points = points_of_depth(self.depth, self.intrinsics)[every][known]

        def chosen(values: Array | None) -> Array | None:
            return None if values is None else values[every][known]

        return PointCloud(cameras_points, chosen(self.segmentation), chosen(colours), chosen(self.normals))

    def overlay(self, frame: Array, *, opacity: float = 0.55) -> Array:
        """(H, W, 3) uint8 RGB: the classes in colour over the frame.

        Args:
            frame: (H, W, 3) uint8 RGB of the maps' size.
        Raises:
            BundleError: there is no segmentation.
            FrameError: the frame does not fit the maps.
        """
        from edge_mtl.image.colour import blend, colour_labels

        if self.segmentation is None:
            raise BundleError("An overlay needs segmentation, which this bundle does not predict.")
        return blend(self._fitting(frame), colour_labels(self.segmentation), opacity=opacity)

    def depth_image(self, *, range_m: tuple[float, float] | None = None) -> Array:
        """(H, W, 3) uint8 RGB: depth in colour, black where unknown; `range_m` are the ends of the scale."""
        from edge_mtl.image.colour import colour_depth

        if self.depth is None:
            raise BundleError("A depth image needs depth, which this bundle does not predict.")
        return colour_depth(self.depth, range_m)

    def normals_image(self) -> Array:
        """(H, W, 3) uint8 RGB: normals in colour, black where unknown."""
        from edge_mtl.image.colour import colour_normals

        if self.normals is None:
            raise BundleError("An image of normals needs normals, which this bundle does not predict.")
        return colour_normals(self.normals)

    depth_picture = depth_image  # the names until 0.1
    normals_picture = normals_image

    def panel(self, frame: Array, *, title: str = "") -> Array:
        """(h, w, 3) uint8 RGB: the frame and its maps with titles, and a legend of the classes that occur.

        Args:
            frame: (H, W, 3) uint8 RGB of the maps' size.
        """
        from edge_mtl.image.panel import column, legend, panel

        image = panel(self._fitting(frame), self, title=title, classes=self.classes)
        if self.segmentation is None:
            return image
        present = [int(index) for index in np.unique(self.segmentation) if index != VOID and index < len(self.classes)]
        return column([image, legend(present, image.shape[1], classes=self.classes)], gap=0)

    def _fitting(self, frame: Array) -> Array:
        checked = check_frame(frame)
        if checked.shape[:2] != self.map_size:
            raise FrameError(
                f"the frame should have the size of the maps, {self.map_size}; found {checked.shape[:2]}. "
                'Pass the frame that was predicted, from an Engine with output_size="frame".'
            )
        return checked


def _disagreement(depth: Array | None, normals: Array | None, camera: Intrinsics) -> Array | None:
    from edge_mtl.tasks.consistency import depth_normal_angle

    return None if depth is None or normals is None else depth_normal_angle(depth, normals, camera)
