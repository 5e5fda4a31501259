"""`edge-mtl predict` of bags of both storages, written by rosbags: they come back with maps and all that was recorded."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rosbags", reason='needs the extra bags: pip install "edge-mtl[bags]"')

from rosbags.highlevel import AnyReader
from rosbags.typesys import Stores, get_typestore

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.ros import camera_of
from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.bag_files import CAMERA_TOPIC, IMAGE_TOPIC, read_bag, without_definitions, write_bag
from tests.bundles import make_image
from tests.command_line import assert_failed, edge_mtl
from tests.mapless_bundles import mapless_bundle


def run(*arguments: str) -> tuple[int, str, str]:
    outcome = edge_mtl("predict", *arguments)
    return outcome.code, outcome.out, outcome.err


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_maps_have_the_stamps_of_their_images_and_the_recording_is_unchanged(
    storage: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    frames = [make_image(index) for index in range(4)]
    bag = write_bag(tmp_path / "tour", frames, storage=storage, focal=120.0)
    code, out, _ = run(str(bag), "--bundle", str(tiny_bundle.path), "--files", "bag", "--json", "--threads", "1")
    assert code == 0
    assert [json.loads(line)["intrinsics_assumed"] for line in out.splitlines()] == [False] * 4
    recorded, annotated = read_bag(bag), read_bag(tmp_path / "tour-maps")
    assert {topic: annotated[topic] for topic in recorded} == recorded
    assert any((tmp_path / "tour-maps").glob("*.mcap" if storage == "mcap" else "*.db3"))
    with Engine(tiny_bundle, threads=1) as engine:
        for frame, image, *maps in zip(
            frames,
            recorded[IMAGE_TOPIC],
            *(annotated[f"/edge_mtl/{name}"] for name in ("segmentation", "depth", "normals")),
            strict=True,
        ):
            expected = engine.predict(frame, intrinsics=(120.0, 120.0, 47.5, 31.5))
            for message, values in zip(maps, (expected.segmentation, expected.depth, expected.normals), strict=True):
                assert message.time_ns == image.time_ns
                assert (message.stamp_ns, message.frame_id) == (image.stamp_ns, "camera")
                assert message.data == values.tobytes()
    classes = json.loads(annotated["/edge_mtl/labels_json"][0].data)["classes"]
    assert classes[0] == {"id": 0, "name": "bed", "color": [0, 0, 255]}


def test_boxes_and_the_class_of_a_frame_are_in_the_bag_as_messages_of_vision_msgs(tmp_path: Path) -> None:
    bundle = mapless_bundle(tmp_path / "b", tasks=("objects", "scene", "depth"), evaluation=0)
    frames = [make_image(index) for index in range(3)]
    bag = write_bag(tmp_path / "tour", frames, focal=120.0)
    engine_options = ("--backend", "onnxruntime", "--precision", "fp32", "--threads", "1")
    code, out, err = run(str(bag), "--bundle", str(bundle.path), "--files", "bag", "--json", *engine_options)
    assert code == 0, err
    told = [json.loads(line)["results"] for line in out.splitlines()]
    with AnyReader([tmp_path / "tour-maps"]) as reader:
        found: dict[str, list[Any]] = {}
        for connection, _, raw in reader.messages():
            found.setdefault(connection.topic, []).append(reader.deserialize(raw, connection.msgtype))
    assert [json.loads(message.data) for message in found["/edge_mtl/scene/json"]] == [one["scene"] for one in told]
    assert [json.loads(message.data) for message in found["/edge_mtl/objects/json"]] == [one["objects"] for one in told]
    for task in ("objects", "scene"):
        (message,) = found[f"/edge_mtl/{task}/labels_json"]
        own = bundle.manifest.tasks[task].classes  # type: ignore[attr-defined]
        assert json.loads(message.data)["classes"] == [{"id": index, "name": name} for index, name in enumerate(own)]
    classes = [one["name"] for one in json.loads(found["/edge_mtl/scene/labels_json"][0].data)["classes"]]
    for message, image, one in zip(found["/edge_mtl/scene"], found[IMAGE_TOPIC], told, strict=True):
        assert message.header == image.header
        assert classes[int(message.results[0].class_id)] == one["scene"]["class"]
    with Engine(bundle, backend="onnxruntime", precision="fp32", threads=1) as engine:
        for message, frame, image in zip(found["/edge_mtl/objects"], frames, found[IMAGE_TOPIC], strict=True):
            expected = engine.predict(frame, intrinsics=(120.0, 120.0, 47.5, 31.5))
            assert expected.depth is not None
            assert message.header == image.header
            centres = expected.boxes_3d().centres
            places = [detection.results[0].pose.pose.position for detection in message.detections]
            np.testing.assert_allclose([[place.x, place.y, place.z] for place in places], centres.tolist(), rtol=1e-5)
            assert [int(one.results[0].hypothesis.class_id) for one in message.detections] == expected[
                "objects"
            ].classes.tolist()
    assert any(message.detections for message in found["/edge_mtl/objects"])


@pytest.mark.parametrize("finished", [False, True])
def test_what_a_killed_annotation_left_is_swept_by_the_next_one_also_by_one_that_is_refused(
    tiny_bundle: Bundle, tmp_path: Path, finished: bool
) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(1)], focal=120.0)
    target, dead = tmp_path / "tour-maps", tmp_path / f"{TEMPORARY_PREFIX}tour-maps.dead"
    dead.mkdir()
    if finished:  # killed after the bag had its name
        target.mkdir()
    code, _, _ = run(str(bag), "--bundle", str(tiny_bundle.path), "--files", "bag", "--out", str(target), "--threads", "1")
    assert code == (74 if finished else 0)
    assert sorted(tmp_path.iterdir()) == [bag, target]


def test_a_damaged_image_is_named_and_left_out(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1), make_image(2)], broken=1)
    code, _, err = run(str(bag), "--bundle", str(tiny_bundle.path), "--out", str(tmp_path / "out"))
    assert code == 0
    assert "skipped: 000001-" in err
    assert len(read_bag(tmp_path / "out")["/edge_mtl/depth"]) == 2


def test_without_camera_info_depth_is_said_to_be_unscaled(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0)])
    code, _, err = run(str(bag), "--bundle", str(tiny_bundle.path), "--limit", "1", "--stability", "--storage", "mcap")
    assert code == 0
    assert "right only up to a factor" in err
    assert any((tmp_path / "tour-maps").glob("*.mcap"))


def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the default is the folder "out" here
    bag = write_bag(tmp_path / "tour", [make_image(0)])
    seen = write_bag(tmp_path / "seen", [make_image(0)], focal=120.0)
    all_broken = write_bag(tmp_path / "broken", [make_image(0)], broken=0)
    (tmp_path / "there").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.bag").write_bytes(b"#ROSBAG V2.0\n")
    bundle = ("--bundle", str(tiny_bundle.path))
    cases: list[tuple[tuple[str, ...], int, str]] = [
        ((str(tmp_path / "nowhere"), "--files", "bag"), 6, "not a readable ROS 2 bag"),
        ((str(tmp_path / "empty"), "--files", "bag"), 6, "not a readable ROS 2 bag"),
        ((str(tmp_path / "old.bag"),), 6, "rosbags-convert"),
        ((str(bag), "--topic", "/other"), 6, f"found {IMAGE_TOPIC}"),
        ((str(bag), "--camera-info", "/other"), 6, "no camera_info on /other; found none"),
        ((str(seen), "--camera-info", "/camera/info"), 6, f"found {CAMERA_TOPIC}"),
        ((str(bag), "--out", str(tmp_path / "there")), 74, "--out"),
        ((str(bag), "--storage", "tape"), 2, "tape"),
        ((str(all_broken),), 6, f"None of the 1 images on {IMAGE_TOPIC}"),
    ]
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, expected, said in cases:
        code, _, err = run(*arguments, *bundle)
        errors = [line for line in err.splitlines() if line.startswith("error:")]
        assert (code, len(errors)) == (expected, 1), err
        assert said in errors[0]
        assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_bag_without_rosbags_names_the_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0)])
    monkeypatch.setitem(sys.modules, "rosbags.rosbag2", None)
    code, _, err = run(str(bag))
    assert code == 5
    assert "--no-deps rosbags" in err


def test_depth_of_another_camera_size_is_scaled(tiny_bundle: Bundle, tmp_path: Path) -> None:
    frame = make_image(3)
    bag = write_bag(tmp_path / "tour", [frame], focal=240.0, camera_scale=2)
    assert run(str(bag), "--bundle", str(tiny_bundle.path), "--threads", "1")[0] == 0
    depth = np.frombuffer(read_bag(tmp_path / "tour-maps")["/edge_mtl/depth"][0].data, np.float32)
    with Engine(tiny_bundle, threads=1) as engine:
        known = engine.predict(frame, intrinsics=(120.0, 120.0, 47.75, 31.75)).depth
    assert np.allclose(depth, known.ravel(), rtol=1e-5)


def test_a_topic_whose_type_nobody_defines_is_left_out_and_the_rest_copied(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1)], focal=120.0)
    recorded = read_bag(bag)
    kind = "realsense2_camera_msgs/msg/Extrinsics"
    code, _, err = run(str(without_definitions(bag, foreign=CAMERA_TOPIC, kind=kind)), "--bundle", str(tiny_bundle.path))
    assert code == 0, err
    assert f"left out: {CAMERA_TOPIC}: the bag does not define its type {kind}." in err
    annotated = read_bag(tmp_path / "tour-maps")
    assert CAMERA_TOPIC not in annotated
    assert annotated[IMAGE_TOPIC] == recorded[IMAGE_TOPIC]
    assert len(annotated["/edge_mtl/depth"]) == 2


def test_maps_of_an_earlier_run_are_replaced(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1)], focal=120.0)
    assert run(str(bag), "--bundle", str(tiny_bundle.path), "--threads", "1")[0] == 0
    code, _, err = run(str(tmp_path / "tour-maps"), "--bundle", str(tiny_bundle.path), "--threads", "1")
    assert code == 0, err
    assert "left out: /edge_mtl/depth: it is of an earlier run" in err
    assert read_bag(tmp_path / "tour-maps-maps") == read_bag(tmp_path / "tour-maps")


def test_a_damaged_camera_info_is_named_and_the_one_before_is_kept(tiny_bundle: Bundle, tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1)], focal=120.0, broken_camera=1)
    code, out, err = run(str(bag), "--bundle", str(tiny_bundle.path), "--files", "bag", "--json")
    assert code == 0, err
    assert "skipped: camera_info at" in err
    assert [json.loads(line)["intrinsics_assumed"] for line in out.splitlines()] == [False] * 2


BENT = {"d": np.array([-0.3, 0.1, 0.0, 0.0, 0.0])}


@pytest.mark.parametrize(
    ("fields", "options", "said"),
    [
        (BENT, (), "2 frames are taken for a pinhole camera's: the lens (plumb_bob) displaces the worst corner by"),
        (BENT, ("--rectified",), ""),
        (BENT, ("--intrinsics", "100,100,47.5,31.5"), ""),
        ({"d": np.zeros(5)}, (), ""),
        ({"d": np.zeros(4), "distortion_model": "equidistant"}, (), "the lens (equidistant) displaces"),
        ({"distortion_model": "double_sphere"}, (), "the lens is not known"),
    ],
)
def test_frames_of_a_lens_that_distorts_are_said_to_be_taken_for_a_pinhole_cameras(
    tiny_bundle: Bundle, tmp_path: Path, fields: dict[str, Any], options: tuple[str, ...], said: str
) -> None:
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1)], focal=70.0, camera_fields=fields)
    code, _, err = run(str(bag), "--bundle", str(tiny_bundle.path), "--threads", "1", *options)
    assert code == 0, err
    text = " ".join(err.split())
    assert said in text
    assert ("the lens" in text) is bool(said)
    assert ("give --rectified" in text) is bool(said)


def test_the_folder_one_stands_in_is_a_bag_like_any(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_bag(tmp_path / "tour", [make_image(0)]))
    code, _, err = run(".", "--bundle", str(tiny_bundle.path.resolve()))
    assert code == 0, err
    assert IMAGE_TOPIC in read_bag(tmp_path / "tour-maps")


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({"binning_x": 2, "binning_y": 2, "width": 192, "height": 128}, (), (60.0, 60.0, 23.75, 15.75)),
        ({"roi": (10, 6, 96, 64), "width": 192, "height": 128}, (), (120.0, 120.0, 37.5, 25.5)),
        (
            {"roi": (10, 6, 192, 128), "binning_x": 2, "binning_y": 2, "width": 384, "height": 256},
            (),
            (60.0, 60.0, 18.75, 12.75),
        ),
        ({"p": np.array([90.0, 0, 40, 0, 0, 91, 30, 0, 0, 0, 1, 0])}, ("--rectified",), (90.0, 91.0, 40.0, 30.0)),
        ({"k": np.zeros(9)}, (), None),
        ({"k": np.array([np.inf, 0, 47.5, 0, 120, 31.5, 0, 0, 1])}, (), None),
        ({"width": 96, "height": 80}, (), None),
        ({"roi": (10, 6, 72, 48), "width": 192, "height": 128}, (), None),
        ({"binning_x": 2, "binning_y": 2}, (), None),
        ({"k": np.array([396.0, 0, 158, 0, 396, 105, 0, 0, 1])}, (), None),
    ],
)
def test_depth_is_scaled_by_the_camera_that_the_node_would_use(
    tiny_bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fields: dict[str, Any],
    options: tuple[str, ...],
    expected: tuple[float, float, float, float] | None,
) -> None:
    frame = make_image(3)
    bag = write_bag(tmp_path / "tour", [frame], focal=120.0, camera_fields=fields)
    assert run(str(bag), "--bundle", str(tiny_bundle.path), "--threads", "1", *options)[0] == 0
    with Engine(tiny_bundle, threads=1) as engine:
        known = engine.predict(frame, intrinsics=expected).depth
    assert read_bag(tmp_path / "tour-maps")["/edge_mtl/depth"][0].data == known.tobytes()
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[4] / "ros2_ws" / "src" / "edge_mtl"))
    cameras = pytest.importorskip("edge_mtl_ros.cameras")
    keeper = cameras.CameraKeeper()
    keeper.put(camera_of(recorded_camera(bag)))
    of_node = keeper.of_image(frame.shape[:2], rectified="--rectified" in options, undistort=False).intrinsics
    assert (None if of_node is None else of_node.as_tuple()) == expected


def test_why_a_camera_info_is_not_taken_is_said(tiny_bundle: Bundle, tmp_path: Path) -> None:
    k = np.array([396.0, 0, 158, 0, 396, 105, 0, 0, 1])
    bag = write_bag(tmp_path / "tour", [make_image(0), make_image(1)], focal=120.0, camera_fields={"k": k})
    code, _, err = run(str(bag), "--bundle", str(tiny_bundle.path), "--threads", "1")
    assert code == 0, err
    text = " ".join(err.split())
    assert text.count("depth is unscaled: camera_info holds no camera of its images: the principal point") == 1
    assert "2 frames had no camera_info that fits" in text


def recorded_camera(bag: Path) -> Any:
    store = get_typestore(Stores.ROS2_HUMBLE)
    return store.deserialize_cdr(read_bag(bag)[CAMERA_TOPIC][0].raw, "sensor_msgs/msg/CameraInfo")


def test_a_bag_that_grows_beyond_what_the_system_allows_is_an_error_of_the_system(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """SQLite says "disk I/O error" of whatever a system refuses."""
    bag = write_bag(tmp_path / "tour", [make_image(index) for index in range(3)], storage="sqlite3", focal=120.0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        outcome = edge_mtl("predict", bag, "--bundle", tiny_bundle.path, "--files", "bag", "--threads", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_failed(outcome, 74, "tour-maps cannot be written (disk I/O error)", "ulimit -f")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tour"]
