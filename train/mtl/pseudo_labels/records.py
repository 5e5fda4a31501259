"""Which files of a folder are pseudo-labels, who made them and how: `pseudo-labels.json`. Knows nothing about engines.

A label is written down in a journal before its file is there, so that a process that is killed leaves no file that could be
taken for a person's work. What the journal says of files that were never written is dropped when it is read.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edge_mtl.documents import parse_json
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes, sha256_file, write_atomic

__all__ = ["RECORDS", "Entry", "Records", "Run", "State", "locked"]

RECORDS = "pseudo-labels.json"
_JOURNAL = ".pseudo-labels.journal"
_LOCK = ".pseudo-labels.lock"
_FORMAT = "edge_mtl pseudo-labels 1"
_ADVICE = (
    "it says which label files are pseudo-labels. Restore it; or, where no person labelled anything here, remove it with the "
    "label folders"
)

State = Literal["absent", "ours", "changed", "foreign"]
"""Of a label file: not there; as it was recorded; recorded, but with another content now; not recorded."""


@dataclass(frozen=True, slots=True)
class Run:
    """How labels were made.

    Attributes:
        bundle, revision, digest: name, revision and SHA-256 of the manifest of the bundle.
        precision, backend, runtime: of the engine: "fp32", "onnxruntime", its version.
        tasks: by task, what its labels depend on: its thresholds and how it is stored.
        started: ISO 8601 time, UTC.
        version: of edge_mtl.
    """

    bundle: str
    revision: int
    digest: str
    precision: str
    backend: str
    runtime: str
    tasks: Mapping[str, Mapping[str, Any]]
    started: str
    version: str

    def __post_init__(self) -> None:
        _require(str, self.bundle, self.digest, self.precision, self.backend, self.runtime, self.started, self.version)
        _require(int, self.revision)
        _require(Mapping, self.tasks, *self.tasks.values())

    @property
    def key(self) -> str:
        """Under which it is recorded."""
        return sha256_bytes(json.dumps(asdict(self), sort_keys=True).encode())[:12]

    def same_labels(self, other: Run, task: str) -> bool:
        """Whether both label `task` alike: bundle, precision, thresholds and storage, whatever ran them and when."""
        ours, theirs = self.tasks.get(task), other.tasks.get(task)
        return (self.digest, self.precision, ours) == (other.digest, other.precision, theirs)


@dataclass(frozen=True, slots=True)
class Entry:
    """One label file.

    Attributes:
        run: key of its run.
        file: path below the folder, "/" as separator.
        kept: share of the pixels that are labelled, 0..1.
        sha256: of the file.
        source: SHA-256 of the image and its camera: what was labelled.
        classes: of labels, share of the frame's pixels by name of class, of those that occur; empty for other kinds.
    """

    run: str
    file: str
    kept: float
    sha256: str
    source: str
    classes: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(str, self.run, self.file, self.sha256, self.source)
        _require(Mapping, self.classes)
        _require((int, float), self.kept, *self.classes.values())


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Keep other runs out of the folder within the block.

    Raises:
        BuildError: one is at work there, or the folder cannot be written to.
    """
    try:
        with exclusive(root / _LOCK, timeout_s=0.0):
            yield
    except BuildError as exc:
        if isinstance(exc.__cause__, BlockingIOError):
            raise BuildError(f"{root} is being labelled by another process. Run again when that has ended") from exc
        raise


