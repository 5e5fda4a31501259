"""The cameras of the node: the topics of each, in and out, around its stream. One without a name is the only one.

Knows subscribers and publishers; what happens to a frame between them is in `worker`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.lifecycle import LifecycleNode

from edge_mtl.tasks import Result
from edge_mtl_ros.class_names import ClassParameters
from edge_mtl_ros.events import Incompatible
from edge_mtl_ros.outputs import Outputs
from edge_mtl_ros.report import CameraSnapshot
from edge_mtl_ros.scheduler import FrameScheduler
from edge_mtl_ros.settings import Settings
from edge_mtl_ros.sight import Remark, SilenceWatch
from edge_mtl_ros.stream import Stream
from edge_mtl_ros.subscriber import CameraSubscriber

__all__ = ["Channel", "Channels"]


class Channel:
    """One camera: what it sends, what is remembered of it, and what is published of it.

    Args:
        node: owner of subscriptions and publishers.
        stream: the camera for the worker.
        on_incompatible: called with (topic, policy) where the other side has another QoS.
    Attributes:
        outputs: its publishers; None without an engine.
    """

    def __init__(self, node: LifecycleNode, stream: Stream, *, on_incompatible: Incompatible) -> None:
        self._node, self.stream, self._on_incompatible = node, stream, on_incompatible
        self.outputs: Outputs | None = None
        self._subscriber: CameraSubscriber | None = None
        self._silence = SilenceWatch()

    def outputs_for(self, results: Mapping[str, Result], wanted: Settings, bundle: str) -> Outputs:
        """What publishes an engine's results: the present outputs where they fit, so that subscribers stay connected."""
        encodings = (wanted.depth_encoding,)
        if self.outputs is not None and self.outputs.fit(results, points_labels=wanted.points_labels, encodings=encodings):
            return self.outputs
        return Outputs(
            self._node,
            results,
            camera=self.stream.name,
            bundle=bundle,
            points_labels=wanted.points_labels,
            points_normals=self.stream.settings().points_normals,
            encodings=encodings,
            settings=self.stream.settings,
            on_incompatible=self._on_incompatible,
        )

    def listen(self) -> None:
        """Subscribe to the camera, of which nothing is known yet. The outputs must be active."""
        self.stream.cameras.forget()
        if self.outputs is not None:
            self.outputs.send_latched()
        self._subscriber = CameraSubscriber(
            self._node,
            self.stream.name,
            self.stream.queue,
            self.stream.cameras,
            compressed=self.stream.settings().image_transport == "compressed",
            on_incompatible=self._on_incompatible,
        )

    def close(self) -> bool:
        """Subscribe no more. Returns whether that ended in time."""
        subscriber, self._subscriber = self._subscriber, None
        return subscriber is None or subscriber.close()

    def snapshot(self, now_s: float, *, active: bool) -> CameraSnapshot:
        """What /diagnostics say of it; any thread may ask, one does."""
        stream, settings, outputs, subscriber = self.stream, self.stream.settings(), self.outputs, self._subscriber
        counts = stream.queue.counts()
        rate_hz, p50_ms, p95_ms = stream.latencies.summary(now_s)
        image_s = None if subscriber is None else subscriber.image_s
        camera = stream.cameras.of_image(stream.frame_size, rectified=settings.rectified, undistort=settings.undistort)
        scale, scale_ok = camera.text, camera.intrinsics is not None
        if outputs is not None and not outputs.metric:
            scale, scale_ok = "nothing that this bundle predicts is in metres", True
        listened = frozenset[str]() if outputs is None else outputs.listened(points=settings.points)
        remarks = stream.remarks()
        remarks += (Remark("camera", camera.oddity),) if camera.oddity else ()
        remarks += () if subscriber is None else subscriber.remarks()
        remarks += () if outputs is None else outputs.remarks(points=settings.points)
        return CameraSnapshot(
            counts=counts,
            rate_hz=rate_hz,
            p50_ms=p50_ms,
            p95_ms=p95_ms,
            predict_ms=stream.predicting.summary(now_s)[1],
            overhead_ms=stream.overheads.summary(now_s)[1],
            image_age_s=None if image_s is None else now_s - image_s,
            camera_age_s=stream.cameras.age_s(),
            image_source="" if subscriber is None else subscriber.image_source,
            listened=listened,
            silence=self._silence.look(counts, listening=active and bool(listened), after_s=settings.stale_after_s),
            stale_after_s=settings.stale_after_s,
            scale=scale,
            scale_ok=scale_ok,
            lens=camera.lens,
            remarks=remarks,
            max_age_s=settings.max_age_s,
            time_jumps=0 if subscriber is None else subscriber.time_jumps,
            bad_values=stream.bad_values,
            last_rejection=stream.last_rejection,
            failure=stream.failure,
            asked=stream.asked,
            floor="" if outputs is None else outputs.floor,
            ground="" if outputs is None else outputs.ground,
            factor=None if stream.scale is None else (stream.scale.factor, stream.scale.place),
        )


