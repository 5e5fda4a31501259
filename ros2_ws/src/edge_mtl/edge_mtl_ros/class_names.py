"""Which class each number of a map is, as others look it up: vision_msgs beside the map of labels, and a parameter by task.

LabelInfo has the names. VisionInfo names the parameter that holds all that is known of them, and a version to compare. Both are
latched and say the same until a reload. Knows messages and parameters; the publishers are those of `outputs`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from edge_mtl.ros import class_topics
from edge_mtl.tasks import Specs

__all__ = ["ClassMessages", "ClassParameters"]

_PREFIX = "classes."
_VERSIONS = 0x7FFFFFFF
"""The largest database_version, an int32."""


class ClassMessages:
    """What is sent of the tasks whose results are classes; nothing where vision_msgs is not installed, which is logged once.

    Args:
        node: whose parameters are named.
        specs: of the tasks.
        bundle: what is loaded, as people call it.
    Attributes:
        types: of the messages, by topic.
        databases: all that is known of the classes, as JSON by task.
        messages: the module `vision_msgs.msg`; None where it is not installed, or nothing has classes.
    """

    def __init__(self, node: Node, specs: Specs, bundle: str) -> None:
        self._node_name, self._bundle = node.get_fully_qualified_name(), bundle
        self._topics = class_topics(specs)
        self.databases = {task: topic.database for task, topic in self._topics.items()}
        self.messages = _vision_messages() if self._topics else None
        self.types: dict[str, type] = {}
        if self.messages is not None:
            self.types = {topic.name: self.messages.LabelInfo for topic in self._topics.values()}
            self.types |= {topic.vision_name: self.messages.VisionInfo for topic in self._topics.values()}
        elif self._topics:
            node.get_logger().info(
                "vision_msgs is not installed: no label_info, vision_info, Detection2DArray or Classification is sent. "
                "Classes are named on ~/labels_json and ~/TASK/labels_json; boxes and classes of frames are sent as JSON. "
                "sudo apt install ros-$ROS_DISTRO-vision-msgs brings it",
                once=True,
            )

    def take(self, bundle: str) -> bool:
        """Whether another bundle is loaded now, so that messages have changed."""
        changed, self._bundle = bundle != self._bundle, bundle
        return changed

    def made(self, header: Any) -> Iterator[tuple[str, Any]]:
        """(topic, message) of each."""
        if self.messages is None:
            return
        for task, topic in self._topics.items():
            named = [self.messages.VisionClass(class_id=index, class_name=name) for index, name in enumerate(topic.classes)]
            yield topic.name, self.messages.LabelInfo(header=header, class_map=named, threshold=topic.threshold)
            info = self.messages.VisionInfo(header=header, method=f"edge_mtl {self._bundle}, {task}")
            info.database_location = f"{self._node_name}/{_PREFIX}{task}"
            info.database_version = zlib.crc32(f"{self._bundle}\n{topic.database}".encode()) & _VERSIONS
            yield topic.vision_name, info


class ClassParameters:
    """One parameter for each task whose results are classes, "classes.<task>", which nobody but the node sets.

    Args:
        node: their owner.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._held: dict[str, str] = {}
        self._setting = False
        node.add_on_set_parameters_callback(self._judge)

    def hold(self, databases: Mapping[str, str]) -> None:
        """Have these parameters, by task, with these values, and no others."""
        wanted = {f"{_PREFIX}{task}": text for task, text in databases.items()}
        self._setting = True
        try:
            for name in self._held.keys() - wanted.keys():
                self._node.undeclare_parameter(name)
            for name in wanted.keys() - self._held.keys():
                self._node.declare_parameter(name, wanted[name], _DESCRIPTOR, ignore_override=True)
            changed = [Parameter(name, value=text) for name, text in wanted.items() if self._held.get(name, text) != text]
            self._node.set_parameters(changed)
        finally:
            self._held, self._setting = wanted, False

    def _judge(self, changes: list[Parameter]) -> SetParametersResult:
        refused = [] if self._setting else [change.name for change in changes if change.name in self._held]
        if not refused:
            return SetParametersResult(successful=True)
        return SetParametersResult(successful=False, reason=f"{refused[0]} is what the bundle says; set bundle and reload")


_DESCRIPTOR = ParameterDescriptor(
    description="The classes of a task of the loaded bundle, JSON: ids, names and colours, and the id of unlabelled pixels.",
    additional_constraints="Set by the node alone.",
)


def _vision_messages() -> Any:
    """The messages of vision_msgs where that package is installed, else None."""
    try:
        messages = import_module("vision_msgs.msg")
        return messages if messages.LabelInfo and messages.VisionClass and messages.VisionInfo else None
    except (ImportError, AttributeError):
        return None
