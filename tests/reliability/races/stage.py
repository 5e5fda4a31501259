"""What a schedule plays with: two revisions of a tiny bundle, with weights and engines of their own, and their answers."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from unittest import mock

import cv2

from edge_mtl import Engine
from edge_mtl.builder import pipeline
from edge_mtl.builder.pipeline import build_engine
from edge_mtl.bundle import ENGINES, MANIFEST, Bundle, kept_revision
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.engine_store.revision import history
from edge_mtl.engine_store.sidecars import EngineRecord, engine_file
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import sha256_bytes
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.bundles import make_bundle, make_image
from tests.reliability.races.processes import together

__all__ = ["SIZE", "Stage", "answer", "build", "make_stage"]

SIZE = 16
NAME = "tiny"


def answer(path: Path, *, precision: str = "int8", self_test: str = "load") -> str:
    """Digest of what the engine of the bundle at `path` says of one image, opened, asked and closed."""
    with Engine(path, backend="onnxruntime", precision=precision, threads=1, self_test=self_test) as engine:  # type: ignore[arg-type]
        return digest(engine)


def digest(engine: Engine) -> str:
    """Of the maps of one image."""
    prediction = engine.predict(make_image(5, height=SIZE, width=SIZE), finish="lazily")
    maps = (prediction.segmentation, prediction.depth, prediction.normals)
    return hashlib.sha256(b"".join(values.tobytes() for values in maps if values is not None)).hexdigest()[:16]


def build(path: Path) -> bool:
    """Build an INT8 engine in one round of timing; whether it was built rather than taken from another build."""
    with mock.patch.object(pipeline, "_ROUNDS", 1), mock.patch.object(pipeline, "_BUDGET_S", 0.1):
        report = build_engine(Bundle.open(path), precision="int8", backend="onnxruntime", threads=1, budget=None)
    return not report.reused


@dataclass(frozen=True, slots=True)
class Stage:
    """A folder of a schedule's own.

    Attributes:
        folder: holds NAME, the newer revision, and NAME.revision-1, the older one.
        answers: by (revision, precision).
    """

    folder: Path
    answers: dict[tuple[int, str], str]

    @property
    def path(self) -> Path:
        """The bundle."""
        return self.folder / NAME

    @property
    def old(self) -> Path:
        """The revision before."""
        return kept_revision(self.path, 1)

    def copy(self, folder: Path) -> Stage:
        """The same in another folder, that must not be there."""
        shutil.copytree(self.folder, folder)
        return replace(self, folder=folder)

    def without_engines(self) -> Stage:
        """The same, its engines removed."""
        for path in (self.path, self.old):
            shutil.rmtree(path / ENGINES)
        return self

    def engine(self) -> tuple[EngineRecord, bytes]:
        """The INT8 engine of the newer revision."""
        store = EngineStore(Bundle.open(self.path))
        (record,) = store.list()
        return record, store.load(record)

    def other_engine(self) -> tuple[EngineRecord, bytes]:
        """An engine of the same key with other bytes, which answers as the older revision does."""
        record, _ = self.engine()
        (older,) = (self.old / ENGINES).glob("*.onnx")
        payload = older.read_bytes()
        digest_ = sha256_bytes(payload)
        file = engine_file(record.key, digest_, record.backend)
        return replace(record, sha256=digest_, size=len(payload), file=file), payload

    def faults(self, *, engines: Iterable[int] = (1,)) -> list[str]:
        """What is not whole afterwards, asked of the files and not of the locks and counts that were to keep them whole."""
        found = []
        cache = Path(os.environ["XDG_CACHE_HOME"]) / "edge_mtl"
        for place in (self.folder, cache):
            for path in place.rglob(f"{TEMPORARY_PREFIX}*"):
                found.append(f"{path.relative_to(place)} is left")
            for path in place.rglob("*.lock"):
                try:
                    with exclusive(path, timeout_s=0.0):
                        pass
                except EdgeMtlError:
                    found.append(f"{path.relative_to(place)} is still held")
        for path in (self.path, *history(self.path).values()):
            try:
                bundle = Bundle.open(path)
                bundle.verify()
                store = EngineStore(bundle)
                found += [f"{path.name}: {problem}" for problem in store.problems()]
                for record in store.list():
                    store.load(record)
                described = {record.file for record in store.list()}
            except EdgeMtlError as exc:
                found.append(f"{path.name}: {type(exc).__name__}: {exc}")
                continue
            if path == self.path and len(described) not in engines:
                found.append(f"{path.name}: {len(described)} engines, {' or '.join(map(str, engines))} were expected")
            lying = {file.name for file in (path / ENGINES).glob("*.onnx")} if (path / ENGINES).is_dir() else set()
            found += [f"{path.name}: {name} is described by nothing" for name in sorted(lying - described)]
        return found


def make_stage(folder: Path) -> Stage:
    """Make both revisions, their engines, and ask them."""
    cv2.setNumThreads(0)
    folder.mkdir(parents=True)
    stage = Stage(folder, {})
    counts = {"calibration": 4, "evaluation": 2, "golden": 1}
    for number, path in ((1, stage.old), (2, stage.path)):
        made = make_bundle(folder / f"seed-{number}", height=SIZE, width=SIZE, seed=number, **counts)  # type: ignore[arg-type]
        content = json.loads((made.path / MANIFEST).read_bytes())
        content |= {"revision": number, "parent": number - 1}
        (made.path / MANIFEST).write_text(json.dumps(content))
        made.path.rename(path)

    def ask() -> dict[tuple[int, str], str]:
        answers = {}
        for number, path in ((1, stage.old), (2, stage.path)):
            assert build(path)
            for precision in ("int8", "fp32"):
                answers[number, precision] = answer(path, precision=precision)
        return answers

    (outcome,) = together(0, [("ask", ask)], calm=("ask",))  # this process never holds an engine: it is forked from
    if outcome.error:
        raise RuntimeError(outcome.error)
    assert len(set(outcome.value.values())) == 4, "all four answer differently"
    return replace(stage, answers=outcome.value)
