"""Frames from images, folders, videos and cameras."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_mtl.errors import FrameError
from edge_mtl.sources.folders import list_images
from edge_mtl.sources.images import read_image
from edge_mtl.sources.open_source import open_source
from tests.bundles import make_image, write_image


def write_video(path: Path, frames: int, *, height: int = 48, width: int = 64) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (width, height))
    for index in range(frames):
        writer.write(make_image(index, height=height, width=width))
    writer.release()


def test_a_image_is_read_as_rgb(tmp_path: Path) -> None:
    pixels = make_image(1)
    write_image(tmp_path / "a.png", pixels)
    read = read_image(tmp_path / "a.png")
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, pixels)


def test_grey_is_repeated_and_transparency_dropped(tmp_path: Path) -> None:
    pixels = make_image(1)
    cv2.imwrite(str(tmp_path / "grey.png"), pixels[:, :, 0])
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.repeat(pixels[:, :, :1], 3, axis=2))
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([pixels[:, :, ::-1], np.full(pixels.shape[:2], 9, np.uint8)]))
    np.testing.assert_array_equal(read_image(tmp_path / "alpha.png"), pixels)


def test_a_image_is_turned_upright(tmp_path: Path) -> None:
    pixels = make_image(1)
    plain = cv2.imencode(".jpg", pixels)[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    (tmp_path / "turned.jpg").write_bytes(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:])
    assert read_image(tmp_path / "turned.jpg").shape == (pixels.shape[1], pixels.shape[0], 3)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    pixels = make_image(1)
    wide = (pixels * 257.0 - (pixels > 0) * 100).astype(np.uint16)
    cv2.imwrite(str(tmp_path / f"wide{suffix}"), wide[..., ::-1])
    np.testing.assert_array_equal(read_image(tmp_path / f"wide{suffix}"), pixels)
    cv2.imwrite(str(tmp_path / f"grey{suffix}"), wide[..., 0])
    np.testing.assert_array_equal(read_image(tmp_path / f"grey{suffix}"), np.dstack([pixels[..., 0]] * 3))


def test_a_source_of_12_bits_is_as_bright_as_one_of_8_and_says_so_where_it_was_not_told(tmp_path: Path) -> None:
    pixels = make_image(1)
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.rint(pixels[..., ::-1] * (4095 / 255)).astype(np.uint16))
    told: list[str] = []
    for place in (tmp_path, tmp_path / "a.png"):
        source = open_source(place, bits=12)
        for frame in source.frames(on_oddity=told.append):
            np.testing.assert_array_equal(frame.pixels, pixels)
        assert told == []
        assert source.identity != open_source(place).identity, "looks that were kept are of other pixels"
    assert max(frame.pixels.max() for frame in open_source(tmp_path).frames(on_oddity=told.append)) == 16
    assert len(told) == 1, "once for all of them"
    assert told[0].startswith("a: ")
    assert "--bits 12" in told[0]


def test_pixels_that_are_no_integers_are_refused_with_a_hint(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "depth.tif"), np.zeros((8, 8, 3), np.float32))
    with pytest.raises(FrameError, match="float32 pixels: expected 8 or 16 bits"):
        read_image(tmp_path / "depth.tif")


def _bomb() -> bytes:
    """A PNG of some 60 bytes that claims 60000 x 60000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("content", [b"", b"no image", cv2.imencode(".png", make_image(0))[1].tobytes()[:200], _bomb()])
def test_what_is_no_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(FrameError, match=r"bad\.png"):
        read_image(tmp_path / "bad.png")


def test_a_folder_gives_its_images_sorted_and_names_what_it_skips(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "c.PNG"):
        write_image(tmp_path / name, make_image(1))
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("not an image")
    told: list[str] = []
    source = open_source(str(tmp_path))
    assert source.count == 4
    for _ in range(2):  # it can be walked again
        told.clear()
        assert [frame.name for frame in source.frames(on_skip=told.append)] == ["a", "b", "c"]
        assert len(told) == 1
        assert "bad.jpg" in told[0]


def test_names_stay_unique_when_stems_repeat(tmp_path: Path) -> None:
    for name in ("a.png", "a.bmp"):
        write_image(tmp_path / name, make_image(1))
    assert [frame.name for frame in open_source(str(tmp_path)).frames()] == ["a-bmp", "a-png"]


