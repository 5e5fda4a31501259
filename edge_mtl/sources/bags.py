"""Images of ROS 1 and ROS 2 bags, without ROS. The package rosbags reads the files and knows messages.

It comes with the extra "bags" and is imported here and in edge_mtl.commands.run_bag, which writes bags, and only there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.errors import BackendUnavailable, CalibrationError, FrameError
from edge_mtl.ros import ENCODINGS, decode_compressed, decode_image
from edge_mtl.sources.recordings import FrameSource, Still, file_identity

__all__ = ["bag_frames", "colour_topic", "message_pixels", "read_message"]

Array = np.ndarray

_IMAGE, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_ENCODINGS = {name.lower(): name for name in ENCODINGS}
"""Recordings write some of them in other letters."""
_NO_COLOUR = ("depth", "disparity", "infra", "mono", "mask", "label")
"""In names of topics with images that are no colour images."""


def bag_frames(path: Path, *, topic: str | None = None, every: int = 1) -> FrameSource:
    """The images of one topic of a bag, in order of time.

    Args:
        path: a .bag file, a ROS 2 bag's folder, or its .mcap or .db3 file.
        topic: which; needed where the bag has images on several.
        every: take only every n-th.
    Raises:
        BackendUnavailable: the package rosbags is not installed.
        CalibrationError: the bag cannot be read, has no images, or has several topics and none was named.
    """
    with _opened(path) as reader:
        images = [connection for connection in reader.connections if connection.msgtype in (_IMAGE, _COMPRESSED)]
        topics = sorted({connection.topic for connection in images})
        if not topics:
            raise CalibrationError(f"{path} has no images: a topic of {_IMAGE} or {_COMPRESSED} was expected.")
        chosen = topic or colour_topic(topics)
        if chosen not in topics:
            found = ", ".join(topics)
            wanted = f"no images on {topic}" if topic else "images on several topics"
            raise CalibrationError(f"{path} has {wanted}; found {found}. Name one with --topic.")
        count = sum(connection.msgcount for connection in images if connection.topic == chosen)
    if count < 1:
        raise CalibrationError(f"{path} has no images on {chosen}: record the camera, or name another topic with --topic.")

    def stills() -> Iterator[Still]:
        with _opened(path) as reader:
            connections = [connection for connection in reader.connections if connection.topic == chosen]
            for index, (connection, time_ns, raw) in enumerate(_messages(reader, connections, path)):
                if index % every == 0:

                    def load(kind: str = connection.msgtype, raw: bytes = raw, reader: Any = reader) -> Array:
                        return message_pixels(read_message(reader, raw, kind), kind)

                    yield Still(f"{index:06d}-{time_ns}", load)

    return FrameSource(path.resolve().name, "bag", file_identity("bag", path, chosen, every), -(-count // every), stills)


def message_pixels(message: Any, kind: str) -> Array:
    """(H, W, 3) uint8 RGB of a message of type `kind`, sensor_msgs/Image or CompressedImage. Raises FrameError: no image.

    Never turned upright by EXIF data: a camera_info is of the image as the camera sent it.
    """
    if kind == _IMAGE:
        size = int(message.height), int(message.width), int(message.step)
        encoding = _ENCODINGS.get(str(message.encoding).lower(), str(message.encoding))
        pixels, channels = decode_image(encoding, *size, message.data)
    else:
        pixels, channels = decode_compressed(str(message.format), message.data)
    return np.ascontiguousarray(pixels if channels == "rgb" else pixels[..., ::-1])


def read_message(reader: Any, raw: bytes, kind: str) -> Any:
    """A message of a bag. Raises FrameError: it is damaged."""
    try:
        return reader.deserialize(raw, kind)
    except Exception as exc:  # rosbags raises many kinds on damaged messages
        raise FrameError(f"the message is damaged ({type(exc).__name__})") from exc


def colour_topic(topics: Sequence[str]) -> str:
    """The only topic, or the one that is not plainly a depth, infra-red or compressed twin of another; "" where unclear."""
    if len(topics) == 1:
        return topics[0]
    likely = [topic for topic in topics if not any(word in topic.lower() for word in _NO_COLOUR)]
    raw = [topic for topic in likely if not topic.endswith("/compressed")] or likely
    return raw[0] if len(raw) == 1 else ""


def _messages(reader: Any, connections: list[Any], path: Path) -> Iterator[tuple[Any, int, bytes]]:
    try:
        yield from reader.messages(connections=connections)
    except GeneratorExit:
        raise
    except Exception as exc:  # a truncated recording
        raise CalibrationError(
            f"{path} cannot be read to its end ({type(exc).__name__}). Reindex it, or copy it again."
        ) from exc


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        highlevel, typesys = import_module("rosbags.highlevel"), import_module("rosbags.typesys")
    except ImportError as exc:
        raise BackendUnavailable(
            'Reading bags needs the package rosbags. Install it with: pip install "edge-mtl[bags]"'
        ) from exc
    if path.is_dir() and path.suffix == ".bag":
        raise CalibrationError(
            f"{path} is a folder, and a name that ends in .bag is read as a file of ROS 1. Rename it: mv {path} {path.stem}"
        )
    try:
        reader = highlevel.AnyReader([path], default_typestore=typesys.get_typestore(typesys.Stores.ROS2_HUMBLE))
        reader.open()
    except Exception as exc:  # SQLite, YAML and the reader's own errors
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise CalibrationError(f"{path} is no readable ROS bag ({reason}). Copy it again, or reindex it.") from exc
    try:
        yield reader
    finally:
        reader.close()
