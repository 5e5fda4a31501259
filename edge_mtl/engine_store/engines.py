"""The engine store: engines built on this device, verified before anyone may use them. Knows files, keys and owners.

Engines lie in BUNDLE/engines/, or in the user's cache under the bundle's hash where the bundle is read-only:
`<key>.<digest>.onnx` or `.plan`, and `<key>.json`, which names it. What is handed out are bytes whose size and SHA-256 were
checked; a runtime never opens a path. Knows nothing about frames, and imports no runtime.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.backends import available
from edge_mtl.backends.selection import check_known
from edge_mtl.bundle import ENGINES, OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.cuda.gpus import Gpu, gpus
from edge_mtl.device import DeviceFingerprint, fingerprint
from edge_mtl.engine_store.compiled import CompiledStore
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.engine_store.private_files import check_owner, read_checked
from edge_mtl.engine_store.sidecars import EngineRecord
from edge_mtl.engine_store.trusted_plans import TrustedPlans
from edge_mtl.engine_store.validity import why_stale
from edge_mtl.errors import BackendUnavailable, BuildError, BundleError, EngineMismatch
from edge_mtl.files import read_regular, sha256_bytes, write_atomic
from edge_mtl.remedies import told
from edge_mtl.unfinished import left_behind, make_file, sweep_temporaries, unfinished_name

__all__ = ["LOCK", "EngineSelection", "EngineStore", "cache_folder"]

AUTO = "auto"

_COMPILED_SHARE = 1.25
"""Room for what a runtime compiles of an engine, per byte of the graph: 1.01 to 1.03 were measured on processors."""

_OVERHEAD_BYTES = 1 << 20
"""Of an engine, whatever its size: the sidecar, and what compiled code holds besides weights."""

LOCK = ".lock"
"""In the folder of engines: who holds it may change what is there, or put another folder in its place."""

_MAX_SIDECAR_BYTES = 1 << 20
_NO_HOME = Path("/nonexistent")
"""Home of users that have none, by the convention of Debian (adduser); no folder."""
_PRECISIONS: Mapping[str, tuple[str, ...]] = {"int8": ("int8", "int8+bf16", "int8+fp16")}
"""Engines that a precision asked for by name covers, where there are several."""


@dataclass(frozen=True, slots=True)
class EngineSelection:
    """The engine to use, None if there is none, and why."""

    record: EngineRecord | None
    reason: str


def cache_folder() -> Path:
    """Where engines of read-only bundles and compiled code go: $XDG_CACHE_HOME/edge_mtl, by default ~/.cache/edge_mtl.

    A user without a home, as in a container whose user has no entry in /etc/passwd, has a folder that cannot be written.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base) / "edge_mtl"
    try:
        home = Path.home()
    except RuntimeError:
        home = _NO_HOME
    return home / ".cache" / "edge_mtl"


