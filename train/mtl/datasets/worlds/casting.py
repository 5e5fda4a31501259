"""Casts rays through a whole scene: what a camera sees, and what hides a light.

Two cullings make it cheap: on the screen each primitive is tried only inside the rectangle it
projects to, and for shadows a whole piece is skipped unless its bounds are crossed.
Knows nothing about colour.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .camera import Intrinsics, Pose
from .intersect import NEAREST_M, entry_distance, safe_inverse
from .shapes import Piece, Shape, rotated


class Backdrop(Protocol):
    """What lies around all pieces: the sides of a room, or the ground and the sky."""

    def hit(self, origin: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where rays that start within meet it.

        Args:
            origin: (3, ...) that goes with `directions`, (3, ...) float32.
        Returns:
            distance (...) float32 in units of the direction, and which of its surfaces, (...) int32 below 0: primitives of
            pieces count from 0.
        """


def camera_rays(intrinsics: Intrinsics, height: int, width: int) -> np.ndarray:
    """(3, H, W) float32 camera-frame directions with z = 1, so that distance along them is depth along z."""
    rays = np.ones((3, height, width), np.float32)
    rays[0] = ((np.arange(width) - intrinsics.cx) / intrinsics.fx).astype(np.float32)[None, :]
    rays[1] = ((np.arange(height) - intrinsics.cy) / intrinsics.fy).astype(np.float32)[:, None]
    return rays


@dataclass(frozen=True, slots=True, eq=False)
class PlacedPiece:
    """A piece ready for casting: shapes with their numbers, and bounds."""

    first: int
    shapes: tuple[Shape, ...]
    shadowing: tuple[Shape, ...]
    position_m: np.ndarray  # (3,)
    to_room: np.ndarray  # (3, 3)
    low_m: np.ndarray  # (3,) bounds of the shadowing shapes in the room
    high_m: np.ndarray
    corners_m: np.ndarray  # (S, 8, 3) in the room

    @classmethod
    def of(cls, piece: Piece, first: int) -> PlacedPiece:
        c, s = np.float32(np.cos(piece.yaw_rad)), np.float32(np.sin(piece.yaw_rad))
        to_room = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]], np.float32)
        position = np.asarray(piece.position_m, np.float32)
        corners = np.stack([shape.corners_m() for shape in piece.shapes])
        casting = tuple(shape for shape in piece.shapes if shape.casts_shadow)
        in_room = rotated(to_room, corners.reshape(-1, 3).T).T.reshape(corners.shape) + position
        solid = in_room[[shape.casts_shadow for shape in piece.shapes]].reshape(-1, 3) if casting else in_room.reshape(-1, 3)
        return cls(first, piece.shapes, casting, position, to_room, solid.min(0), solid.max(0), in_room)

    def local_point(self, points: np.ndarray) -> np.ndarray:
        """(3, ...) room points in the frame of the piece."""
        return self.local_direction(points - self.position_m.reshape((3,) + (1,) * (points.ndim - 1)))

    def local_direction(self, vectors: np.ndarray) -> np.ndarray:
        c, s = self.to_room[0, 0], self.to_room[1, 0]
        return np.stack([c * vectors[0] + s * vectors[1], c * vectors[1] - s * vectors[0], vectors[2]])

    def room_direction(self, vectors: np.ndarray) -> np.ndarray:
        c, s = self.to_room[0, 0], self.to_room[1, 0]
        return np.stack([c * vectors[0] - s * vectors[1], s * vectors[0] + c * vectors[1], vectors[2]])


