"""The lifecycle node: parameters, transitions, diagnostics and the reload service.

Knows ROS; what comes in is in `subscriber`, what happens to a frame in `worker`, what is published in `outputs`. Resources are
made in on_configure and freed in on_cleanup; frames are taken while active only. Messages of the camera come from the
receiver's thread, predictions are made in the worker's, everything else runs in the executor's one thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode
from rclpy.lifecycle import TransitionCallbackReturn as Return
from std_srvs.srv import Trigger

from edge_mtl.backends import spec_of
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine
from edge_mtl.errors import EdgeMtlError
from edge_mtl_ros.cameras import CameraKeeper
from edge_mtl_ros.frame_queue import LatestFrameQueue
from edge_mtl_ros.heartbeat import Heartbeat
from edge_mtl_ros.loading import Interrupted, close_engine, load_engine
from edge_mtl_ros.machine import Machine
from edge_mtl_ros.outputs import Outputs
from edge_mtl_ros.parameters import NodeParameters
from edge_mtl_ros.qos_monitor import QosMonitor
from edge_mtl_ros.reloading import Loading
from edge_mtl_ros.report import Report, Snapshot, report
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.subscriber import CameraSubscriber
from edge_mtl_ros.worker import Worker

__all__ = ["PerceptionNode"]

_LOADED = (
    "bundle",
    "backend",
    "precision",
    "threads",
    "tasks",
    "build",
    "self_test",
    "output_size",
    "depth_scale",
    "points_labels",
)
"""Parameters that an engine and its outputs are made with."""


class PerceptionNode(LifecycleNode):
    """Publishes what the tasks of a bundle say of one camera.

    Args:
        stop: set when the process should end; loading looks at it.
    Attributes:
        exit_code: what the process should return.
        activity: what a long step is doing, such as loading; empty else.
    """

    def __init__(self, *, stop: threading.Event, **options: Any) -> None:
        super().__init__("perception_node", **options)
        self.exit_code = 0
        self._stop = stop
        self._queue: LatestFrameQueue[Any] = LatestFrameQueue()
        self._own_parameters = NodeParameters(self, on_change=self._apply)
        self._apply(self._settings)
        self._cameras = CameraKeeper()
        self._worker = Worker(
            self._queue,
            self._cameras,
            settings=lambda: self._settings,
            log=self.get_logger(),
            reopen=self._reopen,
            give_up=self._give_up,
        )
        self._loaded = self._settings
        self._outputs: Outputs | None = None
        self._subscriber: CameraSubscriber | None = None
        self.activity = self._failure = self._reload_failure = ""
        self._finalized = False
        self._logged = ("", 0.0)
        self._active_s: float | None = None
        self._qos_monitor = QosMonitor(self)
        self._machine = Machine()
        self._reloading: Loading | None = None
        self.create_service(Trigger, "~/reload", self._reload)
        self._heartbeat = Heartbeat(self, self._report, hardware_id=fingerprint().describe())
        self._heartbeat.start()

    def start(self) -> None:
        """Configure and activate, if the parameters say so. To be called from the executor's thread."""
        if self._settings.autostart and self.trigger_configure() == Return.SUCCESS and not self._stop.is_set():
            self.trigger_activate()

    def close(self) -> None:
        """Stop all threads and free everything; the executor must have stopped.

        Raises:
            EdgeMtlError: a frame does not end, so that the engine cannot be freed.
        """
        self._heartbeat.stop()
        self._release()
        self.destroy_node()

    def reload_ended(self, timeout_s: float) -> bool:
        """Whether no engine is being loaded beside the running one, after waiting this long; `stop` interrupts most of it."""
        return self._reloading is None or self._reloading.ended(timeout_s)

    def on_configure(self, state: Any) -> Return:
        return self._guarded("configure", self._configure)

    def on_activate(self, state: Any) -> Return:
        return self._guarded("activate", lambda: self._activate(state))

    def on_deactivate(self, state: Any) -> Return:
        return self._guarded("deactivate", lambda: self._deactivate(state))

    def on_cleanup(self, state: Any) -> Return:
        return self._guarded("clean up", self._release)

    def on_shutdown(self, state: Any) -> Return:
        result = self._guarded("shut down", self._release)
        self._finalized = result != Return.ERROR
        return result

    def on_error(self, state: Any) -> Return:
        return self._guarded("recover from an error", self._release)

    def _LifecycleNodeMixin__on_change_state(self, request: Any, response: Any) -> Any:  # noqa: N802
        """Refuse a transition that does not exist here; rclpy would raise out of spin() and leave the caller waiting."""
        try:
            return super()._LifecycleNodeMixin__on_change_state(request, response)
        except rclpy_implementation.RCLError as exc:
            wanted = request.transition.label or request.transition.id
            self.get_logger().warning(f"transition {wanted} refused: {str(exc).splitlines()[0]}")
            response.success = False
            return response

    def _guarded(self, name: str, work: Callable[[], None]) -> Return:
        """Run a transition; rclpy swallows what a callback raises, so say it here."""
        try:
            work()
        except Interrupted:
            return Return.FAILURE
        except EdgeMtlError as exc:
            self._failure = f"cannot {name}: {exc}"
            self.get_logger().error(self._failure)
            return Return.FAILURE
        except Exception as exc:
            self._failure = f"cannot {name}: internal error, {type(exc).__name__}: {exc}"
            self.get_logger().error(self._failure)
            return Return.ERROR
        finally:
            self.activity = ""
        if name in ("configure", "activate"):
            self._failure = self._reload_failure = ""
        return Return.SUCCESS

    def _configure(self) -> None:
        self._release()
        wanted = self._settings
        self._install(load_engine(wanted, progress=self._progress), wanted)

    def _activate(self, state: Any) -> None:
        self._worker.start()
        self._cameras.forget()
        self._active_s = time.monotonic()
        super().on_activate(state)
        if self._outputs is not None:
            self._outputs.send_latched()
        compressed = self._settings.image_transport == "compressed"
        self._subscriber = CameraSubscriber(
            self, self._queue, self._cameras, compressed=compressed, on_incompatible=self._qos_monitor.add
        )

    def _deactivate(self, state: Any) -> None:
        self._quiet()
        super().on_deactivate(state)

    def _quiet(self) -> None:
        """No more frames in, no more answers out."""
        subscriber, self._subscriber = self._subscriber, None
        if subscriber is not None and not subscriber.close():
            self.get_logger().error("receiving did not end within 2 s")
        if not self._worker.stop():
            self.get_logger().error("the frame being worked on did not end within 3 s")
        self._active_s = None

    def _release(self) -> None:
        self._quiet()
        engine = self._worker.exchange(None, None)
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        if engine is not None:
            engine.close()

    def _outputs_for(self, engine: Engine, wanted: Settings) -> Outputs:
        """What publishes an engine's results: the present outputs where they fit, so that subscribers stay connected."""
        results = engine.predict(_blank(engine)).results
        if self._outputs is not None and self._outputs.fit(results, points_labels=wanted.points_labels):
            return self._outputs
        return Outputs(
            self,
            results,
            points_labels=wanted.points_labels,
            points_normals=self._settings.points_normals,
            on_incompatible=self._qos_monitor.add,
        )

    def _announce(self, engine: Engine) -> None:
        info = engine.info
        what = "the demo bundle" if not self._loaded.bundle else str(info.bundle)
        self.get_logger().info(f"{what}, {info.precision} on {info.backend} ({info.device}): {info.reason}")

    async def _reload(self, request: Any, response: Any) -> Any:
        """Load the bundle that the parameters name now, beside the running one; keep that one if the new one fails."""
        if self._reloading or self._worker.engine is None:
            response.success = False
            response.message = "a reload is running" if self._reloading else "the node is not configured"
            return response
        wanted = self._settings
        self._reloading = loading = Loading(wanted, self._progress)
        try:
            await loading
            engine = loading.result()
            if self._worker.engine is None:  # cleaned up meanwhile
                engine.close()
                raise EdgeMtlError("the node was cleaned up while the bundle was loading")
            self._install(engine, wanted)
        except Exception as exc:
            self._reload_failure = f"reload failed, continuing {self._loaded.bundle or 'the demo bundle'}: {exc}"
            self.get_logger().error(self._reload_failure)
            self._own_parameters.restore(self._loaded, _LOADED)
            response.success, response.message = False, f"{exc} The running engine was kept."
        else:
            self._reload_failure = ""
            response.success, response.message = (
                True,
                f"{engine.info.name} revision {engine.info.revision}: {engine.info.reason}",
            )
        finally:
            self._reloading, self.activity = None, ""
        return response

    def _install(self, engine: Engine, wanted: Settings) -> None:
        """Let an engine take over between two frames; where that fails it is closed and all stays as it was."""
        before, outputs = self._outputs, None
        try:
            outputs = self._outputs_for(engine, wanted)
            if outputs is not before and self._active_s is not None:
                outputs.activate()
                outputs.send_latched()
            previous = self._worker.exchange(engine, outputs)
        except Exception:
            if outputs is not None and outputs is not before:
                outputs.destroy()
            close_engine(engine, on_error=self.get_logger().error)
            raise
        self._outputs, self._loaded = outputs, wanted
        if before is not None and before is not outputs:
            before.destroy()
        if previous is not None:
            close_engine(previous, on_error=self.get_logger().error)
        self._announce(engine)

    def _reopen(self) -> Engine:
        """The engine that runs, once more; called from the worker's thread."""
        try:
            return load_engine(self._loaded, progress=self._progress)
        finally:
            self.activity = ""

    def _give_up(self, reason: str) -> None:
        self.get_logger().fatal(f"{reason}. Giving up.")
        self._failure, self.exit_code = reason, 1
        self._stop.set()

    def _progress(self, text: str, done: int, total: int) -> None:
        if self._stop.is_set():
            raise Interrupted
        counted = f"{text} ({done} of {total})" if total else text
        self.activity = counted
        logged, when = self._logged
        if text != logged or time.monotonic() - when > 5.0:
            self._logged = text, time.monotonic()
            self.get_logger().info(counted)

    @property
    def _settings(self) -> Settings:
        return self._own_parameters.settings

    def _apply(self, settings: Settings) -> None:
        self._queue.max_age_s = settings.max_age_s

    def _report(self) -> Report:
        """What /diagnostics says now; called from the heartbeat's thread."""
        now_s = time.monotonic()
        worker = self._worker
        rate_hz, p50_ms, p95_ms = worker.latencies.summary(now_s)
        busy_s, engine, outputs = worker.busy_since_s, worker.engine, self._outputs
        machine = self._machine.state(on_gpu=engine is not None and spec_of(engine.info.backend).device != "cpu")
        worker.throttled = machine.throttled
        camera_age_s, subscriber = self._cameras.age_s(), self._subscriber
        image_s = None if subscriber is None else subscriber.image_s
        scale, scale_ok = _NO_CAMERA, False
        if outputs is not None and not outputs.metric:
            scale, scale_ok = "nothing that this bundle predicts is in metres", True
        elif camera_age_s is not None:
            scale, scale_ok = worker.camera_text or _NO_CAMERA, worker.camera_ok
        return report(
            Snapshot(
                state=self._state_name(),
                activity=self.activity,
                failure=self._failure or worker.failure,
                reload_failure=self._reload_failure,
                engine=None if engine is None else engine.info,
                counts=self._queue.counts(),
                rate_hz=rate_hz,
                p50_ms=p50_ms,
                p95_ms=p95_ms,
                predict_ms=worker.predicting.summary(now_s)[1],
                overhead_ms=worker.overheads.summary(now_s)[1],
                image_age_s=None if image_s is None else now_s - image_s,
                camera_age_s=camera_age_s,
                active_s=None if self._active_s is None else now_s - self._active_s,
                working_s=None if busy_s is None else now_s - busy_s,
                stale_after_s=self._settings.stale_after_s,
                hung_after_s=self._settings.hung_after_s,
                scale=scale,
                scale_ok=scale_ok,
                step=worker.degradation.step.text,
                step_level=worker.degradation.level,
                incompatible=self._qos_monitor.present(),
                time_jumps=0 if subscriber is None else subscriber.time_jumps,
                bad_values=worker.bad_values,
                last_rejection=worker.last_rejection,
                machine=machine,
                asked=worker.asked,
            )
        )

    def _state_name(self) -> str:
        if self._active_s is not None:
            return "active"
        if self._finalized:
            return "finalized"
        return "inactive" if self._worker.engine is not None else "unconfigured"


_NO_CAMERA = "no camera_info has come: depth is right only up to a factor"


def _blank(engine: Engine) -> Any:
    """A black frame of the network's size."""
    import numpy as np

    return np.zeros((*engine.info.input_size, 3), np.uint8)
