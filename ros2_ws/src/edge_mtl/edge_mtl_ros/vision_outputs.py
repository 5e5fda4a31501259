"""Results that are no maps as messages of vision_msgs: boxes as Detection2DArray, the class of a frame as Classification.

Knows the messages; what is in them comes from the kinds of the tasks, and the publishers are those of `outputs`. Without
vision_msgs there is nothing here: the same results go out as JSON all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edge_mtl.image.frames import Intrinsics
from edge_mtl.ros import vision_topics
from edge_mtl.tasks import DepthMap, Result, Specs
from edge_mtl.tasks.box_places import box_centres
from edge_mtl.tasks.kind import Scored

__all__ = ["VisionOutputs"]

_NO_POSE = -1.0
"""covariance[0] of a pose that is not known, as in messages of IMUs."""


class VisionOutputs:
    """What is sent of the tasks whose results are boxes or a class.

    Args:
        specs: of the tasks.
        messages: the module `vision_msgs.msg`; None where it is not installed.
    Attributes:
        types: of the messages, by topic.
        tasks: by topic, the task that it is of.
        placed: the topics of detections, which have places where the frame has depth and a camera.
    """

    def __init__(self, specs: Specs, messages: Any) -> None:
        self._messages = messages
        found = vision_topics(specs) if messages is not None else {}
        self._topics = {topic.name: topic for topic in found.values()}
        self.tasks: Mapping[str, str] = {topic.name: task for task, topic in found.items()}
        self.placed = frozenset(name for name, topic in self._topics.items() if topic.content == "detections")
        self.types: dict[str, type] = {
            name: messages.Detection2DArray if name in self.placed else messages.Classification for name in self._topics
        }

    def made(self, name: str, result: Result, header: Any, *, depth: DepthMap | None, camera: Intrinsics | None) -> Any:
        """The message of one topic.

        Args:
            depth: of the same frame.
            camera: of the maps; None where it is assumed, so that nothing is known in metres.
        """
        found = self._topics[name].make(result)
        if name not in self.placed:
            hypotheses = [self._hypothesis(index, score) for index, score in zip(found.classes, found.scores, strict=True)]
            return self._messages.Classification(header=header, results=hypotheses)
        centres = np.full((len(found.scores), 3), np.nan, np.float32)
        if depth is not None and camera is not None:
            centres = box_centres(found.boxes, depth.depth_m, camera)
        detections = [self._detection(found, number, centre, header) for number, centre in enumerate(centres)]
        return self._messages.Detection2DArray(header=header, detections=detections)

    def _detection(self, found: Scored, number: int, centre: np.ndarray, header: Any) -> Any:
        left, top, right, bottom = map(float, found.boxes[number])
        posed = self._messages.ObjectHypothesisWithPose()
        posed.hypothesis = self._hypothesis(found.classes[number], found.scores[number])
        position = posed.pose.pose.position
        if np.isfinite(centre).all():
            position.x, position.y, position.z = map(float, centre)
        else:
            posed.pose.covariance[0] = _NO_POSE
        detection = self._messages.Detection2D(header=header, results=[posed])
        middle = detection.bbox.center.position
        middle.x, middle.y = (left + right) / 2, (top + bottom) / 2
        detection.bbox.size_x, detection.bbox.size_y = right - left, bottom - top
        return detection

    def _hypothesis(self, index: Any, score: Any) -> Any:
        return self._messages.ObjectHypothesis(class_id=str(int(index)), score=float(score))
