"""Encodings against references written by their definitions, and cameras through scaling, binning and regions."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros import ENCODINGS, Camera, decode_compressed, decode_image
from tests.bundles import make_image
from tests.encodings import encoded

HEIGHT, WIDTH = 48, 72
EXACT = ("rgb8", "bgr8", "8UC3", "rgba8", "bgra8", "8UC4", "mono8", "8UC1")
EXACT += tuple(name.replace("8", "16") for name in EXACT)
WIDE = tuple(name for name in ENCODINGS if "16" in name)


def smooth() -> np.ndarray:
    """An image whose colours change slowly, so that formats of less colour resolution lose little."""
    return cv2.resize(make_image(1, height=3, width=4), (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def decode(encoding: str, raw: np.ndarray, *, padding: int = 0, short_last_row: bool = False) -> np.ndarray:
    rows = raw.reshape(raw.shape[0], -1).view(np.uint8)
    padded = np.full((rows.shape[0], rows.shape[1] + padding), 0xAA, np.uint8)
    padded[:, : rows.shape[1]] = rows
    data = padded.tobytes()
    if short_last_row and padding:
        data = data[:-padding]
    height = raw.shape[0] * 2 // 3 if encoding.startswith("nv") else raw.shape[0]
    pixels, channels = decode_image(encoding, height, raw.shape[1], padded.shape[1], data)
    assert pixels.dtype == np.uint8
    return pixels if channels == "rgb" else pixels[..., ::-1]


@pytest.mark.parametrize("padding", [0, 1, 13])
@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_every_encoding_decodes_to_its_image(encoding: str, padding: int) -> None:
    raw, told = encoded(encoding, smooth())
    found = decode(encoding, raw, padding=padding)
    assert found.shape == told.shape
    difference = np.abs(found.astype(int) - told)[2:-2, 2:-2]
    assert difference.max() <= (0 if encoding in EXACT else 24)
    assert difference.mean() <= (0 if encoding in EXACT else 3)


@pytest.mark.parametrize("encoding", list(ENCODINGS))
@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
def test_flat_colours_survive_every_encoding(encoding: str, colour: tuple[int, int, int]) -> None:
    raw, told = encoded(encoding, np.full((8, 12, 3), colour, np.uint8))
    difference = np.abs(decode(encoding, raw).astype(int) - told)
    assert difference[2:-2, 2:-2].max() <= (0 if encoding in EXACT or encoding.startswith("bayer") else 3)


@pytest.mark.parametrize("encoding", list(ENCODINGS))
def test_the_padding_of_the_last_row_may_be_missing(encoding: str) -> None:
    raw, _ = encoded(encoding, smooth())
    whole, cut = (decode(encoding, raw, padding=9, short_last_row=short) for short in (False, True))
    assert np.array_equal(whole, cut)


def test_plain_colours_are_not_copied() -> None:
    data = bytearray(smooth().tobytes())
    pixels, _ = decode_image("rgb8", HEIGHT, WIDTH, WIDTH * 3, data)
    data[0] ^= 0xFF
    assert pixels[0, 0, 0] == data[0]
    assert not pixels.flags.writeable


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "size", "said"),
    [
        ("32FC1", 4, 4, 16, 64, "none of rgb8"),
        ("16UC1", 4, 4, 7, 32, "step of 7"),
        ("rgb16", 4, 4, 24, 95, "96 bytes were expected"),
        ("rgb8", 0, 4, 12, 48, "4x0"),
        ("rgb8", 4, 0, 12, 48, "0x4"),
        ("rgb8", 4, 4, 11, 48, "step of 11"),
        ("rgb8", 4, 4, 12, 47, "48 bytes were expected"),
        ("rgb8", 2**31, 4, 12, 47, "pixels a side"),
        ("yuv422", 4, 3, 6, 24, "even width"),
        ("nv12", 3, 4, 4, 18, "even sides"),
        ("nv12", 4, 4, 4, 16, "20 bytes were expected for 6 rows"),
        ("bayer_rggb8", 2, 2, 2, 4, "3x3"),
        ("bayer_rggb16", 2, 2, 4, 8, "3x3"),
        ("", 4, 4, 12, 48, "none of"),
    ],
)
def test_what_is_no_image_is_refused(encoding: str, height: int, width: int, step: int, size: int, said: str) -> None:
    if encoding == "nv12" and size == 16:
        said = "24 bytes were expected for 6 rows"
    with pytest.raises(FrameError, match=said):
        decode_image(encoding, height, width, step, bytes(size))


def test_compressed_images_are_read_and_others_refused() -> None:
    frame = smooth()
    png = cv2.imencode(".png", frame[..., ::-1])[1].tobytes()
    pixels, channels = decode_compressed("rgb8; png compressed bgr8", png)
    assert channels == "bgr"
    assert np.array_equal(pixels[..., ::-1], frame)
    for description, data in (("jpeg", b""), ("jpeg", b"no image"), ("16UC1; compressedDepth png", png)):
        with pytest.raises(FrameError):
            decode_compressed(description, data)


@pytest.mark.parametrize("encoding", WIDE)
def test_sixteen_bits_are_read_in_the_byte_order_that_the_message_names(encoding: str) -> None:
    raw, told = encoded(encoding, smooth())
    step, said = raw.nbytes // HEIGHT, dict[str, str]()
    little, _ = decode_image(encoding, HEIGHT, WIDTH, step, raw.tobytes(), on_remark=said.setdefault)
    raw = raw + np.uint16(17)  # the low byte is another one now
    low, high = (
        decode_image(encoding, HEIGHT, WIDTH, step, raw.astype(order).tobytes(), bigendian=order == ">u2")[0]
        for order in ("<u2", ">u2")
    )
    assert np.array_equal(low, high)
    assert np.array_equal(low, little), "17 of 257 is less than half a step"
    assert not said
    assert len(np.unique(told)) > 20


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgra16", "bayer_rggb16"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_a_camera_that_fills_the_low_bits_is_read_as_one_of_8_bits(encoding: str, bits: int) -> None:
    eight = encoding.replace("16", "8")
    raw, _ = encoded(eight, smooth())
    plain, _ = decode_image(eight, HEIGHT, WIDTH, raw.nbytes // HEIGHT, raw.tobytes())
    words = np.rint(raw * ((2**bits - 1) / 255)).astype("<u2")
    remarks: list[str] = []
    found, _ = decode_image(
        encoding, HEIGHT, WIDTH, words.nbytes // HEIGHT, words.tobytes(), bits=bits, on_remark=remarks.append
    )
    assert np.array_equal(found, plain)
    assert remarks == []
    dark, _ = decode_image(encoding, HEIGHT, WIDTH, words.nbytes // HEIGHT, words.tobytes(), on_remark=remarks.append)
    assert dark.max() <= 2 ** (bits - 8)
    assert len(remarks) == 1
    assert f"image_bits:={bits}" in remarks[0]


def compressed(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def test_a_compressed_image_of_16_bits_is_what_the_raw_one_is() -> None:
    raw, told = encoded("rgb16", smooth())
    raw = raw.astype(np.uint16) // 3 * 2 + 100  # values that 8 bits do not hold
    plain, _ = decode_image("rgb16", HEIGHT, WIDTH, raw.nbytes // HEIGHT, raw.tobytes())
    pixels, channels = decode_compressed("rgb16; png compressed bgr16", compressed(raw[..., ::-1]))
    assert channels == "bgr"
    assert np.array_equal(pixels[..., ::-1], plain)
    grey, _ = decode_compressed("mono16; png compressed ", compressed(raw[..., 0]))
    assert np.array_equal(grey, np.dstack([plain[..., 0]] * 3))
    remarks: list[str] = []
    twelve, _ = decode_compressed("mono16; png compressed ", compressed(raw[..., 0] >> 4), bits=12, on_remark=remarks.append)
    assert np.abs(twelve.astype(int) - grey).max() <= 1
    assert remarks == []
    decode_compressed("mono16; png compressed ", compressed(raw[..., 0] >> 4), on_remark=remarks.append)
    assert len(remarks) == 1
    with pytest.raises(FrameError, match="8 or 16 bits a channel was expected; found float32"):
        decode_compressed("32FC1; tiff compressed ", cv2.imencode(".tiff", np.ones((4, 4, 3), np.float32))[1].tobytes())
    assert told.shape == plain.shape


@pytest.mark.parametrize("encoding", ["bayer_rggb8", "bayer_gbrg16"])
def test_a_compressed_mosaic_is_what_the_raw_one_is(encoding: str) -> None:
    raw, _ = encoded(encoding, smooth())
    plain, order = decode_image(encoding, HEIGHT, WIDTH, raw.nbytes // HEIGHT, raw.tobytes())
    found, channels = decode_compressed(f"{encoding}; png compressed ", compressed(raw.astype(raw.dtype.newbyteorder("="))))
    assert channels == order
    assert np.array_equal(found, plain)
    grey = cv2.imencode(".jpg", smooth()[..., 0])[1].tobytes()
    found, channels = decode_compressed(f"{encoding}; jpeg compressed mono8", grey)
    assert channels == "bgr"
    assert np.array_equal(found[..., 0], found[..., 2]), "grey already"


def camera() -> Camera:
    return Camera.of(
        width=640,
        height=480,
        k=[500, 0, 320, 0, 510, 240, 0, 0, 1],
        d=[0.1, 0, 0, 0, 0],
        p=[480, 0, 310, -48, 0, 490, 230, 0, 0, 0, 1, 0],
    )


def test_a_camera_scales_with_its_images() -> None:
    half = camera().scaled(320, 120)
    assert half.k == (250, 0, 160, 0, 127.5, 60, 0, 0, 1)
    assert half.p == (240, 0, 155, -24, 0, 122.5, 57.5, 0, 0, 0, 1, 0)
    assert half.d == camera().d
    assert half.r == camera().r
    assert half.scaled(640, 480).k == pytest.approx(camera().k)


def test_binning_and_a_region_of_interest_give_the_camera_of_the_images_delivered() -> None:
    whole = camera()
    cut = Camera.of(width=640, height=480, k=whole.k, p=whole.p, binning=(2, 2), roi=(100, 40, 400, 300))
    assert (cut.width, cut.height) == (200, 150)
    assert cut.intrinsics() == Intrinsics(250, 255, 110, 100)
    assert cut.intrinsics(rectified=True) == Intrinsics(240, 245, 105, 95)
    assert Camera.of(width=640, height=480, k=whole.k, binning=(0, 0)).k == whole.k


def test_an_uncalibrated_camera_has_no_intrinsics_and_nonsense_is_refused() -> None:
    assert Camera.of(width=640, height=480, k=[0] * 9).intrinsics() is None
    for k in ([-1, 0, 0, 0, 1, 0, 0, 0, 1], [float("nan"), 0, 0, 0, 1, 0, 0, 0, 1], [500, 0, 0, 0, 0, 0, 0, 0, 1]):
        with pytest.raises(FrameError, match="Calibrate"):
            Camera.of(width=640, height=480, k=k).intrinsics()


def test_images_of_another_shape_do_not_fit() -> None:
    assert camera().fits(320, 240)
    assert camera().fits(321, 240)
    assert not camera().fits(640, 360)
    assert not Camera.of(width=0, height=0, k=[0] * 9).fits(640, 480)
