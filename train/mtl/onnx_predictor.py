"""A host-placed ONNX graph (model.deploy.onnx) as a predictor for `mtl.evaluate`. Knows nothing about bundles."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from edge_mtl.errors import BackendUnavailable, InferenceError
from edge_mtl.tasks import DEPTH, NORMALS, SEGMENTATION

__all__ = ["HOST_OUTPUTS", "OnnxGraph"]

HOST_OUTPUTS = {SEGMENTATION: "segmentation_logits", DEPTH: "depth_quarter", NORMALS: "normals_quarter"}


class OnnxGraph:
    """Runs the graph frame by frame in ONNX Runtime on the CPU, in FP32."""

    def __init__(self, model: bytes, *, threads: int = 0) -> None:
        try:
            import onnxruntime
        except ImportError as exc:
            raise BackendUnavailable('ONNX Runtime is not installed. Run: pip install "edge-mtl[train]"') from exc
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as exc:  # the runtime has no base class for its errors
            raise InferenceError(f"ONNX Runtime refuses the graph: {str(exc).splitlines()[0]}") from exc
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        """(H, W, 3) uint8 -> the graph's outputs by name."""
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32)
        return dict(zip(self._names, self._session.run(self._names, {"image": planes}), strict=True))

    def __call__(self, images: np.ndarray) -> Mapping[str, Tensor]:
        """A `Predictor`: (B, H, W, 3) uint8 -> maps at the graph's stride by task."""
        every = [self.run(image) for image in images]
        return {
            task: torch.from_numpy(np.concatenate([one[name] for one in every]))
            for task, name in HOST_OUTPUTS.items()
            if name in self._names
        }
