"""The bundle: the portable, hashed folder that training makes and devices build engines from.

Knows the folder's layout; what its manifest says is in `manifest`. Knows nothing about runtimes, frames or metrics. A
bundle is never edited in place: `write_bundle` makes a whole folder or none, `new_revision` replaces one atomically and
keeps the old one.
"""

from __future__ import annotations

import errno
import os
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_mtl.errors import BundleError, SignatureError
from edge_mtl.files import atomic_directory, read_regular, sha256_bytes, sha256_file
from edge_mtl.manifest import FileEntry, InputSpec, Manifest
from edge_mtl.remedies import told
from edge_mtl.signing.keys import KeyInput, PublicKey
from edge_mtl.signing.signatures import Signature, Signed
from edge_mtl.signing.text_files import MOST_BYTES
from edge_mtl.tasks import Specs
from edge_mtl.weights.store import WEIGHTS, assemble_file, store_once

__all__ = [
    "BUNDLED",
    "CALIBRATION",
    "DEMO_BUNDLE",
    "ENGINES",
    "EVALUATION",
    "GOLDEN",
    "MANIFEST",
    "OPTIMIZED_ONNX",
    "RECORDED",
    "REFERENCE_ONNX",
    "SIGNATURE",
    "WEIGHTS",
    "Bundle",
    "bundled",
    "find",
    "kept_revision",
    "new_revision",
    "write_bundle",
]

MANIFEST = "manifest.json"
SIGNATURE = f"{MANIFEST}.minisig"
"""Of the manifest, and so of every file that it lists; see `edge_mtl.signing`. Bundles need not have one."""
REFERENCE_ONNX = "model.onnx"
OPTIMIZED_ONNX = "model.deploy.onnx"
CALIBRATION = "calibration"
RECORDED = f"{CALIBRATION}/statistics.npz"
"""Statistics of calibration frames, in a bundle that holds none: see `edge_mtl.quantization.recorded`."""
EVALUATION = "evaluation"
GOLDEN = "golden"
ENGINES = "engines"
BUNDLE_VARIABLE = "EDGE_MTL_BUNDLE"
BUNDLED = ("indoor-lite0", "indoor-b0", "rooms-b0")
"""Names of the bundles that are installed with the package, the demo bundle first; `find` takes them in place of a folder."""
DEMO_BUNDLE = Path(__file__).parent / "bundles" / BUNDLED[0]

