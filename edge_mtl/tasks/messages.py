"""What a task publishes in ROS, without ROS: topics with images or text, where classes are named, messages of vision_msgs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

__all__ = ["ClassTopic", "Scored", "Topic", "Transport", "VisionTopic"]

Array = np.ndarray

Transport = Literal["", "jpeg", "png", "depth"]
"""How a map is compressed on a topic of its own; "" for not at all."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One ROS topic of a task, without ROS.

    Attributes:
        name: below the node's private namespace: "segmentation", "segmentation/color".
        encoding: of sensor_msgs/Image ("mono8", "rgb8", "32FC1", "32FC3"); "" for std_msgs/String.
        make: the pixels (H, W[, 3]) or the text of a result; None where it has none. Called only when somebody listens.
        latched: the content does not depend on the frame; sent once, kept for those who join later. `make` gets None then.
        over_frame: `make` gets the result and the frame, (H, W, 3) uint8 RGB of the map's size.
        transport: of a smaller copy on a topic below, as image_transport has it: `<name>/compressed` for "jpeg" and "png",
            `<name>/compressedDepth` for "depth"; "" for none.
        also: encodings that may be asked for in place of `encoding`, each with its `make`.
    """

    name: str
    encoding: str
    make: Callable[..., Array | str | None]
    latched: bool = False
    over_frame: bool = False
    transport: Transport = ""
    also: tuple[tuple[str, Callable[..., Array | str | None]], ...] = ()

    def preferring(self, encodings: Collection[str]) -> Topic:
        """The same topic in the first of `encodings` that it offers; as it is where it offers none of them."""
        makers = dict(self.also)
        chosen = next((encoding for encoding in encodings if encoding in makers), None)
        return self if chosen is None else replace(self, encoding=chosen, make=makers[chosen])


@dataclass(frozen=True, slots=True)
class ClassTopic:
    """Where the classes of a task are named in vision_msgs, without ROS; latched.

    Attributes:
        name: of the LabelInfo, below the node's private namespace: "label_info", "lane/label_info".
        classes: names by index.
        database: all that is known of the classes, as JSON.
        threshold: the lowest score of what is answered; 0 where the likeliest class is answered whatever its score.
    """

    name: str
    classes: tuple[str, ...]
    database: str
    threshold: float = 0.0

    @property
    def vision_name(self) -> str:
        """Of the VisionInfo, beside it: "vision_info", "lane/vision_info"."""
        namespace, slash, _ = self.name.rpartition("/")
        return f"{namespace}{slash}vision_info"


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Classes with scores, best first, for messages of vision_msgs.

    Attributes:
        classes: (N,) integer class indices.
        scores: (N,) float in 0..1.
        xyxy: (N, 4) float32: the box of each, as in `Boxes`; None where all are answers for the whole frame.
    """

    classes: Array
    scores: Array
    xyxy: Array | None = None

    @classmethod
    def none(cls) -> Scored:
        """Nothing was found."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.float32))

    @property
    def boxes(self) -> Array:
        """(N, 4) float32: `xyxy`. Raises ValueError where the classes are of the whole frame."""
        if self.xyxy is None:
            raise ValueError("classes with boxes were expected; found classes of the whole frame")
        return self.xyxy


@dataclass(frozen=True, slots=True)
class VisionTopic:
    """A topic of a message of vision_msgs, without ROS: where that package is installed, and somebody listens.

    Attributes:
        name: below the node's private namespace: "objects".
        content: "detections" (Detection2DArray) or "classification" (Classification).
        make: what a result says; of detections with boxes.
    """

    name: str
    content: Literal["detections", "classification"]
    make: Callable[[Any], Scored]
