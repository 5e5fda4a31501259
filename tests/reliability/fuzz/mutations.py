"""Mutations of bytes that know nothing of what the bytes mean."""

from __future__ import annotations

import random

__all__ = ["mutate_bytes"]

_INTERESTING = (b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff", b"\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"\xff" * 8)


def mutate_bytes(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """One to four of: a bit turned, a byte set, a part removed, repeated, moved, overwritten or taken from `other`, an end."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(content) + 1)
        length = min(len(content) - start, 1 << rng.randrange(12))
        stop = start + (rng.randrange(length) + 1 if length else 0)
        match rng.randrange(8):
            case 0 if start < len(content):
                content[start] ^= 1 << rng.randrange(8)
            case 1 if start < len(content):
                content[start] = rng.randrange(256)
            case 2:
                del content[start:stop]
            case 3:
                content[start:start] = content[start:stop]
            case 4:
                value = rng.choice(_INTERESTING)
                content[start : start + len(value)] = value
            case 5 if other:
                begin = rng.randrange(len(other))
                content[start:stop] = other[begin : begin + (1 << rng.randrange(10))]
            case 6:
                del content[start:]
            case _:
                moved = content[start:stop]
                del content[start:stop]
                place = rng.randrange(len(content) + 1)
                content[place:place] = moved
    return bytes(content)
