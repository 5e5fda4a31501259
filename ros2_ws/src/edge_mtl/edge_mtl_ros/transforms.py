"""The node's part in tf: transforms that it sends, and those of /tf_static that it hears. Both need tf2_msgs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import Header

from edge_mtl.ros.transforms import FixedFrames, quaternion_of

__all__ = ["StaticTransforms", "TransformSender"]

Array = np.ndarray
_DEPTH = 100


class TransformSender:
    """Sends transforms on /tf.

    Attributes:
        available: whether tf2_msgs is installed.
    """

    def __init__(self, node: Node) -> None:
        self._node, self._type = node, _message_type()
        self._publisher = None if self._type is None else node.create_publisher(self._type, "/tf", QoSProfile(depth=_DEPTH))

    @property
    def available(self) -> bool:
        return self._publisher is not None

    def send(self, header: Header, child: str, rotation: Array, translation_m: Array | None = None) -> None:
        """Where a frame is in that of a header: its axes are the columns of `rotation`."""
        if self._publisher is None or self._type is None:
            return
        stamped = TransformStamped(header=header, child_frame_id=child)
        turned, moved = stamped.transform.rotation, stamped.transform.translation
        turned.x, turned.y, turned.z, turned.w = quaternion_of(rotation)
        if translation_m is not None:
            moved.x, moved.y, moved.z = (float(value) for value in translation_m)
        self._publisher.publish(self._type(transforms=[stamped]))

    def destroy(self) -> None:
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None


class StaticTransforms:
    """Hears /tf_static, so that the mount of a camera on its robot is known.

    Attributes:
        frames: what was heard so far; for any thread.
    """

    def __init__(self, node: Node) -> None:
        self._node, self.frames = node, FixedFrames()
        kind = _message_type()
        qos = QoSProfile(
            depth=_DEPTH, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL
        )
        self._subscription = None if kind is None else node.create_subscription(kind, "/tf_static", self._hear, qos)

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def _hear(self, message: Any) -> None:
        for stamped in message.transforms:
            moved, turned = stamped.transform.translation, stamped.transform.rotation
            placed = (moved.x, moved.y, moved.z), (turned.x, turned.y, turned.z, turned.w)
            self.frames.put(stamped.header.frame_id, stamped.child_frame_id, *placed)


def _message_type() -> Any:
    """tf2_msgs/TFMessage where that package is installed, else None."""
    try:
        return import_module("tf2_msgs.msg").TFMessage
    except (ImportError, AttributeError):
        return None
