"""From a seed to a labelled frame of a street. What stands where follows from the seed alone; weather only lights it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtl.datasets.bdd100k.lane_bits import BACKGROUND
from mtl.datasets.worlds.camera import Intrinsics, Pose, look
from mtl.datasets.worlds.casting import Caster, PlacedPiece
from mtl.datasets.worlds.objects import SeenObjects, least_seen, objects_in_view
from mtl.datasets.worlds.photograph import photograph
from mtl.datasets.worlds.shading import antialiased
from mtl.datasets.worlds.surfaces import camera_normals, surfaces_seen

from .classes import SCENES, TIMES, WEATHERS, Drivable, Scene, Time, Weather
from .conditions import Conditions, draw_conditions
from .layout import make_street
from .light import fogged, radiance, rained
from .road import FAR_M
from .scene import GROUND, SKY, Street, Surroundings

__all__ = ["DEFAULT_OPTIONS", "RENDERER_VERSION", "StreetOptions", "StreetSample", "StreetView", "render_street"]

Array = np.ndarray

RENDERER_VERSION = 1  # goes up with every change that alters a single pixel
_LEAST_SIDE_PX = 16
_KINDS, _LENS, _STREET, _SKY, _SENSOR = 1, 2, 3, 4, 5
"""Streams of random numbers of a seed."""
_SCENE_SHARES = {"city street": 0.45, "highway": 0.25, "residential": 0.3}
_LEAST_SHARE = 0.5
"""Objects may be half as small as those of rooms: a car 60 m away is nine pixels high at 384x640."""


@dataclass(frozen=True, slots=True)
class StreetOptions:
    """What varies between frames. All of it is decided by the seed.

    Attributes:
        scenes, weathers, times: those that there are; one is drawn for each frame.
        camera_m: height of the camera above the ground, least and most.
        focal: focal length in widths of the image, least and most.
        left_hand: share of frames in which traffic keeps left.
        noise: of the sensor, 0 for none.
    """

    scenes: tuple[Scene, ...] = SCENES
    weathers: tuple[Weather, ...] = WEATHERS
    times: tuple[Time, ...] = TIMES
    camera_m: tuple[float, float] = (1.2, 1.7)
    focal: tuple[float, float] = (0.75, 0.875)
    left_hand: float = 0.25
    motion_blur_fraction: float = 0.12
    noise: float = 1.0
    antialias: bool = True

    def __post_init__(self) -> None:
        for name, known in (("scenes", SCENES), ("weathers", WEATHERS), ("times", TIMES)):
            given: tuple[str, ...] = getattr(self, name)
            if not given or len(set(given)) != len(given) or not set(given) <= set(known):
                raise ValueError(f"{name} should be some of {', '.join(known)}, each once, found {', '.join(given) or 'none'}")
        for name in ("camera_m", "focal"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} is (low, high) with 0 < low <= high, not {getattr(self, name)}")
        for name in ("left_hand", "motion_blur_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.noise < 0:
            raise ValueError(f"noise is 0 or more, not {self.noise}")


DEFAULT_OPTIONS = StreetOptions()


@dataclass(frozen=True, slots=True, eq=False)
class StreetSample:
    """One frame with its exact ground truth.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        label: (H, W) uint8, 19 classes.
        drivable: (H, W) uint8, see `Drivable`.
        lanes: (H, W) uint8, lane marks in the bits of BDD100K.
        depth_m: (H, W) float32 along z, 0 beyond 80 m and in the sky.
        normals: (H, W, 3) float32, unit, camera frame; 0 in the sky.
        intrinsics: fx, fy, cx, cy at this size.
        objects: by index into `OBJECT_CLASSES`.
        truncated: (N,) bool, whether an object reaches out of the frame.
        scene, weather, time: indices into `SCENES`, `WEATHERS`, `TIMES`.
    """

    image: Array
    label: Array
    drivable: Array
    lanes: Array
    depth_m: Array
    normals: Array
    intrinsics: tuple[float, float, float, float]
    seed: int
    objects: SeenObjects
    truncated: Array
    scene: int
    weather: int
    time: int


def render_street(seed: int, height: int, width: int, *, options: StreetOptions = DEFAULT_OPTIONS) -> StreetSample:
    """Render the street of a seed; the same arguments always give the same arrays.

    Raises:
        ValueError: a negative seed, or a frame that is too small.
    """
    return StreetView.of(seed, height, width, options=options).rendered()


@dataclass(frozen=True, slots=True, eq=False)
class StreetView:
    """A street, who looks at it, and by which light."""

    street: Street
    around: Surroundings
    caster: Caster
    pose: Pose
    lens: Intrinsics
    size: tuple[int, int]
    seed: int
    options: StreetOptions

    @classmethod
    def of(cls, seed: int, height: int, width: int, *, options: StreetOptions = DEFAULT_OPTIONS) -> StreetView:
        """See `render_street`."""
        if min(height, width) < _LEAST_SIDE_PX:
            raise ValueError(f"a frame is at least {_LEAST_SIDE_PX} pixels a side, not {height}x{width}")
        if seed < 0:
            raise ValueError(f"a seed is 0 or more, not {seed}")
        scene, weather, time, left_hand = _draw_kinds(seed, options)
        conditions = draw_conditions(np.random.default_rng([seed, _SKY]), weather, time)
        rng = np.random.default_rng([seed, _STREET])
        street = make_street(rng, scene, left_hand=left_hand, dark=conditions.dark, wet=conditions.wet)
        pose, focal = _draw_camera(np.random.default_rng([seed, _LENS]), street, options)
        lens = Intrinsics(focal * width, focal * width, (width - 1) / 2, (height - 1) / 2)
        around = Surroundings(street, conditions, seed % 9973)
        return cls(street, around, Caster(street.pieces, around), pose, lens, (height, width), seed, options)

    @property
    def conditions(self) -> Conditions:
        return self.around.conditions

    def rendered(self) -> StreetSample:
        """The frame."""
        height, width = self.size
        depth, number, directions = self.caster.view(self.pose, self.lens, height, width)
        flat = directions.reshape(3, -1)
        seen = surfaces_seen(self.caster, self.around, self.pose, depth.ravel(), number.ravel(), flat, self.lens.fx)
        light = radiance(self.caster, self.around, self.pose, seen, height, width)
        light = fogged(light, depth.ravel(), flat, self.conditions)
        if self.options.antialias:
            light = antialiased(self.caster, self.pose, self.lens, number, light)
        image = self._photographed(np.ascontiguousarray(light.T).reshape(height, width, 3))
        drivable, lanes = self._ground_truth(number, seen.points_m, depth)
        normals = camera_normals(self.pose, seen.normals).reshape(height, width, 3)
        sky = number == SKY
        objects, kept = self._objects(number)
        kinds = (
            SCENES.index(self.street.scene), WEATHERS.index(self.conditions.weather), TIMES.index(self.conditions.time),
        )  # fmt: skip
        return StreetSample(
            image,
            seen.label.reshape(height, width),
            drivable,
            lanes,
            np.where(sky | (depth > FAR_M), np.float32(0), depth),
            np.where(sky[..., None], np.float32(0), normals),
            (self.lens.fx, self.lens.fy, self.lens.cx, self.lens.cy),
            self.seed,
            objects,
            np.array([self._truncated(self.caster.pieces[index]) for index in kept], bool),
            *kinds,
        )

    def _photographed(self, light: Array) -> Array:
        rng = np.random.default_rng([self.seed, _SENSOR])
        light = rained(light, rng, self.conditions)
        noise = self.options.noise * self.conditions.noise
        return photograph(
            light,
            rng,
            motion_blur_fraction=self.options.motion_blur_fraction,
            noise=noise,
            exposure=self.conditions.exposure,
        )

    def _ground_truth(self, number: Array, points_m: Array, depth: Array) -> tuple[Array, Array]:
        """Drivable area and lane marks where the ground is seen."""
        drivable = np.full(number.shape, Drivable.BACKGROUND, np.uint8)
        lanes = np.full(number.shape, BACKGROUND, np.uint8)
        ground = number == GROUND
        if ground.any():
            points = points_m.reshape(3, *number.shape)[:, ground]
            along, across = self.street.road.locate(points[0], points[1])
            drivable[ground] = self.street.road.drivable(along, across)
            lanes[ground] = self.street.road.lane_bits(along, across, depth[ground] / self.lens.fx)
        return drivable, lanes

    def _objects(self, number: Array) -> tuple[SeenObjects, list[int]]:
        by_piece = {piece.first: one for piece, one in zip(self.caster.pieces, self.street.classes, strict=True)}
        least_px, least_side = least_seen(self.size)
        return objects_in_view(
            self.caster,
            number,
            self.pose,
            self.lens,
            class_of=lambda piece, _: by_piece[piece.first],
            least=(least_px * _LEAST_SHARE**2, least_side * _LEAST_SHARE),
        )

    def _truncated(self, piece: PlacedPiece) -> bool:
        """Whether the bounds of a piece reach out of the frame, or behind the camera."""
        height, width = self.size
        offset = piece.corners_m.reshape(-1, 3) - self.pose.position_m
        x, y, z = (offset @ self.pose.axes).T
        if z.min() < 0.05:
            return True
        u, v = x / z * self.lens.fx + self.lens.cx, y / z * self.lens.fy + self.lens.cy
        return bool(u.min() < -0.5 or v.min() < -0.5 or u.max() > width - 0.5 or v.max() > height - 0.5)


def _draw_kinds(seed: int, options: StreetOptions) -> tuple[Scene, Weather, Time, bool]:
    """Kinds of a frame by its seed, of those that there are; each by a draw of its own."""
    scene, weather, time, side = np.random.default_rng([seed, _KINDS]).random(4)
    shares = np.cumsum([_SCENE_SHARES[one] for one in options.scenes])
    return (
        options.scenes[int(np.searchsorted(shares, scene * shares[-1], side="right"))],
        options.weathers[int(weather * len(options.weathers))],
        options.times[int(time * len(options.times))],
        bool(side < options.left_hand),
    )


def _draw_camera(rng: np.random.Generator, street: Street, options: StreetOptions) -> tuple[Pose, float]:
    """Behind a windscreen, looking along the lane; and the focal length in widths."""
    focal = float(np.exp(rng.uniform(*np.log(options.focal))))
    aside = street.road.lane_middle(street.road.lane) + float(rng.normal(0, 0.25))
    x, y, heading = street.road.place(0.0, aside)
    yaw, pitch, roll = float(rng.normal(0, 0.03)), float(rng.normal(-0.02, 0.025)), float(rng.normal(0, 0.008))
    z = float(rng.uniform(*options.camera_m))
    side = -1.0 if street.road.left_hand else 1.0
    return look((x, y, z), heading + side * yaw, pitch, side * roll), focal
