"""`edge-mtl run-bag`: a recorded ROS 2 bag through an engine, its maps written into a new bag beside what was recorded.

Knows bags and messages by their definitions; needs no ROS, only the package rosbags (extra "bags"). The original messages are
copied byte for byte, but for topics of an unknown type and maps of an earlier run; maps carry the stamp and frame of their
image, and its time in the bag.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.bundle import find
from edge_mtl.commands.options import EngineOptions
from edge_mtl.commands.terminal import Step, Terminal, one_line, table
from edge_mtl.engine import Engine
from edge_mtl.errors import BackendUnavailable, FrameError
from edge_mtl.files import TEMPORARY_PREFIX
from edge_mtl.image.frames import Intrinsics
from edge_mtl.prediction import Prediction
from edge_mtl.ros import Camera, camera_of
from edge_mtl.sources.bags import colour_topic, message_pixels, read_message
from edge_mtl.tasks import VOID
from edge_mtl.tasks.stability import TemporalFilter

__all__ = ["run"]

Array = np.ndarray
_IMAGE, _COMPRESSED, _CAMERA = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
_NAMESPACE = "/edge_mtl"
_WRITTEN = tuple(f"{_NAMESPACE}/{name}" for name in ("segmentation", "depth", "normals", "labels_json"))


@dataclass(frozen=True, slots=True)
class _Rosbags:
    """The parts of rosbags that are used; imported when a bag is opened."""

    reader: Any
    writer: Any
    plugin: Any
    typestore: Any
    unknown_type: type[Exception]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is done with which topics; see `run`."""

    bag: Path
    images: str
    cameras: str | None
    rectified: bool
    stability: bool
    limit: int | None


@dataclass(slots=True)
class _Tally:
    frames: int = 0
    scaled: int = 0
    skipped: int = 0
    total_ms: float = 0.0


def run(
    terminal: Terminal,
    bag: Path,
    options: EngineOptions,
    *,
    out: Path | None = None,
    topic: str | None = None,
    camera_topic: str | None = None,
    rectified: bool = False,
    storage: str = "same",
    stability: bool = False,
    limit: int | None = None,
) -> None:
    """Annotate a bag.

    Args:
        bag: folder of a ROS 2 bag.
        out: folder to write, which must not exist; by default the bag's name with "-maps".
        topic: of the images; needed where the bag has several.
        camera_topic: of the camera_info; by default the one beside the images.
        rectified: the images are rectified, their camera is P of the camera_info, not K.
        storage: "sqlite3", "mcap", or "same" as the bag's.
        stability: smooth the maps over time.
        limit: stop after this many images; the rest of the bag is not copied either.
    Raises:
        BackendUnavailable: rosbags is not installed.
        FrameError: the bag cannot be read, has no usable images, several topics of them, or nothing on a topic that was named.
        FileExistsError: `out` is there already.
    """
    place = bag if bag.name not in ("", "..") else bag.resolve()
    target = out if out is not None else place.parent / f"{bag.resolve().name}-maps"
    if target.exists():
        raise FileExistsError(17, "There is something already; name another folder with --out", str(target))
    rosbags = _rosbags()
    tally = _Tally()
    with _opened(rosbags, bag) as reader:
        images = _image_topic(reader, bag, topic)
        plan = _Plan(bag, images, _camera_topic(reader, bag, camera_topic, images), rectified, stability, limit)
        plugin = _plugin(rosbags, bag, storage)
        with Engine(
            find(options.bundle),
            backend=options.backend,
            precision=options.precision,
            device=options.device,
            threads=options.threads,
        ) as engine:
            with terminal.steps() as step, _new_bag(rosbags, target, plugin) as writer:
                _annotate(plan, reader, writer, engine, rosbags, tally, step, terminal)
                if tally.frames == 0:
                    raise FrameError(f"{bag}: no image on {images} could be used.")
            info = engine.info
    result = {
        "bag": str(target),
        "topic": plan.images,
        "camera_info": plan.cameras,
        "frames": tally.frames,
        "skipped": tally.skipped,
        "frames_with_metric_depth": tally.scaled,
        "ms_per_frame": round(tally.total_ms / tally.frames, 3),
    }
    if terminal.json_output:
        terminal.record(result)
    shown = table("", "frames", "engine", "ms per frame", right=("ms per frame",))
    skipped = f" ({tally.skipped} skipped)" if tally.skipped else ""
    shown.add_row(f"{tally.frames}{skipped}", f"{info.precision} on {info.backend}", f"{result['ms_per_frame']:.2f}")
    terminal.show(shown, f"Wrote {target}: the bag with {_NAMESPACE}/segmentation, depth, normals and labels_json")
    if tally.scaled < tally.frames:
        unscaled = tally.frames - tally.scaled
        terminal.note(f"{unscaled} frames had no camera_info that fits: their depth is right only up to a factor.")


