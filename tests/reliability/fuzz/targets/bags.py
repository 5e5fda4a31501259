"""Recorded bags: rosbag2 in SQLite and MCAP, bags of ROS 1; their metadata, definitions of messages, and messages."""

from __future__ import annotations

import contextlib
import random
import sqlite3
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edge_mtl.errors import EdgeMtlError
from edge_mtl.metric_scale.bag_topics import SCAN, depth_of, paired, scan_of
from edge_mtl.sources.bags import IMAGE, bag_source, is_bag
from tests.bundles import make_image
from tests.mcap_files import McapChannel, write_mcap
from tests.reliability.fuzz.folders import in_one_file, packed_folder, unpack_into
from tests.reliability.fuzz.mutations import mutate_bytes
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.training import installed
from tests.reliability.fuzz.values import INTEGERS, NUMBERS, TEXTS, Mutation, altered_record, damaged_text

__all__ = ["TARGETS"]

_ROS1_FIELDS = b"op= conn= time= index_pos= chunk_pos= count= size= topic= type= compression=".split()
_MOST_FRAMES, _SIDES = 8, (12, 16)
_DEPTH, _SCAN = "/camera/depth", "/scan"


def _open(folder: Path) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        bag = unpack_into(data, folder / "bag")
        single = [path for path in bag.iterdir() if path.suffix in (".mcap", ".bag")]
        path = single[0] if len(list(bag.iterdir())) == 1 and single else bag
        is_bag(path)
        attempts = (_frames, (_rectified, _depths, _scans)[zlib.crc32(data) % 3])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for attempt in attempts:
                with contextlib.suppress(EdgeMtlError):
                    attempt(path)

    return read


def _frames(path: Path) -> None:
    ignored: list[object] = []
    with contextlib.closing(bag_source(path).frames(on_skip=ignored.append, on_remark=ignored.append)) as frames:
        for frame in islice(frames, _MOST_FRAMES):
            assert frame.pixels.dtype == np.uint8


def _rectified(path: Path) -> None:
    bag_source(path, topic="/camera/image_raw", camera_info="/camera/camera_info", rectified=True, every=2)


def _depths(path: Path) -> None:
    for pair in paired(bag_source(path), _DEPTH, IMAGE, limit=2):
        depth_of(pair.message)


def _scans(path: Path) -> None:
    for pair in paired(bag_source(path), _SCAN, SCAN, limit=2):
        scan_of(pair.message)


def _besides() -> dict[str, Any]:
    from tests.bag_files import Beside

    def depth(types: Any, header: Any, index: int) -> Any:
        data = np.full(_SIDES, 1000 + index, np.uint16).reshape(-1).view(np.uint8)
        fields = {"height": _SIDES[0], "width": _SIDES[1], "encoding": "16UC1", "is_bigendian": 0, "step": 2 * _SIDES[1]}
        return types[IMAGE](header=header, data=data, **fields)

    def scan(types: Any, header: Any, index: int) -> Any:
        names = ("angle_min", "angle_max", "angle_increment", "time_increment", "scan_time", "range_min", "range_max")
        values = dict(zip(names, (-1.0, 1.0, 0.25, 0.0, 0.1, 0.1, 8.0), strict=True))
        return types[SCAN](header=header, ranges=np.full(9, 2.0, np.float32), intensities=np.zeros(0, np.float32), **values)

    return {_DEPTH: Beside(IMAGE, depth), _SCAN: Beside(SCAN, scan)}


def _bag(folder: Path, storage: str) -> Path:
    from tests.bag_files import write_bag

    return write_bag(
        folder,
        [make_image(number, height=_SIDES[0], width=_SIDES[1]) for number in range(3)],
        storage=storage,
        focal=20.0,
        camera_fields={"d": np.array([-0.2, 0.05, 0.0, 0.0, 0.0])},
        beside=_besides(),
    )


def _sqlite_seeds(folder: Path) -> Sequence[bytes]:
    from tests.bag_files import without_definitions

    whole, old = _bag(folder / "whole", "sqlite3"), _bag(folder / "old", "sqlite3")
    return [packed_folder(whole), packed_folder(without_definitions(old, foreign=_SCAN, kind="my_msgs/msg/Odd"))]


def _mcap_seeds(folder: Path) -> Sequence[bytes]:
    from rosbags.typesys import Stores, get_typestore

    from tests.bag_files import CAMERA_TOPIC, IMAGE_TOPIC, read_bag

    bag = _bag(folder / "chunks", "mcap")
    seeds = [packed_folder(bag), packed_folder(_alone(bag, folder / "alone", "*.mcap"))]
    store = get_typestore(Stores.ROS2_HUMBLE)
    kinds = {_DEPTH: IMAGE, _SCAN: SCAN, IMAGE_TOPIC: IMAGE, CAMERA_TOPIC: "sensor_msgs/msg/CameraInfo"}
    channels = []
    for topic, messages in read_bag(bag).items():
        text, _ = store.generate_msgdef(kinds[topic], ros_version=2)
        recorded = [(one.time_ns, one.raw) for one in messages]
        channels.append(McapChannel(topic, "cdr", (kinds[topic], "ros2msg", text.encode()), recorded))
    odd = McapChannel("/odd", "protobuf", ("foxglove.Log", "protobuf", b"\n\xb6\xff\x01"), [(1, b"\x08")])
    for summary in ("whole", "definitions", "nothing", "cut"):
        place = folder / summary
        place.mkdir()
        write_mcap(place / "tour.mcap", [*channels, odd], summary=summary)
        seeds.append(packed_folder(place))
    return seeds


