"""An engine of a bundle as a predictor for `mtl.evaluate`: the very `edge_mtl.Engine` that a robot runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

import numpy as np

from edge_mtl.backends import open_backend
from edge_mtl.bundle import Bundle
from edge_mtl.engine import Engine
from edge_mtl.engine_store.engines import EngineRecord, EngineStore
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.tasks import Result
from mtl.geometry import Intrinsics

__all__ = ["EngineFrames"]


class EngineFrames:
    """A `ResultPredictor`. A context manager: the runtime is freed at its end.

    Args:
        record: a built engine; None for the bundle's own graph in FP32.
        threads: see `edge_mtl.Engine`.
    Attributes:
        through: what runs the frames: "Engine", or "InferencePipeline", which are its steps, where `Engine` prefers a faster
            engine of the same precision and runtime.
    Raises:
        EdgeMtlError: as `edge_mtl.Engine`.
    """

    def __init__(self, bundle: Bundle, record: EngineRecord | None, *, threads: int | None = None) -> None:
        store = EngineStore(bundle)
        best = store.best(record.precision, record.backend) if record is not None else None
        self.through = "Engine"
        self._results: Callable[[np.ndarray, Intrinsics | None], Mapping[str, Result]]
        if record is not None and (best is None or best.key != record.key):
            backend = open_backend(record.backend, store.load(record), threads=threads, precision=record.precision)
            pipeline = InferencePipeline(backend, bundle.manifest, output_size="frame")
            self.through = "InferencePipeline"
            self._close, self._results = backend.close, lambda image, camera: pipeline(image, camera).results
            return
        precision, runtime = ("fp32", "onnxruntime") if record is None else (record.precision, record.backend)
        engine = Engine(bundle, backend=runtime, precision=precision, threads=threads)
        self._close, self._results = engine.close, lambda image, camera: engine.predict(image, intrinsics=camera).results

    def results(self, image: np.ndarray, intrinsics: Intrinsics | None) -> Mapping[str, Result]:
        """(H, W, 3) uint8 -> results at the image's size, of the camera `intrinsics`; see `edge_mtl.Engine.predict`."""
        return self._results(image, intrinsics)

    def __enter__(self) -> EngineFrames:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._close()
