"""A host-placed ONNX graph (model.deploy.onnx, or an engine made from it) as a predictor for `mtl.evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from edge_mtl.backends import open_backend
from edge_mtl.tasks import Specs
from mtl.tasks import head_of, output_names

__all__ = ["OnnxGraph"]


class OnnxGraph:
    """Runs a graph frame by frame with one of the package's runtimes.

    Args:
        model: the graph; input "image" (1, 3, H, W) float32, 0..255.
        specs: the tasks; those whose outputs the graph does not have are left out.
        backend, precision, threads: see `edge_mtl.backends.open_backend`.
    Raises:
        BackendUnavailable, BundleError: the runtime is not here, or refuses the graph.
    """

    def __init__(
        self,
        model: bytes,
        specs: Specs,
        *,
        backend: str = "onnxruntime",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        self._backend = open_backend(backend, model, threads=threads, precision=precision)
        here = {task: names for task, names in output_names(specs, "host").items() if set(names) <= set(self._backend.outputs)}
        self._names = {task: (specs[task], names) for task, names in here.items()}

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, 3) uint8 -> the graph's outputs by name."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32)
        return self._backend.run({"image": planes})

    def __call__(self, images: np.ndarray) -> Mapping[str, Any]:
        """A `Predictor`: (B, H, W, 3) uint8 -> answers by task."""
        every = [self.run(image) for image in images]
        return {
            task: head_of(spec).imported(
                spec, [torch.from_numpy(np.concatenate([one[name] for one in every])) for name in names]
            )
            for task, (spec, names) in self._names.items()
        }
