"""Public copies of NYUv2 as image files, as frames of LibMTL's kind. Knows those files; knows nothing about writing.

    FOLDER/image/NNNN.jpg or .png     480x640 RGB
    FOLDER/depth/NNNN.png             16 bits, a unit of millimetres by default, or 8 bits, 255 steps of 39 mm up to 10 m
    FOLDER/label13/ or label40/       NNNN.png, 8 bits: 0 void (255 too), classes from 1
    FOLDER/train.txt, test.txt        one frame a line, by the name of its files: the official split has 795 and 654

The valid region (rows 44:471, columns 40:601) is cut out; the image is reduced by area, everything else by nearest pixel.
Normals are planes fitted to the depth: pseudo-truth. Depth of 8 bits is smoothed inside its steps first.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mtl.datasets.folder.reading import PHOTO_SUFFIXES, decoded_png, read_photo, stored_mask
from mtl.datasets.nyuv2.depth_steps import FARTHEST_M, smoothed_depth
from mtl.datasets.nyuv2.labels import NYU40_TO_NYU13
from mtl.datasets.nyuv2.layout import PARTS, DatasetError, Part
from mtl.datasets.nyuv2.origin import SourceFrame
from mtl.datasets.nyuv2.plane_fits import window_normals
from mtl.datasets.nyuv2.valid_region import (
    CAMERA,
    CROP,
    CUT,
    FRAME,
    NORMAL_WINDOW,
    camera_at,
    nearest_pixels,
    reduced_image,
)
from mtl.datasets.surface import normals_of_depth

__all__ = ["ImageFrames"]

Array = np.ndarray

_LISTS: Mapping[Part, str] = {"train": "train.txt", "val": "test.txt"}
_LABEL_FOLDERS = ("label13", "label40")
_LEAST_SIDE_PX = 16
_VOID = 255


@dataclass(frozen=True, slots=True)
class _Files:
    """The three files of a frame."""

    image: Path
    depth: Path
    label: Path


class ImageFrames:
    """Frames of a folder of images, cut and reduced.

    Args:
        folder: see the module.
        size: (H, W) of the frames.
        labels: name of the folder of labels; "" takes label13, else label40.
        classes: how many classes its labels have, 13 or 40; 0 reads it from the folder's name.
        unit_m: metres of a unit of 16-bit depth.
        farthest_m: metres of the code 255 of 8-bit depth.
        jobs: processes that convert.
    Raises:
        DatasetError: a folder, list or file is not what it should be.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: tuple[int, int],
        labels: str = "",
        classes: int = 0,
        unit_m: float = 0.001,
        farthest_m: float = FARTHEST_M,
        jobs: int = 1,
    ) -> None:
        if min(size) < _LEAST_SIDE_PX:
            raise DatasetError(f"frames should be {_LEAST_SIDE_PX} pixels a side or more, found {size[0]}x{size[1]}")
        named = labels or next((one for one in _LABEL_FOLDERS if (folder / one).is_dir()), _LABEL_FOLDERS[0])
        self._classes = classes or next((count for count in (13, 40) if named.endswith(str(count))), 0)
        if self._classes not in (13, 40):
            raise DatasetError(f"{folder / named}: say how many classes its labels have, --classes 13 or --classes 40")
        self._frames = _listed(folder, named)
        bits = 8 * _depth_units(self._frames["train"][0].depth).dtype.itemsize
        self._convert = _Conversion(size, self._classes, bits, unit_m, farthest_m)
        self._labels, self._jobs = named, jobs
        self.size, self.intrinsics = size, camera_at(size)
        self.counts: Mapping[Part, int] = {part: len(self._frames[part]) for part in PARTS}

    @property
    def source(self) -> dict[str, Any]:
        """What the frames are made of, for `dataset.json`."""
        content = {"kind": "images", "crop": list(CROP), "labels": f"{self._labels}, {self._classes} classes"}
        return content | self._convert.describe()

    @property
    def normals_are_measured(self) -> bool:
        return False

    def sample(self, count: int) -> Iterator[SourceFrame]:
        """Some training frames, spread over the part."""
        last = self.counts["train"] - 1
        wanted = np.unique(np.linspace(0, last, min(count, last + 1)).astype(int)).tolist()
        return (frame for _, frame in self.frames("train", wanted))

    def frames(self, part: Part, wanted: Sequence[int]) -> Iterator[tuple[int, SourceFrame]]:
        """Frames of a part by number, in the order asked for. Raises DatasetError naming the file."""
        if self._jobs == 1:
            yield from ((index, self._convert(self._frames[part][index])) for index in wanted)
            return
        spawning = multiprocessing.get_context("spawn")  # a forked child would wait for threads that it does not have
        with ProcessPoolExecutor(self._jobs, spawning, cv2.setNumThreads, (1,)) as pool:
            running: deque[tuple[int, Future[SourceFrame]]] = deque()
            left = iter(wanted)
            try:
                while True:
                    for index in left:  # a few ahead, so that frames do not pile up in memory
                        running.append((index, pool.submit(self._convert, self._frames[part][index])))
                        if len(running) >= 2 * self._jobs:
                            break
                    if not running:
                        return
                    index, future = running.popleft()
                    yield index, future.result()
            finally:
                for _, future in running:
                    future.cancel()

    def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True, slots=True)
