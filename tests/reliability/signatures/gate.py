"""Judges alterations of a signed bundle: none may verify, and what is refused is refused by a typed error.

The one thing that may change without notice is the text of the untrusted comments, which minisign's format leaves unsigned:
they are never shown, and what a bundle with another one says of its signer is the same.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

from edge_mtl.bundle import MANIFEST, SIGNATURE, Bundle, write_bundle
from edge_mtl.errors import EdgeMtlError
from edge_mtl.manifest import InputSpec
from edge_mtl.signing import bundles as signing
from edge_mtl.signing import keys, signatures, text_files
from edge_mtl.signing.keys import SecretKey
from edge_mtl.signing.signatures import Signature, Signed
from tests.bundles import study_specs
from tests.reliability.record import GateRun
from tests.reliability.signatures.alterations import Altered, bits, random_changes, structure

__all__ = ["CONTROLS", "KEY_FILE", "Subject", "against_minisign", "foreign", "in_memory", "judge_all", "make_subject"]

KEY_FILE = "key.pub"
OURS = SecretKey(b"signer-1", hashlib.sha256(b"a test's key").digest())
OTHER = SecretKey(b"signer-2", hashlib.sha256(b"another's").digest())
SAME_ID = SecretKey(b"signer-1", hashlib.sha256(b"a forger's").digest())


@dataclass(frozen=True, slots=True)
class Subject:
    """A signed bundle, the signer's public key beside it, and what they say while nothing is altered.

    Attributes:
        folder: holds the bundle as `bundle`, and the key.
        files: content by path in `folder`.
    """

    folder: Path
    files: dict[str, bytes]
    signed: Signed

    def verdict(self) -> Signed | str:
        """Who signed the bundle as it lies there, if it verifies whole; else the name of the typed error."""
        try:
            opened = Bundle.open(self.folder / "bundle", public_key=self.folder / KEY_FILE)
            opened.verify()
        except EdgeMtlError as exc:
            return type(exc).__name__
        return opened.signed or Signed("nobody", "")

    def judge(self, name: str, content: bytes | None) -> str:
        """What is wrong with how the bundle with this content of a file was judged; empty if nothing is. None: no such file."""
        path, before = self.folder / name, self.files.get(name)
        try:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            found = self.verdict()
        except Exception as exc:
            return f"{type(exc).__name__}: {exc}"[:200]
        finally:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(before)
        if isinstance(found, str):
            return ""
        if content is not None and before is not None and _only_comment(name, before, content):
            return "" if found == self.signed else "an untrusted comment changed what is said of the signer"
        return f"it verifies as signed by {found.key}"


def _only_comment(name: str, before: bytes, after: bytes) -> bool:
    """Whether only the text of the untrusted comment differs."""
    first, rest = after.partition(b"\n")[::2]
    prefix = text_files.UNTRUSTED.encode()
    return name.endswith((SIGNATURE, KEY_FILE)) and first.startswith(prefix) and rest == before.partition(b"\n")[2]


def in_memory() -> str | None:
    """A folder for thousands of small files: in memory where the system has one, else None, as `tempfile` takes it."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def make_subject(folder: Path, source: Path | None = None) -> Subject:
    """A small bundle, or a copy of that at `source`, signed."""
    path = folder / "bundle"
    if source is None:
        _small_bundle(path)
    else:
        shutil.copytree(source, path, ignore=shutil.ignore_patterns("engines"))
    signed = signing.sign_bundle(path, OURS, comment="for the robots of the gate, tab\there").signed
    assert signed is not None
    (folder / KEY_FILE).write_bytes(OURS.public.to_file())
    files = {each.relative_to(folder).as_posix(): each.read_bytes() for each in path.rglob("*") if each.is_file()}
    return Subject(folder, {**files, KEY_FILE: OURS.public.to_file()}, signed)


def _small_bundle(path: Path, content: bytes = b"a graph, as far as a signature is concerned\n") -> Bundle:
    def fill(folder: Path) -> None:
        (folder / "model.onnx").write_bytes(content)
        (folder / "golden").mkdir()
        (folder / "golden" / "000.npz").write_bytes(b"\0\1\2\3" * 8)
        (folder / "empty").write_bytes(b"")

    return write_bundle(
        path,
        fill,
        name="small",
        tasks=study_specs(("depth",)),
        input=InputSpec(64, 96),
        canonical_intrinsics=(88.0, 88.0, 47.5, 31.5),
        provenance={},
        accuracy={},
        calibration={},
    )


