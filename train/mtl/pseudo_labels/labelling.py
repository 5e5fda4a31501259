"""The order of a run: describe the folder, open the engine, see what is missing, label image after image, keep the records."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import edge_mtl
from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.errors import BuildError, FrameError
from edge_mtl.files import sha256_bytes
from edge_mtl.image.frames import Intrinsics
from edge_mtl.io_spec import EngineInfo
from edge_mtl.tasks import Specs
from mtl.datasets.folder.description import DESCRIPTION, FolderDescription
from mtl.datasets.folder.reading import read_photo
from mtl.interrupts import StopRequest, deferred_stop
from mtl.pseudo_labels.answers import answer_of
from mtl.pseudo_labels.dataset_file import Stated, describe_folder
from mtl.pseudo_labels.plan import HeldOut, Job, Plan, list_photos, make_plan
from mtl.pseudo_labels.records import Entry, Records, Run, locked
from mtl.pseudo_labels.storage import Storage, storage_of
from mtl.pseudo_labels.trust import RULES, Thresholds, choose_tasks

__all__ = ["LabelOptions", "Labelled", "label_folder"]

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """How a folder is labelled.

    Attributes:
        tasks: of the bundle; empty for all that can be labelled.
        thresholds: what a pixel has to reach.
        precision, backend, device, threads: of the engine, see `edge_mtl.engine.Engine`.
        as_floats: write depth and normals as NumPy files; by default as the data set says, PNGs in a new one.
        held_out: what becomes of frames of val and test.
        limit: look at this many images only, for a trial; 0 for all.
    """

    tasks: tuple[str, ...] = ()
    thresholds: Thresholds = field(default_factory=Thresholds)
    precision: str = "fp32"
    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    as_floats: bool = False
    held_out: HeldOut = "auto"
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a run did.

    Attributes:
        description: of the folder, as it is now.
        tasks: that were labelled.
        records: of the folder, as they are now.
        plan: what was to be done.
        written: by task, frames labelled now.
        skipped: why images were left out, one text each.
        stopped: whether somebody stopped it before its end.
        engine: what answered.
    """

    description: FolderDescription
    tasks: Specs
    records: Records
    plan: Plan
    written: Mapping[str, tuple[str, ...]]
    skipped: tuple[str, ...]
    stopped: bool
    engine: EngineInfo

    def stems(self, task: str) -> tuple[str, ...]:
        """The frames that have a pseudo-label of this run or one like it, in the order of names."""
        return tuple(sorted({*self.plan.done[task], *self.written[task]}))