class _Conversion:
    """From the files of a frame to the frame; can be sent to another process."""

    size: tuple[int, int]
    classes: int
    bits: int
    unit_m: float
    farthest_m: float

    def describe(self) -> dict[str, Any]:
        if self.bits == 16:
            return {
                "depth": f"16 bits, {self.unit_m:g} m a unit",
                "depth_step_m": self.unit_m,
                "normals": "plane fits in inverse depth, 13x13 window at 427x561",
            }
        step = self.farthest_m / 255.0
        return {
            "depth": f"8 bits, steps of {1000 * step:.0f} mm, smoothed inside the steps",
            "depth_step_m": round(step, 6),
            "normals": "plane fits in inverse depth, 15x15 window at 480x640, none near edges",
        }

    def __call__(self, files: _Files) -> SourceFrame:
        image, stored, names = read_photo(files.image), _depth_units(files.depth), stored_mask(files.label)
        for path, array in ((files.image, image), (files.depth, stored), (files.label, names)):
            _check_size(path, array)
        if 8 * stored.dtype.itemsize != self.bits:
            raise DatasetError(f"{files.depth} has depth of {8 * stored.dtype.itemsize} bits, the first frame of {self.bits}")
        if self.bits == 8:
            whole = smoothed_depth(stored, farthest_m=self.farthest_m)
            depth, normals = whole[CUT], window_normals(whole, CAMERA)[CUT]
        else:
            depth = (stored[CUT].astype(np.float32) * np.float32(self.unit_m)).astype(np.float32)
            normals = normals_of_depth(depth, camera_at(CROP[2:]), **NORMAL_WINDOW)
        if not depth.any():
            raise DatasetError(f"{files.depth} has no known depth (0 is unknown) within rows 44:471 and columns 40:601")
        at = nearest_pixels(self.size)
        label = self._thirteen(names[CUT][at], files.label)
        return SourceFrame(reduced_image(image[CUT], self.size), label, depth[at], normals[at])

    def _thirteen(self, names: Array, path: Path) -> Array:
        """(H, W) float32: -1 void, else 0..12."""
        strange = np.unique(names[(names > self.classes) & (names != _VOID)])
        if strange.size:
            raise DatasetError(
                f"{path}: labels should be 0 (void) and 1 to {self.classes}, found {strange[:8].tolist()}. "
                "State the folder and its classes: --labels NAME --classes 13 or 40"
            )
        table = np.full(_VOID + 1, -1.0, np.float32)
        table[1 : self.classes + 1] = range(13) if self.classes == 13 else np.array(NYU40_TO_NYU13) - 1
        found: Array = table[names]
        return found


def _listed(folder: Path, labels: str) -> dict[Part, list[_Files]]:
    """The files of every listed frame, by part. Raises DatasetError naming what is missing."""
    if not folder.is_dir():
        raise DatasetError(f"{folder} is no folder: expected one with image, depth, {labels}, train.txt and test.txt")
    images = _index(folder / "image", PHOTO_SUFFIXES)
    depths, masks = (_index(folder / name, (".png",)) for name in ("depth", labels))
    found: dict[Part, list[_Files]] = {}
    seen: dict[str, str] = {}
    for part, listing in _LISTS.items():
        found[part] = []
        for name in _names(folder / listing):
            paths = []
            for kind, index in (("image", images), ("depth", depths), (labels, masks)):
                path = index.get(name) or index.get(name.zfill(4))
                if path is None:
                    raise DatasetError(f"{folder / listing} lists {name}, of which there is no file in {folder / kind}")
                paths.append(path)
            if paths[0].stem in seen:
                where = f"{seen[paths[0].stem]} and {listing}" if seen[paths[0].stem] != listing else f"{listing} twice"
                raise DatasetError(f"{folder}: frame {name} is in {where}; every frame should be in one part, once")
            seen[paths[0].stem] = listing
            found[part].append(_Files(*paths))
    return found


def _names(path: Path) -> list[str]:
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetError(f"{path} cannot be read ({exc}): it should list the frames of a part, one a line") from exc
    if not names:
        raise DatasetError(f"{path} is empty: it should list the frames of a part, one a line")
    return names


def _index(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    try:
        found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in suffixes}
    except OSError as exc:
        raise DatasetError(f"{folder} cannot be listed ({exc.strerror}): it should hold {' or '.join(suffixes)} files") from exc
    if not found:
        raise DatasetError(f"{folder} should hold {' or '.join(suffixes)} files, found none")
    return found


def _depth_units(path: Path) -> Array:
    """(H, W) uint8 or uint16. Raises BuildError naming the file."""
    stored = decoded_png(path)
    if stored.ndim != 2 or stored.dtype not in (np.uint8, np.uint16):
        raise DatasetError(f"{path} should be a grey PNG of 8 or 16 bits, found {stored.dtype} of the shape {stored.shape}")
    return stored


def _check_size(path: Path, array: Array) -> None:
    if array.shape[:2] != FRAME:
        raise DatasetError(f"{path} should be 480x640, found {array.shape[0]}x{array.shape[1]}. Take the copy in full size")
