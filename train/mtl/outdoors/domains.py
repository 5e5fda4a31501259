"""The frames of every domain: cells of weather and time, corrupted ones, other lenses, the other world.

Rendered and kept on disk by the data sets; seeds are those of their test splits, so that all cells show the same streets.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from edge_mtl.errors import BuildError
from edge_mtl.tasks import Specs
from mtl.datasets.corruptions import CorruptedFrames
from mtl.datasets.frame import Frame, FrameSource
from mtl.datasets.rooms.source import RoomsRequest
from mtl.datasets.rooms.tasks import ROOM_TASKS
from mtl.datasets.streets.classes import TIMES, WEATHERS, Time, Weather
from mtl.datasets.streets.dataset import StreetsDataset
from mtl.datasets.streets.render import DEFAULT_OPTIONS, StreetOptions
from mtl.datasets.streets.source import StreetFrames
from mtl.datasets.streets.tasks import STREET_TASKS
from mtl.geometry import Intrinsics, canonical_intrinsics

__all__ = [
    "CELLS",
    "SHARED",
    "FramesAt",
    "TakenBy",
    "cell_name",
    "cell_options",
    "corrupted_frames",
    "focal_factors",
    "rooms_at",
    "streets_at",
    "through_lens",
]

_DEPTH_TASK = next(name for name, spec in STREET_TASKS.items() if spec.kind == "depth")
SHARED = tuple(name for name, spec in STREET_TASKS.items() if name in ROOM_TASKS and not hasattr(spec, "classes"))
"""Tasks without classes of their own, which rooms and streets have both."""
CELLS: tuple[tuple[Weather, Time], ...] = tuple((weather, time) for weather in WEATHERS for time in TIMES)
"""All cells, weather by weather."""


@dataclass(frozen=True, slots=True)
class FramesAt:
    """Where frames are kept, of which size and how many; `workers` processes render those that are missing."""

    root: str
    size: tuple[int, int]
    count: int
    workers: int = 1
    progress: bool = False


def cell_name(cell: tuple[str, str]) -> str:
    """ "foggy, night"."""
    return f"{cell[0]}, {cell[1]}"


def streets_at(where: FramesAt, tasks: Specs, *, options: StreetOptions = DEFAULT_OPTIONS) -> StreetFrames:
    """The first test streets, with truths of those of the tasks that streets have, and of depth. Raises BuildError."""
    height, width = where.size
    try:
        streets = StreetsDataset(
            Path(where.root),
            "test",
            where.count,
            height=height,
            width=width,
            options=options,
            workers=where.workers,
            progress=where.progress,
        )
    except (OSError, ValueError) as exc:
        raise BuildError(f"the test streets at {height}x{width} could not be made in {where.root}: {exc}") from exc
    return StreetFrames(streets, {name: spec for name, spec in STREET_TASKS.items() if name in tasks or name == _DEPTH_TASK})


def cell_options(cell: tuple[Weather, Time], *, focal: tuple[float, float] | None = None) -> StreetOptions:
    """Streets of one cell, through lenses of all focal lengths or of `focal`, in widths of the image."""
    found = replace(DEFAULT_OPTIONS, weathers=(cell[0],), times=(cell[1],))
    return found if focal is None else replace(found, focal=focal)


def through_lens(size: tuple[int, int], factor: float, cell: tuple[Weather, Time]) -> StreetOptions:
    """Streets of one cell seen with `factor` times the canonical focal length."""
    widths = factor * canonical_intrinsics(*size)[0] / size[1]
    return cell_options(cell, focal=(widths, widths))


def focal_factors(size: tuple[int, int], *, zoom: tuple[float, float] = (1.0, 1.0)) -> tuple[float, float]:
    """The least and greatest focal length of streets in training, in canonical ones; `zoom` is that of the augmentation."""
    canonical = canonical_intrinsics(*size)[0] / size[1]
    low, high = (focal / canonical for focal in DEFAULT_OPTIONS.focal)
    return low * zoom[0], high * zoom[1]


def corrupted_frames(frames: FrameSource, kind: str, severity: int) -> CorruptedFrames:
    """Frames of streets, spoilt: fog by their true depth, as far as streets go."""
    return CorruptedFrames(frames, kind, severity, depth=_DEPTH_TASK)


def rooms_at(where: FramesAt, tasks: Specs) -> FrameSource:
    """The first test rooms, with truths of those of the tasks that rooms have. Raises BuildError: of none, or not rendered."""
    named = tuple(name for name in ROOM_TASKS if name in tasks)
    if not named:
        raise BuildError(f"rooms have truths of {', '.join(ROOM_TASKS)}, and of none of {', '.join(tasks)}")
    request = RoomsRequest(where.root, "test", where.count, *where.size, named)
    return request.open(workers=where.workers, progress=where.progress)


class TakenBy:
    """Frames that claim to be taken by another camera than they are: what a robot does that does not know its lens."""

    def __init__(self, frames: FrameSource, camera: Intrinsics) -> None:
        self._frames, self._camera = frames, camera

    @property
    def tasks(self) -> Specs:
        return self._frames.tasks

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, index: int) -> Frame:
        return replace(self._frames[index], intrinsics=self._camera)
