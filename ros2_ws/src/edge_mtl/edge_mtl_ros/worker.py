"""The thread that predicts: the newest frame of the camera whose turn it is in, maps out, every frame accounted for.

Knows the order of the steps of one frame; what is remembered of a camera from frame to frame is in `stream`. Imports nothing of
ROS: messages are only read (`header`, `encoding`, ...), and publishing is a call.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol

import numpy as np

from edge_mtl.cuda.errors import CudaError
from edge_mtl.engine import Engine
from edge_mtl.errors import EdgeMtlError, FrameError, InferenceError
from edge_mtl.image.frames import Channels
from edge_mtl.prediction import Prediction
from edge_mtl.ros import image_of
from edge_mtl.tasks.stability import TemporalFilter
from edge_mtl_ros.cameras import CameraInUse
from edge_mtl_ros.degradation import Degradation
from edge_mtl_ros.faults import FaultPolicy
from edge_mtl_ros.frame_queue import FrameHandle, Outcome
from edge_mtl_ros.loading import CameraScale, Interrupted, close_engine
from edge_mtl_ros.scheduler import FrameScheduler
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.stream import Answer, Publishing, Stream

__all__ = ["Log", "Worker"]

Array = np.ndarray
_POLL_S = 0.5
_END_S = 3.0
"""How long a frame may take after `stop`."""
_EXCHANGE_S = 10.0
"""How long another engine waits for the frame of the one before."""
_REST_MAX_S = 1.0


class Log(Protocol):
    """The part of a ROS logger that is used."""

    def info(self, message: str) -> Any: ...
    def warning(self, message: str) -> Any: ...
    def error(self, message: str) -> Any: ...


class Worker:
    """Predicts the frames of all cameras with one engine that may be exchanged between two frames.

    Args:
        frames: where they come from.
        streams: the cameras, by the names of their queues.
        settings: of the node, asked for each frame, so that changes take effect at the next one.
        log: for failures.
        reopen: makes a new engine after the runtime failed repeatedly; raises Interrupted where the process is to end.
        give_up: called once when that did not help; the worker ends.
    Attributes:
        failure: why the last prediction failed; empty else.
    """

    def __init__(
        self,
        frames: FrameScheduler[Any],
        streams: Iterable[Stream],
        *,
        settings: Callable[[], Settings],
        log: Log,
        reopen: Callable[[], Engine],
        give_up: Callable[[str], None],
    ) -> None:
        self._frames, self._streams, self._settings = frames, {stream.name: stream for stream in streams}, settings
        self._log, self._reopen, self._give_up = log, reopen, give_up
        self._frame = threading.Lock()
        self._engine: Engine | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._overdue = False
        self._free_s = float("-inf")
        self.degradation = Degradation()
        self.faults = FaultPolicy()
        self.throttled = False
        self.busy_since_s: float | None = None
        self.failure = ""

    @property
    def engine(self) -> Engine | None:
        """The engine that the next frame will use."""
        return self._engine

    @property
    def stopping(self) -> bool:
        """Whether the thread was asked to end."""
        return self._stopping.is_set()

    def exchange(
        self, engine: Engine | None, publishing: Mapping[str, Publishing], scales: Mapping[str, CameraScale] | None = None
    ) -> Engine | None:
        """Use another engine, and the outputs and scales of the cameras, from the next frame on; waits for the present one.

        Returns the old engine.

        Raises:
            InferenceError: the present frame does not end.
        """
        if not self._frame.acquire(timeout=0.0 if self._hung() else _EXCHANGE_S):
            raise InferenceError("The frame being worked on does not end: the runtime hangs. End the process.")
        try:
            previous, self._engine = self._engine, engine
            for name, stream in self._streams.items():
                stream.publishing, stream.scale = publishing.get(name), (scales or {}).get(name)
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
        self._frames.open()
        self._thread = threading.Thread(target=self._run, name="edge_mtl-worker", daemon=True)
        self._thread.start()

    def stop(self, *, timeout_s: float = _END_S) -> bool:
        """Take no more frames and wait for the present one. Returns whether the thread ended in time."""
        self._stopping.set()
        self._frames.close()
        thread = self._thread
        if thread is None:
            return True
        if not self._hung():
            thread.join(timeout_s)
        self._overdue = thread.is_alive()
        if not self._overdue:
            self._thread = None
            for stream in self._streams.values():
                stream.filter = None
        return not self._overdue

    def _reset(self) -> None:
        """Forget what the frames before have said; no frame is being worked on."""
        self.degradation, self.failure = Degradation(), ""
        for stream in self._streams.values():
            stream.reset()

    def _hung(self) -> bool:
        """Whether the thread did not end at `stop`, and is still there."""
        return self._overdue and self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            taken = self._frames.take(_POLL_S)
            if taken is None:
                continue
            stream, handle = self._streams[taken[0]], taken[1]
            self.busy_since_s = started_s = time.monotonic()
            outcome: Outcome = "failed"
            try:
                with self._frame:
                    outcome = self._one(stream, handle)
                    self._degrade(handle, outcome)
            except Exception as exc:  # a fault of ours must not end the thread without a word
                self._log.error(f"{stream.label}frame {handle.number}: {type(exc).__name__}: {exc}")
                stream.failure = f"internal error, {type(exc).__name__}: {exc}"
            finally:
                self.busy_since_s = None
                self._free_s = time.monotonic()
                stream.queue.finish(handle, outcome)
            if not self.degradation.step.full_rate:
                self._stopping.wait(min(time.monotonic() - started_s, _REST_MAX_S))

    def _one(self, stream: Stream, handle: FrameHandle[Any]) -> Outcome:
        """One frame, from message to published maps."""
        engine, publishing = self._engine, stream.publishing
        if engine is None or publishing is None:
            return "stopped"
        settings, step, now_s = stream.settings(), self.degradation.step, time.monotonic()
        points = settings.points and step.points and stream.points_due(settings.points_rate_hz, now_s)
        wanted = publishing.wanted(points=points, vectors=step.vectors)
        if not wanted:
            stream.remark()
            listened = self.degradation.level and publishing.wanted(points=settings.points, vectors=True)
            return "shed" if listened else "unsubscribed"
        message, oddities = handle.item, list[str]()
        try:
            frame, channels = image_of(message, bits=settings.image_bits, on_remark=oddities.append)
            for text in stream.news(oddities):
                self._log.warning(f"{stream.label}{text}")
            stream.images.see(frame, now_s)
            stream.frame_size = frame.shape[0], frame.shape[1]
            camera = stream.cameras.of_image(stream.frame_size, rectified=settings.rectified, undistort=settings.undistort)
            if camera.undo is not None:
                frame = camera.undo(frame)
            withheld = wanted & publishing.unscaled(settings.withhold_unscaled if camera.intrinsics is None else "none")
            wanted -= withheld
            if not wanted:
                stream.remark(oddities, withheld=withheld)
                return "withheld"
            asked_s = time.monotonic()
            stream.asked = publishing.tasks(wanted)
            prediction, size = _predicted(engine, frame, channels, camera, stream)
            predict_s = time.monotonic() - asked_s
        except FrameError as exc:
            if stream.last_rejection != str(exc):
                self._log.warning(f"{stream.label}frame rejected: {exc}")
            stream.last_rejection = str(exc)
            return "rejected"
        except EdgeMtlError as exc:
            return self._failed(exc)
        if prediction is not None:
            self.faults.succeeded()
            self.failure = ""
        if prediction is None or not settings.stability:
            stream.filter = None
        else:
            stream.filter = stream.filter or TemporalFilter()
            prediction = stream.filter(frame, prediction)
        stream.bad_values = 0 if prediction is None else prediction.bad_values
        answer = Answer(message.header, camera, prediction, size, partial(_rgb, frame, channels, size))
        sent = publishing.publish(wanted, answer)
        stream.failure = ""
        stream.remark(oddities, withheld=withheld, missing=wanted - sent, prediction=prediction)
        if not sent:
            return "withheld"
        if "points" in sent:
            stream.points_s = now_s
        sent_s = time.monotonic()
        latency_s = sent_s - handle.arrived_s
        queued_s = max(0.0, self._free_s - handle.offered_s)  # behind the frames before
        stream.latencies.add(sent_s, latency_s)
        if prediction is not None:
            stream.predicting.add(sent_s, predict_s)
        stream.overheads.add(sent_s, latency_s - queued_s - predict_s)
        return "published"

    def _degrade(self, handle: FrameHandle[Any], outcome: Outcome) -> None:
        """Decide which work is left out from the next frame on."""
        latency_s = time.monotonic() - handle.arrived_s if outcome == "published" else None
        self.degradation.budget_s = self._settings().latency_budget_ms / 1e3
        if self.degradation.observe(latency_s, throttled=self.throttled):
            took = "" if latency_s is None else f" ({latency_s * 1e3:.0f} ms per frame)"
            self._log.warning(f"work done from now on: {self.degradation.step.text}{took}")

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


def _predicted(
    engine: Engine, frame: Array, channels: Channels, camera: CameraInUse, stream: Stream
) -> tuple[Prediction | None, tuple[int, int]]:
    """What the tasks asked for say of a frame, None where there are none, and the size of the maps, known all the same."""
    if not stream.asked:
        return None, engine.map_size((frame.shape[0], frame.shape[1]))
    scale = None if stream.scale is None else stream.scale.scale
    prediction = engine.predict(frame, channels=channels, intrinsics=camera.intrinsics, tasks=stream.asked, depth_scale=scale)
    return prediction, prediction.map_size


def _rgb(frame: Array, channels: Channels, size: tuple[int, int]) -> Array:
    """(H, W, 3) uint8 RGB of a frame at another size (height, width)."""
    import cv2

    shown = frame if channels == "rgb" else frame[..., ::-1]
    if shown.shape[:2] == size:
        return shown
    return cv2.resize(np.ascontiguousarray(shown), size[::-1], interpolation=cv2.INTER_AREA)
