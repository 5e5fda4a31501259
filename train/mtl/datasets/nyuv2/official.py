"""The official nyu_depth_v2_labeled.mat as frames of LibMTL's kind. Knows that file's format; knows nothing about writing.

The file is HDF5; h5py sees MATLAB's axes reversed: images (1449, 3, 640, 480) uint8, depths (1449, 640, 480) float32 metres
with holes filled, labels (1449, 640, 480) uint16 with 0 void. The white border is cut off (rows 44:471, columns 40:601, as in
the toolbox's crop), the image is reduced by area, labels, depth and normals by nearest pixel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from h5py import Dataset, File

from edge_mtl.errors import FrameError
from edge_mtl.image.decoding import decode
from edge_mtl.tasks import VOID
from mtl.datasets.nyuv2.labels import NAMES, read_class_mapping
from mtl.datasets.nyuv2.layout import PARTS, DatasetError, Part
from mtl.datasets.nyuv2.mat_files import read_numbers
from mtl.datasets.nyuv2.origin import SourceFrame
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

__all__ = ["CAMERA", "CROP", "OfficialFrames", "read_splits"]

_LEAST_SIDE_PX = 16


class OfficialFrames:
    """Frames of the official file, cut and reduced.

    Args:
        mat: nyu_depth_v2_labeled.mat.
        splits: splits.mat (`trainNdxs`, `testNdxs`, counted from 1).
        classes: classMapping40.mat, or the same numbers as text.
        normals: folder of NNNN.png (number in the file, from 0; 480x640 RGB, (n + 1) / 2 * 255), with masks/NNNN.png or
            without; such as normals_gt of Eigen & Fergus 2015. None: planes fitted to the depth.
        size: (H, W) of the frames.
    Raises:
        DatasetError: a file cannot be read, or is not what it should be.
    """

    def __init__(self, mat: Path, *, splits: Path, classes: Path, normals: Path | None, size: tuple[int, int]) -> None:
        if min(size) < _LEAST_SIDE_PX:
            raise DatasetError(f"frames should be {_LEAST_SIDE_PX} pixels a side or more, found {size[0]}x{size[1]}")
        self._mat = mat
        self._table = read_class_mapping(classes)
        self._normals = _NormalImages(normals) if normals is not None else None
        self.size = size
        self.intrinsics = camera_at(size)
        try:
            self._file = File(mat, "r")
        except OSError as exc:
            raise DatasetError(f"{mat} cannot be opened as HDF5 ({exc}). Download nyu_depth_v2_labeled.mat again") from exc
        frames = self._check()
        self._numbers = read_splits(splits, frames=frames)
        self.counts: Mapping[Part, int] = {part: len(self._numbers[part]) for part in PARTS}

    @property
    def source(self) -> dict[str, Any]:
        """What the frames are made of, for `dataset.json`."""
        how = self._normals.source if self._normals is not None else "plane fits in inverse depth, 13x13 window at 427x561"
        return {"kind": "official", "file": self._mat.name, "crop": list(CROP), "depth": "depths (filled)", "normals": how}

    @property
    def normals_are_measured(self) -> bool:
        """Whether the normals come from elsewhere, so that their axes must be detected."""
        return self._normals is not None

    def sample(self, count: int) -> Iterator[SourceFrame]:
        """Some training frames, spread over the part."""
        last = self.counts["train"] - 1
        wanted = np.unique(np.linspace(0, last, min(count, last + 1)).astype(int)).tolist()
        return (frame for _, frame in self.frames("train", wanted))

    def frames(self, part: Part, wanted: Sequence[int]) -> Iterator[tuple[int, SourceFrame]]:
        """Frames of a part by number, in the order asked for. Raises DatasetError naming the frame."""
        for index in wanted:
            yield index, self._frame(self._numbers[part][index])

    def close(self) -> None:
        self._file.close()

    def _check(self) -> int:
        """The number of frames, once the file's datasets are what they should be."""
        shapes: dict[str, tuple[int, ...]] = {"images": (3, 640, 480), "depths": (640, 480), "labels": (640, 480)}
        counts = set()
        for name, shape in shapes.items():
            data = self._file.get(name)
            if not isinstance(data, Dataset) or data.shape[1:] != shape:
                found = f"shape {data.shape}" if isinstance(data, Dataset) else "nothing of that name"
                raise DatasetError(f"{self._mat}: {name} should be (frames, {', '.join(map(str, shape))}), found {found}")
            counts.add(data.shape[0])
        if len(counts) != 1:
            raise DatasetError(f"{self._mat}: images, depths and labels differ in number: {sorted(counts)}")
        return int(counts.pop())

    def _frame(self, number: int) -> SourceFrame:
        try:
            image = np.asarray(self._file["images"][number]).transpose(2, 1, 0)
            depth = np.asarray(self._file["depths"][number], np.float32).T
            names = np.asarray(self._file["labels"][number]).T
        except (OSError, ValueError, KeyError, RuntimeError) as exc:  # h5py's, for damaged parts of a file
            raise DatasetError(f"{self._mat}: frame {number} cannot be read ({exc}). Download the file again") from exc
        if names.max() > NAMES:
            raise DatasetError(f"{self._mat}: frame {number} has label {names.max()}, the mapping ends at {NAMES}")
        depth = np.where(np.isfinite(depth), depth, 0).astype(np.float32)[CUT]
        if self._normals is not None:
            normals = self._normals.read(number)[CUT]
        else:
            normals = normals_of_depth(depth, camera_at(CROP[2:]), **NORMAL_WINDOW)
        at = nearest_pixels(self.size)
        label = self._table[names[CUT][at]].astype(np.float32)
        label[label == VOID] = -1
        return SourceFrame(reduced_image(image[CUT], self.size), label, depth[at], normals[at])