class Channels:
    """All cameras of a node, in the order of their names.

    Args:
        node: owner of subscriptions, publishers and the parameters of classes.
        settings: each camera's own, by its name.
        on_incompatible: as for `Channel`.
    Attributes:
        frames: where the frames of all of them wait.
    """

    def __init__(
        self, node: LifecycleNode, settings: Callable[[], Mapping[str, Settings]], *, on_incompatible: Incompatible
    ) -> None:
        self._settings, self._classes = settings, ClassParameters(node)
        self.frames: FrameScheduler[Any] = FrameScheduler(tuple(settings()))
        self._channels = {
            name: Channel(node, Stream(name, queue, settings=partial(self._own, name)), on_incompatible=on_incompatible)
            for name, queue in self.frames.queues.items()
        }
        self.apply()

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The cameras for the worker."""
        return tuple(channel.stream for channel in self._channels.values())

    def apply(self) -> None:
        """Take over settings that count at once and are not asked for."""
        for name, own in self._settings().items():
            self.frames.queues[name].max_age_s = own.max_age_s

    def outputs_for(self, results: Mapping[str, Result], wanted: Settings, bundle: str, *, active: bool) -> dict[str, Outputs]:
        """What publishes an engine's results of each camera; in an active node it can publish at once. All of them or none.

        Args:
            bundle: what is loaded, as people call it.
        Raises:
            BundleError: as Outputs.
        """
        made: dict[str, Outputs] = {}
        try:
            for name, channel in self._channels.items():
                made[name] = channel.outputs_for(results, wanted, bundle)
            self._hold(made)
            for name, channel in self._channels.items():
                if active and made[name] is not channel.outputs:
                    made[name].activate()
                    made[name].send_latched()
        except BaseException:
            self.discard(made)
            raise
        return made

    def adopt(self, outputs: Mapping[str, Outputs], bundle: str = "") -> None:
        """Publish with these from now on, and remove those that they replace; with none of them nothing is published."""
        for name, channel in self._channels.items():
            before, channel.outputs = channel.outputs, outputs.get(name)
            if channel.outputs is not None:
                channel.outputs.take(bundle)
            if before is not None and before is not channel.outputs:
                before.destroy()
        self._hold(outputs)

    def discard(self, outputs: Mapping[str, Outputs]) -> None:
        """Remove outputs that were made and are not to be used."""
        for name, made in outputs.items():
            if made is not self._channels[name].outputs:
                made.destroy()
        self._hold({name: channel.outputs for name, channel in self._channels.items() if channel.outputs is not None})

    def listen(self) -> None:
        """Subscribe to all cameras. The outputs must be active."""
        for channel in self._channels.values():
            channel.listen()

    def close(self) -> bool:
        """Subscribe no more. Returns whether that ended in time."""
        ended = [channel.close() for channel in self._channels.values()]
        return all(ended)

    def snapshots(self, now_s: float, *, active: bool) -> dict[str, CameraSnapshot]:
        """What /diagnostics say of each."""
        return {name: channel.snapshot(now_s, active=active) for name, channel in self._channels.items()}

    def _hold(self, outputs: Mapping[str, Outputs]) -> None:
        """Have the parameters of the classes of these; those of all cameras are the same."""
        self._classes.hold(next((one.classes for one in outputs.values()), {}))

    def _own(self, name: str) -> Settings:
        return self._settings()[name]
