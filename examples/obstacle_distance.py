"""How far is what? Every obstacle a robot sees, by class, with its distance over the floor and its direction.

    python examples/obstacle_distance.py room.jpg --intrinsics 525,525,319.5,239.5
    python examples/obstacle_distance.py camera:0

Segmentation says what it is, depth says where its points are, the plane of the floor says what is low enough to be hit.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import cv2
import numpy as np
from planes import ahead_and_right, find_plane

from edge_mtl import Engine, Prediction
from edge_mtl.image.geometry import points_of_depth
from edge_mtl.sources.open_source import open_source

NO_OBSTACLE = ("floor", "ceiling")
LEAST_CONFIDENCE, LEAST_SHARE = 0.5, 0.003
ROBOT_M = (0.05, 1.5)  # what is lower is driven over, what is higher is driven under
NEAREST = 5.0  # per cent: the nearest points may be errors, so their percentile counts


@dataclass(frozen=True)
class Obstacle:
    """A connected region of one class. `distance_m` is over the floor; `bearing_deg` is 0 ahead, positive to the right."""

    name: str
    distance_m: float
    bearing_deg: float
    share: float


def obstacles(prediction: Prediction, *, robot_m: tuple[float, float] = ROBOT_M) -> list[Obstacle]:
    """What stands in the way, the nearest first."""
    if prediction.segmentation is None or prediction.depth is None:
        raise SystemExit("this example needs a bundle that predicts segmentation and depth")
    points = points_of_depth(prediction.depth, prediction.intrinsics)
    wanted = np.isfinite(prediction.depth)
    if prediction.confidence is not None:
        wanted &= prediction.confidence > LEAST_CONFIDENCE
    floor = find_plane(prediction, "floor") if prediction.normals is not None else None
    if floor is not None:
        height = floor.height_m(points)
        wanted &= (height > robot_m[0]) & (height < robot_m[1])
    up = np.array([0.0, -1.0, 0.0]) if floor is None else floor.normal
    over_floor = points @ np.column_stack(ahead_and_right(up))  # (H, W, 2) metres ahead and to the right

    found = []
    for label, name in enumerate(prediction.classes):
        if name in NO_OBSTACLE:
            continue
        mask = (wanted & (prediction.segmentation == label)).astype(np.uint8)
        count, regions, stats, _ = cv2.connectedComponentsWithStats(cv2.erode(mask, np.ones((3, 3), np.uint8)))
        for region in range(1, count):
            share = stats[region, cv2.CC_STAT_AREA] / mask.size
            if share < LEAST_SHARE:
                continue
            seen = over_floor[regions == region]
            ranges = np.linalg.norm(seen, axis=1)
            distance = float(np.percentile(ranges, NEAREST))
            ahead_m, right_m = np.median(seen[ranges <= distance * 1.05], axis=0)
            found.append(Obstacle(name, distance, float(np.degrees(np.arctan2(right_m, ahead_m))), float(share)))
    return sorted(found, key=lambda obstacle: obstacle.distance_m)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="an image, a folder, a video or camera:N")
    parser.add_argument("--intrinsics", help="fx,fy,cx,cy of the camera; without it distances are right up to a factor")
    parser.add_argument("--bundle")
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args(arguments)

    camera = [float(value) for value in asked.intrinsics.split(",")] if asked.intrinsics else None
    with Engine(asked.bundle, precision=asked.precision) as engine:
        for frame in open_source(asked.source).frames():
            print(frame.name)
            for obstacle in obstacles(engine.predict(frame.pixels, intrinsics=camera)):
                side = "right" if obstacle.bearing_deg > 0 else "left"
                print(f"  {obstacle.name:10} {obstacle.distance_m:5.2f} m  {abs(obstacle.bearing_deg):3.0f} degrees {side}")


if __name__ == "__main__":
    main()
