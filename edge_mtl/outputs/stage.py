"""What the viewer shows in one window: maps, boxes and classes, points in the camera's frame, and a plot of latency."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.image.encoding import depth_units
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.sources.frame_source import Frame
from edge_mtl.tasks import VOID, Boxes, DepthMap, LabelMap, Result, Specs, kind_of
from edge_mtl.tasks.boxes_3d import Boxes3D, boxes_in_space
from edge_mtl.tasks.depth import MILLIMETRES, units_per_m
from edge_mtl.tasks.kind import Scored
from edge_mtl.tasks.points import first_of

__all__ = ["Stage", "blueprint"]

Array = np.ndarray

_IMAGE = "world/camera/image"
STAGES = ("prepare", "infer", "postprocess", "total")
_JPEG_QUALITY = 85
_POINT_RADIUS_M = 0.01
_PLANE_M = 0.3
"""How far before the camera its image is drawn."""


class Stage:
    """Logs predictions to one recording.

    Args:
        rerun: the module.
        recording: a `rerun.RecordingStream`.
        step: every step-th pixel in each direction becomes a point; 0 for no points.
    """

    def __init__(self, rerun: Any, recording: Any, *, step: int = 2) -> None:
        self._rerun, self._recording, self._step = rerun, recording, step
        self._count = 0

    def write(self, frame: Frame, prediction: Prediction) -> list[Path]:
        """Log one frame: on the timeline "frame", and on "time" where its source has times. No file is finished by it.

        Args:
            frame: its pixels have the size of the maps.
        """
        if self._count == 0:
            self._describe(prediction)
        self._recording.set_time("frame", sequence=self._count)
        if frame.time_s is not None:
            self._recording.set_time("time", duration=frame.time_s)
        self._maps(prediction)
        self._world(frame.pixels, prediction)
        self._timing(prediction.timing)
        self._log("name", self._rerun.TextLog(frame.name))
        self._count += 1
        return []

    def _describe(self, prediction: Prediction) -> None:
        rerun = self._rerun
        labelled = [result for result in prediction.results.values() if isinstance(result, LabelMap)]
        # The first also colours the points; classes of the others count below their own maps only.
        for number, result in enumerate(labelled):
            colours = zip(result.classes, result.spec.palette.tolist(), strict=True)
            legend = [(index, name, tuple(colour)) for index, (name, colour) in enumerate(colours)]
            place = f"maps/{result.spec.name}" if number else "/"
            self._log(place, rerun.AnnotationContext([*legend, (VOID, "unknown", (0, 0, 0))]), static=True)
        for name, found in prediction.results.items():
            if kind_of(found.spec).viewed_as == "boxes":
                for place in (f"{_IMAGE}/{name}", f"world/{name}"):
                    self._log(place, rerun.AnnotationContext(list(enumerate(_class_names(found)))), static=True)
        self._log("world", rerun.ViewCoordinates.RDF, static=True)
        for stage in STAGES:
            self._log(f"timing/{stage}", rerun.SeriesLines(names=[f"{stage}, ms"]), static=True)

    def _maps(self, prediction: Prediction) -> None:
        rerun = self._rerun
        for name, result in prediction.results.items():
            kind = kind_of(result.spec)
            if kind.viewed_as == "labels":
                self._log(f"maps/{name}", rerun.SegmentationImage(_values(result)))
            elif kind.viewed_as == "depth":
                farthest_m = result.spec.range_m[1] if isinstance(result, DepthMap) else 0.0
                per_m = units_per_m(farthest_m, finest=MILLIMETRES)
                self._log(f"maps/{name}", rerun.DepthImage(depth_units(_values(result), units_per_m=per_m), meter=per_m))
            elif kind.viewed_as == "image" and (drawn := kind.colours(result.spec, result)) is not None:
                self._log(f"maps/{name}", self._image(drawn))
            elif kind.viewed_as == "text":
                self._log(f"maps/{name}", rerun.TextDocument("\n".join(_lines(result))))

    def _boxes(self, prediction: Prediction) -> None:
        """Over the image, where rerun counts from the corner of a pixel, not from its centre; with depth also in the room."""
        depth = first_of(prediction.results, DepthMap)
        for name, result in prediction.results.items():
            if kind_of(result.spec).viewed_as == "boxes":
                found = _scored(result)
                if depth is not None and isinstance(result, Boxes):
                    self._in_space(name, boxes_in_space(result, depth.depth_m, prediction.intrinsics))
                shape = self._rerun.Boxes2D(
                    array=found.boxes + np.float32(0.5),
                    array_format=self._rerun.Box2DFormat.XYXY,
                    class_ids=found.classes,
                    labels=_lines(result),
                )
                self._log(f"{_IMAGE}/{name}", shape)

    def _in_space(self, name: str, found: Boxes3D) -> None:
        """Those of known depth. How far an object reaches behind what is seen of it nobody knows: drawn is its shorter side."""
        known, lines = np.isfinite(found.centres).all(axis=1), _lines(found.boxes)
        sizes = np.concatenate([found.sizes, found.sizes.min(axis=1, keepdims=True)], axis=1)
        shape = self._rerun.Boxes3D(
            centers=found.centres[known],
            sizes=sizes[known],
            class_ids=found.boxes.classes[known],
            labels=[line for line, placed in zip(lines, known, strict=True) if placed],
        )
        self._log(f"world/{name}", shape)

    def _world(self, frame: Array, prediction: Prediction) -> None:
        rerun = self._rerun
        height, width = prediction.map_size
        self._log(
            "world/camera",
            rerun.Pinhole(
                image_from_camera=prediction.intrinsics.matrix(),
                resolution=[width, height],
                camera_xyz=rerun.ViewCoordinates.RDF,
                image_plane_distance=_PLANE_M,
            ),
        )
        self._log(_IMAGE, self._image(frame))
        self._boxes(prediction)
        if self._step == 0 or not any(isinstance(result, DepthMap) for result in prediction.results.values()):
            return
        cloud = prediction.point_cloud(frame, step=self._step)
        looks = {"colors": cloud.colours} if cloud.labels is None else {"class_ids": cloud.labels}
        self._log("world/points", rerun.Points3D(cloud.points, radii=_POINT_RADIUS_M, **looks))

    def _timing(self, timing: Timing) -> None:
        for stage in STAGES:
            self._log(f"timing/{stage}", self._rerun.Scalars(getattr(timing, stage) * 1e3))

    def _image(self, pixels: Array) -> Any:
        return self._rerun.Image(np.ascontiguousarray(pixels)).compress(jpeg_quality=_JPEG_QUALITY)

    def _log(self, path: str, *content: Any, static: bool = False) -> None:
        self._recording.log(path, *content, static=static)


def blueprint(rerun: Any, tasks: Specs) -> Any:
    """The window: points on the left, the image and the maps of `tasks` beside them, latency below."""
    layout = rerun.blueprint
    views = [layout.Spatial2DView(origin="world/camera", contents=_IMAGE, name="Image")]
    for name, spec in tasks.items():
        kind = kind_of(spec)
        if kind.viewed_as is not None:
            title = (kind.heading or name.replace("_", " ")).capitalize()
            if kind.viewed_as == "boxes":
                views.append(layout.Spatial2DView(origin="world/camera", contents=[_IMAGE, f"{_IMAGE}/{name}"], name=title))
            elif kind.viewed_as == "text":
                views.append(layout.TextDocumentView(origin=f"maps/{name}", name=title))
            else:
                views.append(layout.Spatial2DView(origin=f"maps/{name}", name=title))
    maps = layout.Grid(*views, grid_columns=2)
    top = layout.Horizontal(layout.Spatial3DView(origin="world", name="Points"), maps, column_shares=[1, 1])
    return layout.Blueprint(
        layout.Vertical(top, layout.TimeSeriesView(origin="timing", name="Latency, ms"), row_shares=[4, 1]),
        collapse_panels=True,
    )


def _values(result: Result) -> Array:
    """Class indices or metres of a result, as its main topic has them."""
    topics = kind_of(result.spec).topics(result.spec)
    return np.asarray(next(topic.make(result) for topic in topics if topic.name == result.spec.name))


def _scored(result: Result) -> Scored:
    """Its classes with their scores; none where it has none to say."""
    topic = kind_of(result.spec).vision_topic(result.spec)
    return Scored.none() if topic is None else topic.make(result)


def _class_names(result: Result) -> tuple[str, ...]:
    topic = kind_of(result.spec).class_topic(result.spec)
    return () if topic is None else topic.classes


def _lines(result: Result) -> list[str]:
    """Name and score of each class that was found, or of the boxes."""
    found, names = _scored(result), _class_names(result)
    return [f"{names[index]} {score:.0%}" for index, score in zip(found.classes, found.scores, strict=True)]