class Records:
    """The records of one folder; one process at a time may write them, see `locked`.

    Attributes:
        runs: by key.
        entries: by task and stem.
    """

    def __init__(self, root: Path, runs: dict[str, Run], entries: dict[str, dict[str, Entry]]) -> None:
        self.root, self.runs, self.entries = root, runs, entries

    @classmethod
    def open(cls, root: Path) -> Records:
        """The records of `root`, empty where there are none; with what a killed process had written down.

        Raises:
            BuildError: they cannot be read or are no such records: without them nobody knows which labels a person made.
        """
        records = _read(root)
        journal = root / _JOURNAL
        try:
            lines = journal.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return records
        except OSError as exc:
            raise BuildError(f"{journal} cannot be read ({exc.strerror or exc}). Mend its permissions") from exc
        for line in lines:
            records._replay(line)
        return records

    def entry(self, task: str, stem: str) -> Entry | None:
        """What is recorded of a label."""
        return self.entries.get(task, {}).get(stem)

    def state(self, task: str, stem: str, path: Path) -> State:
        """What lies at `path`, a place for the label of `task` for `stem`. Raises BuildError where it cannot be read."""
        digest = _digest(path)
        if digest is None:
            return "absent"
        entry = self.entry(task, stem)
        if entry is None or self.root / entry.file != path:
            return "foreign"
        return "ours" if digest == entry.sha256 else "changed"

    def add_run(self, run: Run) -> str:
        """Record a run; its key."""
        if run.key not in self.runs:
            self._note({"run": asdict(run)})
            self.runs[run.key] = run
        return run.key

    def write(self, task: str, stem: str, entry: Entry, payload: bytes) -> None:
        """Write a label file after what is known of it was written down; a pseudo-label of another name goes.

        Raises:
            BuildError: the disk is full, or the folder is not writable; no half-written file is left.
        """
        path, before = self.root / entry.file, self.entry(task, stem)
        self._note({"task": task, "stem": stem, "entry": asdict(entry)})
        try:
            if before is not None and before.file != entry.file and self.state(task, stem, self.root / before.file) == "ours":
                (self.root / before.file).unlink()
            write_atomic(path, payload)
        except OSError as exc:
            raise BuildError(f"{path} cannot be written ({exc.strerror or exc}); labels written before stay") from exc
        self.entries.setdefault(task, {})[stem] = entry

    def save(self) -> None:
        """Write `pseudo-labels.json`, or remove it where nothing is recorded; then the journal is not needed any more.

        Raises:
            BuildError: it cannot be written.
        """
        path = self.root / RECORDS
        try:
            if any(self.entries.values()):
                write_atomic(path, self._to_json())
            else:
                path.unlink(missing_ok=True)
            (self.root / _JOURNAL).unlink(missing_ok=True)
        except OSError as exc:
            raise BuildError(f"{path} cannot be written ({exc.strerror or exc}). Run again when it can") from exc

    def _to_json(self) -> bytes:
        """By task and stem, sorted; without runs of which no label is left."""
        files = {
            task: {stem: asdict(entries[stem]) for stem in sorted(entries)}
            for task, entries in sorted(self.entries.items())
            if entries
        }
        used = {entry.run for entries in self.entries.values() for entry in entries.values()}
        runs = {key: asdict(run) for key, run in self.runs.items() if key in used}
        return (json.dumps({"format": _FORMAT, "runs": runs, "files": files}, indent=1, ensure_ascii=False) + "\n").encode()

    def _note(self, content: Mapping[str, Any]) -> None:
        """Append a line to the journal and wait until it is on the disk."""
        path = self.root / _JOURNAL
        try:
            with path.open("ab") as stream:
                stream.write(json.dumps(content).encode() + b"\n")
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as exc:
            raise BuildError(f"{path} cannot be written ({exc.strerror or exc}); labels written before stay") from exc

    def _replay(self, line: str) -> None:
        """Take over one line of the journal: a label only where its file is there as it was written down."""
        try:
            content = parse_json(line)
            if "run" in content:
                run = Run(**content["run"])
                self.runs[run.key] = run
                return
            task, stem, entry = str(content["task"]), str(content["stem"]), Entry(**content["entry"])
        except (ValueError, TypeError, KeyError):
            return  # cut off when the process was killed: its file was not begun
        if entry.run in self.runs and _digest(self.root / entry.file) == entry.sha256:
            self.entries.setdefault(task, {})[stem] = entry


def _read(root: Path) -> Records:
    path = root / RECORDS
    try:
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        return Records(root, {}, {})
    except (OSError, ValueError) as exc:
        raise BuildError(f"{path} cannot be read ({exc}): {_ADVICE}") from exc
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise BuildError(f"{path} should be of the format {_FORMAT!r}: {_ADVICE}")
    try:
        runs = {key: Run(**run) for key, run in content["runs"].items()}
        files = {task: {stem: Entry(**entry) for stem, entry in found.items()} for task, found in content["files"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise BuildError(f"{path} lacks what it should say ({exc}): {_ADVICE}") from exc
    if unknown := {entry.run for found in files.values() for entry in found.values()} - set(runs):
        raise BuildError(f"{path} names a run {min(unknown)!r} that it does not describe: {_ADVICE}")
    return Records(root, runs, files)


def _require(kind: type | tuple[type, ...], *values: object) -> None:
    """Raise TypeError where one of `values`, as a file may hold them, is of another kind."""
    for value in values:
        if not isinstance(value, kind):
            raise TypeError(f"a {type(value).__name__} where another kind is expected")


def _digest(path: Path) -> str | None:
    """SHA-256 of a file; None where there is none."""
    try:
        return sha256_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise BuildError(f"{path} cannot be read ({exc.strerror or exc}). Mend its permissions, or move it away") from exc