def _annotate(
    plan: _Plan,
    reader: Any,
    writer: Any,
    engine: Engine,
    rosbags: _Rosbags,
    tally: _Tally,
    step: Step,
    terminal: Terminal,
) -> None:
    """Copy every message of a known type, and add maps after each image."""
    copies = _copies(rosbags, writer, reader, terminal)
    maps = _MapTopics(writer, rosbags.typestore)
    smooth = TemporalFilter() if plan.stability else None
    count = sum(connection.msgcount for connection in reader.connections if connection.topic == plan.images)
    camera: Camera | None = None
    for connection, time_ns, raw in _messages(reader, plan.bag):
        if connection.id in copies:
            writer.write(copies[connection.id], time_ns, raw)
        if connection.topic == plan.cameras and connection.msgtype == _CAMERA:
            try:
                camera = camera_of(read_message(reader, raw, connection.msgtype))
            except FrameError as exc:
                terminal.note(f"skipped: camera_info at {time_ns} ns: {one_line(str(exc))}")
        if connection.topic != plan.images:
            continue
        step("predicting", tally.frames, min(count, plan.limit or count))
        try:
            message = read_message(reader, raw, connection.msgtype)
            pixels = message_pixels(message, connection.msgtype)
            intrinsics = _intrinsics(camera, pixels.shape[1], pixels.shape[0], rectified=plan.rectified)
            prediction = engine.predict(pixels, intrinsics=intrinsics)
        except FrameError as exc:
            tally.skipped += 1
            terminal.note(f"skipped: image at {time_ns} ns: {one_line(str(exc))}")
            continue
        if smooth is not None:
            prediction = smooth(pixels, prediction)
        maps.write(time_ns, message.header, prediction)
        tally.frames += 1
        tally.scaled += intrinsics is not None
        tally.total_ms += prediction.timing.total * 1e3
        if plan.limit is not None and tally.frames >= plan.limit:
            return


class _MapTopics:
    """Writes the maps of a prediction as messages under /edge_mtl."""

    def __init__(self, writer: Any, typestore: Any) -> None:
        self._writer, self._store = writer, typestore
        self._image, self._text = typestore.types[_IMAGE], typestore.types["std_msgs/msg/String"]
        self._connections: dict[str, Any] = {}

    def write(self, time_ns: int, header: Any, prediction: Prediction) -> None:
        """Add the maps that the bundle predicts; the classes once, with the first."""
        if prediction.segmentation is not None:
            if "labels_json" not in self._connections:
                self._write_labels(time_ns, prediction.classes)
            self._write_map(time_ns, header, "segmentation", "mono8", prediction.segmentation)
        if prediction.depth is not None:
            self._write_map(time_ns, header, "depth", "32FC1", prediction.depth)
        if prediction.normals is not None:
            self._write_map(time_ns, header, "normals", "32FC3", prediction.normals)

    def _write_map(self, time_ns: int, header: Any, name: str, encoding: str, values: Array) -> None:
        height, width = values.shape[:2]
        data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        message = self._image(
            header=self._header(header),
            height=height,
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=values.nbytes // height,
            data=data,
        )
        self._put(name, _IMAGE, time_ns, message)

    def _write_labels(self, time_ns: int, classes: tuple[str, ...]) -> None:
        entries = [{"id": index, "name": name} for index, name in enumerate(classes)]
        self._put(
            "labels_json", "std_msgs/msg/String", time_ns, self._text(data=json.dumps({"classes": entries, "unlabelled": VOID}))
        )

    def _put(self, name: str, kind: str, time_ns: int, message: Any) -> None:
        if name not in self._connections:
            self._connections[name] = self._writer.add_connection(f"{_NAMESPACE}/{name}", kind, typestore=self._store)
        self._writer.write(self._connections[name], time_ns, bytes(self._store.serialize_cdr(message, kind)))

    def _header(self, header: Any) -> Any:
        """The image's header as this store's own type."""
        types = self._store.types
        stamp = types["builtin_interfaces/msg/Time"](sec=int(header.stamp.sec), nanosec=int(header.stamp.nanosec))
        return types["std_msgs/msg/Header"](stamp=stamp, frame_id=str(header.frame_id))


def _rosbags() -> _Rosbags:
    try:
        highlevel, rosbag2 = import_module("rosbags.highlevel"), import_module("rosbags.rosbag2")
        typesys = import_module("rosbags.typesys")
    except ImportError as exc:
        raise BackendUnavailable(
            'Reading bags needs the package rosbags. Install it with: pip install "edge-mtl[bags]"'
        ) from exc
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    return _Rosbags(highlevel.AnyReader, rosbag2.Writer, rosbag2.StoragePlugin, store, typesys.TypesysError)


