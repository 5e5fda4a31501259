"""Ways to alter a file, or to put another's in its place. Knows bytes and lines; knows nothing about what they mean."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["Altered", "bits", "random_changes", "structure"]

Altered = tuple[str, bytes]
"""What was done, and the file's content after it."""


def bits(content: bytes) -> Iterator[Altered]:
    """Every single bit turned."""
    for position in range(8 * len(content)):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        yield f"bit {position % 8} of byte {position // 8} turned", bytes(changed)


def random_changes(content: bytes, dice: random.Random) -> Iterator[Altered]:
    """Without end: bytes set, put in, taken out, moved, a few of them at once."""
    while True:
        changed, said = bytearray(content), []
        for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
            kind, place = dice.choice(("set", "in", "out", "move")), dice.randrange(len(changed) + 1)
            length = dice.choice((1, 1, 2, 16, 200))
            if kind == "set" and place < len(changed):
                changed[place] = dice.randrange(256)
            elif kind == "in":
                changed[place:place] = dice.randbytes(length)
            elif kind == "out":
                del changed[place : place + length]
            elif kind == "move":
                part = changed[place : place + length]
                del changed[place : place + length]
                target = dice.randrange(len(changed) + 1)
                changed[target:target] = part
            said.append(f"{kind} {length} at {place}")
        if bytes(changed) != content:
            yield ", ".join(said), bytes(changed)


def structure(content: bytes) -> Iterator[Altered]:
    """What editors and transfers do to text: ends cut off or added, other line ends, marks, lines twice or exchanged."""
    lines = content.split(b"\n")
    for length in range(len(content)) if len(content) < 2000 else range(0, len(content), len(content) // 500):
        yield f"cut after {length} bytes", content[:length]
    for tail in (b"\n", b" ", b"\0", b"\r\n", b"\x1a", content, b"x" * 100_000):
        yield f"{tail[:9]!r} after it", content + tail
        yield f"{tail[:9]!r} before it", tail + content
    yield "line ends of DOS", content.replace(b"\n", b"\r\n")
    yield "line ends of old Macs", content.replace(b"\n", b"\r")
    yield "no line ends", content.replace(b"\n", b"")
    yield "a byte order mark", b"\xef\xbb\xbf" + content
    for coding in ("utf-16", "utf-16-le", "utf-32", "utf-7"):
        yield f"as {coding}", content.decode("utf-8", errors="replace").encode(coding)
    yield "upper case", content.upper()
    yield "lower case", content.lower()
    for number in range(min(len(lines), 40)):
        yield f"line {number} twice", b"\n".join([*lines[: number + 1], *lines[number:]])
        yield f"line {number} gone", b"\n".join([*lines[:number], *lines[number + 1 :]])
        yield f"a space before line {number}", b"\n".join([*lines[:number], b" " + lines[number], *lines[number + 1 :]])
        yield f"a space after line {number}", b"\n".join([*lines[:number], lines[number] + b" ", *lines[number + 1 :]])
        yield f"a comment after line {number}", b"\n".join([*lines[: number + 1], b"# comment", *lines[number + 1 :]])
        for other in range(number):
            swapped = list(lines)
            swapped[number], swapped[other] = swapped[other], swapped[number]
            yield f"lines {other} and {number} exchanged", b"\n".join(swapped)
