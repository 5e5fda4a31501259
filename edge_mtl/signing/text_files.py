"""The text that keys and signatures are kept in: lines of comments and of Base64. Knows nothing about what they mean.

Only the one way that minisign writes is read, so that no byte of a file can change without being noticed.
"""

from __future__ import annotations

import base64
import binascii
import re

from edge_mtl.errors import SignatureError

__all__ = ["MOST_BYTES", "TRUSTED", "UNTRUSTED", "comment_of", "decoded", "encoded", "fits_comment", "lines_of"]

UNTRUSTED, TRUSTED = "untrusted comment: ", "trusted comment: "
MOST_BYTES = 10 << 10
"""Of a file of minisign's: 1 KiB and 8 KiB of comments, and the rest."""

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")


def lines_of(payload: bytes, count: int, *, what: str) -> list[str]:
    """The lines of a file that has `count` of them, each ended by one line feed.

    Args:
        what: the file, the start of the message.
    Raises:
        SignatureError: it is not such text.
    """
    try:
        lines = payload.decode().split("\n")
    except UnicodeDecodeError as exc:
        raise SignatureError(f"{what} is malformed: byte {exc.start} is no UTF-8. {_AGAIN}") from exc
    if len(lines) != count + 1 or lines[-1]:
        raise SignatureError(
            f"{what} is malformed: {count} lines are expected, each with a line feed at its end; found {len(payload)} bytes "
            f"with {payload.count(10)} line feeds. {_AGAIN}"
        )
    return lines[:-1]


def comment_of(line: str, prefix: str, *, what: str) -> str:
    """What follows `prefix`. Raises SignatureError: it is not there, or control characters are."""
    if not line.startswith(prefix) or not fits_comment(line):
        raise SignatureError(
            f"{what} is malformed: a line that begins with {prefix.strip()!r} and has no control characters is expected; "
            f"found {line[:40]!r}. {_AGAIN}"
        )
    return line[len(prefix) :]


def fits_comment(text: str) -> bool:
    """Whether a line of a comment can hold `text`: no control characters but tabs."""
    return _CONTROL.search(text) is None


def decoded(text: str, size: int, *, what: str) -> bytes:
    """The `size` bytes that a line of Base64 stands for. Raises SignatureError: it is not that line."""
    try:
        payload = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise SignatureError(f"{what} is malformed: a line of Base64 is expected ({exc}). {_AGAIN}") from exc
    if len(payload) != size or encoded(payload) != text:
        raise SignatureError(
            f"{what} is malformed: {size} bytes as Base64 are expected; found {len(payload)}, or bits that nothing stands for. "
            f"{_AGAIN}"
        )
    return payload


def encoded(payload: bytes) -> str:
    """One line of Base64."""
    return base64.b64encode(payload).decode()


_AGAIN = "Restore the file from where it came from."