def foreign(subject: Subject, scratch: Path) -> Iterator[tuple[str, str, bytes | None]]:
    """Files of others in place of the signer's: what was done, the file, its content; None where it is gone."""
    place, key = f"bundle/{SIGNATURE}", KEY_FILE
    manifest = subject.files[f"bundle/{MANIFEST}"]
    own = Signature.read(subject.files[place], what="it")
    for name in subject.files:
        yield "gone", name, None
    _small_bundle(scratch / "other", b"another graph")
    signing.sign_bundle(scratch / "other", OURS)
    of_other = (scratch / "other" / SIGNATURE).read_bytes()
    yield "another bundle's signature by the same key", place, of_other
    yield "another bundle's manifest of the same signer", f"bundle/{MANIFEST}", (scratch / "other" / MANIFEST).read_bytes()
    for who, secret in (("another key", OTHER), ("a forger's key of the same id", SAME_ID)):
        made = Signature.make(manifest, secret, comment=own.comment)
        yield f"the signature of {who}", place, made.to_file()
        yield f"the signature of {who} under the signer's id", place, _with(made, identity=own.identity).to_file()
        yield f"the public key of {who}", key, secret.public.to_file()
        yield f"the signer's signature with a comment signed by {who}", place, _with(own, of_comment=made.of_comment).to_file()
        yield (
            f"a comment of {who}, signed by it",
            place,
            _with(own, comment="other", of_comment=secret.sign(own.value + b"other")).to_file(),
        )
    elsewhere = Signature.read(of_other, what="it")
    yield (
        "the trusted comment of another signature",
        place,
        _with(own, comment=elsewhere.comment, of_comment=elsewhere.of_comment).to_file(),
    )
    yield "a signature of the comment alone", place, _with(own, of_comment=OURS.sign(own.comment.encode())).to_file()
    yield "a signature of the manifest, not of its hash", place, _with(own, value=OURS.sign(manifest)).to_file()
    yield "the hash of another function", place, _with(own, value=OURS.sign(hashlib.sha512(manifest).digest())).to_file()
    yield "the old kind of a signature", place, subject.files[place].replace(b"\nRUQ", b"\nRWQ").replace(b"\nRUR", b"\nRWR")
    order = (1 << 252) + 27742317777372353535851937790883648493
    half = int.from_bytes(own.value[32:], "little") + order
    yield (
        "an equivalent number in the signature",
        place,
        _with(own, value=own.value[:32] + half.to_bytes(32, "little")).to_file(),
    )
    yield "a signature of zeros", place, _with(own, value=bytes(64)).to_file()
    for point in (bytes(32), b"\1" + bytes(31), b"\xec" + b"\xff" * 30 + b"\x7f"):
        yield "a key that accepts much", key, keys.PublicKey(own.identity, point).to_file()
    yield "the secret key", key, OURS.to_file(None)
    yield "a file that is not listed", "bundle/more", b"x"
    yield "a file that is not listed, in a folder", "bundle/golden/more", b""
    yield "a second signature", f"bundle/{SIGNATURE}.minisig", subject.files[place]


def _with(signature: Signature, **changes: Any) -> Signature:
    content = {name: getattr(signature, name) for name in ("identity", "value", "comment", "of_comment")}
    return Signature(**{**content, **changes})


