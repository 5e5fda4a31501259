"""Results that are no maps as messages of vision_msgs: boxes as Detection2DArray, the class of a frame as Classification.

What is in them says `edge_mtl.ros.vision`; the publishers are those of `outputs`. Without vision_msgs there is nothing here,
and JSON goes out all the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from edge_mtl.prediction import Prediction
from edge_mtl.ros import vision_topics
from edge_mtl.ros.vision import vision_message, vision_type
from edge_mtl.tasks import DepthMap, Specs
from edge_mtl.tasks.points import first_of

__all__ = ["VisionOutputs"]


class VisionOutputs:
    """What is sent of the tasks whose results are boxes or a class.

    Args:
        specs: of the tasks.
        installed: whether vision_msgs is.
    Attributes:
        types: of the messages, by topic.
        tasks: by topic, the task that it is of.
        placed: the topics of detections, which have places where the frame has depth and a camera.
    """

    def __init__(self, specs: Specs, *, installed: bool) -> None:
        found = vision_topics(specs) if installed else {}
        self._topics = {topic.name: topic for topic in found.values()}
        self.tasks: Mapping[str, str] = {topic.name: task for task, topic in found.items()}
        self.types = {name: _type(vision_type(topic)) for name, topic in self._topics.items()}
        self.placed = frozenset(name for name, topic in self._topics.items() if topic.content == "detections")

    def made(self, name: str, prediction: Prediction, header: Any, *, scaled: bool) -> Any:
        """The message of one topic; `scaled` says that the prediction's distances are in metres."""
        return vision_message(
            self._topics[name],
            prediction.results[self.tasks[name]],
            header,
            _type,
            depth=first_of(prediction.results, DepthMap),
            camera=prediction.intrinsics if scaled else None,
        )


@lru_cache(maxsize=64)
def _type(name: str) -> Any:
    package, _, kind = name.partition("/msg/")
    return getattr(import_module(f"{package}.msg"), kind)
