"""Images of ROS 1 and ROS 2 bags with their times and camera, without ROS. The package rosbags reads the files.

It comes with the extra "bags" and is imported by `bag_reader` and `bag_view`, which this module imports when a bag is opened,
and by edge_mtl.outputs.annotated_bag, which writes bags.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_mtl.errors import FrameError
from edge_mtl.files import native_path
from edge_mtl.image.bit_depth import FULL_BITS, OnRemark
from edge_mtl.image.frames import Intrinsics
from edge_mtl.packages import import_package
from edge_mtl.ros import Camera, camera_of, image_of, lens_fault
from edge_mtl.sources.bag_faults import STORAGE_SUFFIXES, bag_fault, check_finished, log_elsewhere, reading_fault, storage_files
from edge_mtl.sources.camera_pairing import CameraPairing
from edge_mtl.sources.frame_source import Frame, FrameSource, MessageStamp, Still, Tap, bits_identity, file_identity
from edge_mtl.sources.images import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from edge_mtl.sources.bag_reader import BagReader

__all__ = ["BAG_SUFFIXES", "IMAGE", "OUR_NAMESPACE", "bag_source", "colour_topic", "is_bag", "message_pixels", "read_message"]

Array = np.ndarray

BAG_SUFFIXES = (".bag", *STORAGE_SUFFIXES)
OUR_NAMESPACE = "/edge_mtl"
"""Of the topics that an annotated bag has beside the recorded ones."""
IMAGE, _COMPRESSED, _CAMERA = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
_NO_COLOUR = ("depth", "disparity", "infra", "mono", "mask", "label")
"""In names of topics with images that are no colour images."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One image message of a bag: `time_ns` in the recording, `time_s` since the first image."""

    name: str
    time_ns: int
    time_s: float
    kind: str
    raw: bytes


def is_bag(path: Path) -> bool:
    """Whether `path` is named like a bag, or is the folder of one, be it without the metadata.yaml that it should have."""
    if path.suffix.lower() in BAG_SUFFIXES or (path / "metadata.yaml").is_file():
        return True
    try:
        inside = {entry.suffix.lower() for entry in path.iterdir()} if path.is_dir() else set()
        return bool(inside) and inside.isdisjoint(IMAGE_SUFFIXES) and bool(storage_files(path))
    except OSError:
        return False


