"""Which labels are to be made: images without one, and pseudo-labels of another run; what people made is left alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes, sha256_file
from edge_mtl.tasks import Specs
from mtl.datasets.folder.camera import CameraFiles
from mtl.datasets.folder.description import FolderDescription
from mtl.datasets.folder.index import files_below
from mtl.datasets.folder.reading import PHOTO_SUFFIXES
from mtl.pseudo_labels.records import Records, Run
from mtl.pseudo_labels.storage import Storage

__all__ = ["HeldOut", "Job", "Plan", "list_photos", "make_plan"]

HeldOut = Literal["auto", "skip", "label"]
"""Frames of val and test: left out where some of them have labels of people, always, or never."""


@dataclass(frozen=True, slots=True)
class Job:
    """One image and the tasks that it is to be labelled for.

    Attributes:
        sources: by task, SHA-256 of the image and, where it matters, its camera.
    """

    stem: str
    photo: Path
    sources: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        jobs: in the order of names.
        done: by task, frames that have the label already.
        theirs: by task, label files that are left alone: nobody recorded them, or they were changed since.
        held_out: by task, frames of val and test that are left without a label.
        measured: tasks whose frames of val and test get pseudo-labels: what is measured there is agreement, not accuracy.
        unreadable: why images or label files could not be read, one text each.
    """

    jobs: tuple[Job, ...]
    done: Mapping[str, tuple[str, ...]]
    theirs: Mapping[str, tuple[Path, ...]]
    held_out: Mapping[str, int]
    measured: tuple[str, ...]
    unreadable: tuple[str, ...]


def list_photos(folder: Path) -> dict[str, Path]:
    """The images of a data set by frame. Raises BuildError where there are none, or two of one frame."""
    photos, doubled = files_below(folder, PHOTO_SUFFIXES)
    if not photos:
        what = f"has no images ({', '.join(PHOTO_SUFFIXES)})" if folder.is_dir() else "is not there"
        raise BuildError(f"{folder} {what}: expected the images to label. Put them there, or mend images in dataset.toml")
    if doubled:
        raise BuildError(f"{doubled[0]}: another file has the same name but for its suffix; expected one. Take one out")
    return photos


def make_plan(
    description: FolderDescription,
    photos: Mapping[str, Path],
    storages: Mapping[str, Storage],
    specs: Specs,
    records: Records,
    run: Run,
    *,
    held_out: HeldOut,
    progress: Callable[[int, int], None],
) -> Plan:
    """Look at every image and what lies beside it. Reads files, writes none.

    Args:
        photos: image by frame.
        storages, specs: by task, those to label.
        run: the one that is about to begin.
        progress: called with (frames looked at, frames).
    Raises:
        BuildError: a list of a split or a label file cannot be read.
    """
    assigned = description.splits.assigned(description.root, photos)
    outside = {*assigned.stems["val"], *assigned.stems["test"]}
    theirs = {task: _theirs(task, storage, records, photos) for task, storage in storages.items()}
    skipped = {
        task: held_out == "skip" or (held_out == "auto" and any(s in outside for s in theirs[task])) for task in storages
    }
    done: dict[str, list[str]] = {task: [] for task in storages}
    left_out = dict.fromkeys(storages, 0)
    jobs, unreadable = [], []
    for number, (stem, photo) in enumerate(photos.items(), 1):
        progress(number, len(photos))
        wanted = [task for task in storages if stem not in theirs[task]]
        if stem in outside:
            for task in [task for task in wanted if skipped[task]]:
                left_out[task] += 1
                wanted.remove(task)
        try:
            sources = {task: _source(description, stem, photo, geometric=specs[task].kind != "labels") for task in wanted}
        except OSError as exc:
            unreadable.append(f"{exc.filename or photo} cannot be read: {exc.strerror or exc}")
            continue
        for task in wanted:
            if _is_done(records, run, task, stem, sources[task], storages[task]):
                done[task].append(stem)
                del sources[task]
        if sources:
            jobs.append(Job(stem, photo, sources))
    return Plan(
        tuple(jobs),
        {task: tuple(stems) for task, stems in done.items()},
        {task: tuple(found.values()) for task, found in theirs.items()},
        left_out,
        tuple(task for task in storages if outside and not skipped[task]),
        tuple(unreadable),
    )


def _theirs(task: str, storage: Storage, records: Records, stems: Sequence[str] | Mapping[str, Path]) -> dict[str, Path]:
    """By frame, a label file that is not ours to write over."""
    found = {}
    for stem in stems:
        for place in storage.places(stem):
            path = records.root / place
            if records.state(task, stem, path) in ("foreign", "changed"):
                found[stem] = path
                break
    return found


def _is_done(records: Records, run: Run, task: str, stem: str, source: str, storage: Storage) -> bool:
    entry = records.entry(task, stem)
    if entry is None or entry.source != source or entry.file != storage.file(stem):
        return False
    same = run.same_labels(records.runs[entry.run], task)
    return same and records.state(task, stem, records.root / entry.file) == "ours"


def _source(description: FolderDescription, stem: str, photo: Path, *, geometric: bool) -> str:
    """SHA-256 of what decides the answer: the image, and the camera of depth and normals."""
    if not geometric:
        return sha256_file(photo)
    camera = description.camera
    if isinstance(camera, CameraFiles):
        return sha256_bytes(f"{sha256_file(photo)} {sha256_file(description.root / camera.folder / f'{stem}.json')}".encode())
    return sha256_bytes(f"{sha256_file(photo)} {camera}".encode())
