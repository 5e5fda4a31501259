"""What messages of vision_msgs say of boxes and of a frame's class, without ROS: for the node and for annotated bags.

Knows fields and names of types; who has the types makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.tasks import Boxes, DepthMap, Result
from edge_mtl.tasks.boxes_3d import boxes_in_space
from edge_mtl.tasks.messages import Scored, VisionTopic

__all__ = ["VISION_DEFINITIONS", "vision_message", "vision_type"]

Array = np.ndarray
Types = Callable[[str], Callable[..., Any]]
"""The type of a message by its name, such as "vision_msgs/msg/Detection2D", called with all of its fields."""

VISION_DEFINITIONS: Mapping[str, tuple[str, ...]] = {
    "Point2D": ("float64 x", "float64 y"),
    "Pose2D": ("vision_msgs/Point2D position", "float64 theta"),
    "BoundingBox2D": ("vision_msgs/Pose2D center", "float64 size_x", "float64 size_y"),
    "ObjectHypothesis": ("string class_id", "float64 score"),
    "ObjectHypothesisWithPose": ("vision_msgs/ObjectHypothesis hypothesis", "geometry_msgs/PoseWithCovariance pose"),
    "Detection2D": (
        "std_msgs/Header header",
        "vision_msgs/ObjectHypothesisWithPose[] results",
        "vision_msgs/BoundingBox2D bbox",
        "string id",
    ),
    "Detection2DArray": ("std_msgs/Header header", "vision_msgs/Detection2D[] detections"),
    "Classification": ("std_msgs/Header header", "vision_msgs/ObjectHypothesis[] results"),
}
"""The fields of these messages in ros-perception/vision_msgs 4, each definition after those that it needs."""

_PACKAGE = "vision_msgs/msg"
_NO_POSE = -1.0
"""covariance[0] where the place is not known, as messages of an IMU say what they do not measure."""


def vision_type(topic: VisionTopic) -> str:
    """The name of a topic's type."""
    return f"{_PACKAGE}/{'Detection2DArray' if topic.content == 'detections' else 'Classification'}"


def vision_message(
    topic: VisionTopic, result: Result, header: Any, types: Types, *, depth: DepthMap | None, camera: Intrinsics | None
) -> Any:
    """The message of one result.

    Args:
        header: of the image.
        depth: of the same frame; None where it has none.
        camera: of the maps; None where it is assumed, so that nothing is known in metres.
    """
    found, make = topic.make(result), types(vision_type(topic))
    if topic.content == "classification":
        return make(header=header, results=[_hypothesis(types, found, number) for number in range(len(found.classes))])
    centres = np.full((len(found.classes), 3), np.nan, np.float32)
    if isinstance(result, Boxes) and depth is not None and camera is not None:
        centres = boxes_in_space(result, depth.depth_m, camera).centres
    detections = [_detection(types, found, number, centre, header) for number, centre in enumerate(centres)]
    return make(header=header, detections=detections)


def _detection(types: Types, found: Scored, number: int, centre: Array, header: Any) -> Any:
    left, top, right, bottom = map(float, found.boxes[number])
    middle = types(f"{_PACKAGE}/Point2D")(x=(left + right) / 2, y=(top + bottom) / 2)
    box = types(f"{_PACKAGE}/BoundingBox2D")(
        center=types(f"{_PACKAGE}/Pose2D")(position=middle, theta=0.0), size_x=right - left, size_y=bottom - top
    )
    place = types(f"{_PACKAGE}/ObjectHypothesisWithPose")(
        hypothesis=_hypothesis(types, found, number), pose=_pose(types, centre)
    )
    return types(f"{_PACKAGE}/Detection2D")(header=header, results=[place], bbox=box, id="")


def _pose(types: Types, centre: Array) -> Any:
    """A place without a direction; its covariance is unknown."""
    known, covariance = bool(np.isfinite(centre).all()), np.zeros(36)
    if not known:
        covariance[0] = _NO_POSE
    x, y, z = map(float, centre if known else np.zeros(3))
    position = types("geometry_msgs/msg/Point")(x=x, y=y, z=z)
    straight = types("geometry_msgs/msg/Quaternion")(x=0.0, y=0.0, z=0.0, w=1.0)
    pose = types("geometry_msgs/msg/Pose")(position=position, orientation=straight)
    return types("geometry_msgs/msg/PoseWithCovariance")(pose=pose, covariance=covariance)


def _hypothesis(types: Types, found: Scored, number: int) -> Any:
    score = float(found.scores[number])
    return types(f"{_PACKAGE}/ObjectHypothesis")(class_id=str(int(found.classes[number])), score=score)
