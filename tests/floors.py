"""Rooms made of planes and boxes, as a camera at any height and pitch sees them exactly: for tests of floors and obstacles."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import NYU13_CLASSES, NYU_TASKS, DepthMap, LabelMap, NormalMap
from edge_mtl.tasks.points import CloudMaps

SIZE = (120, 160)
CAMERA = Intrinsics(120.0, 120.0, 79.5, 59.5)
FLOOR, WALL, TABLE, CEILING, OBJECTS = (NYU13_CLASSES.index(name) for name in ("floor", "wall", "table", "ceiling", "objects"))
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float], int]


@dataclass
class World:
    """A floor at z = 0 with a wall ahead and boxes on it; x ahead, y left, z up, the camera above (0, 0).

    Attributes:
        boxes: (from, to) in x, y and z, and the class.
        ramp: where in x the floor begins to rise, and by how many degrees; its class is floor.
    """

    height_m: float = 1.0
    pitch_deg: float = 20.0
    wall_m: float = 4.0
    ceiling_m: float = 2.5
    boxes: list[Box] = field(default_factory=list)
    ramp: tuple[float, float] | None = None
    seen_floor: int = FLOOR

    @property
    def axes(self) -> np.ndarray:
        """(3, 3): columns are the camera's right, down and forward in the world."""
        pitch = np.radians(self.pitch_deg)
        right, forward = np.array([0.0, -1.0, 0.0]), np.array([np.cos(pitch), 0.0, -np.sin(pitch)])
        return np.stack([right, np.cross(forward, right), forward], 1)

    def maps(self) -> CloudMaps:
        """Exact depth, labels and normals."""
        height, width = SIZE
        v, u = np.mgrid[:height, :width]
        rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones(SIZE)], -1) @ self.axes.T
        origin = np.array([0.0, 0.0, self.height_m])
        depth, label = np.full(SIZE, np.inf), np.full(SIZE, WALL)
        normal = np.zeros((*SIZE, 3))
        planes = [((0, 0, 1), 0.0, self.seen_floor), ((0, 0, -1), -self.ceiling_m, CEILING), ((-1, 0, 0), -self.wall_m, WALL)]
        if self.ramp is not None:
            start, slope = self.ramp[0], np.radians(self.ramp[1])
            facing = np.array([-np.sin(slope), 0, np.cos(slope)])
            planes.append((tuple(facing), float(facing @ [start, 0, 0]), FLOOR))
        for facing, offset, kind in planes:
            facing = np.asarray(facing, float)
            with np.errstate(divide="ignore", invalid="ignore"):
                along = (offset - origin @ facing) / (rays @ facing)
            nearer = (along > 0) & (along < depth) & (rays @ facing < 0)
            if self.ramp is not None and kind == FLOOR and facing[0] == 0:
                nearer &= (origin + rays * np.where(np.isfinite(along), along, 0)[..., None])[..., 0] <= self.ramp[0]
            depth[nearer], label[nearer], normal[nearer] = along[nearer], kind, facing
        for *extents, kind in self.boxes:
            near, far, axis = np.full(SIZE, -np.inf), np.full(SIZE, np.inf), np.zeros(SIZE, int)
            for which, (low, high) in enumerate(extents):
                with np.errstate(divide="ignore", invalid="ignore"):
                    first, second = (np.array([low, high])[:, None, None] - origin[which]) / rays[..., which]
                enter, leave = np.minimum(first, second), np.maximum(first, second)
                axis = np.where(enter > near, which, axis)
                near, far = np.maximum(near, enter), np.minimum(far, leave)
            hit = (near > 0) & (near < far) & (near < depth)
            depth[hit], label[hit] = near[hit], kind
            normal[hit] = 0
            normal[hit, axis[hit]] = -np.sign(rays[hit, axis[hit]])
        return CloudMaps(
            DepthMap(NYU_TASKS["depth"], np.where(np.isfinite(depth), depth, np.nan).astype(np.float32)),
            LabelMap(NYU_TASKS["segmentation"], label.astype(np.uint8)),  # type: ignore[arg-type]
            NormalMap(NYU_TASKS["normals"], (normal @ self.axes).astype(np.float32)),
        )

    def in_world(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) points of the camera frame in the world."""
        moved: np.ndarray = points @ self.axes.T + [0, 0, self.height_m]
        return moved


def without(maps: CloudMaps, *, labels: bool = False, normals: bool = False) -> CloudMaps:
    """The maps of a bundle that has no labels, or no normals."""
    return CloudMaps(maps.depth, None if labels else maps.labels, None if normals else maps.normals)


def changed(maps: CloudMaps, *, depth: np.ndarray | None = None, labels: np.ndarray | None = None) -> CloudMaps:
    """The maps with another depth or other labels."""
    new_depth = maps.depth if depth is None else DepthMap(maps.depth.spec, depth.astype(np.float32))
    assert maps.labels is not None
    new_labels = maps.labels if labels is None else LabelMap(maps.labels.spec, labels.astype(np.uint8))
    return CloudMaps(new_depth, new_labels, maps.normals)
