"""The Hugging Face data set tanganke/nyuv2 as frames of LibMTL's kind. Knows its columns; knows nothing about writing.

Files train-*.parquet and val-*.parquet with columns image (3, H, W) float32 of 0..1, segmentation (H, W) int64 with -1 void,
depth (1, H, W) float32 metres and normal (3, H, W) float32, each stored as lists within lists; further columns are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mtl.datasets.nyuv2.arrays import depth_array, image_array, label_array, normal_array
from mtl.datasets.nyuv2.layout import PARTS, DatasetError, Part, intrinsics_at
from mtl.datasets.nyuv2.origin import SourceFrame

__all__ = ["ParquetFrames"]

_COLUMNS = ("image", "segmentation", "depth", "normal")
_ROWS_AT_ONCE = 4
_DAMAGED = (OSError, pa.ArrowException, ValueError, KeyError, MemoryError, OverflowError)
"""What PyArrow raises on files that are damaged: also for names that are no UTF-8, and for sizes that cannot be."""


class ParquetFrames:
    """Frames of the parquet files in a folder, or in its `data` folder.

    Raises:
        DatasetError: files are missing, cannot be read, or have other columns.
    """

    def __init__(self, folder: Path) -> None:
        home = folder / "data" if (folder / "data").is_dir() else folder
        self._files: dict[Part, list[tuple[Path, int]]] = {part: [] for part in PARTS}
        for part in PARTS:
            for path in sorted(home.glob(f"{part}-*.parquet")):
                self._files[part].append((path, _rows(path)))
            if not self._files[part]:
                raise DatasetError(
                    f"{home} has no {part}-*.parquet. Download the data set: "
                    f"hf download tanganke/nyuv2 --repo-type dataset --local-dir {folder}"
                )
        self.counts: Mapping[Part, int] = {part: sum(rows for _, rows in files) for part, files in self._files.items()}
        self.size = _size(self._files["train"][0][0])
        self.intrinsics = intrinsics_at(self.size)

    @property
    def source(self) -> dict[str, Any]:
        """What the frames are made of, for `dataset.json`."""
        return {"kind": "parquet", "files": [path.name for files in self._files.values() for path, _ in files]}

    @property
    def normals_are_measured(self) -> bool:
        return True

    def sample(self, count: int) -> Iterator[SourceFrame]:
        """The first rows of every training file: later ones would cost decoding all before them."""
        files = self._files["train"]
        each, first = -(-count // len(files)), 0
        for _, rows in files:
            yield from (frame for _, frame in self.frames("train", range(first, first + min(each, rows))))
            first += rows

    def frames(self, part: Part, wanted: Sequence[int]) -> Iterator[tuple[int, SourceFrame]]:
        """Frames of a part by number, rising. Raises DatasetError naming file and row."""
        asked, first = set(wanted), 0
        for path, rows in self._files[part]:
            inside = {index - first for index in asked if first <= index < first + rows}
            if inside:
                yield from ((first + row, frame) for row, frame in self._rows(path, inside))
            first += rows

    def close(self) -> None:
        """Files are closed after each use."""

    def _rows(self, path: Path, wanted: set[int]) -> Iterator[tuple[int, SourceFrame]]:
        try:
            with pq.ParquetFile(path) as file:
                row, last = 0, max(wanted)
                for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=list(_COLUMNS)):
                    inside = [one for one in range(row, row + batch.num_rows) if one in wanted]
                    if inside:
                        arrays = [_dense(batch.column(name), f"{path}: {name}") for name in _COLUMNS]
                        for one in inside:
                            yield one, self._frame([array[one - row] for array in arrays], f"{path} row {one}")
                    row += batch.num_rows
                    if row > last:
                        return
        except _DAMAGED as exc:
            raise _unreadable(path, exc) from exc

    def _frame(self, arrays: Sequence[np.ndarray], where: str) -> SourceFrame:
        image, label, depth, normal = arrays
        pixels = np.moveaxis(image, 0, -1)
        image_array(pixels, size=self.size, where=f"{where}, image")
        label_array(label, size=self.size, where=f"{where}, segmentation")
        return SourceFrame(
            image=np.ascontiguousarray(pixels, np.float32),
            label=label.astype(np.float32),
            depth_m=depth_array(np.moveaxis(depth, 0, -1), size=self.size, where=f"{where}, depth"),
            normals=normal_array(np.moveaxis(normal, 0, -1), size=self.size, where=f"{where}, normal"),
        )


def _unreadable(path: Path, exc: BaseException) -> DatasetError:
    return DatasetError(f"{path} cannot be read ({exc}). Download it again")


def _rows(path: Path) -> int:
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
            if missing:
                raise DatasetError(f"{path} lacks the columns {', '.join(missing)}: is it tanganke/nyuv2?")
            return int(file.metadata.num_rows)
    except _DAMAGED as exc:
        raise _unreadable(path, exc) from exc


def _size(path: Path) -> tuple[int, int]:
    try:
        with pq.ParquetFile(path) as file:
            batch = next(file.iter_batches(batch_size=1, columns=["segmentation"]), None)
    except _DAMAGED as exc:
        raise _unreadable(path, exc) from exc
    if batch is None or batch.num_rows == 0:
        raise DatasetError(f"{path} has no rows. Download it again")
    height, width = _dense(batch.column("segmentation"), str(path)).shape[1:]
    return height, width


def _dense(column: pa.Array, where: str) -> np.ndarray:
    """Lists within lists of equal lengths -> an array (rows, ...)."""
    array = column.storage if isinstance(column, pa.ExtensionArray) else column
    shape = [len(array)]
    while pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type):
        inner = array.flatten()
        outer = max(1, int(np.prod(shape)))
        if len(inner) % outer or array.null_count:
            raise DatasetError(f"{where} is ragged or has gaps. Download the file again")
        shape.append(len(inner) // outer)
        array = inner
    values = array.to_numpy(zero_copy_only=False)
    if values.dtype.kind not in "uif" or array.null_count or len(shape) < 3:
        raise DatasetError(f"{where} should be lists of numbers, found {column.type}")
    return values.reshape(shape)
