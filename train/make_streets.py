"""Render streets into the cache that training reads; if asked, a contact sheet, or images with their truths for
`edge-mtl verify BUNDLE --data DIR`.

--conditions names kinds of scene, weather and time of day; of a group of which none is named there are all.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial

from mtl.rendering import ask_for_frames, check_new_folder, rendered, tell, write_labelled, write_preview


def main(arguments: list[str] | None = None) -> int:
    return rendered("make_streets", partial(_work, arguments))


def _work(arguments: list[str] | None) -> None:
    from mtl.datasets.streets import StreetsDataset
    from mtl.datasets.streets.preview import contact_sheet
    from mtl.datasets.streets.source import StreetFrames, options_of
    from mtl.datasets.streets.tasks import STREET_TASKS

    asked = _parser().parse_args(arguments)
    check_new_folder(asked.labelled)
    streets = StreetsDataset(
        asked.root,
        asked.split,
        asked.count,
        height=asked.size[0],
        width=asked.size[1],
        options=options_of(asked.conditions),
        workers=asked.workers,
    )
    write_preview(asked.preview, streets, contact_sheet)
    write_labelled(asked.labelled, StreetFrames(streets, STREET_TASKS), asked.size)
    tell(asked, "streets", len(streets), streets.folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog='example: python train/make_streets.py --count 32 --conditions night "city street" --preview out/streets.png',
    )
    ask_for_frames(parser, root="data/streets", size=(192, 320))
    parser.add_argument(
        "--conditions", nargs="+", default=[], metavar="KIND",
        help="city street, highway, residential; clear, overcast, rainy, foggy; daytime, dawn/dusk, night",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