def judge_all(
    run: GateRun,
    subject: Subject,
    *,
    exhaustive: Iterable[str],
    more: int,
    seed: int,
    scratch: Path,
    enough: int = 100,
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Count alterations of one bundle and report those that verified.

    Args:
        exhaustive: files of which every bit is turned.
        more: random alterations, spread over all files.
        enough: violations after which nothing more is tried.
        tick: called after each.
    """
    found = subject.verdict()
    if found != subject.signed:
        run.violation(f"the unaltered bundle does not verify: {found}")
        return

    def judge(name: str, said: str, content: bytes | None) -> None:
        if (content is not None and content == subject.files.get(name)) or len(run.violations) >= enough:
            return
        run.count("alterations")
        if wrong := subject.judge(name, content):
            run.violation(f"{name}, {said} (seed {seed}): {wrong}")
        tick()

    for said, name, content in foreign(subject, scratch):
        judge(name, said, content)
    wanted = set(exhaustive)
    texts = [name for name in subject.files if name.endswith((MANIFEST, SIGNATURE, KEY_FILE))]
    for name in subject.files:
        ways: list[Iterator[Altered]] = [bits(subject.files[name])] if name in wanted else []
        if name in texts:
            ways.append(structure(subject.files[name]))
        for each in ways:
            for said, content in each:
                judge(name, said, content)
    dice = random.Random(seed)
    streams = {name: random_changes(content, dice) for name, content in subject.files.items()}
    for _ in range(more):
        # The short texts are where a mistake of ours would be; a bundle has many files that are all read alike.
        name = dice.choice(texts) if dice.random() < 0.8 else dice.choice(list(streams))
        said, content = next(streams[name])
        judge(name, said, content)
    if subject.verdict() != subject.signed:
        run.violation("the bundle does not verify once everything is as it was")


def against_minisign(run: GateRun, subject: Subject, program: str, *, number: int, seed: int) -> None:
    """Whatever is accepted here, minisign accepts too, and it accepts the unaltered bundle."""
    dice = random.Random(seed)
    place = f"bundle/{SIGNATURE}"
    changed = random_changes(subject.files[place], dice)
    # Comments alone are changed in some, so that both have something to accept.
    lines = subject.files[place].partition(b"\n")
    comments = [
        text_files.UNTRUSTED.encode() + bytes(dice.choices(b"abc xyz", k=9)) + b"\n" + lines[2] for _ in range(number // 8)
    ]
    cases = [subject.files[place], *comments, *(content for _, content in islice(changed, number))]
    for content in cases:
        (subject.folder / place).write_bytes(content)
        ours = isinstance(subject.verdict(), Signed)
        command = [program, "-VHm", str(subject.folder / "bundle" / MANIFEST), "-p", str(subject.folder / KEY_FILE)]
        theirs = subprocess.run(command, capture_output=True, timeout=60).returncode == 0
        run.count("compared with minisign")
        run.count("accepted by both", int(ours and theirs))
        if ours and not theirs:
            run.violation(f"accepted here and refused by minisign: {content!r}"[:300])
    (subject.folder / place).write_bytes(subject.files[place])


def _lenient_decoded(text: str, size: int, *, what: str) -> bytes:
    try:
        return base64.b64decode(text + "==")[:size].ljust(size, b"\0")
    except binascii.Error:
        return bytes(size)


def _lines_of_dos(payload: bytes, count: int, *, what: str) -> list[str]:
    return payload.decode(errors="replace").splitlines()[:count]


def _comment_unchecked(self: Signature, message: bytes, key: keys.PublicKey, *, what: str, of: str) -> Signed:
    checked = Signature.make(message, OURS, comment="x")
    return _REAL_CHECK(
        _with(self, comment="x", of_comment=OURS.sign(self.value + b"x")), message, key, what=what, of=of
    ) and Signed(OURS.public.name if checked else "", self.comment)


def _id_unchecked(self: Signature, message: bytes, key: keys.PublicKey, *, what: str, of: str) -> Signed:
    return _REAL_CHECK(_with(self, identity=key.identity), message, key, what=what, of=of)


def _file_unchecked(self: Bundle, relative: str) -> bytes:
    path = self.path / relative
    return path.read_bytes() if path.is_file() else b""


def _verify_listed_only(self: Bundle, **_: Any) -> None:
    for relative in self.manifest.files:
        self._read_file(relative)


_REAL_CHECK = Signature.check

CONTROLS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "the trusted comment's signature is not checked": lambda: mock.patch.object(Signature, "check", _comment_unchecked),
    "the key's id is not compared": lambda: mock.patch.object(Signature, "check", _id_unchecked),
    "Base64 is decoded leniently": lambda: mock.patch.multiple(signatures, decoded=_lenient_decoded),
    "line ends of DOS and data after the last line are taken": lambda: mock.patch.multiple(signatures, lines_of=_lines_of_dos),
    "any signature is taken": lambda: mock.patch.object(keys.PublicKey, "accepts", return_value=True),
    "files are not hashed": lambda: mock.patch.object(Bundle, "_read_file", _file_unchecked),
    "files that are not listed are not looked for": lambda: mock.patch.object(Bundle, "verify", _verify_listed_only),
}
"""Verifiers that leave one check out: the gate must report each."""
