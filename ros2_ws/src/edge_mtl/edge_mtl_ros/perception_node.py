"""The lifecycle node: parameters, transitions, diagnostics and the reload service.

Knows ROS; the cameras are in `channels`: what comes in is in `subscriber`, what is published in `outputs`; what happens to a
frame is in `worker`. Resources are made in on_configure and freed in on_cleanup; frames are taken while active only. Messages
of each camera come from its receiver's thread, predictions are made in the worker's, and what blocks waits in a thread of
`background`; everything else runs in the executor's one thread, which therefore answers at any time.

During a reload, activate and deactivate are made at once; cleanup and shutdown interrupt it. A second reload, and one during
a transition, are refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lifecycle_msgs.msg import Transition
from rclpy.lifecycle import TransitionCallbackReturn as Return
from std_srvs.srv import Trigger

from edge_mtl.backends import spec_of
from edge_mtl.device import fingerprint
from edge_mtl.engine import Engine
from edge_mtl.errors import EdgeMtlError
from edge_mtl.tasks import Result
from edge_mtl_ros.background import Background
from edge_mtl_ros.bond import ManagerBond
from edge_mtl_ros.channels import Channels
from edge_mtl_ros.heartbeat import Heartbeat
from edge_mtl_ros.lifecycle import SteppedLifecycleNode, TransitionRefused
from edge_mtl_ros.loading import CameraScale, Interrupted, camera_scales, close_engine, load_engine
from edge_mtl_ros.machine import Machine
from edge_mtl_ros.outputs import Outputs
from edge_mtl_ros.parameters import NodeParameters
from edge_mtl_ros.qos_monitor import QosMonitor
from edge_mtl_ros.report import Report, Snapshot, reports
from edge_mtl_ros.settings import LOADED, Settings
from edge_mtl_ros.worker import Worker

__all__ = ["PerceptionNode"]


@dataclass(frozen=True, slots=True)
class _Loaded:
    """An engine that was loaded, what it answers for any frame, and the scales that cameras have of their own."""

    engine: Engine
    results: Mapping[str, Result]
    scales: Mapping[str, CameraScale]


class PerceptionNode(SteppedLifecycleNode):
    """Publishes what the tasks of a bundle say of one camera or of several, with one engine for all.

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
        self._qos_monitor = QosMonitor(self)
        self._own_parameters = NodeParameters(self, on_change=lambda: self._channels.apply())
        self._channels = Channels(self, lambda: self._own_parameters.of_cameras, on_incompatible=self._qos_monitor.add)
        self._worker = Worker(
            self._channels.frames,
            self._channels.streams,
            settings=lambda: self._settings,
            log=self.get_logger(),
            reopen=self._reopen,
            give_up=self._give_up,
        )
        self._loaded = self._settings
        self.activity = self._failure = self._reload_failure = ""
        self._logged = ("", 0.0)
        self._active_s: float | None = None
        self._machine = Machine()
        self._background = Background(self)
        self._bond = ManagerBond(self, self._background)
        self._reloading = False
        self._unwanted = threading.Event()
        self.create_service(Trigger, "~/reload", self._reload)
        self._heartbeat = Heartbeat(self, self._report, hardware_id=fingerprint().describe())
        self._heartbeat.start()

    async def start(self) -> None:
        """Configure and activate, if the parameters say so. To be run by the executor."""
        try:
            if self._settings.autostart and await self.change_state(Transition.TRANSITION_CONFIGURE) == Return.SUCCESS:
                await self.change_state(Transition.TRANSITION_ACTIVATE)
        except TransitionRefused as exc:  # somebody else was faster
            self.get_logger().warning(str(exc))

    def close(self) -> None:
        """Stop all threads and free everything; the executor must have stopped.

        Raises:
            EdgeMtlError: a frame does not end, so that the engine cannot be freed.
        """
        self._heartbeat.stop()
        self._background.finish(self._release())
        self.destroy_node()

    def interrupt(self) -> None:
        """Give up the engine that is being loaded; between two steps of loading this is seen at once."""
        self._unwanted.set()

    async def on_configure(self, state: Any) -> Return:
        return await self._guarded("configure", self._configure())

    async def on_activate(self, state: Any) -> Return:
        return await self._guarded("activate", self._activate(state))

    async def on_deactivate(self, state: Any) -> Return:
        return await self._guarded("deactivate", self._deactivate(state))

    async def on_cleanup(self, state: Any) -> Return:
        return await self._guarded("clean up", self._release())

    async def on_shutdown(self, state: Any) -> Return:
        return await self._guarded("shut down", self._release())

    async def on_error(self, state: Any) -> Return:
        return await self._guarded("recover from an error", self._release())

    async def _guarded(self, name: str, work: Awaitable[None]) -> Return:
        """Run a transition and say why it failed; nobody else would."""
        try:
            await work
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
        if name in ("configure", "activate"):
            self._failure = self._reload_failure = ""
        return Return.SUCCESS

    async def _configure(self) -> None:
        await self._release()
        wanted, self._unwanted = self._settings, threading.Event()
        await self._install(await self._loaded_engine(wanted, self._unwanted), wanted)

    async def _activate(self, state: Any) -> None:
        self._worker.start()
        self._active_s = time.monotonic()
        super().on_activate(state)
        self._channels.listen()
        self._bond.start()

    async def _deactivate(self, state: Any) -> None:
        await self._quiet()
        super().on_deactivate(state)

    async def _quiet(self) -> None:
        """No more frames in, no more answers out."""
        await self._bond.stop()
        if not self._channels.close():
            self.get_logger().error("receiving did not end within 2 s")
        if not await self._background.run(self._worker.stop):
            self.get_logger().error("the frame being worked on did not end within 3 s")
        self._active_s = None

    async def _release(self) -> None:
        self.interrupt()
        await self._quiet()
        engine = await self._background.run(partial(self._worker.exchange, None, {}))
        self._channels.adopt({})
        if engine is not None:
            await self._background.run(engine.close)

    async def _loaded_engine(self, wanted: Settings, unwanted: threading.Event) -> _Loaded:
        """An engine and what goes with it; Interrupted where it is not wanted any more."""
        try:
            return await self._background.run(partial(self._load, wanted, unwanted.is_set))
        finally:
            if self._unwanted is unwanted:
                self.activity = ""

    def _load(self, wanted: Settings, unwanted: Callable[[], bool]) -> _Loaded:
        engine = load_engine(wanted, progress=partial(self._progress, unwanted))
        try:
            loaded = _Loaded(
                engine, engine.predict(_blank(engine)).results, camera_scales(engine, self._own_parameters.own_scales)
            )
            self._check_wanted(unwanted)
            return loaded
        except BaseException:
            close_engine(engine, on_error=self.get_logger().error)
            raise

    def _announce(self, engine: Engine) -> None:
        info = engine.info
        what = "the demo bundle" if not self._loaded.bundle else str(info.bundle)
        self.get_logger().info(f"{what}, {info.precision} on {info.backend} ({info.device}): {info.reason}")
        if info.shortfall:
            self.get_logger().warning(info.shortfall)

    async def _reload(self, request: Any, response: Any) -> Any:
        """Load the bundle that the parameters name now, beside the running one; keep that one if the new one fails."""
        response.message = self._no_reload()
        if response.message:
            self.get_logger().warning(f"reload refused: {response.message}")
            return response
        self._reloading = True
        wanted, self._unwanted = self._settings, threading.Event()
        unwanted = self._unwanted
        try:
            loaded = await self._loaded_engine(wanted, unwanted)
            await self.exclusively(lambda: self._swap(loaded, wanted, unwanted))
        except Interrupted:
            response.message = "interrupted: the node was cleaned up, shut down or ended while the bundle was loading"
            self.get_logger().warning(f"reload {response.message}")
        except Exception as exc:
            self._reload_failure = f"reload failed, continuing {self._loaded.bundle or 'the demo bundle'}: {exc}"
            self.get_logger().error(self._reload_failure)
            self._own_parameters.restore(self._loaded, LOADED)
            response.message = f"{exc} The running engine was kept."
        else:
            self._reload_failure = ""
            info = loaded.engine.info
            response.success, response.message = True, f"{info.name} revision {info.revision}: {info.reason}"
        finally:
            self._reloading = False
        return response

    def _no_reload(self) -> str:
        """Why nothing can be loaded beside the running engine now; empty if it can."""
        if self._reloading:
            return "a reload is running; ask again when it has ended"
        if self.in_transition:
            return f"the node is {self.state}; ask again when that is over"
        return "" if self._worker.engine is not None else "the node is not configured"

    async def _swap(self, loaded: _Loaded, wanted: Settings, unwanted: threading.Event) -> None:
        """Install an engine, unless a transition that came first has freed the one that it was loaded beside."""
        if unwanted.is_set():
            await self._background.run(partial(close_engine, loaded.engine, on_error=self.get_logger().error))
            raise Interrupted
        await self._install(loaded, wanted)

    async def _install(self, loaded: _Loaded, wanted: Settings) -> None:
        """Let an engine take over between two frames; where that fails it is closed and all stays as it was."""
        engine, info = loaded.engine, loaded.engine.info
        bundle = f"{info.name} revision {info.revision} ({info.digest[:8]})"
        outputs: Mapping[str, Outputs] = {}
        close = partial(close_engine, on_error=self.get_logger().error)
        try:
            outputs = self._channels.outputs_for(loaded.results, wanted, bundle, active=self._active_s is not None)
            previous = await self._background.run(partial(self._worker.exchange, engine, outputs, loaded.scales))
        except Exception:
            self._channels.discard(outputs)
            await self._background.run(partial(close, engine))
            raise
        self._loaded = wanted
        self._channels.adopt(outputs, bundle)
        if previous is not None:
            await self._background.run(partial(close, previous))
        self._announce(engine)

    def _reopen(self) -> Engine:
        """The engine that runs, once more; called from the worker's thread."""
        try:
            return load_engine(self._loaded, progress=partial(self._progress, lambda: self._worker.stopping))
        finally:
            self.activity = ""

    def _give_up(self, reason: str) -> None:
        self.get_logger().fatal(f"{reason}. Giving up.")
        self._failure, self.exit_code = reason, 1
        self._stop.set()

    def _check_wanted(self, unwanted: Callable[[], bool]) -> None:
        if self._stop.is_set() or unwanted():
            raise Interrupted

    def _progress(self, unwanted: Callable[[], bool], text: str, done: int, total: int) -> None:
        self._check_wanted(unwanted)
        counted = f"{text} ({done} of {total})" if total else text
        self.activity = counted
        logged, when = self._logged
        if text != logged or time.monotonic() - when > 5.0:
            self._logged = text, time.monotonic()
            self.get_logger().info(counted)

    @property
    def _settings(self) -> Settings:
        return self._own_parameters.settings

    def _report(self) -> Mapping[str, Report]:
        """What /diagnostics says now; called from the heartbeat's thread."""
        now_s, worker = time.monotonic(), self._worker
        busy_s, active_s, engine = worker.busy_since_s, self._active_s, worker.engine
        machine = self._machine.state(on_gpu=engine is not None and spec_of(engine.info.backend).device != "cpu")
        worker.throttled = machine.throttled
        snapshot = Snapshot(
            state=self.state,
            activity=self.activity,
            failure=self._failure or worker.failure,
            reload_failure=self._reload_failure,
            engine=None if engine is None else engine.info,
            active_s=None if active_s is None else now_s - active_s,
            working_s=None if busy_s is None else now_s - busy_s,
            hung_after_s=self._settings.hung_after_s,
            step=worker.degradation.step.text,
            step_level=worker.degradation.level,
            incompatible=self._qos_monitor.present(),
            machine=machine,
        )
        return reports(snapshot, self._channels.snapshots(now_s, active=active_s is not None))


def _blank(engine: Engine) -> Any:
    """A black frame of the network's size."""
    import numpy as np

    return np.zeros((*engine.info.input_size, 3), np.uint8)
