"""Small ROS 2 bags of a camera, written and read with rosbags. Knows messages; knows nothing about predictions."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

__all__ = ["CAMERA_TOPIC", "IMAGE_TOPIC", "Beside", "Recorded", "read_bag", "without_definitions", "write_bag"]

IMAGE_TOPIC, CAMERA_TOPIC = "/camera/image_raw", "/camera/camera_info"
START_NS = 1_700_000_000_000_000_000
_PERIOD_NS = 100_000_000


@dataclass(frozen=True)
class Recorded:
    """One message of a bag; `data` are an image's bytes or a string's text, `raw` the serialised message."""

    time_ns: int
    stamp_ns: int
    frame_id: str
    data: Any
    raw: bytes


@dataclass(frozen=True)
class Beside:
    """Another topic of a bag: its type, what makes a message of (types, header, index), and how long after each image."""

    kind: str
    make: Callable[[Any, Any, int], Any]
    delay_ns: int = 0
    frame_id: str = "camera"


def write_bag(
    path: Path,
    frames: Sequence[np.ndarray],
    *,
    storage: str = "sqlite3",
    focal: float | None = None,
    camera_scale: int = 1,
    broken: int | None = None,
    broken_camera: int | None = None,
    camera_fields: Mapping[str, Any] | None = None,
    beside: Mapping[str, Beside] | None = None,
) -> Path:
    """A bag of (H, W, 3) uint8 RGB frames at 10 Hz.

    Args:
        storage: "sqlite3" or "mcap".
        focal: of the camera in pixels; None for a bag without camera_info.
        camera_scale: the camera_info is of images this many times larger.
        broken: index of a frame that lacks half its bytes.
        broken_camera: index of a camera_info that lacks half its bytes.
        beside: other topics by name, with a message for each frame.
        camera_fields: of the camera_info, in place of what it says otherwise; "roi" is (x, y, width, height).
    """
    store = get_typestore(Stores.ROS2_HUMBLE)
    types = store.types
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        images = writer.add_connection(IMAGE_TOPIC, "sensor_msgs/msg/Image", typestore=store)
        cameras = writer.add_connection(CAMERA_TOPIC, "sensor_msgs/msg/CameraInfo", typestore=store) if focal else None
        others = {topic: writer.add_connection(topic, other.kind, typestore=store) for topic, other in (beside or {}).items()}
        pending: list[tuple[int, Any, bytes]] = []
        for index, frame in enumerate(frames):
            time_ns = START_NS + index * _PERIOD_NS
            stamp = types["builtin_interfaces/msg/Time"](sec=time_ns // 10**9, nanosec=time_ns % 10**9)
            header = types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera")
            height, width = frame.shape[:2]
            if cameras is not None and focal is not None:
                camera = _camera(types, header, width * camera_scale, height * camera_scale, focal, camera_fields or {})
                raw = bytes(store.serialize_cdr(camera, cameras.msgtype))
                writer.write(cameras, time_ns, raw[: len(raw) // 2] if index == broken_camera else raw)
            for topic, other in (beside or {}).items():
                late_ns = time_ns + other.delay_ns
                late = types["builtin_interfaces/msg/Time"](sec=late_ns // 10**9, nanosec=late_ns % 10**9)
                message = other.make(types, types["std_msgs/msg/Header"](stamp=late, frame_id=other.frame_id), index)
                pending.append((late_ns, others[topic], bytes(store.serialize_cdr(message, other.kind))))
            data = frame.reshape(-1)
            image = types["sensor_msgs/msg/Image"](
                header=header,
                height=height,
                width=width,
                encoding="rgb8",
                is_bigendian=0,
                step=3 * width,
                data=data[: data.size // 2] if index == broken else data,
            )
            writer.write(images, time_ns + 1, store.serialize_cdr(image, images.msgtype))
        for late_ns, connection, raw in pending:
            writer.write(connection, late_ns, raw)
    return path


def without_definitions(bag: Path, *, foreign: str, kind: str) -> Path:
    """An sqlite3 bag as Humble writes them, without definitions of its types; the topic `foreign` becomes one of `kind`."""
    database, metadata = next(bag.glob("*.db3")), bag / "metadata.yaml"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE schema SET schema_version = 3")
        connection.execute("DELETE FROM message_definitions")
        connection.execute("UPDATE topics SET type_description_hash = ''")
        connection.execute("UPDATE topics SET type = ? WHERE name = ?", (kind, foreign))
    content = YAML(typ="safe").load(metadata.read_text())
    for topic in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
        described = topic["topic_metadata"]
        described["type_description_hash"] = ""
        described["type"] = kind if described["name"] == foreign else described["type"]
    with metadata.open("w") as file:
        YAML(typ="safe").dump(content, file)
    return bag


def read_bag(path: Path) -> dict[str, list[Recorded]]:
    """All messages by topic, in order."""
    result: dict[str, list[Recorded]] = defaultdict(list)
    with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
        for connection, time_ns, raw in reader.messages():
            message: Any = reader.deserialize(raw, connection.msgtype)
            header = getattr(message, "header", None)
            stamp_ns = 0 if header is None else header.stamp.sec * 10**9 + header.stamp.nanosec
            data = getattr(message, "data", None)
            result[connection.topic].append(
                Recorded(
                    time_ns,
                    stamp_ns,
                    "" if header is None else header.frame_id,
                    data.tobytes() if isinstance(data, np.ndarray) else data,
                    bytes(raw),
                )
            )
    return dict(result)


def _camera(types: Any, header: Any, width: int, height: int, focal: float, changed: Mapping[str, Any]) -> Any:
    cx, cy = (width - 1) / 2, (height - 1) / 2
    fields: dict[str, Any] = {
        "height": height,
        "width": width,
        "distortion_model": "plumb_bob",
        "d": np.zeros(5),
        "k": np.array([focal, 0, cx, 0, focal, cy, 0, 0, 1.0]),
        "r": np.eye(3).ravel(),
        "p": np.array([focal, 0, cx, 0, 0, focal, cy, 0, 0, 0, 1.0, 0]),
        "binning_x": 0,
        "binning_y": 0,
        "roi": (0, 0, 0, 0),
    } | dict(changed)
    x, y, roi_width, roi_height = fields["roi"]
    fields["roi"] = types["sensor_msgs/msg/RegionOfInterest"](
        x_offset=x, y_offset=y, height=roi_height, width=roi_width, do_rectify=False
    )
    return types["sensor_msgs/msg/CameraInfo"](header=header, **fields)
