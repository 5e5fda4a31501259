"""A recorded bag replayed through the node, byte for byte, gives the predictions of `edge-mtl predict` offline."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')
pytest.importorskip("rosbags", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

from tests.bag_files import CAMERA_TOPIC, IMAGE_TOPIC, read_bag, write_bag
from tests.bundles import make_bundle, make_image
from tests.command_line import edge_mtl
from tests.ros.harness import Partner, array_of, running, stamp_ns, wait_until


@pytest.mark.parametrize("storage", ["sqlite3", "mcap"])
def test_a_replayed_bag_gives_what_the_engine_gives_offline(
    ros_environment: dict[str, str], tmp_path: Path, storage: str
) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    frames = [make_image(index, height=96, width=128) for index in range(6)]
    bag = write_bag(tmp_path / "tour", frames, storage=storage, focal=150.0)
    outcome = edge_mtl("predict", bag, "--bundle", bundle.path, "--threads", 1)
    assert outcome.code == 0, outcome.err
    recorded, offline = read_bag(bag), read_bag(tmp_path / "tour-maps")
    with running(ros_environment, tmp_path / "log", "-p", f"bundle:={bundle.path}", "-p", "threads:=1"):
        partner = Partner()
        try:
            names = ("segmentation", "depth", "normals")
            partner.listen(*names)
            partner.wait_connected()
            wait_until(partner.cameras.get_subscription_count, "the node listens to camera_info")
            for camera, image in zip(recorded[CAMERA_TOPIC], recorded[IMAGE_TOPIC], strict=True):
                count = len(partner.received["normals"])
                partner.cameras.publish(camera.raw)
                time.sleep(0.1)
                partner.images.publish(image.raw)
                wait_until(lambda count=count: len(partner.received["normals"]) > count, "the maps of an image")
            for name in names:
                wait_until(lambda name=name: len(partner.received[name]) == len(frames), name)
        finally:
            partner.close()
    for name in names:
        for message, expected in zip(partner.received[name], offline[f"/edge_mtl/{name}"], strict=True):
            assert stamp_ns(message) == expected.stamp_ns
            assert message.header.frame_id == expected.frame_id
            values = array_of(message)
            assert np.array_equal(values.tobytes(), expected.data)
