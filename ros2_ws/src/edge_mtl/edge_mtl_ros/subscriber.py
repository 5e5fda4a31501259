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
from edge_mtl_ros.events import Incompatible, Publishers, message_type
from edge_mtl_ros.frame_queue import LatestFrameQueue, StampOrder
from edge_mtl_ros.receiving import Input, Receiver
from edge_mtl_ros.sight import Remark

__all__ = ["CameraSubscriber"]


class CameraSubscriber:
    """Listens to `image` and `camera_info` of one camera from its making until `close`.

    Args:
        node: owner of the subscriptions.
        name: of the camera, which its topics begin with: NAME/image; "" where it is the only one and has none.
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
        name: str,
        queue: LatestFrameQueue[Any],
        cameras: CameraKeeper,
        *,
        compressed: bool,
        on_incompatible: Incompatible,
    ) -> None:
        self._node, self._name, self._queue, self._cameras = node, name, queue, cameras
        self._compressed, self._on_incompatible = compressed, on_incompatible
        self._order = StampOrder()
        self._publishers: dict[str, tuple[Publishers, str]] = {}
        self.image_s: float | None = None
        image, camera_info = self._own("image"), self._own("camera_info")
        topic = f"{node.resolve_topic_name(image)}/compressed" if compressed else image
        inputs = (  # in this order: where both are there, the image has its camera
            Input(CameraInfo, camera_info, self._on_camera),
            Input(CompressedImage if compressed else Image, topic, self._on_image),
        )
        self._image_topic, self._camera_topic = map(node.resolve_topic_name, (topic, camera_info))
        self._receiver = Receiver(node, inputs, on_publishers=self._on_publishers)

    @property
    def time_jumps(self) -> int:
        """How often stamps jumped back."""
        return self._order.jumps

    @property
    def image_source(self) -> str:
        """Why no image can come, where that is known; empty else."""
        found = self._publishers.get(self._image_topic)
        return "" if found is None or found[0].count else found[1]

    def remarks(self) -> tuple[Remark, ...]:
        """Who publishes something else on the topics that are listened to."""
        return tuple(
            Remark(f"type of {topic}", self._foreign(topic, publishers.foreign))
            for topic, (publishers, _) in list(self._publishers.items())
            if publishers.foreign
        )

    def close(self) -> bool:
        """Listen no more. Returns whether that ended in time."""
        return self._receiver.close()

    def _own(self, name: str, separator: str = "/") -> str:
        """The name of a topic of this camera; with "." that of its parameter."""
        return f"{self._name}{separator}{name}" if self._name else name

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
            self._cameras.refuse(str(exc))
            said = f"{self._name}: {exc}" if self._name else str(exc)
            self._node.get_logger().warning(said, throttle_duration_sec=5.0)

    def _on_publishers(self, topic: str, found: Publishers) -> None:
        if found.incompatible:
            self._on_incompatible(topic, found.incompatible)
        self._publishers[topic] = found, "" if found.count else self._nobody(topic)

    def _nobody(self, topic: str) -> str:
        """That nobody publishes images on a topic, and where somebody does."""
        twin = topic.removesuffix("/compressed") if self._compressed else f"{topic}/compressed"
        kind, transport = (Image, "raw") if self._compressed else (CompressedImage, "compressed")
        there = {publisher.topic_type for publisher in self._node.get_publishers_info_by_topic(twin)}
        hint = f"; {twin} is: set {self._own('image_transport', '.')} to {transport}" if message_type(kind) in there else ""
        return f"{message_type(CompressedImage if self._compressed else Image)} is not published on {topic}{hint}"

    def _foreign(self, topic: str, kinds: tuple[str, ...]) -> str:
        """Which messages come in place of those that are read, and what to set."""
        raw, compressed, camera = map(message_type, (Image, CompressedImage, CameraInfo))
        expected = compressed if self._compressed else raw
        if topic == self._camera_topic:
            expected, remedy = camera, f"remap {self._own('camera_info')} to a topic of {camera}"
        elif not self._compressed and compressed in kinds:
            base = topic.removesuffix("/compressed")
            image = self._own("image")
            there = f"{image} to {base}" if base != topic else f"{image}/compressed to {topic}, not {image}"
            remedy = f"set {self._own('image_transport', '.')} to compressed and remap {there}"
        elif self._compressed and raw in kinds:
            remedy = f"set {self._own('image_transport', '.')} to raw and remap {self._own('image')} to {topic}"
        else:
            remedy = f"remap {self._own('image/compressed' if self._compressed else 'image')} to a topic of {expected}"
        return f"{topic} has publishers of {', '.join(kinds)}, and {expected} is expected: {remedy}"
