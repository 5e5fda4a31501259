"""Render furnished rooms into the cache that training reads; if asked, a contact sheet, or images with their truths for
`edge-mtl verify BUNDLE --data DIR`.

Rooms that were rendered before there were boxes get them: their rays are cast again, nothing is rendered.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings

from edge_mtl.console import say
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import atomic_directory, write_atomic
from edge_mtl.packages import package_error
from edge_mtl.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from mtl.datasets.rooms import RoomsDataset

_PREVIEW_FRAMES = 12
_JPEG_QUALITY = 95


def main(arguments: list[str] | None = None) -> int:
    open_standard_streams()
    try:
        require_surroundings()
    except EdgeMtlError as error:
        print(f"make_rooms: {error}", file=sys.stderr)
        return error.exit_code
    from mtl.datasets.rooms import SPLIT_FIRST_SEED, RenderOptions, RoomsDataset
    from mtl.datasets.rooms.preview import contact_sheet

    from edge_mtl.image.encoding import encode_image

    parser = _parser(list(SPLIT_FIRST_SEED))
    asked = parser.parse_args(arguments)
    height, width = asked.size
    options = RenderOptions(invalid_depth=asked.invalid_depth, void_labels=asked.void_labels)
    try:
        if asked.labelled is not None and asked.labelled.exists():
            raise BuildError(f"{asked.labelled} exists already. Name a new folder: --labelled DIR")
        rooms = RoomsDataset(
            asked.root,
            asked.split,
            asked.count,
            height=height,
            width=width,
            options=options,
            workers=asked.workers,
            objects=True,
        )
        if asked.preview is not None:
            sheet = contact_sheet((rooms[index] for index in range(min(_PREVIEW_FRAMES, len(rooms)))), columns=2)
            write_atomic(asked.preview, encode_image(sheet))
        if asked.labelled is not None:
            _write_labelled(asked.labelled, rooms, asked.size)
    except EdgeMtlError as error:
        print(f"make_rooms: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, MemoryError) as error:
        fault = package_error(error, install="edge-mtl[train]")
        print(f"make_rooms: {fault}", file=sys.stderr)
        return fault.exit_code
    except RuntimeError as error:
        print(f"make_rooms: {error}", file=sys.stderr)
        return BuildError.exit_code
    except ValueError as error:  # of what was asked for
        print(f"make_rooms: {error}. Name another value.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("make_rooms: stopped; finished shards are kept, run again to go on", file=sys.stderr)
        return 130
    say(f"{len(rooms)} rooms in {rooms.folder}")
    if asked.preview is not None:
        say(f"contact sheet: {asked.preview}")
    if asked.labelled is not None:
        say(f"images with truths: {asked.labelled}")
    return 0


def _write_labelled(folder: Path, rooms: RoomsDataset, size: tuple[int, int]) -> None:
    from mtl.bundle_frames import write_evaluation
    from mtl.datasets.rooms.source import RoomFrames
    from mtl.datasets.rooms.tasks import ROOM_TASKS

    with atomic_directory(folder) as making:
        write_evaluation(making, RoomFrames(rooms, ROOM_TASKS), ROOM_TASKS, range(len(rooms)), size, _JPEG_QUALITY)


def _parser(splits: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python train/make_rooms.py --split train --count 1200 --size 192x256 --preview out/rooms.png",
    )
    parser.add_argument("--root", type=Path, default=Path("data/rooms"), help="cache folder (default: %(default)s)")
    parser.add_argument("--split", choices=splits, default="train", help="default: %(default)s")
    parser.add_argument("--count", type=int, default=1200, help="number of frames (default: %(default)s)")
    parser.add_argument(
        "--size", type=size_argument, default=(192, 256), metavar="HxW", help="canvas in pixels (default: 192x256)"
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="draw some rooms: boxes, labels, depth, normals")
    parser.add_argument("--labelled", type=Path, metavar="DIR", help="write them as images with their truths into a new folder")
    parser.add_argument("--invalid-depth", action="store_true", help="holes in depth, like those of a depth camera")
    parser.add_argument("--void-labels", action="store_true", help="unlabelled boundaries and small things")
    return parser


if __name__ == "__main__":
    sys.exit(main())
