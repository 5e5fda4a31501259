"""The thread that predicts: newest frame in, maps out, every frame accounted for.

Knows the order of the steps of one frame; imports nothing of ROS. Messages are only read (`header`, `encoding`, ...), and
publishing is a call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np

from edge_mtl.cuda.errors import CudaError
from edge_mtl.engine import Engine
from edge_mtl.errors import EdgeMtlError, FrameError, InferenceError
from edge_mtl.image.frames import Channels
from edge_mtl.prediction import Prediction
from edge_mtl.ros import image_of
from edge_mtl.tasks import Result, kind_of
from edge_mtl.tasks.stability import TemporalFilter
from edge_mtl_ros.cameras import CameraInUse, CameraKeeper
from edge_mtl_ros.degradation import Degradation
from edge_mtl_ros.faults import FaultPolicy
from edge_mtl_ros.frame_queue import FrameHandle, LatestFrameQueue, Outcome
from edge_mtl_ros.loading import Interrupted, close_engine
from edge_mtl_ros.report import Latencies
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.sight import ImageWatch, Remark

__all__ = ["Answer", "Log", "Publishing", "Worker"]

Array = np.ndarray
_POLL_S = 0.5
_END_S = 3.0
"""How long a frame may take after `stop`."""
_EXCHANGE_S = 10.0
"""How long another engine waits for the frame of the one before."""
_REST_MAX_S = 1.0
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


class Log(Protocol):
    """The part of a ROS logger that is used."""

    def info(self, message: str) -> Any: ...
    def warning(self, message: str) -> Any: ...
    def error(self, message: str) -> Any: ...


class Worker:
    """Predicts frames of a queue with an engine that may be exchanged between two frames.

    Args:
        queue: where frames come from.
        cameras: what scales the depth.
        settings: asked for each frame, so that changes take effect at the next one.
        log: for failures.
        reopen: makes a new engine after the runtime failed repeatedly; raises Interrupted where the process is to end.
        give_up: called once when that did not help; the worker ends.
    Attributes:
        latencies: from arrival to published maps.
        predicting: the part of it in `Engine.predict`, of frames that were predicted.
        overheads: the rest, less waiting for the frame before: receiving, converting, publishing.
        asked: the tasks that the last frame was asked for.
        images: whether they repeat one another, or show nothing.
        frame_size: (height, width) of the last frame; None before the first.
    """

    def __init__(
        self,
        queue: LatestFrameQueue[Any],
        cameras: CameraKeeper,
        *,
        settings: Callable[[], Settings],
        log: Log,
        reopen: Callable[[], Engine],
        give_up: Callable[[str], None],
    ) -> None:
        self._queue, self._cameras, self._settings = queue, cameras, settings
        self._log, self._reopen, self._give_up = log, reopen, give_up
        self._frame = threading.Lock()
        self._engine: Engine | None = None
        self._publishing: Publishing | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._overdue = False
        self._filter: TemporalFilter | None = None
        self._oddities: set[str] = set()
        self._points_s = float("-inf")
        self._free_s = float("-inf")
        self.latencies, self.predicting, self.overheads = Latencies(), Latencies(), Latencies()
        self.degradation = Degradation()
        self.faults = FaultPolicy()
        self.throttled = False
        self.busy_since_s: float | None = None
        self.images = ImageWatch()
        self.frame_size: tuple[int, int] | None = None
        self._remarks: tuple[Remark, ...] = ()
        self.bad_values = 0
        self.last_rejection = ""
        self.asked: tuple[str, ...] = ()
        self.failure = ""

    @property
    def engine(self) -> Engine | None:
        """The engine that the next frame will use."""
        return self._engine

    @property
    def stopping(self) -> bool:
        """Whether the thread was asked to end."""
        return self._stopping.is_set()

    def remarks(self) -> tuple[Remark, ...]:
        """What to warn of: topics that get nothing of the last frame, maps of nothing, a camera that sees nothing."""
        return (*self._remarks, *self.images.remarks(self._settings().blind_after_s))

    def exchange(self, engine: Engine | None, publishing: Publishing | None) -> Engine | None:
        """Use another engine and other outputs from the next frame on; waits for the present one. Returns the old engine.

        Raises:
            InferenceError: the present one does not end.
        """
        if not self._frame.acquire(timeout=0.0 if self._hung() else _EXCHANGE_S):
            raise InferenceError("The frame being worked on does not end: the runtime hangs. End the process.")
        try:
            previous, self._engine, self._publishing = self._engine, engine, publishing
            self._reset()
            return previous
        finally:
            self._frame.release()

    def start(self) -> None:
        """Begin to take frames. Raises InferenceError where a thread that was stopped still hangs in the runtime."""
        if self._hung():
            raise InferenceError("A frame from before does not end: the runtime hangs. End the process.")
        if self._thread is not None and self._thread.is_alive():
            return
        self._overdue = False
        self._reset()
        self._stopping.clear()
        self._queue.open()
        self._thread = threading.Thread(target=self._run, name="edge_mtl-worker", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_s: float = _END_S) -> bool:
        """Take no more frames and wait for the present one. Returns whether the thread ended in time."""
        self._stopping.set()
        self._queue.close()
        thread = self._thread
        if thread is None:
            return True
        if not self._hung():
            thread.join(timeout_s)
        self._overdue = thread.is_alive()
        if not self._overdue:
            self._thread, self._filter = None, None
        return not self._overdue

    def _reset(self) -> None:
        """Forget what the frames before have said; no frame is being worked on."""
        self._filter, self.degradation = None, Degradation()
        self.failure, self.bad_values, self.asked, self._remarks = "", 0, (), ()
        self.images, self.frame_size = ImageWatch(), None

    def _hung(self) -> bool:
        """Whether the thread did not end at `stop`, and is still there."""
        return self._overdue and self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            handle = self._queue.take(_POLL_S)
            if handle is None:
                continue
            self.busy_since_s = started_s = time.monotonic()
            outcome: Outcome = "failed"
            try:
                with self._frame:
                    outcome = self._one(handle)
                    self._degrade(handle, outcome)
            except Exception as exc:  # a fault of ours must not end the thread without a word
                self._log.error(f"frame {handle.number}: {type(exc).__name__}: {exc}")
                self.failure = f"internal error, {type(exc).__name__}: {exc}"
            finally:
                self.busy_since_s = None
                self._free_s = time.monotonic()
                self._queue.finish(handle, outcome)
            if not self.degradation.step.full_rate:
                self._stopping.wait(min(time.monotonic() - started_s, _REST_MAX_S))

    def _one(self, handle: FrameHandle[Any]) -> Outcome:
        """One frame, from message to published maps."""
        if self._engine is None or self._publishing is None:
            return "stopped"
        settings, step, now_s = self._settings(), self.degradation.step, time.monotonic()
        points = settings.points and step.points and self._points_due(settings, now_s)
        wanted = self._publishing.wanted(points=points, vectors=step.vectors)
        if not wanted:
            self._remarks = ()
            listened = self.degradation.level and self._publishing.wanted(points=settings.points, vectors=True)
            return "shed" if listened else "unsubscribed"
        message, oddities = handle.item, list[str]()
        try:
            frame, channels = image_of(message, bits=settings.image_bits, on_remark=oddities.append)
            self._log_oddities(oddities)
            self.images.see(frame, now_s)
            self.frame_size = frame.shape[0], frame.shape[1]
            camera = self._cameras.of_image(self.frame_size, rectified=settings.rectified, undistort=settings.undistort)
            if camera.undo is not None:
                frame = camera.undo(frame)
            withheld = wanted & self._publishing.unscaled(settings.withhold_unscaled if camera.intrinsics is None else "none")
            wanted -= withheld
            if not wanted:
                self._remarks = _remarks(oddities, withheld, frozenset(), None)
                return "withheld"
            asked_s = time.monotonic()
            prediction, size = self._predicted(self._engine, frame, channels, camera, self._publishing.tasks(wanted))
            predict_s = time.monotonic() - asked_s
        except FrameError as exc:
            if self.last_rejection != str(exc):
                self._log.warning(f"frame rejected: {exc}")
            self.last_rejection = str(exc)
            return "rejected"
        except EdgeMtlError as exc:
            return self._failed(exc)
        if prediction is not None:
            self.faults.succeeded()
            self.failure = ""
        if prediction is None or not settings.stability:
            self._filter = None
        else:
            self._filter = self._filter or TemporalFilter()
            prediction = self._filter(frame, prediction)
        self.bad_values = 0 if prediction is None else prediction.bad_values
        answer = Answer(message.header, camera, prediction, size, partial(_rgb, frame, channels, size))
        sent = self._publishing.publish(wanted, answer)
        self._remarks = _remarks(oddities, withheld, wanted - sent, prediction)
        if not sent:
            return "withheld"
        if "points" in sent:
            self._points_s = now_s
        sent_s = time.monotonic()
        latency_s = sent_s - handle.arrived_s
        queued_s = max(0.0, self._free_s - handle.offered_s)  # behind the frame before
        self.latencies.add(sent_s, latency_s)
        if prediction is not None:
            self.predicting.add(sent_s, predict_s)
        self.overheads.add(sent_s, latency_s - queued_s - predict_s)
        return "published"

    def _predicted(
        self, engine: Engine, frame: Array, channels: Channels, camera: CameraInUse, tasks: tuple[str, ...]
    ) -> tuple[Prediction | None, tuple[int, int]]:
        """What `tasks` say of a frame, None where none is asked for, and the size of the maps, which is known all the same."""
        self.asked = tasks
        if not tasks:
            return None, engine.map_size((frame.shape[0], frame.shape[1]))
        prediction = engine.predict(frame, channels=channels, intrinsics=camera.intrinsics, tasks=tasks)
        return prediction, prediction.map_size

    def _degrade(self, handle: FrameHandle[Any], outcome: Outcome) -> None:
        """Decide which work is left out from the next frame on."""
        latency_s = time.monotonic() - handle.arrived_s if outcome == "published" else None
        self.degradation.budget_s = self._settings().latency_budget_ms / 1e3
        if self.degradation.observe(latency_s, throttled=self.throttled):
            took = "" if latency_s is None else f" ({latency_s * 1e3:.0f} ms per frame)"
            self._log.warning(f"work done from now on: {self.degradation.step.text}{took}")

    def _log_oddities(self, oddities: Sequence[str]) -> None:
        """Log what looks wrong about an image that is used all the same, once for each wording."""
        for text in oddities:
            if text not in self._oddities:
                self._oddities.add(text)
                self._log.warning(text)

    def _points_due(self, settings: Settings, now_s: float) -> bool:
        return settings.points_rate_hz <= 0 or now_s - self._points_s >= 1.0 / settings.points_rate_hz

    def _failed(self, error: EdgeMtlError) -> Outcome:
        """The runtime failed: continue, open it again, or give up."""
        remedy = self.faults.failed(lost=isinstance(error, CudaError) and error.sticky)
        self.failure = f"inference failed: {error}"
        self._log.error(f"{self.failure} ({remedy.replace('_', ' ')})")
        if remedy == "reopen" and self._engine is not None:
            broken = self._engine
            try:
                self._engine = self._reopen()
            except Interrupted:
                self._stopping.set()
                return "stopped"
            except Exception as exc:
                self._log.error(f"the engine cannot be opened again: {exc}")
                remedy = "give_up"
            else:
                close_engine(broken, on_error=self._log.error)
        if remedy == "give_up":
            self._stopping.set()
            self._give_up(self.failure)
        return "failed"


def _remarks(
    oddities: Sequence[str], withheld: frozenset[str], missing: frozenset[str], prediction: Prediction | None
) -> tuple[Remark, ...]:
    """What is wrong with a frame that was predicted.

    Args:
        oddities: what looks wrong about its image, in sentences.
        withheld: topics that were not sent for want of a scale.
        missing: topics of which there was nothing to send.
        prediction: None where there is none.
    """
    found = [Remark("image", text) for text in oddities]
    if withheld:
        text = f"{_topics(withheld)} withheld until a camera scales the depth (withhold_unscaled)"
        found.append(Remark(f"withheld {sorted(withheld)}", text))
    if absent := missing - {"camera_info"}:  # that none has come is said of the depth's scale
        found.append(Remark(f"absent {sorted(absent)}", f"nothing to send on {_topics(absent)}: this engine does not give it"))
    if unknown := [name for name, result in (prediction.results if prediction else {}).items() if _nothing_known(result)]:
        found.append(Remark(f"unknown {unknown}", f"nothing is known anywhere in the last frame of {', '.join(unknown)}"))
    return tuple(found)


def _topics(names: frozenset[str]) -> str:
    return ", ".join(f"~/{name}" for name in sorted(names))


def _nothing_known(result: Result) -> bool:
    """Whether a map has no value at any of the places that are looked at."""
    kind = kind_of(result.spec)
    return kind.known_share(result.spec, kind.thin(result, _LOOKED_AT)) == 0.0


def _rgb(frame: Array, channels: Channels, size: tuple[int, int]) -> Array:
    """(H, W, 3) uint8 RGB of a frame at another size (height, width)."""
    import cv2

    shown = frame if channels == "rgb" else frame[..., ::-1]
    if shown.shape[:2] == size:
        return shown
    return cv2.resize(np.ascontiguousarray(shown), size[::-1], interpolation=cv2.INTER_AREA)
