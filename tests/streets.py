"""Rendered streets whose exact truth stands for predictions, and what is true of them: for tests of relations on roads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
from mtl.datasets.bdd100k.lane_bits import lane_classes
from mtl.datasets.streets.classes import OBJECT_CLASSES
from mtl.datasets.streets.render import StreetOptions, StreetSample, StreetView
from mtl.datasets.streets.tasks import STREET_TASKS

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import Boxes, BoxesSpec, DepthMap, LabelMap, LabelsSpec, Result
from edge_mtl.tasks.depth import DepthSpec

SIZE = (192, 320)
OPTIONS = StreetOptions(weathers=("clear",), times=("daytime",), antialias=False)
"""Light moves nothing that is tested."""
VEHICLES = frozenset({"car", "truck", "bus", "train", "motorcycle", "bicycle", "rider"})
OBJECTS, DRIVABLE, LANE, DEPTH = "objects", "drivable", "lane", "depth"


@dataclass(frozen=True)
class Leader:
    """The nearest vehicle whose middle is in the own lane."""

    name: str
    distance_m: float


@dataclass(frozen=True)
class TrueStreet:
    """A street, and one frame of it."""

    view: StreetView
    sample: StreetSample

    @property
    def camera(self) -> Intrinsics:
        return Intrinsics(*self.sample.intrinsics)

    def results(self) -> dict[str, Result]:
        """The truth as a perfect network's answers; arrays are of their own and may be altered."""
        sample = self.sample
        depth = np.where(sample.depth_m > 0, sample.depth_m, np.nan).astype(np.float32)
        lanes = lane_classes(sample.lanes)
        return {
            OBJECTS: boxes_of(sample.objects.visible, sample.objects.classes),
            DRIVABLE: LabelMap(cast(LabelsSpec, STREET_TASKS[DRIVABLE]), sample.drivable.copy()),
            LANE: LabelMap(cast(LabelsSpec, STREET_TASKS[LANE]), lanes),
            DEPTH: DepthMap(cast(DepthSpec, STREET_TASKS[DEPTH]), depth),
        }

    def leader(self) -> Leader | None:
        """By the street's plan, not by its image: the least depth of any corner of what drives next in the own lane."""
        road, found = self.view.street.road, []
        low, high = -(road.lane + 1) * road.lane_m, -road.lane * road.lane_m
        for piece, kind in zip(self.view.caster.pieces, self.view.street.classes, strict=True):
            if kind is None or OBJECT_CLASSES[kind] not in VEHICLES:
                continue
            corners = piece.corners_m.reshape(-1, 3)
            along, across = road.locate(corners[:, 0], corners[:, 1])
            if along.min() > 0.5 and low < (across.min() + across.max()) / 2 < high:
                depth = (corners - self.view.pose.position_m) @ self.view.pose.axes[:, 2]
                found.append((float(along.min()), Leader(OBJECT_CLASSES[kind], float(depth.min()))))
        return min(found, key=lambda one: one[0])[1] if found else None


def boxes_of(xyxy: np.ndarray, classes: np.ndarray) -> Boxes:
    """Boxes of BDD100K's classes, all certain."""
    spec = cast(BoxesSpec, STREET_TASKS[OBJECTS])
    return Boxes(spec, np.asarray(xyxy, np.float32).reshape(-1, 4), np.ones(len(classes), np.float32), classes, SIZE)


@cache
def true_street(seed: int) -> TrueStreet:
    view = StreetView.of(seed, *SIZE, options=OPTIONS)
    return TrueStreet(view, view.rendered())
