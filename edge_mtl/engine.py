"""Engine: one RGB frame in, one Prediction out. The whole path of a frame can be read here.

    frame -> frames.prepare -> Backend.run -> postprocess.finish -> Prediction

Knows the order of the steps, threads and lifetime; the steps themselves live in the modules it calls. Importing it loads
no runtime.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from edge_mtl import bundle as bundles
from edge_mtl.backends import Backend, spec_of
from edge_mtl.backends.selection import AUTO, parse_device
from edge_mtl.backends.threads import default_threads
from edge_mtl.depth_scale import DepthScaleInput, ScaleRecord, depth_scale_of
from edge_mtl.engine_store.resolve import ResolvedEngine, resolve_engine
from edge_mtl.errors import BackendUnavailable, BundleError, EngineClosed
from edge_mtl.frame_order import in_order
from edge_mtl.image.frames import Channels, Intrinsics
from edge_mtl.inference_pipeline import InferencePipeline, Prepared
from edge_mtl.io_spec import EngineInfo, canonical_camera
from edge_mtl.prediction import Prediction, Timing
from edge_mtl.signing.keys import KeyInput
from edge_mtl.tasks import Specs
from edge_mtl.tasks.areas import OutputSize
from edge_mtl.tasks.asked import Finish, MinScore, asked_of, with_min_score
from edge_mtl.tasks.sharing_out import SecondThread

if TYPE_CHECKING:
    from edge_mtl.evaluation.self_test import SelfTestReport
    from edge_mtl.tasks.stability import TemporalFilter

__all__ = ["Engine", "EngineInfo", "SelfTest"]

Array = np.ndarray
SelfTest = Literal["load", "build", "off"]
_LOG = logging.getLogger("edge_mtl")


class Engine:
    """Predicts what the tasks of a bundle say of RGB frames: classes, metric depth, normals, boxes, ...

    One Engine may be called from several threads. It is a context manager; after `close()`, and in a forked child, it
    refuses to work.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str] | bundles.Bundle | None = None,
        *,
        backend: str = AUTO,
        precision: str = AUTO,
        device: str = AUTO,
        threads: int | None = None,
        parallel_frames: int = 1,
        output_size: OutputSize = "frame",
        self_test: SelfTest = "load",
        build_missing: bool = False,
        trust_engine: bool = False,
        tasks: Collection[str] | None = None,
        depth_scale: DepthScaleInput | None = None,
        min_score: MinScore | None = None,
        public_key: KeyInput | None = None,
    ) -> None:
        """Load the best engine this machine can run.

        Args:
            bundle: a folder, or a name of `edge_mtl.bundle.BUNDLED`; by default $EDGE_MTL_BUNDLE, the newest in ./bundles, or
                the demo bundle.
            backend: "onnxruntime", "openvino", "onnxruntime-cuda", "tensorrt", the name of a plug-in, or "auto". A named one
                is used or refused, never replaced.
            precision: "fp32", "bf16", "fp16", "int8", "int8+bf16", "int8+fp16" or "auto"; likewise. "fp32" and "tf32",
                which is FP32 with rounded products for ONNX Runtime on a GPU, need no built engine.
            device: "cpu", "cuda", "cuda:1" (the second GPU) or "auto"; likewise.
            threads: worker threads of the runtime; by default one per physical core, divided by `parallel_frames`.
            parallel_frames: how many frames `stream`, or several threads that call `predict`, have computed at once, each by
                `threads` threads of its own. For recordings: one frame takes longer, more are done in a second. Not on a GPU.
            output_size: "frame" for maps of the frame's size, "network" for the network's, which is faster, with unknown bars
                where the frame has another shape; "content" for those without the bars.
            self_test: compare with the bundle's golden answers: "load" one frame, which is also the warm-up; "build" every
                frame, as when an engine is built; "off" none. A built engine must also do as well as when it was built.
            build_missing: build an engine of the named precision if there is none; takes minutes.
            trust_engine: let an engine that is a program (a plan of TensorRT) run although this user did not build it on
                this machine. Other engines are ONNX graphs, which are data and checked as such.
            tasks: the tasks that are wanted at all, by default the bundle's. A graph is cut to them before the runtime sees
                it, so that the heads of the others cost nothing either; a plan is not. `info.computed` says which it was.
            depth_scale: multiplies every distance, where the network's are off by a factor in this place: a number from 0.1 to
                10, or a file of `edge-mtl scale`, which holds for its bundle and its camera only. The self-test judges
                distances without it.
            min_score: boxes with a lower score are not answered: a number, or by task, {"objects": 0.5}; by default the
                bundle's own threshold, which it cannot be below: with that the bundle was measured. Accuracy does not depend
                on it.
            public_key: of whoever signs the bundles that may run here, its text or its file: any other bundle is refused, and
                so are engines that this user did not build here. See docs/guides/signing.md.
        Raises:
            SignatureError: with `public_key`, the bundle is not signed, by another key, or altered since.
            TaskError: one of `tasks` is not the bundle's, or cannot have this `min_score`.
            DepthScaleError: `depth_scale` is not plausible, cannot be read, or is of another bundle.
            BundleError, EngineMismatch: the bundle or the engine cannot be used; the message says what to run.
            BackendUnavailable: the runtime is not here.
            AccuracyError: the self-test disagrees with the reference.
            ValueError: `output_size` or `self_test` is none of those above, or `threads` or `parallel_frames` is below 1.
            CalibrationError, BuildError: with `build_missing`, an engine cannot be built.
        """
        started_s = time.perf_counter()
        kind, index = parse_device(device)
        _check_option("output_size", output_size, get_args(OutputSize))
        _check_option("self_test", self_test, get_args(SelfTest))
        if parallel_frames < 1:
            raise ValueError(f"parallel_frames should be at least 1; found {parallel_frames}")
        if parallel_frames > 1 and threads is None:
            threads = max(1, default_threads() // parallel_frames)
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may close the engine while this thread holds the lock
        self._running = 0
        self._closed = False
        while True:
            if not isinstance(bundle, bundles.Bundle):
                self._bundle = bundles.find(bundle, public_key=public_key)
            else:
                self._bundle = bundle if public_key is None else bundle.require_signed(public_key)
            place = self._bundle.place()
            try:
                canonical_camera(self._bundle.manifest)  # refused before a runtime is loaded
                wanted = with_min_score(asked_of(self._bundle.manifest.tasks, tasks), min_score)
                self._scale = depth_scale_of(depth_scale, self._bundle)
                choice = resolve_engine(
                    self._bundle,
                    backend=backend,
                    precision=precision,
                    threads=threads,
                    build_missing=build_missing,
                    trust_engine=trust_engine,
                    kind=kind,
                    device=index,
                ).cut_to(wanted, self._bundle.manifest)
                report = self._load(choice, wanted, threads, parallel_frames, index, output_size, min_score, self_test)
                break
            except BundleError as exc:
                given = isinstance(bundle, bundles.Bundle)
                if not self._bundle.superseded() and (given or self._bundle.place() == place):
                    raise
                if given:
                    raise BundleError(
                        f"{self._bundle.path} was replaced by another revision since it was opened. Open the bundle again."
                    ) from exc
                # Another revision took its place while it was read, perhaps for a moment: what lies there now is meant.
        self.info = self._describe(choice, report, time.perf_counter() - started_s, depth_scale, parallel_frames)
        _LOG.log(logging.WARNING if choice.fell_back else logging.INFO, "%s: %s", self._bundle.path, choice.reason)

    def predict(
        self,
        frame: Array,
        *,
        channels: Channels = "rgb",
        intrinsics: Intrinsics | Sequence[float] | Array | None = None,
        tasks: Collection[str] | None = None,
        finish: Finish = "now",
        depth_scale: DepthScaleInput | None = None,
    ) -> Prediction:
        """Predict one frame.

        Args:
            frame: (H, W, 3) uint8, any size; strided and read-only arrays are fine. uint16 is scaled, 65535 to 255; where a
                camera fills fewer bits, call `edge_mtl.image.bit_depth.to_8_bits` first. With an engine on a GPU also an
                array on it (`__cuda_array_interface__` or DLPack, uint8), which is letterboxed there.
            channels: order of its colours, "rgb" or "bgr".
            intrinsics: (fx, fy, cx, cy) or a 3x3 matrix in pixels of the frame; without it the scale is assumed.
            tasks: those whose results are wanted, such as ("depth",); by default all of the engine. Of the others nothing is
                finished; their heads are computed, unless the engine was opened without them.
            finish: "now", or "lazily": each result when it is first read, in the thread that reads it. Until then it holds
                the network's outputs for it, which no later frame overwrites; it may be read after `close()`.
            depth_scale: in place of the engine's, for cameras that each need their own; a file would be read for each frame,
                `ScaleRecord.read` reads it once.
        Raises:
            FrameError: the frame cannot be used, or `intrinsics` are not of the camera that the `depth_scale` is of; the
                engine can be used.
            DepthScaleError: `depth_scale` is not plausible, cannot be read, or is of another bundle.
            TaskError: one of `tasks` is not the engine's.
            InferenceError: the runtime failed.
            EngineClosed: after close(), or in a forked child.
        """
        wanted = self._wanted(tasks, finish)
        scale = self._scale if depth_scale is None else depth_scale_of(depth_scale, self._bundle)
        with self._in_use():
            prepared = self._prepare(frame, channels, intrinsics, scale[1])
            outputs, infer_s = self._infer(prepared)
            return self._finish(prepared, outputs, infer_s, wanted, finish, scale[0])

    def stream(
        self,
        frames: Iterable[Array],
        *,
        channels: Channels = "rgb",
        intrinsics: Intrinsics | Sequence[float] | Array | None = None,
        stability: TemporalFilter | None = None,
        tasks: Collection[str] | None = None,
        finish: Finish = "now",
    ) -> Iterator[Prediction]:
        """Predict frames in order, preparing the next while one runs; on a GPU two run, copies beside work.

        On a CPU one frame keeps all cores of the engine busy, so that on few of them this is no faster than `predict`; with
        `parallel_frames` as many run at once (docs/measured.md has what each gives). Made for files and recordings: a
        prediction is handed over once the next frame was read, so with a live camera `predict` answers sooner. An error, also
        one raised by `frames`, comes after the predictions before it.

        Args:
            frames: as for `predict`; read in the caller's thread, one ahead, on a GPU two, with `parallel_frames` as many. Each
                is done with before the next is asked for, so that a source may use one array for all.
            channels, intrinsics, tasks, finish: of all frames.
            stability: smooths the maps where the image stands still, see `edge_mtl.tasks.stability`; a fresh one per stream.
        """
        wanted = self._wanted(tasks, finish)
        worker = ThreadPoolExecutor(self._workers, thread_name_prefix="edge_mtl-infer")

        def answer(prepared: Prepared) -> Prediction:
            with self._in_use():
                outputs, infer_s = self._infer(prepared)
                return self._finish(prepared, outputs, infer_s, wanted, finish, self._scale[0])

        def begin(frame: Array) -> Callable[[], Prediction]:
            prepared = self._prepare(frame, channels, intrinsics, self._scale[1])
            look = None if stability is None else stability.look(frame)  # the source may write over its array
            future = worker.submit(answer, prepared)

            def collect() -> Prediction:
                prediction = future.result()
                self._refuse_closed()
                return prediction if stability is None or look is None else stability.smooth(look, prediction)

            return collect

        try:
            yield from in_order(frames, begin, ahead=self._workers, alive=self._refuse_in_child, ready=self._refuse_closed)
        finally:
            if os.getpid() == self._pid:  # the worker does not exist in a forked child
                worker.shutdown(wait=True, cancel_futures=True)

    def map_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) of the maps of a frame of `frame_size` (height, width). Raises FrameError: it has no pixels."""
        return self._pipeline.map_size(frame_size)

    def close(self) -> None:
        """Free the runtime; calls that are running finish first, in their threads. Calling it again does nothing."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            if self._running == 0:
                self._free()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"Engine({str(self._bundle.path)!r}: {self.info.precision} on {self.info.backend}{state})"

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keeps the runtime alive for the block; the last block to end frees it if the engine was closed meanwhile."""
        self._refuse_in_child()
        with self._lock:
            if self._closed:
                raise EngineClosed("This engine is closed. Open a new one with Engine(...).")
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if self._closed and self._running == 0:
                    self._free()

    def _free(self) -> None:
        self._backend.close()
        if self._second is not None:
            self._second.close()

    def _refuse_in_child(self) -> None:
        if os.getpid() != self._pid:
            raise EngineClosed("This engine was inherited by a forked process, which cannot use it. Open one there.")

    def _prepare(
        self,
        frame: Array,
        channels: Channels,
        intrinsics: Intrinsics | Sequence[float] | Array | None,
        record: ScaleRecord | None,
    ) -> Prepared:
        prepared = self._pipeline.prepare(frame, channels=channels, intrinsics=intrinsics)
        if record is not None:
            record.check_camera(None if intrinsics is None else Intrinsics.of(intrinsics), prepared.box.frame)
        return prepared

    def _infer(self, prepared: Prepared) -> tuple[Mapping[str, Array], float]:
        started_s = time.perf_counter()
        outputs = self._pipeline.infer(prepared)
        return outputs, time.perf_counter() - started_s

    def _refuse_closed(self) -> None:
        with self._in_use():
            pass

    def _wanted(self, tasks: Collection[str] | None, finish: Finish) -> Specs:
        """The tasks of a call. Raises TaskError, and ValueError for a `finish` that is not one."""
        _check_option("finish", finish, get_args(Finish))
        return asked_of(self._pipeline.tasks, tasks, whose="This engine")

    def _finish(
        self,
        prepared: Prepared,
        outputs: Mapping[str, Array],
        infer_s: float,
        wanted: Specs,
        finish: Finish,
        depth_scale: float,
    ) -> Prediction:
        started_s = time.perf_counter()
        answer = self._pipeline.finish(prepared, outputs, tasks=wanted, lazily=finish == "lazily", depth_scale=depth_scale)
        ended_s = time.perf_counter()
        timing = Timing(
            prepare=prepared.prepare_s,
            infer=infer_s,
            postprocess=ended_s - started_s,
            total=ended_s - prepared.arrived_s,
        )
        return Prediction(
            results=answer.results,
            timing=timing,
            intrinsics=prepared.map_camera,
            intrinsics_assumed=prepared.assumed,
            frame_size=prepared.box.frame,
            bad_values=answer.bad_values,
            not_asked=tuple(name for name in self._bundle.tasks if name not in wanted),
            depth_scale=depth_scale,
            results_size=answer.map_size,
        )

    def _load(
        self,
        choice: ResolvedEngine,
        wanted: Specs,
        threads: int | None,
        parallel_frames: int,
        device: int,
        output_size: OutputSize,
        min_score: MinScore | None,
        self_test: SelfTest,
    ) -> SelfTestReport | None:
        """Let the runtime open the graph, and test it; it is freed where that fails."""
        on_gpu = spec_of(choice.backend).device == "cuda"
        if on_gpu and parallel_frames > 1:
            raise BackendUnavailable(
                f"parallel_frames={parallel_frames} is for processors; {choice.backend} runs on a GPU, where stream() has two "
                'frames at once by itself. Leave it out, or take device="cpu".'
            )
        self._backend: Backend = choice.open(threads=threads, device=device, parallel=parallel_frames)
        self._workers = 2 if on_gpu else parallel_frames
        self._second = SecondThread() if parallel_frames == 1 and default_threads() > 1 else None
        try:
            self._pipeline = InferencePipeline(
                self._backend,
                self._bundle.manifest,
                output_size=output_size,
                tasks=tuple(wanted),
                depth_scale=self._scale[0],
                min_score=min_score,
                second=self._second,
            )
            return self._run_self_test(self_test, choice)
        except BaseException:
            self._backend.close()
            raise

    def _run_self_test(self, wanted: SelfTest, choice: ResolvedEngine) -> SelfTestReport | None:
        if wanted == "off":
            return None
        from edge_mtl.evaluation.self_test import run_self_test

        return run_self_test(
            self._backend,
            self._bundle,
            frames=1 if wanted == "load" else None,
            built=choice.tested,
            tasks=tuple(self._pipeline.tasks),
        )

    def _describe(
        self,
        choice: ResolvedEngine,
        report: SelfTestReport | None,
        load_s: float,
        scale: DepthScaleInput | None,
        parallel_frames: int,
    ) -> EngineInfo:
        used, manifest = self._backend.info, self._bundle.manifest
        return EngineInfo(
            bundle=self._bundle.path,
            name=manifest.name,
            revision=manifest.revision,
            tasks=tuple(self._pipeline.tasks),
            input_size=(manifest.input.height, manifest.input.width),
            backend=used.name,
            runtime_version=used.version,
            device=used.device,
            threads=used.threads,
            parallel_frames=parallel_frames,
            precision=used.precision,
            placement=self._pipeline.placement,
            engine_key=choice.key,
            reason=choice.reason,
            self_test=report,
            load_s=load_s,
            loading=used.loading if choice.compiled is not None else f"{used.loading}: {choice.uncompiled}",
            computed=tuple(self._pipeline.computed),
            digest=self._bundle.digest,
            depth_scale=self._scale[0],
            depth_scale_from=str(scale) if isinstance(scale, (str, os.PathLike)) and self._scale[1] else "",
        )


def _check_option(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} should be one of {', '.join(map(repr, allowed))}; found {value!r}")
