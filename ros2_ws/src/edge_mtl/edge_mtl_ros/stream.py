"""One camera as the worker sees it: its frames, its camera_info, where its answers go, and what the frames before have said.

Nothing that one camera's frames leave behind reaches another's. Imports nothing of ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge_mtl.prediction import Prediction
from edge_mtl.tasks import Result, kind_of
from edge_mtl.tasks.stability import TemporalFilter
from edge_mtl_ros.cameras import CameraInUse, CameraKeeper
from edge_mtl_ros.frame_queue import LatestFrameQueue
from edge_mtl_ros.loading import CameraScale
from edge_mtl_ros.report import Latencies
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.sight import ImageWatch, Remark

__all__ = ["Answer", "Publishing", "Stream"]

Array = np.ndarray
_LOOKED_AT = 8
"""Every so many pixels along each side are looked at for a value."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is published for one frame.

    Attributes:
        header: the input's own, unchanged.
        camera: of the frame.
        prediction: the results of the tasks that are wanted, and the camera of their maps; None where that is none of them.
        map_size: (height, width) of the maps.
        rgb: makes the (H, W, 3) uint8 RGB image at the size of the maps.
    """

    header: Any
    camera: CameraInUse
    prediction: Prediction | None
    map_size: tuple[int, int]
    rgb: Callable[[], Array]


class Publishing(Protocol):
    """Where answers go; see `edge_mtl_ros.outputs.Outputs`."""

    def wanted(self, *, points: bool, vectors: bool) -> frozenset[str]: ...
    def tasks(self, wanted: frozenset[str]) -> tuple[str, ...]: ...
    def unscaled(self, withhold: str) -> frozenset[str]: ...
    def publish(self, wanted: frozenset[str], answer: Answer) -> frozenset[str]: ...


class Stream:
    """What belongs to one camera. The worker writes, others read.

    Args:
        name: of the camera; "" where it is the only one and has none.
        queue: where its frames come from.
        settings: its own, asked for each frame, so that changes take effect at the next one.
    Attributes:
        cameras: what scales its depth.
        publishing: where its answers go; None without an engine.
        scale: what its distances are multiplied by in place of the engine's factor; None where that is right.
        latencies: from arrival to published maps.
        predicting: the part of it in `Engine.predict`, of frames that were predicted.
        overheads: the rest, less waiting for the frames before: receiving, converting, publishing.
        asked: the tasks that the last frame was asked for.
        images: whether they repeat one another, or show nothing.
        frame_size: (height, width) of the last frame; None before the first.
        points_s: when the last cloud went out.
        filter: smooths its maps over time; None where they are not smoothed.
        last_rejection: why the last frame that could not be used could not.
        failure: what went wrong in the node itself, until a frame goes through again; empty else.
    """

    def __init__(self, name: str, queue: LatestFrameQueue[Any], *, settings: Callable[[], Settings]) -> None:
        self.name, self.queue, self.settings = name, queue, settings
        self.cameras = CameraKeeper()
        self.publishing: Publishing | None = None
        self.scale: CameraScale | None = None
        self.latencies, self.predicting, self.overheads = Latencies(), Latencies(), Latencies()
        self.points_s = float("-inf")
        self.last_rejection = ""
        self._oddities: set[str] = set()
        self.reset()

    @property
    def prefix(self) -> str:
        """What stands before the names of its topics: "NAME/", or nothing."""
        return f"{self.name}/" if self.name else ""

    @property
    def label(self) -> str:
        """What stands before sentences about it: "NAME: ", or nothing."""
        return f"{self.name}: " if self.name else ""

    def reset(self) -> None:
        """Forget what the frames before have said; no frame is being worked on."""
        self.filter: TemporalFilter | None = None
        self.failure, self.bad_values = "", 0
        self.asked: tuple[str, ...] = ()
        self.images = ImageWatch()
        self.frame_size: tuple[int, int] | None = None
        self._remarks: tuple[Remark, ...] = ()

    def remarks(self) -> tuple[Remark, ...]:
        """What to warn of: topics that get nothing of the last frame, maps of nothing, a camera that sees nothing."""
        return (*self._remarks, *self.images.remarks(self.settings().blind_after_s))

    def remark(
        self,
        oddities: Sequence[str] = (),
        *,
        withheld: frozenset[str] = frozenset(),
        missing: frozenset[str] = frozenset(),
        prediction: Prediction | None = None,
    ) -> None:
        """What is wrong with the last frame, in place of what was wrong with the one before.

        Args:
            oddities: what looks wrong about its image, in sentences.
            withheld: topics that were not sent for want of a scale.
            missing: topics of which there was nothing to send.
            prediction: None where there is none.
        """
        found = [Remark("image", text) for text in oddities]
        if withheld:
            text = f"{self._topics(withheld)} withheld until a camera scales the depth (withhold_unscaled)"
            found.append(Remark(f"withheld {sorted(withheld)}", text))
        if absent := missing - {"camera_info"}:  # that none has come is said of the depth's scale
            text = f"nothing to send on {self._topics(absent)}: this engine does not give it"
            found.append(Remark(f"absent {sorted(absent)}", text))
        if unknown := [name for name, result in (prediction.results if prediction else {}).items() if _nothing_known(result)]:
            found.append(Remark(f"unknown {unknown}", f"nothing is known anywhere in the last frame of {', '.join(unknown)}"))
        self._remarks = tuple(found)

    def news(self, oddities: Sequence[str]) -> tuple[str, ...]:
        """Those sentences that were not handed in before."""
        found = tuple(text for text in dict.fromkeys(oddities) if text not in self._oddities)
        self._oddities.update(found)
        return found

    def points_due(self, rate_hz: float, now_s: float) -> bool:
        """Whether a cloud may be made now; a rate of 0 is no limit."""
        return rate_hz <= 0 or now_s - self.points_s >= 1.0 / rate_hz

    def _topics(self, names: frozenset[str]) -> str:
        return ", ".join(f"~/{self.prefix}{name}" for name in sorted(names))


def _nothing_known(result: Result) -> bool:
    """Whether a map has no value at any of the places that are looked at."""
    kind = kind_of(result.spec)
    return kind.known_share(result.spec, kind.thin(result, _LOOKED_AT)) == 0.0
