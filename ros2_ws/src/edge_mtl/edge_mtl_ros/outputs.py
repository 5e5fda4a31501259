"""The node's publishers: topics of the tasks, the image, the camera, the cloud and obstacles, sent only where somebody listens.

Knows QoS and messages; which topics a task has, and what is in them, comes from its kind. How the bytes of a map get into a
message is in `messages`.
"""

from __future__ import annotations

import array
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, LaserScan, PointCloud2
from std_msgs.msg import Header, String

from edge_mtl.errors import BundleError
from edge_mtl.prediction import Prediction
from edge_mtl.ros import Camera, TaskTopic, compress, task_topics
from edge_mtl.tasks import Result, kind_of
from edge_mtl.tasks.kind import Once, Transport
from edge_mtl.tasks.points import cloud_maps
from edge_mtl_ros.class_names import ClassMessages
from edge_mtl_ros.drivable_outputs import DrivableOutputs
from edge_mtl_ros.events import publisher_events
from edge_mtl_ros.messages import CloudMessage, ImageMessage
from edge_mtl_ros.obstacle_outputs import OBSTACLE_TOPICS, ObstacleOutputs
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.sight import Remark
from edge_mtl_ros.stream import Answer
from edge_mtl_ros.vision_outputs import VisionOutputs

__all__ = ["Outputs"]

Array = np.ndarray
Content = Array | str | None
"""Of one topic: pixels, a text, or nothing."""

_IMAGE_ENCODING = "rgb8"
_VECTORS = "32FC3"
"""12 bytes a pixel: the largest maps, and the first to be left out when the node is behind."""


