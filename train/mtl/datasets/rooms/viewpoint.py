"""Where a hand or a robot would hold a camera in a room."""

from __future__ import annotations

import numpy as np

from mtl.datasets.worlds.camera import Pose, look
from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.shapes import Piece

from .scene import Scene

# how much a view wants to look at a piece
_INTEREST = {
    "bed": 3.0, "tv_stand": 2.0, "wall_tv": 2.5, "bookshelf": 2.0, "wall_shelf": 3.0, "sofa": 3.5, "desk": 3.0,
    "dining": 2.5, "round": 2.5, "coffee": 2.0, "window": 2.0, "picture": 1.2, "plant": 1.8, "boxes": 1.8,
    "chair": 1.5, "counter": 2.0, "wardrobe": 1.5, "dresser": 1.5, "rug": 0.3, "ceiling_lamp": 0.2, "door": 0.3,
}  # fmt: skip


def draw_pose(rng: Rng, scene: Scene) -> Pose:
    """One plausible view: standing on free floor, looking at some piece from a few metres."""
    length, width, ceiling = scene.shell.size_m
    weights = np.array([_INTEREST.get(piece.name, 1.0) for piece in scene.pieces])
    target = scene.pieces[int(rng.choice(len(scene.pieces), p=weights / weights.sum()))]
    x = y = 0.0
    for attempt in range(40):
        x, y = float(rng.uniform(0.25, length - 0.25)), float(rng.uniform(0.25, width - 0.25))
        away = float(np.hypot(target.position_m[0] - x, target.position_m[1] - y))
        crowded = any(abs(x - f.x) < f.width_m / 2 + 0.15 and abs(y - f.y) < f.depth_m / 2 + 0.15 for f in scene.footprints)
        well_placed = 1.3 < away < 4.5 and _in_front(target, x, y)
        if not crowded and (well_placed or attempt >= 30):
            break
    pick = rng.random()
    low, high = (0.9, 1.6) if pick < 0.75 else (0.4, 0.9) if pick < 0.9 else (1.6, 1.75)
    z = float(rng.uniform(low, high))
    towards = float(np.arctan2(target.position_m[1] - y, target.position_m[0] - x))
    away = max(1.0, float(np.hypot(target.position_m[0] - x, target.position_m[1] - y)))
    aim_z = float(rng.uniform(0.1, min(1.35, ceiling)))
    tilt = rng.normal(0.25, 0.1) if rng.random() < 0.18 else rng.normal(0, 0.12)
    pitch = float(np.clip(0.85 * np.arctan2(aim_z - z, away) + tilt, -0.8, 0.4))
    return look((x, y, z), towards + float(rng.normal(0, 0.2)), pitch, float(rng.normal(0, 0.03)))


def _in_front(piece: Piece, x: float, y: float) -> bool:
    """Whether a floor position is on the front side of a piece."""
    ahead = (np.sin(piece.yaw_rad), -np.cos(piece.yaw_rad))
    return bool((x - piece.position_m[0]) * ahead[0] + (y - piece.position_m[1]) * ahead[1] > 0)