_MAX_MANIFEST_BYTES = 4 << 20
_UNHASHED_FOLDERS = (ENGINES,)
_GRAPHS = (REFERENCE_ONNX, OPTIMIZED_ONNX)
_KEPT = re.compile(r"\.revision-[0-9]+$")


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk. Opening reads only the manifest; `read` and `verify` check content against it."""

    path: Path
    manifest: Manifest
    digest: str
    """SHA-256 of manifest.json: the identity of this revision."""
    signed: Signed | None = None
    """Whose signature of the manifest was checked; None where it was opened without a public key."""

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, public_key: KeyInput | None = None) -> Bundle:
        """Open the bundle in folder `path`.

        Args:
            public_key: the signer's, its Base64 text or its file: the manifest is refused unless this key signed it, before
                anything in it is read. What `read` gives is then what was signed.
        Raises:
            BundleError: there is no such folder, no manifest, or the manifest is not valid.
            SignatureError: with `public_key`, it is not signed, by another key, or altered since.
            BackendUnavailable: with `public_key`, the package cryptography is missing.
        """
        folder = Path(path)
        manifest_path = folder / MANIFEST
        try:
            payload = read_regular(manifest_path, most=_MAX_MANIFEST_BYTES)
        except (FileNotFoundError, NotADirectoryError) as exc:
            if folder.exists() and not folder.is_dir():
                raise BundleError(f"{folder} is not a bundle but a file. Make one with: python train/train.py") from exc
            if not folder.is_dir():
                raise BundleError(f"No bundle at {folder}: no such folder. Make one with: python train/train.py") from exc
            raise BundleError(f"{folder} is not a bundle: it has no {MANIFEST}. Make one with: python train/train.py") from exc
        except (OSError, ValueError) as exc:
            if getattr(exc, "errno", None) == errno.EFBIG:
                raise BundleError(f"{manifest_path} is larger than {_MAX_MANIFEST_BYTES} bytes: not a manifest.") from exc
            raise BundleError(f"{manifest_path} cannot be read {told(exc)}") from exc
        signed = None if public_key is None else _check_signature(folder, payload, PublicKey.of(public_key))
        return cls(folder, Manifest.from_json(payload, source=manifest_path), sha256_bytes(payload), signed)

    def require_signed(self, public_key: KeyInput) -> Bundle:
        """This bundle with its signature checked. Raises as `open` does, and BundleError where its manifest was replaced."""
        opened = Bundle.open(self.path, public_key=public_key)
        if opened.digest != self.digest:
            raise BundleError(f"{self.path} was replaced since it was opened. Open it again.")
        return opened

    @property
    def name(self) -> str:
        """Name from the manifest."""
        return self.manifest.name

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks this bundle predicts, in the order of reports."""
        return tuple(self.manifest.tasks)

    def has(self, relative: str) -> bool:
        """Whether `read` can give `relative`."""
        return relative in self.manifest.assembled or relative in self.manifest.files

    def place(self) -> tuple[int, int]:
        """What changes whenever another folder takes this one's name, also one that had it before; (0, 0) without a folder."""
        try:
            facts = self.path.stat()
        except OSError:
            return 0, 0
        return facts.st_ino, facts.st_ctime_ns

    def superseded(self) -> bool:
        """Whether another bundle, or another revision of this one, lies in its folder by now."""
        try:
            return Bundle.open(self.path).digest != self.digest
        except BundleError:
            return False

    def entry(self, relative: str) -> FileEntry:
        """Digest and size of what `read` gives for `relative`, a file or assembled from files.

        Raises:
            BundleError: the manifest does not list it.
        """
        entry = self.manifest.assembled.get(relative) or self.manifest.files.get(relative)
        if entry is None:
            raise BundleError(f"{self.path} has no {relative}: its manifest does not list it. Export the bundle again.")
        return entry

    def list(self, folder: str, *, suffixes: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Relative paths of the listed files in `folder`, sorted; only those with one of `suffixes` if any are given."""
        prefix = folder.rstrip("/") + "/"
        found = (name for name in self.manifest.files if name.startswith(prefix))
        return tuple(sorted(name for name in found if not suffixes or name.endswith(suffixes)))

    def read(self, relative: str) -> bytes:
        """The verified bytes of one file. Nothing else may be handed to a runtime or a decoder.

        Weights and graphs that share them are assembled here, see `edge_mtl.weights`: tens of milliseconds, nothing is kept.

        Raises:
            BundleError: the file is not listed, missing, unreadable or altered.
        """
        entry = self.entry(relative)
        if relative not in self.manifest.assembled:
            return self._read_file(relative)
        payload = assemble_file(relative, self._read_file, folder=self.path)
        if len(payload) != entry.size or sha256_bytes(payload) != entry.sha256:
            made = f"{self.path / relative} was assembled from other parts: its SHA-256 differs from the manifest's."
            raise BundleError(f"{made} {_RESTORE}")
        return payload

    def verify(self, *, progress: Callable[[str], None] | None = None) -> None:
        """Check every listed file and what is assembled from them, and that no unlisted file hides in the folder.

        Args:
            progress: called with each relative path once it is checked.
        Raises:
            BundleError: a file is missing, altered or not listed.
        """
        for relative in sorted(self.manifest.files):
            self._read_file(relative)
            if progress is not None:
                progress(relative)
        for relative in self.manifest.assembled:
            self.read(relative)
        for path in sorted(self.path.rglob("*")):
            relative = path.relative_to(self.path).as_posix()
            listed = relative in (MANIFEST, SIGNATURE) or relative in self.manifest.files
            folder = path.is_dir() and not path.is_symlink()
            if not folder and not listed and relative.split("/")[0] not in _UNHASHED_FOLDERS:
                raise BundleError(f"{path} is not listed in the manifest. Remove it, or export the bundle again.")

    def _read_file(self, relative: str) -> bytes:
        """The verified bytes of a file that lies in the folder."""
        entry = self.manifest.files.get(relative)
        if entry is None:
            raise BundleError(f"{self.path} has no {relative}: its manifest does not list it. Export the bundle again.")
        path = self.path / relative
        try:
            size = path.stat().st_size
            payload = read_regular(path, most=entry.size) if size == entry.size else b""
        except OSError as exc:
            raise BundleError(f"{path} is listed in the manifest but cannot be read ({exc.strerror}). {_RESTORE}") from exc
        if size != entry.size:
            raise BundleError(f"{path} was altered: {entry.size} bytes expected, {size} found. {_RESTORE}")
        if sha256_bytes(payload) != entry.sha256:
            raise BundleError(f"{path} was altered: its SHA-256 differs from the manifest's. {_RESTORE}")
        return payload


def bundled(name: str) -> Path:
    """The folder of the bundle `name` of `BUNDLED`. Raises BundleError naming them where it is none of them."""
    if name not in BUNDLED:
        raise BundleError(f"{name} is not a bundle of the package: those are {', '.join(BUNDLED)}.")
    return DEMO_BUNDLE.parent / name


def find(path: str | os.PathLike[str] | None = None, *, public_key: KeyInput | None = None) -> Bundle:
    """The bundle to use: `path`, else $EDGE_MTL_BUNDLE, else the newest in ./bundles, else the demo bundle.

    Both may be a folder or, where there is no such folder, a name of `BUNDLED`.

    Args:
        public_key: as for `Bundle.open`.
    Raises:
        BundleError: what was named is not a bundle, or nothing was named and there is none; as `Bundle.open` else.
    """
    return Bundle.open(_chosen(path), public_key=public_key)


def _chosen(path: str | os.PathLike[str] | None) -> Path:
    """The folder that `find` opens."""
    if path is not None:
        return _folder_of(path)
    named = os.environ.get(BUNDLE_VARIABLE)
    if named:
        return _folder_of(named)
    found = Path("bundles").glob(f"*/{MANIFEST}")
    candidates = [entry for entry in found if not entry.parent.name.startswith(".") and not _KEPT.search(entry.parent.name)]
    if candidates:
        return max(candidates, key=_changed_s).parent
    if (DEMO_BUNDLE / MANIFEST).is_file():
        return DEMO_BUNDLE
    raise BundleError(
        f"No bundle: none was named, ${BUNDLE_VARIABLE} is not set, ./bundles is empty and the demo bundle is not "
        "installed. Make one with: python train/train.py"
    )


def _changed_s(path: Path) -> float:
    """When a file was last changed; long ago for one that is gone by now."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _folder_of(named: str | os.PathLike[str]) -> Path:
    """The folder that is meant. Raises BundleError: it is only a name, of no folder here and of no bundle of `BUNDLED`."""
    folder = Path(named)
    if len(folder.parts) != 1 or os.path.exists(folder):
        return folder
    if folder.name not in BUNDLED:
        known = ", ".join(BUNDLED)
        raise BundleError(
            f"No bundle at {folder}: no such folder, and none of the package's own ({known}). "
            "Make one with: python train/train.py"
        )
    return bundled(folder.name)


def write_bundle(
    path: Path,
    fill: Callable[[Path], None],
    *,
    name: str,
    tasks: Specs,
    input: InputSpec,
    canonical_intrinsics: tuple[float, float, float, float],
    provenance: Mapping[str, Any],
    accuracy: Mapping[str, Mapping[str, Any]],
    calibration: Mapping[str, Any],
    revision: int = 1,
    replace: bool = False,
) -> Bundle:
    """Make a bundle at `path`: `fill` puts the files into a temporary folder, which then becomes `path` whole.

    Where `fill` writes weights.safetensors beside the graphs, the weights are taken out of these and stored once.

    Raises:
        BundleError: `path` exists and `replace` is false, or the folder cannot be written.
    """

    def complete(folder: Path) -> None:
        fill(folder)
        assembled = store_once(folder, _GRAPHS, {}, _NOTHING_BEFORE.__getitem__)
        manifest = Manifest(
            name=name,
            revision=revision,
            tasks=tasks,
            input=input,
            canonical_intrinsics=canonical_intrinsics,
            files=_digests(folder),
            assembled=assembled,
            provenance=provenance,
            accuracy=accuracy,
            calibration=calibration,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        (folder / MANIFEST).write_bytes(manifest.to_json())

    _replace_folder(path, complete, replace=replace)
    return Bundle.open(path)


def new_revision(
    bundle: Bundle,
    change: Callable[[Path], None] | None = None,
    *,
    accuracy: Mapping[str, Mapping[str, Any]] | None = None,
    calibration: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    measurements: Mapping[str, Mapping[str, Any]] | None = None,
    tasks: Specs | None = None,
    provenance: Mapping[str, Any] | None = None,
    revision: int | None = None,
) -> Bundle:
    """Replace `bundle` by its next revision, atomically; the old one stays beside it as NAME.revision-N.

    A signature stays with the revision that it is of, and a warning says that the new one has none. Engines stay with the
    revision they were built for; `change` may put others into the new one.

    Args:
        change: edits the files of a copy (never the bundle itself). A whole graph that it writes replaces the one that was
            assembled; with weights.safetensors, a bundle of whole graphs becomes one that stores its weights once.
        accuracy, calibration, card, measurements, tasks, provenance: entries to put in place of those in the manifest.
        revision: number of the new one; one more than the old one's by default.
    Raises:
        BundleError: the folder cannot be written.
    """
    old, was_signed = bundle.manifest, os.path.lexists(bundle.path / SIGNATURE)

    def complete(folder: Path) -> None:
        for relative in old.files:
            target = folder / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(bundle._read_file(relative))
        if change is not None:
            change(folder)
        assembled = store_once(folder, _GRAPHS, old.assembled, bundle.read)
        manifest = replace(
            old,
            revision=old.revision + 1 if revision is None else revision,
            parent=old.revision,
            files=_digests(folder),
            assembled=assembled,
            accuracy=old.accuracy if accuracy is None else accuracy,
            calibration=old.calibration if calibration is None else calibration,
            card=old.card if card is None else card,
            measurements=old.measurements if measurements is None else measurements,
            tasks=old.tasks if tasks is None else tasks,
            provenance=old.provenance if provenance is None else provenance,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        (folder / MANIFEST).write_bytes(manifest.to_json())

    _replace_folder(bundle.path, complete, replace=True, keep=kept_revision(bundle.path, old.revision))
    made = Bundle.open(bundle.path)
    if was_signed:
        warnings.warn(
            f"{bundle.path} is now revision {made.manifest.revision}, which is not signed; the signature stays with revision "
            f"{old.revision}. Sign it with: edge-mtl sign {bundle.path} --key FILE",
            stacklevel=2,
        )
    return made


def kept_revision(path: Path, revision: int) -> Path:
    """Where revision `revision` of the bundle at `path` is kept once another one took its place."""
    return path.with_name(f"{path.name}.revision-{revision}")


def _check_signature(folder: Path, payload: bytes, key: PublicKey) -> Signed:
    """That `key` signed these bytes of the manifest. Raises SignatureError, BackendUnavailable."""
    path = folder / SIGNATURE
    try:
        content = read_regular(path, most=MOST_BYTES)
    except FileNotFoundError as exc:
        raise SignatureError(
            f"{folder} is not signed: it has no {SIGNATURE}. Get a signed one from where it came from, or sign it with: "
            f"edge-mtl sign {folder} --key FILE"
        ) from exc
    except OSError as exc:
        raise SignatureError(f"{path} cannot be read ({exc.strerror or exc}). {_RESTORE}") from exc
    what = f"The signature {path}"
    return Signature.read(content, what=what).check(payload, key, what=what, of=MANIFEST)


_NOTHING_BEFORE: dict[str, bytes] = {}
"""What was assembled before a first revision."""

_RESTORE = "Restore it from where the bundle came from, or export the bundle again."


def _digests(folder: Path) -> dict[str, FileEntry]:
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {
        relative: FileEntry(sha256_file(path), path.stat().st_size)
        for relative, path in found.items()
        if relative not in (MANIFEST, SIGNATURE) and relative.split("/")[0] not in _UNHASHED_FOLDERS
    }


def _replace_folder(path: Path, complete: Callable[[Path], None], *, replace: bool, keep: Path | None = None) -> None:
    try:
        with atomic_directory(path, replace=replace, keep=keep) as folder:
            complete(folder)
    except FileExistsError as exc:
        raise BundleError(f"{path} exists already. Remove it or choose another name.") from exc
    except OSError as exc:
        raise BundleError(f"The bundle {path} could not be written {told(exc)} Nothing was left behind.") from exc
