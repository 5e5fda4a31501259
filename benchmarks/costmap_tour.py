"""Costmaps of rooms from a tour with one camera: how much of what stands there is marked, and how much that is marked
stands there?

    python benchmarks/costmap_tour.py --bundle indoor-b0 --save docs/assets/costmap-tour.png

A camera is driven through rendered rooms, whose floor plans are known. Obstacles and floor are found as the ROS 2 node
finds them, once in the exact maps, once in what a bundle predicts, and put into a grid: a cell is occupied where it was an
obstacle in more frames than it was free. A room shows what the geometry does, and what predicted depth does
to it, not what a robot's home looks like.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from arguments import numbers, size
from conditions import Conditions

from edge_mtl import Engine
from edge_mtl.bundle import find
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.image.frames import Intrinsics
from edge_mtl.image.geometry import points_of_depth
from edge_mtl.image.lettering import put_text
from edge_mtl.tasks import NYU_TASKS, DepthMap, LabelMap, NormalMap
from edge_mtl.tasks.floor_tracking import FloorOptions, FloorTracker
from edge_mtl.tasks.obstacles import ObstacleLimits, Surroundings, planar_scan, surroundings
from edge_mtl.tasks.points import CloudMaps, cloud_maps

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from mtl.datasets.rooms import RenderOptions, Room, RoomSample
from mtl.datasets.rooms.floor_plan import cells_of, occupied_cells, tour
from mtl.datasets.worlds.camera import Intrinsics as Lens
from mtl.datasets.worlds.camera import Pose

__all__ = ["Grid", "Score", "Tour", "drive", "exact_maps", "score"]

Array = np.ndarray
CELL_M = 0.05
_PERIOD_S = 0.5
_STEPS = 200
_WALL, _FREE, _UNKNOWN, _STOP, _WRONG = (45, 45, 45), (240, 240, 240), (175, 175, 175), (30, 110, 220), (215, 60, 40)
_PANEL = (300, 300)


@dataclass(frozen=True)
class Tour:
    """A room and the frames of one tour; the plan says where something stands between the limits' heights."""

    room: Room
    poses: tuple[Pose, ...]
    frames: tuple[RoomSample, ...]
    plan: Array
    limits: ObstacleLimits

    @classmethod
    def of(cls, seed: int, *, size: tuple[int, int], stops: int, turns: int, height_m: float, pitch_deg: float) -> Tour:
        """Render it; `pitch_deg` is how far the camera looks downwards."""
        limits, options = ObstacleLimits(stride=max(1, size[1] // 160)), RenderOptions(wide_fraction=0.0)
        room, lens = Room.of(seed), Lens.canonical(*size)
        poses = tour(room, stops=stops, turns=turns, height_m=height_m, pitch_rad=-np.radians(pitch_deg))
        frames = tuple(room.seen_from(pose, lens, *size, shot=shot, options=options) for shot, pose in enumerate(poses))
        plan = occupied_cells(room, low_m=limits.min_height_m, high_m=limits.max_height_m, cell_m=CELL_M)
        return cls(room, poses, frames, plan, limits)


class Grid:
    """Counts, cell by cell, of frames that saw an obstacle and that saw floor."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.obstacle, self.floor = np.zeros(shape, int), np.zeros(shape, int)

    def add(self, pose: Pose, obstacles: Array, ground: Array) -> None:
        """One frame of clouds, (N, 3) points in the camera frame: what lies before a point of the floor is free, as in Nav2."""
        marks = self._cells((obstacles @ pose.axes.T + pose.position_m)[:, :2])
        rows, columns = np.nonzero(self._cells((ground @ pose.axes.T + pose.position_m)[:, :2]))
        ends = (np.stack([columns, rows], 1) - 0.5) * CELL_M
        steps = np.linspace(0.0, 1.0, _STEPS)[:, None, None]
        self._count(marks, self._cells((pose.position_m[:2] + (ends - pose.position_m[:2]) * steps).reshape(-1, 2)))

    def add_scan(self, pose: Pose, seen: Surroundings, scan: Any, *, range_m: float) -> None:
        """One scan: its ends are obstacles, what lies before them is free."""
        angles = scan.angle_min_rad + scan.angle_step_rad * np.arange(len(scan.ranges_m))
        level = pose.axes @ seen.axes.T  # columns: ahead, left and up in the room
        bearings = np.cos(angles)[:, None] * level[:2, 0] + np.sin(angles)[:, None] * level[:2, 1]
        hit = np.isfinite(scan.ranges_m)
        ends = pose.position_m[:2] + bearings[hit] * scan.ranges_m[hit, None]
        steps = np.arange(0.0, range_m, CELL_M / 2)
        reach = np.where(np.isnan(scan.ranges_m), 0.0, np.minimum(scan.ranges_m, range_m)) - 1.5 * CELL_M
        free = pose.position_m[:2] + bearings[:, None] * steps[None, :, None]
        self._count(self._cells(ends), self._cells(free[steps[None] < reach[:, None]]))

    @property
    def occupied(self) -> Array:
        """(rows, columns) bool."""
        return self.obstacle > self.floor

    def occupancy(self) -> Array:
        """(rows, columns) int8 as in nav_msgs/OccupancyGrid: 100 occupied, 0 free, -1 unknown."""
        known = self.obstacle + self.floor > 0
        return np.where(known, np.where(self.occupied, 100, 0), -1).astype(np.int8)

    def _cells(self, places_m: Array) -> Array:
        """(rows, columns) bool: where (N, 2) places in the room are."""
        found = np.zeros(self.floor.shape, bool)
        rows, columns = cells_of(places_m[:, 0], places_m[:, 1], cell_m=CELL_M)
        inside = (rows >= 0) & (rows < found.shape[0]) & (columns >= 0) & (columns < found.shape[1])
        found[rows[inside], columns[inside]] = True
        return found

    def _count(self, marked: Array, cleared: Array) -> None:
        self.obstacle += marked
        self.floor += cleared & ~marked


@dataclass(frozen=True)
class Score:
    """How a grid compares with the plan, within a tolerance.

    Attributes:
        precision: share of occupied cells near something.
        recall: share of the cells of things that the camera saw which are near an occupied cell.
        blocked: share of the floor that the camera saw, away from things, that is called occupied.
    """

    precision: float
    recall: float
    blocked: float


def exact_maps(sample: RoomSample) -> tuple[CloudMaps, Intrinsics]:
    """The ground truth of a frame as if it were predicted."""
    depth = np.where(sample.depth_m > 0, sample.depth_m, np.nan)
    tasks: dict[str, Any] = dict(NYU_TASKS)
    return CloudMaps(
        DepthMap(tasks["depth"], depth),
        LabelMap(tasks["segmentation"], sample.label),
        NormalMap(tasks["normals"], sample.normals),
    ), Intrinsics(*sample.intrinsics)


def drive(route: Tour, maps: Sequence[tuple[CloudMaps, Intrinsics]], options: FloorOptions) -> tuple[Grid, Grid]:
    """The grids of all clouds and of all scans."""
    clouds, scans, tracker = Grid(route.plan.shape), Grid(route.plan.shape), FloorTracker()
    for number, ((found, camera), pose) in enumerate(zip(maps, route.poses, strict=True)):
        seen = judged(route, tracker, found, camera, number * _PERIOD_S, options)
        clouds.add(pose, seen.points[seen.obstacle], seen.points[seen.floor])
        scan = planar_scan(seen, camera, found.depth.depth_m.shape[1], limits=route.limits)
        scans.add_scan(pose, seen, scan, range_m=route.limits.range_m)
    return clouds, scans


def judged(
    route: Tour, tracker: FloorTracker, maps: CloudMaps, camera: Intrinsics, now_s: float, options: FloorOptions
) -> Surroundings:
    """What the points of one frame are."""
    floor = tracker(maps, camera, now_s, options)
    classes = {"floor_classes": ("floor",), "ceiling_classes": ("ceiling",)}
    return surroundings(maps, camera, floor.plane, scale=floor.scale, limits=route.limits, **classes)


def score(route: Tour, grid: Grid, *, tolerance_m: float) -> Score:
    """Compare with the plan; what the camera saw comes from the exact depth and its true pose."""
    things, floor = np.zeros(route.plan.shape, int), np.zeros(route.plan.shape, int)
    for sample, pose in zip(route.frames, route.poses, strict=True):
        points = points_of_depth(sample.depth_m, Intrinsics(*sample.intrinsics)).reshape(-1, 3) @ pose.axes.T
        distance = np.hypot(points[:, 0], points[:, 1])
        points = points + pose.position_m
        near = (sample.depth_m.ravel() > 0) & (distance < route.limits.range_m)
        standing = near & (points[:, 2] >= route.limits.min_height_m) & (points[:, 2] <= route.limits.max_height_m)
        things += _counted(points[standing], route.plan.shape)
        floor += _counted(points[near & (np.abs(points[:, 2]) < 0.02)], route.plan.shape)
    size = 2 * round(tolerance_m / CELL_M) + 1
    kernel = np.ones((size, size), np.uint8)
    near_things = cv2.dilate(route.plan.astype(np.uint8), kernel) > 0
    occupied = grid.occupied
    near_marks = cv2.dilate(occupied.astype(np.uint8), kernel) > 0
    seen_things, free = things >= 3, (floor >= 3) & ~near_things
    return Score(
        float(near_things[occupied].mean()) if occupied.any() else 1.0,
        float(near_marks[seen_things].mean()),
        float(occupied[free].mean()) if free.any() else 0.0,
    )


def _counted(points: Array, shape: tuple[int, ...]) -> Array:
    """(rows, columns) int: how many of (N, 3) points in the room are in each cell; walls are in the cells at the rim."""
    rows, columns = cells_of(points[:, 0], points[:, 1], cell_m=CELL_M)
    counts: Array = np.zeros(shape, int)
    np.add.at(counts, (rows.clip(0, shape[0] - 1), columns.clip(0, shape[1] - 1)), 1)
    return counts


def _panels(route: Tour, grids: Mapping[str, Grid], shown: tuple[CloudMaps, Intrinsics], options: FloorOptions) -> list[Array]:
    """Titled images of one size: a frame and what is an obstacle in it, the floor plan, and the grids."""
    middle = len(route.frames) // 2
    tracker = FloorTracker()
    seen = judged(route, tracker, *shown, 0.0, options)
    image = route.frames[middle].image.copy()
    camera = Intrinsics(*route.frames[middle].intrinsics)
    for chosen, colour in ((seen.floor, (60, 200, 90)), (seen.obstacle, _WRONG)):
        points = seen.points[chosen]
        columns = np.rint(points[:, 0] / points[:, 2] * camera.fx + camera.cx).astype(int)
        rows = np.rint(points[:, 1] / points[:, 2] * camera.fy + camera.cy).astype(int)
        image[rows.clip(0, image.shape[0] - 1), columns.clip(0, image.shape[1] - 1)] = colour
    plan = np.where(route.plan[..., None], np.array(_WALL, np.uint8), np.array(_FREE, np.uint8))
    for pose in route.poses:
        row, column = (int(at) for at in cells_of(pose.position_m[0], pose.position_m[1], cell_m=CELL_M))
        plan[row - 1 : row + 2, column - 1 : column + 2] = _STOP
    near = cv2.dilate(route.plan.astype(np.uint8), np.ones((11, 11), np.uint8)) > 0
    panels = [_panel("a frame: obstacles red, ground green", image, flip=False), _panel("floor plan, stops blue", plan)]
    for title, grid in grids.items():
        occupancy = grid.occupancy()
        drawn = np.empty((*occupancy.shape, 3), np.uint8)
        drawn[:], drawn[occupancy == 0] = _UNKNOWN, _FREE
        drawn[grid.occupied & near], drawn[grid.occupied & ~near] = _WALL, _WRONG
        panels.append(_panel(title, drawn))
    return panels


def _panel(title: str, image: Array, *, flip: bool = True) -> Array:
    """An image in the middle of a titled white square; plans have y upwards."""
    height, width = _PANEL
    scale = min((height - 34) / image.shape[0], (width - 10) / image.shape[1])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    scaled = cv2.resize(image[::-1] if flip else image, size, interpolation=cv2.INTER_NEAREST if flip else cv2.INTER_AREA)
    canvas = np.full((height, width, 3), 255, np.uint8)
    top, left = 26 + (height - 30 - size[1]) // 2, (width - size[0]) // 2
    canvas[top : top + size[1], left : left + size[0]] = scaled
    put_text(canvas, title, (6, 18), size=14, colour=(20, 20, 20))
    return canvas


def main(arguments: list[str] | None = None) -> int:
    """Parse, drive, score, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", help="predict with it too; without it only the exact maps are judged")
    parser.add_argument("--seeds", type=numbers, default=(11, 13, 15), help="rooms, with commas between (default: 11,13,15)")
    parser.add_argument("--size", type=size, default=(288, 384), metavar="HxW", help="of the frames (default: 288x384)")
    parser.add_argument("--stops", type=int, default=4)
    parser.add_argument("--turns", type=int, default=8, help="frames at each stop")
    parser.add_argument("--height", type=float, default=1.2, help="of the camera in metres (default: %(default)s)")
    parser.add_argument("--pitch", type=float, default=17.0, help="degrees downwards (default: %(default)s)")
    parser.add_argument("--tolerance", type=float, default=0.25, help="for predictions, in metres (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="JSON")
    parser.add_argument("--save", type=Path, metavar="PNG", help="the figure, of the first room")
    asked = parser.parse_args(arguments)
    height, width = asked.size
    try:
        if asked.bundle:
            find(Path(asked.bundle))  # before a room is rendered
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code

    conditions, rows = Conditions(threads=1), list[dict[str, Any]]()
    figure: list[Array] = []
    floors = {
        "floor seen": FloorOptions(stride=max(1, width // 160), keep_s=30.0),
        "height known": FloorOptions(stride=max(1, width // 160), keep_s=30.0, height_m=asked.height),
        "mount known": FloorOptions(stride=max(1, width // 160), keep_s=30.0, height_m=asked.height, pitch_deg=asked.pitch),
    }
    for seed in asked.seeds:
        camera = {"height_m": asked.height, "pitch_deg": asked.pitch}
        route = Tour.of(seed, size=(height, width), stops=asked.stops, turns=asked.turns, **camera)
        sources = {"exact": ([exact_maps(sample) for sample in route.frames], 0.05, {"floor seen": floors["floor seen"]})}
        if asked.bundle:
            with Engine(asked.bundle, threads=1) as engine:
                predicted = [engine.predict(sample.image, intrinsics=sample.intrinsics) for sample in route.frames]
            maps = [(found, answer.intrinsics) for answer in predicted if (found := cloud_maps(answer.results)) is not None]
            sources[asked.bundle] = (maps, asked.tolerance, floors)
        grids: dict[str, Grid] = {}
        for source, (maps, tolerance_m, ways) in sources.items():
            for way, options in ways.items():
                clouds, scans = drive(route, maps, options)
                grids[f"{source}, {way}"] = clouds
                for kind, grid in (("clouds", clouds), ("scans", scans)):
                    result = score(route, grid, tolerance_m=tolerance_m)
                    rows.append(
                        {"room": seed, "maps": source, "floor": way, "from": kind, "tolerance_m": tolerance_m}
                        | {name: round(getattr(result, name), 3) for name in ("precision", "recall", "blocked")}
                    )
                    print(*rows[-1].values(), sep="\t", flush=True)
        if not figure:
            middle = len(route.frames) // 2
            shown, options = sources[asked.bundle or "exact"][0][middle], floors["mount known"]
            figure = _panels(route, grids, shown, options)
    if asked.out is not None:
        content = conditions.describe() | {"bundle": asked.bundle, "rows": rows}
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    if asked.save is not None:
        rows_of_panels = [np.concatenate(figure[first : first + 3], 1) for first in range(0, len(figure) // 3 * 3, 3)]
        _, png = cv2.imencode(".png", np.concatenate(rows_of_panels, 0)[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
        write_atomic(asked.save, png.tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
