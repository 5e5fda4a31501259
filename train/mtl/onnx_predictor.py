"""A host-placed ONNX graph (model.deploy.onnx, or an engine made from it) as a predictor for `mtl.evaluate`.

Knows nothing about bundles.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edge_mtl.backends import open_backend
from edge_mtl.tasks.postprocess import HOST_OUTPUTS

__all__ = ["OnnxGraph"]


class OnnxGraph:
    """Runs a graph frame by frame with one of the package's runtimes.

    Args:
        model: the graph; input "image" (1, 3, H, W) float32, 0..255.
        backend, precision, threads: see `edge_mtl.backends.open_backend`.
    Raises:
        BackendUnavailable, BundleError: the runtime is not here, or refuses the graph.
    """

    def __init__(
        self, model: bytes, *, backend: str = "onnxruntime", precision: str = "fp32", threads: int | None = None
    ) -> None:
        self._backend = open_backend(backend, model, threads=threads, precision=precision)

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, 3) uint8 -> the graph's outputs by name."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32)
        return self._backend.run({"image": planes})

    def __call__(self, images: np.ndarray) -> Mapping[str, Tensor]:
        """A `Predictor`: (B, H, W, 3) uint8 -> maps at the graph's stride by task."""
        every = [self.run(image) for image in images]
        return {
            task: torch.from_numpy(np.concatenate([one[name] for one in every]))
            for task, name in HOST_OUTPUTS.items()
            if name in self._backend.outputs
        }
