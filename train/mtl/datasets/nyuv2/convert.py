"""Writes an origin's frames into LibMTL's folder layout; a conversion that was killed continues where it stopped.

Normals are stored in the camera frame (x right, y down, z forward). What LibMTL reads, it reads here too: float32 images of
0..1 (H, W, 3), float32 labels (H, W), float32 depth (H, W, 1) and normals (H, W, 3). Knows no file format but .npy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_mtl.errors import BuildError
from edge_mtl.unfinished import sweep_temporaries
from mtl.datasets.nyuv2.arrays import save_array
from mtl.datasets.nyuv2.axes import NormalAxes, detect_axes
from mtl.datasets.nyuv2.layout import (
    DESCRIPTION,
    MODALITIES,
    PARTS,
    DatasetError,
    Description,
    Part,
    frame_path,
    read_description,
    write_description,
)
from mtl.datasets.nyuv2.origin import Origin, SourceFrame
from mtl.datasets.surface import normals_of_depth

__all__ = ["Converted", "convert"]

_FRAMES_TO_DETECT = 16
_SAVE_EVERY = 16

Progress = Callable[[Part, int, int], None]
"""(part, frames done, frames in all)."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What a conversion did: frames written now, and those that were there already; `axes` are the origin's."""

    description: Description
    axes: NormalAxes
    written: int
    kept: int


def convert(
    origin: Origin, out: Path, *, axes: NormalAxes | None = None, limit: int = 0, progress: Progress | None = None
) -> Converted:
    """Write every frame that is not there yet.

    Args:
        axes: of the origin's normals, where known; else they are detected.
        limit: only this many frames of each part, for a trial (0: all).
    Raises:
        DatasetError: `out` holds something else, a frame of the origin cannot be used, or the axes cannot be told.
        BuildError: a file cannot be written; the frames that are done are kept.
    """
    counts = {part: min(origin.counts[part], limit or origin.counts[part]) for part in PARTS}
    try:
        return _convert(origin, out, counts, axes, progress)
    except OSError as exc:
        raise BuildError(f"{out} cannot be written ({exc}). Free space or choose another --out; done frames are kept") from exc


def _convert(
    origin: Origin, out: Path, counts: dict[Part, int], axes: NormalAxes | None, progress: Progress | None
) -> Converted:
    before = _continue(origin, out, counts)
    if before is None:
        used, evidence = _origin_axes(origin, axes)
        source = {**origin.source, "normal_axes": str(used)}
        before = Description(origin.size, origin.intrinsics, str(NormalAxes()), evidence, source, counts, {}, False)
    used = NormalAxes.parse(str(before.source.get("normal_axes", "")))
    done = {part: set(before.done.get(part, [])) for part in PARTS}
    kept = sum(len(numbers) for numbers in done.values())

    def save(*, complete: bool) -> Description:
        description = replace(before, done={part: sorted(numbers) for part, numbers in done.items()}, complete=complete)
        write_description(out, description)
        return description

    for folder in (out / part / modality for part in PARTS for modality in MODALITIES):
        sweep_temporaries(folder)
    save(complete=False)
    try:
        for part in PARTS:
            for index, frame in origin.frames(part, [one for one in range(counts[part]) if one not in done[part]]):
                _write(out, part, index, frame, used)
                done[part].add(index)
                if len(done[part]) % _SAVE_EVERY == 0:
                    save(complete=False)
                if progress is not None:
                    progress(part, len(done[part]), counts[part])
    except BaseException:
        save(complete=False)
        raise
    return Converted(save(complete=True), used, sum(len(numbers) for numbers in done.values()) - kept, kept)


def _continue(origin: Origin, out: Path, counts: dict[Part, int]) -> Description | None:
    """The description of an earlier, equal conversion into `out`; None where `out` is new."""
    before = read_description(out)
    if before is None:
        if out.exists() and any(out.iterdir()):
            raise DatasetError(f"{out} holds files without a {DESCRIPTION}. Choose a new or empty folder with --out")
        return None
    same = {**before.source, "normal_axes": None} == {**origin.source, "normal_axes": None} and before.size == origin.size
    if not same or dict(before.counts) != counts:
        frames = " + ".join(str(before.counts.get(part)) for part in PARTS)
        raise DatasetError(
            f"{out} holds another conversion ({before.source.get('kind')}, {frames} frames at "
            f"{before.size[0]}x{before.size[1]}). Choose another --out, or remove it"
        )
    return before


def _origin_axes(origin: Origin, axes: NormalAxes | None) -> tuple[NormalAxes, dict[str, Any]]:
    """The axes of the origin's normals, and how they are known."""
    if axes is not None:
        return axes, {"stated": str(axes)}
    if not origin.normals_are_measured:
        return NormalAxes(), {"computed": "from the depth, in the camera frame"}
    sample = origin.sample(_FRAMES_TO_DETECT)
    found = detect_axes((frame.normals, normals_of_depth(frame.depth_m, origin.intrinsics)) for frame in sample)
    return found.axes, found.evidence


def _write(out: Path, part: Part, index: int, frame: SourceFrame, axes: NormalAxes) -> None:
    arrays = (frame.image, frame.label, frame.depth_m[..., None], axes.apply(frame.normals))
    for modality, array in zip(MODALITIES, arrays, strict=True):
        save_array(frame_path(out, part, modality, index), array)
