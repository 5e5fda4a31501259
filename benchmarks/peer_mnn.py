"""MNN as an `edge_mtl.backends.Backend`: a graph converted by its own converter, in floats or quantized by its own tool.

Its command-line wrappers are passed by: they report each use over the network, and install what they need for that by
themselves. Knows MNN, and imports it when asked; knows nothing about bundles' files.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from peer_graphs import Signature, expect, version

from edge_mtl.backends import BackendInfo, TensorSpec
from edge_mtl.errors import BackendUnavailable, BuildError, InferenceError

__all__ = ["MnnRuntime", "converted", "mnn_version", "quantized"]

Array = np.ndarray
Precision = Literal["high", "low"]
_FAILED = "MNN's session answered {code}"


def mnn_version() -> str:
    """Of the installed package. Raises BackendUnavailable without one."""
    expect("MNN")
    return version("MNN")


def converted(graph: bytes, weight_bits: int | None = None) -> bytes:
    """An ONNX graph as MNN's file; to be called by `apart`.

    Args:
        weight_bits: of the weights, for `MnnRuntime` with `dynamic`; floats where none are given.
    Raises:
        BuildError: the tool makes no file.
    """
    expect("MNN")
    import _tools as tools

    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "graph.onnx", Path(folder) / "graph.mnn"
        source.write_bytes(graph)
        command = ["mnnconvert", "-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(made), "--bizCode", "x"]
        tools.mnnconvert([*command, *(() if weight_bits is None else ("--weightQuantBits", str(weight_bits)))])
        return _read(made, "mnnconvert")


def quantized(model: bytes, frames: Sequence[Array], method: str) -> bytes:
    """MNN's offline INT8 of what `converted` made; to be called by `apart`.

    Args:
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size.
        method: of the tool, for activations: "KL", "ADMM" or "EMA".
    Raises:
        BuildError: the tool makes no file.
    """
    expect("MNN")
    import _tools as tools

    with tempfile.TemporaryDirectory() as folder:
        images, source, made = Path(folder) / "frames", Path(folder) / "graph.mnn", Path(folder) / "int8.mnn"
        images.mkdir()
        for number, frame in enumerate(frames):
            cv2.imwrite(str(images / f"{number:04d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        source.write_bytes(model)
        options = {
            "format": "RGB", "mean": [0.0, 0.0, 0.0], "normal": [1.0, 1.0, 1.0],
            "height": frames[0].shape[0], "width": frames[0].shape[1],
            "path": f"{images}/", "used_image_num": len(frames), "input_type": "image", "batch_size": 1,
            "feature_quantize_method": method, "weight_quantize_method": "ADMM" if method == "ADMM" else "MAX_ABS",
        }  # fmt: skip
        settings = Path(folder) / "settings.json"
        settings.write_text(json.dumps(options))
        tools.mnnquant(["mnnquant", str(source), str(made), str(settings)])
        return _read(made, "mnnquant")


class MnnRuntime:
    """What `converted` or `quantized` made.

    Args:
        precision: "low" lets MNN compute in what is shorter than FP32.
        dynamic: activations are rounded to 8 bits frame by frame where weights have as many; this needs no calibration.
    Raises:
        BackendUnavailable: MNN is not installed.
    """

    def __init__(
        self,
        model: bytes,
        signature: Signature,
        *,
        threads: int,
        name: str,
        precision: Precision = "high",
        dynamic: bool = False,
    ) -> None:
        expect("MNN")
        import MNN

        self._mnn, self._signature = MNN, signature
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "graph.mnn"
            path.write_bytes(model)
            self._interpreter: Any = MNN.Interpreter(str(path))
        settings = {"backend": "CPU", "numThread": threads, "precision": precision, "memory": "low" if dynamic else "normal"}
        self._session = self._interpreter.createSession(settings)
        self._input = self._interpreter.getSessionInput(self._session, signature.feed)
        self._outputs = {name: self._interpreter.getSessionOutput(self._session, name) for name in signature.outputs}
        self.inputs: Mapping[str, TensorSpec] = signature.inputs
        self.outputs: Mapping[str, TensorSpec] = signature.outputs
        self.info = BackendInfo("MNN", MNN.version(), "cpu", name, threads)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        name = self._signature.feed
        self._input.copyFrom(self._tensor(self.inputs[name], np.ascontiguousarray(feeds[name])))
        code = self._interpreter.runSession(self._session)
        if code != 0:
            raise InferenceError(_FAILED.format(code=code))
        answers = {}
        for output, spec in self.outputs.items():
            host = self._tensor(spec, np.empty(spec.shape, spec.dtype))
            self._outputs[output].copyToHostTensor(host)
            answers[output] = np.array(host.getNumpyData(), spec.dtype).reshape(spec.shape)
        return answers

    def close(self) -> None:
        """See `Backend.close`."""
        self._input = self._session = self._interpreter = None
        self._outputs = {}

    def _tensor(self, spec: TensorSpec, values: Array) -> Any:
        kind = self._mnn.Halide_Type_Uint8 if spec.dtype == np.uint8 else self._mnn.Halide_Type_Float
        return self._mnn.Tensor(spec.shape, kind, values, self._mnn.Tensor_DimensionType_Caffe)


def refuse_unless_shorter(low: MnnRuntime, high: MnnRuntime, feeds: Mapping[str, Array]) -> None:
    """Raise BackendUnavailable where "low" answers as "high" does to the last bit: then it computes in FP32."""
    ours, others = low.run(feeds), high.run(feeds)
    if all(np.array_equal(ours[name], others[name]) for name in ours):
        raise BackendUnavailable(
            'MNN\'s precision "low" answers as FP32 does to the last bit: this build has no bf16 on this CPU'
        )


def _read(path: Path, tool: str) -> bytes:
    if not path.is_file():
        raise BuildError(f"{tool} made no file")
    return path.read_bytes()
