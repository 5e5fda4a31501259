"""The camera_info that belongs to an image is the nearest by stamp, in whichever order the two were recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rosbags", reason='needs the extra bags: pip install -e ".[bags]"')

from rosbags.rosbag2 import Writer
from rosbags.typesys import Stores, get_typestore

from edge_mtl.bundle import Bundle
from edge_mtl.calibration.source import open_calibration_source
from edge_mtl.engine import Engine
from edge_mtl.metric_scale.bag_topics import paired
from edge_mtl.sources.bags import IMAGE, bag_source
from edge_mtl.sources.camera_pairing import LOOK_AHEAD_NS, MOST_WAITING
from tests.bundles import make_image

MS = 10**6
TOPICS = {"image": ("/camera/image_raw", IMAGE), "camera": ("/camera/camera_info", "sensor_msgs/msg/CameraInfo")}


def written(path: Path, messages: Sequence[tuple[str, int, int, float]]) -> Path:
    """A bag of (what, recorded at ms, stamp in ms or -1 for none, focal length of the camera)."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types, image = store.types, make_image(0)
    height, width = image.shape[:2]
    with Writer(path, version=9) as writer:
        connections = {what: writer.add_connection(topic, kind, typestore=store) for what, (topic, kind) in TOPICS.items()}
        for what, time_ms, stamp_ms, focal in messages:
            stamp_ns = 0 if stamp_ms < 0 else 10**12 + stamp_ms * MS
            stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
            fields = {"header": types["std_msgs/msg/Header"](stamp=stamp, frame_id="camera"), "height": height, "width": width}
            if what == "image":
                data = image.reshape(-1)
                message = types[IMAGE](encoding="rgb8", is_bigendian=0, step=3 * width, data=data, **fields)
            else:
                k = np.array([focal, 0, 47.5, 0, focal, 31.5, 0, 0, 1.0])
                roi = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
                message = types[TOPICS[what][1]](
                    distortion_model="plumb_bob", d=np.zeros(5), k=k, r=np.eye(3).ravel(), p=np.zeros(12), binning_x=0,
                    binning_y=0, roi=roi, **fields,
                )  # fmt: skip
            writer.write(connections[what], 10**12 + time_ms * MS, store.serialize_cdr(message, TOPICS[what][1]))
    return path


def focals(path: Path) -> list[float | None]:
    return [None if frame.intrinsics is None else frame.intrinsics.fx for frame in bag_source(path).frames()]


def test_a_camera_info_recorded_just_after_its_image_is_that_images(tmp_path: Path) -> None:
    messages = []
    for number, focal in enumerate((100.0, 100.0, 200.0)):
        messages += [("image", 100 * number, 100 * number, 0.0), ("camera", 100 * number + 1, 100 * number, focal)]
    assert focals(written(tmp_path / "bag", messages)) == [100.0, 100.0, 200.0]


@pytest.mark.parametrize("first", ["image", "camera"])
def test_where_k_changes_every_frame_has_its_own_also_with_stamps_that_differ_a_little(tmp_path: Path, first: str) -> None:
    messages = []
    for number, focal in enumerate((100.0, 150.0, 200.0)):
        later = {"image": int(first != "image"), "camera": 3 * int(first == "image")}
        for what in sorted(later, key=later.__getitem__):
            time = 100 * number + later[what]
            messages.append((what, time, time, focal))
    assert focals(written(tmp_path / "bag", messages)) == [100.0, 150.0, 200.0]


def test_stamps_decide_and_not_the_order_in_the_recording(tmp_path: Path) -> None:
    messages = [("camera", 0, 0, 100.0), ("camera", 1, 100, 200.0), ("image", 2, 0, 0.0), ("image", 101, 100, 0.0)]
    assert focals(written(tmp_path / "bag", messages)) == [100.0, 200.0]


def test_without_stamps_the_time_of_the_recording_counts(tmp_path: Path) -> None:
    messages = [("image", 0, 0, 0.0), ("camera", 1, -1, 100.0), ("image", 100, 100, 0.0), ("camera", 101, -1, 200.0)]
    assert focals(written(tmp_path / "bag", messages)) == [100.0, 200.0]


def test_a_camera_info_that_comes_once_holds_for_all_later_images(tmp_path: Path) -> None:
    messages = [("camera", 0, 0, 100.0), *(("image", 5000 * number, 5000 * number, 0.0) for number in range(1, 4))]
    assert focals(written(tmp_path / "bag", messages)) == [100.0] * 3


def test_the_look_ahead_is_bounded_in_time_and_images(tmp_path: Path) -> None:
    late = LOOK_AHEAD_NS // MS
    messages = [
        ("image", 0, 0, 0.0),
        ("image", 1, 1, 0.0),
        ("camera", late + 1, late + 1, 100.0),
        ("image", late + 2, late + 2, 0.0),
    ]
    assert focals(written(tmp_path / "late", messages)) == [None, 100.0, 100.0]
    burst = [("image", number, number, 0.0) for number in range(MOST_WAITING + 2)]
    found = focals(written(tmp_path / "burst", [*burst, ("camera", 50, 50, 100.0)]))
    assert found == [None] * 2 + [100.0] * MOST_WAITING


def test_every_reader_of_bags_pairs_alike(tmp_path: Path, tiny_bundle: Bundle) -> None:
    """Calibration, scale and predict; the depth of the first frame is the one that its camera gives."""
    path = written(tmp_path / "bag", [("image", 0, 0, 0.0), ("camera", 1, 0, 240.0)])
    source = bag_source(path)
    frames = [
        *source.frames(),
        *open_calibration_source(path).frames(),
        *(pair.frame for pair in paired(source, TOPICS["image"][0], IMAGE)),
    ]
    assert [frame.intrinsics.fx for frame in frames if frame.intrinsics] == [240.0] * 3
    with Engine(tiny_bundle, threads=1) as engine:
        assert not engine.predict(frames[0].pixels, intrinsics=frames[0].intrinsics).intrinsics_assumed
