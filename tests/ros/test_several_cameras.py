"""Several cameras on one engine, over DDS: each has its own topics, camera_info, parameters and accounts."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from edge_mtl_ros.outputs import Outputs
from lifecycle_msgs.msg import Transition

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BundleError
from tests.bundles import make_bundle, make_image
from tests.ros import engines_node
from tests.ros.harness import NAME, NodeProcess, Partner, active_partner, array_of, image_message, stamp_ns, wait_until

CAMERAS = ("front", "left")
FRAMES = {"front": make_image(3, height=96, width=128), "left": make_image(5, height=64, width=80)}
ENCODINGS = {"front": "rgb8", "left": "bgr8"}
FOCALS = {"front": 110.0, "left": 70.0}
PARTS = ("published", "dropped", "rejected", "in_flight")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("cameras") / "tiny")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines") / "engines.json"


@pytest.fixture(scope="module")
def node(
    ros_environment: dict[str, str], bundle: Bundle, engines: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NodeProcess]:
    cameras = ("-p", "cameras:=[front, left]", "-p", "stale_after_s:=1.0", "-p", "left.stale_after_s:=2.5")
    process = NodeProcess(
        ros_environment,
        *("-p", f"bundle:={bundle.path}", "-p", "threads:=1", *cameras),
        log=tmp_path_factory.mktemp("cameras-log") / "node.log",
        command=[sys.executable, engines_node.__file__, str(engines)],
    )
    yield process
    assert process.end() == 0, process.text
    assert "internal error" not in process.text


@pytest.fixture
def partner(node: NodeProcess) -> Iterator[Partner]:
    with active_partner(cameras=CAMERAS) as result:
        yield result


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as opened:
        yield opened


def send(partner: Partner, camera: str, *, encoding: str = "") -> int:
    """One image of a camera, with a frame_id of its own; its stamp."""
    stamp, frame = time.time_ns(), FRAMES[camera]
    pixels = frame[..., ::-1] if ENCODINGS[camera] == "bgr8" else frame
    partner.send(pixels, stamp, encoding=encoding or ENCODINGS[camera], frame=f"{camera}_optical", camera=camera)
    return stamp


def send_until(partner: Partner, *topics: str) -> dict[str, Any]:
    """The newest message of each topic, after images of both cameras."""

    def came() -> bool:
        for camera in CAMERAS:
            send(partner, camera)
        time.sleep(0.1)
        return all(partner.received[topic] for topic in topics)

    wait_until(came, f"{', '.join(topics)}; {[partner.values(camera) for camera in CAMERAS]}")
    return {topic: partner.received[topic][-1] for topic in topics}


def test_every_camera_has_the_answers_stamps_frames_and_camera_of_its_own_images(partner: Partner, engine: Engine) -> None:
    maps = ("segmentation", "depth", "normals")
    topics = [f"{camera}/{name}" for camera in CAMERAS for name in (*maps, "camera_info")]
    partner.listen(*topics)
    partner.wait_connected()
    for camera, focal in FOCALS.items():
        height, width = FRAMES[camera].shape[:2]
        partner.send_camera(width, height, focal, camera=camera)
    partner.received.clear()
    sent: dict[str, set[int]] = {camera: set() for camera in CAMERAS}

    def answered() -> bool:
        for camera in CAMERAS:
            sent[camera].add(send(partner, camera))
        time.sleep(0.1)
        return all(len(partner.received[topic]) >= 3 for topic in topics)

    wait_until(answered, "three answers on every topic")
    for camera, frame in FRAMES.items():
        height, width = frame.shape[:2]
        intrinsics = (FOCALS[camera], FOCALS[camera], (width - 1) / 2, (height - 1) / 2)
        expected = engine.predict(frame, intrinsics=intrinsics)
        for name in maps:
            for message in partner.received[f"{camera}/{name}"]:
                assert message.header.frame_id == f"{camera}_optical"
                assert stamp_ns(message) in sent[camera]
                assert (message.height, message.width) == (height, width)
                assert array_of(message).tobytes() == np.ascontiguousarray(getattr(expected, name)).tobytes(), (
                    f"{camera}/{name}"
                )
        for info in partner.received[f"{camera}/camera_info"]:
            assert (info.width, info.height, info.k[0]) == (width, height, pytest.approx(FOCALS[camera]))
            assert stamp_ns(info) in sent[camera]


def test_one_engine_serves_all_cameras(partner: Partner, engines: Path) -> None:
    partner.listen("front/depth", "left/depth")
    partner.wait_connected()
    send_until(partner, "front/depth", "left/depth")
    assert json.loads(engines.read_text()) == {"opened": 1, "open": 1}
    assert sorted(partner.node.count_publishers(f"{NAME}/{name}") for name in ("depth", "segmentation")) == [0, 0]


def test_a_camera_whose_images_cannot_be_used_is_named_while_the_other_goes_on(partner: Partner) -> None:
    partner.listen("front/segmentation", "left/segmentation")
    partner.wait_connected()
    send_until(partner, "front/segmentation", "left/segmentation")
    time.sleep(0.5)
    partner.received.clear()

    def said() -> bool:
        send(partner, "front")
        send(partner, "left", encoding="32FC1")
        time.sleep(0.05)
        return "nothing published" in partner.values("left").get("message", "")

    wait_until(said, "the rejected camera is named")
    left, front = partner.values("left"), partner.values("front")
    assert left["level"] == "1"
    assert left["message"].startswith("left: nothing published for")
    assert "frames rejected, the last as the encoding '32FC1' is none" in left["message"]
    assert "nothing published" not in front["message"]
    assert partner.received["left/segmentation"] == []
    assert partner.received["front/segmentation"]
    assert front["rejected"] == "0"
    time.sleep(1.2)  # nothing is in flight, and that was reported
    of_cameras = [partner.values(camera) for camera in CAMERAS]
    for values in (*of_cameras, partner.values()):
        assert int(values["received"]) == sum(int(values[part]) for part in PARTS)
    for count in ("received", *PARTS, "dropped_replaced"):
        assert int(partner.values()[count]) == sum(int(values[count]) for values in of_cameras), count


def test_a_silent_camera_is_named_by_its_own_limit_while_the_other_goes_on(partner: Partner) -> None:
    partner.listen("front/depth")
    partner.wait_connected()
    for silent, other, limit_s in (("left", "front", 2.5), ("front", "left", 1.0)):

        def seen() -> bool:
            send_until(partner, "front/depth")
            return not any("no image" in partner.values(camera)["message"] for camera in CAMERAS)

        wait_until(seen, "both are seen")
        stopped_s = time.monotonic()

        def named(silent: str = silent, other: str = other) -> bool:
            send(partner, other)
            time.sleep(0.05)
            return (
                partner.values(silent)["message"].startswith(f"{silent}: no image for")
                and partner.values(silent)["level"] == "1"
                and "no image" not in partner.values(other)["message"]
                and "no image" not in partner.values()["message"]
            )

        wait_until(named, f"{silent} is named")
        assert time.monotonic() - stopped_s > limit_s - 0.5  # the last image came a little before


def test_a_parameter_of_one_camera_goes_over_the_nodes_for_that_camera_alone(partner: Partner) -> None:
    partner.listen("front/depth", "left/depth")
    partner.wait_connected()
    assert partner.get("left.stale_after_s") == 2.5
    assert partner.get("front.stale_after_s") is None
    refused = partner.set(**{"left.max_age_s": -1.0})
    assert not refused.successful
    assert "left.max_age_s" in refused.reason
    refused = partner.set(**{"left.rectified": True, "undistort": True})
    assert not refused.successful
    assert "of the camera left: rectified and undistort exclude each other" in refused.reason
    assert not partner.set(**{"left.image_transport": "compressed"}).successful, "given at the start only"
    assert partner.set(**{"left.max_age_s": 1e-6}).successful
    before = send_until(partner, "front/depth")
    wait_until(lambda: send_until(partner, "front/depth") and int(partner.values("left")["dropped_aged"]) > 3, "left is aged")
    assert stamp_ns(partner.received["front/depth"][-1]) > stamp_ns(before["front/depth"])
    assert partner.values("front")["dropped_aged"] == "0"
    assert partner.set(**{"left.max_age_s": 0.0}).successful
    send_until(partner, "left/depth")


def test_a_reload_and_the_lifecycle_act_on_all_cameras(
    partner: Partner, node: NodeProcess, bundle: Bundle, engines: Path, tmp_path: Path
) -> None:
    topics = ("front/segmentation", "left/segmentation")
    partner.listen(*topics)
    partner.wait_connected()
    send_until(partner, *topics)
    other = make_bundle(tmp_path / "other", seed=3, tasks=("segmentation",))
    assert partner.set(bundle=str(other.path)).successful
    answer = partner.reload()
    assert answer.success, answer.message
    assert json.loads(engines.read_text())["open"] == 1
    time.sleep(0.5)
    partner.received.clear()
    with Engine(other, threads=1) as expected:
        found = send_until(partner, *topics)
        for camera, frame in FRAMES.items():
            assert np.array_equal(array_of(found[f"{camera}/segmentation"]), expected.predict(frame).segmentation)
    assert partner.node.count_publishers(f"{NAME}/left/depth") == partner.node.count_publishers(f"{NAME}/front/depth") == 0
    assert partner.change(Transition.TRANSITION_DEACTIVATE)
    time.sleep(0.5)
    partner.received.clear()
    for camera in CAMERAS:
        send(partner, camera)
    time.sleep(0.5)
    assert not any(partner.received[topic] for topic in topics)
    wait_until(lambda: all(partner.values(camera)["message"] == "inactive" for camera in CAMERAS), "both are inactive")
    assert partner.set(bundle=str(bundle.path)).successful
    assert partner.change(Transition.TRANSITION_CLEANUP)
    assert json.loads(engines.read_text())["open"] == 0
    assert partner.change(Transition.TRANSITION_CONFIGURE)
    assert partner.change(Transition.TRANSITION_ACTIVATE)
    partner.wait_connected()
    send_until(partner, *topics)


def test_what_is_given_at_the_start_is_of_one_camera_alone(
    ros_environment: dict[str, str], bundle: Bundle, engine: Engine, tmp_path: Path
) -> None:
    import cv2
    from sensor_msgs.msg import CompressedImage

    from tests.ros.harness import running

    given = ("-p", "cameras:=[front, left]", "-p", "left.image_transport:=compressed", "-p", "left.depth_scale:=2")
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1", *given) as process:
        partner = Partner(cameras=CAMERAS)
        try:
            topics = [f"{camera}/{name}" for camera in CAMERAS for name in ("segmentation", "depth")]
            partner.listen(*topics)
            partner.wait_connected()
            png = cv2.imencode(".png", FRAMES["left"][..., ::-1])[1].tobytes()

            def arrived() -> bool:
                send(partner, "front")
                message = CompressedImage(format="rgb8; png compressed bgr8", data=png)
                message.header = image_message(FRAMES["left"], time.time_ns(), encoding="rgb8").header
                partner.publish_compressed(message, camera="left")
                time.sleep(0.1)
                return all(partner.received[topic] for topic in topics)

            wait_until(arrived, f"answers of both\n{process.text}")
            for camera, frame in FRAMES.items():
                expected = engine.predict(frame)
                assert expected.depth is not None
                segmentation, depth = (array_of(partner.received[f"{camera}/{name}"][0]) for name in ("segmentation", "depth"))
                assert np.array_equal(segmentation, expected.segmentation), camera
                assert np.allclose(depth, expected.depth * (2.0 if camera == "left" else 1.0), equal_nan=True), camera
            wait_until(lambda: partner.values("left").get("depth_factor") == "2", "the factor in the diagnostics")
            assert partner.values("front")["depth_factor"] == "1"
            assert not partner.set(**{"left.depth_scale": 3.0}).successful
        finally:
            partner.close()


def test_a_camera_that_is_called_as_a_topic_of_the_bundle_is_refused(engine: Engine) -> None:
    results = engine.predict(FRAMES["front"]).results
    silent = SimpleNamespace(info=lambda *_, **__: None)
    node = SimpleNamespace(get_fully_qualified_name=lambda: "/perception_node", get_logger=lambda: silent)
    with pytest.raises(BundleError, match=r"should be none of this bundle's topics; found 'normals'\. Change the parameter"):
        Outputs(
            node,  # type: ignore[arg-type]
            results,
            camera="normals",
            bundle="tiny",
            points_labels="",
            points_normals=False,
            encodings=(),
            settings=lambda: None,  # type: ignore[arg-type, return-value]
            on_incompatible=lambda topic, policy: None,
        )
