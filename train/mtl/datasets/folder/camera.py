"""The camera of a frame: one for all frames, scaled to their size, or a JSON file for each. Knows numbers and small files.

Whether a camera may be that of an image, `edge_mtl.image.camera_check` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.image.camera_check import camera_fault
from edge_mtl.image.frames import Intrinsics as Pinhole
from edge_mtl.numbers import is_number
from mtl.datasets.folder.section import Section, shown
from mtl.geometry import Intrinsics, canonical_intrinsics, crop_and_resize_intrinsics

__all__ = ["Camera", "CameraFiles", "NoCamera", "SharedCamera", "read_camera"]

_KEYS = ("fx", "fy", "cx", "cy")
_SAME_ASPECT = 0.01
"""Largest relative difference of two aspect ratios that count as equal: sizes are whole pixels."""
_SIZE_KEYS = ("width", "height")


@dataclass(frozen=True, slots=True)
class SharedCamera:
    """One camera for all frames.

    Attributes:
        size: (H, W) that the numbers are for; None: the size of the first image.
    """

    intrinsics: Intrinsics
    size: tuple[int, int] | None

    def of(self, root: Path, stem: str, size: tuple[int, int]) -> Intrinsics:
        """At the size of a frame. Raises BuildError where that is of another shape than the calibration, or it is no camera."""
        return _checked(_at_size(self.intrinsics, self.size, f"{root / 'dataset.toml'}: camera.size", stem, size), stem, size)


@dataclass(frozen=True, slots=True)
class CameraFiles:
    """A file of each frame, FOLDER/STEM.json, with fx, fy, cx, cy at the size of its image or at a stated width and height."""

    folder: str

    def of(self, root: Path, stem: str, size: tuple[int, int]) -> Intrinsics:
        """Read the file. Raises BuildError naming it."""
        path = root / self.folder / f"{stem}.json"
        try:
            content = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise BuildError(
                f"{path} is missing: expected fx, fy, cx, cy of the frame {stem}. Write it, or state one [camera]"
            ) from None
        except (OSError, ValueError) as exc:
            raise BuildError(f"{path} cannot be read ({exc}): expected JSON with fx, fy, cx, cy. Write it again") from exc
        stated = isinstance(content, Mapping) and not set(_SIZE_KEYS).isdisjoint(content)
        sides = tuple(content.get(key) for key in reversed(_SIZE_KEYS)) if stated else ()
        if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
            raise BuildError(
                f"{path}: expected width and height of the image in pixels, both or neither, found {shown(content)}"
            )
        numbers = {key: value for key, value in content.items() if key not in _SIZE_KEYS} if stated else content
        found = _intrinsics(numbers, str(path))
        at_size = _at_size(found, (sides[0], sides[1]) if stated else None, f"{path}: height, width", stem, size)
        return _checked(at_size, stem, size)


@dataclass(frozen=True, slots=True)
class NoCamera:
    """No task needs one: frames pass for those of the canonical camera, which changes nothing for labels."""

    def of(self, root: Path, stem: str, size: tuple[int, int]) -> Intrinsics:
        return canonical_intrinsics(*size)


Camera = SharedCamera | CameraFiles | NoCamera


def read_camera(top: Section, *, needed: bool) -> Camera:
    """The key `camera`: a table, a folder, or nothing where no task needs a camera. Raises BuildError."""
    noun = "a table [camera] with fx, fy, cx, cy, or the folder of a file for each frame, since depth and normals need it"
    value = top.take("camera", noun) if needed else top.take("camera", noun, None)
    if value is None:
        return NoCamera()
    if isinstance(value, str):
        return CameraFiles(top.folder("camera"))
    table = top.section("camera", noun)
    intrinsics = _intrinsics({key: table.take(key, "a number of pixels") for key in _KEYS}, f"{table.path}: camera")
    size = None
    if table.has("size"):
        sides = table.numbers("size", "[height, width] in pixels", 2)
        if min(sides) < 1 or any(side != int(side) for side in sides):
            raise table.error("size", f"expected [height, width] in pixels, found {shown(list(sides))}")
        size = (int(sides[0]), int(sides[1]))
    table.done()
    return SharedCamera(intrinsics, size)


def _at_size(found: Intrinsics, own: tuple[int, int] | None, where: str, stem: str, size: tuple[int, int]) -> Intrinsics:
    """A camera of images of a size, `own`, at the size of another image of the same shape. Raises BuildError."""
    if own is None or own == size:
        return found
    ours, theirs = own[1] / own[0], size[1] / size[0]
    if abs(ours - theirs) > _SAME_ASPECT * theirs:
        raise BuildError(
            f"{where} is {own[0]}x{own[1]}, the image {stem} is {size[0]}x{size[1]}: expected the same shape, since a cut "
            'image has another camera. Give each frame its own: camera = "cameras"'
        )
    return crop_and_resize_intrinsics(found, window=(0, 0, *own), size=size)


def _checked(found: Intrinsics, stem: str, size: tuple[int, int]) -> Intrinsics:
    """The camera of an image. Raises BuildError where it cannot be."""
    fault = camera_fault(Pinhole(*found), size)
    if fault:
        raise BuildError(f"the camera of {stem}: {fault}")
    return found


def _intrinsics(content: Any, where: str) -> Intrinsics:
    fits = isinstance(content, Mapping) and set(content) == set(_KEYS)
    values = [content[key] for key in _KEYS] if fits else []
    numbers = all(map(is_number, values))
    if not fits or not numbers or values[0] <= 0 or values[1] <= 0:
        raise BuildError(f"{where}: expected fx, fy, cx, cy in pixels, fx and fy above 0, found {shown(content)}")
    fx, fy, cx, cy = (float(one) for one in values)
    return fx, fy, cx, cy
