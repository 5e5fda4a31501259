"""Keys for signing, as files of minisign: a public one that may be known to all, a secret one under a passphrase or plain.

Knows the files' layout and Ed25519; knows nothing about bundles.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType

from edge_mtl.errors import SignatureError
from edge_mtl.files import read_regular
from edge_mtl.packages import import_package
from edge_mtl.signing.text_files import MOST_BYTES, UNTRUSTED, comment_of, decoded, encoded, lines_of

__all__ = ["KeyInput", "PublicKey", "ScryptCost", "SecretKey"]

_ALGORITHM, _SCRYPT, _PLAIN, _CHECKSUM = b"Ed", b"Sc", b"\0\0", b"B2"
_HEAD = struct.Struct("<2s2s2s32sQQ")
"""Of a secret key: algorithm, key derivation, checksum, salt, and the cost of the derivation in operations and in bytes."""
_SECRET_BYTES = 8 + 64 + 32
"""Key id, seed and public key, checksum: what a passphrase covers."""
_PUBLIC_TEXT = re.compile(r"RW[A-Za-z0-9+/]{54}")
_MOST_MEMORY = 1 << 30


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """What a guess at a passphrase costs, in libsodium's units; by default that of minisign's keys: 1 GiB, a few seconds."""

    operations: int = 1 << 25
    memory: int = 1 << 30

    def key(self, passphrase: bytes, salt: bytes) -> bytes:
        """The bytes that cover a secret key. Raises SignatureError: there is not as much memory, or the cost makes no sense."""
        if not (1 << 15 <= self.operations <= 1 << 32 and 1 << 14 <= self.memory <= _MOST_MEMORY):
            raise SignatureError(
                f"The key asks for {self.operations} operations and {self.memory} bytes to read its passphrase; at most "
                f"{_MOST_MEMORY} bytes are expected. Make another key with: edge-mtl sign --new-key DIR"
            )
        rounds, lanes = 8, 1
        if self.operations < self.memory // 32:
            power = _power(self.operations // (rounds * 4))
        else:
            power = _power(self.memory // (rounds * 128))
            lanes = max(1, min((self.operations // 4) >> power, 0x3FFFFFFF) // rounds)
        try:
            return hashlib.scrypt(
                passphrase, salt=salt, n=1 << power, r=rounds, p=lanes, dklen=_SECRET_BYTES, maxmem=2 * _MOST_MEMORY - 2
            )
        except (MemoryError, ValueError) as exc:
            raise SignatureError(
                f"A key with a passphrase needs {self.memory >> 20} MiB of memory for a moment, which are not here ({exc}). "
                "Sign on a machine that has them."
            ) from exc


def _power(limit: int) -> int:
    """As libsodium chooses it: the least power of two above half of `limit`."""
    return next(power for power in range(1, 63) if 1 << power > limit // 2)


@dataclass(frozen=True)
class PublicKey:
    """What signatures are checked with.

    Attributes:
        identity: 8 bytes that signatures name their key by.
        value: 32 bytes, of Ed25519.
    """

    identity: bytes
    value: bytes

    @classmethod
    def of(cls, given: KeyInput) -> PublicKey:
        """From a key, its Base64 text (56 characters), or the file of one.

        Raises:
            SignatureError: there is no such file, or it holds no public key.
        """
        if isinstance(given, PublicKey):
            return given
        if isinstance(given, str) and _PUBLIC_TEXT.fullmatch(given):
            return cls._from_text(given, "The public key")
        path = Path(given)
        try:
            payload = read_regular(path, most=MOST_BYTES)
        except (OSError, ValueError) as exc:
            raise SignatureError(
                f"The public key {str(path)!r} cannot be read ({getattr(exc, 'strerror', None) or exc}). A file of "
                "edge-mtl sign --new-key or of minisign is expected, or the 56 characters of its second line."
            ) from exc
        return cls.from_file(payload, what=f"The public key {path}")

    @classmethod
    def from_file(cls, payload: bytes, *, what: str) -> PublicKey:
        """From a file's content; `what` names it in messages. Raises SignatureError."""
        comment, text = lines_of(payload, 2, what=what)
        comment_of(comment, UNTRUSTED, what=what)
        return cls._from_text(text, what)

    @classmethod
    def _from_text(cls, text: str, what: str) -> PublicKey:
        payload = decoded(text, 2 + 8 + 32, what=what)
        if payload[:2] != _ALGORITHM:
            raise SignatureError(f"{what} is of an algorithm {payload[:2]!r}; Ed25519 is expected, of minisign.")
        return cls(payload[2:10], payload[10:])

    @property
    def name(self) -> str:
        """The key's id as minisign shows it: 16 hexadecimal digits."""
        return self.identity[::-1].hex().upper()

    @property
    def text(self) -> str:
        """56 characters of Base64, for command lines and settings."""
        return encoded(_ALGORITHM + self.identity + self.value)

    def to_file(self) -> bytes:
        """The content of its file."""
        return f"{UNTRUSTED}minisign public key {self.name}\n{self.text}\n".encode()

    def accepts(self, signature: bytes, message: bytes) -> bool:
        """Whether the 64 bytes are this key's signature of `message`. Raises BackendUnavailable without cryptography."""
        key = _ed25519().Ed25519PublicKey.from_public_bytes(self.value)
        try:
            key.verify(signature, message)
        except import_package("cryptography.exceptions", "InvalidSignature", use=_USE, install=_INSTALL).InvalidSignature:
            return False
        return True


