"""Signatures of minisign, of a file's BLAKE2b-512: made, written, read and checked. Knows nothing about bundles."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from edge_mtl.errors import SignatureError
from edge_mtl.signing.keys import PublicKey, SecretKey
from edge_mtl.signing.text_files import TRUSTED, UNTRUSTED, comment_of, decoded, encoded, fits_comment, lines_of

__all__ = ["Signature", "Signed"]

_PREHASHED = b"ED"
_MOST_COMMENT_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature that holds says.

    Attributes:
        key: id of the key, as minisign shows it.
        comment: the trusted comment, which is signed too.
    """

    key: str
    comment: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature file.

    Attributes:
        identity: id of the key that it is said to be of, 8 bytes.
        value: 64 bytes, of the file's BLAKE2b-512.
        comment: the trusted comment.
        of_comment: 64 bytes, of `value` and the trusted comment.
    """

    identity: bytes
    value: bytes
    comment: str
    of_comment: bytes

    @classmethod
    def make(cls, message: bytes, key: SecretKey, *, comment: str) -> Signature:
        """Sign `message`. Raises SignatureError: the comment has control characters or more than 8 KiB."""
        content = comment.encode("utf-8", errors="replace")
        if not fits_comment(comment) or len(content) >= _MOST_COMMENT_BYTES - len(TRUSTED):
            raise SignatureError(f"A comment of one line, less than 8 KiB and no control characters is expected: {comment!r}.")
        value = key.sign(_digest(message))
        return cls(key.identity, value, content.decode(), key.sign(value + content))

    @classmethod
    def read(cls, payload: bytes, *, what: str) -> Signature:
        """From a file's content; `what` names it in messages. Raises SignatureError."""
        untrusted, first, trusted, second = lines_of(payload, 4, what=what)
        comment_of(untrusted, UNTRUSTED, what=what)
        content = decoded(first, 2 + 8 + 64, what=what)
        if content[:2] != _PREHASHED:
            raise SignatureError(
                f"{what} is of a kind {content[:2]!r}; {_PREHASHED!r} is expected, of a file's BLAKE2b. "
                "Sign again with edge-mtl sign, or minisign -S without -l."
            )
        comment = comment_of(trusted, TRUSTED, what=what)
        return cls(content[2:10], content[10:], comment, decoded(second, 64, what=what))

    def to_file(self) -> bytes:
        """The content of its file."""
        first = encoded(_PREHASHED + self.identity + self.value)
        untrusted = f"{UNTRUSTED}signature from edge-mtl, key {self.identity[::-1].hex().upper()}"
        return f"{untrusted}\n{first}\n{TRUSTED}{self.comment}\n{encoded(self.of_comment)}\n".encode()

    def check(self, message: bytes, key: PublicKey, *, what: str, of: str) -> Signed:
        """That `key` signed `message` and the trusted comment.

        Args:
            what: the signature, the start of messages.
            of: the name of what is signed.
        Raises:
            SignatureError: another key's, or one of the two was altered.
            BackendUnavailable: cryptography is missing.
        """
        if self.identity != key.identity:
            raise SignatureError(
                f"{what} is of the key {self.identity[::-1].hex().upper()}; {key.name} is expected. "
                "Check it with the signer's public key, or have it signed with the key that is expected."
            )
        if not key.accepts(self.value, _digest(message)):
            raise SignatureError(
                f"{what} does not hold: {of} or the signature was altered since the key {key.name} signed it. {_RESTORE}"
            )
        if not key.accepts(self.of_comment, self.value + self.comment.encode()):
            raise SignatureError(f"{what} does not hold: its trusted comment was altered. {_RESTORE}")
        return Signed(key.name, self.comment)


def _digest(message: bytes) -> bytes:
    return hashlib.blake2b(message).digest()


_RESTORE = "Restore the bundle from where it came from, or have it signed again."
