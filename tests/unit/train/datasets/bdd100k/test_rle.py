"""Run-length codes of masks: a mask by hand, there and back, and texts that are no codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from mtl.datasets.bdd100k.rle import mask_of, rle_text


def lengths_of(mask: np.ndarray) -> list[int]:
    """Runs of zeros and ones by turns, column by column."""
    flat = mask.T.ravel()
    ends = np.concatenate([np.flatnonzero(np.diff(flat)) + 1, [flat.size]])
    runs = np.diff(np.concatenate([[0], ends])).tolist()
    return [0, *runs] if flat[0] else runs


def test_a_mask_by_hand() -> None:
    mask = np.array([[0, 1, 1], [0, 1, 0]], bool)
    text, size = rle_text({"counts": [2, 3, 1], "size": [2, 3]})
    assert (text, size) == ("231", (2, 3))
    np.testing.assert_array_equal(mask_of(text, size), mask)
    # 40 = 8 + 1 * 32, so "8 and more follow", then 1; the last is 5 more than the 8 before the last
    assert rle_text({"counts": [0, 8, 40, 13], "size": [61, 1]})[0] == "08X15"
    assert mask_of("08X15", (61, 1)).sum() == 21


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_masks_come_back(mask: np.ndarray) -> None:
    text, size = rle_text({"counts": lengths_of(mask), "size": list(mask.shape)})
    np.testing.assert_array_equal(mask_of(text, size), mask)
    assert rle_text({"counts": text, "size": list(mask.shape)}) == (text, size)


@given(st.lists(st.integers(0, 2**28), max_size=6), st.integers(1, 9))
def test_lengths_that_do_not_fill_the_mask_are_refused(lengths: list[int], rows: int) -> None:
    text, _ = rle_text({"counts": lengths, "size": [rows, 3]})
    if sum(lengths) != 3 * rows:
        with pytest.raises(ValueError, match=f"its runs are {sum(lengths)} pixels, expected {rows} x 3"):
            mask_of(text, (rows, 3))


@given(st.text(max_size=12))
def test_any_text_is_a_mask_or_refused(text: str) -> None:
    try:
        found = mask_of(text, (3, 4))
    except ValueError:
        return
    assert found.shape == (3, 4)


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        (None, "no object"),
        ({"counts": "231"}, "its size is None"),
        ({"counts": "231", "size": [2, 0]}, "its size is"),
        ({"counts": "231", "size": [2, True]}, "its size is"),
        ({"counts": "231", "size": [1 << 20, 1 << 20]}, "expected that of an image"),
        ({"counts": "23\u00e9", "size": [2, 3]}, "in the wrong place"),
        ({"counts": "23o", "size": [2, 3]}, "cut short"),
        ({"counts": "oooooooo0", "size": [2, 3]}, "in the wrong place"),
        ({"counts": [2, -3], "size": [2, 3]}, "expected text or lengths"),
        ({"counts": 5, "size": [2, 3]}, "expected text or lengths"),
    ],
)
def test_what_is_no_code_says_so(rle: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rle_text(rle)


def test_runs_of_less_than_no_pixel_are_refused() -> None:
    with pytest.raises(ValueError, match="less than no pixel"):
        mask_of("O7", (2, 3))
