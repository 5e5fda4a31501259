"""Bundles signed: a new key's two files, and the signature beside the manifest of a bundle that is whole."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edge_mtl.bundle import MANIFEST, SIGNATURE, Bundle
from edge_mtl.engine_store.revision import changing
from edge_mtl.errors import BundleError, SignatureError
from edge_mtl.files import sha256_bytes, write_atomic
from edge_mtl.remedies import told
from edge_mtl.signing.keys import ScryptCost, SecretKey
from edge_mtl.signing.signatures import Signature
from edge_mtl.signing.text_files import fits_comment
from edge_mtl.unfinished import make_file, sweep_temporaries, unfinished_name

__all__ = ["KeyFiles", "key_files", "sign_bundle", "write_new_key"]

_SECRET, _PUBLIC = "edge-mtl.key", ".pub"


@dataclass(frozen=True, slots=True)
class KeyFiles:
    """Where the two halves of a key lie."""

    secret: Path
    public: Path


def key_files(place: str) -> KeyFiles:
    """The files of a new key: `place` is a folder, or the file of the secret key; the public one is beside it.

    Raises:
        SignatureError: one of them is there already.
    """
    path = Path(place)
    secret = path / _SECRET if path.is_dir() or place.endswith("/") else path
    found = KeyFiles(secret, secret.with_suffix(_PUBLIC))
    if found.secret == found.public:
        raise SignatureError(f"{secret} is the name of a public key: name the file of the secret one, such as my.key.")
    for each in (found.secret, found.public):
        if os.path.lexists(each):
            raise SignatureError(f"{each} exists already, and a key is never overwritten. Name another file or folder.")
    return found


def write_new_key(files: KeyFiles, passphrase: str | None, *, cost: ScryptCost | None = None) -> SecretKey:
    """Make a key and write its two files, the secret one for this user only; it comes last, and each appears whole.

    Args:
        passphrase: what the secret key is put under; None leaves it plain.
        cost: of a guess at the passphrase.
    Raises:
        SignatureError: one of the files is there, or cannot be written; neither is left then.
    """
    key = SecretKey.new()
    contents = ((files.public, key.public.to_file(), 0o644), (files.secret, key.to_file(passphrase, cost=cost), 0o600))
    made: list[Path] = []
    try:
        files.secret.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content, mode in contents:
            _write_first(path, content, mode)
            made.append(path)
    except BaseException as exc:
        for path in made:
            with suppress(OSError):
                path.unlink()
        if isinstance(exc, OSError):
            raise SignatureError(f"{exc.filename2 or files.secret} cannot be written {told(exc)}") from exc
        raise
    return key


def _beside(folder: Path) -> Path:
    """Where an unfinished file of `folder` does no harm, as it would inside, where whatever is not listed is refused."""
    return folder.parent if folder.stat().st_dev == folder.parent.stat().st_dev else folder


def _write_first(path: Path, content: bytes, mode: int) -> None:
    """Write a file that is not there yet, whole or not at all. Raises OSError, also where it is there by now."""
    unfinished = unfinished_name(path.parent)
    try:
        with os.fdopen(make_file(unfinished), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
            os.chmod(unfinished, mode)
            try:
                os.link(unfinished, path)  # unlike a renaming it never overwrites
            except PermissionError:  # FAT, as on memory sticks, has no links
                if os.path.lexists(path):
                    raise
                os.rename(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def sign_bundle(path: Path, key: SecretKey, *, comment: str | None = None) -> Bundle:
    """Sign the manifest of the bundle at `path`, once every file was checked; returns the bundle with its signature checked.

    Args:
        comment: the trusted comment, by default the time, the bundle's name and its revision.
    Raises:
        BundleError: it is no bundle, is altered, or cannot be written to.
        SignatureError: the comment does not fit.
    """
    with changing(path) as bundle:
        if SIGNATURE in bundle.manifest.files:
            raise BundleError(
                f"{path} lists {SIGNATURE} in its manifest: a signature cannot be signed. Export the bundle again."
            )
        sweep_temporaries(bundle.path)
        bundle.verify()
        payload = (bundle.path / MANIFEST).read_bytes()
        if sha256_bytes(payload) != bundle.digest:
            raise BundleError(f"{path / MANIFEST} was replaced meanwhile. Sign it again.")
        signature = Signature.make(payload, key, comment=_comment(bundle) if comment is None else comment)
        try:
            write_atomic(bundle.path / SIGNATURE, signature.to_file(), by_way_of=_beside(bundle.path))
        except OSError as exc:
            raise BundleError(f"{path / SIGNATURE} cannot be written {told(exc)}") from exc
        return Bundle.open(bundle.path, public_key=key.public)


def _comment(bundle: Bundle) -> str:
    name = bundle.name if fits_comment(bundle.name) and len(bundle.name) < 256 else "?"
    return f"timestamp:{int(time.time())}\tfile:{MANIFEST}\tbundle:{name}\trevision:{bundle.manifest.revision}\thashed"
