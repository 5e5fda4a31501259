"""Where the files of an NYUv2 folder are, and its description `dataset.json`. Knows names and numbers; reads no arrays.

Layout (that of LibMTL and MTAN): root / {train,val} / {image,label,depth,normal} / {0,1,2,...}.npy, `val` is the test set.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_mtl.documents import parse_json
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.remedies import told
from mtl.geometry import Intrinsics, crop_and_resize_intrinsics

__all__ = [
    "DESCRIPTION",
    "FRAMES",
    "MODALITIES",
    "PARTS",
    "SIZE",
    "DatasetError",
    "DatasetMissing",
    "Description",
    "Part",
    "count_frames",
    "frame_path",
    "intrinsics_at",
    "missing_message",
    "read_description",
    "write_description",
]

Part = Literal["train", "val"]
PARTS: tuple[Part, ...] = ("train", "val")
MODALITIES = ("image", "label", "depth", "normal")
FRAMES: Mapping[Part, int] = {"train": 795, "val": 654}
"""Frames of the official split (Silberman et al. 2012)."""
SIZE = (288, 384)
DESCRIPTION = "dataset.json"

_INTRINSICS: Intrinsics = (355.2, 350.4, 195.5, 141.5)
_FORMAT = "edge-mtl nyuv2 1"


class DatasetError(BuildError):
    """A data set, or a file of one, is not what it should be."""


class DatasetMissing(DatasetError):
    """There is no data set; the message says where it comes from and which command converts it."""


@dataclass(frozen=True, slots=True)
class Description:
    """What is known about a folder besides its arrays; kept in `dataset.json`.

    Attributes:
        size: (H, W) of every frame.
        intrinsics: fx, fy, cx, cy at that size.
        axes: how stored normals become camera normals (x right, y down, z forward), such as "+x-y-z".
        evidence: how `axes` was found: agreement with normals of the depth.
        source: what it was made of.
        counts: frames of each part.
        done: numbers of the frames that are written, per part; empty for a folder that was found as it is.
        complete: whether every frame is there.
    """

    size: tuple[int, int]
    intrinsics: Intrinsics
    axes: str
    evidence: Mapping[str, Any]
    source: Mapping[str, Any]
    counts: Mapping[Any, int]
    done: Mapping[Any, list[int]] = field(default_factory=dict)
    complete: bool = True


def frame_path(root: Path, part: Part, modality: str, index: int) -> Path:
    """The file of one array."""
    return root / part / modality / f"{index}.npy"


def intrinsics_at(size: tuple[int, int]) -> Intrinsics:
    """fx, fy, cx, cy of NYUv2's colour camera after the usual crop, at a size (H, W).

    The values at 288x384 are the toolbox's (518.858, 519.470, 325.582, 253.736 at 480x640) for rows 44:471 and columns 40:601.
    """
    if size == SIZE:
        return _INTRINSICS
    return crop_and_resize_intrinsics(_INTRINSICS, window=(0, 0, *SIZE), size=size)


def count_frames(
    root: Path,
    part: Part,
    *,
    modalities: Sequence[str] = MODALITIES,
    missing: Callable[[Path, str], str] = lambda root, found: missing_message(root, found),
) -> int:
    """How many frames a part has.

    Args:
        modalities: folders of a part.
        missing: the message where there is none of them.
    Raises:
        DatasetMissing: there is no such folder, or nothing in it.
        DatasetError: numbers have gaps, or an array of a frame is missing.
    """
    names = {modality: _numbers(root / part / modality) for modality in modalities}
    count = max((max(numbers, default=-1) for numbers in names.values()), default=-1) + 1
    if count == 0:
        raise DatasetMissing(missing(root, f"no {part}/image/0.npy"))
    for modality, numbers in names.items():
        absent = next((index for index in range(count) if index not in numbers), None)
        if absent is not None:
            path = frame_path(root, part, modality, absent)
            raise DatasetError(f"{path} is missing: {count} frames were expected. Run: python train/validate_dataset.py {root}")
    return count


def missing_message(root: Path, found: str) -> str:
    """What to download, where from, where to put it and which command converts it; one line."""
    return (
        f"{root} holds no NYUv2 ({found}). Download the Hugging Face data set tanganke/nyuv2 (parquet, 3 GB), or "
        "nyu_depth_v2_labeled.mat from the page 'NYU Depth Dataset V2' (cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html), then "
        f"run: python train/prepare_nyuv2.py parquet FOLDER --out {root} (or: official FILE; --help has the rest). A folder "
        "of LibMTL or MTAN is read as it is: --data.root FOLDER. Neither page states a licence that we know of: ask there "
        "before any use beyond research"
    )


def read_description(root: Path) -> Description | None:
    """The description of a folder, or None when it has none.

    Raises:
        DatasetError: it cannot be understood.
    """
    path = root / DESCRIPTION
    try:
        content = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise DatasetError(f"{path} cannot be read ({exc}). Remove it: it is made again") from exc
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise DatasetError(f"{path} is not of the format {_FORMAT!r}. Remove it if it is not yours: it is made again")
    try:
        height, width = content.pop("size")
        fx, fy, cx, cy = content.pop("intrinsics")
        found = Description(size=(int(height), int(width)), intrinsics=(float(fx), float(fy), float(cx), float(cy)), **content)
        _require_kinds(found)
        return found
    except (KeyError, TypeError, ValueError, OverflowError) as exc:
        raise DatasetError(f"{path} lacks what it should say ({exc}). Remove it: it is made again") from exc


def _require_kinds(found: Description) -> None:
    """Raises ValueError where a value is of another kind than `Description` says."""
    wrong = [name for name, kind in _KINDS.items() if not isinstance(getattr(found, name), kind)]
    if not wrong:
        numbers = [*found.counts.values(), *(number for listed in found.done.values() for number in listed)]
        wrong = ["counts or done"] * any(type(number) is not int for number in numbers)
    if wrong:
        raise ValueError(f"{', '.join(wrong)} of another kind")


_KINDS = {"axes": str, "evidence": dict, "source": dict, "counts": dict, "done": dict, "complete": bool}


def write_description(root: Path, description: Description) -> None:
    """Write `dataset.json`, atomically. Raises OSError."""
    content = {"format": _FORMAT, **asdict(description)}
    write_atomic(root / DESCRIPTION, (json.dumps(content, indent=1) + "\n").encode())


def _numbers(folder: Path) -> set[int]:
    try:
        return {int(path.stem) for path in folder.iterdir() if path.suffix == ".npy" and path.stem.isdigit()}
    except (FileNotFoundError, NotADirectoryError):
        return set()
    except OSError as exc:
        raise DatasetError(f"{folder} cannot be listed {told(exc)}") from exc
