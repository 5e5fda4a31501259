"""Writing the labels of a task: file names and bytes, the inverse of what `mtl.datasets.folder.truth_files` reads."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_mtl.errors import BuildError
from edge_mtl.image.encoding import encode_image, encode_labels, encode_png
from edge_mtl.tasks import VOID, TaskSpec
from edge_mtl.tasks.labels import LabelsSpec
from mtl.datasets.folder.truth_files import DepthFiles, MaskFiles, NormalFiles, TruthFiles

__all__ = ["DepthStorage", "LabelStorage", "NormalStorage", "Storage", "storage_of"]

Array = np.ndarray

_LARGEST_UNIT = int(np.iinfo(np.uint16).max)


@dataclass(frozen=True, slots=True)
class Storage(ABC):
    """The label files of one task.

    Attributes:
        folder: below that of the data set.
        suffixes: of every file that the data set reads as a label of this task.
    """

    folder: str
    suffixes: tuple[str, ...]

    @property
    @abstractmethod
    def suffix(self) -> str:
        """Of the files that are written."""

    def file(self, stem: str) -> str:
        """The file of a frame, below the folder of the data set, "/" as separator."""
        return f"{self.folder}/{stem}{self.suffix}"

    def places(self, stem: str) -> tuple[str, ...]:
        """Every file that would be a label of the frame."""
        return tuple(f"{self.folder}/{stem}{suffix}" for suffix in self.suffixes)

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What else than the truth decides the content of a file, for records."""

    def stored(self, truth: Array) -> Array:
        """The truth without what a file cannot hold, which becomes unknown."""
        return truth

    @abstractmethod
    def encode(self, truth: Array) -> bytes:
        """The file's content for a truth from `stored`."""

    @abstractmethod
    def known(self, truth: Array) -> Array:
        """(H, W) bool: where the truth is known."""

    def classes(self, truth: Array) -> dict[str, float]:
        """Share of the frame of each class that occurs; empty where there are no classes."""
        return {}


@dataclass(frozen=True, slots=True)
class LabelStorage(Storage):
    """PNGs of indices, with the classes' colours as palette.

    Attributes:
        spec: the bundle's task.
        indices: in the file, by class of the bundle.
    """

    spec: LabelsSpec
    indices: tuple[int, ...]

    @property
    def suffix(self) -> str:
        return ".png"

    def facts(self) -> dict[str, Any]:
        return {} if self.indices == tuple(range(len(self.indices))) else {"indices": " ".join(map(str, self.indices))}

    def encode(self, truth: Array) -> bytes:
        table = np.full(VOID + 1, VOID, np.uint8)
        table[: len(self.indices)] = self.indices
        palette = np.zeros((VOID + 1, 3), np.uint8)
        palette[list(self.indices)] = self.spec.palette
        return encode_labels(table[truth], palette=palette)

    def known(self, truth: Array) -> Array:
        return truth != VOID

    def classes(self, truth: Array) -> dict[str, float]:
        counts = np.bincount(truth.ravel(), minlength=VOID + 1)
        return {name: round(float(counts[i] / truth.size), 6) for i, name in enumerate(self.spec.classes) if counts[i]}


@dataclass(frozen=True, slots=True)
class DepthStorage(Storage):
    """16-bit PNGs, or float32 metres as NumPy files.

    Attributes:
        scale_m: metres a unit of the PNGs; None for NumPy files.
        range_m: distances that the data set takes.
    """

    scale_m: float | None
    range_m: tuple[float, float]

    @property
    def suffix(self) -> str:
        return ".npy" if self.scale_m is None else ".png"

    def facts(self) -> dict[str, Any]:
        return {"scale_m": self.scale_m, "range_m": list(self.range_m)}

    def stored(self, truth: Array) -> Array:
        near, far = self.range_m
        if self.scale_m is not None:
            far = min(far, _LARGEST_UNIT * self.scale_m)
            truth = np.rint(truth / np.float64(self.scale_m)).astype(np.float32) * np.float32(self.scale_m)
        return np.where((truth > 0) & (truth >= near) & (truth <= far), truth, np.float32(0.0)).astype(np.float32)

    def encode(self, truth: Array) -> bytes:
        if self.scale_m is None:
            return _npy(truth)
        return encode_png(np.rint(truth / np.float64(self.scale_m)).astype(np.uint16))

    def known(self, truth: Array) -> Array:
        return truth > 0


@dataclass(frozen=True, slots=True)
class NormalStorage(Storage):
    """8-bit RGB PNGs of (n + 1) / 2 * 255, black where unknown; or float32 as NumPy files.

    Attributes:
        files: what the data set reads; its axes are those that are written.
        as_floats: whether NumPy files are written.
    """

    files: NormalFiles
    as_floats: bool

    @property
    def suffix(self) -> str:
        return ".npy" if self.as_floats else ".png"

    def facts(self) -> dict[str, Any]:
        return {"as_floats": self.as_floats, "axes": str(self.files.axes)}

    def encode(self, truth: Array) -> bytes:
        axes = self.files.axes
        components = np.empty_like(truth)
        components[..., list(axes.order)] = truth * np.array(axes.signs, truth.dtype)
        if self.as_floats:
            return _npy(components)
        coded = np.rint((components + 1.0) * 127.5).clip(0, 255).astype(np.uint8)
        coded[~self.known(truth)] = 0
        return encode_image(coded)

    def known(self, truth: Array) -> Array:
        return np.asarray(truth.any(axis=2))


def storage_of(spec: TaskSpec, files: TruthFiles, theirs: TaskSpec, *, as_floats: bool) -> Storage:
    """How labels of a bundle's task go into the files of a data set's task.

    Args:
        spec: of the bundle.
        files, theirs: of the data set.
        as_floats: write depth and normals as NumPy files whatever else there is.
    Raises:
        BuildError: they are of different kinds, or have other classes; the message names the task, without the file.
    """
    if theirs.kind != spec.kind:
        raise BuildError(f"tasks.{spec.name} is of the kind {theirs.kind!r}, but of the kind {spec.kind!r} in the bundle")
    if isinstance(files, DepthFiles):
        return DepthStorage(files.folder, files.suffixes, None if as_floats else files.scale_m, files.range_m)
    if isinstance(files, NormalFiles):
        return NormalStorage(files.folder, files.suffixes, files, as_floats)
    assert isinstance(files, MaskFiles)
    assert isinstance(spec, LabelsSpec)
    assert isinstance(theirs, LabelsSpec)
    return LabelStorage(files.folder, files.suffixes, spec, _indices(spec, files, theirs))


def _indices(spec: LabelsSpec, files: MaskFiles, theirs: LabelsSpec) -> tuple[int, ...]:
    """The index in the data set's files of each class of the bundle."""
    only_theirs = [name for name in theirs.classes if name not in spec.classes]
    only_ours = [name for name in spec.classes if name not in theirs.classes]
    if only_theirs or only_ours:
        lists = [f"{text} {', '.join(names)}" for text, names in (("lacks", only_theirs), ("has", only_ours)) if names]
        raise BuildError(
            f"tasks.{spec.name} has {len(theirs.classes)} classes, and they should be those of the bundle, which "
            f"{' and '.join(lists)}. Take a bundle that was trained on these classes, or give its labels a task of their own"
        )
    return tuple(int(np.flatnonzero(files.table == theirs.classes.index(name))[0]) for name in spec.classes)


def _npy(values: Array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(values, np.float32), allow_pickle=False)
    return stream.getvalue()