def label_folder(
    root: Path,
    bundle: Bundle,
    options: LabelOptions,
    *,
    stated: Stated | None = None,
    on_skip: Callable[[str], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Labelled:
    """Label the images of a folder with what an engine of `bundle` answers and can be trusted in.

    Never writes over a label that is not recorded as a pseudo-label. The first SIGINT or SIGTERM ends the run after the image
    that is being labelled; at every moment each label file is whole and recorded.

    Args:
        root: folder of the data set, see `mtl.datasets.folder`.
        stated: what a person says of a folder that has no `dataset.toml`.
        on_skip: called with the reason for each image that is left out.
        progress: called with (what is done, frames done, frames).
    Raises:
        BuildError: the folder, its description or records cannot be used or written, or another run is at work there.
        FrameError: no image could be read.
        BundleError, BackendUnavailable, AccuracyError, InferenceError: as Engine says.
    """
    if not root.is_dir():
        raise BuildError(f"{root} is not a folder: expected that of a data set, with the images in {root / 'images'}")
    tell = progress or (lambda what, done, total: None)
    tasks = choose_tasks(bundle.manifest.tasks, options.tasks)
    with locked(root):
        described = describe_folder(root, tasks, stated or Stated(), first_size=lambda images: _first_size(root / images))
        description = described.description
        photos = list_photos(root / description.images)
        if options.limit:
            photos = dict(list(photos.items())[: options.limit])
        storages = _storages(description, tasks, as_floats=options.as_floats)
        records = Records.open(root)
        with Engine(
            bundle,
            precision=options.precision,
            backend=options.backend,
            device=options.device,
            threads=options.threads,
        ) as engine:
            described.write()
            _make_folders(root, storages)
            run = _run(bundle, engine.info, tasks, storages, options.thresholds)
            plan = make_plan(
                description,
                photos,
                storages,
                tasks,
                records,
                run,
                held_out=options.held_out,
                progress=lambda done, total: tell("looking at files", done, total),
            )
            work = _Work(engine, description, tasks, storages, records, run, options.thresholds)
            for reason in plan.unreadable:
                work.skip(reason, on_skip)
            try:
                with deferred_stop() as stop:
                    work.label(plan, stop, on_skip, tell)
            finally:
                records.save()
            if work.skipped and not any(work.written.values()) and not any(plan.done.values()):
                raise FrameError(f"None of the {len(work.skipped)} images can be labelled; the first: {work.skipped[0]}")
            return Labelled(
                description,
                tasks,
                records,
                plan,
                {task: tuple(stems) for task, stems in work.written.items()},
                tuple(work.skipped),
                stop.asked,
                engine.info,
            )


class _Work:
    """One run over the jobs of a plan."""

    def __init__(
        self,
        engine: Engine,
        description: FolderDescription,
        tasks: Specs,
        storages: Mapping[str, Storage],
        records: Records,
        run: Run,
        thresholds: Thresholds,
    ) -> None:
        self._engine, self._description, self._tasks = engine, description, tasks
        self._storages, self._records, self._run, self._thresholds = storages, records, run, thresholds
        self.written: dict[str, list[str]] = {task: [] for task in tasks}
        self.skipped: list[str] = []

    def skip(self, reason: str, on_skip: Callable[[str], None] | None) -> None:
        self.skipped.append(reason)
        if on_skip is not None:
            on_skip(reason)

    def label(
        self, plan: Plan, stop: StopRequest, on_skip: Callable[[str], None] | None, tell: Callable[[str, int, int], None]
    ) -> None:
        """Every job, until somebody asks to stop."""
        key = self._records.add_run(self._run) if plan.jobs else ""
        for number, job in enumerate(plan.jobs):
            tell("labelling", number, len(plan.jobs))
            if stop.asked:
                return
            try:
                image, camera = self._opened(job)
            except (BuildError, FrameError) as exc:
                self.skip(str(exc), on_skip)
                continue
            for task, truth in self._truths(job, image, camera).items():
                self._write(job, task, truth, key)
        tell("labelling", len(plan.jobs), len(plan.jobs))

    def _opened(self, job: Job) -> tuple[Array, Intrinsics | None]:
        """Image and camera. Raises BuildError or FrameError naming the file that cannot be used."""
        image = read_photo(job.photo)
        if not any(RULES[self._tasks[task].kind].mirrored for task in job.sources):
            return image, None
        size = (image.shape[0], image.shape[1])
        return image, Intrinsics(*self._description.camera.of(self._description.root, job.stem, size))

    def _truths(self, job: Job, image: Array, camera: Intrinsics | None) -> dict[str, Array]:
        rules = {task: RULES[self._tasks[task].kind] for task in job.sources}
        mirrored = [task for task, rule in rules.items() if rule.mirrored]
        answer = answer_of(self._engine, image, camera, tasks=list(rules), mirrored=mirrored)
        return {task: rule.truth(self._tasks[task], answer, self._thresholds) for task, rule in rules.items()}

    def _write(self, job: Job, task: str, truth: Array, key: str) -> None:
        storage = self._storages[task]
        stored = storage.stored(truth)
        payload = storage.encode(stored)
        kept = round(float(storage.known(stored).mean()), 6)
        entry = Entry(key, storage.file(job.stem), kept, sha256_bytes(payload), job.sources[task], storage.classes(stored))
        self._records.write(task, job.stem, entry, payload)
        self.written[task].append(job.stem)


def _storages(description: FolderDescription, tasks: Specs, *, as_floats: bool) -> dict[str, Storage]:
    found = {}
    for name, spec in tasks.items():
        try:
            found[name] = storage_of(spec, description.files[name], description.tasks[name], as_floats=as_floats)
        except BuildError as exc:
            raise BuildError(f"{description.root / DESCRIPTION}: {exc}") from exc
    return found


def _make_folders(root: Path, storages: Mapping[str, Storage]) -> None:
    for storage in storages.values():
        try:
            (root / storage.folder).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise BuildError(f"{root / storage.folder} cannot be made ({exc.strerror or exc}). Nothing was labelled") from exc


def _run(bundle: Bundle, engine: EngineInfo, tasks: Specs, storages: Mapping[str, Storage], thresholds: Thresholds) -> Run:
    settings: dict[str, dict[str, Any]] = {
        name: {**RULES[spec.kind].facts(thresholds), **storages[name].facts()} for name, spec in tasks.items()
    }
    return Run(
        bundle=bundle.name,
        revision=bundle.manifest.revision,
        digest=bundle.digest,
        precision=engine.precision,
        backend=engine.backend,
        runtime=engine.runtime_version,
        tasks=settings,
        started=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        version=edge_mtl.__version__,
    )


def _first_size(folder: Path) -> tuple[int, int]:
    """(H, W) of the first image that can be read. Raises FrameError where none can."""
    reason = None
    for path in list_photos(folder).values():
        try:
            image = read_photo(path)
        except BuildError as exc:
            reason = reason or exc
            continue
        return image.shape[0], image.shape[1]
    raise FrameError(f"None of the images in {folder} can be read; the first: {reason}")
