"""NYUv2's frames for benchmarks, from a folder that train/prepare_nyuv2.py wrote. Knows nothing about bundles."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_mtl.evaluation.labelled_frames import LabelledFrame
from edge_mtl.files import sha256_bytes
from edge_mtl.tasks import Specs

__all__ = ["as_labelled", "description_digest", "open_nyuv2", "seen"]


def open_nyuv2(root: Path, count: int, *, train: bool = False) -> Any:
    """The first `count` test frames (0: all), or training frames: a source of `mtl.datasets.frame.Frame`.

    Raises:
        DatasetError: the folder cannot be used.
    """
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
    from mtl.datasets.nyuv2.frames import NyuRequest

    request: Any = NyuRequest
    return request(str(root), "train" if train else "val", first=count).open()


def description_digest(root: Path) -> str:
    """SHA-256 of what dataset.json says of how the folder was made; of nothing where it has none."""
    path = root / "dataset.json"
    return sha256_bytes(path.read_bytes() if path.is_file() else b"")


def as_labelled(frames: Any, specs: Specs, size: tuple[int, int]) -> Iterator[LabelledFrame]:
    """Frames with truths at network size, as `train/evaluate.py` measures engines on them: whole, each in its own camera.

    Args:
        specs: the tasks whose truths are wanted.
        size: (height, width) of the network.
    """
    for number in range(len(frames)):
        found = seen(frames[number], specs, size)
        fx, fy, cx, cy = (float(value) for value in found.intrinsics)
        yield LabelledFrame(found.image, (fx, fy, cx, cy), found.truths, f"{number:04d}")


def seen(frame: Any, specs: Specs, size: tuple[int, int]) -> Any:
    """One frame, whole, at a size: a `mtl.datasets.augment.SeenFrame`."""
    from mtl.datasets.augment import apply_view, whole_view

    return apply_view(frame, whole_view(frame.size, aspect=size[1] / size[0]), specs, size=size, canonical=False)
