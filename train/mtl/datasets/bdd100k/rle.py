"""COCO's run-length codes of masks: lengths of runs of zeros and ones by turns, column by column, often as text.

A length in text is five bits a character, lowest first, each character 48 more than its value; 32 says that more follow, and
from the fourth length on it is the difference from the length two before (github.com/cocodataset/cocoapi, maskApi).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

__all__ = ["mask_of", "rle_text"]

Array = np.ndarray

_ZERO, _MORE, _BITS, _SIGN = 48, 0x20, 5, 0x10
_LONGEST = 7
"""Characters of a length: 35 bits."""
_MOST_PIXELS = 1 << 28


def mask_of(text: str, size: tuple[int, int]) -> Array:
    """(H, W) bool.

    Args:
        size: (H, W) of the mask.
    Raises:
        ValueError: the text is no such code, or its lengths do not fill the mask.
    """
    lengths = np.array(_lengths(text), np.int64)
    if (lengths < 0).any():
        raise ValueError("it has a run of less than no pixel")
    if int(lengths.sum()) != size[0] * size[1]:
        raise ValueError(f"its runs are {int(lengths.sum())} pixels, expected {size[0]} x {size[1]}")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size[::-1]).T


def rle_text(rle: Any) -> tuple[str, tuple[int, int]]:
    """The code as text and (H, W), of what a label has: `counts` as text or as lengths, and `size`.

    Raises:
        ValueError: it has no such code.
    """
    if not isinstance(rle, Mapping):
        raise ValueError("it is no object with counts and size")
    counts, size = rle.get("counts"), rle.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_count(one) for one in size) or not size[0] * size[1] > 0:
        raise ValueError(f"its size is {str(size)[:40]}, expected height and width")
    if size[0] * size[1] > _MOST_PIXELS:
        raise ValueError(f"its size is {size[0]} x {size[1]}, expected that of an image")
    if isinstance(counts, str):
        _lengths(counts)
        return counts, (size[0], size[1])
    if not isinstance(counts, list) or not all(_is_count(one) and one <= _MOST_PIXELS for one in counts):
        raise ValueError(f"its counts are {str(counts)[:40]!r}, expected text or lengths")
    return _text(counts), (size[0], size[1])


def _lengths(text: str) -> list[int]:
    found: list[int] = []
    value, place = 0, 0
    for character in text:
        code = ord(character) - _ZERO
        if not 0 <= code < 2 * _MORE or place == _LONGEST:
            raise ValueError(f"its counts have {character!r} in the wrong place")
        value |= (code & (_MORE - 1)) << (_BITS * place)
        place += 1
        if code & _MORE:
            continue
        if code & _SIGN:
            value -= 1 << (_BITS * place)
        found.append(value + (found[-2] if len(found) > 2 else 0))
        value, place = 0, 0
    if place:
        raise ValueError("its counts are cut short")
    return found


def _text(lengths: Sequence[int]) -> str:
    """The inverse of `_lengths`."""
    found: list[str] = []
    for place, length in enumerate(lengths):
        value = length - lengths[place - 2] if place > 2 else length
        while True:
            low, value = value & (_MORE - 1), value >> _BITS
            done = value == (-1 if low & _SIGN else 0)
            found.append(chr(_ZERO + (low if done else low | _MORE)))
            if done:
                break
    return "".join(found)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
