"""LiteRT with XNNPACK as an `edge_mtl.backends.Backend`: the network converted by litert-torch, quantized by ai-edge-quantizer.

Knows these packages and torch, and imports them when asked; knows nothing about bundles' files.
"""

from __future__ import annotations

import importlib.metadata
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peer_graphs import Signature, expect, load_optimized, planes, version

from edge_mtl.backends import BackendInfo, TensorSpec
from edge_mtl.errors import BuildError

__all__ = ["LiteRtRuntime", "converted", "litert_version", "quantized"]

Array = np.ndarray
_INPUT, _OUTPUT = "args_0", "output_{}"


def litert_version() -> str:
    """Of the converter and the quantizer. Raises BackendUnavailable without them."""
    expect("litert_torch:litert-torch", "ai_edge_quantizer:ai-edge-quantizer")
    return version("litert-torch", "ai-edge-quantizer")


def converted(source: Path, names: Sequence[str]) -> bytes:
    """The optimized network of a bundle or checkpoint as a .tflite file; to be called by `apart`.

    Raises:
        BackendUnavailable: litert-torch or torch is not installed.
    """
    expect("torch", "litert_torch:litert-torch")
    import litert_torch

    network, example = load_optimized(source, names)
    made = litert_torch.convert(network, (example,))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.tflite"
        made.export(str(path))
        return path.read_bytes()


def quantized(model: bytes, frames: Sequence[Array]) -> bytes:
    """Post-training INT8 of what `converted` made, weights and activations, floats in and out; to be called by `apart`.

    Args:
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size.
    Raises:
        BackendUnavailable: ai-edge-quantizer is not installed.
        BuildError: it makes nothing.
    """
    expect("ai_edge_quantizer:ai-edge-quantizer")
    from ai_edge_quantizer import qtyping, quantizer, recipe

    tool = quantizer.Quantizer(bytearray(model), recipe.static_wi8_ai8())
    for edge in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        tool.update_quantization_recipe(regex=".*", operation_name=edge, algorithm_key="no_quantize")
    ranges = tool.calibrate({"serving_default": [{_INPUT: planes(frame)} for frame in frames]})
    made = tool.quantize(ranges).quantized_model
    if made is None:
        raise BuildError("ai-edge-quantizer made nothing")
    return bytes(made)


class LiteRtRuntime:
    """What `converted` or `quantized` made.

    Raises:
        BackendUnavailable: ai-edge-litert is not installed.
    """

    def __init__(self, model: bytes, signature: Signature, *, threads: int, precision: str) -> None:
        expect("ai_edge_litert:ai-edge-litert")
        from ai_edge_litert.interpreter import Interpreter

        self._feed = signature.feed
        self._interpreter: Any = Interpreter(model_content=model, num_threads=threads)
        self._interpreter.allocate_tensors()
        self._call: Any = self._interpreter.get_signature_runner()
        self.inputs: Mapping[str, TensorSpec] = signature.inputs
        self.outputs: Mapping[str, TensorSpec] = signature.outputs
        self.info = BackendInfo("LiteRT", importlib.metadata.version("ai-edge-litert"), "cpu", precision, threads)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        found = self._call(**{_INPUT: feeds[self._feed]})
        return {name: np.array(found[_OUTPUT.format(number)]) for number, name in enumerate(self.outputs)}

    def close(self) -> None:
        """See `Backend.close`."""
        self._call = self._interpreter = None
