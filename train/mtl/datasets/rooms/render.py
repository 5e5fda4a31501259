"""From a seed to a labelled frame: draw a room, find a view, render it, lay it on the canvas.

What stands where needs rays alone (`cast_room`); light and colour take most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtl.datasets.worlds.camera import Intrinsics, Pose
from mtl.datasets.worlds.casting import Caster
from mtl.datasets.worlds.materials import Rng
from mtl.datasets.worlds.objects import SeenObjects
from mtl.datasets.worlds.photograph import photograph
from mtl.datasets.worlds.shading import antialiased
from mtl.datasets.worlds.surfaces import camera_normals, surfaces_seen

from .instances import objects_seen, scene_index
from .labels import VOID, Label
from .layout import make_scene
from .scene import Scene
from .sensor import lost_depth, unlabelled
from .shading import radiance
from .viewpoint import draw_pose

RENDERER_VERSION = 1  # goes up with every change that alters a single pixel

_LEAST_SIDE_PX = 16
_PREVIEW_SIZE = (24, 32)
_WIDE_ASPECT = 16 / 9
_LENS, _SCENE, _SENSOR = 1, 2, 3
"""Streams of random numbers of a seed."""


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """What varies between frames. All of it is decided by the seed."""

    wide_fraction: float = 0.15  # share of 16:9 frames, letterboxed on the canvas
    focal_factor: tuple[float, float] = (0.8, 1.25)  # times the canonical focal length
    motion_blur_fraction: float = 0.12
    noise: float = 1.0  # sensor noise, 0 for none
    antialias: bool = True
    invalid_depth: bool = False  # holes like those of a structured-light depth camera
    void_labels: bool = False  # unlabelled boundaries and small things

    def __post_init__(self) -> None:
        low, high = self.focal_factor
        if not 0 < low <= high:
            raise ValueError(f"focal_factor is (low, high) with 0 < low <= high, not {self.focal_factor}")
        for name in ("wide_fraction", "motion_blur_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, not {getattr(self, name)}")
        if self.noise < 0:
            raise ValueError(f"noise is 0 or more, not {self.noise}")


@dataclass(frozen=True, slots=True)
class RoomSample:
    """One frame with its exact ground truth.

    Objects and the kind of room are None where frames were read without them.
    """

    image: np.ndarray  # (H, W, 3) uint8 RGB
    label: np.ndarray  # (H, W) uint8, 255 void
    depth_m: np.ndarray  # (H, W) float32 along z, 0 where invalid
    normals: np.ndarray  # (H, W, 3) float32, unit, camera frame; 0 where invalid
    intrinsics: tuple[float, float, float, float]  # fx, fy, cx, cy at this size
    seed: int
    objects: SeenObjects | None = None
    scene: int | None = None  # index into SCENE_CLASSES


DEFAULT_OPTIONS = RenderOptions()


def render_room(seed: int, height: int, width: int, *, options: RenderOptions = DEFAULT_OPTIONS) -> RoomSample:
    """Render the room of a seed on a canvas; the same arguments always give the same arrays."""
    view = _View.of(seed, height, width, options)
    sensor_rng = np.random.default_rng([seed, _SENSOR])
    maps, objects = _render(view.scene, view.caster, view.pose, view.inner, view.size, sensor_rng, options, (height, width))
    image, label, depth, normals = maps
    top, left = view.bars
    if view.size != (height, width):
        bars = ((top, height - view.size[0] - top), (left, width - view.size[1] - left))
        image, normals = (np.pad(array, (*bars, (0, 0))) for array in (image, normals))
        label, depth = np.pad(label, bars, constant_values=VOID), np.pad(depth, bars)
    lens = (view.lens.fx, view.lens.fy, view.lens.cx, view.lens.cy)
    return RoomSample(image, label, depth, normals, lens, seed, objects.moved(left, top), scene_index(view.scene.kind))


def cast_room(seed: int, height: int, width: int, *, options: RenderOptions = DEFAULT_OPTIONS) -> tuple[SeenObjects, int]:
    """Objects and kind of the room that `render_room` renders from the same arguments, without rendering it."""
    view = _View.of(seed, height, width, options)
    _, number, _ = view.caster.view(view.pose, view.inner, *view.size)
    objects = objects_seen(view.caster, number, view.pose, view.inner, canvas=(height, width))
    top, left = view.bars
    return objects.moved(left, top), scene_index(view.scene.kind)


@dataclass(frozen=True, slots=True)
class _View:
    """What the frame of a seed shows, and how it lies on the canvas.

    Attributes:
        lens: of the canvas.
        inner: the same, of the frame within.
        size: (height, width) of that frame.
        bars: rows above it and columns before it.
    """

    scene: Scene
    caster: Caster
    pose: Pose
    lens: Intrinsics
    inner: Intrinsics
    size: tuple[int, int]
    bars: tuple[int, int]

    @classmethod
    def of(cls, seed: int, height: int, width: int, options: RenderOptions) -> _View:
        """Raises ValueError for a frame that is too small and for a negative seed."""
        if min(height, width) < _LEAST_SIDE_PX:
            raise ValueError(f"a frame is at least {_LEAST_SIDE_PX} pixels a side, not {height}x{width}")
        if seed < 0:
            raise ValueError(f"a seed is 0 or more, not {seed}")
        focal_factor, wide = _draw_lens(seed, options)
        scene, caster, pose = _find_view(np.random.default_rng([seed, _SCENE]), focal_factor)
        frame_h, frame_w = _fit(_WIDE_ASPECT, height, width) if wide else (height, width)
        lens = Intrinsics.canonical(height, width, focal_factor)
        top, left = (height - frame_h) // 2, (width - frame_w) // 2
        inner = Intrinsics(lens.fx, lens.fy, lens.cx - left, lens.cy - top)
        return cls(scene, caster, pose, lens, inner, (frame_h, frame_w), (top, left))


@dataclass(frozen=True, slots=True)
class Room:
    """A room to be seen from anywhere, by its seed the one of `render_room`."""

    scene: Scene
    caster: Caster
    seed: int

    @classmethod
    def of(cls, seed: int, *, options: RenderOptions = DEFAULT_OPTIONS) -> Room:
        """Draw the room of a seed."""
        focal_factor, _ = _draw_lens(seed, options)
        scene, caster, _ = _find_view(np.random.default_rng([seed, _SCENE]), focal_factor)
        return cls(scene, caster, seed)

    def seen_from(
        self, pose: Pose, lens: Intrinsics, height: int, width: int, *, shot: int = 0, options: RenderOptions = DEFAULT_OPTIONS
    ) -> RoomSample:
        """What a camera sees; `shot` numbers the frames, each of which has noise of its own. None is letterboxed."""
        sensor_rng = np.random.default_rng([self.seed, _SENSOR, shot])
        size = (height, width)
        maps, objects = _render(self.scene, self.caster, pose, lens, size, sensor_rng, options, size)
        intrinsics = (lens.fx, lens.fy, lens.cx, lens.cy)
        return RoomSample(*maps, intrinsics, self.seed, objects, scene_index(self.scene.kind))


def _draw_lens(seed: int, options: RenderOptions) -> tuple[float, bool]:
    """The focal length in canonical ones, and whether the frame is wide."""
    rng = np.random.default_rng([seed, _LENS])
    low, high = options.focal_factor
    return float(np.exp(rng.uniform(np.log(low), np.log(high)))), bool(rng.random() < options.wide_fraction)


def _fit(aspect: float, height: int, width: int) -> tuple[int, int]:
    """The largest frame of an aspect ratio inside a canvas."""
    if width / height > aspect:
        return height, round(height * aspect)
    return round(width / aspect), width


def _find_view(rng: Rng, focal_factor: float) -> tuple[Scene, Caster, Pose]:
    """A room and a view of it that shows several classes and is not blocked by something near."""
    height, width = _PREVIEW_SIZE
    lens = Intrinsics.canonical(height, width, focal_factor)
    best: tuple[float, Scene, Caster, Pose] | None = None
    for _ in range(3):
        scene = make_scene(rng)
        caster = Caster(scene.pieces, scene.shell)
        for _ in range(6):
            pose = draw_pose(rng, scene)
            depth, number, _ = caster.view(pose, lens, height, width, least_px=1.0)
            merit = _merit(caster, depth, number)
            if merit >= 1:
                return scene, caster, pose
            if best is None or merit > best[0]:
                best = (merit, scene, caster, pose)
    assert best is not None
    return best[1:]


def _merit(caster: Caster, depth_m: np.ndarray, number: np.ndarray) -> float:
    """1 or more for a good view, less the further it is from one."""
    things = np.unique(number[number >= 0])
    classes = {caster.owner[which][1].label for which in things.tolist()} - {Label.WALL, Label.FLOOR}
    variety = min(1.0, len(classes) / 3)
    furnished = min(1.0, float((number >= 0).mean()) / 0.45)
    distance = min(1.0, float(np.median(depth_m)) / 1.3)
    near = max(0.0, float((depth_m < 0.5).mean()) - 0.05)
    return variety * furnished * distance - 3 * near


def _render(
    scene: Scene,
    caster: Caster,
    pose: Pose,
    lens: Intrinsics,
    size: tuple[int, int],
    rng: Rng,
    options: RenderOptions,
    canvas: tuple[int, int],
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], SeenObjects]:
    """Image, label, depth and camera-frame normals of one frame without bars; its objects."""
    height, width = size
    depth, number, directions = caster.view(pose, lens, height, width)
    flat = directions.reshape(3, -1)
    seen = surfaces_seen(caster, scene.shell, pose, depth.ravel(), number.ravel(), flat, lens.fx)
    light = radiance(scene, caster, pose, seen, height, width)
    if options.antialias:
        light = antialiased(caster, pose, lens, number, light)
    light = np.ascontiguousarray(light.T).reshape(height, width, 3)
    image = photograph(light, rng, motion_blur_fraction=options.motion_blur_fraction, noise=options.noise)
    label = seen.label.reshape(height, width)
    normals = camera_normals(pose, seen.normals).reshape(height, width, 3)
    if options.invalid_depth:
        lost = lost_depth(depth, seen, flat, rng)
        depth, normals = np.where(lost, np.float32(0), depth), np.where(lost[..., None], np.float32(0), normals)
    if options.void_labels:
        label = np.where(unlabelled(seen, rng, height, width), np.uint8(VOID), label)
    return (image, label, depth, normals), objects_seen(caster, number, pose, lens, canvas=canvas)
