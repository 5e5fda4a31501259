"""Folders of images: those directly in one, by name; or, of a data set, all below it or its train split."""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from pathlib import Path

from edge_mtl.errors import FrameError
from edge_mtl.image.bit_depth import FULL_BITS
from edge_mtl.remedies import told
from edge_mtl.sources.frame_source import FrameSource, SourceKind, Still, bits_identity, identity_of
from edge_mtl.sources.images import IMAGE_SUFFIXES, image_frame

__all__ = ["dataset_source", "folder_source", "list_images"]

_TRAIN = "train"
_TARGET_ENDINGS = (".label.png", ".depth.png", ".normals.png")


def folder_source(folder: Path, *, bits: int = FULL_BITS) -> FrameSource:
    """The images directly in `folder`, sorted by name. Their names are stems, with the suffix where two have one stem.

    Raises:
        FrameError: there is none, or the folder cannot be read.
    """
    paths = list_images(folder)
    stems = [path.stem for path in paths]
    names = [path.stem if stems.count(path.stem) == 1 else path.name.replace(".", "-") for path in paths]
    return _source("folder", folder.resolve().name or "folder", folder, paths, names, bits)


def dataset_source(folder: Path, *, bits: int = FULL_BITS) -> FrameSource:
    """The images in `folder` and below, by path; of a folder with a sub-folder "train" only those in that.

    Raises:
        FrameError: it holds no images, or cannot be read.
    """
    split = folder / _TRAIN
    inside = split if split.is_dir() else folder
    try:
        paths = sorted(path for path in inside.rglob("*") if _is_frame(path, inside))
    except OSError as exc:
        raise FrameError(f"{inside} cannot be read {told(exc)}") from exc
    if not paths:
        raise FrameError(
            f"{inside} holds no images ({' '.join(IMAGE_SUFFIXES)}): give a folder of images like those the device sees."
        )
    kind: SourceKind = "train split" if inside is split else "folder"
    names = [path.relative_to(inside).as_posix() for path in paths]
    return _source(kind, folder.resolve().name, inside, paths, names, bits)


def list_images(folder: Path) -> list[Path]:
    """The images directly in `folder`, sorted by name; hidden files are left out.

    Raises:
        FrameError: there is none, or the folder cannot be read.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as exc:
        raise FrameError(f"{folder} cannot be read {told(exc)}") from exc
    found = [p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not found:
        raise FrameError(f"{folder} has no images: expected files with {' '.join(IMAGE_SUFFIXES)}.")
    return found


def _source(kind: SourceKind, name: str, inside: Path, paths: list[Path], names: list[str], bits: int) -> FrameSource:
    try:
        facts = [f"{path.relative_to(inside).as_posix()} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in paths]
    except OSError as exc:
        raise FrameError(f"{inside} cannot be read {told(exc)}") from exc

    def stills() -> Generator[Still]:
        for path, title in zip(paths, names, strict=True):
            yield Still(title, partial(image_frame, path, title, bits=bits))

    identity = identity_of(kind, str(inside.resolve()), [*facts, *bits_identity(bits)])
    return FrameSource(name, kind, f"images in {inside}", identity, len(paths), stills)


def _is_frame(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    named = path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.endswith(_TARGET_ENDINGS)
    return named and not hidden and path.is_file()
