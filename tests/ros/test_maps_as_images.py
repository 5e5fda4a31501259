"""Images that the node publishes besides its maps: overlay, input, compressed copies, and depth in millimetres.

Compressed copies are read by the rules of image_transport's plug-ins, depth by those of depth_image_proc.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from sensor_msgs.msg import CompressedImage

from edge_mtl import Engine
from edge_mtl.bundle import Bundle
from edge_mtl.ros.compression import NEAREST_M
from edge_mtl.tasks import kind_of
from tests.bundles import make_bundle, make_image
from tests.compressed import read_compressed, read_compressed_depth
from tests.ros.harness import NodeProcess, Partner, active_partner, array_of, camera_message, wait_until

HEIGHT, WIDTH = 192, 256
EXACT = ("segmentation/compressed", "depth/compressedDepth")
COPIES = ("overlay/compressed", "image/compressed", "segmentation/color/compressed", "normals/color/compressed", *EXACT)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("node") / "tiny")


@pytest.fixture(scope="module")
def node(ros_environment: dict[str, str], bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    log = tmp_path_factory.mktemp("node-log") / "node.log"
    process = NodeProcess(ros_environment, "-p", f"bundle:={bundle.path}", "-p", "threads:=1", log=log)
    yield process
    assert process.end() == 0, process.text
    assert "internal error" not in process.text


@pytest.fixture
def partner(node: NodeProcess) -> Iterator[Partner]:
    with active_partner() as result:
        yield result


def together(partner: Partner, pixels: np.ndarray, *names: str, **options: Any) -> list[Any]:
    """Messages of several topics with one header, after as many images as that takes."""

    def found() -> list[Any]:
        partner.send(pixels, time.time_ns(), **options)
        time.sleep(0.1)
        for first in partner.received[names[0]]:
            alike = [[one for one in partner.received[name] if one.header == first.header][:1] for name in names]
            if all(alike):
                return [one for (one,) in alike]
        return []

    return wait_until(found, f"{', '.join(names)} of one image")


def test_the_image_and_the_overlay_have_the_size_and_header_of_the_maps(partner: Partner, bundle: Bundle) -> None:
    partner.listen("segmentation", "image", "overlay")
    partner.wait_connected()
    frame = make_image(3, height=HEIGHT, width=WIDTH)
    named = ("image", "overlay", "segmentation")
    image, overlay, mask = together(partner, frame[..., ::-1], *named, encoding="bgr8", frame="camera_optical")
    assert overlay.header.frame_id == "camera_optical"
    for message in (image, overlay):
        assert (message.encoding, message.height, message.width, message.step) == ("rgb8", HEIGHT, WIDTH, 3 * WIDTH)
    assert np.array_equal(array_of(image), frame)
    with Engine(bundle, threads=1) as engine:
        result = engine.predict(frame)["segmentation"]
    assert np.array_equal(array_of(mask), result.labels)
    assert np.array_equal(array_of(overlay), kind_of(result.spec).overlay(result.spec, result, frame))


def test_compressed_copies_are_what_their_subscribers_expect_of_image_transport(partner: Partner) -> None:
    originals = [name.rpartition("/")[0] for name in COPIES]
    partner.listen(*originals)
    partner.listen(*COPIES, kind=CompressedImage)
    partner.wait_connected()
    frame = make_image(4, height=HEIGHT, width=WIDTH)
    messages = together(partner, frame, *originals, *COPIES, frame="camera_optical")
    assert messages[0].header.frame_id == "camera_optical"
    for name, original, message in zip(COPIES, messages, messages[len(COPIES) :], strict=False):
        raw = array_of(original)
        if name == "depth/compressedDepth":
            encoding, found = read_compressed_depth(message.format, bytes(message.data))
            true = np.maximum(raw.astype(float), NEAREST_M)
            assert encoding == "32FC1"
            assert np.array_equal(np.isnan(found), np.isnan(raw))
            assert np.nanmax(np.abs(found - true) / true**2) < 0.6 / 10100
            continue
        encoding, found = read_compressed(message.format, bytes(message.data))
        if name in EXACT:
            assert (message.format, encoding) == ("mono8; png compressed ", "mono8")
            assert np.array_equal(found, raw)
        else:
            assert (message.format, encoding) == ("rgb8; jpeg compressed bgr8", "rgb8")
            assert np.abs(found.astype(int) - raw).mean() < 12, name


def test_the_image_alone_is_sent_without_a_prediction(partner: Partner) -> None:
    partner.listen("image")
    partner.listen("image/compressed", kind=CompressedImage)
    partner.wait_connected()
    frame = make_image(5, height=HEIGHT, width=WIDTH)
    image, copy = together(partner, frame, "image", "image/compressed")
    assert np.array_equal(array_of(image), frame)
    assert copy.format == "rgb8; jpeg compressed bgr8"
    wait_until(lambda: partner.values().get("tasks_asked") == "", "no task was asked for")


def cloud_of(depth: Any, camera: Any) -> np.ndarray:
    """(H, W, 3) points as depth_image_proc makes them: by P, of rows of `step` bytes, millimetres but 0, or finite metres."""
    kind, unit = (np.uint16, np.float32(0.001)) if depth.encoding == "16UC1" else (np.float32, np.float32(1))
    assert depth.encoding in ("16UC1", "32FC1")
    assert not depth.is_bigendian
    rows = np.frombuffer(depth.data, kind).reshape(depth.height, depth.step // np.dtype(kind).itemsize)[:, : depth.width]
    valid = rows != 0 if depth.encoding == "16UC1" else np.isfinite(rows)
    z = np.where(valid, rows * unit, np.nan)
    fx, cx, fy, cy = camera.p[0], camera.p[2], camera.p[5], camera.p[6]
    v, u = np.mgrid[: depth.height, : depth.width]
    return np.dstack([(u - cx) * z / fx, (v - cy) * z / fy, z])


def test_depth_image_proc_makes_the_cloud_of_the_node_from_millimetres_and_from_metres(partner: Partner) -> None:
    frame = make_image(6, height=HEIGHT, width=WIDTH)
    assert partner.set(points=True, points_rate_hz=0.0).successful
    partner.listen("depth", "camera_info", "image", "points")
    partner.listen("depth/compressedDepth", kind=CompressedImage)
    try:
        for encoding in ("16UC1", "32FC1"):
            assert partner.set(depth_encoding=encoding).successful
            answer = partner.reload()
            assert answer.success, answer.message
            wait_until(partner.cameras.get_subscription_count, "the node listens to camera_info")
            partner.cameras.publish(camera_message(WIDTH, HEIGHT, 210.0))
            wait_until(lambda: "camera_info, fx" in _sent(partner, frame).get("depth_scale", ""), "the camera is in use")
            partner.wait_connected()
            partner.received.clear()
            named = ("points", "depth", "camera_info", "image", "depth/compressedDepth")
            cloud, depth, camera, image, copy = together(partner, frame, *named)
            assert depth.encoding == encoding
            assert depth.step == WIDTH * (2 if encoding == "16UC1" else 4)
            assert (depth.width, depth.height) == (camera.width, camera.height) == (image.width, image.height)
            raw = np.frombuffer(cloud.data, np.uint8).reshape(HEIGHT, WIDTH, cloud.point_step)
            own = np.ascontiguousarray(raw[..., :12]).view(np.float32)
            found = cloud_of(depth, camera)
            assert np.array_equal(np.isnan(found), np.isnan(own))
            assert np.isfinite(own).mean() > 0.9
            half_mm = 0.00051 if encoding == "16UC1" else 1e-5
            away = np.abs(own / own[..., 2:])  # of a point, sideways, for one metre ahead
            assert (np.abs(found - own) <= half_mm * np.maximum(away, 1e-3) + 1e-5 * np.abs(own))[np.isfinite(own)].all()
            assert copy.format == f"{encoding}; compressedDepth png"
            if encoding == "16UC1":
                values = np.frombuffer(depth.data, np.uint16).reshape(HEIGHT, WIDTH)
                assert np.array_equal(read_compressed_depth(copy.format, bytes(copy.data))[1], values)
    finally:
        assert partner.set(points=False, points_rate_hz=5.0, depth_encoding="32FC1").successful
    assert not partner.set(depth_encoding="16SC1").successful


def _sent(partner: Partner, frame: np.ndarray) -> dict[str, str]:
    partner.send_until("depth", frame)
    return partner.values()
