"""What drives before the own car, and how far away it is: a relation between boxes, drivable area, lanes and depth of a frame.

It says that nothing is in front only as far as the drivable area and the depth of its road agree on that; where they do not, or
where one of them is missing, it says that it does not know. No safety function.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_mtl.errors import TaskError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import Boxes, DepthMap, LabelMap, Result
from edge_mtl.tasks.own_lane import OwnLane, own_lane
from edge_mtl.tasks.points import first_of, only_of
from edge_mtl.tasks.road_plane import DISAGREEMENT, RoadPlane, find_road, free_m

__all__ = ["Following", "FollowingOptions", "RoadMaps", "State", "headway_s", "look_ahead", "road_maps"]

Array = np.ndarray
State = Literal["vehicle", "other", "clear", "unknown"]

_NEAREST_PART = 20.0
"""Per cent of the known depths in a box that are nearer than what counts as its distance: its rear, not its roof or what is
seen past it."""
_LEAST_KNOWN = 0.2
"""Share of a box whose depth must be known."""
_IN_LANE = 0.5
"""Of the box or the lane, whichever is narrower, that they share at least in the row in which the box stands."""
_BEYOND, _BEYOND_M = 1.25, 2.0
"""How much farther than the end of the lane, as a factor and in metres, something stands at most that ends it."""
_NEAR_M, _HALF_CAR_M = 8.0, 0.9
"""Where no lane is seen: a vehicle that is so near and overlaps the car's own width hides it."""


@dataclass(frozen=True, slots=True)
class FollowingOptions:
    """What is looked for, by the names of classes in any case.

    Attributes:
        lane: of the drivable area, that are the own lane.
        lines: of the lanes, that separate them.
        vehicles: of the boxes, that are followed.
        others: of the boxes, that are not followed, and in whose presence nothing is clear.
        within_m: nothing in front is only said where as much is known to be free.
    """

    lane: Collection[str] = ("direct",)
    lines: Collection[str] = ("line",)
    vehicles: Collection[str] = ("car", "truck", "bus", "train", "motorcycle", "bicycle", "rider")
    others: Collection[str] = ("pedestrian", "person")
    within_m: float = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class RoadMaps:
    """What is needed of one frame, in the pixels of one map.

    Attributes:
        lines: None where the bundle has no lanes.
    """

    boxes: Boxes
    depth: DepthMap
    drivable: LabelMap
    lines: LabelMap | None


@dataclass(frozen=True, slots=True, eq=False)
class Following:
    """What is in front.

    Attributes:
        state: a "vehicle", something "other" that stands in the lane, "clear" or "unknown".
        why: for people: what the state was concluded from, a clause.
        name: the class of what is in front; "" where nothing is known to be.
        box: its index among the boxes; -1 where there is none.
        distance_m: along z from the camera to its nearest part; NaN where nothing is known to be there.
        clear_m: as far as drivable area and depth both say that the lane is free; 0 where they do not.
        lane: where it was seen; None where it was not.
    """

    state: State
    why: str
    name: str = ""
    box: int = -1
    distance_m: float = math.nan
    clear_m: float = 0.0
    lane: OwnLane | None = None


def headway_s(distance_m: float, speed_mps: float, *, bumper_m: float = 0.0) -> float:
    """The seconds until the car is where what it follows is now; NaN where that is unknown or the car stands.

    Args:
        distance_m: from the camera.
        bumper_m: from the camera to the front of the car.
    """
    if math.isnan(distance_m) or not speed_mps > 0:
        return math.nan
    return max(0.0, distance_m - bumper_m) / speed_mps


def road_maps(results: Mapping[str, Result], options: FollowingOptions = FollowingOptions()) -> RoadMaps:
    """The boxes, the first depth, the labels that know the own lane, and those that know lines.

    Raises:
        TaskError: one of the first three is not there, or there are several tasks of boxes.
    """
    boxes, depth = only_of(results, Boxes), first_of(results, DepthMap)
    drivable, lines = _labels_with(results, options.lane), _labels_with(results, options.lines)
    lacking = [word for word, found in (("boxes", boxes), ("depth", depth)) if found is None]
    lacking += [] if drivable is not None else [f"labels with the class {' or '.join(options.lane)}"]
    if boxes is None or depth is None or drivable is None:
        raise TaskError(
            f"Who drives in front is seen from boxes, depth and drivable area; found no {', no '.join(lacking)} among "
            f"{', '.join(results) or 'no tasks'}. Use a bundle with these tasks, and ask for them."
        )
    return RoadMaps(boxes, depth, drivable, lines)


