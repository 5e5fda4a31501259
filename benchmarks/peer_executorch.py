"""ExecuTorch with XNNPACK as an `edge_mtl.backends.Backend`: the network exported by torch, as it is or quantized (PT2E).

Knows ExecuTorch, torchao and torch, and imports them when asked; knows nothing about bundles' files.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peer_graphs import Signature, expect, load_optimized, planes, version

from edge_mtl.backends import BackendInfo, TensorSpec

__all__ = ["ExecuTorchRuntime", "converted", "executorch_version"]

Array = np.ndarray


def executorch_version() -> str:
    """Of the runtime, with that of the quantizer. Raises BackendUnavailable without them."""
    expect("executorch", "torchao")
    return version("executorch", "torchao")


def converted(source: Path, names: Sequence[str], frames: Sequence[Array]) -> bytes:
    """The optimized network of a bundle or checkpoint as a .pte file; to be called by `apart`.

    Args:
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size, for INT8 by channel; none keeps FP32.
    Raises:
        BackendUnavailable: ExecuTorch or torch is not installed.
    """
    expect("torch", "executorch", "torchao")
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    network, example = load_optimized(source, names)
    if frames:
        network = _quantized(network, example, frames)
    program = torch.export.export(network, (example,))
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    return bytes(lowered.to_executorch().buffer)


def _quantized(network: Any, example: Any, frames: Sequence[Array]) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    rules = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    observed = prepare_pt2e(torch.export.export(network, (example,)).module(), rules)
    with torch.no_grad():
        for frame in frames:
            observed(torch.from_numpy(planes(frame)))
    return convert_pt2e(observed)


class ExecuTorchRuntime:
    """What `converted` made. Its threads are those of the process: the last one that was opened sets them.

    Raises:
        BackendUnavailable: ExecuTorch is not installed.
    """

    def __init__(self, program: bytes, signature: Signature, *, threads: int, precision: str) -> None:
        expect("torch", "executorch")
        import torch
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime

        portable_lib._unsafe_reset_threadpool(threads)
        self._torch, self._feed = torch, signature.feed
        self._program: Any = Runtime.get().load_program(program)  # the method reads it and does not keep it
        self._method: Any = self._program.load_method("forward")
        self.inputs: Mapping[str, TensorSpec] = signature.inputs
        self.outputs: Mapping[str, TensorSpec] = signature.outputs
        self.info = BackendInfo("ExecuTorch", importlib.metadata.version("executorch"), "cpu", precision, threads)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        found = self._method.execute([self._torch.from_numpy(feeds[self._feed])])
        return {name: np.array(value.numpy()) for name, value in zip(self.outputs, found, strict=True)}

    def close(self) -> None:
        """See `Backend.close`."""
        self._method = self._program = None
