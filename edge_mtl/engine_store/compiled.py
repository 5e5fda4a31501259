"""Compiled code of built engines, so that the next start need not compile: it takes a third of the time or less.

A runtime executes this code. So it lies in the user's own cache, which nobody else can write to, and never in a bundle,
which may have come from elsewhere. It is only ever a short cut: what is missing, old or damaged is left alone with a
reason, and the graph is compiled again. Knows files; imports no runtime.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from edge_mtl.backends import CompiledGraph
from edge_mtl.documents import parse_json
from edge_mtl.engine_store.locks import exclusive
from edge_mtl.engine_store.private_files import check_owner, read_checked
from edge_mtl.engine_store.sidecars import EngineRecord
from edge_mtl.errors import BuildError, BundleError
from edge_mtl.files import read_regular, sha256_bytes, write_atomic
from edge_mtl.remedies import told

__all__ = ["CompiledStore"]

_FORMAT_VERSION = 1
_MAX_SIDECAR_BYTES = 1 << 16
_MOST = 32
_REMEDY = "Build the engine again."


@dataclass(frozen=True, slots=True)
class _Sidecar:
    """What lies beside the code: which graph it is of, what made it, and what its bytes must be."""

    graph_sha256: str
    origin: str
    sha256: str
    size: int
    format_version: int = _FORMAT_VERSION


class CompiledStore:
    """Compiled code in `folder`: `<key of the engine>.<digest>.code`, and `<key>.json`, which describes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, record: EngineRecord, code: CompiledGraph) -> None:
        """Keep the code of an engine in place of what was kept before.

        Raises:
            BuildError: it cannot be written; nothing half-written is left.
            BundleError: the folder belongs to another user.
        """
        digest = sha256_bytes(code.payload)
        sidecar = _Sidecar(record.sha256, code.origin, digest, len(code.payload))
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            check_owner(self.folder, remedy=_REMEDY)
            with exclusive(self.folder.with_name(f".{self.folder.name}.lock")):  # builds of other bundles keep and sweep here
                write_atomic(self._code(record, digest), code.payload)
                write_atomic(self._sidecar(record), (json.dumps(asdict(sidecar), sort_keys=True) + "\n").encode())
                self._sweep()
        except OSError as exc:
            self.remove(record)
            raise BuildError(f"Compiled code could not be written to {self.folder} {told(exc)}") from exc

    def load(self, record: EngineRecord) -> tuple[CompiledGraph | None, str]:
        """The code of an engine, None if it cannot be used, and why not."""
        path = self._sidecar(record)
        if not path.is_file():
            return None, "no compiled code was kept for this user"
        try:
            check_owner(self.folder, remedy=_REMEDY)
            sidecar = _read(path)
            if sidecar.graph_sha256 != record.sha256:
                return None, "the compiled code is of another graph"
            code = self._code(record, sidecar.sha256)
            payload = read_checked(code, size=sidecar.size, sha256=sidecar.sha256, what="Compiled code", remedy=_REMEDY)
        except BundleError as exc:
            return None, str(exc)
        except (OSError, ValueError, TypeError) as exc:
            return None, f"{path} does not describe compiled code ({exc})"
        return CompiledGraph(payload, str(sidecar.origin)), ""

    def remove(self, record: EngineRecord) -> None:
        """Forget the code of an engine."""
        with suppress(OSError):
            self._sidecar(record).unlink(missing_ok=True)
            for path in self.folder.glob(f"{record.key}.*.code"):
                path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        """Remove the oldest where there are too many, and code that nothing describes: its place was taken."""
        with suppress(OSError):
            sidecars = sorted(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in sidecars[:-_MOST]:
                path.unlink(missing_ok=True)
            described = {_named(path) for path in sidecars[-_MOST:]}
            for path in self.folder.glob("*.code"):
                if path.name not in described:
                    path.unlink(missing_ok=True)

    def _sidecar(self, record: EngineRecord) -> Path:
        return self.folder / f"{record.key}.json"

    def _code(self, record: EngineRecord, digest: str) -> Path:
        return self.folder / f"{record.key}.{digest[:12]}.code"


def _read(path: Path) -> _Sidecar:
    """Raises ValueError, TypeError or OSError where it is not a description."""
    sidecar = _Sidecar(**parse_json(read_regular(path, most=_MAX_SIDECAR_BYTES)))
    if sidecar.format_version != _FORMAT_VERSION:
        raise ValueError(f"format_version {sidecar.format_version}")
    return sidecar


def _named(path: Path) -> str:
    """Name of the code that the sidecar `path` describes, "" if it describes none."""
    try:
        return f"{path.stem}.{_read(path).sha256[:12]}.code"
    except (OSError, ValueError, TypeError):
        return ""