class Outputs:
    """Publishes the answers of one camera under the node's private name.

    Args:
        node: its owner, which also destroys what is left.
        camera: its name, which its topics begin with: ~/NAME/depth; "" where it is the only one and has none.
        results: of any frame of the engine; they say which tasks there are.
        bundle: what is loaded, as people call it.
        points_labels: the task whose classes clouds carry; "" for the main one.
        points_normals: clouds carry normals.
        encodings: taken by maps that offer them in place of their own.
        settings: asked for each frame.
        on_incompatible: called with (topic, policy) when a subscriber asks for a QoS that is not offered.
    Raises:
        BundleError: two tasks would publish under one name, a camera is called as a topic, or no task of labels is called
            `points_labels`.
    """

    def __init__(
        self,
        node: LifecycleNode,
        results: Mapping[str, Result],
        *,
        camera: str = "",
        bundle: str,
        points_labels: str,
        points_normals: bool,
        encodings: tuple[str, ...],
        settings: Callable[[], Settings],
        on_incompatible: Callable[[str, str], None],
    ) -> None:
        self._node, self._points_labels, self._on_incompatible = node, points_labels, on_incompatible
        self._encodings, self._prefix = encodings, f"~/{camera}/" if camera else "~/"
        self._specs = {name: result.spec for name, result in results.items()}
        topics = {item.name: item for item in task_topics(self._specs, encodings=encodings)}
        self._latched = {name: item for name, item in topics.items() if item.topic.latched}
        self._per_frame = {name: item for name, item in topics.items() if not item.topic.latched}
        with_vectors = {item.spec.name for item in topics.values() if item.topic.encoding == _VECTORS}
        self._vectors = frozenset(name for name, item in self._per_frame.items() if item.spec.name in with_vectors)
        self._classes = ClassMessages(node, self._specs, bundle)
        self._frame_id = ""
        self._vision = VisionOutputs(self._specs, installed=self._classes.messages is not None)
        types = {name: _message_type(item) for name, item in topics.items()} | self._classes.types | self._vision.types
        types |= {"camera_info": CameraInfo, "image": Image, "image/compressed": CompressedImage}
        if camera in {name.partition("/")[0] for name in types}:
            raise BundleError(
                f"The name of a camera should be none of this bundle's topics; found {camera!r}. Change the parameter cameras."
            )
        maps = cloud_maps(results, labels=points_labels)
        self._of_the_cloud = self._of_obstacles = self._of_places = frozenset[str]()
        self._metric = frozenset(name for name, item in self._per_frame.items() if kind_of(item.spec).metric_scale)
        if maps is not None:
            types |= {"points": PointCloud2, "obstacles": PointCloud2, "ground": PointCloud2, "scan": LaserScan}
            made_of = (maps.depth, maps.labels, maps.normals if points_normals else None)
            self._of_the_cloud = frozenset(result.spec.name for result in made_of if result is not None)
            made_of = (maps.depth, maps.labels, maps.normals)
            self._of_obstacles = frozenset(result.spec.name for result in made_of if result is not None)
            self._of_places = frozenset({maps.depth.spec.name})
        self._obstacles, self._settings = ObstacleOutputs(node, settings), settings
        self._drivable = DrivableOutputs(node, results, settings)
        types |= self._drivable.types
        self._publishers = {name: self._publisher(name, kind) for name, kind in types.items()}
        self._images = {name: ImageMessage() for name, kind in types.items() if kind is Image}
        self._cloud = CloudMessage(normals=points_normals)
        self._camera_info = CameraInfo()
        self._camera: Camera | None = None

    @property
    def metric(self) -> bool:
        """Whether anything is in metres, so that it needs the camera."""
        return any(kind_of(spec).metric_scale for spec in self._specs.values())

    @property
    def classes(self) -> Mapping[str, str]:
        """All that is known of the classes of tasks, as JSON by task."""
        return self._classes.databases

    @property
    def floor(self) -> str:
        """How the floor of the last frame was found, for diagnostics; empty while nobody listens to what needs it."""
        return self._obstacles.floor

    @property
    def ground(self) -> str:
        """The same of the grid of the drivable area."""
        return self._drivable.ground

    def fit(self, results: Mapping[str, Result], *, points_labels: str, encodings: tuple[str, ...]) -> bool:
        """Whether these are the outputs of such results, too."""
        specs = {name: result.spec for name, result in results.items()}
        same = self._settings().drivable_classes == self._drivable.classes
        return same and (specs, points_labels, encodings) == (self._specs, self._points_labels, self._encodings)

    def wanted(self, *, points: bool, vectors: bool) -> frozenset[str]:
        """The topics of frames that somebody listens to and that may be made now."""
        asked = {"camera_info", "image", "image/compressed", *OBSTACLE_TOPICS, *self._per_frame, *self._vision.types}
        asked |= self._drivable.types.keys()
        if points:
            asked.add("points")
        if not vectors:
            asked -= self._vectors
        publishers = self._publishers.items()
        return frozenset(name for name, p in publishers if name in asked and p.get_subscription_count() > 0)

    def listened(self, *, points: bool) -> frozenset[str]:
        """The topics of frames that somebody listens to, from any thread; none while they are being destroyed."""
        with suppress(rclpy_implementation.InvalidHandle):
            return self.wanted(points=points, vectors=True)
        return frozenset()

    def remarks(self, *, points: bool) -> tuple[Remark, ...]:
        """Who listens in vain, where clouds are (not) to be made."""
        if points or "points" not in self.listened(points=True):
            return ()
        return (Remark("no points", f"{self._prefix}points is listened to, and the parameter points is false"),)

    def unscaled(self, withhold: str) -> frozenset[str]:
        """The topics that are not sent without a camera: of "points" those made of points, of "all" whatever is in metres, of
        "none" none.

        Points need the camera for more than its scale.
        """
        points = frozenset({"points", *OBSTACLE_TOPICS, "drivable_grid", "drivable_costs"}) & self._publishers.keys()
        return {"none": frozenset[str](), "points": points, "all": points | self._metric}[withhold]

    def tasks(self, wanted: frozenset[str]) -> tuple[str, ...]:
        """The tasks that these topics are made of, in the bundle's order; none for the camera alone."""
        names = {self._per_frame[name].spec.name for name in wanted if name in self._per_frame}
        names |= {self._vision.tasks[name] for name in wanted if name in self._vision.tasks}
        if wanted & self._vision.placed:
            names |= self._of_places
        if "points" in wanted:
            names |= self._of_the_cloud
        if wanted.intersection(OBSTACLE_TOPICS):
            names |= self._of_obstacles
        if wanted.intersection(self._drivable.types):
            names |= self._drivable.tasks
        return tuple(name for name in self._specs if name in names)

    def publish(self, wanted: frozenset[str], answer: Answer) -> frozenset[str]:
        """Send what is wanted of one answer, which has the results of `tasks(wanted)`; each with the input's header.

        Returns the topics on which something was sent: a result may lack what a topic is made of.
        """
        prediction, rgb = answer.prediction, Once(lambda: np.ascontiguousarray(answer.rgb()))
        sent = set[str]()
        if answer.header.frame_id != self._frame_id:  # latched messages name the frame once it is known
            self._frame_id = answer.header.frame_id
            self._send_classes(answer.header)
        made: dict[str, Content] = {}  # by topic: a map and its compressed copy are made of it once
        for name, item in self._per_frame.items():
            if name in wanted and prediction is not None:
                topic = item.topic
                if topic.name not in made:
                    result = prediction.results[item.spec.name]
                    made[topic.name] = topic.make(result, rgb.get()) if topic.over_frame else topic.make(result)
                if self._send(item, made[topic.name], answer.header):
                    sent.add(name)
        if prediction is not None:
            for name in wanted.intersection(self._vision.types):
                self._send_vision(name, answer, prediction)
                sent.add(name)
        if "image" in wanted:
            self._send_image("image", _IMAGE_ENCODING, rgb.get(), answer.header)
            sent.add("image")
        if "image/compressed" in wanted:
            self._send_compressed("image/compressed", _IMAGE_ENCODING, rgb.get(), "jpeg", answer.header)
            sent.add("image/compressed")
        if "camera_info" in wanted and answer.camera.camera is not None:
            self._send_camera_info(answer, answer.camera.camera)
            sent.add("camera_info")
        if "points" in wanted and prediction is not None and self._send_cloud(answer, prediction, rgb.get()):
            sent.add("points")
        if wanted.intersection(OBSTACLE_TOPICS) and prediction is not None:
            sent |= self._send_obstacles(wanted, answer, prediction)
        if wanted.intersection(self._drivable.types) and prediction is not None:
            sent |= self._send_drivable(wanted, answer, prediction)
        return frozenset(sent)

    def send_latched(self) -> None:
        """Publish what no frame changes, for those who listen now or join later. The publishers must be active."""
        header = self._header_now()
        for item in self._latched.values():
            self._send(item, item.topic.make(None), header)
        self._send_classes(header)

    def take(self, bundle: str) -> None:
        """Publish the results of another bundle with the same tasks; those who listen to the classes are told."""
        if self._classes.take(bundle):
            self._send_classes(self._header_now())

    def activate(self) -> None:
        """Let publishers that were made while the node was active publish."""
        for publisher in self._publishers.values():
            publisher.on_activate(None)

    def destroy(self) -> None:
        """Remove all publishers."""
        publishers, self._publishers = self._publishers, {}
        for publisher in publishers.values():
            self._node.destroy_lifecycle_publisher(publisher)
        self._obstacles.destroy()
        self._drivable.destroy()

    def _publisher(self, name: str, kind: type) -> Any:
        latched = name in self._latched or name in self._classes.types
        qos = QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=1,
            reliability=QoSReliabilityPolicy.RELIABLE,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if latched else QoSDurabilityPolicy.VOLATILE,
        )
        return self._node.create_lifecycle_publisher(
            kind,
            f"{self._prefix}{name}",
            qos,
            event_callbacks=publisher_events(f"{self._prefix}{name}", self._on_incompatible),
            qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        )

    def _header_now(self) -> Header:
        return Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._frame_id)

    def _send_classes(self, header: Any) -> None:
        for name, message in self._classes.made(header):
            self._publishers[name].publish(message)

    def _send(self, item: TaskTopic, content: Content, header: Any) -> bool:
        """One message of a task; False where the result has nothing for it."""
        if content is None:
            return False
        if isinstance(content, str):
            self._publishers[item.name].publish(String(data=content))
        elif item.transport:
            self._send_compressed(item.name, item.topic.encoding, content, item.transport, header)
        else:
            self._send_image(item.name, item.topic.encoding, content, header)
        return True

    def _send_vision(self, name: str, answer: Answer, prediction: Prediction) -> None:
        scaled = answer.camera.intrinsics is not None
        self._publishers[name].publish(self._vision.made(name, prediction, answer.header, scaled=scaled))

    def _send_image(self, name: str, encoding: str, pixels: Array, header: Any) -> None:
        with self._images[name].holding(encoding, pixels, header) as message:
            self._publishers[name].publish(message)

    def _send_compressed(self, name: str, encoding: str, pixels: Array, transport: Transport, header: Any) -> None:
        described, data = compress(encoding, pixels, transport)
        self._publishers[name].publish(CompressedImage(header=header, format=described, data=array.array("B", data)))

    def _send_cloud(self, answer: Answer, prediction: Prediction, rgb: Array) -> bool:
        maps = cloud_maps(prediction.results, labels=self._points_labels)
        if maps is None:
            return False
        cloud = self._cloud.filled(maps, header=answer.header, camera=prediction.intrinsics, rgb=rgb)
        self._publishers["points"].publish(cloud)
        return True

    def _send_obstacles(self, wanted: frozenset[str], answer: Answer, prediction: Prediction) -> set[str]:
        maps = cloud_maps(prediction.results, labels=self._points_labels)
        if maps is None:
            return set()
        camera = None if answer.camera.intrinsics is None else prediction.intrinsics
        sent = set[str]()
        for name, message in self._obstacles.messages(wanted, maps, header=answer.header, camera=camera):
            self._publishers[name].publish(message)
            sent.add(name)
        return sent

    def _send_drivable(self, wanted: frozenset[str], answer: Answer, prediction: Prediction) -> set[str]:
        camera, sent = None if answer.camera.intrinsics is None else prediction.intrinsics, set[str]()
        for name, message in self._drivable.messages(wanted, prediction.results, header=answer.header, camera=camera):
            self._publishers[name].publish(message)
            sent.add(name)
        return sent

    def _send_camera_info(self, answer: Answer, camera: Camera) -> None:
        height, width = answer.map_size
        scaled, message = camera.scaled(width, height), self._camera_info
        if scaled != self._camera:
            self._camera = scaled
            message.width, message.height = scaled.width, scaled.height
            message.distortion_model = scaled.distortion_model
            message.d, message.k, message.r, message.p = list(scaled.d), list(scaled.k), list(scaled.r), list(scaled.p)
        message.header = answer.header
        self._publishers["camera_info"].publish(message)


def _message_type(item: TaskTopic) -> type:
    if not item.topic.encoding:
        return String
    return CompressedImage if item.transport else Image
