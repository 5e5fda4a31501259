"""Numbers and texts at which readers stumble, and changes to records and texts that put them in."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.reliability.fuzz.mutations import mutate_bytes

__all__ = ["INTEGERS", "NUMBERS", "TEXTS", "Mutation", "altered_record", "damaged_text", "packed_integer", "with_field"]

Mutation = Callable[[bytes, bytes, random.Random], bytes]
"""One changed input, of an input and another one to take parts of."""

INTEGERS = (0, 1, -1, 2, 3, 7, 127, 128, 255, 256, 4095, 32767, 32768, 65535, 65536, 1 << 20, (1 << 24) - 1, (1 << 31) - 1)
INTEGERS += (1 << 31, (1 << 32) - 1, 1 << 32, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""Those at which types of numbers end."""
NUMBERS: tuple[int | float, ...] = (*INTEGERS, -(1 << 31), -(1 << 63), 10**30, 0.5, -0.0, 1e-300, 1e300, -1e300, 1e38)
NUMBERS += (float("nan"), float("inf"), float("-inf"))
TEXTS = ("", " ", "\0", "a\nb", "\x1b[2J", "../../../x", "/", ".", "~", "null", "NaN", "é", "\U0001f980", "\ud800", "x" * 5000)
TEXTS += ("%s%n", "{0}", "[bold]", "con", "1e999", "-1", "${HOME}", "'; --")
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def packed_integer(value: int, width: int, order: str) -> bytes:
    """As so many bytes, whatever does not fit cut off."""
    return (value & ((1 << 8 * width) - 1)).to_bytes(width, "little" if order == "<" else "big")


def damaged_text(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Numbers, words and lines of a text changed, doubled, nested or taken out; sometimes its bytes."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        how = rng.randrange(8)
        lines, numbers = data.split(b"\n"), list(_NUMBER.finditer(data))
        if how <= 1 and numbers:
            found = rng.choice(numbers)
            data = data[: found.start()] + str(rng.choice(NUMBERS)).encode() + data[found.end() :]
        elif how == 2:
            words = list(re.finditer(rb"[\w./-]+", data)) or [re.match(rb"", data)]
            word = rng.choice(words)
            assert word is not None
            text = rng.choice((*TEXTS, "true", "[]", "{}", "''", '"', "&a *a", "!!python/object:os.system", "#", "---"))
            data = data[: word.start()] + text.encode(errors="surrogatepass") + data[word.end() :]
        elif how == 3:
            del lines[rng.randrange(len(lines))]
            data = b"\n".join(lines)
        elif how == 4:
            line = rng.choice(lines)
            at = rng.randrange(len(lines) + 1)
            data = b"\n".join([*lines[:at], *[line] * rng.choice((1, 2, 100)), *lines[at:]])
        elif how == 5:
            theirs = other.split(b"\n")
            lines[rng.randrange(len(lines))] = rng.choice(theirs)
            data = b"\n".join(lines)
        elif how == 6:
            at = rng.randrange(len(data) + 1)
            data = data[:at] + rng.choice((b"[", b"{", b"(", b'{"a":', b"- ", b"[[")) * rng.choice((1, 50, 3000)) + data[at:]
        else:
            data = mutate_bytes(data, other, rng)
    return data


def with_field(data: bytes, rng: random.Random, order: str) -> bytes:
    """One aligned number of the beginning of a record replaced; `order` is that of its bytes, "<" or ">"."""
    width = rng.choice((1, 2, 4, 8))
    places = range(0, min(len(data), 256) - width + 1, width)
    if not places:
        return data + bytes(rng.randrange(8))
    at = rng.choice(places)
    return data[:at] + packed_integer(rng.choice(INTEGERS), width, order) + data[at + width :]


def altered_record(data: bytes, other: bytes, rng: random.Random, *, order: str) -> bytes:
    """A number of a record replaced, or its bytes changed."""
    return with_field(data, rng, order) if rng.random() < 0.5 else mutate_bytes(data, other, rng)
