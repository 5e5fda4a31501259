"""Images out of ROS bags, without ROS: real bags, written and read by rosbags."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge_mtl.bundle import Bundle
from edge_mtl.calibration.sampling import choose_frames
from edge_mtl.calibration.source import open_calibration_source
from edge_mtl.errors import BackendUnavailable, CalibrationError, FrameError
from edge_mtl.sources.bags import bag_source, colour_topic, message_pixels
from tests.unit.edge_mtl.calibration.test_sampling import HIGH, WIDE, scene

rosbag1 = pytest.importorskip("rosbags.rosbag1")
rosbag2 = pytest.importorskip("rosbags.rosbag2")
typesys = pytest.importorskip("rosbags.typesys")

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def header(store: Any, number: int) -> Any:
    stamp = store.types["builtin_interfaces/msg/Time"](sec=number, nanosec=0)
    fields = {"stamp": stamp, "frame_id": "camera"}
    if "seq" in store.types["std_msgs/msg/Header"].__dataclass_fields__:
        fields["seq"] = number
    return store.types["std_msgs/msg/Header"](**fields)


def image(store: Any, number: int, rgb: np.ndarray, *, encoding: str = "bgr8") -> Any:
    """A message with rows padded by five bytes, as some drivers send them."""
    pixels = rgb[:, :, ::-1] if encoding == "bgr8" else rgb
    rows = np.pad(pixels.reshape(HIGH, WIDE * 3), ((0, 0), (0, 5))).ravel()
    return store.types[IMAGE](
        header=header(store, number), height=HIGH, width=WIDE, encoding=encoding, is_bigendian=0, step=WIDE * 3 + 5, data=rows
    )


def compressed(store: Any, number: int, rgb: np.ndarray) -> Any:
    data = cv2.imencode(".png", rgb[:, :, ::-1])[1].ravel()
    return store.types[COMPRESSED](header=header(store, number), format="png", data=data)


def ros2_bag(path: Path, topics: dict[str, str], count: int = 6, *, plugin: str = "SQLITE3") -> Path:
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    storage = getattr(rosbag2.StoragePlugin, plugin)
    with rosbag2.Writer(path, version=8, storage_plugin=storage) as writer:
        for topic, kind in topics.items():
            connection = writer.add_connection(topic, kind, typestore=store)
            for number in range(count):
                make = image if kind == IMAGE else compressed
                message = make(store, number, scene(number))
                writer.write(connection, number * 10**9, store.serialize_cdr(message, kind))
    return path


def ros1_bag(path: Path, count: int = 6) -> Path:
    store = typesys.get_typestore(typesys.Stores.ROS1_NOETIC)
    with rosbag1.Writer(path) as writer:
        connection = writer.add_connection("/camera/image_raw", IMAGE, typestore=store)
        for number in range(count):
            message = image(store, number, scene(number), encoding="rgb8")
            writer.write(connection, number * 10**9, store.serialize_ros1(message, IMAGE))
    return path


def assert_scenes(path: Path, **options: Any) -> None:
    found = open_calibration_source(path, **options)
    assert found.kind == "bag"
    assert found.count == 6
    for number, still in enumerate(found.stills()):
        assert np.array_equal(still.load().pixels, scene(number))


@pytest.mark.parametrize("plugin", ["SQLITE3", "MCAP"])
@pytest.mark.parametrize("kind", [IMAGE, COMPRESSED])
def test_a_ros_2_bag_gives_its_images(tmp_path: Path, kind: str, plugin: str) -> None:
    bag = ros2_bag(tmp_path / "bag", {"/camera/image": kind}, plugin=plugin)
    assert_scenes(bag)
    assert_scenes(next(path for path in bag.iterdir() if path.suffix in (".db3", ".mcap")))


@pytest.mark.parametrize("kind", [IMAGE, COMPRESSED])
def test_a_bag_of_12_bits_in_16_gives_what_one_of_8_bits_does_and_says_so_where_it_was_not_told(
    tmp_path: Path, kind: str
) -> None:
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    words = np.rint(scene(0) * (4095 / 255)).astype(np.uint16)
    if kind == IMAGE:
        size = {"height": HIGH, "width": WIDE, "step": WIDE * 6, "is_bigendian": 1}
        data = words.astype(">u2").reshape(-1).view(np.uint8)
        message = store.types[IMAGE](header=header(store, 0), encoding="rgb16", data=data, **size)
    else:
        data = cv2.imencode(".png", words[..., ::-1])[1].ravel()
        message = store.types[COMPRESSED](header=header(store, 0), format="rgb16; png compressed bgr16", data=data)
    with rosbag2.Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/camera/image", kind, typestore=store)
        for number in range(2):
            writer.write(connection, number, store.serialize_cdr(message, kind))
    told: list[str] = []
    for frame in bag_source(tmp_path / "bag", bits=12).frames(on_oddity=told.append):
        assert np.array_equal(frame.pixels, scene(0))
    assert told == []
    dark = list(bag_source(tmp_path / "bag").frames(on_oddity=told.append))
    assert [frame.pixels.max() <= 16 for frame in dark] == [True, True]
    assert len(told) == 1
    assert "--bits 12" in told[0]
    assert bag_source(tmp_path / "bag").identity != bag_source(tmp_path / "bag", bits=12).identity


def test_a_ros_1_bag_gives_its_images(tmp_path: Path) -> None:
    assert_scenes(ros1_bag(tmp_path / "tour.bag"))


def test_frames_are_chosen_from_a_bag(tmp_path: Path, tiny_bundle: Bundle) -> None:
    source = open_calibration_source(ros1_bag(tmp_path / "tour.bag"), every=2)
    chosen, _ = choose_frames(source, tiny_bundle, count=2, embedding="colour", cache=tmp_path / "cache")
    assert (chosen.source, chosen.kind, chosen.considered) == ("tour.bag", "bag", 3)
    assert all(name[:6] in ("000000", "000002", "000004") for name in chosen.names)


def test_of_several_topics_the_colour_camera_is_taken_or_one_must_be_named(tmp_path: Path) -> None:
    clear = {"/camera/color/image_raw": IMAGE, "/camera/color/image_raw/compressed": COMPRESSED, "/camera/depth/image": IMAGE}
    assert_scenes(ros2_bag(tmp_path / "clear", clear))
    unclear = ros2_bag(tmp_path / "unclear", {"/left/image": IMAGE, "/right/image": IMAGE})
    with pytest.raises(CalibrationError, match=r"several topics; found /left/image, /right/image\. Name one with --topic"):
        open_calibration_source(unclear)
    assert_scenes(unclear, topic="/right/image")
    with pytest.raises(CalibrationError, match=r"no images on /up; found /left/image"):
        open_calibration_source(unclear, topic="/up")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_a_damaged_bag_is_a_typed_error(tmp_path: Path, damage: str) -> None:
    bag = ros1_bag(tmp_path / "tour.bag")
    payload = bag.read_bytes()
    bag.write_bytes({"cut": payload[: len(payload) // 2], "noise": b"\x07" * 4000, "empty": b""}[damage])
    with pytest.raises(CalibrationError, match=r"not a readable ROS bag|cannot be read to its end|no images"):
        for still in open_calibration_source(bag).stills():
            still.load()


def test_a_ros_2_bag_that_is_named_like_a_ros_1_file_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "tour.bag").mkdir()
    (tmp_path / "tour.bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: {}")
    with pytest.raises(FrameError, match=r"is a folder.*Rename it: mv .* tour"):
        bag_source(tmp_path / "tour.bag")


def test_a_bag_without_images_is_a_typed_error(tmp_path: Path) -> None:
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    with rosbag2.Writer(tmp_path / "bag", version=8) as writer:
        connection = writer.add_connection("/chatter", "std_msgs/msg/String", typestore=store)
        message = store.types["std_msgs/msg/String"](data="hello")
        writer.write(connection, 0, store.serialize_cdr(message, "std_msgs/msg/String"))
    with pytest.raises(CalibrationError, match="has no images"):
        open_calibration_source(tmp_path / "bag")


def test_without_rosbags_the_repair_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = ros1_bag(tmp_path / "tour.bag")
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    with pytest.raises(BackendUnavailable, match=r"pip install .*rosbags"):
        open_calibration_source(bag)


def message(encoding: str, data: np.ndarray, *, height: int, width: int, step: int) -> Any:
    return SimpleNamespace(encoding=encoding, data=data.ravel(), height=height, width=width, step=step, is_bigendian=0)


@pytest.mark.parametrize(
    ("encoding", "channels", "expected"),
    [
        ("rgb8", [10, 20, 30], [10, 20, 30]),
        ("bgr8", [10, 20, 30], [30, 20, 10]),
        ("rgba8", [10, 20, 30, 255], [10, 20, 30]),
        ("bgra8", [10, 20, 30, 255], [30, 20, 10]),
        ("mono8", [90], [90, 90, 90]),
        ("8UC3", [10, 20, 30], [30, 20, 10]),
        ("BGR8", [10, 20, 30], [30, 20, 10]),
        ("8uc3", [10, 20, 30], [30, 20, 10]),
    ],
)
def test_every_encoding_becomes_rgb(encoding: str, channels: list[int], expected: list[int]) -> None:
    data = np.tile(np.array(channels, np.uint8), (4, 6, 1))
    found = message_pixels(message(encoding, data, height=4, width=6, step=6 * len(channels)))
    assert found.shape == (4, 6, 3)
    assert (found == expected).all()


def test_a_compressed_image_is_not_turned_as_its_camera_is_not() -> None:
    plain = cv2.imencode(".jpg", np.zeros((16, 32, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)
    turned = np.frombuffer(plain[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + plain[2:], np.uint8)
    assert cv2.imdecode(turned, cv2.IMREAD_COLOR).shape == (32, 16, 3)
    assert message_pixels(SimpleNamespace(format="jpeg", data=turned)).shape == (16, 32, 3)


@pytest.mark.parametrize(
    "broken",
    [
        message("32FC1", np.zeros(200, np.uint8), height=4, width=6, step=24),
        message("16UC1", np.zeros(40, np.uint8), height=4, width=6, step=12),
        message("rgb8", np.zeros(20, np.uint8), height=4, width=6, step=18),
        message("rgb8", np.zeros(200, np.uint8), height=4, width=6, step=10),
        message("rgb8", np.zeros(0, np.uint8), height=0, width=0, step=0),
        message("yuv422", np.zeros(40, np.uint8), height=4, width=5, step=10),
        message("nv12", np.zeros(32, np.uint8), height=4, width=8, step=8),
        message("nv12", np.zeros(200, np.uint8), height=5, width=8, step=8),
        message("nv21", np.zeros(200, np.uint8), height=4, width=7, step=7),
    ],
)
def test_images_that_are_none_are_frame_errors(broken: Any) -> None:
    with pytest.raises(FrameError):
        message_pixels(broken)


def test_the_same_topic_is_taken_wherever_none_is_named() -> None:
    assert colour_topic(["/depth/image"]) == "/depth/image", "there is no other"
    assert colour_topic(["/camera/color/image_raw", "/camera/disparity", "/camera/mono", "/camera/infra1"]).endswith(
        "image_raw"
    )
    assert colour_topic(["/camera/image_raw", "/camera/image_raw/compressed"]) == "/camera/image_raw"
    assert colour_topic(["/left/image", "/right/image"]) == ""
    assert colour_topic([]) == ""
