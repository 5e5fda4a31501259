"""Furnishes a room: which pieces a bedroom, living room, kitchen or office has, and where they stand.

Writes a `Scene`; knows nothing about cameras or rendering.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mtl.datasets.worlds.materials import Material, Rng
from mtl.datasets.worlds.shapes import Item, Piece, Shape, box, cylinder, ellipsoid

from . import fixtures, furniture, objects, storage
from . import materials as mat
from .labels import Label
from .scene import Footprint, Light, Scene, Shell

_MOST_LIGHTS = 3

_MAKERS: dict[str, Callable[[Rng], Item]] = {
    "bed": furniture.bed,
    "sofa": furniture.sofa,
    "chair": furniture.chair,
    "desk": lambda rng: furniture.table(rng, "desk"),
    "side": lambda rng: furniture.table(rng, "side"),
    "tv": storage.tv_stand,
    "cabinet": storage.cabinet,
    "shelf": storage.bookshelf,
    "counter": storage.counter,
    "plant": objects.plant,
    "bin": objects.bin_,
    "boxes": objects.boxes,
    "lamp": objects.floor_lamp,
    "suitcase": objects.suitcase,
}

# what a room always tries to have, and what it may have
_PLANS = {
    "bedroom": ("bed cabinet tv", "desk cabinet shelf chair plant boxes lamp suitcase sofa plant boxes"),
    "living": ("sofa tv shelf", "sofa shelf cabinet plant lamp desk side boxes chair plant suitcase"),
    "kitchen": ("counter cabinet", "shelf cabinet plant bin chair sofa counter tv boxes plant"),
    "office": ("desk shelf desk", "shelf cabinet chair boxes bin plant sofa desk tv suitcase"),
}
_KIND_SHARES = {"bedroom": 0.32, "living": 0.28, "kitchen": 0.15, "office": 0.25}

# the walls in clockwise order: y = width, x = 0, y = 0, x = length, and the yaw that turns a back to them
_WALL_YAW = (0.0, np.pi / 2, np.pi, -np.pi / 2)


def make_scene(rng: Rng) -> Scene:
    """Draw one furnished room."""
    kind = str(rng.choice(list(_KIND_SHARES), p=list(_KIND_SHARES.values())))
    size = (float(rng.uniform(2.9, 5.8)), float(rng.uniform(2.9, 5.8)), float(rng.uniform(2.3, 2.9)))
    room = _Furnishing(rng, size)
    always, optional = (names.split() for names in _PLANS[kind])
    extras = [optional[i] for i in rng.permutation(len(optional))]
    count = int(np.clip(size[0] * size[1] / 2.2, 4, 10) * rng.uniform(0.7, 1.2))
    if kind == "kitchen" or rng.random() < 0.2:
        room.add_dining_group()
    for name in [*always, *extras[:count]]:
        room.add_along_wall(name)
    if rng.random() < 0.4:
        room.add_rug()
    windows = room.hang_fixtures()
    lights = room.add_lights(windows)
    return Scene(kind, _shell(rng, size), tuple(room.pieces), tuple(room.footprints), lights, float(rng.uniform(0.3, 0.55)))


def _shell(rng: Rng, size: tuple[float, float, float]) -> Shell:
    plain = mat.wall(rng)
    walls = [plain] * 4
    if rng.random() < 0.3:
        walls[int(rng.integers(4))] = mat.accent_wall(rng)
    skirting = mat.wood(rng) if rng.random() < 0.3 else Material("plain", (0.85,) * 3, (0.8,) * 3, 0.3)
    height = float(rng.uniform(0.06, 0.12)) if rng.random() < 0.7 else 0.0
    return Shell(size, mat.floor(rng), mat.ceiling(rng), (walls[0], walls[1], walls[2], walls[3]), skirting, height)


class _Furnishing:
    """A room being filled: keeps track of taken floor and taken wall."""

    def __init__(self, rng: Rng, size: tuple[float, float, float]) -> None:
        self.rng = rng
        self.size = size
        self.pieces: list[Piece] = []
        self.footprints: list[Footprint] = []
        self.against_wall: list[list[tuple[float, float, float]]] = [[], [], [], []]  # from, to, height in metres

    def _put(self, item: Item, x: float, y: float, yaw: float, z: float = 0.0) -> None:
        self.pieces.append(Piece(item.name, item.shapes, (float(x), float(y), float(z)), float(yaw)))

    def _reserve(self, item: Item, x: float, y: float, yaw: float, gap_m: float = 0.04) -> bool:
        """Take the floor under an item, or say that it is not free."""
        w, d = (item.width_m, item.depth_m) if abs(np.cos(yaw)) > 0.7 else (item.depth_m, item.width_m)
        place = Footprint(float(x), float(y), w, d, item.height_m)
        if x - w / 2 < 0 or y - d / 2 < 0 or x + w / 2 > self.size[0] or y + d / 2 > self.size[1]:
            return False
        if any(place.overlaps(other, gap_m) for other in self.footprints):
            return False
        self.footprints.append(place)
        return True

    def _on_wall(self, wall: int, along: float, out: float) -> tuple[float, float]:
        """Floor position `along` a wall and `out` metres into the room."""
        length, width, _ = self.size
        return [(along, width - out), (out, along), (along, out), (length - out, along)][wall]

    def _wall_length(self, wall: int) -> float:
        return self.size[wall % 2]

    def add_along_wall(self, name: str) -> None:
        """Stand a piece with its back to some wall, with what belongs beside it; skipped when nothing is free."""
        rng, item = self.rng, _MAKERS[name](self.rng)
        for _ in range(14):
            wall = int(rng.integers(4))
            length = self._wall_length(wall)
            if length < item.width_m + 0.1:
                continue
            along = float(rng.uniform(item.width_m / 2 + 0.02, length - item.width_m / 2 - 0.02))
            x, y = self._on_wall(wall, along, item.depth_m / 2 + float(rng.uniform(0.01, 0.06)))
            yaw = _WALL_YAW[wall]
            if self._reserve(item, x, y, yaw):
                break
        else:
            return
        self._put(item, x, y, yaw)
        self.against_wall[wall].append((along - item.width_m / 2, along + item.width_m / 2, item.height_m))
        self._add_companions(name, item, x, y, yaw)

    def _add_companions(self, name: str, item: Item, x: float, y: float, yaw: float) -> None:
        rng = self.rng
        ahead = np.array([np.sin(yaw), -np.cos(yaw)])
        aside = np.array([np.cos(yaw), np.sin(yaw)])
        if name == "desk" and rng.random() < 0.85:
            self._add_ahead(furniture.chair(rng), item, (x, y), ahead, float(rng.uniform(0.02, 0.4)), yaw + np.pi)
        elif name == "sofa" and rng.random() < 0.7:
            self._add_ahead(furniture.table(rng, "coffee"), item, (x, y), ahead, float(rng.uniform(0.25, 0.5)), yaw)
        elif name == "bed" and rng.random() < 0.8:
            for side in (-1, 1):
                stand = storage.cabinet(rng, "nightstand")
                across = side * (item.width_m / 2 + stand.width_m / 2 + 0.05)
                at = np.array([x, y]) + aside * across - ahead * (item.depth_m / 2 - stand.depth_m / 2)
                if self._reserve(stand, at[0], at[1], yaw, 0.0):
                    self._put(stand, at[0], at[1], yaw)

    def _add_ahead(
        self, item: Item, behind: Item, at: tuple[float, float], ahead: np.ndarray, gap_m: float, yaw: float
    ) -> None:
        x, y = np.array(at) + ahead * (behind.depth_m / 2 + gap_m + item.depth_m / 2)
        if self._reserve(item, x, y, yaw, 0.0):
            self._put(item, x, y, yaw + self.rng.normal(0, 0.12))

    def add_dining_group(self) -> None:
        """A table in the open with alike chairs around it."""
        rng, (length, width, _) = self.rng, self.size
        table = furniture.table(rng, "dining" if rng.random() < 0.6 else "round")
        yaw = float(rng.integers(2)) * np.pi / 2
        for _ in range(12):
            x, y = rng.uniform(1, max(1.01, length - 1)), rng.uniform(1, max(1.01, width - 1))
            if self._reserve(table, x, y, yaw, 0.1):
                break
        else:
            return
        self._put(table, x, y, yaw + rng.normal(0, 0.06))
        chair = furniture.chair(rng, office=False)
        w, d = (table.width_m, table.depth_m) if yaw == 0 else (table.depth_m, table.width_m)
        aside, ahead = w / 2 + 0.25, d / 2 + 0.25
        for dx, dy, turn in ((aside, 0, -np.pi / 2), (-aside, 0, np.pi / 2), (0, ahead, 0.0), (0, -ahead, np.pi)):
            if rng.random() < 0.8 and self._reserve(chair, x + dx, y + dy, turn, -0.25):
                self._put(chair, x + dx, y + dy, turn + rng.normal(0, 0.2))

    def add_rug(self) -> None:
        rng = self.rng
        w, d = float(rng.uniform(1.0, 2.4)), float(rng.uniform(0.8, 1.8))
        shape = box(Label.FLOOR, mat.rug(rng), (-w / 2, w / 2), (-d / 2, d / 2), (0, 0.01)).shadowless()
        x, y = rng.uniform(0.8, self.size[0] - 0.8), rng.uniform(0.8, self.size[1] - 0.8)
        self._put(Item("rug", (shape,), w, d, 0.01), x, y, rng.choice([0, np.pi / 2]) + rng.normal(0, 0.05))

    def hang_fixtures(self) -> list[tuple[float, float, float, float]]:
        """Windows, doors, televisions, shelves and pictures; returns (x, y, z, width) of the windows."""
        rng, ceiling = self.rng, self.size[2]
        windows: list[tuple[float, float, float, float]] = []
        for wall in rng.permutation(4).tolist():
            taken: list[tuple[float, float]] = []
            if len(windows) < 2 and rng.random() < 0.55:
                item = fixtures.window(rng, ceiling)
                along = self._hang(item, wall, taken, floor_clear_m=1.0)
                if along is not None:
                    windows.append((*self._on_wall(wall, along, 0.25), 1.6, item.width_m))
            if rng.random() < 0.3:
                self._hang(fixtures.door(rng), wall, taken, floor_clear_m=0.1)
            if rng.random() < 0.1:
                self._hang(fixtures.wall_tv(rng), wall, taken, floor_clear_m=0.8)
            if rng.random() < 0.2:
                self._hang(fixtures.wall_shelf(rng), wall, taken, floor_clear_m=1.0)
            for _ in range(int(rng.integers(0, 5))):
                self._hang(fixtures.picture(rng, ceiling), wall, taken, floor_clear_m=1.1)
        return windows

    def _hang(self, item: Item, wall: int, taken: list[tuple[float, float]], *, floor_clear_m: float) -> float | None:
        """Fix an item to a wall where no other hangs and no furniture reaches above `floor_clear_m`."""
        length, half = self._wall_length(wall), item.width_m / 2
        if length < item.width_m + 0.2:
            return None
        for _ in range(8):
            along = float(self.rng.uniform(half + 0.1, length - half - 0.1))
            if any(a < along + half and b > along - half for a, b in taken):
                continue
            if any(a < along + half and b > along - half and h > floor_clear_m for a, b, h in self.against_wall[wall]):
                continue
            taken.append((along - half - 0.06, along + half + 0.06))
            self._put(item, *self._on_wall(wall, along, 0.0), _WALL_YAW[wall])
            return along
        return None

    def add_lights(self, windows: list[tuple[float, float, float, float]]) -> tuple[Light, ...]:
        """Ceiling lamps and daylight from the windows, at most three altogether."""
        rng, (length, width, height) = self.rng, self.size
        lights = []
        for x, y, z, w in windows:
            strength = float(rng.uniform(0.6, 2.2))
            lights.append(Light((x, y, z), min(0.5, 0.35 * w), (0.9 * strength, 0.97 * strength, 1.08 * strength)))
        for _ in range(int(rng.integers(1, 3))):
            x, y = float(rng.uniform(0.3, 0.7)) * length, float(rng.uniform(0.3, 0.7)) * width
            warm, strength = float(rng.uniform(0, 1)), float(rng.uniform(0.5, 1.6))
            glass = Material("plain", (1.0, 0.95, 0.85), (1.0, 1.0, 1.0), 1.0, 0, 0.0, 1.5 * strength)
            lamp: tuple[Shape, ...]
            if rng.random() < 0.5:
                lamp = (cylinder(Label.OBJECTS, glass, 0, 0, (height - 0.1, height - 0.001), 0.16).shadowless(),)
                z = height - 0.14
            else:
                drop = float(rng.uniform(0.3, 0.7))
                cord = cylinder(Label.OBJECTS, mat.black_plastic(rng), 0, 0, (height - drop, height), 0.008).shadowless()
                lamp = (cord, ellipsoid(Label.OBJECTS, glass, (0, 0, height - drop), (0.13, 0.13, 0.1)).shadowless())
                z = height - drop - 0.14
            self._put(Item("ceiling_lamp", lamp, 0.3, 0.3, height), x, y, 0.0)
            lights.append(Light((x, y, z), 0.18, (strength, strength * (1 - 0.1 * warm), strength * (1 - 0.3 * warm))))
        return tuple(lights[:_MOST_LIGHTS])
