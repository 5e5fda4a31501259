"""One topic that rosbags cannot understand does not cost the others: it is left out by name, and asking for it says why."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason='needs the extra bags: pip install -e ".[bags]"')

from rosbags.typesys import Stores, get_typestore
from ruamel.yaml import YAML

from edge_mtl.bundle import Bundle
from edge_mtl.errors import FrameError
from edge_mtl.metric_scale.bag_topics import SCAN, paired
from edge_mtl.sources.bags import bag_source
from tests.bag_files import CAMERA_TOPIC, IMAGE_TOPIC, Beside, read_bag, write_bag
from tests.bundles import make_image
from tests.command_line import edge_mtl
from tests.mcap_files import McapChannel, write_mcap

STORE = get_typestore(Stores.ROS2_HUMBLE)
EQUALS = "=" * 80 + "\n"
ODD = "/odd"
SERVICE = f"{EQUALS}SRV: example_interfaces/srv/AddTwoInts\nint64 a\nint64 b\n---\nint64 sum\n".encode()
"""As rosbag2 of Jazzy stores it for service events."""
ODD_CHANNELS = {
    "protobuf": (
        McapChannel(ODD, "protobuf", ("foxglove.Log", "protobuf", b"\n\xb6\xff\x01\x80"), [(1, b"\x08\x96")]),
        "protobuf",
    ),
    "json": (McapChannel(ODD, "json", ("Size", "jsonschema", b'{"type": "object"}'), [(1, b'{"a": 1}')]), "json"),
    "service events": (
        McapChannel(ODD, "cdr", ("example_interfaces/srv/AddTwoInts_Event", "ros2msg", SERVICE), [(1, b"\0\1\0\0")]),
        "of a service",
    ),
    "wstring": (McapChannel(ODD, "cdr", ("a_msgs/msg/Wide", "ros2msg", b"wstring text\n"), [(1, b"\0\1\0\0")]), "wstring"),
    "unfinished definition": (
        McapChannel(ODD, "cdr", ("a_msgs/msg/Half", "ros2msg", b"float64 [\n"), [(1, b"\0\1\0\0")]),
        "a_msgs",
    ),
}


def image_channel(tmp_path: Path, count: int = 3) -> tuple[McapChannel, McapChannel]:
    """Images and their camera as rosbags writes them."""
    bag = write_bag(tmp_path / "written", [make_image(index) for index in range(count)], focal=120.0)
    recorded = read_bag(bag)
    channels = []
    for topic, kind in ((IMAGE_TOPIC, "sensor_msgs/msg/Image"), (CAMERA_TOPIC, "sensor_msgs/msg/CameraInfo")):
        text, _ = STORE.generate_msgdef(kind, ros_version=2)
        channels.append(
            McapChannel(topic, "cdr", (kind, "ros2msg", text.encode()), [(m.time_ns, m.raw) for m in recorded[topic]])
        )
    return channels[0], channels[1]


@pytest.mark.parametrize("profile", ["ros2", ""])
@pytest.mark.parametrize("summary", ["whole", "definitions", "nothing"])
@pytest.mark.parametrize("odd", list(ODD_CHANNELS))
def test_an_odd_channel_of_an_mcap_is_left_out_by_name_and_the_rest_is_read(
    tmp_path: Path, odd: str, summary: str, profile: str
) -> None:
    channel, why = ODD_CHANNELS[odd]
    path = write_mcap(tmp_path / "tour.mcap", [channel, *image_channel(tmp_path)], profile=profile, summary=summary)
    before = path.read_bytes()
    source = bag_source(path)
    frames = list(source.frames())
    assert [np.array_equal(frame.pixels, make_image(index)) for index, frame in enumerate(frames)] == [True] * 3
    assert [frame.intrinsics is not None for frame in frames] == [True] * 3
    assert list(source.left_out) == [ODD]
    assert why in source.left_out[ODD]
    for asked in ({"topic": ODD}, {"camera_info": ODD}):
        with pytest.raises(FrameError, match=f"{ODD} cannot be read: .*{why}"):
            bag_source(path, **asked)  # type: ignore[arg-type]
    with pytest.raises(FrameError, match=f"{ODD} cannot be read: .*{why}"):
        list(paired(source, ODD, SCAN))
    assert path.read_bytes() == before


def test_a_bag_of_odd_topics_only_says_why_none_can_be_read(tmp_path: Path) -> None:
    channel, why = ODD_CHANNELS["protobuf"]
    with pytest.raises(FrameError, match=f"has no images: .*{ODD}: .*{why}"):
        bag_source(write_mcap(tmp_path / "tour.mcap", [channel]))


def with_chatter(tmp_path: Path, storage: str) -> Path:
    """A bag with a topic of strings beside the images."""

    def chatter(types: Any, header: Any, index: int) -> Any:
        return types["std_msgs/msg/String"](data="hello")

    beside = {ODD: Beside("std_msgs/msg/String", chatter)}
    return write_bag(tmp_path / "bag", [make_image(0), make_image(1)], storage=storage, focal=120.0, beside=beside)


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_topic_that_is_not_cdr_by_the_metadata_of_a_folder_is_left_out(tmp_path: Path, storage: str) -> None:
    bag = with_chatter(tmp_path, storage)
    change_topics(bag, serialization_format="protobuf")
    source = bag_source(bag)
    assert len(list(source.frames())) == 2
    assert source.left_out == {ODD: "its messages are protobuf, not CDR"}


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_type_whose_hash_does_not_fit_is_left_out(tmp_path: Path, storage: str) -> None:
    bag = with_chatter(tmp_path, storage)
    change_topics(bag, type_description_hash="RIHS01_" + "0" * 64)
    if storage == "sqlite3":
        with closing(sqlite3.connect(next(bag.glob("*.db3")))) as connection, connection:
            connection.execute("UPDATE topics SET type_description_hash = ? WHERE name = ?", ("RIHS01_" + "0" * 64, ODD))
    source = bag_source(bag)
    assert len(list(source.frames())) == 2
    assert "hash" in source.left_out[ODD]


def test_a_definition_that_the_recorder_did_not_find_costs_nothing_but_its_topic(tmp_path: Path) -> None:
    bag = with_chatter(tmp_path, "sqlite3")
    change_topics(bag, type="a_msgs/msg/Unfound")
    with closing(sqlite3.connect(next(bag.glob("*.db3")))) as connection, connection:
        connection.execute("UPDATE topics SET type = 'a_msgs/msg/Unfound' WHERE name = ?", (ODD,))
        change = "UPDATE message_definitions SET encoding = 'unknown', encoded_message_definition = '', topic_type = ? "
        connection.execute(f"{change} WHERE topic_type = ?", ("a_msgs/msg/Unfound", "std_msgs/msg/String"))
    for path in (bag, next(bag.glob("*.db3"))):
        source = bag_source(path)
        assert len(list(source.frames())) == 2
        assert source.left_out == {ODD: "its type a_msgs/msg/Unfound was not known to the recorder"}


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_bag_reindexed_without_the_name_of_its_storage_is_read(tmp_path: Path, storage: str) -> None:
    bag = with_chatter(tmp_path, storage)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace(f"storage_identifier: {storage}", 'storage_identifier: ""'))
    assert 'storage_identifier: ""' in metadata.read_text()
    assert len(list(bag_source(bag).frames())) == 2


def test_predict_says_once_what_it_leaves_out_and_writes_the_rest(tiny_bundle: Bundle, tmp_path: Path) -> None:
    channel, why = ODD_CHANNELS["wstring"]
    path = write_mcap(tmp_path / "tour.mcap", [channel, *image_channel(tmp_path, 2)])
    found = edge_mtl("predict", str(path), "--bundle", str(tiny_bundle.path), "--threads", "1", "--out", str(tmp_path / "maps"))
    assert found.code == 0, found.err
    text = " ".join(found.err.split())
    assert text.count(f"left out: {ODD}: ") == 1
    assert why in text
    assert set(read_bag(tmp_path / "maps")) >= {IMAGE_TOPIC, CAMERA_TOPIC, "/edge_mtl/depth"}
    assert ODD not in read_bag(tmp_path / "maps")


def change_topics(bag: Path, **changed: str) -> None:
    """Change what metadata.yaml says of the odd topic."""
    metadata = bag / "metadata.yaml"
    content = YAML(typ="safe").load(metadata.read_text())
    for topic in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
        if topic["topic_metadata"]["name"] == ODD:
            topic["topic_metadata"].update(changed)
    with metadata.open("w") as file:
        YAML(typ="safe").dump(content, file)
