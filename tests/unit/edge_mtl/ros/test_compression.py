"""Compressed maps, read by the rules of the plug-ins that subscribe to them: what comes back, and what it may cost."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from edge_mtl.ros import compress
from edge_mtl.ros.compression import FARTHEST_M, NEAREST_M
from tests.bundles import make_image
from tests.compressed import read_compressed, read_compressed_depth


def test_colours_are_a_jpeg_that_comes_back_in_their_order() -> None:
    image = np.full((48, 64, 3), (200, 60, 20), np.uint8)
    described, data = compress("rgb8", image, "jpeg")
    assert described == "rgb8; jpeg compressed bgr8"
    assert data[:3] == b"\xff\xd8\xff"
    encoding, found = read_compressed(described, data)
    assert (encoding, found.dtype, found.shape) == ("rgb8", np.uint8, image.shape)
    assert np.abs(found.astype(int) - image).max() <= 3
    photograph = make_image(3, height=96, width=128)
    _, found = read_compressed(*compress("rgb8", photograph[:, ::-1], "jpeg"))
    assert np.abs(found.astype(int) - photograph[:, ::-1]).mean() < 6


@pytest.mark.parametrize(
    ("encoding", "described", "pixels"),
    [
        ("mono8", "mono8; png compressed ", np.arange(256, dtype=np.uint8).reshape(16, 16)[:, ::-1]),
        ("rgb8", "rgb8; png compressed bgr8", make_image(2, height=48, width=64)),
    ],
)
def test_what_must_stay_exact_is_a_png(encoding: str, described: str, pixels: np.ndarray) -> None:
    found_format, data = compress(encoding, pixels, "png")
    assert found_format == described
    assert data[:4] == b"\x89PNG"
    found_encoding, found = read_compressed(found_format, data)
    assert found_encoding == encoding
    assert found.dtype == np.uint8
    assert np.array_equal(found, pixels)


def test_depth_in_metres_comes_back_within_half_a_step_and_unknown_as_unknown() -> None:
    metres = np.geomspace(NEAREST_M, FARTHEST_M, 40_000, dtype=np.float32).reshape(200, 200)
    metres[3, 4], metres[5, 6], metres[7, 8], metres[9, 10] = np.nan, np.inf, 0.0, -1.0
    described, data = compress("32FC1", metres, "depth")
    assert described == "32FC1; compressedDepth png"
    assert struct.unpack("<iff", data[:12]) == (0, 10100.0, -100.0)
    encoding, found = read_compressed_depth(described, data)
    assert (encoding, found.dtype) == ("32FC1", np.float32)
    unknown = np.zeros_like(metres, bool)
    unknown[[3, 5, 7, 9], [4, 6, 8, 10]] = True
    assert np.array_equal(np.isnan(found), unknown)
    known, true = found[~unknown].astype(float), metres[~unknown].astype(float)
    # A step of the code is z * z / 10100 at z, a little more at its far end.
    assert (np.abs(known - true) <= 0.5 * np.maximum(known, true) ** 2 / 10100 + 1e-5 * true).all()
    assert np.abs(known - true)[true < 10].max() < 0.0051
    assert np.abs(known - true)[true < 3].max() < 0.0005


def test_depth_out_of_reach_is_the_nearest_or_unknown_but_never_another_distance() -> None:
    metres = np.array([[1e-6, 0.01, 0.15, NEAREST_M, 99.9, 100.0, 100.1, 1e6]], np.float32)
    _, found = read_compressed_depth(*compress("32FC1", metres, "depth"))
    assert found[0, :4] == pytest.approx(NEAREST_M, rel=1e-4)
    assert found[0, 4:6] == pytest.approx([99.9, 100.0], abs=0.6)
    assert np.isnan(found[0, 6:]).all()


def test_millimetres_stay_exact() -> None:
    millimetres = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    described, data = compress("16UC1", millimetres, "depth")
    assert described == "16UC1; compressedDepth png"
    encoding, found = read_compressed_depth(described, data)
    assert encoding == "16UC1"
    assert found.dtype == np.uint16
    assert np.array_equal(found, millimetres)


def test_a_compressed_map_of_depth_is_much_smaller_than_its_floats() -> None:
    rows, columns = np.mgrid[:480, :640].astype(np.float32)
    metres = 1.5 + columns / 400 + np.where(rows > 240, (rows - 240) / 300, 0)
    _, data = compress("32FC1", metres, "depth")
    assert len(data) * 5 < metres.nbytes


@pytest.mark.parametrize(("encoding", "transport"), [("32FC3", "jpeg"), ("mono8", "depth"), ("32FC1", "png"), ("rgb8", "")])
def test_what_the_plug_ins_have_no_form_for_is_refused(encoding: str, transport: str) -> None:
    with pytest.raises(ValueError, match=f"a map of {encoding} cannot be sent"):
        compress(encoding, np.zeros((4, 4), np.float32), transport)  # type: ignore[arg-type]


def test_a_grey_png_has_no_palette() -> None:
    _, data = compress("mono8", np.zeros((4, 4), np.uint8), "png")
    assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED).ndim == 2, "a palette would come back as colours"
