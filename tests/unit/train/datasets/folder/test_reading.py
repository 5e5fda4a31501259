"""Every type of file that a folder may hold, and every refusal, with the file's name and what was expected and found."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from mtl.datasets.folder.index_png import IndexPngError, read_indices
from mtl.datasets.folder.reading import read_photo, stored_depth, stored_mask, stored_normals
from mtl.datasets.folder.truth_files import UNDECLARED, DepthFiles, MaskFiles, NormalFiles
from mtl.datasets.normal_axes import NormalAxes

from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.image.encoding import encode_depth, encode_labels

SIZE = (10, 14)
DRAWS = np.random.default_rng(5)
LABELS = DRAWS.integers(0, 200, SIZE).astype(np.uint8)
DEPTH = DRAWS.uniform(0.5, 9, SIZE).astype(np.float32)
PHOTO = DRAWS.integers(0, 255, (*SIZE, 3)).astype(np.uint8)


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def packed_png(indices: np.ndarray, bits: int, *, colour: int) -> bytes:
    """A PNG of fewer than 8 bits a pixel, which OpenCV does not write: samples packed from the left (W3C PNG, section 7.2)."""
    height, width = indices.shape
    lines = []
    for line in indices:
        planes = np.unpackbits(line[:, None], axis=1)[:, 8 - bits :]
        lines.append(b"\0" + np.packbits(planes.ravel()).tobytes())
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(range(3 * 2**bits)))] if colour == 3 else []
    chunks += [(b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    body = (struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def written(folder: Path, name: str, payload: bytes) -> Path:
    (folder / name).write_bytes(payload)
    return folder / name


# ---- masks


def test_the_index_of_a_mask_is_read_whatever_its_palette() -> None:
    same_colours = np.zeros((200, 3), np.uint8)
    np.testing.assert_array_equal(read_indices(encode_labels(LABELS, palette=same_colours)), LABELS)
    np.testing.assert_array_equal(read_indices(png(LABELS)), LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("colour", [0, 3])
def test_masks_of_fewer_bits_hold_the_same_indices(bits: int, colour: int) -> None:
    indices = LABELS % 2**bits
    np.testing.assert_array_equal(read_indices(packed_png(indices, bits, colour=colour)), indices)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (png(PHOTO), "holds RGB colours: expected an index in each pixel.*Colours are not read"),
        (png(np.dstack([PHOTO, LABELS])), "holds RGB with transparency colours"),
        (png(LABELS.astype(np.uint16)), "has 16 bits a pixel: expected indices of 8 bits"),
        (png(LABELS)[:-30], "is cut short or damaged"),
        (png(LABELS)[:-12], "is cut short or damaged"),
        (b"", "is cut short or damaged"),
        (b"GIF89a", "is cut short or damaged"),
        (png(LABELS)[:45] + b"\x00\x01" + png(LABELS)[47:], "cannot be decoded: it is damaged"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused_with_its_name(tmp_path: Path, payload: bytes, message: str) -> None:
    with pytest.raises(IndexPngError, match=message):
        read_indices(payload)
    path = written(tmp_path, "one.png", payload)
    with pytest.raises(BuildError, match=rf"one\.png {message}"):
        stored_mask(path)


def test_indices_become_classes_and_what_is_not_declared_is_refused_with_its_counts(tmp_path: Path) -> None:
    table = np.full(256, UNDECLARED, np.int16)
    table[[3, 4, 9, 255]] = (0, 1, 255, 255)
    files = MaskFiles("masks", table)
    stored = np.array([[3, 4], [9, 255]], np.uint8)
    assert files.truth(stored, tmp_path).tolist() == [[0, 1], [255, 255]]
    strange = np.array([[3, 17, 17], [17, 18, 255]], np.uint8)
    with pytest.raises(BuildError, match=r"one\.png has indices .* not declare: 17 \(3 pixels\), 18 \(1 pixels\)\. Add them"):
        files.truth(strange, tmp_path / "one.png")


# ---- depth


def test_depth_of_a_png_is_scaled_and_0_is_unknown(tmp_path: Path) -> None:
    units = np.array([[0, 1000], [2500, 65535]], np.uint16)
    found = stored_depth(written(tmp_path, "one.png", png(units)), scale_m=0.001)
    np.testing.assert_allclose(found, [[0, 1], [2.5, 65.535]], rtol=1e-6)
    assert found.dtype == np.float32


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
@pytest.mark.parametrize("shape", [SIZE, (*SIZE, 1)])
def test_depth_of_an_array_is_in_metres_and_what_is_no_distance_is_unknown(tmp_path: Path, kind: str, shape: tuple) -> None:
    depth = DEPTH.astype(kind)
    depth[0, :4] = (np.nan, np.inf, -1, 0)
    found = stored_depth(written(tmp_path, "one.npy", npy(depth.reshape(shape))), scale_m=None)
    assert found[0, :4].tolist() == [0, 0, 0, 0]
    np.testing.assert_allclose(found[1:], DEPTH[1:], rtol=1e-3)
    assert (found.shape, found.dtype) == (SIZE, np.float32)


def test_a_depth_png_that_states_its_unit_is_refused_in_another(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encode_depth(np.full((4, 6), 1.5, np.float32)))
    np.testing.assert_allclose(stored_depth(path, scale_m=0.001), 1.5, rtol=1e-6)
    with pytest.raises(BuildError, match=r"a.png states that its unit is 0.001 m: expected scale_m = 0.001, found 0.0002"):
        stored_depth(path, scale_m=0.0002)


def test_depth_beyond_the_range_is_unknown(tmp_path: Path) -> None:
    files = DepthFiles("depth", 0.001, (0.5, 4.0))
    assert files.truth(np.float32([[0.4, 0.5, 4.0, 4.1, 0.0]]), tmp_path).tolist() == [[0.0, 0.5, 4.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "payload", "scale_m", "message"),
    [
        ("one.png", png(np.ones(SIZE, np.uint16)), None, "expected scale_m, metres a unit, in the task's table"),
        ("one.png", png(LABELS), 0.001, "expected depth as a 16-bit grey PNG, found 10 x 14 of uint8"),
        ("one.png", png(PHOTO), 0.001, "expected depth as a 16-bit grey PNG, found 10 x 14 x 3 of uint8"),
        ("one.png", png(np.ones(SIZE, np.uint16))[:30], 0.001, "is cut short or damaged.* Expected a whole PNG"),
        ("one.png", b"", 0.001, "is empty.* Expected a whole PNG"),
        ("one.npy", npy(np.ones(SIZE, np.uint16)), None, r"expected depth as \(H, W\) of floats in metres, found .* uint16"),
        ("one.npy", npy(np.ones((*SIZE, 3))), None, r"expected depth as \(H, W\) of floats in metres, found 10 x 14 x 3"),
        ("one.npy", npy(DEPTH)[:-8], None, r"cannot be read \(.*\): expected a NumPy array"),
        ("one.npy", npy(np.float32(3)), None, "expected an array of rows and columns, found one value of float32"),
        ("one.npy", b"", None, "cannot be read"),
    ],
)
def test_depth_that_cannot_be_used_is_refused(
    tmp_path: Path, name: str, payload: bytes, scale_m: float | None, message: str
) -> None:
    path = written(tmp_path, name, payload)
    with pytest.raises(BuildError, match=message) as caught:
        stored_depth(path, scale_m=scale_m)
    assert str(caught.value).startswith(str(path))


# ---- EXR


def test_exr_is_read_by_its_depth_channel(tmp_path: Path) -> None:
    exr = pytest.importorskip("OpenEXR")
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    depth = DEPTH.copy()
    depth[0, 0] = np.inf
    for channels, number in (({"Z": depth}, 0), ({"depth.V": depth}, 1), ({"Z": depth, "A": np.zeros_like(depth)}, 2)):
        path = tmp_path / f"{number}.exr"
        exr.File(header, channels).write(str(path))
        found = stored_depth(path, scale_m=None)
        np.testing.assert_array_equal(found[1:], DEPTH[1:])
        assert found[0, 0] == 0
    exr.File(header, {"U": depth, "V": depth}).write(str(tmp_path / "two.exr"))
    with pytest.raises(BuildError, match=r"two\.exr: expected one channel, or one named Z, found U, V"):
        stored_depth(tmp_path / "two.exr", scale_m=None)
    cut = written(tmp_path, "cut.exr", (tmp_path / "0.exr").read_bytes()[:-60])
    with pytest.raises(BuildError, match=r"cut\.exr cannot be read .*: expected a whole EXR file"):
        stored_depth(cut, scale_m=None)


def test_without_its_package_an_exr_file_is_refused_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    path = written(tmp_path, "one.exr", b"v/1\x01")
    with pytest.raises(BackendUnavailable, match=r"one\.exr: .*store depth as 16-bit PNG.*pip install .*OpenEXR"):
        stored_depth(path, scale_m=None)


# ---- normals


def test_normals_of_an_array_and_of_a_png_are_unit_vectors(tmp_path: Path) -> None:
    normals = DRAWS.normal(size=(*SIZE, 3))
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    normals[0, 0] = 0
    coded = np.rint((normals + 1) / 2 * 255).astype(np.uint8)
    coded[0, 0] = 0
    by_array = stored_normals(written(tmp_path, "one.npy", npy(normals.astype(np.float16))))
    by_image = stored_normals(written(tmp_path, "one.png", png(coded[..., ::-1])))
    files = NormalFiles("normals")
    for stored, tolerance in ((by_array, 1e-3), (by_image, 1e-2)):
        found = files.truth(stored, tmp_path)
        np.testing.assert_allclose(found, normals, atol=tolerance)
        assert (found.dtype, found[0, 0].tolist()) == (np.float32, [0, 0, 0])
    turned = NormalFiles("normals", NormalAxes.parse("+x-y-z")).truth(by_array, tmp_path)
    np.testing.assert_allclose(turned, normals * [1, -1, -1], atol=1e-3)


def test_normals_that_are_not_finite_or_grey_are_unknown(tmp_path: Path) -> None:
    stored = stored_normals(written(tmp_path, "one.npy", npy(np.float32([[[0, np.nan, 1], [0, 0, -1]]]))))
    assert stored.tolist() == [[[0, 0, 0], [0, 0, -1]]]
    grey = stored_normals(written(tmp_path, "one.png", png(np.full((1, 1, 3), 128, np.uint8))))
    assert NormalFiles("normals").truth(grey, tmp_path).tolist() == [[[0, 0, 0]]]


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("one.png", png(LABELS), "expected normals as an 8-bit RGB PNG, found 10 x 14 of uint8"),
        ("one.png", png(PHOTO.astype(np.uint16)), "expected normals as an 8-bit RGB PNG, found 10 x 14 x 3 of uint16"),
        ("one.npy", npy(DEPTH), r"expected normals as \(H, W, 3\) of floats, found 10 x 14 of float32"),
        ("one.npy", npy(PHOTO), r"expected normals as \(H, W, 3\) of floats, found 10 x 14 x 3 of uint8"),
    ],
)
def test_normals_that_cannot_be_used_are_refused(tmp_path: Path, name: str, payload: bytes, message: str) -> None:
    with pytest.raises(BuildError, match=message):
        stored_normals(written(tmp_path, name, payload))


# ---- images


def test_images_are_rgb(tmp_path: Path) -> None:
    np.testing.assert_array_equal(read_photo(written(tmp_path, "one.png", png(PHOTO[..., ::-1]))), PHOTO)
    wide = png(PHOTO[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_photo(written(tmp_path, "wide.png", wide)), PHOTO)
    smooth = np.full((*SIZE, 3), (200, 100, 30), np.uint8)
    jpeg = cv2.imencode(".jpg", smooth[..., ::-1])[1].tobytes()
    assert np.abs(read_photo(written(tmp_path, "one.jpg", jpeg)).astype(int) - smooth).max() < 6


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("one.png", png(PHOTO.astype(np.uint16))),
        ("one.png", b""),
        ("one.png", png(PHOTO)[:60]),
        ("one.jpg", cv2.imencode(".jpg", PHOTO)[1].tobytes()[:-40]),
        ("one.jpg", b"no image"),
    ],
)
def test_images_that_cannot_be_used_are_refused(tmp_path: Path, name: str, payload: bytes) -> None:
    path = written(tmp_path, name, payload)
    with pytest.raises(BuildError, match="Expected an 8-bit PNG or JPEG") as caught:
        read_photo(path)
    assert str(path) in str(caught.value)