class Caster:
    """Answers ray queries about pieces and what lies around them."""

    def __init__(self, pieces: Sequence[Piece], backdrop: Backdrop) -> None:
        self.backdrop = backdrop
        self.pieces: list[PlacedPiece] = []
        first = 0
        for piece in pieces:
            self.pieces.append(PlacedPiece.of(piece, first))
            first += len(piece.shapes)
        self.owner = [(piece, shape) for piece in self.pieces for shape in piece.shapes]

    def view(
        self, pose: Pose, intrinsics: Intrinsics, height: int, width: int, *, least_px: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a camera sees.

        Args:
            least_px: primitives projecting to less than this in both directions are left out.
        Returns:
            depth (H, W) float32 metres along z, surface number (H, W) int32,
            directions (3, H, W) float32 in the world.
        """
        directions = rotated(pose.axes, camera_rays(intrinsics, height, width))
        depth, surface = self.backdrop.hit(pose.position_m[:, None, None], directions)
        windows = [_Window.of(piece, pose, intrinsics, height, width, least_px) for piece in self.pieces]
        for window in sorted((one for one in windows if len(one.seen)), key=lambda one: one.nearest):
            top, bottom, left, right = window.bounds
            if window.nearest <= depth[top:bottom, left:right].max():
                window.cast(pose, directions, depth, surface)
        return depth, surface, directions

    def silhouettes(
        self, wanted: Sequence[int], pose: Pose, intrinsics: Intrinsics, height: int, width: int
    ) -> Iterator[np.ndarray]:
        """Where a camera would see each of some pieces if it stood alone: (H, W) bool, by its index."""
        directions = rotated(pose.axes, camera_rays(intrinsics, height, width))
        empty, around = self.backdrop.hit(pose.position_m[:, None, None], directions)
        for index in wanted:
            window = _Window.of(self.pieces[index], pose, intrinsics, height, width, 0.0)
            surface = around.copy()
            if len(window.seen):
                window.cast(pose, directions, empty.copy(), surface)
            yield surface >= 0

    def hit(self, number: int, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Entry distances of rays into one primitive: origin (3,), directions (3, N)."""
        piece, shape = self.owner[number]
        local = piece.local_direction(directions)
        return entry_distance(shape, piece.local_point(origin[:, None]), local, safe_inverse(local))

    def occluded(self, origins: np.ndarray, directions: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Whether anything that casts shadows lies within `reach` along rays: (3, N), (3, N), (N,) -> (N,) bool."""
        hidden = np.zeros(origins.shape[1], bool)
        if not len(hidden):
            return hidden
        inverses = safe_inverse(directions)
        ends = origins + directions * reach
        lowest, highest = np.minimum(origins, ends).min(1), np.maximum(origins, ends).max(1)
        for piece in self.pieces:
            if not piece.shadowing or (piece.low_m > highest).any() or (piece.high_m < lowest).any():
                continue
            active = np.flatnonzero(_crosses(piece.low_m, piece.high_m, origins, inverses, reach) & ~hidden)
            if not len(active):
                continue
            origin, direction = piece.local_point(origins[:, active]), piece.local_direction(directions[:, active])
            inverse, limit = safe_inverse(direction), reach[active]
            for shape in piece.shadowing:
                blocked = entry_distance(shape, origin, direction, inverse) < limit
                if blocked.any():
                    hidden[active[blocked]] = True
                    clear = ~blocked
                    active, limit = active[clear], limit[clear]
                    if not len(active):
                        break
                    origin, direction, inverse = origin[:, clear], direction[:, clear], inverse[:, clear]
        return hidden


def _crosses(low: np.ndarray, high: np.ndarray, origin: np.ndarray, inverse: np.ndarray, reach: np.ndarray) -> np.ndarray:
    """Whether rays cross an axis-aligned box between 0 and `reach`."""
    near, far = np.full_like(reach, NEAREST_M), reach.copy()  # slabs along each axis, as for a box
    for axis in range(3):
        a = (low[axis] - origin[axis]) * inverse[axis]
        b = (high[axis] - origin[axis]) * inverse[axis]
        np.maximum(near, np.minimum(a, b), out=near)
        np.minimum(far, np.maximum(a, b), out=far)
    return far >= near


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """The part of the screen that a piece can be seen in.

    Attributes:
        near: (S,) nearest depth of every shape.
        rectangles: (S, 4) where it can be seen: y0, y1, x0, x1.
        seen: (K,) which shapes are on the screen.
    """

    piece: PlacedPiece
    near: np.ndarray
    rectangles: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, piece: PlacedPiece, pose: Pose, intrinsics: Intrinsics, height: int, width: int, least_px: float) -> _Window:
        near, rectangles = _rectangles(piece, pose, intrinsics, height, width, least_px)
        seen = np.flatnonzero((rectangles[:, 1] > rectangles[:, 0]) & (rectangles[:, 3] > rectangles[:, 2]))
        return cls(piece, near, rectangles, seen)

    @property
    def nearest(self) -> float:
        """Depth of what is nearest."""
        return float(self.near[self.seen].min())

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of the rectangles together."""
        y0, y1, x0, x1 = self.rectangles[self.seen].T
        return int(y0.min()), int(y1.max()), int(x0.min()), int(x1.max())

    def cast(self, pose: Pose, directions: np.ndarray, depth: np.ndarray, surface: np.ndarray) -> None:
        """Write depth and numbers of the piece into `depth` and `surface` (H, W) wherever it is nearer than what is there."""
        top, bottom, left, right = self.bounds
        local = self.piece.local_direction(directions[:, top:bottom, left:right])
        inverse = safe_inverse(local)
        origin = self.piece.local_point(pose.position_m[:, None, None])
        for index in self.seen[np.argsort(self.near[self.seen], kind="stable")]:
            y0, y1, x0, x1 = self.rectangles[index].tolist()
            best = depth[y0:y1, x0:x1]
            if self.near[index] > best.max():
                continue
            part = (slice(None), slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
            distance = entry_distance(self.piece.shapes[index], origin, local[part], inverse[part])
            closer = distance < best
            if closer.any():
                best[closer] = distance[closer]
                surface[y0:y1, x0:x1][closer] = self.piece.first + index


def _rectangles(
    piece: PlacedPiece, pose: Pose, intrinsics: Intrinsics, height: int, width: int, least_px: float
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest depth (S,) and screen rectangle (S, 4) as y0, y1, x0, x1 of every shape of a piece."""
    corners = piece.corners_m - pose.position_m
    x, y, z = rotated(pose.axes.T, np.moveaxis(corners, -1, 0))
    near, far = z.min(1), z.max(1)
    front = np.maximum(z, np.float32(1e-6))
    u = x / front * np.float32(intrinsics.fx) + np.float32(intrinsics.cx)
    v = y / front * np.float32(intrinsics.fy) + np.float32(intrinsics.cy)
    x0, x1, y0, y1 = u.min(1), u.max(1), v.min(1), v.max(1)
    tiny = (x1 - x0 < least_px) & (y1 - y0 < least_px)
    rectangles = np.stack([np.floor(y0), np.ceil(y1) + 1, np.floor(x0), np.ceil(x1) + 1], 1)
    rectangles[near < 0.05] = (0, height, 0, width)
    rectangles = rectangles.clip(0, (height, height, width, width)).astype(np.int64)
    rectangles[(far < 0.01) | ((near >= 0.05) & tiny)] = 0
    return near, rectangles
