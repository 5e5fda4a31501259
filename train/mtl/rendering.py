"""What the scripts that render worlds share: their arguments, what they write, and errors as one line and an exit code.

Only what needs no installed package is imported before the scripts know that all are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_mtl.console import say
from edge_mtl.errors import BuildError, EdgeMtlError
from edge_mtl.files import atomic_directory, write_atomic
from edge_mtl.packages import package_error
from edge_mtl.standard_streams import open_standard_streams
from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings

if TYPE_CHECKING:
    from mtl.datasets.frame import FrameSource

__all__ = ["ask_for_frames", "check_new_folder", "rendered", "tell", "write_labelled", "write_preview"]

_PREVIEW_FRAMES = 12
_JPEG_QUALITY = 95


class _Frames(Protocol):
    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> Any: ...


def rendered(script: str, work: Callable[[], None]) -> int:
    """Call `work`; the exit code. What it raises is said in one line of `script`."""
    open_standard_streams()
    try:
        require_surroundings()
        work()
    except EdgeMtlError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return error.exit_code
    except (OSError, MemoryError, ImportError) as error:
        fault = package_error(error, install="edge-mtl[train]")
        print(f"{script}: {fault}", file=sys.stderr)
        return fault.exit_code
    except RuntimeError as error:
        print(f"{script}: {error}", file=sys.stderr)
        return BuildError.exit_code
    except ValueError as error:  # of what was asked for
        print(f"{script}: {error}. Name another value.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{script}: stopped; finished shards are kept, run again to go on", file=sys.stderr)
        return 130
    return 0


def ask_for_frames(parser: argparse.ArgumentParser, *, root: str, size: tuple[int, int]) -> None:
    """The arguments of every such script: root, split, count, size, workers, preview, labelled."""
    height, width = size
    parser.add_argument("--root", type=Path, default=Path(root), help="cache folder (default: %(default)s)")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train", help="default: %(default)s")
    parser.add_argument("--count", type=int, default=1200, help="number of frames (default: %(default)s)")
    parser.add_argument(
        "--size", type=size_argument, default=size, metavar="HxW", help=f"canvas in pixels (default: {height}x{width})"
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: %(default)s)")
    parser.add_argument("--preview", type=Path, metavar="PNG", help="draw some frames beside their truths")
    parser.add_argument("--labelled", type=Path, metavar="DIR", help="write them as images with their truths into a new folder")


def check_new_folder(folder: Path | None) -> None:
    """Raises BuildError where there is one already."""
    if folder is not None and folder.exists():
        raise BuildError(f"{folder} exists already. Name a new folder: --labelled DIR")


def write_preview(path: Path | None, frames: _Frames, contact_sheet: Callable[..., Any]) -> None:
    """Draw the first dozen frames, where a path is given."""
    if path is not None:
        from edge_mtl.image.encoding import encode_image

        sheet = contact_sheet((frames[index] for index in range(min(_PREVIEW_FRAMES, len(frames)))), columns=2)
        write_atomic(path, encode_image(sheet))


def write_labelled(folder: Path | None, frames: FrameSource, size: tuple[int, int]) -> None:
    """Write all frames with their truths as `edge-mtl verify --data` reads them, where a folder is given."""
    if folder is None:
        return
    from mtl.bundle_frames import write_evaluation

    with atomic_directory(folder) as making:
        write_evaluation(making, frames, frames.tasks, range(len(frames)), size, _JPEG_QUALITY)


def tell(asked: argparse.Namespace, what: str, count: int, folder: Path) -> None:
    """Say what was made and where it is."""
    say(f"{count} {what} in {folder}")
    if asked.preview is not None:
        say(f"contact sheet: {asked.preview}")
    if asked.labelled is not None:
        say(f"images with truths: {asked.labelled}")
