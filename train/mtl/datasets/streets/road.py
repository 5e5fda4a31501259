"""A road as analytic functions of where a point lies along and across it: lanes, marks, what may be driven on.

The same functions colour the ground and label it, so that labels are exact at any pixel. `along` is metres on the centre line
from the camera, forward; `across` is metres from the centre line towards the side of oncoming traffic. Where traffic keeps left
the world is the mirror image of one where it keeps right.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from mtl.datasets.bdd100k.lane_bits import BACKGROUND, lane_byte
from mtl.datasets.worlds.materials import Colour

from .classes import Drivable, Label

__all__ = ["FAR_M", "Mark", "Road", "Stripes", "Zone"]

Array = np.ndarray

FAR_M = 80.0
"""As far as lanes and depth are true of."""
DRIVE_M = 60.0
"""As far as the area in front is called drivable, where nothing blocks it before."""
_STRAIGHT = 1e-6
_LEAST_LINE_PX = 1.5
"""Half the width, in pixels, that a line has at least in labels: paint far away is thinner than a pixel."""


class Zone(IntEnum):
    """What a strip of ground is."""

    ASPHALT = 0
    PARKING = 1
    CURB = 2
    SIDEWALK = 3
    GRASS = 4


ZONE_LABELS = np.array([Label.ROAD, Label.ROAD, Label.SIDEWALK, Label.SIDEWALK, Label.TERRAIN], np.uint8)


@dataclass(frozen=True, slots=True)
class Mark:
    """A line along the road, `across` metres from the centre line; dashes of `dash_m` every `period_m`, 0 for a solid one."""

    across: float
    width_m: float
    category: str
    colour: Colour
    dash_m: float = 0.0
    period_m: float = 0.0
    phase_m: float = 0.0
    double: bool = False

    @property
    def style(self) -> str:
        return "dashed" if self.period_m else "solid"

    def distance(self, across: Array) -> Array:
        """From the middle of the mark, or of the nearer of two lines."""
        away = np.abs(across - self.across)
        return np.abs(away - self.width_m) if self.double else away

    def reach_m(self) -> float:
        """Half of its whole width."""
        return 1.5 * self.width_m if self.double else self.width_m / 2


@dataclass(frozen=True, slots=True)
class Stripes:
    """A crosswalk between two distances, and the line before it where cars stop."""

    start_m: float
    end_m: float
    stop_m: float
    colour: Colour = (0.75, 0.75, 0.72)


@dataclass(frozen=True, slots=True)
class Road:
    """See the module.

    Attributes:
        curvature: 1/m of the centre line, positive towards the side of oncoming traffic.
        lane_m: width of a lane.
        forward, backward: lanes in the direction of the car, and against it.
        lane: the car's own, 0 being next to the centre line.
        strips: from the edge of the lanes outwards, (zone, width), by side: (own side, side of oncoming traffic).
        median_m: a strip of grass between the directions, 0 for none; it lies beyond the centre line.
        marks: lines along the road.
        stripes: a crosswalk, or None.
        blocked_m: for each forward lane, how far it is free.
        left_hand: whether traffic keeps left.
    """

    curvature: float
    lane_m: float
    forward: int
    backward: int
    lane: int
    strips: tuple[tuple[tuple[Zone, float], ...], tuple[tuple[Zone, float], ...]]
    median_m: float
    marks: tuple[Mark, ...]
    stripes: Stripes | None
    blocked_m: tuple[float, ...]
    left_hand: bool

    # ---- where things are

    def locate(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Points on the ground as (along, across), float64."""
        x = np.asarray(x, np.float64)
        y = np.asarray(y, np.float64) * (-1.0 if self.left_hand else 1.0)
        if abs(self.curvature) < _STRAIGHT:
            return x, y
        radius, sign = 1.0 / abs(self.curvature), np.sign(self.curvature)
        down = radius - sign * y
        return radius * np.arctan2(x, down), sign * (radius - np.hypot(x, down))

    def place(self, along: float, across: float) -> tuple[float, float, float]:
        """x, y and heading in radians of a point that is so far along and across."""
        side = -1.0 if self.left_hand else 1.0
        if abs(self.curvature) < _STRAIGHT:
            return along, across * side, 0.0
        radius, angle = 1.0 / self.curvature, along * self.curvature
        reach = radius - across
        return float(reach * np.sin(angle)), float((radius - reach * np.cos(angle)) * side), float(angle * side)

    def lane_middle(self, lane: int) -> float:
        """Across, of a forward lane; oncoming lanes are -1, -2, ..."""
        if lane >= 0:
            return -(lane + 0.5) * self.lane_m
        return self.median_m + (-lane - 0.5) * self.lane_m

    @property
    def edges(self) -> tuple[float, float]:
        """Across, of the outer edges of the lanes: own side, oncoming side."""
        return -self.forward * self.lane_m, self.median_m + self.backward * self.lane_m

    def strip(self, oncoming: bool, zone: Zone) -> tuple[float, float] | None:
        """Across, from and to of a strip beside the lanes, the nearer first; None where there is none."""
        at = self.edges[oncoming]
        out = 1.0 if oncoming else -1.0
        for one, width in self.strips[oncoming]:
            if one == zone:
                return at, at + out * width
            at += out * width
        return None

    def outer_edge(self, oncoming: bool) -> float:
        """Across, where the last strip ends."""
        return self.edges[oncoming] + (1.0 if oncoming else -1.0) * sum(width for _, width in self.strips[oncoming])

    # ---- what the ground is

    def zones(self, across: Array) -> Array:
        """The zone of points, (N,) uint8; beyond the last strip the ground is like it, grass where it is a curb."""
        found = np.full(across.shape, Zone.ASPHALT, np.uint8)
        if self.median_m:
            found[(across > 0) & (across < self.median_m)] = Zone.GRASS
        for oncoming in (False, True):
            out = 1.0 if oncoming else -1.0
            away = (across - self.edges[oncoming]) * out
            at, last = 0.0, Zone.GRASS
            for zone, width in self.strips[oncoming]:
                found[(away >= at) & (away < at + width)] = zone
                at, last = at + width, zone
            found[away >= at] = last if last in (Zone.SIDEWALK, Zone.GRASS) else Zone.GRASS
        return found

    def on_lanes(self, across: Array) -> Array:
        """Whether points are on a lane or on the strip between directions."""
        low, high = self.edges
        return (across >= low) & (across <= high)

    def lane_bits(self, along: Array, across: Array, pixel_m: Array) -> Array:
        """(N,) uint8 in BDD100K's layout, by the nearest line: paint, and the gaps between dashes, which are lines there too.

        Args:
            pixel_m: (N,) how wide a pixel is; lines are three pixels wide at least.
        """
        found = np.full(across.shape, BACKGROUND, np.uint8)
        near = (along < FAR_M) & (along > -FAR_M)
        least = _LEAST_LINE_PX * pixel_m
        for oncoming in (False, True):
            curb = self.strip(oncoming, Zone.CURB)
            if curb is not None:
                middle, half = (curb[0] + curb[1]) / 2, abs(curb[1] - curb[0]) / 2
                on = near & (np.abs(across - middle) < np.maximum(half, least))
                found[on] = lane_byte("road curb")
        for mark in self.marks:
            on = near & (np.abs(across - mark.across) < np.maximum(mark.reach_m(), least)) & ~self._crossing(along)
            found[on] = lane_byte(mark.category, style=mark.style)
        if self.stripes is not None:
            within = self.on_lanes(across)
            found[within & self._crossing(along)] = lane_byte("crosswalk", direction="vertical")
            own = within & (across <= 0)
            stop = own & (np.abs(along - self.stripes.stop_m) < 0.2)
            found[stop] = lane_byte("single white", direction="vertical")
        return found

    def _crossing(self, along: Array) -> Array:
        if self.stripes is None:
            return np.zeros(along.shape, bool)
        return (along >= self.stripes.start_m) & (along <= self.stripes.end_m)

    def drivable(self, along: Array, across: Array) -> Array:
        """(N,) uint8 `Drivable`: every forward lane up to what blocks it."""
        found = np.full(across.shape, Drivable.BACKGROUND, np.uint8)
        for lane in range(self.forward):
            inside = (across < -lane * self.lane_m) & (across >= -(lane + 1) * self.lane_m)
            free = inside & (along < min(self.blocked_m[lane], DRIVE_M)) & (along > -DRIVE_M)
            found[free] = Drivable.DIRECT if lane == self.lane else Drivable.ALTERNATIVE
        return found

    def paint(self, along: Array, across: Array, pixel_m: Array) -> tuple[Array, Array]:
        """How much of a pixel is paint, (N,) float32 in 0..1, and its colour, (3, N); thin paint fades."""
        cover = np.zeros(across.shape, np.float32)
        colour = np.zeros((3, *across.shape), np.float32)
        step = np.maximum(pixel_m, 1e-4)
        for mark in self.marks:
            away = mark.distance(across)
            if not (away < mark.width_m / 2 + step).any():
                continue
            own = np.clip((mark.width_m / 2 - away) / step + 0.5, 0, 1) * np.minimum(1, mark.width_m / step)
            if mark.period_m:
                where = (along + mark.phase_m) % mark.period_m
                long = 4 * step  # a pixel is longer than wide on the ground
                own = own * np.clip((mark.dash_m / 2 - np.abs(where - mark.dash_m / 2)) / long + 0.5, 0, 1)
            own = own * ~self._crossing(along)
            closer = own > cover
            cover[closer] = own[closer]
            colour[:, closer] = np.asarray(mark.colour, np.float32)[:, None]
        if self.stripes is not None:
            within = self.on_lanes(across)
            bars = np.clip((0.25 - np.abs(across % 1.0 - 0.5)) / step + 0.5, 0, 1) * (within & self._crossing(along))
            stop = within & (across <= 0) & (np.abs(along - self.stripes.stop_m) < 0.2)
            own = np.maximum(bars, stop)
            closer = own > cover
            cover[closer] = own[closer]
            colour[:, closer] = np.asarray(self.stripes.colour, np.float32)[:, None]
        return cover, colour
