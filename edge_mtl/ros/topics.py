"""What the node and annotated bags publish of a bundle's tasks: the topics of their kinds, each with a name of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from edge_mtl.errors import BundleError
from edge_mtl.ros.compression import SUFFIXES
from edge_mtl.tasks import Specs, TaskSpec, kind_of
from edge_mtl.tasks.kind import ClassTopic, Topic, Transport, VisionTopic

__all__ = ["OF_THE_FRAME", "TaskTopic", "class_topics", "task_topics", "vision_topics"]

OF_THE_FRAME = (
    "camera_info",
    "image",
    "image/compressed",
    "points",
    "obstacles",
    "ground",
    "scan",
    "drivable_grid",
    "drivable_costs",
)
"""Topics of no single task, whose names no task may take."""


@dataclass(frozen=True, slots=True)
class TaskTopic:
    """One topic of one task: a map or text, or a compressed copy of a map.

    Attributes:
        spec: the task, whose result `topic.make` takes.
        topic: the content and how it is made.
        transport: how the copy is compressed; "" for the content itself.
    """

    spec: TaskSpec
    topic: Topic
    transport: Transport = ""

    @property
    def name(self) -> str:
        """Below the node's private namespace."""
        return f"{self.topic.name}/{SUFFIXES[self.transport]}" if self.transport else self.topic.name


def task_topics(specs: Specs, *, encodings: Collection[str] = ()) -> tuple[TaskTopic, ...]:
    """The topics of all tasks, in the bundle's order, each before its compressed copy.

    Args:
        encodings: taken by topics that offer them in place of their own, such as "16UC1".
    Raises:
        BundleError: two tasks, or a task and the node itself, would publish under one name.
    """
    found = tuple(
        TaskTopic(spec, topic.preferring(encodings), transport)
        for spec in specs.values()
        for topic in kind_of(spec).topics(spec)
        for transport in dict.fromkeys(("", topic.transport))
    )
    claims = [(item.name, item.spec.name) for item in found]
    claims += [(topic, name) for name, item in class_topics(specs).items() for topic in (item.name, item.vision_name)]
    claims += [(topic.name, name) for name, topic in vision_topics(specs).items()]
    _check_unique(claims)
    return found


def class_topics(specs: Specs) -> dict[str, ClassTopic]:
    """The topics that name classes, by task, of those tasks whose results are classes."""
    found = ((name, kind_of(spec).class_topic(spec)) for name, spec in specs.items())
    return {name: topic for name, topic in found if topic is not None}


def vision_topics(specs: Specs) -> dict[str, VisionTopic]:
    """The topics of messages of vision_msgs, by task, of those tasks whose results that package has messages for."""
    found = ((name, kind_of(spec).vision_topic(spec)) for name, spec in specs.items())
    return {name: topic for name, topic in found if topic is not None}


def _check_unique(claims: Iterable[tuple[str, str]]) -> None:
    """Raise BundleError where one topic is claimed twice; `claims` are (topic, task)."""
    owners = dict.fromkeys(OF_THE_FRAME, "the node itself")
    for topic, task in claims:
        if topic in owners:
            raise BundleError(
                f"Every topic should have one task; found ~/{topic} of {owners[topic]} and of the task {task!r}. "
                "Export the bundle with another name for the task."
            )
        owners[topic] = f"the task {task!r}"
