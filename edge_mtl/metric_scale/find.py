"""Frames through an engine, readings of each, one factor of all: the order of finding a scale."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np

from edge_mtl.bundle import Bundle
from edge_mtl.depth_scale import ScaleCamera, ScaleRecord, network_digest
from edge_mtl.engine import Engine
from edge_mtl.errors import DepthScaleError, FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.metric_scale.estimate import MAX_SPREAD, Readings, ScaleEstimate, estimate_scale
from edge_mtl.metric_scale.floor import fit_floor, of_height, of_mount
from edge_mtl.prediction import Prediction
from edge_mtl.sources.frame_source import Frame
from edge_mtl.tasks import DepthMap, NormalMap
from edge_mtl.tasks.points import first_of, main_labels

__all__ = ["FoundScale", "View", "find_scale", "read_floor", "record_of"]

Array = np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What a frame's readings are made from.

    Attributes:
        name: of the frame.
        depth: as predicted, unscaled, of the frame's size.
        camera: of it; None where none is known.
        prediction: all of it.
        known: what came with the frame: a depth map, a message.
    """

    name: str
    depth: DepthMap
    camera: Intrinsics | None
    prediction: Prediction
    known: Any

    def needs_camera(self, what: str) -> Intrinsics:
        """The camera. Raises DepthScaleError where there is none."""
        if self.camera is None:
            raise DepthScaleError(f"{what} needs the camera: give --intrinsics fx,fy,cx,cy, or a bag with camera_info.")
        return self.camera


@dataclass(frozen=True, slots=True)
class FoundScale:
    """A factor, the camera of its frames, how many frames gave no readings, and what is wrong with the lens of the others."""

    estimate: ScaleEstimate
    camera: ScaleCamera | None
    skipped: int
    lens: str = ""


def find_scale(
    engine: Engine,
    frames: Iterable[tuple[Frame, Any]],
    read: Callable[[View], Readings],
    *,
    intrinsics: tuple[float, float, float, float] | None = None,
    camera_name: str = "",
    max_spread: float = MAX_SPREAD,
    on_frame: Callable[[int], None] | None = None,
    on_skip: Callable[[str], None] | None = None,
) -> FoundScale:
    """The factor between true distances and what an engine without a scale predicts.

    Args:
        frames: each with what is known of it.
        read: makes readings; FrameError leaves the frame out, with its reason.
        intrinsics: (fx, fy, cx, cy), in place of the camera that the frames know.
        on_frame: called with the number of frames done before each.
        on_skip: called with the reason for each frame that is left out.
    Raises:
        DepthScaleError: no frame has readings, they are of several cameras, or `estimate_scale` refuses.
    """
    if engine.info.depth_scale != 1.0:
        raise DepthScaleError("A scale is found with an engine without one; open it again without depth_scale.")
    readings: list[Readings] = []
    camera: ScaleCamera | None = None
    skipped: list[str] = []
    lens = ""
    for index, (frame, known) in enumerate(frames):
        if on_frame is not None:
            on_frame(index)
        own = Intrinsics.of(intrinsics) if intrinsics is not None else frame.intrinsics
        size = (frame.pixels.shape[0], frame.pixels.shape[1])
        try:
            prediction = engine.predict(frame.pixels, intrinsics=own)
            depth = first_of(prediction.results, DepthMap)
            if depth is None:
                raise DepthScaleError(f"{engine.info.name} predicts no depth: there is nothing to scale.")
            found = read(View(frame.name, depth, own, prediction, known))
        except FrameError as exc:
            skipped.append(str(exc) if frame.name in str(exc) else f"{frame.name}: {exc}")
            if on_skip is not None:
                on_skip(skipped[-1])
            continue
        seen = None if own is None else ScaleCamera(own, size, camera_name)
        if readings and not _same(camera, seen):
            raise DepthScaleError(f"{frame.name} is of another camera than the frames before: find a scale for each camera.")
        camera, lens = camera or seen, lens or (frame.lens if intrinsics is None else "")
        readings.append(found)
    if not readings:
        first = f"; the first: {skipped[0]}" if skipped else ""
        raise DepthScaleError(f"None of {len(skipped)} frames gives a reading of a true distance{first}.")
    return FoundScale(estimate_scale(readings, max_spread=max_spread), camera, len(skipped), lens)


def read_floor(view: View, camera_height_m: float, pitch_deg: float | None = None) -> Readings:
    """Readings of the camera's height over the floor.

    Args:
        pitch_deg: how far the camera looks down; None: as the plane says that is fitted to the floor's depth.
    Raises:
        FrameError: no floor is seen, or no plane describes it.
        DepthScaleError: no camera is known.
    """
    camera = view.needs_camera("The height over the floor")
    labels, normals = main_labels(view.prediction.results), first_of(view.prediction.results, NormalMap)
    names = () if labels is None else tuple(name.lower() for name in labels.classes)
    floor = labels.labels == names.index("floor") if labels is not None and "floor" in names else None
    if pitch_deg is not None:
        if floor is None:
            raise DepthScaleError("A known pitch needs labels with a class called floor, which this bundle has not.")
        depth_m, farthest_m = view.depth.depth_m, view.depth.spec.range_m[1]
        return of_mount(
            view.name,
            depth_m,
            camera,
            floor=floor,
            camera_height_m=camera_height_m,
            pitch_deg=pitch_deg,
            farthest_m=farthest_m,
        )
    plane = fit_floor(view.depth.depth_m, camera, floor=floor, normals=None if normals is None else normals.normals)
    return of_height(view.name, plane, camera_height_m)


def record_of(found: FoundScale, bundle: Bundle, engine: Engine, *, source: str, method: str) -> ScaleRecord:
    """What is kept of a factor, to be given to an Engine.

    Args:
        source, method: where the frames came from, and what was known of them.
    """
    estimate, info = found.estimate, engine.info
    return ScaleRecord(
        factor=estimate.factor,
        network=network_digest(bundle),
        bundle=bundle.name,
        revision=bundle.manifest.revision,
        camera=found.camera,
        interval=estimate.interval,
        found={
            "source": source,
            "method": method,
            "engine": f"{info.precision} on {info.backend}",
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "frames": estimate.frames,
            "frames_left_out": found.skipped,
            "readings": estimate.readings,
            "interval_over": estimate.units,
            "spread": estimate.spread,
            "mean_relative_error_before": estimate.error_before,
            "mean_relative_error_after": estimate.error_after,
            "median_factor_off_before": estimate.off_before,
            "median_factor_off_after": estimate.off_after,
        },
    )


def _same(first: ScaleCamera | None, second: ScaleCamera | None) -> bool:
    if first is None or second is None:
        return first is second
    return first.is_same(second.intrinsics, second.size)