class EngineStore:
    """The engines of one bundle on this device.

    Args:
        bundle: whose engines; only its path, digest and file list are used.
        device: this machine by default.
        runtimes: version by name of the runtimes that are here; looked up by default.
        gpu: that plans must have been built for; the first one by default, looked up where there is an engine of a GPU.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: DeviceFingerprint | None = None,
        runtimes: Mapping[str, str] | None = None,
        gpu: Gpu | None = None,
    ) -> None:
        self._bundle = bundle
        self._device = device
        self._runtimes = runtimes
        self._gpu = gpu

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where engines may lie, the bundle's own folder first."""
        return self._bundle.path / ENGINES, cache_folder() / self._bundle.digest[:32]

    @property
    def folder(self) -> Path:
        """Where engines are written: the bundle's folder, or the user's cache where that is read-only."""
        inside, cached = self.folders
        target = inside if inside.exists() else self._bundle.path
        return inside if os.access(target, os.W_OK) else cached

    @property
    def compiled(self) -> CompiledStore:
        """Compiled code of engines, this bundle's and others'; in the user's cache wherever the engines lie."""
        return CompiledStore(cache_folder() / "compiled")

    @property
    def receipts(self) -> TrustedPlans:
        """Which engines this user built; in the user's cache wherever the engines lie."""
        return TrustedPlans(cache_folder() / "built")

    @property
    def timings(self) -> Path:
        """Folder for timings of kernels that builds share."""
        return cache_folder() / "timings"

    @property
    def gpu(self) -> Gpu | None:
        """The GPU that engines must have been built for; None without one."""
        if self._gpu is None:
            self._gpu = next(iter(gpus()), None)
        return self._gpu

    @property
    def device(self) -> DeviceFingerprint:
        """The machine that engines must have been built on."""
        if self._device is None:
            self._device = fingerprint()
        return self._device

    @property
    def runtimes(self) -> Mapping[str, str]:
        """Version by name of every runtime that is here."""
        if self._runtimes is None:
            self._runtimes = {name: found.version for name, found in available().items() if found.usable}
        return self._runtimes

    def list(self) -> tuple[EngineRecord, ...]:
        """Every described engine, of any device, fastest first; unreadable sidecars are left out (`problems` names them)."""
        records = [record for _, record in self._entries() if isinstance(record, EngineRecord)]
        return tuple(sorted(records, key=lambda record: (-record.ratio, record.key)))

    def problems(self) -> tuple[str, ...]:
        """What is wrong with sidecars that cannot be used, one sentence each."""
        return tuple(str(found) for _, found in self._entries() if isinstance(found, BundleError))

    def mismatch(self, record: EngineRecord) -> str | None:
        """Why an engine cannot be used here, as a sentence; None if it can. A missing runtime is not a mismatch."""
        current = self._bundle.entry(OPTIMIZED_ONNX) if self._bundle.has(OPTIMIZED_ONNX) else None
        version = self.runtimes.get(record.backend)
        return why_stale(
            record,
            graph_sha256=current.sha256 if current is not None else None,
            device=self.device,
            version=version,
            gpu=self.gpu if record.gpu is not None and version is not None else None,
        )

    def find(self, *, precision: str = AUTO, backend: str = AUTO) -> tuple[EngineRecord, ...]:
        """Engines of that precision and backend, of any device and version, fastest first; "int8" covers "int8+bf16"."""
        covered = _PRECISIONS.get(precision, (precision,))
        return tuple(
            record
            for record in self.list()
            if (precision == AUTO or record.precision in covered) and backend in (AUTO, record.backend)
        )

    def select(self, *, precision: str = AUTO, backend: str = AUTO) -> EngineSelection:
        """The engine with the lowest measured latency that fits this device, passed its self-test and has its runtime.

        Raises:
            EngineMismatch: there are engines of what was asked for, but all are stale; says why and how to rebuild.
            BackendUnavailable: `backend` is named and not here, or unknown.
        """
        check_known(backend)
        if backend != AUTO and backend not in self.runtimes:
            raise BackendUnavailable(f"{backend} is not installed here. Run: edge-mtl doctor")
        found = self.find(precision=precision, backend=backend)
        stale = [(record, why) for record in found if (why := self.mismatch(record)) is not None]
        fitting = [record for record in found if self.mismatch(record) is None and record.passed_self_test]
        usable = [record for record in fitting if record.backend in self.runtimes]
        absent = [record for record in fitting if record.backend not in self.runtimes]
        if usable:
            best = max(usable, key=lambda record: record.ratio)
            reason = f"{best.precision} on {best.backend} is the fastest engine built here ({best.latency_ms:.1f} ms a frame)"
            if absent and max(record.ratio for record in absent) > best.ratio:
                reason += f"; a faster one needs {absent[0].backend}, which is not installed"
            return EngineSelection(best, reason)
        if stale:
            record, why = stale[0]
            raise EngineMismatch(f"{self._path(record)} cannot be used: {why}. Run: {self.rebuild_command(record)}")
        if absent:
            return EngineSelection(None, f"the engines built here need {absent[0].backend}, which is not installed")
        return EngineSelection(None, "no engine was built here yet")

    def best(self, precision: str = AUTO, backend: str = AUTO) -> EngineRecord | None:
        """The record of `select`; raises as that does."""
        return self.select(precision=precision, backend=backend).record

    def rebuild_command(self, record: EngineRecord) -> str:
        """What to run to build such an engine again."""
        return f"edge-mtl build-engine {self._bundle.path} --{record.precision.partition('+')[0]}"

    def load(self, record: EngineRecord, *, trust_engine: bool = False) -> bytes:
        """The engine's bytes, after every check. Nothing else may be handed to a runtime.

        Args:
            trust_engine: also a plan that this user did not build. A plan is a program: it does what whoever built it wanted.
                Of a bundle whose signature was checked, no other engine is taken without it either: the signature is of the
                bundle's files, and engines are made of them here.
        Raises:
            EngineMismatch: built for another device, runtime version or graph, or this user did not build it, and should have.
            BundleError: missing, altered, or in the hands of another user.
        """
        why = self.mismatch(record)
        if why is not None:
            raise EngineMismatch(f"{self._path(record)} cannot be used: {why}. Run: {self.rebuild_command(record)}")
        path = self._path(record)
        check_owner(path.parent, remedy=_REMEDY)
        rebuild = f"Run: {self.rebuild_command(record)}"
        payload = read_checked(path, size=record.size, sha256=record.sha256, what="Engine", remedy=rebuild)
        if (record.plan or self._bundle.signed) and not trust_engine and not self.receipts.has(record.sha256):
            why = "is a plan, which is a program, and" if record.plan else "is not covered by the bundle's signature, and it"
            raise EngineMismatch(
                f"{path} {why} was not built by this user on this machine. {rebuild}, "
                "or say trust_engine=True if you know where it is from."
            )
        return payload

    def save(self, record: EngineRecord, payload: bytes) -> Path:
        """Store an engine: the graph under a name of its own, then the sidecar, whose replacement is the one step that counts.

        Raises:
            BuildError: it cannot be written, or the bundle was replaced; nothing half-written is left, and an older engine of
                this key stays whole.
            BundleError: the folder belongs to another user.
        """
        if sha256_bytes(payload) != record.sha256 or len(payload) != record.size:
            raise BuildError("The record does not describe these bytes: size and SHA-256 must be those of the engine.")
        self._require_current()
        folder = self._make_folder()
        try:
            self.receipts.give(record.sha256)
        except (BuildError, BundleError):
            if record.plan:  # a graph without a receipt runs, unless its bundle's signature is asked for
                raise
        try:
            write_atomic(folder / record.file, payload)
            write_atomic(folder / f"{record.key}.json", record.to_json())
        except OSError as exc:
            self._sweep_orphans(folder)
            raise BuildError(
                f"The engine could not be written to {folder} ({exc.strerror or exc}). Free some space, then {_AGAIN}"
            ) from exc
        self._sweep_orphans(folder)
        return folder / record.file

    def remove(self, record: EngineRecord) -> None:
        """Delete an engine: its compiled code first, which nothing leads to afterwards, and the sidecar before the graph."""
        self.compiled.remove(record)
        for folder in self.folders:
            for name in (f"{record.key}.json", record.file):
                with suppress(FileNotFoundError, NotADirectoryError):
                    (folder / name).unlink()
        self.receipts.take_back(record.sha256)

    def require_space(self, engines: int) -> None:
        """Whether this many engines fit on the disk, before they are built; none is larger than the bundle's graphs.

        Raises:
            BuildError: they may not; says how much room there is and how much is needed, in which folder, and what to do.
        """
        folder, compiled = _nearest(self.folder), _nearest(self.compiled.folder)
        graph = max(self._bundle.entry(name).size for name in (OPTIMIZED_ONNX, REFERENCE_ONNX) if self._bundle.has(name))
        share = 1 + (_COMPILED_SHARE if folder.stat().st_dev == compiled.stat().st_dev else 0)
        needed, free = int(engines * (share * graph + _OVERHEAD_BYTES)), shutil.disk_usage(folder).free
        if free >= needed:
            return
        if self.folder == self.folders[0]:
            remedy = "copy the bundle to a disk with room and use it there: EDGE_MTL_BUNDLE names it"
        else:
            remedy = "let XDG_CACHE_HOME name a folder on a disk with room"
        raise BuildError(
            f"Building may need {needed / 1e6:.1f} MB in {self.folder}; {free / 1e6:.1f} MB are free there. "
            f"Free some space, or {remedy}; then {_AGAIN}"
        )

    @contextmanager
    def building(self, *, waiting: Callable[[], None] | None = None) -> Iterator[bool]:
        """Hold the store for a build; yields whether another build had to be waited for. Leftovers are swept first.

        A build that is killed leaves an unfinished file, whatever it was doing, by which `is_built` knows that something of
        what it would have stored may be missing.


        Raises:
            BuildError: the folder cannot be made or locked, or another revision took the bundle's place meanwhile.
        """
        folder = self._make_folder()
        try:
            lock = exclusive(folder / LOCK, waiting=waiting)
            waited = lock.__enter__()
        except OSError as exc:
            self._require_current()
            raise BuildError(f"{folder / LOCK} cannot be locked {told(exc)}") from exc
        try:
            self._require_current()
            sweep_temporaries(folder)
            self._sweep_orphans(folder)
            with _begun(folder):
                yield waited
        finally:
            lock.__exit__(None, None, None)

    def is_built(self, *, precision: str = AUTO, backend: str = AUTO) -> bool:
        """Whether an engine of what is asked for can be used here, and the last build was not killed before its end.

        Raises:
            BackendUnavailable: `backend` is named and not here, or unknown.
        """
        try:
            return self.select(precision=precision, backend=backend).record is not None and not left_behind(self.folder)
        except EngineMismatch:
            return False

    def _require_current(self) -> None:
        """Engines go to the revision that they were built from. Raises BuildError where that is not in its place any more."""
        if self._bundle.superseded():
            raise BuildError(
                f"{self._bundle.path} was replaced by another revision meanwhile. Run the command again for that one."
            )

    def _entries(self) -> Iterator[tuple[Path, EngineRecord | BundleError]]:
        seen = set()
        for folder in self.folders:
            for path in _sidecars(folder):
                if path.name in seen:
                    continue
                seen.add(path.name)
                try:
                    yield path, _read_sidecar(path)
                except BundleError as exc:
                    if path.exists():  # else another process removed it meanwhile
                        yield path, exc

    def _path(self, record: EngineRecord) -> Path:
        inside, cached = self.folders
        return (inside if (inside / f"{record.key}.json").exists() else cached) / record.file

    def _make_folder(self) -> Path:
        folder = self.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            raise BuildError(
                f"The engine folder {folder} cannot be made ({exc.strerror or exc}). "
                "Set XDG_CACHE_HOME to a folder that can be written, or build in a copy of the bundle in a folder of your own."
            ) from exc
        check_owner(folder, remedy=_REMEDY)
        return folder

    @staticmethod
    def _sweep_orphans(folder: Path) -> None:
        """Graphs and plans that no sidecar names: their build was killed before the sidecar, or a new one took their place."""
        named = set()
        for path in folder.glob("*.json"):
            with suppress(BundleError):
                named.add(_read_sidecar(path).file)
        for path in (*folder.glob("*.onnx"), *folder.glob("*.plan")):
            if path.name not in named:
                with suppress(OSError):
                    path.unlink()