KeyInput = str | os.PathLike[str] | PublicKey
"""A public key, its Base64 text, or its file."""


@dataclass(frozen=True)
class SecretKey:
    """What signatures are made with; never printed.

    Attributes:
        identity: 8 bytes, as those of its public key.
        seed: 32 bytes.
    """

    identity: bytes
    seed: bytes = field(repr=False)

    @classmethod
    def new(cls) -> SecretKey:
        """A new one, from the system's source of random numbers."""
        return cls(secrets.token_bytes(8), secrets.token_bytes(32))

    @classmethod
    def read(cls, path: Path, passphrase: Callable[[], str]) -> SecretKey:
        """From a file of minisign's or of `to_file`.

        Args:
            passphrase: called where the key is under one.
        Raises:
            SignatureError: it cannot be read, holds no secret key, was altered, or the passphrase is another.
        """
        what = f"The secret key {path}"
        try:
            payload = read_regular(path, most=MOST_BYTES)
        except (OSError, ValueError) as exc:
            raise SignatureError(
                f"{what} cannot be read ({getattr(exc, 'strerror', None) or exc}). Make one with: edge-mtl sign --new-key DIR"
            ) from exc
        comment, text = lines_of(payload, 2, what=what)
        comment_of(comment, UNTRUSTED, what=what)
        content = decoded(text, _HEAD.size + _SECRET_BYTES, what=what)
        algorithm, derivation, checksum, salt, operations, memory = _HEAD.unpack_from(content)
        if algorithm != _ALGORITHM or checksum != _CHECKSUM or derivation not in (_SCRYPT, _PLAIN):
            raise SignatureError(f"{what} is of no kind that is known: Ed25519 with scrypt or plain is expected, of minisign.")
        secret = content[_HEAD.size :]
        if derivation == _SCRYPT:
            secret = _covered(secret, ScryptCost(operations, memory).key(passphrase().encode(), salt))
        identity, seed, public, found = secret[:8], secret[8:40], secret[40:72], secret[72:]
        key = cls(identity, seed)
        plain_as_minisign = derivation == _PLAIN and found == bytes(32)
        if not plain_as_minisign and not hmac.compare_digest(found, key._checksum):
            why = "the passphrase is another, or the file was altered" if derivation == _SCRYPT else "the file was altered"
            raise SignatureError(f"{what} cannot be used: {why}.")
        if public != key.public.value:
            raise SignatureError(f"{what} cannot be used: its two halves do not belong together; the file was altered.")
        return key

    @cached_property
    def public(self) -> PublicKey:
        """Its public key. Raises BackendUnavailable without cryptography."""
        return PublicKey(self.identity, self._private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """64 bytes. Raises BackendUnavailable without cryptography."""
        signature: bytes = self._private.sign(message)
        return signature

    def to_file(self, passphrase: str | None, *, cost: ScryptCost | None = None) -> bytes:
        """The content of its file; plain where there is no passphrase.

        Raises:
            SignatureError: there is not enough memory for `cost`.
        """
        secret = self.identity + self.seed + self.public.value + self._checksum
        if passphrase is None:
            head = _HEAD.pack(_ALGORITHM, _PLAIN, _CHECKSUM, bytes(32), 0, 0)
            return _secret_file("minisign secret key", head + secret)
        salt, cost = secrets.token_bytes(32), cost or ScryptCost()
        head = _HEAD.pack(_ALGORITHM, _SCRYPT, _CHECKSUM, salt, cost.operations, cost.memory)
        return _secret_file("minisign encrypted secret key", head + _covered(secret, cost.key(passphrase.encode(), salt)))

    @property
    def _checksum(self) -> bytes:
        content = _ALGORITHM + self.identity + self.seed + self.public.value
        return hashlib.blake2b(content, digest_size=32).digest()

    @cached_property
    def _private(self):  # type: ignore[no-untyped-def]  # a class of cryptography's
        return _ed25519().Ed25519PrivateKey.from_private_bytes(self.seed)


def _covered(secret: bytes, key: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(secret, key, strict=True))


def _secret_file(comment: str, content: bytes) -> bytes:
    return f"{UNTRUSTED}{comment}\n{encoded(content)}\n".encode()


_USE, _INSTALL = "A signature needs the package cryptography", "edge-mtl[sign]"


def _ed25519() -> ModuleType:
    return import_package(
        "cryptography.hazmat.primitives.asymmetric.ed25519",
        "Ed25519PublicKey",
        "Ed25519PrivateKey",
        use=_USE,
        install=_INSTALL,
    )
