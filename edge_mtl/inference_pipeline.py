"""Whole frames through a loaded graph: image in, results out. The one way of `Engine`, evaluation, benchmarks and self-test."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edge_mtl.backends import Backend
from edge_mtl.cuda.arrays import DeviceArray, is_on_device
from edge_mtl.cuda.letterbox import DeviceFrame, check_device_frame
from edge_mtl.errors import FrameError
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.camera_check import check_camera
from edge_mtl.image.frames import Channels, Intrinsics, Letterbox, check_frame, letterbox, prepare
from edge_mtl.io_spec import canonical_camera, placement
from edge_mtl.manifest import Manifest
from edge_mtl.tasks import Specs, graph_outputs
from edge_mtl.tasks.areas import MapArea, OutputSize, camera_change
from edge_mtl.tasks.asked import MinScore, asked_of, with_min_score
from edge_mtl.tasks.finishing import Answer, finish
from edge_mtl.tasks.sharing_out import SecondThread

__all__ = ["InferencePipeline", "Prepared"]

Array = np.ndarray
Camera = Intrinsics | Sequence[float] | Array


@dataclass(frozen=True, slots=True)
class Prepared:
    """A frame on its way: the network's input, an array or a DeviceFrame, and the geometry to come back.

    Attributes:
        feed: what the runtime takes.
        box: how the frame was letterboxed.
        network_camera, map_camera: the camera in pixels of the network's input and of the results.
        assumed: no camera was given.
        arrived_s, prepare_s: clock when the frame came, and seconds until it was prepared.
    """

    feed: Any
    box: Letterbox
    network_camera: Intrinsics
    map_camera: Intrinsics
    assumed: bool
    arrived_s: float
    prepare_s: float


class InferencePipeline:
    """A loaded graph and the steps around it: `prepare`, `infer`, `finish`, or a call for all three.

    Several threads may use one pipeline as far as the backend allows; memory is reused once nobody holds it.

    Args:
        backend: a loaded graph of the bundle, of either placement.
        manifest: of the bundle.
        output_size: "frame" for maps of the frame's size, "network" for the network's, "content" for those without bars.
        tasks: those that are wanted, all by default; the graph may have been cut to them.
        depth_scale: multiplies all distances; of Engine only: what judges a graph judges its own answers.
        min_score: see `with_min_score`; likewise.
        second: a thread that helps to finish large maps; it is closed by whoever made it.
    Attributes:
        tasks: the same as specifications, in the bundle's order.
        computed: the tasks whose outputs the graph has: these, or all of the bundle.
        placement: of the graph.
    Raises:
        TaskError: one of `tasks` is not the bundle's, or cannot have this `min_score`.
        BundleError: the graph's inputs and outputs are not those of the manifest's tasks and input size.
    """

    def __init__(
        self,
        backend: Backend,
        manifest: Manifest,
        *,
        output_size: OutputSize = "network",
        tasks: Collection[str] | None = None,
        depth_scale: float = 1.0,
        min_score: MinScore | None = None,
        second: SecondThread | None = None,
    ) -> None:
        self._backend, self._output_size, self._depth_scale = backend, output_size, depth_scale
        self._second = second
        self.tasks = with_min_score(asked_of(manifest.tasks, tasks), min_score)
        self._network = (manifest.input.height, manifest.input.width)
        self.placement = placement(backend, manifest, self.tasks)
        whole = backend.outputs.keys() == graph_outputs(manifest.tasks, self._network, self.placement).keys()
        self.computed = manifest.tasks if whole else self.tasks
        self._canonical = canonical_camera(manifest)
        self._feed = next(iter(backend.inputs))
        self._pool = BufferPool()

    def __call__(self, frame: Array, intrinsics: Camera | None = None) -> Answer:
        """(H, W, 3) uint8 RGB -> results, of the canonical camera unless `intrinsics` of the frame are given."""
        prepared = self.prepare(frame, intrinsics=intrinsics)
        return self.finish(prepared, self.infer(prepared))

    def map_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the maps of a frame of this size. Raises FrameError: it has no pixels."""
        if min(frame_size) < 1:
            raise FrameError(f"a frame should have at least one pixel; found {frame_size}")
        return MapArea.of(letterbox(frame_size, self._network), self._output_size, self.placement).whole

    def prepare(self, frame: Any, *, channels: Channels = "rgb", intrinsics: Camera | None = None) -> Prepared:
        """Check and letterbox a frame, see `Engine.predict`. Raises FrameError."""
        arrived_s = time.perf_counter()
        if channels not in ("rgb", "bgr"):
            raise FrameError(f'channels should be "rgb" or "bgr"; found {channels!r}')
        on_gpu = check_device_frame(frame) if is_on_device(frame) else None
        if on_gpu is not None and not self._backend.info.device_frames:
            place = self._backend.info.device
            raise FrameError(f"the frame is on a GPU and this engine, on {place}, takes none. Copy it to the host first.")
        checked = check_frame(frame) if on_gpu is None else on_gpu
        box = letterbox((checked.shape[0], checked.shape[1]), self._network)
        given = None if intrinsics is None else check_camera(Intrinsics.of(intrinsics), box.frame)
        network_camera = self._canonical if given is None else box.to_network(given)
        if self._output_size == "frame":
            map_camera = box.to_frame(network_camera) if given is None else given
        else:
            map_camera = network_camera
        if self._output_size == "content":
            map_camera = replace(map_camera, cx=map_camera.cx - box.left, cy=map_camera.cy - box.top)
        feed: Any
        if isinstance(checked, DeviceArray):
            feed = DeviceFrame(checked, box, channels)
        else:
            host = self.placement == "host"
            shape = (1, 3, *self._network) if host else (1, *self._network, 3)
            feed = self._pool.take(shape, np.float32 if host else np.uint8)
            prepare(checked, box, feed[0], channels=channels)
        return Prepared(feed, box, network_camera, map_camera, given is None, arrived_s, time.perf_counter() - arrived_s)

    def infer(self, prepared: Prepared) -> Mapping[str, Array]:
        """Outputs of the graph by name. Raises InferenceError."""
        return self._backend.run({self._feed: prepared.feed})

    def finish(
        self,
        prepared: Prepared,
        outputs: Mapping[str, Array],
        *,
        tasks: Specs | None = None,
        lazily: bool = False,
        depth_scale: float | None = None,
    ) -> Answer:
        """From outputs to results of `tasks`, all by default; `lazily` each when it is first read.

        `depth_scale` multiplies the distances of this frame in place of the pipeline's.
        """
        factor = self._depth_scale if depth_scale is None else depth_scale
        change = camera_change(prepared.network_camera, self._canonical, factor)
        return finish(
            self.tasks if tasks is None else tasks,
            outputs,
            prepared.box,
            placement=self.placement,
            output_size=self._output_size,
            change=change,
            pool=self._pool,
            lazily=lazily,
            second=self._second,
        )