def look_ahead(maps: RoadMaps, camera: Intrinsics, options: FollowingOptions = FollowingOptions()) -> Following:
    """What is in front in the own lane.

    Args:
        maps: of `road_maps`.
        camera: in the pixels of the maps.
    """
    depth_m = maps.depth.depth_m
    free = _of_classes(maps.drivable, options.lane)
    lines = None if maps.lines is None else _of_classes(maps.lines, options.lines)
    lane = own_lane(free, lines, middle=camera.cx)
    road = None if lane is None else find_road(lane, free, depth_m)
    end_m = math.nan if lane is None else free_m(lane, depth_m, road)
    wanted = _indices(maps.boxes.spec.classes, (*options.vehicles, *options.others))
    standing = [index for index, kind in enumerate(maps.boxes.classes.tolist()) if kind in wanted]
    boxes, places = maps.boxes.xyxy.astype(np.float64), {}
    for index in standing:
        distance_m = _distance_m(boxes[index], depth_m, road)
        stands_m = _stands_m(boxes[index], road) if math.isnan(distance_m) else distance_m
        if _before(boxes[index], stands_m, lane, end_m, camera):
            places[index] = distance_m
    if places:
        first = max(places, key=lambda index: float(boxes[index, 3]))
        name = maps.boxes.names[first]
        if math.isnan(places[first]):
            why = f"a {name} is in the lane, and depth does not say how far away"
            return Following("unknown", why, name, first, clear_m=0.0, lane=lane)
        state: State = (
            "vehicle" if maps.boxes.classes[first] in _indices(maps.boxes.spec.classes, options.vehicles) else "other"
        )
        return Following(state, f"a {name} is in the lane", name, first, places[first], lane=lane)
    if lane is None:
        return Following("unknown", "no own lane is seen")
    if road is None:
        return Following("unknown", "depth and the drivable area do not agree on a road", lane=lane)
    if math.isnan(end_m) or end_m < options.within_m:
        seen = "an unknown distance" if math.isnan(end_m) else f"{end_m:.0f} m"
        clear_m = 0.0 if math.isnan(end_m) else end_m
        return Following("unknown", f"the lane is seen for {seen}, and not what ends it", clear_m=clear_m, lane=lane)
    return Following("clear", f"drivable area and depth are free for {end_m:.0f} m", clear_m=end_m, lane=lane)


def _depth_in(box: Array, depth_m: Array) -> float:
    """The depth of the nearest part in a box; NaN where too little of it is known."""
    height, width = depth_m.shape
    left, right = (int(np.clip(math.ceil(value), 0, width - 1)) for value in (box[0], box[2]))
    top, bottom = (int(np.clip(math.ceil(value), 0, height - 1)) for value in (box[1], box[3]))
    part = depth_m[top : max(bottom, top + 1), left : max(right, left + 1)]
    known = part[np.isfinite(part) & (part > 0)]
    return float(np.percentile(known, _NEAREST_PART)) if known.size >= _LEAST_KNOWN * part.size and known.size else math.nan


def _distance_m(box: Array, depth_m: Array, road: RoadPlane | None) -> float:
    """By the depth in a box; NaN where the road on which it stands contradicts that, or it is unknown."""
    seen = _depth_in(box, depth_m)
    if road is None or math.isnan(seen) or box[3] >= len(depth_m) - 1.5:  # cut off: it stands below the image
        return seen
    stands = _stands_m(box, road)
    if not math.isfinite(stands):
        return seen
    return seen if abs(seen - stands) < DISAGREEMENT * max(seen, stands) else math.nan


def _stands_m(box: Array, road: RoadPlane | None) -> float:
    """Where a box stands on the road by its lower edge; NaN without a road."""
    return math.nan if road is None else road.depth_m(float(box[0] + box[2]) / 2, float(box[3]))


def _before(box: Array, distance_m: float, lane: OwnLane | None, end_m: float, camera: Intrinsics) -> bool:
    """Whether a box stands in the lane, or just beyond its end."""
    left, _, right, bottom = (float(value) for value in box)
    if lane is None:
        if not distance_m < _NEAR_M:
            return False
        half = _HALF_CAR_M / distance_m * camera.fx
        return _share(left, right, camera.cx - half, camera.cx + half) >= _IN_LANE
    if bottom < lane.end - 1:
        far = math.isnan(distance_m) or math.isnan(end_m)
        if far or distance_m > _BEYOND * end_m + _BEYOND_M:
            return False
    first, last = lane.at(min(bottom, float(lane.rows[-1])))
    return _share(left, right, first, last) >= _IN_LANE


def _share(left: float, right: float, first: float, last: float) -> float:
    """What two stretches share, of the shorter one."""
    return (min(right, last) - max(left, first)) / max(min(right - left, last - first), 1e-6)


def _labels_with(results: Mapping[str, Result], names: Collection[str]) -> LabelMap | None:
    """The first labels that have one of these classes."""
    every = (result for result in results.values() if isinstance(result, LabelMap))
    return next((result for result in every if _indices(result.classes, names)), None)


def _of_classes(labels: LabelMap, names: Collection[str]) -> Array:
    """(H, W) bool."""
    table = np.zeros(256, bool)
    table[list(_indices(labels.classes, names))] = True
    return table[labels.labels]


def _indices(classes: Collection[str], names: Collection[str]) -> frozenset[int]:
    wanted = {name.casefold() for name in names}
    return frozenset(index for index, name in enumerate(classes) if name.casefold() in wanted)
