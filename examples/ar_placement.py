"""Put a virtual rubber duck on the floor or the table of an image: right perspective, hidden by what stands before it.

    python examples/ar_placement.py room.jpg --save placed.png
    python examples/ar_placement.py tour.mp4 --frame 120 --on table --intrinsics 525,525,319.5,239.5

Segmentation says what is floor, normals and depth say where the plane is, depth says what is nearer than the duck.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import cv2
import numpy as np
from asked import frame_of, pixel_of
from duck import Pose, draw, ground_shadow
from planes import Plane, find_plane

from edge_mtl import Engine, Prediction
from edge_mtl.files import write_atomic
from edge_mtl.image.geometry import points_of_depth

NEARER = 0.93  # something hides the duck if it is that much nearer: depth is never exact
SAMPLES = 2  # rays per pixel, in each direction


def free_spot(plane: Plane, prediction: Prediction, *, at: tuple[int, int] | None = None) -> tuple[np.ndarray, float]:
    """Where on the plane there is most room (or the pixel `at`), and how much: (3,) metres and a radius in metres."""
    inside = np.pad(plane.pixels.astype(np.uint8), 1)  # the image ends at its border
    clear_px = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    depth = plane.depth_m(rays_of(prediction))
    near = np.where(np.isfinite(depth), depth, 0.0)
    clear_m = clear_px * near / prediction.intrinsics.fx
    row, column = np.unravel_index(np.argmax(clear_m * np.exp(-near / 4.0)), clear_m.shape) if at is None else at[::-1]
    if not np.isfinite(depth[row, column]):
        raise SystemExit(f"pixel {column},{row} does not see the plane; choose another with --at")
    return rays_of(prediction)[row, column] * depth[row, column], float(clear_m[row, column])


def rays_of(prediction: Prediction, factor: int = 1) -> np.ndarray:
    """(H factor, W factor, 3) directions with z = 1 through every pixel of the maps, or through parts of it."""
    height, width = prediction.map_size
    camera = prediction.intrinsics
    x = ((np.arange(width * factor) + 0.5) / factor - 0.5 - camera.cx) / camera.fx
    y = ((np.arange(height * factor) + 0.5) / factor - 0.5 - camera.cy) / camera.fy
    return np.dstack([*np.meshgrid(x, y), np.ones((height * factor, width * factor))])


def stand_on(plane: Plane, foot: np.ndarray, height_m: float, *, turn_deg: float = 35.0) -> Pose:
    """Upright on the plane, facing the camera but for a turn."""
    up = plane.normal
    forward = -foot - ((-foot) @ up) * up
    forward /= np.linalg.norm(forward)
    right = np.cross(up, forward)
    turn = np.radians(turn_deg)
    forward, right = np.cos(turn) * forward + np.sin(turn) * right, np.cos(turn) * right - np.sin(turn) * forward
    return Pose(foot, np.column_stack([right, up, forward]), height_m)


def place(frame: np.ndarray, prediction: Prediction, plane: Plane, pose: Pose) -> np.ndarray:
    """(H, W, 3) uint8 RGB: `frame` with the duck in it."""
    up, right = pose.axes[:, 1], np.cross(pose.axes[:, 1], -pose.foot)
    light = 1.0 * up + 0.45 * right / np.linalg.norm(right) - 0.35 * pose.foot / np.linalg.norm(pose.foot)
    light /= np.linalg.norm(light)

    rows, columns = region(pose, prediction)
    fine = rays_of(prediction, SAMPLES)[
        rows.start * SAMPLES : rows.stop * SAMPLES, columns.start * SAMPLES : columns.stop * SAMPLES
    ]
    size = fine.shape[:2]
    colour, depth = (values.reshape(*size, -1) for values in draw(fine.reshape(-1, 3), pose, light))
    depth = depth[..., 0]

    # What is nearer hides the duck. The plane itself never does, though its predicted depth is noisy.
    cloud = points_of_depth(prediction.depth, prediction.intrinsics)[rows, columns]
    scene = np.where(plane.pixels[rows, columns] | (plane.height_m(cloud) < 0.02), np.inf, prediction.depth[rows, columns])
    scene = cv2.resize(
        np.nan_to_num(scene, nan=1e6, posinf=1e6).astype(np.float32), size[::-1], interpolation=cv2.INTER_NEAREST
    )
    hidden = cv2.medianBlur((scene < NEARER * np.minimum(depth, 1e5)).astype(np.uint8), 5).astype(np.float32)
    covered = np.isfinite(depth) * (1 - cv2.GaussianBlur(hidden, (0, 0), SAMPLES))
    covered = cv2.resize(covered, None, fx=1 / SAMPLES, fy=1 / SAMPLES, interpolation=cv2.INTER_AREA)[..., None]
    weighted = np.where(np.isfinite(depth)[..., None], colour, 0)
    seen = cv2.resize(np.isfinite(depth).astype(float), None, fx=1 / SAMPLES, fy=1 / SAMPLES, interpolation=cv2.INTER_AREA)
    colour = cv2.resize(weighted, None, fx=1 / SAMPLES, fy=1 / SAMPLES, interpolation=cv2.INTER_AREA)
    colour /= np.maximum(seen, 1e-6)[..., None]

    image = frame[rows, columns] / 255.0
    rays = rays_of(prediction)[rows, columns]
    on_plane = plane.pixels[rows, columns] & np.isfinite(plane.depth_m(rays))
    shade = np.ones(on_plane.shape)
    ground = rays[on_plane] * plane.depth_m(rays)[on_plane][:, None]
    shade[on_plane] = ground_shadow(ground, pose, light)
    image = image * cv2.GaussianBlur(shade, (0, 0), 1.0)[..., None]

    exposure = np.clip(np.percentile(frame, 90) / 215.0, 0.5, 1.1)  # a duck in a dim room is dim
    result = frame.copy()
    result[rows, columns] = np.rint(255 * np.clip(image * (1 - covered) + exposure * colour * covered, 0, 1)).astype(np.uint8)
    return result


def region(pose: Pose, prediction: Prediction) -> tuple[slice, slice]:
    """Rows and columns of the image that the duck or its shadow can touch."""
    reach = 2.2 * pose.height_m * np.array(list(itertools.product((-1, 1), (0, 0.6), (-1, 1))))
    corners = pose.foot + reach @ pose.axes.T
    camera, (height, width) = prediction.intrinsics, prediction.map_size
    z = np.maximum(corners[:, 2], 0.05)
    u, v = camera.fx * corners[:, 0] / z + camera.cx, camera.fy * corners[:, 1] / z + camera.cy
    top, bottom = np.clip([v.min(), v.max() + 1], 0, height).astype(int)
    left, right = np.clip([u.min(), u.max() + 1], 0, width).astype(int)
    return slice(top, bottom), slice(left, right)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="an image or a video")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", default=Path("out/placed.png"), help="the image (default: %(default)s)"
    )
    parser.add_argument("--out", dest="save", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)  # until 0.3
    parser.add_argument("--frame", type=int, default=0, help="of a video, counted from 0")
    parser.add_argument("--on", choices=("auto", "floor", "table", "bed", "furniture"), default="auto")
    parser.add_argument("--at", help="pixel column,row to stand on, instead of where there is most room")
    parser.add_argument("--size", type=float, default=0.35, help="height of the duck in metres")
    parser.add_argument("--intrinsics", help="fx,fy,cx,cy of the camera; without it the scale is assumed")
    parser.add_argument("--bundle")
    parser.add_argument("--precision", default="auto")
    asked = parser.parse_args(arguments)

    frame = frame_of(asked.source, asked.frame)
    at = pixel_of(asked.at, frame.shape[:2]) if asked.at else None
    camera = [float(value) for value in asked.intrinsics.split(",")] if asked.intrinsics else None
    with Engine(asked.bundle, precision=asked.precision) as engine:
        prediction = engine.predict(frame, intrinsics=camera)

    surfaces = ("floor", "table", "bed", "furniture") if asked.on == "auto" else (asked.on,)
    planes = {name: find_plane(prediction, name) for name in surfaces}
    found = next(((name, plane) for name, plane in planes.items() if plane is not None), None)
    if found is None:
        raise SystemExit(f"no {' or '.join(surfaces)} to stand on is seen clearly enough in {asked.source}")
    name, plane = found
    foot, room_m = free_spot(plane, prediction, at=at)
    pose = stand_on(plane, foot, asked.size if at else min(asked.size, max(0.08, 1.2 * room_m)))
    _, png = cv2.imencode(".png", place(frame, prediction, plane, pose)[:, :, ::-1])
    write_atomic(asked.save, png.tobytes())
    print(f"on the {name}, {np.linalg.norm(foot):.2f} m away, {pose.height_m:.2f} m high: {asked.save}")


if __name__ == "__main__":
    main()
