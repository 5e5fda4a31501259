"""What comes from the camera, over DDS, with the node's own end in this process."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

pytest.importorskip("rclpy", reason='needs the extra ros-test: pip install -e ".[cpu,build,bags,ros-test]"')

import rclpy
from edge_mtl_ros.cameras import CameraKeeper
from edge_mtl_ros.frame_queue import LatestFrameQueue
from edge_mtl_ros.subscriber import CameraSubscriber

from edge_mtl.ros import Camera
from tests.bundles import make_image
from tests.ros.harness import Partner, camera_message, wait_until


class HeldQueue(LatestFrameQueue[Any]):
    """Notes when an image comes; the first one is held until `go_on` is set."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self.order, self.go_on = order, threading.Event()

    def offer(self, item: Any, *, arrived_s: float | None = None) -> None:
        self.order.append("image")
        assert self.go_on.wait(30)


class Keeper(CameraKeeper):
    """Notes when a camera comes."""

    def __init__(self, order: list[str]) -> None:
        super().__init__()
        self.order = order

    def put(self, camera: Camera) -> None:
        self.order.append("camera")


def test_a_camera_that_came_with_its_image_is_known_before_the_image(ros_environment: dict[str, str]) -> None:
    order: list[str] = []
    queue, partner = HeldQueue(order), Partner()
    context = rclpy.Context()
    context.init(args=[])
    node = rclpy.create_node("subscriber", context=context)
    subscriber = CameraSubscriber(node, "", queue, Keeper(order), compressed=False, on_incompatible=lambda *_: None)
    try:
        wait_until(partner.images.get_subscription_count, "the image is listened to")
        wait_until(partner.cameras.get_subscription_count, "camera_info is listened to")
        while not order:
            partner.send(make_image(1), time.time_ns())
            time.sleep(0.1)
        partner.send(make_image(1), time.time_ns())
        partner.cameras.publish(camera_message(96, 64, 80.0))
        time.sleep(1.0)  # both have come while the image before is held
        queue.go_on.set()
        wait_until(lambda: len(order) >= 3, "the camera and its image")
        assert order[:3] == ["image", "camera", "image"]
    finally:
        queue.go_on.set()
        subscriber.close()
        partner.close()
        node.destroy_node()
        context.try_shutdown()