_AGAIN = "build the engine again."
_REMEDY = f"Delete it and {_AGAIN}"


@contextmanager
def _begun(folder: Path) -> Iterator[None]:
    """An unfinished file within the block. Raises BuildError where it cannot be made."""
    mark = unfinished_name(folder)
    try:
        descriptor = make_file(mark)
    except OSError as exc:
        raise BuildError(f"Nothing can be written to {folder} ({exc.strerror or exc}). Free some space, then {_AGAIN}") from exc
    try:
        yield
    finally:
        with suppress(OSError):
            mark.unlink()
        os.close(descriptor)


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next((place for place in (folder, *folder.parents) if place.is_dir()), folder)


def _sidecars(folder: Path) -> list[Path]:
    """The sidecars in a folder; none where it is not there, or goes away meanwhile."""
    try:
        return sorted(folder.glob("*.json")) if folder.is_dir() else []
    except FileNotFoundError:
        return []


def _read_sidecar(path: Path) -> EngineRecord:
    try:
        payload = read_regular(path, most=_MAX_SIDECAR_BYTES)
    except OSError as exc:
        raise BundleError(f"{path} cannot be read ({exc.strerror or exc}). Delete it and {_AGAIN}") from exc
    record = EngineRecord.from_json(payload, source=str(path))
    if path.stem != record.key:
        raise BundleError(f"{path} describes engine {record.key}. Delete it and {_AGAIN}")
    return record
