"""What the node promises its users, in two processes over DDS: headers, encodings, cameras, labels, diagnostics, reload."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.errors import EdgeMtlError
from tests.bundles import canonical_intrinsics, make_bundle, make_image
from tests.encodings import encoded
from tests.ros.harness import (
    NAME,
    NodeProcess,
    Partner,
    active_partner,
    array_of,
    camera_message,
    image_message,
    stamp_ns,
    wait_until,
)

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("node") / "tiny")


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    log = tmp_path_factory.mktemp("node-log") / "node.log"
    process = NodeProcess(ros_environment, "-p", f"bundle:={bundle.path}", "-p", "threads:=1", log=log)
    yield process
    assert process.end() == 0, process.text


@pytest.fixture
def partner(node: NodeProcess) -> Iterator[Partner]:
    with active_partner() as result:
        yield result


@pytest.fixture(scope="module")
def engine(bundle: Bundle) -> Iterator[Engine]:
    with Engine(bundle, threads=1) as opened:
        yield opened


def test_maps_carry_the_stamp_and_frame_of_their_image_and_what_the_engine_predicts(partner: Partner, engine: Engine) -> None:
    partner.listen("segmentation", "depth", "normals", "confidence", "segmentation/color", "normals/color")
    partner.wait_connected()
    frame = make_image(3, height=HEIGHT, width=WIDTH)
    partner.send_until("normals/color", frame, frame="camera_optical")
    expected = engine.predict(frame)
    for name in ("segmentation", "depth", "normals", "confidence", "segmentation/color", "normals/color"):
        message = wait_until(lambda name=name: partner.received[name], name)[0]
        assert message.header.frame_id == "camera_optical"
        assert stamp_ns(message) == stamp_ns(partner.received["segmentation"][0])
        assert (message.height, message.width) == (HEIGHT, WIDTH)
        assert message.step * message.height == len(message.data)
    assert np.array_equal(array_of(partner.received["segmentation"][0]), expected.segmentation)
    assert np.array_equal(array_of(partner.received["depth"][0]), expected.depth, equal_nan=True)
    assert np.array_equal(array_of(partner.received["normals"][0]), expected.normals, equal_nan=True)
    found = array_of(partner.received["confidence"][0])
    assert np.abs(found - expected.confidence * 255.0).max() <= 0.51


@pytest.mark.parametrize(
    "encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuv422", "yuv422_yuy2", "nv12", "bayer_rggb8", "rgb16", "mono16"]
)
def test_every_encoding_gives_the_maps_of_its_image(partner: Partner, engine: Engine, encoding: str) -> None:
    from edge_mtl.ros import decode_image

    partner.listen("segmentation")
    partner.wait_connected()
    raw, rgb = encoded(encoding, make_image(5, height=HEIGHT, width=WIDTH))
    message = partner.send_until("segmentation", raw, encoding=encoding)[0]
    sent = image_message(raw, 0, encoding=encoding)
    pixels, channels = decode_image(encoding, sent.height, sent.width, sent.step, sent.data)
    assert np.array_equal(array_of(message), engine.predict(pixels, channels=channels).segmentation)
    if not encoding.startswith("bayer"):
        assert (array_of(message) == engine.predict(rgb).segmentation).mean() > 0.9  # YUV loses colour resolution


def test_rows_may_be_padded(partner: Partner, engine: Engine) -> None:
    partner.listen("segmentation")
    partner.wait_connected()
    frame = make_image(6, height=HEIGHT, width=WIDTH)
    message = partner.send_until("segmentation", frame, step=WIDTH * 3 + 64)[0]
    assert np.array_equal(array_of(message), engine.predict(frame).segmentation)


def test_a_bad_frame_is_rejected_and_the_next_good_one_works(partner: Partner) -> None:
    partner.listen("segmentation")
    partner.wait_connected()
    frame = make_image(8, height=HEIGHT, width=WIDTH)
    before = int(wait_until(lambda: partner.values().get("rejected"), "diagnostics"))
    bad = [
        image_message(frame, time.time_ns(), encoding="32FC1"),
        image_message(frame, time.time_ns() + 1, encoding="rgba8"),
        image_message(frame[:0], time.time_ns() + 2, encoding="rgb8"),
    ]
    bad[2].width = WIDTH
    for message in bad:
        partner.images.publish(message)
        time.sleep(0.3)
    wait_until(lambda: int(partner.values()["rejected"]) == before + 3, "three rejections")
    assert partner.send_until("segmentation", frame)


def test_depth_is_scaled_by_the_camera_in_use_and_camera_info_goes_out_with_the_same_stamp(
    partner: Partner, engine: Engine
) -> None:
    partner.listen("depth", "camera_info")
    partner.wait_connected()
    frame = make_image(9, height=HEIGHT, width=WIDTH)
    focal = canonical_intrinsics()[0] * 2
    wait_until(partner.values, "diagnostics")
    wait_until(partner.cameras.get_subscription_count, "the node listens to camera_info")
    partner.cameras.publish(camera_message(WIDTH * 2, HEIGHT * 2, focal * 2))  # of images twice as large
    wait_until(lambda: f"camera_info, fx {focal:.1f} px" in _sent(partner, frame)["depth_scale"], "the camera is in use")
    partner.received.clear()
    depth = partner.send_until("depth", frame)[0]
    info = wait_until(lambda: partner.received["camera_info"], "camera_info")[0]
    assert stamp_ns(info) == stamp_ns(depth)
    assert (info.width, info.height, info.k[0]) == (WIDTH, HEIGHT, pytest.approx(focal))
    intrinsics = (info.k[0], info.k[4], info.k[2], info.k[5])
    assert np.allclose(array_of(depth), engine.predict(frame, intrinsics=intrinsics).depth, equal_nan=True)


def _sent(partner: Partner, frame: np.ndarray) -> dict[str, str]:
    partner.send(frame, time.time_ns())
    time.sleep(0.1)
    return partner.values()


def test_a_late_joiner_gets_the_labels(partner: Partner) -> None:
    partner.listen("labels_json", latched=True)
    content = json.loads(wait_until(lambda: partner.received["labels_json"], "the labels")[0].data)
    assert content["unlabelled"] == 255
    assert [entry["name"] for entry in content["classes"]][:2] == ["bed", "books"]


def test_a_subscriber_with_an_incompatible_qos_is_reported(partner: Partner) -> None:
    partner.listen("depth", transient=True)  # the maps are volatile
    wait_until(lambda: "DURABILITY" in partner.values().get("message", ""), "a report of the mismatch")
    assert "~/depth" in partner.values()["message"]
    time.sleep(3.5)  # longer than a report is believed without a look
    assert "~/depth" in partner.values()["message"]
    partner.forget()
    wait_until(lambda: "DURABILITY" not in partner.values()["message"], "the end of the report")


def test_a_camera_that_offers_less_than_is_asked_for_is_reported(
    ros_environment: dict[str, str], bundle: Bundle, tmp_path: Path
) -> None:
    from rclpy.qos import QoSProfile, QoSReliabilityPolicy
    from sensor_msgs.msg import Image

    from tests.ros.harness import running

    arguments = ("-p", f"bundle:={bundle.path}", "-p", "threads:=1", "-r", "__node:=strict", "-r", "image:=/strict/image")
    asked = ("-p", "qos_overrides./strict/image.subscription.reliability:=reliable")
    with running(ros_environment, tmp_path / "log", *arguments, *asked) as node:
        partner = Partner()
        try:
            offered = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
            partner.node.create_publisher(Image, "/strict/image", offered)
            node.wait_for_text("/strict/image: the other side has another QoS")
            wait_until(lambda: any("/strict/image" in status.message for status in partner.diagnostics), "a report")
        finally:
            partner.close()


def test_without_subscribers_nothing_is_predicted_and_every_frame_is_accounted_for(partner: Partner) -> None:
    time.sleep(1.2)  # the subscriptions of the test before are gone
    before = wait_until(partner.values, "diagnostics")
    frame = make_image(10, height=HEIGHT, width=WIDTH)
    for _ in range(10):
        partner.send(frame, time.time_ns())
        time.sleep(0.05)
    wait_until(
        lambda: int(partner.values()["dropped_unsubscribed"]) > int(before["dropped_unsubscribed"]), "unsubscribed drops"
    )
    time.sleep(1.2)
    assert partner.values()["published"] == before["published"]
    _exact(partner.values())


def _exact(values: dict[str, str]) -> None:
    parts = ("published", "dropped", "rejected", "in_flight")
    assert int(values["received"]) == sum(int(values[part]) for part in parts)


def test_points_are_aligned_with_the_mask(partner: Partner) -> None:
    assert partner.set(points=True, points_rate_hz=0.0).successful
    partner.listen("points", "segmentation", "depth")
    partner.wait_connected()
    partner.send_camera(WIDTH, HEIGHT, 100.0)
    partner.send_until("points", make_image(11, height=HEIGHT, width=WIDTH))
    cloud = partner.received["points"][0]
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    offsets = {field.name: field.offset for field in cloud.fields}
    raw = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, cloud.point_step)
    label = raw[..., offsets["label"]]
    z = raw[..., offsets["z"] : offsets["z"] + 4].copy().view(np.float32)[..., 0]
    mask = wait_until(lambda: [m for m in partner.received["segmentation"] if m.header == cloud.header], "the mask")[0]
    depth = wait_until(lambda: [m for m in partner.received["depth"] if m.header == cloud.header], "the depth")[0]
    assert np.array_equal(label, array_of(mask))
    assert np.array_equal(z, array_of(depth), equal_nan=True)
    assert partner.set(points=False).successful


def test_a_scale_of_depth_takes_effect_at_a_reload_and_diagnostics_say_it(partner: Partner) -> None:
    partner.listen("depth", "points")
    partner.wait_connected()
    frame = make_image(21, height=HEIGHT, width=WIDTH)
    partner.send_camera(WIDTH, HEIGHT, 100.0)
    plain = array_of(partner.send_until("depth", frame)[-1])
    assert not partner.set(depth_scale=40.0).successful
    assert not partner.set(depth_scale="far").successful
    assert partner.set(depth_scale=1.28, points=True, points_rate_hz=0.0).successful
    try:
        assert partner.reload().success
        wait_until(lambda: partner.values().get("depth_factor") == "1.28", "the factor in the diagnostics")
        partner.received.clear()
        partner.send_until("points", frame)
        cloud = partner.received["points"][-1]
        depth = wait_until(lambda: [m for m in partner.received["depth"] if m.header == cloud.header], "the depth")[0]
        assert np.allclose(array_of(depth), 1.28 * plain, rtol=1e-5, equal_nan=True)
        offset = next(field.offset for field in cloud.fields if field.name == "z")
        raw = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, cloud.point_step)
        z = raw[..., offset : offset + 4].copy().view(np.float32)[..., 0]
        assert np.array_equal(z, array_of(depth), equal_nan=True)
        assert partner.set(depth_scale="missing.json").successful
        refused = partner.reload()
        assert not refused.success
        assert "missing.json" in refused.message
        assert partner.get("depth_scale") == 1.28, "the parameter goes back with the engine that runs"
    finally:
        assert partner.set(depth_scale="", points=False, points_rate_hz=5.0).successful
        assert partner.reload().success
    wait_until(lambda: partner.values().get("depth_factor") == "1", "the factor is gone")


def test_parameters_are_changed_together_or_not_at_all(partner: Partner) -> None:
    refused = partner.set(stability=True, latency_budget_ms=-5.0)
    assert not refused.successful
    assert "latency_budget_ms" in refused.reason
    assert partner.get("stability") is False
    assert not partner.set(image_transport="compressed").successful  # read-only
    assert not partner.set(output_size="huge").successful
    assert partner.set(stability=True, latency_budget_ms=50.0).successful
    assert partner.set(stability=False, latency_budget_ms=0.0).successful


def test_a_stalled_camera_is_reported_and_its_return_as_well(partner: Partner) -> None:
    frame = make_image(12, height=HEIGHT, width=WIDTH)
    wait_until(partner.values, "diagnostics")
    wait_until(lambda: "no image for" not in _sent(partner, frame)["message"], "images are seen")
    wait_until(lambda: "no image for" in partner.values()["message"], "the stall is seen")
    wait_until(lambda: "no image for" not in _sent(partner, frame)["message"], "the return is seen")


def test_time_that_jumps_back_starts_again_and_stragglers_are_left_out(partner: Partner) -> None:
    partner.listen("segmentation")
    partner.wait_connected()
    frame = make_image(13, height=HEIGHT, width=WIDTH)
    late = partner.send_until("segmentation", frame)[-1]
    time.sleep(0.5)
    partner.received.clear()
    newest = max(stamp_ns(late), time.time_ns())
    for offset_ns in (10_000_000, 5_000_000, 10_000_000, 20_000_000):  # a straggler and a duplicate among them
        partner.send(frame, newest + offset_ns)
        time.sleep(0.4)
    wait_until(lambda: len(partner.received["segmentation"]) >= 2, "two answers")
    time.sleep(0.5)
    assert [stamp_ns(message) - newest for message in partner.received["segmentation"]] == [10_000_000, 20_000_000]
    for offset_s in (60, 59):  # a minute earlier
        partner.send(frame, newest - offset_s * 1_000_000_000)
        time.sleep(0.4)
    wait_until(lambda: len(partner.received["segmentation"]) >= 4, "answers in the new time")
    wait_until(lambda: partner.values()["time_jumps"] != "0", "the jump is counted")


def test_a_reload_takes_the_new_bundle_and_keeps_the_old_one_when_the_new_one_is_broken(
    partner: Partner, bundle: Bundle, tmp_path: Path
) -> None:
    partner.listen("segmentation", "depth")
    partner.wait_connected()
    frame = make_image(14, height=HEIGHT, width=WIDTH)
    other = make_bundle(tmp_path / "other", seed=3, tasks=("segmentation",))
    assert partner.set(bundle=str(other.path)).successful
    answer = partner.reload()
    assert answer.success, answer.message
    with Engine(other, threads=1) as expected:
        wait_until(lambda: _same(partner, frame, expected), "maps of the new bundle")
    said = wait_until(lambda: [s.message for s in partner.diagnostics[-3:] if "camera_info" not in s.message], "no warning")
    assert said  # without depth nothing needs a camera

    broken = make_bundle(tmp_path / "broken", seed=4)
    damaged = broken.path / "model.deploy.onnx.parts"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    assert partner.set(bundle=str(broken.path)).successful
    answer = partner.reload()
    assert not answer.success
    assert "altered" in answer.message
    assert partner.get("bundle") == str(other.path)
    assert partner.send_until("segmentation", frame)
    wait_until(lambda: "reload failed" in partner.values()["message"], "diagnostics say that the reload failed")

    assert partner.set(bundle=str(bundle.path)).successful
    assert partner.reload().success
    partner.received.clear()
    partner.wait_connected()
    assert partner.send_until("depth", frame)
    wait_until(lambda: "reload failed" not in partner.values()["message"], "the failure is forgotten")


def test_a_reload_with_the_same_maps_keeps_the_publishers(partner: Partner, bundle: Bundle) -> None:
    def publishers() -> list[Any]:
        found = partner.node.get_publishers_info_by_topic(f"{NAME}/depth")
        return [list(publisher.endpoint_gid) for publisher in found]

    before = wait_until(publishers, "a publisher of the depth")
    assert partner.set(bundle=str(bundle.path)).successful
    assert partner.reload().success
    time.sleep(0.5)
    assert publishers() == before


def test_an_engine_that_cannot_take_over_is_closed(bundle: Bundle) -> None:
    from edge_mtl_ros.background import Background
    from edge_mtl_ros.perception_node import PerceptionNode, _Loaded
    from edge_mtl_ros.settings import Settings

    def fails(_: Any, wanted: Settings, bundle: str, *, active: bool) -> None:
        raise RuntimeError("no publisher can be made")

    engine, logger = Engine(bundle, threads=1), SimpleNamespace(error=print)
    background = Background(SimpleNamespace(executor=None))  # type: ignore[arg-type]
    channels = SimpleNamespace(outputs_for=fails, discard=lambda outputs: None)
    node: Any = SimpleNamespace(_channels=channels, _active_s=None, get_logger=lambda: logger, _background=background)
    with pytest.raises(RuntimeError, match="no publisher"):
        background.finish(PerceptionNode._install(node, _Loaded(engine, {}, {}), Settings()))
    with pytest.raises(EdgeMtlError, match="closed"):
        engine.predict(make_image(1))


def test_a_bundle_that_fails_its_self_test_is_rolled_back(partner: Partner, bundle: Bundle, tmp_path: Path) -> None:
    from tests.bundles import host_model

    swapped = make_bundle(tmp_path / "swapped", seed=5, whole=True)
    (tmp_path / "swapped" / "model.deploy.onnx").write_bytes(host_model(seed=6))
    _rehash(swapped.path)
    assert partner.set(bundle=str(swapped.path)).successful
    answer = partner.reload()
    assert not answer.success
    assert "disagrees" in answer.message
    assert partner.get("bundle") == str(bundle.path)


def _rehash(folder: Path) -> None:
    """Make the manifest fit the files, as somebody who exports a wrong graph does."""
    import hashlib

    manifest = json.loads((folder / "manifest.json").read_text())
    payload = (folder / "model.deploy.onnx").read_bytes()
    entry = manifest["files"]["model.deploy.onnx"]
    entry["sha256"], entry["size"] = hashlib.sha256(payload).hexdigest(), len(payload)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _same(partner: Partner, frame: np.ndarray, engine: Engine) -> bool:
    message: Any = partner.send_until("segmentation", frame)[-1]
    return np.array_equal(array_of(message), engine.predict(frame).segmentation)


def test_diagnostics_say_what_runs_and_balance(partner: Partner, bundle: Bundle) -> None:
    values = wait_until(partner.values, "diagnostics")
    assert values["precision"] == "fp32"
    assert values["backend"].startswith("onnxruntime")
    assert str(bundle.path) in values["bundle"]
    assert values["self_test"].startswith("passed")
    _exact(values)


def test_compressed_images_are_read(ros_environment: dict[str, str], bundle: Bundle, engine: Engine, tmp_path: Path) -> None:
    from sensor_msgs.msg import CompressedImage

    from tests.ros.harness import running

    remapped = ("-r", "__node:=perception_node", "-p", "image_transport:=compressed")
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1", *remapped):
        partner = Partner()
        try:
            partner.listen("segmentation")
            wait_until(partner.compressed.get_subscription_count, "the node listens to compressed images")
            time.sleep(0.5)
            frame = make_image(15, height=HEIGHT, width=WIDTH)
            png = cv2.imencode(".png", frame[..., ::-1])[1].tobytes()

            def arrived() -> list[Any]:
                message = CompressedImage(format="rgb8; png compressed bgr8", data=png)
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(time.time_ns(), 1_000_000_000)
                partner.compressed.publish(message)
                time.sleep(0.1)
                return partner.received["segmentation"]

            message = wait_until(arrived, "an answer")[0]
            assert np.array_equal(array_of(message), engine.predict(frame).segmentation)
        finally:
            partner.close()
