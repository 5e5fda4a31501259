"""One plan, loaded: the order of copies and work, threads, CUDA graphs, and what happens when the GPU fails.

    run:     copy in, execute, copy out, all in one stream
    stream:  copies of one run beside the work of another: three streams, two sets of buffers

There is one execution context. Work is queued by one thread at a time, and executed in one stream, so it is never in use
twice. Knows nothing about tasks or images, but for frames on the GPU, which a kernel brings to the network's input.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_mtl.backends import BackendInfo, TensorSpec
from edge_mtl.backends.forks import never_free_in_children
from edge_mtl.backends.tensorrt.api import Library
from edge_mtl.backends.tensorrt.buffers import BufferSet, Feed
from edge_mtl.backends.tensorrt.device_pool import DevicePool
from edge_mtl.backends.tensorrt.plan import Plan
from edge_mtl.cuda import Cuda, CudaError, Graph, Stream
from edge_mtl.cuda.arrays import DeviceArray, device_array, is_on_device
from edge_mtl.cuda.letterbox import DeviceFrame, LetterboxKernel
from edge_mtl.errors import EdgeMtlError, EngineClosed, InferenceError
from edge_mtl.image.buffer_pool import BufferPool

__all__ = ["TensorRtBackend"]

Array = np.ndarray
Shapes = tuple[tuple[str, tuple[int, ...]], ...]

_SETS = 2
_MOST_GRAPHS = 8
_LOG = logging.getLogger("edge_mtl")


@dataclass(slots=True, eq=False)
class _Run:
    """A run that was queued. Its set of buffers is taken until the outputs were copied from it."""

    buffers: BufferSet
    specs: Mapping[str, TensorSpec]
    lock: threading.Lock = field(default_factory=threading.Lock)
    outputs: dict[str, Array] | None = None
    error: EdgeMtlError | None = None


class TensorRtBackend:
    """See `edge_mtl.backends.Backend`. May be called from several threads; their copies overlap with each other's work."""

    def __init__(
        self, plan: bytes, *, library: Library, cuda: Cuda, precision: str = "fp32", graphs: bool = True, sets: int = _SETS
    ) -> None:
        """See `edge_mtl.backends.tensorrt.open_plan`.

        Args:
            cuda: the GPU; closed by `close`.
            sets: how many runs may be under way at once.
        """
        self._library, self._cuda = library, cuda
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._pool = BufferPool()
        self._lost: CudaError | None = None
        self._streams: list[Stream] = []
        self._sets: list[BufferSet] = []
        self._under_way: deque[_Run] = deque()
        self._graphs: dict[tuple[int, Shapes], Graph] = {}
        self._seen: set[tuple[int, Shapes]] = set()
        self._letterbox: LetterboxKernel | None = None
        self._lent = DevicePool(cuda)
        self._no_graphs = cuda.graphs if graphs else "they were switched off"
        self._closed = False
        with cuda.active():
            self._plan = Plan(plan, library)
            try:
                self.inputs: Mapping[str, TensorSpec] = self._plan.specs(inputs=True)
                self.outputs: Mapping[str, TensorSpec] = self._plan.specs(inputs=False)
                sizes = {name: self._plan.most_bytes(name) for name in self._plan.tensors}
                for _ in range(3):
                    self._streams.append(cuda.stream())
                for number in range(sets):
                    self._sets.append(BufferSet(cuda, sizes, number=number))
                self._addresses = {buffers.number: buffers.addresses for buffers in self._sets}
            except BaseException:
                self._free()
                raise
        self._compute, self._inward, self._outward = self._streams
        self._idle = deque(self._sets)
        never_free_in_children(self)
        self._info = BackendInfo("tensorrt", library.version_text, f"cuda:{cuda.index}", precision, 1, "compiled code", True)

    @property
    def info(self) -> BackendInfo:
        """What runs the plan, on which GPU."""
        return self._info

    @property
    def description(self) -> str:
        """Library, binding, GPU, whether graphs are used and why not: a sentence for reports."""
        graphs = f"no CUDA graphs: {self._no_graphs}" if self._no_graphs else "CUDA graphs"
        memory = "shared memory" if self._cuda.facts.integrated else "copies"
        return f"{self._library.describe()} on {self._cuda.facts.describe()} through {self._cuda.binding}, {memory}, {graphs}"

    @property
    def graphs_recorded(self) -> int:
        """How many CUDA graphs are kept."""
        return len(self._graphs)

    @property
    def no_graphs(self) -> str:
        """Why work is not recorded as CUDA graphs; "" where it is."""
        return self._no_graphs

    @property
    def device_bytes(self) -> int:
        """Memory of the GPU that runs need besides the weights: buffers of all sets and what the library works in."""
        with self._using():
            buffers = sum(self._plan.most_bytes(name) for name in self._plan.tensors) * len(self._sets)
            return buffers + self._plan.working_bytes

    def run(self, feeds: Mapping[str, Feed]) -> dict[str, Array]:
        """See `edge_mtl.backends.Backend.run`; inputs may also lie on the GPU.

        Raises:
            CudaError: with `sticky` set the process cannot use CUDA any more, and every later call says so.
        """
        return self._collect(self._submit(feeds, overlap=False))

    def run_on_device(self, feeds: Mapping[str, Feed]) -> dict[str, DeviceArray]:
        """As `run`, but the outputs stay on the GPU: for PyTorch, CuPy and other kernels. They are ready to be read.

        The arrays belong to the caller while this backend is open; `close` frees them.
        """
        feeds = {name: device_array(feed) if _elsewhere(feed) else feed for name, feed in feeds.items()}
        shapes = self._checked(feeds)
        with self._using():
            buffers = self._free_set()
            try:
                specs = self._queue(buffers, feeds, shapes, overlap=False).specs
                lent = {}
                for name, spec in specs.items():
                    lent[name] = self._lent.take(spec, device=self._cuda.index)
                    self._cuda.copy_device(lent[name].address, buffers.address(name), lent[name].nbytes, self._compute)
                self._compute.synchronize()
                return lent
            finally:
                self._settle()
                self._idle.append(buffers)

    def stream(self, feeds: Iterable[Mapping[str, Feed]]) -> Iterator[dict[str, Array]]:
        """Outputs in order, one input ahead: copies run beside the work of the run before.

        Made for recordings: with a live camera `run` answers sooner. An error, also one raised by `feeds`, comes after the
        outputs before it.
        """
        waiting: deque[_Run] = deque()
        failure: Exception | None = None
        following = iter(feeds)
        while True:
            try:
                waiting.append(self._submit(next(following), overlap=True))
            except StopIteration:
                break
            except Exception as exc:
                failure = exc
                break
            if len(waiting) == len(self._sets):
                yield self._collect(waiting.popleft())
        while waiting:
            yield self._collect(waiting.popleft())
        if failure is not None:
            raise failure

    @contextmanager
    def watched_by(self, make_profiler: Callable[[Any], Any]) -> Iterator[None]:
        """For the block, report layer times to what `make_profiler` makes of the library; see `profiling` beside this.

        Only where no CUDA graphs are recorded: their layers are not seen.
        """
        with self._using():
            self._plan.watch(make_profiler(self._library.module))
        try:
            yield
        finally:
            with self._using():
                self._plan.watch(None)

    def close(self) -> None:
        """See `edge_mtl.backends.Backend.close`; runs that are under way are waited for."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with suppress(EdgeMtlError), self._cuda.active():  # a lost context cannot be freed; the process will be
                if self._lost is None:
                    for stream in self._streams:
                        stream.synchronize()
                for run in tuple(self._under_way):
                    self._finish(run)
                self._free()
            with suppress(EdgeMtlError):
                self._cuda.close()

    def _submit(self, feeds: Mapping[str, Feed], *, overlap: bool) -> _Run:
        """Queue a run and return at once; waits only for a set of buffers."""
        feeds = {name: device_array(feed) if _elsewhere(feed) else feed for name, feed in feeds.items()}
        shapes = self._checked(feeds)
        with self._using():
            buffers = self._free_set()
            try:
                run = self._queue(buffers, feeds, shapes, overlap=overlap)
            except BaseException:
                self._settle()
                self._idle.append(buffers)
                raise
            self._under_way.append(run)
            return run

    def _queue(self, buffers: BufferSet, feeds: Mapping[str, Feed], shapes: Shapes, *, overlap: bool) -> _Run:
        inward, outward = (self._inward, self._outward) if overlap else (self._compute, self._compute)
        self._plan.set_shapes(dict(shapes))
        specs = {name: TensorSpec(self._plan.shape(name), tensor.dtype) for name, tensor in self._plan.tensors.items()}
        for name, feed in feeds.items():
            if isinstance(feed, DeviceFrame) and self._letterbox is None:
                self._letterbox = LetterboxKernel(self._cuda)
            buffers.fill(name, specs[name], feed, inward, self._letterbox)
        if overlap:
            buffers.filled.record(inward)
            self._compute.wait(buffers.filled)
        self._execute(buffers, shapes)
        if overlap:
            buffers.computed.record(self._compute)
            outward.wait(buffers.computed)
        outputs = {name: spec for name, spec in specs.items() if name in self.outputs}
        for name, spec in outputs.items():
            buffers.fetch(name, spec, outward)
        buffers.done.record(outward)
        return _Run(buffers, outputs)

    def _execute(self, buffers: BufferSet, shapes: Shapes) -> None:
        """Queue the network: as a graph from the third run with these shapes and buffers on, call by call before."""
        key = (buffers.number, shapes)
        graph = self._graphs.get(key)
        if graph is None and not self._no_graphs and key in self._seen and len(self._graphs) < _MOST_GRAPHS:
            graph = self._record(buffers, key)
        if graph is not None:
            graph.launch(self._compute)
            return
        self._plan.execute(self._addresses[buffers.number], self._compute.handle)
        self._seen.add(key)

    def _record(self, buffers: BufferSet, key: tuple[int, Shapes]) -> Graph | None:
        """A graph of one run, None where that cannot be recorded; then it is not tried again."""
        self._cuda.begin_capture(self._compute)
        failure: EdgeMtlError | None = None
        graph: Graph | None = None
        try:
            self._plan.execute(self._addresses[buffers.number], self._compute.handle)
        except EdgeMtlError as exc:
            failure = exc
        try:
            graph = self._cuda.end_capture(self._compute)
        except CudaError as exc:
            if exc.sticky:
                raise
            failure = failure or exc
        if failure is None and graph is not None:
            self._graphs[key] = graph
            return graph
        if graph is not None:
            graph.free()
        self._no_graphs = f"the work cannot be recorded ({failure})"
        _LOG.info("%s: runs go on without CUDA graphs: %s", self._library.describe(), failure)
        return None

    def _collect(self, run: _Run) -> dict[str, Array]:
        if run.outputs is None and run.error is None:
            self._refuse_in_child()
            with self._cuda.active():
                self._finish(run)
        if run.error is not None:
            raise run.error
        assert run.outputs is not None
        return run.outputs

    def _finish(self, run: _Run) -> None:
        """Wait for a run and copy its outputs; whoever comes second finds them there. Takes no lock but the run's own."""
        with run.lock:
            if run.outputs is not None or run.error is not None:
                return
            try:
                run.buffers.done.synchronize()
                run.outputs = {name: run.buffers.taken(name, spec, self._pool) for name, spec in run.specs.items()}
            except EdgeMtlError as exc:
                run.error = exc
                if isinstance(exc, CudaError) and exc.sticky:
                    self._lost = exc
            self._idle.append(run.buffers)  # before it is off the list: who looks for a set finds it in one of the two
            self._under_way.remove(run)

    def _free_set(self) -> BufferSet:
        """A set of buffers that nobody uses; where there is none, the oldest run is finished on behalf of its caller."""
        while not self._idle:
            for oldest in tuple(self._under_way)[:1]:
                self._finish(oldest)
        return self._idle.popleft()

    def _settle(self) -> None:
        """After an error nothing of the failed run may still be under way."""
        with suppress(EdgeMtlError):
            for stream in self._streams:
                stream.synchronize()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """The lock and the GPU, for who may have them."""
        self._refuse()
        with self._lock, self._noting_loss():
            self._refuse()
            with self._cuda.active():
                yield

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except CudaError as exc:
            if exc.sticky:
                self._lost = exc
            raise

    def _refuse_in_child(self) -> None:
        if os.getpid() != self._pid:
            raise EngineClosed("This engine was inherited by a forked process, which cannot use its GPU. Open one there.")

    def _refuse(self) -> None:
        self._refuse_in_child()
        if self._closed:
            raise EngineClosed("This TensorRT engine is closed. Open the engine again.")
        if self._lost is not None:
            raise CudaError(f"The GPU failed before: {self._lost}", code=self._lost.code, sticky=True)

    def _checked(self, feeds: Mapping[str, Feed]) -> Shapes:
        if feeds.keys() != self.inputs.keys():
            raise InferenceError(f"tensorrt {self._info.version}: the plan takes {list(self.inputs)}; found {list(feeds)}")
        shapes = []
        for name, feed in feeds.items():
            spec = self.inputs[name]
            if isinstance(feed, DeviceFrame):
                shapes.append((name, spec.shape))
                continue
            if feed.dtype != spec.dtype:
                raise InferenceError(f"tensorrt: {name} should be {spec.dtype}; found {feed.dtype}")
            if isinstance(feed, DeviceArray) and not feed.is_contiguous:
                raise InferenceError(f"tensorrt: {name} on the GPU should be contiguous; found strides {feed.strides}")
            if not self._plan.tensors[name].allows(tuple(feed.shape)):
                raise InferenceError(f"tensorrt: {name} should have the shape {spec.shape}; found {tuple(feed.shape)}")
            shapes.append((name, tuple(feed.shape)))
        return tuple(shapes)

    def _free(self) -> None:
        for graph in self._graphs.values():
            graph.free()
        self._graphs.clear()
        if self._letterbox is not None:
            self._letterbox.free()
        self._lent.free()
        self._plan.release()
        for buffers in self._sets:
            buffers.free()
        for stream in self._streams:
            stream.free()
        self._sets, self._streams = [], []


def _elsewhere(feed: object) -> bool:
    """Whether it is somebody else's array on the GPU."""
    return not isinstance(feed, (np.ndarray, DeviceArray, DeviceFrame)) and is_on_device(feed)
