"""Where can the robot drive? The floor that is surely free, and how far it reaches in every direction.

    python examples/free_floor.py room.jpg --save out/floor.png --intrinsics 525,525,319.5,239.5

A pixel is free floor if three things agree: the class says floor, the normal points up, and the point lies on the plane of
the floor. Of that, what the robot can reach without a gap counts, less its own radius.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from asked import frame_of
from planes import Plane, ahead_and_right, find_plane

from edge_mtl import Engine, Prediction
from edge_mtl.files import write_atomic
from edge_mtl.image.geometry import points_of_depth

FLAT = np.cos(np.radians(25.0))
CELL_M, REACH_M = 0.05, 6.0
GREEN = np.array([40, 220, 90])


def free_floor(prediction: Prediction) -> tuple[np.ndarray, Plane] | None:
    """(H, W) bool, where the floor is surely free, and its plane; None where no floor is seen."""
    plane = find_plane(prediction, "floor")
    if plane is None or prediction.normals is None:
        return None
    sure = (plane.pixels & (prediction.normals @ plane.normal > FLAT)).astype(np.uint8)
    sure = cv2.morphologyEx(sure, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    sure = cv2.morphologyEx(sure, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    count, regions, stats, _ = cv2.connectedComponentsWithStats(sure)
    if count < 2:
        return None
    lowest = stats[1:, cv2.CC_STAT_TOP] + stats[1:, cv2.CC_STAT_HEIGHT]
    area = stats[1:, cv2.CC_STAT_AREA] * (lowest >= lowest.max() - 0.1 * len(sure))
    return regions == 1 + int(area.argmax()), plane


def reach_m(
    prediction: Prediction, free: np.ndarray, plane: Plane, *, radius_m: float = 0.2, sectors: int = 31
) -> tuple[np.ndarray, np.ndarray]:
    """How far a round robot of `radius_m` may drive, like a laser scan: bearings in degrees, right positive, and metres.

    No camera sees the floor right below itself: what lies before the first row of the image is taken for free, as that
    is where the robot came from. Where the floor is not free from that row on, the answer is 0.
    """
    grid = np.zeros((round(REACH_M / CELL_M), round(2 * REACH_M / CELL_M)), np.uint8)
    ahead, right = ahead_and_right(plane.normal)
    points = points_of_depth(prediction.depth, prediction.intrinsics)[free]
    forward_m, right_m = points @ ahead, points @ right
    rows, columns = (forward_m / CELL_M).astype(int), ((right_m + REACH_M) / CELL_M).astype(int)
    inside = (rows >= 0) & (rows < grid.shape[0]) & (columns >= 0) & (columns < grid.shape[1])
    grid[rows[inside], columns[inside]] = 1
    grid = cv2.morphologyEx(grid, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))  # far rows of the image are far apart

    camera, (height, width) = prediction.intrinsics, prediction.map_size
    first = np.stack([(np.arange(width) - camera.cx) / camera.fx, np.full(width, (height - 1 - camera.cy) / camera.fy)], axis=1)
    first = np.column_stack([first, np.ones(width)])
    first *= plane.depth_m(first)[:, None]  # where the lowest row of the image meets the floor
    if not np.isfinite(first).all():
        return np.zeros(1), np.zeros(1)
    seen_at_deg, seen_from_m = np.degrees(np.arctan2(first @ right, first @ ahead)), np.hypot(first @ right, first @ ahead)
    bearings = np.linspace(seen_at_deg[0], seen_at_deg[-1], sectors)
    blind = np.interp(bearings, seen_at_deg, seen_from_m)
    distances = np.arange(0.0, REACH_M, CELL_M / 2)
    reach = np.zeros(sectors)
    for number, bearing in enumerate(np.radians(bearings)):
        row = np.clip(distances * np.cos(bearing) / CELL_M, 0, grid.shape[0] - 1).astype(int)
        column = np.clip((distances * np.sin(bearing) + REACH_M) / CELL_M, 0, grid.shape[1] - 1).astype(int)
        seen = grid[row, column] > 0
        start = int(seen.argmax())
        if seen.any() and distances[start] < 1.1 * blind[number] + 2 * CELL_M:
            stop = start + int((~seen[start:]).argmax()) if not seen[start:].all() else len(seen)
            reach[number] = max(0.0, distances[stop - 1] - radius_m)
    return bearings, reach


def paint(frame: np.ndarray, free: np.ndarray) -> np.ndarray:
    """`frame` with the free floor in green and outlined."""
    image = frame.copy()
    image[free] = (0.45 * frame[free] + 0.55 * GREEN).astype(np.uint8)
    contours, _ = cv2.findContours(free.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(image, contours, -1, (255, 255, 255), 1, cv2.LINE_AA)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="an image or a video")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", default=Path("out/floor.png"), help="the image (default: %(default)s)"
    )
    parser.add_argument("--out", dest="save", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # until 0.3
    parser.add_argument("--frame", type=int, default=0, help="of a video, counted from 0")
    parser.add_argument("--radius", type=float, default=0.2, help="of the robot in metres")
    parser.add_argument("--intrinsics", help="fx,fy,cx,cy of the camera; without it distances are right up to a factor")
    parser.add_argument("--bundle")
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args(arguments)

    frame = frame_of(asked.source, asked.frame)
    camera = [float(value) for value in asked.intrinsics.split(",")] if asked.intrinsics else None
    with Engine(asked.bundle, precision=asked.precision) as engine:
        prediction = engine.predict(frame, intrinsics=camera)
    found = free_floor(prediction)
    if found is None:
        raise SystemExit(f"no floor is seen clearly enough in {asked.source}: stop")
    free, plane = found
    for bearing, metres in zip(*reach_m(prediction, free, plane, radius_m=asked.radius), strict=True):
        print(f"{bearing:+6.1f} degrees {metres:5.2f} m {'#' * round(8 * metres)}")
    _, png = cv2.imencode(".png", paint(frame, free)[:, :, ::-1])
    write_atomic(asked.save, png.tobytes())
    print(f"free floor: {free.mean():.0%} of the image, in {asked.save}")


if __name__ == "__main__":
    main()
