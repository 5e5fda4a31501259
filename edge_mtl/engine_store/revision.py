"""Revisions of a bundle: committing the next one, going back, and repairing what a killed process left.

Knows folders, numbers and locks; knows nothing about what changes between revisions. Bundle NAME lies at NAME, the
revisions before it beside it as NAME.revision-N, each a whole bundle with the engines that were built for it. Where the
file system can exchange two names in one step (Linux, local disks), NAME is a usable bundle at every moment, also for a
process that is killed; elsewhere `repair` puts it back.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_mtl.bundle import ENGINES, MANIFEST, Bundle, kept_revision, new_revision
from edge_mtl.engine_store.engines import LOCK
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.errors import BundleError
from edge_mtl.files import exchange
from edge_mtl.remedies import told
from edge_mtl.tasks import Specs
from edge_mtl.unfinished import temporary_folders

__all__ = ["KEPT_REVISIONS", "changing", "commit", "copy_engines", "history", "repair", "rollback"]

KEPT_REVISIONS = 3
"""How many older revisions stay; the oldest go when there are more."""

_LOCK_TIMEOUT_S = 600.0
_NUMBERED = re.compile(r"\.revision-([0-9]+)$")


@contextmanager
def changing(path: Path, *, waiting: Callable[[], None] | None = None) -> Iterator[Bundle]:
    """Hold the bundle at `path` for a change of its revision; yields it, repaired and opened.

    Raises:
        BundleError: there is no bundle, or its folder cannot be written.
        BuildError: another process held it for ten minutes.
    """
    place = path.resolve()
    try:
        lock = exclusive(place.with_name(f".{place.name}.lock"), timeout_s=_LOCK_TIMEOUT_S, waiting=waiting)
        lock.__enter__()
    except OSError as exc:
        raise BundleError(
            f"A new revision of {path} cannot be written: {exc.strerror or exc}. Copy the bundle to a folder of your own first."
        ) from exc
    try:
        repair(place)
        yield Bundle.open(place)
    finally:
        lock.__exit__(None, None, None)


def commit(
    bundle: Bundle,
    change: Callable[[Path], None],
    *,
    accuracy: Mapping[str, Mapping[str, Any]] | None = None,
    calibration: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    measurements: Mapping[str, Mapping[str, Any]] | None = None,
    tasks: Specs | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Bundle:
    """Make the next revision of a bundle that `changing` yielded; the old one is kept, the oldest ones go.

    Args:
        change: edits the files of a copy; it may put engines into its `engines` folder.
        accuracy, calibration, card, measurements, tasks, provenance: entries of the manifest to replace.
    Raises:
        BundleError: the folder cannot be written; the bundle is as it was.
    """
    kept = history(bundle.path)
    number = max([bundle.manifest.revision, *kept]) + 1
    with _engines_held(bundle.path):
        made = new_revision(
            bundle,
            change,
            accuracy=accuracy,
            calibration=calibration,
            card=card,
            measurements=measurements,
            tasks=tasks,
            provenance=provenance,
            revision=number,
        )
    for old in sorted(history(bundle.path))[:-KEPT_REVISIONS]:
        shutil.rmtree(kept_revision(bundle.path, old), ignore_errors=True)
    return made


def rollback(path: Path, *, to: int | None = None) -> Bundle:
    """Put a kept revision back in place; the one that was there is kept in its stead.

    Args:
        to: its number; by default the one that the current one was made from, or where that is not known or kept no more
            the newest that is older.
    Raises:
        BundleError: there is no such revision, or it was altered; the bundle is as it was.
    """
    with changing(path) as current:
        kept = history(current.path)
        older = [number for number in kept if number < current.manifest.revision]
        parent = current.manifest.parent
        before = parent if parent in kept else max(older, default=None)
        wanted = to if to is not None else before
        if wanted not in kept:
            found = ", ".join(str(number) for number in sorted(kept)) or "none"
            asked = f"revision {to}" if to is not None else f"a revision before {current.manifest.revision}"
            raise BundleError(f"{path}: {asked} was expected among those kept; found {found}.")
        old = kept[wanted]
        Bundle.open(old).verify()
        try:
            with _engines_held(current.path):
                exchange(old, current.path)
                try:
                    os.replace(old, kept_revision(current.path, current.manifest.revision))
                except OSError:
                    exchange(old, current.path)
                    raise
        except OSError as exc:
            raise BundleError(f"{path} cannot be rolled back {told(exc)}") from exc
        return Bundle.open(current.path)


def history(path: Path) -> dict[int, Path]:
    """The kept revisions of the bundle at `path` by number."""
    place = path.resolve()
    found: dict[int, Path] = {}
    for entry in place.parent.glob(f"{place.name}.revision-*") if place.parent.is_dir() else ():
        matched = _NUMBERED.search(entry.name)
        if matched and entry.name == kept_revision(place, int(matched[1])).name and (entry / MANIFEST).is_file():
            found[int(matched[1])] = entry
    return found


def repair(path: Path) -> None:
    """Finish or undo what a killed process left half-done beside the bundle at `path`. Call it only with the lock held.

    A leftover that is a whole older revision becomes a kept one again; anything else is removed. Where the bundle itself
    is missing, the newest whole revision takes its place.
    """
    current = _whole(path)
    left = [folder for entry in temporary_folders(path) for folder in (entry, entry / path.name) if folder.is_dir()]
    if current is None and not path.exists():
        candidates = [bundle for folder in [*left, *history(path).values()] if (bundle := _whole(folder)) is not None]
        best = max(candidates, key=lambda bundle: bundle.manifest.revision, default=None)
        if best is not None:
            os.replace(best.path, path)
            current = _whole(path)
    if current is None:
        return  # damaged or no bundle at all: nothing here may be thrown away
    for number, folder in history(path).items():  # a rollback killed between its two steps leaves a wrong number
        bundle = _whole(folder)
        if bundle is not None and bundle.manifest.revision != number:
            _keep(bundle, path)
    for folder in left:
        bundle = _whole(folder) if folder.is_dir() else None
        if bundle is not None and bundle.manifest.revision < current.manifest.revision:
            _keep(bundle, path)
    for entry in temporary_folders(path):
        shutil.rmtree(entry, ignore_errors=True)


def copy_engines(source: Bundle, folder: Path) -> None:
    """Take the engines of `source` along into the new revision in `folder`: right where the optimized ONNX stays the same."""
    engines = source.path / ENGINES
    if not engines.is_dir():
        return
    target = folder / ENGINES
    target.mkdir(mode=0o700)
    for path in sorted(engines.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            with contextlib.suppress(FileNotFoundError):  # replaced by a build meanwhile
                shutil.copy2(path, target / path.name)


@contextmanager
def _engines_held(path: Path) -> Iterator[None]:
    """Let builds of the bundle at `path` end before it gives way: their engines belong to it and not to the next revision.

    Raises:
        BundleError: the lock of its engines cannot be taken.
        BuildError: a build lasts longer than ten minutes.
    """
    lock = path / ENGINES / LOCK
    if not os.access(lock.parent, os.W_OK):  # nobody builds there
        yield
        return
    try:
        held = exclusive(lock, timeout_s=_LOCK_TIMEOUT_S)
        held.__enter__()
    except OSError as exc:
        raise BundleError(f"{lock} cannot be locked ({exc.strerror or exc}). Delete it, then run the command again.") from exc
    try:
        yield
    finally:
        held.__exit__(None, None, None)


def _keep(bundle: Bundle, path: Path) -> None:
    target = kept_revision(path, bundle.manifest.revision)
    if not target.exists():
        os.replace(bundle.path, target)


def _whole(folder: Path) -> Bundle | None:
    """The bundle in `folder` if all of its files are there and unaltered."""
    try:
        bundle = Bundle.open(folder)
        bundle.verify()
    except BundleError:
        return None
    return bundle