def bag_source(
    path: Path,
    *,
    topic: str | None = None,
    camera_info: str | None = None,
    rectified: bool = False,
    every: int = 1,
    bits: int = FULL_BITS,
) -> FrameSource:
    """The images of one topic of a bag, in order of time.

    Args:
        path: a .bag file, a ROS 2 bag's folder, or its .mcap or .db3 file.
        topic: which; needed where the bag has images on several.
        camera_info: topic of the camera; by default the one beside the images. Each image has the camera_info whose stamp is
            nearest, also a later one: half a second later in the recording, or 16 images, at most.
        rectified: the images are rectified, their camera is P of the camera_info, not K.
        every: take only every n-th.
        bits: how many of 16 bits a channel are filled; see `edge_mtl.image.bit_depth`.
    Raises:
        BackendUnavailable: the package rosbags is not installed.
        FrameError: the bag cannot be read, has no images, several topics of them and none was named, or nothing on a topic
            that was named, or a topic was named that cannot be understood.
    """
    if not path.exists():
        raise FrameError(f"{path} does not exist: expected a bag.")
    with _opened(path) as reader:
        images, count = _image_topic(reader, path, topic)
        cameras = _camera_topic(reader, path, camera_info, images)
        left_out = dict(sorted(reader.left_out.items()))

    def walk(tap: Tap | None) -> Generator[Still]:
        with _opened(path) as reader:
            keep = (images, cameras)
            connections = [entry for entry in reader.connections if tap is not None or entry.topic in keep]
            pairing = CameraPairing[tuple[_Entry, tuple[str, ...]]]()
            remarks: tuple[str, ...] = ()
            first_ns: int | None = None
            index = -1
            for connection, time_ns, raw in _messages(reader, connections, path):
                yield from stills(reader, pairing, None if cameras is None else time_ns)
                if tap is not None:
                    tap(reader, connection, time_ns, raw)
                if connection.topic == cameras and connection.msgtype == _CAMERA:
                    try:
                        pairing.camera(reader.stamp_ns(raw), time_ns, camera_of(read_message(reader, raw, _CAMERA)))
                    except FrameError as exc:
                        remarks = (*remarks, f"camera_info at {time_ns} ns: {exc}")
                elif connection.topic == images:
                    index += 1
                    if index % every == 0:
                        first_ns = time_ns if first_ns is None else first_ns
                        name, seconds = f"{index:06d}-{time_ns}", (time_ns - first_ns) / 1e9
                        entry = _Entry(name, time_ns, seconds, connection.msgtype, raw)
                        pairing.image(reader.stamp_ns(raw), time_ns, (entry, remarks))
                        remarks = ()
            yield from stills(reader, pairing, None)

    def stills(
        reader: BagReader, pairing: CameraPairing[tuple[_Entry, tuple[str, ...]]], time_ns: int | None
    ) -> Iterator[Still]:
        for (entry, remarks), camera in pairing.ready(time_ns):
            yield Still(entry.name, partial(_load, reader, entry, camera, rectified, bits), remarks)

    return FrameSource(
        name=path.resolve().name,
        kind="bag",
        contents=f"images on {images} in {path}",
        identity=file_identity("bag", path, images, every, *bits_identity(bits)),
        count=-(-count // every),
        stills=lambda: walk(None),
        topic=images,
        camera_topic=cameras,
        tapped=walk,
        left_out=left_out,
    )


def _load(reader: Any, entry: _Entry, camera: Camera | None, rectified: bool, bits: int) -> Frame:
    message = read_message(reader, entry.raw, entry.kind)
    oddities: list[str] = []
    pixels = message_pixels(message, bits=bits, on_remark=oddities.append)
    stamp = message.header.stamp
    intrinsics, lens, oddity = _camera_of_image(camera, pixels.shape[1], pixels.shape[0], rectified=rectified)
    return Frame(
        entry.name,
        pixels,
        entry.time_s,
        intrinsics,
        MessageStamp(entry.time_ns, int(stamp.sec), int(stamp.nanosec), str(message.header.frame_id)),
        oddities=tuple(filter(None, (*oddities, oddity))),
        lens=lens,
    )


def message_pixels(message: Any, *, bits: int = FULL_BITS, on_remark: OnRemark | None = None) -> Array:
    """(H, W, 3) uint8 RGB of a sensor_msgs/Image or CompressedImage; see `edge_mtl.ros.image_of`. Raises FrameError: no image.

    Never turned upright by EXIF data: a camera_info is of the image as the camera sent it.
    """
    pixels, channels = image_of(message, bits=bits, on_remark=on_remark)
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


def _image_topic(reader: BagReader, path: Path, wanted: str | None) -> tuple[str, int]:
    """The topic to read and how many images are on it; maps of an earlier run are taken only where they are named."""
    _check_understood(reader, path, wanted)
    images = [connection for connection in reader.connections if connection.msgtype in (IMAGE, _COMPRESSED)]
    topics = sorted({connection.topic for connection in images})
    if not topics:
        strange = "; ".join(f"{topic}: {why}" for topic, why in sorted(reader.left_out.items()))
        others = f" Topics that cannot be read: {strange}." if strange else ""
        raise FrameError(
            f"{path} has no images: a topic of {IMAGE} or {_COMPRESSED} was expected.{others} {log_elsewhere(path)}".strip()
        )
    recorded = [topic for topic in topics if not topic.startswith(f"{OUR_NAMESPACE}/")]
    chosen = wanted or colour_topic(recorded)
    if chosen not in topics:
        what = f"no images on {wanted}" if wanted else "images on several topics"
        raise FrameError(f"{path} has {what}; found {', '.join(topics)}. Name one with --topic.")
    count = sum(connection.msgcount for connection in images if connection.topic == chosen)
    if count < 1:
        advice = log_elsewhere(path) or "Record the camera, or name another topic with --topic."
        raise FrameError(f"{path} has no images on {chosen}. {advice}")
    return chosen, count


def _check_understood(reader: BagReader, path: Path, wanted: str | None) -> None:
    if wanted in reader.left_out:
        raise FrameError(f"{path}: {wanted} cannot be read: {reader.left_out[wanted]}.")


def _camera_topic(reader: BagReader, path: Path, wanted: str | None, images: str) -> str | None:
    """The topic that was named, or the one beside the images; None where there is none."""
    _check_understood(reader, path, wanted)
    found = sorted({entry.topic for entry in reader.connections if entry.msgtype == _CAMERA and entry.msgcount})
    if wanted is not None and wanted not in found:
        raise FrameError(f"{path} has no camera_info on {wanted}; found {', '.join(found) or 'none'}.")
    beside = f"{images.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
    return wanted or (beside if beside in found else None)


def _camera_of_image(camera: Camera | None, width: int, height: int, *, rectified: bool) -> tuple[Intrinsics | None, str, str]:
    """K of a camera, or P, for images of this size, None where none fits or is calibrated; what is wrong with its lens; and
    what is odd about it, or why it is not taken."""
    if camera is None:
        return None, "", ""
    try:
        scaled = camera.of_image(width, height)
        intrinsics = scaled.intrinsics(rectified=rectified)
    except FrameError as exc:
        return None, "", f"depth is unscaled: {exc}"
    if intrinsics is None:
        return None, "", ""
    fault = None if rectified else lens_fault(scaled)
    return intrinsics, "" if fault is None else fault.text, camera.resizing(width, height)


def _messages(reader: BagReader, connections: list[Any], path: Path) -> Iterator[tuple[Any, int, bytes]]:
    try:
        yield from reader.messages(connections)
    except GeneratorExit:
        raise
    except Exception as exc:  # a truncated recording
        raise reading_fault(path, exc) from exc


@contextmanager
def _opened(path: Path) -> Iterator[BagReader]:
    why = {"use": "Reading bags needs the package rosbags", "install": "edge-mtl[bags]"}
    import_package("rosbags.rosbag2", "Reader", **why)
    import_package("rosbags.typesys", "Stores", "get_typestore", **why)
    from edge_mtl.sources.bag_reader import BagReader

    if path.is_dir() and path.suffix == ".bag":
        raise FrameError(
            f"{path} is a folder, and a name that ends in .bag is read as a file of ROS 1. Rename it: mv {path} {path.stem}"
        )
    with ExitStack() as stack:
        try:
            check_finished(path)
            reader = BagReader(Path(stack.enter_context(native_path(path))))
        except FrameError:
            raise
        except Exception as exc:  # SQLite, YAML and the reader's own errors
            raise bag_fault(path, exc) from exc
        stack.callback(reader.close)
        yield reader
