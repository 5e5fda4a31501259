"""16 bits to 8: exact rounding for every value and number of bits, and what is said of images that contradict it."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image.bit_depth import to_8_bits

EVERY = np.arange(1 << 16, dtype=np.uint16)


@pytest.mark.parametrize("bits", range(8, 17))
def test_every_value_is_rounded_and_what_lies_beyond_is_white(bits: int) -> None:
    top = (1 << bits) - 1
    values = EVERY.astype(np.int64)
    exact = np.minimum((values * 255 * 2 + top) // (2 * top), 255)  # no value lies halfway: top is odd
    np.testing.assert_array_equal(to_8_bits(EVERY, bits=bits), exact)


def test_the_full_range_undoes_a_widening_by_257_and_is_a_257th() -> None:
    eight = np.arange(256, dtype=np.uint16)
    np.testing.assert_array_equal(to_8_bits(eight * 257), eight)
    assert all(int(to_8_bits(EVERY[[value]])[0]) == round(Fraction(value, 257)) for value in (128, 129, 385, 386, 65406, 65407))


def test_shape_order_of_bytes_and_strides_do_not_matter() -> None:
    image = EVERY.reshape(64, 256, 4)
    expected = to_8_bits(image)
    assert expected.shape == image.shape
    np.testing.assert_array_equal(to_8_bits(image.astype(">u2")), expected)
    np.testing.assert_array_equal(to_8_bits(image[::2, ::-3]), expected[::2, ::-3])
    assert to_8_bits(image[:0]).shape == (0, 256, 4)


@pytest.mark.parametrize(
    ("brightest", "bits", "said"),
    [
        (65535, 16, ""),
        (16384, 16, ""),
        (16383, 16, "image_bits:=14"),
        (4095, 16, "--bits 12"),
        (1023, 16, "bits=10"),
        (200, 16, "bits=8"),
        (0, 16, ""),
        (4095, 12, ""),
        (1024, 12, ""),
        (1023, 12, "bits=10"),
        (4096, 12, "lie beyond its 12 bits and become white.*image_bits:=16"),
        (200, 8, ""),
    ],
)
def test_what_the_brightest_value_says_against_the_bits(brightest: int, bits: int, said: str) -> None:
    remarks: list[str] = []
    image = np.zeros((4, 6, 3), np.uint16)
    image[1, 2, 0] = brightest
    to_8_bits(image, bits=bits, on_remark=remarks.append)
    assert len(remarks) == bool(said)
    for remark in remarks:
        assert re.search(said, remark), remark


@pytest.mark.parametrize(("pixels", "bits"), [(EVERY, 7), (EVERY, 17), (EVERY.astype(np.uint8), 16), (EVERY.astype("f4"), 16)])
def test_other_pixels_and_numbers_of_bits_are_refused(pixels: np.ndarray, bits: int) -> None:
    with pytest.raises(FrameError, match=r"8 to 16|uint16 were expected"):
        to_8_bits(pixels, bits=bits)
