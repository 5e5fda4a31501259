"""What the camera sends: images into the queue, in the order of their stamps, and the newest camera_info to its keeper.

Knows topics and messages of cameras; how they are waited for is in `receiving`, what becomes of them in `worker`.
"""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from edge_mtl.errors import FrameError
from edge_mtl.ros import camera_of
from edge_mtl_ros.cameras import CameraKeeper
from edge_mtl_ros.events import Incompatible
from edge_mtl_ros.frame_queue import LatestFrameQueue, StampOrder
from edge_mtl_ros.receiving import Input, Receiver

__all__ = ["CameraSubscriber"]


class CameraSubscriber:
    """Listens to `image` and `camera_info` from its making until `close`.

    Args:
        node: owner of the subscriptions.
        queue: where images go.
        cameras: where cameras go.
        compressed: listen to `image/compressed` instead of `image`.
        on_incompatible: called with (topic, why) where a publisher offers less than is asked for.
    Attributes:
        image_s: when the last image came, by the monotonic clock; None before the first.
    """

    def __init__(
        self,
        node: Node,
        queue: LatestFrameQueue[Any],
        cameras: CameraKeeper,
        *,
        compressed: bool,
        on_incompatible: Incompatible,
    ) -> None:
        self._node, self._queue, self._cameras = node, queue, cameras
        self._order = StampOrder()
        self.image_s: float | None = None
        topic = f"{node.resolve_topic_name('image')}/compressed" if compressed else "image"
        inputs = (  # in this order: where both are there, the image has its camera
            Input(CameraInfo, "camera_info", self._on_camera),
            Input(CompressedImage if compressed else Image, topic, self._on_image),
        )
        self._receiver = Receiver(node, inputs, on_incompatible=on_incompatible)

    @property
    def time_jumps(self) -> int:
        """How often stamps jumped back."""
        return self._order.jumps

    def close(self) -> bool:
        """Listen no more. Returns whether that ended in time."""
        return self._receiver.close()

    def _on_image(self, message: Any, arrived_s: float) -> None:
        self.image_s = arrived_s
        stamp = message.header.stamp
        if self._order.accept(stamp.sec * 1_000_000_000 + stamp.nanosec):
            self._queue.offer(message, arrived_s=arrived_s)
        else:
            self._queue.leave_out("stale_stamp")

    def _on_camera(self, message: CameraInfo, arrived_s: float) -> None:
        try:
            self._cameras.put(camera_of(message))
        except FrameError as exc:
            self._node.get_logger().warning(str(exc), throttle_duration_sec=5.0)