def test_a_folder_whose_images_all_fail_raises(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    with pytest.raises(FrameError, match="None of the 1 images"):
        list(open_source(str(tmp_path)).frames())


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="has no images"):
        list_images(tmp_path)


def test_a_video_gives_its_frames_and_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "tour.mp4", 5)
    source = open_source(str(tmp_path / "tour.mp4"))
    assert (source.kind, source.name, source.stem, source.count, source.frame_rate) == ("video", "tour.mp4", "tour", 5, 10.0)
    frames = list(source.frames())
    assert [frame.name for frame in frames] == [f"tour-{index:06d}" for index in range(5)]
    assert frames[0].pixels.shape == (48, 64, 3)


def test_a_limit_ends_a_source_early(tmp_path: Path) -> None:
    write_video(tmp_path / "tour.mp4", 5)
    assert len(list(open_source(str(tmp_path / "tour.mp4")).frames(limit=2))) == 2


@pytest.mark.parametrize("name", ["missing.png", "missing.mp4", "camera:x", "camera:987", "987"])
def test_what_is_not_there_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrameError):
        open_source(name)


@pytest.mark.parametrize("name", ["broken.mp4", "table.csv"])
def test_what_has_no_frames_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"1,2,3\n" * 100)
    with pytest.raises(FrameError, match=name):
        open_source(str(tmp_path / name))


@pytest.mark.parametrize("name", ["9" * 20, "9" * 5000, f"camera:{9 * 10**11}"])
def test_a_number_that_no_camera_has_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FrameError, match=r"names no camera|does not exist"):
        open_source(name)


def test_a_camera_gives_its_frames_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Device:
        def __init__(self, index: int) -> None:
            self.left = 3

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, name: int) -> float:
            return 30.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return self.left >= 0, make_image(1, height=48, width=64) if self.left >= 0 else None

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", Device)
    source = open_source("camera:0")
    frames = list(source.frames())
    assert [frame.name for frame in frames] == ["camera-0-000000", "camera-0-000001", "camera-0-000002"]
    assert frames[0].time_s is not None
    with pytest.raises(FrameError, match="read already"):
        list(source.frames())


def test_a_bag_gives_times_cameras_and_stamps_and_can_be_walked_again(tmp_path: Path) -> None:
    bag_files = pytest.importorskip("tests.bag_files", reason="needs rosbags")
    bag = bag_files.write_bag(tmp_path / "tour", [make_image(index) for index in range(3)], focal=120.0, broken=1)
    source = open_source(str(bag))
    assert (source.kind, source.count, source.topic, source.camera_topic) == (
        "bag",
        3,
        bag_files.IMAGE_TOPIC,
        bag_files.CAMERA_TOPIC,
    )
    for _ in range(2):
        told: list[str] = []
        first, last = source.frames(on_skip=told.append)
        np.testing.assert_array_equal(first.pixels, make_image(0))
        assert (first.time_s, last.time_s) == (0.0, pytest.approx(0.2))
        assert last.intrinsics is not None
        assert last.intrinsics.fx == 120.0
        assert last.stamp is not None
        recorded = bag_files.read_bag(bag)[bag_files.IMAGE_TOPIC][2]
        assert (last.stamp.frame_id, last.stamp.time_ns) == ("camera", recorded.time_ns)
        assert last.stamp.sec * 10**9 + last.stamp.nanosec == recorded.stamp_ns
        assert [line.startswith("000001-") for line in told] == [True]


def test_a_dataset_is_read_below_its_folder_and_a_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "train" / "deep").mkdir(parents=True)
    for name in ("a.png", "train/b.png", "train/deep/c.png"):
        write_image(tmp_path / name, make_image(1))
    assert [frame.name for frame in open_source(tmp_path).frames()] == ["a"]
    assert [frame.name for frame in open_source(tmp_path, dataset=True).frames()] == ["b.png", "deep/c.png"]


def test_every_nth_frame_of_a_video_keeps_its_time(tmp_path: Path) -> None:
    write_video(tmp_path / "tour.mp4", 5)
    source = open_source(tmp_path / "tour.mp4", every=2)
    assert source.count == 3
    assert [frame.time_s for frame in source.frames()] == pytest.approx([0.0, 0.2, 0.4])


def test_an_unreadable_image_does_not_count_towards_a_limit(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    for name in ("b.png", "c.png"):
        write_image(tmp_path / name, make_image(1))
    assert [frame.name for frame in open_source(tmp_path).frames(limit=1)] == ["b"]
