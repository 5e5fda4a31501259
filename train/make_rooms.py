"""Render furnished rooms into the cache that training reads; if asked, a contact sheet, or images with their truths for
`edge-mtl verify BUNDLE --data DIR`.

Rooms that were rendered before there were boxes get them: their rays are cast again, nothing is rendered.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from mtl.rendering import ask_for_frames, check_new_folder, rendered, tell, write_labelled, write_preview


def main(arguments: list[str] | None = None) -> int:
    return rendered("make_rooms", partial(_work, arguments))


def _work(arguments: list[str] | None) -> None:
    from mtl.datasets.rooms import RenderOptions, RoomsDataset
    from mtl.datasets.rooms.preview import contact_sheet
    from mtl.datasets.rooms.source import RoomFrames
    from mtl.datasets.rooms.tasks import ROOM_TASKS

    asked = _parser().parse_args(arguments)
    check_new_folder(asked.labelled)
    rooms = RoomsDataset(
        asked.root,
        asked.split,
        asked.count,
        height=asked.size[0],
        width=asked.size[1],
        options=RenderOptions(invalid_depth=asked.invalid_depth, void_labels=asked.void_labels),
        workers=asked.workers,
        objects=True,
    )
    write_preview(asked.preview, rooms, contact_sheet)
    write_labelled(asked.labelled, RoomFrames(rooms, ROOM_TASKS), asked.size)
    tell(asked, "rooms", len(rooms), rooms.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python train/make_rooms.py --split train --count 1200 --size 192x256 --preview out/rooms.png",
    )
    ask_for_frames(parser, root="data/rooms", size=(192, 256))
    parser.add_argument("--invalid-depth", action="store_true", help="holes in depth, like those of a depth camera")
    parser.add_argument("--void-labels", action="store_true", help="unlabelled boundaries and small things")
    return parser


if __name__ == "__main__":
    sys.exit(main())
