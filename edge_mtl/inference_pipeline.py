"""Whole frames through a loaded graph: image in, maps out, by the same functions as `Engine`. Knows no files.

This is what latencies are measured on and accuracies are computed from, for graphs of either placement.
"""

from __future__ import annotations

import numpy as np

from edge_mtl.backends import Backend
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.frames import Intrinsics, letterbox, prepare
from edge_mtl.manifest import Manifest
from edge_mtl.tasks.postprocess import Maps, camera_change, finish

__all__ = ["InferencePipeline"]

Array = np.ndarray


class InferencePipeline:
    """A loaded graph and the buffers around it. Not for several threads."""

    def __init__(self, backend: Backend, manifest: Manifest) -> None:
        self._backend = backend
        self._network = (manifest.input.height, manifest.input.width)
        self._canonical = Intrinsics.of(manifest.canonical_intrinsics)
        self._pool = BufferPool()
        self._feed, spec = next(iter(backend.inputs.items()))
        self._input = np.zeros(spec.shape, spec.dtype)

    def __call__(self, frame: Array, intrinsics: tuple[float, float, float, float] | None = None) -> Maps:
        """(H, W, 3) uint8 RGB -> maps at network size, of the canonical camera unless `intrinsics` of the frame are given."""
        box = letterbox((frame.shape[0], frame.shape[1]), self._network)
        prepare(frame, box, self._input[0])
        outputs = self._backend.run({self._feed: self._input})
        change = None if intrinsics is None else camera_change(box.to_network(Intrinsics.of(intrinsics)), self._canonical)
        return finish(outputs, box, output_size="network", change=change, pool=self._pool)
