"""Where things stand along a road, which lanes they block, and which places are taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.shapes import Piece, Shape

from .classes import OBJECT_CLASSES, Scene
from .road import FAR_M, Road
from .scene import Lamp
from .vehicles import Vehicle

__all__ = ["BUMPER_M", "Site"]

BUMPER_M = 2.0
"""From the camera to the front of its car."""
_ON_ROAD = {"car", "truck", "bus", "train", "motorcycle"}


class Site:
    """A road on which pieces are placed, along and across it."""

    def __init__(self, rng: Rng, road: Road, scene: Scene, *, dark: bool) -> None:
        self.rng, self.road, self.scene, self.dark = rng, road, scene, dark
        self.pieces: list[Piece] = []
        self.classes: list[int | None] = []
        self.lamps: list[Lamp] = []
        self._blocked = [FAR_M] * road.forward
        self._taken: list[tuple[float, float, float]] = []  # along, across, radius

    def add(
        self, name: str, shapes: Sequence[Shape], along: float, across: float, *, facing: float = 0.0, object_class: str = ""
    ) -> None:
        """Place shapes whose front looks along the road, turned by `facing` radians towards the oncoming side."""
        x, y, heading = self.road.place(along, across)
        turn = -facing if self.road.left_hand else facing
        self.pieces.append(Piece(name, tuple(shapes), (x, y, 0.0), heading + turn + np.pi / 2))
        self.classes.append(OBJECT_CLASSES.index(object_class) if object_class else None)

    def drive(self, vehicle: Vehicle, along: float, lane: int, *, across: float | None = None) -> None:
        """Place a vehicle with its middle there; it blocks the lanes that it reaches into."""
        at = self.road.lane_middle(lane) if across is None else across
        facing = 0.0 if lane >= 0 else np.pi
        self.add(vehicle.name, vehicle.shapes, along, at, facing=facing, object_class=vehicle.name)
        self.block(along - vehicle.length_m / 2, at, vehicle.width_m / 2)

    def block(self, along: float, across: float, half_m: float) -> None:
        """Something whose near end is so far along: lanes that it reaches into by a quarter metre are free up to there."""
        if along <= BUMPER_M:
            return
        for lane in range(self.road.forward):
            low, high = -(lane + 1) * self.road.lane_m + 0.25, -lane * self.road.lane_m - 0.25
            if across + half_m > low and across - half_m < high:
                self._blocked[lane] = min(self._blocked[lane], along)

    def blocked_road(self) -> Road:
        return replace(self.road, blocked_m=tuple(self._blocked))

    def is_free(self, along: float, across: float, radius: float) -> bool:
        """Whether nothing else was placed there; takes the place where not."""
        x, y, _ = self.road.place(along, across)
        for piece in self.pieces:
            if abs(piece.position_m[0] - x) < 3.2 and abs(piece.position_m[1] - y) < 1.8 and piece.name in _ON_ROAD:
                return False
        if any(np.hypot(along - a, across - c) < radius + r for a, c, r in self._taken):
            return False
        self._taken.append((along, across, radius))
        return True
