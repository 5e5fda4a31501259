"""What counts as a whole image, whatever OpenCV is here: files of every encoder, cut, padded, and with others inside."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from edge_mtl import control_groups
from edge_mtl.errors import BundleError, FrameError
from edge_mtl.image import memory
from edge_mtl.image.containers import inspect_image, png_chunks
from edge_mtl.image.decoding import decode
from edge_mtl.metric_scale.depth_files import read_depth_file
from edge_mtl.ros import image_of
from edge_mtl.sources.images import decode_image, read_image
from edge_mtl.sources.open_source import open_source
from edge_mtl.tasks.truth import read_map
from tests.bundles import make_image

ROOT = Path(__file__).parents[4]
JPEG, PNG = [cv2.IMWRITE_JPEG_QUALITY, 90], [cv2.IMWRITE_PNG_COMPRESSION, 3]
ENCODERS: dict[str, tuple[str, list[int]]] = {
    "JPEG": (".jpg", JPEG),
    "JPEG, progressive": (".jpg", [*JPEG, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
    "JPEG, restarts": (".jpg", [*JPEG, cv2.IMWRITE_JPEG_RST_INTERVAL, 2]),
    "JPEG, optimized": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
    "PNG": (".png", PNG),
    "WebP": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
    "WebP, lossless": (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    "BMP": (".bmp", []),
    "TIFF": (".tif", []),
    "TIFF, not compressed": (".tif", [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
    "TIFF, deflate": (".tif", [cv2.IMWRITE_TIFF_COMPRESSION, 8]),
    "PPM": (".ppm", []),
}
HEIGHT, WIDTH = 61, 83
"""Odd, so that rows are padded where a format does that."""


def encoded(name: str, pixels: np.ndarray | None = None) -> bytes:
    suffix, options = ENCODERS[name]
    image = make_image(1, height=HEIGHT, width=WIDTH) if pixels is None else pixels
    done, payload = cv2.imencode(suffix, image, options)
    assert done
    return payload.tobytes()


def with_thumbnail(photo: bytes) -> bytes:
    """A JPEG that holds another, whole one in its EXIF segment, before its own image data."""
    small = encoded("JPEG", make_image(2, height=16, width=16))
    segment = b"Exif\0\0" + small
    return photo[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + photo[2:]


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_header_has_the_size_and_a_whole_file_is_whole(name: str, dtype: type) -> None:
    image = make_image(1, height=HEIGHT, width=WIDTH)
    wide = dtype is np.uint16 and name.split(",")[0] in ("PNG", "TIFF", "PPM")
    payload = encoded(name, image.astype(np.uint16) * 257 if wide else image)
    found = inspect_image(payload)
    assert found is not None
    assert (found.format, found.height, found.width, found.whole) == (name.split(",")[0], HEIGHT, WIDTH, True)
    assert found.sample_bytes == (2 if wide else 1)
    assert decode(payload, cv2.IMREAD_UNCHANGED, name="it").shape == image.shape


@pytest.mark.parametrize("name", ENCODERS)
def test_a_file_that_was_cut_is_not_whole_wherever_it_was_cut(name: str) -> None:
    payload = encoded(name)
    lengths = [12, 30, *(round(len(payload) * share) for share in (0.2, 0.4, 0.7, 0.9, 0.99)), len(payload) - 4]
    for length in lengths[: 7 if name.startswith("TIFF") else None]:  # the last bytes of a TIFF hold its resolution
        found = inspect_image(np.frombuffer(payload[:length], np.uint8))
        assert found is not None
        assert not found.whole, length
        with pytest.raises(FrameError, match="it is cut short or damaged"):
            decode(payload[:length], cv2.IMREAD_COLOR, name="it")


@pytest.mark.parametrize("name", [name for name in ENCODERS if name[:4] in ("JPEG", "PNG", "WebP")])
@pytest.mark.parametrize("after", [b"\0" * 100, b"\xff" * 3, b"garbage \xff\xd8\xff\xda\x00\x08", b"\r\n"])
def test_what_follows_the_end_of_an_image_is_left_alone(name: str, after: bytes) -> None:
    payload = encoded(name)
    found = inspect_image(payload + after)
    assert found is not None
    assert found.whole
    assert np.array_equal(decode(payload + after, cv2.IMREAD_COLOR, name="it"), decode(payload, cv2.IMREAD_COLOR, name="it"))


def test_a_jpeg_is_read_by_its_markers_and_not_by_looking_for_an_end() -> None:
    photo = encoded("JPEG")
    inside = with_thumbnail(photo)
    whole = [inside, photo + with_thumbnail(photo), photo[:-2] + b"\xff\xff\xff\xd9"]  # MPO has two; fill bytes before a marker
    cut = [inside[: len(inside) - len(photo) + length] for length in (2, 200, len(photo) // 2, len(photo) - 2)]
    assert all(b"\xff\xd9" in payload for payload in cut), "the thumbnail's end"
    assert [found.whole for payload in whole + cut if (found := inspect_image(payload))] == [True] * 3 + [False] * 4
    assert [(found.height, found.width) for payload in whole if (found := inspect_image(payload))] == [(HEIGHT, WIDTH)] * 3
    assert decode(inside, cv2.IMREAD_COLOR, name="it").shape == (HEIGHT, WIDTH, 3)


def test_formats_that_are_not_known_are_left_to_the_decoder() -> None:
    assert inspect_image(b"#?RADIANCE\n") is None
    assert inspect_image(b"") is None
    assert inspect_image(b"BM") == inspect_image(b"BM\0\0")
    for start in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"MM\0+", b"P6 "):
        found = inspect_image(start)
        assert found is not None, start
        assert not found.whole, start
    assert list(png_chunks(b"no PNG")) == []


def test_variants_of_bmp_tiff_and_ppm_that_viewers_open_are_whole() -> None:
    bottom_up = bytearray(encoded("BMP"))
    struct.pack_into("<I", bottom_up, 2, 0)  # some writers leave the file's length out
    top_down = bytearray(encoded("BMP"))
    struct.pack_into("<i", top_down, 22, -HEIGHT)
    comment = encoded("PPM").replace(b"P6\n", b"P6\n# of a scanner\n", 1)
    grey = cv2.imencode(".pgm", make_image(1, height=HEIGHT, width=WIDTH)[..., 0])[1].tobytes()
    many = cv2.imencode(".tif", make_image(1, height=400, width=300))[1].tobytes()  # several strips
    for payload in (bytes(bottom_up), bytes(top_down), comment, grey, many, encoded("BMP")[:-1]):
        found = inspect_image(payload)
        assert found is not None
        assert found.whole
        assert found.width in (WIDTH, 300)


@pytest.mark.parametrize("name", [*ENCODERS, "BigTIFF"])
def test_damage_never_ends_in_an_error_of_another_kind(name: str) -> None:
    random = np.random.default_rng(0)
    whole = b"II+\0\x08\0\0\0" + b"\x10" + bytes(7) + b"\x02" + bytes(200) if name == "BigTIFF" else encoded(name)
    for _ in range(60):
        damaged = np.frombuffer(whole, np.uint8).copy()
        places = random.integers(4, min(len(whole), 400), 12)
        damaged[places] = random.choice([0, 1, 255, 127, *range(40, 50)], 12)
        assert inspect_image(damaged) is None or inspect_image(damaged) == inspect_image(damaged.tobytes())


def _file(folder: Path, payload: bytes, suffix: str) -> Path:
    path = folder / f"a{suffix}"
    path.write_bytes(payload)
    return path


def _truth(payload: bytes, folder: Path) -> None:
    files = SimpleNamespace(names={"a.png"}, read=lambda name: payload, where=lambda name: folder / name)
    read_map("a.png", (HEIGHT, WIDTH, 3), files)


def _message(payload: bytes, described: str) -> None:
    image_of(SimpleNamespace(format=described, data=payload))


READERS: dict[str, tuple[str, Callable[[bytes, Path], object]]] = {
    "an image file": ("JPEG", lambda payload, folder: read_image(_file(folder, payload, ".jpg"))),
    "a source": ("JPEG", lambda payload, folder: open_source(_file(folder, payload, ".jpg"))),
    "a folder": ("JPEG", lambda payload, folder: list(open_source(_file(folder, payload, ".jpg").parent).frames())),
    "a compressed topic": ("JPEG", lambda payload, folder: _message(payload, "rgb8; jpeg compressed bgr8")),
    "a compressed mosaic": ("PNG", lambda payload, folder: _message(payload, "bayer_rggb8; png compressed ")),
    "a depth map": ("PNG", lambda payload, folder: read_depth_file(_file(folder, payload, ".png").parent, "a")),
    "a truth map": ("PNG", lambda payload, folder: _truth(payload, folder)),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_gives_what_memory_held_before_where_an_old_opencv_would(
    reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV 4.9 and 4.10 decode a cut JPEG into memory that still has the frame before."""
    before = make_image(3, height=HEIGHT, width=WIDTH)
    monkeypatch.setattr(cv2, "imdecode", lambda encoded, flags: before.copy())
    name, read = READERS[reader]
    payload = encoded(name)
    with pytest.raises((FrameError, BundleError), match="cut short"):
        read(payload[: len(payload) * 2 // 5], tmp_path)


def test_an_image_of_a_bundle_that_was_cut_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda encoded, flags: make_image(3))
    payload = encoded("JPEG")
    assert decode_image(payload) is not None
    assert decode_image(payload[: len(payload) * 2 // 5]) is None


def test_images_are_decoded_in_one_place() -> None:
    own = {"train/mtl/datasets/camera_effects.py", "train/mtl/datasets/corruptions.py"}  # what they encoded themselves
    home = {"edge_mtl/image/decoding.py", *own}
    found = set()
    for folder in ("edge_mtl", "train", "ros2_ws", "calibration", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            if re.search(r"cv2\.(imdecode|imread\w*)\(|\bImage\.open\(", path.read_text()):
                found.add(path.relative_to(ROOT).as_posix())
    assert found == home


def _claims(payload: bytes, side: int) -> bytes:
    """A JPEG whose header claims to be `side` x `side` pixels."""
    place = payload.index(b"\xff\xc0") + 5
    return payload[:place] + struct.pack(">HH", side, side) + payload[place + 4 :]


def test_an_image_too_large_for_the_memory_is_refused_by_its_header_and_the_rest_of_a_folder_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(encoded("JPEG"))
    (tmp_path / "b.jpg").write_bytes(_claims(encoded("JPEG"), 10_400))
    monkeypatch.setattr(memory, "memory_left", lambda: 400 << 20)
    told: list[str] = []
    assert [frame.name for frame in open_source(tmp_path).frames(on_skip=told.append)] == ["a", "c"]
    assert len(told) == 1
    assert re.search(r"b\.jpg is too large for the memory: about 0\.6 GiB expected, 0\.4 GiB left\. Reduce", told[0]), told


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), pytest.param("opencv", id="OpenCV")],
)
def test_memory_that_runs_out_while_decoding_is_an_error_of_that_frame(
    failure: BaseException | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / name).write_bytes(encoded("JPEG"))
    real, calls = cv2.imdecode, []

    def decoder(payload: np.ndarray, flags: int) -> np.ndarray:
        calls.append(flags)
        if len(calls) == 2 and isinstance(failure, BaseException):
            raise failure
        if len(calls) == 2:
            error = cv2.error("OpenCV(4.9.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 324000000 bytes")
            error.code = cv2.Error.StsNoMem
            raise error
        return real(payload, flags)

    monkeypatch.setattr(cv2, "imdecode", decoder)
    told: list[str] = []
    assert [frame.name for frame in open_source(tmp_path).frames(on_skip=told.append)] == ["a", "c"]
    assert "b.jpg is too large for the memory" in told[0]


def test_small_needs_are_not_held_against_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> int:
        raise AssertionError

    monkeypatch.setattr(memory, "memory_left", asked)
    memory.require_memory(1 << 20, "it", "")
    monkeypatch.setattr(memory, "memory_left", lambda: None)
    memory.require_memory(1 << 50, "it", "")
    assert control_groups.memory_left() is None or control_groups.memory_left() > 0


def test_a_jpeg_of_more_scans_than_any_image_has_is_refused_before_it_is_decoded() -> None:
    photo = encoded("JPEG, progressive")
    assert 2 < inspect_image(photo).scans < 20  # type: ignore[union-attr]
    at = photo.rindex(b"\xff\xda")
    hostile = photo[:at] + photo[at:-2] * 20_000 + photo[-2:]
    with pytest.raises(FrameError, match=r"a\.jpg has 200\d\d scans, up to 100 expected: decoding it could take hours"):
        decode(hostile, cv2.IMREAD_COLOR, name="a.jpg")
    decode(photo[:at] + photo[at:-2] * 50 + photo[-2:], cv2.IMREAD_COLOR, name="a.jpg")
