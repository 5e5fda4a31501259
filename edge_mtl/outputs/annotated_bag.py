"""A recorded ROS bag with what was predicted on its images, maps, boxes and classes, beside what was recorded.

Needs no ROS, only the package rosbags (extra "bags"). The original messages are copied byte for byte, but for topics that
cannot be understood (`FrameSource.left_out`) and maps of an earlier run; maps carry the stamp and frame of their image, and its
time in the bag.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.errors import FrameError, SystemFault
from edge_mtl.files import native_path
from edge_mtl.packages import import_package
from edge_mtl.prediction import Prediction
from edge_mtl.ros import vision_topics
from edge_mtl.ros.vision import VISION_DEFINITIONS, vision_message, vision_type
from edge_mtl.sources.bags import IMAGE, OUR_NAMESPACE, is_bag
from edge_mtl.sources.frame_source import Frame, FrameSource, MessageStamp
from edge_mtl.tasks import DepthMap, Result, Specs, TaskSpec, Topic, kind_of
from edge_mtl.tasks.messages import VisionTopic
from edge_mtl.tasks.points import first_of
from edge_mtl.unfinished import new_folder, sweep_folders

__all__ = ["AnnotatedBag", "annotated_bag", "check_recording", "default_target"]

_STRING, _NUMBER = "std_msgs/msg/String", "std_msgs/msg/Float64"
_SCALE = "depth_scale"
"""Topic of the factor that distances were multiplied by, once, where it is not 1."""


def default_target(bag: Path) -> Path:
    """Where the annotated bag goes when nobody says: beside `bag`, its name with "-maps"."""
    place = bag if bag.name not in ("", "..") else bag.resolve()
    return place.parent / f"{bag.resolve().name}-maps"


@contextmanager
def annotated_bag(
    bag: Path, target: Path, *, tasks: Specs, storage: str = "same", on_remark: Callable[[str], None] | None = None
) -> Iterator[AnnotatedBag]:
    """A new bag that is at `target` once the block ends without an error, and nowhere else otherwise.

    Args:
        bag: what was recorded, a ROS 2 bag.
        tasks: those that are predicted.
        storage: "sqlite3", "mcap", or "same" as the bag's.
        on_remark: called with a sentence for each topic of an earlier run, which is left out.
    Raises:
        BackendUnavailable: rosbags is missing or broken.
        FrameError, FileExistsError: see `check_recording`.
        SystemFault: the system refuses to write as much, where SQLite stores it and does not say why.
    """
    check_recording(bag, target)
    why = {"use": "Writing bags needs the package rosbags", "install": "edge-mtl[bags]"}
    rosbag2 = import_package("rosbags.rosbag2", "StoragePlugin", "Writer", **why)
    typesys = import_package("rosbags.typesys", "Stores", "get_typestore", "get_types_from_msg", **why)
    mcap = storage == "mcap" or (storage == "same" and (bag.suffix == ".mcap" or any(bag.glob("*.mcap*"))))
    plugin = rosbag2.StoragePlugin.MCAP if mcap else rosbag2.StoragePlugin.SQLITE3
    target.parent.mkdir(parents=True, exist_ok=True)
    name = os.fsencode(target.name).decode(errors="replace")  # of a file in the bag, too, and so part of its metadata
    with new_folder(target) as temporary, ExitStack() as stack:
        stack.callback(shutil.rmtree, temporary, ignore_errors=True)
        try:
            with (
                native_path(temporary / name) as place,
                rosbag2.Writer(Path(place), version=9, storage_plugin=plugin) as writer,
            ):
                yield AnnotatedBag(writer, typesys, tasks, on_remark=on_remark)
        except sqlite3.Error as exc:
            raise SystemFault(
                f"{target} cannot be written ({exc}). Free some space, raise the limit of a file's size (ulimit -f unlimited), "
                "or name a place on another disk with --out; then run it again."
            ) from exc
        os.rename(temporary / name, target)


def check_recording(bag: Path, target: Path) -> None:
    """Refuse what cannot be annotated, before an engine is loaded for it; what a killed run left of `target` is swept.

    Raises:
        FrameError: `bag` is no ROS 2 bag.
        FileExistsError: `target` is there already.
    """
    sweep_folders(target)
    if target.exists():
        raise FileExistsError(errno.EEXIST, "There is something already; name another folder with --out", str(target))
    if bag.suffix == ".bag":
        raise FrameError(f"{bag} is a bag of ROS 1. Convert it first: rosbags-convert --src {bag} --dst {bag.with_suffix('')}")
    if not is_bag(bag):
        raise FrameError(f"{bag} is not a readable ROS 2 bag. Give the folder that has its metadata.yaml.")


class AnnotatedBag:
    """Copies the messages of a recording and writes the maps of its images under /edge_mtl."""

    def __init__(self, writer: Any, typesys: Any, tasks: Specs, *, on_remark: Callable[[str], None] | None = None) -> None:
        self._writer, self._on_remark = writer, on_remark
        self._topics = {name: _written(spec) for name, spec in tasks.items()}
        self._vision = vision_topics(tasks)
        self._store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        for message, fields in VISION_DEFINITIONS.items() if self._vision else ():
            self._store.register(typesys.get_types_from_msg("\n".join(fields), f"vision_msgs/msg/{message}"))
        self._copies: dict[int, Any] | None = None
        self._connections: dict[str, Any] = {}

    def copying(self, source: FrameSource) -> FrameSource:
        """The same source, of which every message is copied as its frames are read."""
        assert source.tapped is not None
        return replace(source, stills=partial(source.tapped, self._copy))

    def write(self, frame: Frame, prediction: Prediction) -> list[Path]:
        """Add the maps of a frame; what is said once, such as the classes, with the first. No file is finished by it."""
        assert frame.stamp is not None
        if prediction.depth_scale != 1.0 and _SCALE not in self._connections:
            number = self._store.types[_NUMBER](data=prediction.depth_scale)
            self._put(_SCALE, _NUMBER, frame.stamp.time_ns, number)
        for task, result in prediction.results.items():
            for topic in self._topics[task]:
                if topic.latched and topic.name in self._connections:
                    continue
                values = topic.make(None if topic.latched else result)
                if isinstance(values, str):
                    self._put(topic.name, _STRING, frame.stamp.time_ns, self._store.types[_STRING](data=values))
                elif values is not None:
                    self._write_map(frame.stamp, topic, values)
            if task in self._vision:
                self._write_vision(frame.stamp, self._vision[task], prediction, result)
        return []

    def _write_map(self, stamp: MessageStamp, topic: Topic, values: np.ndarray) -> None:
        height, width = values.shape[:2]
        message = self._store.types[IMAGE](
            header=self._header(stamp),
            height=height,
            width=width,
            encoding=topic.encoding,
            is_bigendian=0,
            step=values.nbytes // height,
            data=np.ascontiguousarray(values).view(np.uint8).reshape(-1),
        )
        self._put(topic.name, IMAGE, stamp.time_ns, message)

    def _write_vision(self, stamp: MessageStamp, topic: VisionTopic, prediction: Prediction, result: Result) -> None:
        camera = None if prediction.intrinsics_assumed else prediction.intrinsics
        depth = first_of(prediction.results, DepthMap)
        types = self._store.types.__getitem__
        message = vision_message(topic, result, self._header(stamp), types, depth=depth, camera=camera)
        self._put(topic.name, vision_type(topic), stamp.time_ns, message)

    def _header(self, stamp: MessageStamp) -> Any:
        types = self._store.types
        time = types["builtin_interfaces/msg/Time"](sec=stamp.sec, nanosec=stamp.nanosec)
        return types["std_msgs/msg/Header"](stamp=time, frame_id=stamp.frame_id)

    def _put(self, name: str, kind: str, time_ns: int, message: Any) -> None:
        if name not in self._connections:
            self._connections[name] = self._writer.add_connection(f"{OUR_NAMESPACE}/{name}", kind, typestore=self._store)
        self._writer.write(self._connections[name], time_ns, bytes(self._store.serialize_cdr(message, kind)))

    def _copy(self, reader: Any, connection: Any, time_ns: int, raw: bytes) -> None:
        if self._copies is None:
            self._copies = self._copied_topics(reader)
        if connection.id in self._copies:
            self._writer.write(self._copies[connection.id], time_ns, raw)

    def _copied_topics(self, reader: Any) -> dict[int, Any]:
        """The connections of the new bag by the old one's ids; remarks say which topics are left out.

        Maps of an earlier run make room for the new ones.
        """
        copies: dict[int, Any] = {}
        replaced = {f"{OUR_NAMESPACE}/{topic.name}" for topics in self._topics.values() for topic in topics}
        replaced |= {f"{OUR_NAMESPACE}/{topic.name}" for topic in self._vision.values()} | {f"{OUR_NAMESPACE}/{_SCALE}"}
        for connection in reader.connections:
            if connection.topic in replaced:
                self._remark(f"left out: {connection.topic}: it is of an earlier run, this one replaces it.")
                continue
            copies[connection.id] = self._writer.add_connection(
                connection.topic,
                connection.msgtype,
                typestore=reader.typestore,
                serialization_format=connection.ext.serialization_format,
                offered_qos_profiles=connection.ext.offered_qos_profiles,
            )
        return copies

    def _remark(self, text: str) -> None:
        if self._on_remark is not None:
            self._on_remark(text)


def _written(spec: TaskSpec) -> list[Topic]:
    """The map of a task or its text, and what is said once about it; not its drawings, which can be made of these."""
    return [topic for topic in kind_of(spec).topics(spec) if topic.latched or topic.name == spec.name or not topic.encoding]