@contextmanager
def _opened(rosbags: _Rosbags, bag: Path) -> Iterator[Any]:
    if bag.suffix == ".bag":
        raise FrameError(f"{bag} is a bag of ROS 1. Convert it first: rosbags-convert --src {bag} --dst {bag.with_suffix('')}")
    try:
        reader = rosbags.reader([bag], default_typestore=rosbags.typestore)
        reader.open()
    except Exception as exc:  # SQLite, YAML and the reader's own errors
        reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
        raise FrameError(f"{bag} is no readable ROS 2 bag ({reason}). Give the folder that has its metadata.yaml.") from exc
    try:
        yield reader
    finally:
        reader.close()


@contextmanager
def _new_bag(rosbags: _Rosbags, target: Path, plugin: Any) -> Iterator[Any]:
    """A writer whose bag is at `target` once the block ends without an error, and nowhere else otherwise."""
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{target.name}.", dir=target.parent))
    try:
        with rosbags.writer(temporary / target.name, version=9, storage_plugin=plugin) as writer:
            yield writer
        os.rename(temporary / target.name, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _copies(rosbags: _Rosbags, writer: Any, reader: Any, terminal: Terminal) -> dict[int, Any]:
    """The connections of the new bag by the old one's ids; notes say which topics are left out.

    A bag must say what its messages are. Old ones do not; then the types of ROS itself are known, and no others. Maps of an
    earlier run make room for the new ones.
    """
    copies: dict[int, Any] = {}
    for connection in reader.connections:
        if connection.topic in _WRITTEN:
            terminal.note(f"left out: {connection.topic}: it is of an earlier run, this one replaces it.")
            continue
        try:
            copies[connection.id] = _copied(writer, reader, connection)
        except rosbags.unknown_type:
            terminal.note(f"left out: {connection.topic}: the bag does not define its type {connection.msgtype}.")
    return copies


def _copied(writer: Any, reader: Any, connection: Any) -> Any:
    """The connection of the same topic and type in the new bag."""
    return writer.add_connection(
        connection.topic,
        connection.msgtype,
        typestore=reader.typestore,
        serialization_format=connection.ext.serialization_format,
        offered_qos_profiles=connection.ext.offered_qos_profiles,
    )


def _messages(reader: Any, bag: Path) -> Iterator[tuple[Any, int, bytes]]:
    try:
        yield from reader.messages()
    except GeneratorExit:
        raise
    except Exception as exc:  # a truncated recording
        raise FrameError(f"{bag} cannot be read to its end ({type(exc).__name__}). Reindex it, or copy it again.") from exc


def _image_topic(reader: Any, bag: Path, wanted: str | None) -> str:
    found = sorted({c.topic for c in reader.connections if c.msgtype in (_IMAGE, _COMPRESSED) and c.msgcount})
    if wanted is not None:
        if wanted not in found:
            raise FrameError(f"{bag} has no images on {wanted}; found {', '.join(found) or 'none'}.")
        return wanted
    chosen = colour_topic([topic for topic in found if topic not in _WRITTEN])
    if not chosen:
        what = f"images on several topics, {', '.join(found)}: name one with --topic" if found else "no images"
        raise FrameError(f"{bag} has {what}.")
    return chosen


def _camera_topic(reader: Any, bag: Path, wanted: str | None, images: str) -> str | None:
    """The topic that was named, or the one beside the images; None where there is none."""
    found = sorted({c.topic for c in reader.connections if c.msgtype == _CAMERA and c.msgcount})
    if wanted is not None and wanted not in found:
        raise FrameError(f"{bag} has no camera_info on {wanted}; found {', '.join(found) or 'none'}.")
    beside = f"{images.removesuffix('/compressed').rpartition('/')[0]}/camera_info"
    return wanted or (beside if beside in found else None)


def _plugin(rosbags: _Rosbags, bag: Path, storage: str) -> Any:
    mcap = storage == "mcap" or (storage == "same" and (bag.suffix == ".mcap" or any(bag.glob("*.mcap*"))))
    return rosbags.plugin.MCAP if mcap else rosbags.plugin.SQLITE3


def _intrinsics(camera: Camera | None, width: int, height: int, *, rectified: bool) -> Intrinsics | None:
    """K of a camera, or P, for images of this size; None where there is none that fits, or it is not calibrated."""
    if camera is None or not camera.fits(width, height):
        return None
    try:
        return camera.scaled(width, height).intrinsics(rectified=rectified)
    except FrameError:
        return None