def _ros1_seeds(folder: Path) -> Sequence[bytes]:
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    types = store.types
    found = []
    for name, compression in (("plain", None), ("packed", Writer.CompressionFormat.BZ2)):
        place = folder / name
        place.mkdir()
        writer = Writer(place / "tour.bag")
        if compression is not None:
            writer.set_compression(compression)
        with writer:
            connection = writer.add_connection("/camera/image_raw", IMAGE, typestore=store)
            for number in range(3):
                stamp = types["builtin_interfaces/msg/Time"](sec=number, nanosec=0)
                header = types["std_msgs/msg/Header"](seq=number, stamp=stamp, frame_id="camera")
                pixels = make_image(number, height=_SIDES[0], width=_SIDES[1]).reshape(-1)
                fields = {"height": _SIDES[0], "width": _SIDES[1], "encoding": "bgr8", "is_bigendian": 0, "step": 3 * _SIDES[1]}
                message = types[IMAGE](header=header, data=pixels, **fields)
                writer.write(connection, number * 10**9, store.serialize_ros1(message, IMAGE))
        found.append(packed_folder(place))
    return found


def _alone(bag: Path, place: Path, pattern: str) -> Path:
    """The file of a bag without its metadata."""
    place.mkdir()
    (path,) = bag.glob(pattern)
    (place / path.name).write_bytes(path.read_bytes())
    return place


def _of_name(name: str) -> Mutation:
    if name.endswith(".yaml"):
        return damaged_text
    if name.endswith(".db3"):
        return _database
    if name.endswith(".mcap"):
        return _records
    return _ros1_records if name.endswith(".bag") else mutate_bytes


def _database(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A value of a row changed, or the tables; in one case of three the file's bytes."""
    if rng.random() < 0.35:
        return mutate_bytes(data, other, rng)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bag.db3"
        path.write_bytes(data)
        try:
            with contextlib.closing(sqlite3.connect(path)) as connection, connection:
                _alter_rows(connection, other, rng)
        except (sqlite3.Error, UnicodeEncodeError, OverflowError):
            return mutate_bytes(data, other, rng)
        return path.read_bytes()


def _alter_rows(connection: sqlite3.Connection, other: bytes, rng: random.Random) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    table = rng.choice(tables or ["messages"])
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    column, how = rng.choice(columns or ["data"]), rng.random()
    rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
    if how < 0.05:
        connection.execute(f"DROP TABLE {table}")
    elif how < 0.1:
        connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO odd_{column}")
    elif how < 0.15:
        connection.execute(f"DELETE FROM {table}")
    elif rows:
        row, value = rng.choice(rows)
        if isinstance(value, bytes) and rng.random() < 0.9:
            value = altered_record(value, other, rng, order="<")
        elif isinstance(value, str) and len(value) > 40 and rng.random() < 0.8:
            value = damaged_text(value.encode(), other[:2000], rng).decode("latin-1")
        else:
            value = rng.choice((None, rng.choice(TEXTS), rng.choice(NUMBERS), b"", rng.randbytes(9), rng.choice(rows)[1]))
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (value, row))


def _records(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A record of an MCAP file changed: its content, its length, which there are."""
    records, place = [], 8
    while place + 9 <= len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, place)
        records.append((opcode, data[place + 9 : place + 9 + length], length))
        place += 9 + length
    if not records or rng.random() < 0.25:
        return mutate_bytes(data, other, rng)
    at, how = rng.randrange(len(records)), rng.random()
    opcode, content, length = records[at]
    if how < 0.1:
        del records[at]
    elif how < 0.2:
        records.insert(rng.randrange(len(records)), records[at])
    elif how < 0.3:
        stated = rng.choice((*INTEGERS, length + 1, length * 2)) & ((1 << 64) - 1)
        records[at] = (rng.choice((opcode, *range(16), 255)), content, stated)
    elif how < 0.5 and opcode in (3, 6):
        records[at] = (opcode, damaged_text(content, other[:2000], rng), -1)
    else:
        records[at] = (
            opcode,
            altered_record(content, other, rng, order="<"),
            -1,
        )
    packed = (struct.pack("<BQ", code, len(inside) if stated < 0 else stated) + inside for code, inside, stated in records)
    return data[:8] + b"".join(packed) + data[-8:]


def _ros1_records(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """A field of a record of ROS 1 changed, as name=value behind its length."""
    places = [at for name in _ROS1_FIELDS for at in _finds(data, name)]
    if not places or rng.random() < 0.35:
        return mutate_bytes(data, other, rng)
    at = rng.choice(places)
    end = data.index(b"=", at) + 1
    how = rng.randrange(3)
    if how == 0:
        value = struct.pack("<Q", rng.choice(INTEGERS) & ((1 << 64) - 1))[: rng.choice((1, 4, 8))]
        return data[:end] + value + data[end + len(value) :]
    if how == 1:
        return data[: at - 4] + struct.pack("<I", rng.choice(INTEGERS) & 0xFFFFFFFF) + data[at:]
    return data[:at] + rng.choice((b"x", b"=", b"\0", b"conn")) + data[at + 1 :]


def _finds(data: bytes, name: bytes) -> list[int]:
    found, at = [], data.find(name)
    while at >= 4 and len(found) < 50:
        found.append(at)
        at = data.find(name, at + 1)
    return found


TARGETS = tuple(
    Target(f"bags-{name}", "fuzz-media", _open, seeds, in_one_file(_of_name))
    for name, seeds in (("sqlite", _sqlite_seeds), ("mcap", _mcap_seeds), ("ros1", _ros1_seeds))
    if installed("rosbags")
)