class _NormalImages:
    """Normals as images, one PNG a frame."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "normals" if (folder / "normals").is_dir() else folder
        masks = next((one for one in (folder / "masks", folder.parent / "masks") if one.is_dir()), None)
        self._masks = masks
        if not any(self._folder.glob("[0-9]*.png")):
            raise DatasetError(f"{folder} holds no normals: expected 0000.png, 0001.png, ... or a folder normals with them")

    @property
    def source(self) -> str:
        return f"{self._folder.name}/NNNN.png" + (" with masks" if self._masks is not None else "")

    def read(self, number: int) -> np.ndarray:
        """(480, 640, 3) float32 unit, 0 invalid, in the image's own axes."""
        coded = self._image(self._folder / f"{number:04d}.png", cv2.IMREAD_COLOR)[..., ::-1]
        normals = coded.astype(np.float32) / 127.5 - 1.0
        length = np.linalg.norm(normals, axis=-1, keepdims=True)
        valid = length > 0.5  # mid grey is "none"
        if self._masks is not None:
            valid &= self._image(self._masks / f"{number:04d}.png", cv2.IMREAD_GRAYSCALE)[..., None] > 0
        return np.divide(normals, length, out=np.zeros_like(normals), where=valid)

    def _image(self, path: Path, mode: int) -> np.ndarray:
        payload = path.read_bytes() if path.is_file() else b""
        try:
            image = decode(payload, mode, name=str(path))
        except FrameError as exc:
            raise DatasetError(f"{exc} Expected an image of {FRAME[0]}x{FRAME[1]}") from exc
        if image.shape[:2] != FRAME:
            raise DatasetError(f"{path} should be an image of {FRAME[0]}x{FRAME[1]}, found {image.shape[0]}x{image.shape[1]}")
        return image


def read_splits(path: Path, *, frames: int) -> dict[Part, list[int]]:
    """Frame numbers (from 0) of the official split, in its order: "train" and "val", the latter being its test set.

    Raises:
        DatasetError: the file cannot be read, lacks trainNdxs or testNdxs, or its numbers are not of `frames` frames.
    """
    where = "splits.mat comes with the official data set (indoor_seg_sup/splits.mat)"
    found = read_numbers(path, "trainNdxs", "testNdxs", where=where)
    if odd := [number for part in found for number in part.tolist() if not number.is_integer()]:
        raise DatasetError(f"{path} should hold numbers of frames, found {odd[0]:g}. {where}")
    train, test = ([int(number) - 1 for number in part] for part in found)
    numbers: dict[Part, list[int]] = {"train": train, "val": test}
    everything = numbers["train"] + numbers["val"]
    if not numbers["train"] or not numbers["val"] or len(set(everything)) != len(everything):
        raise DatasetError(f"{path}: the two parts should be disjoint and not empty")
    if min(everything) < 0 or max(everything) >= frames:
        raise DatasetError(f"{path} names frames {min(everything) + 1} to {max(everything) + 1}, the file has {frames}")
    return numbers
