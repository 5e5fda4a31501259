"""The node's publishers: one persistent message per topic, sent only where somebody listens.

Knows QoS and which topic carries what; knows nothing about networks. How the bytes of a map get into a message is in
`messages`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, Image, PointCloud2
from std_msgs.msg import String

from edge_mtl.image.colour import colour_labels, colour_normals
from edge_mtl.ros import Camera
from edge_mtl.tasks import DEPTH, NORMALS, NYU13_PALETTE, SEGMENTATION, VOID
from edge_mtl_ros.events import publisher_events
from edge_mtl_ros.messages import CloudMessage, ImageMessage
from edge_mtl_ros.worker import Answer

__all__ = ["Outputs"]

Array = np.ndarray
_OF_TASK = {
    SEGMENTATION: ("segmentation", "segmentation/color", "confidence", "labels_json"),
    DEPTH: ("depth", "points"),
    NORMALS: ("normals", "normals/color"),
}
_LATCHED = ("labels", "labels_json")


class Outputs:
    """Publishes answers under the node's private name.

    Args:
        node: its owner, which also destroys what is left.
        tasks: of the bundle; topics of other tasks do not exist.
        classes: names by class index.
        points_normals: clouds carry normals.
        on_incompatible: told (topic, policy) when a subscriber asks for a QoS that is not offered.
    """

    def __init__(
        self,
        node: LifecycleNode,
        *,
        tasks: tuple[str, ...],
        classes: tuple[str, ...],
        points_normals: bool,
        on_incompatible: Callable[[str, str], None],
    ) -> None:
        self._node, self._tasks, self._classes = node, tasks, classes
        self._label_info = _label_info_type()
        names = [name for task in tasks for name in _OF_TASK[task]] + ["camera_info"]
        if self._label_info is not None and SEGMENTATION in tasks:
            names.append("labels")
        self._publishers = {name: self._publisher(name, on_incompatible) for name in names}
        self._images = {name: ImageMessage() for name in names}
        self._cloud = CloudMessage(normals=points_normals)
        self._camera_info = CameraInfo()
        self._camera: Camera | None = None

    def fit(self, tasks: tuple[str, ...], classes: tuple[str, ...]) -> bool:
        """Whether these are the outputs of such a bundle too."""
        return (tasks, classes) == (self._tasks, self._classes)

    def wanted(self, *, points: bool, normals: bool) -> frozenset[str]:
        """The topics that somebody listens to and that may be made now; the latched ones cost nothing per frame."""
        left_out = set(_LATCHED)
        if not points:
            left_out.add("points")
        if not normals:
            left_out |= {"normals", "normals/color"}
        publishers = self._publishers.items()
        return frozenset(name for name, p in publishers if name not in left_out and p.get_subscription_count() > 0)

    def publish(self, wanted: frozenset[str], answer: Answer) -> None:
        """Send what is wanted of one answer, each with the input's header."""
        confidence = self._confidence(answer) if wanted & {"confidence", "points"} else None
        if answer.segmentation is not None:
            self._image(wanted, "segmentation", "mono8", answer.segmentation, answer.header)
            if "segmentation/color" in wanted:
                colours = colour_labels(np.ascontiguousarray(answer.segmentation))
                self._image(wanted, "segmentation/color", "rgb8", colours, answer.header)
        if confidence is not None:
            self._image(wanted, "confidence", "mono8", confidence, answer.header)
        if answer.depth is not None:
            self._image(wanted, "depth", "32FC1", answer.depth, answer.header)
        if answer.normals is not None:
            self._image(wanted, "normals", "32FC3", answer.normals, answer.header)
            if "normals/color" in wanted:
                self._image(wanted, "normals/color", "rgb8", colour_normals(answer.normals), answer.header)
        if "camera_info" in wanted and answer.camera.camera is not None:
            self._send_camera_info(answer)
        if "points" in wanted and answer.depth is not None:
            cloud = self._cloud.filled(
                header=answer.header,
                depth_m=answer.depth,
                camera=answer.intrinsics,
                rgb=answer.rgb(),
                labels=answer.segmentation,
                confidence=confidence,
                normals=answer.normals,
            )
            self._publishers["points"].publish(cloud)

    def send_labels(self) -> None:
        """Publish the classes, for those who listen now or join later. The publishers must be active."""
        if "labels_json" not in self._publishers:
            return
        entries = [
            {"id": index, "name": name, "color": NYU13_PALETTE[index].tolist() if index < len(NYU13_PALETTE) else [0, 0, 0]}
            for index, name in enumerate(self._classes)
        ]
        text = json.dumps({"classes": entries, "unlabelled": VOID})
        self._publishers["labels_json"].publish(String(data=text))
        if self._label_info is not None:
            info_type, class_type = self._label_info
            message = info_type()
            message.header.stamp = self._node.get_clock().now().to_msg()
            message.class_map = [class_type(class_id=index, class_name=name) for index, name in enumerate(self._classes)]
            self._publishers["labels"].publish(message)

    def activate(self) -> None:
        """Let publishers that were made while the node was active publish."""
        for publisher in self._publishers.values():
            publisher.on_activate(None)

    def destroy(self) -> None:
        """Remove all publishers."""
        for publisher in self._publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._publishers = {}

    def _publisher(self, name: str, on_incompatible: Callable[[str, str], None]) -> Any:
        kind = {"points": PointCloud2, "camera_info": CameraInfo, "labels_json": String}.get(name, Image)
        if name == "labels" and self._label_info is not None:
            kind = self._label_info[0]
        durability = QoSDurabilityPolicy.TRANSIENT_LOCAL if name in _LATCHED else QoSDurabilityPolicy.VOLATILE
        qos = QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=QoSReliabilityPolicy.RELIABLE,
            durability=durability,
        )
        return self._node.create_lifecycle_publisher(
            kind,
            f"~/{name}",
            qos,
            event_callbacks=publisher_events(f"~/{name}", on_incompatible),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _image(self, wanted: frozenset[str], name: str, encoding: str, values: Array, header: Any) -> None:
        if name in wanted:
            with self._images[name].holding(encoding, values, header) as message:
                self._publishers[name].publish(message)

    def _confidence(self, answer: Answer) -> Array | None:
        """(H, W) uint8, 0..255 for 0..1."""
        values = answer.confidence()
        return None if values is None else np.rint(values * np.float32(255.0)).astype(np.uint8)

    def _send_camera_info(self, answer: Answer) -> None:
        maps = next(m for m in (answer.segmentation, answer.depth, answer.normals) if m is not None)
        assert answer.camera.camera is not None
        camera = answer.camera.camera.scaled(maps.shape[1], maps.shape[0])
        message = self._camera_info
        if camera != self._camera:
            self._camera = camera
            message.width, message.height = camera.width, camera.height
            message.distortion_model = camera.distortion_model
            message.d, message.k, message.r, message.p = list(camera.d), list(camera.k), list(camera.r), list(camera.p)
        message.header = answer.header
        self._publishers["camera_info"].publish(message)


def _label_info_type() -> tuple[type, type] | None:
    """vision_msgs/LabelInfo and VisionClass where that package is installed."""
    try:
        messages = import_module("vision_msgs.msg")
        return messages.LabelInfo, messages.VisionClass
    except (ImportError, AttributeError):
        return None
