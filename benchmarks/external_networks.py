"""Segmentation networks of others, as they come: a file of ONNX or TFLite, run at its own input size, measured as ours are.

Such a network was trained for ADE20K's classes; `mtl.datasets.nyuv2.ade20k` turns them into NYU-13. What is done besides
running it is what anyone would do: the frame is resized to the network's input and scaled, the largest class of each output
pixel is taken, and the labels are brought to the frame's size by the nearest pixel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl.backends import open_backend
from edge_mtl.errors import BackendUnavailable, BuildError
from edge_mtl.tasks import NYU_TASKS, LabelMap, LabelsSpec, Result

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
from mtl.datasets.nyuv2.ade20k import nyu13_of

__all__ = ["SCALES", "TASK", "ExternalNetwork"]

Array = np.ndarray

TASK = "segmentation"
"""What these networks are asked for, as a task of NYUv2."""

SCALES: Mapping[str, tuple[float, float]] = {
    "symmetric": (1.0 / 127.5, -1.0),
    "unit": (1.0 / 255.0, 0.0),
    "bytes": (1.0, 0.0),
}
"""How pixels of 0..255 become the network's: times the first, plus the second."""


class ExternalNetwork:
    """One network, open. A context manager: the runtime is freed at its end. A `mtl.evaluate.ResultPredictor`.

    Args:
        path: a file that ends in .onnx or .tflite; one image input of three channels last or first, batch 1; its first output
            of four axes are logits of 150 or 151 classes.
        scale: a key of `SCALES`; of no use where the input is uint8.
        threads: of the runtime.
    Attributes:
        path: as given.
        size: (H, W) of its input.
        engine, runtime: what runs it, by name, and with its version.
    Raises:
        BuildError: no such file, or inputs and outputs of another form.
        BackendUnavailable: the runtime is not installed.
    """

    def __init__(self, path: Path, *, scale: str, threads: int) -> None:
        opens = {".onnx": _open_onnx, ".tflite": _open_tflite}.get(path.suffix)
        if opens is None or not path.is_file():
            raise BuildError(f"{path} is not the file of a network: expected one that ends in .onnx or .tflite. Give its path")
        self.path = path
        self.runtime, shape, dtype, self._run, self._close = opens(path, threads)
        self.engine = self.runtime.partition(" ")[0]
        channels = {axis for axis in (1, 3) if len(shape) == 4 and shape[axis] == 3}
        if not channels or shape[0] != 1 or dtype not in (np.float32, np.uint8):
            raise BuildError(
                f"{path.name} takes {dtype} {shape}: expected one image, float32 or uint8, (1, H, W, 3) or (1, 3, H, W). "
                "Export it with a fixed size and batch 1"
            )
        self._first = 3 not in channels
        self.size: tuple[int, int] = (shape[2], shape[3]) if self._first else (shape[1], shape[2])
        self._bytes = dtype == np.uint8
        self._scale = SCALES[scale]
        answer = self._run(self._prepared(np.zeros((*self.size, 3), np.uint8)))
        if answer.ndim != 4:
            raise BuildError(f"{path.name} answers {answer.shape}: expected logits of four axes. Export it without its argmax")
        self._last = answer.shape[3] in (150, 151)
        self._table = nyu13_of(answer.shape[3 if self._last else 1])

    def segment(self, frame: Array) -> Array:
        """(H, W, 3) uint8 RGB -> (H, W) uint8, class of NYU-13."""
        logits = self._run(self._prepared(frame))[0]
        best = logits.argmax(axis=-1 if self._last else 0)
        labels = self._table[best]
        if labels.shape == frame.shape[:2]:
            return labels
        return np.asarray(cv2.resize(labels, frame.shape[1::-1], interpolation=cv2.INTER_NEAREST_EXACT))

    def results(self, image: Array, intrinsics: Any = None) -> Mapping[str, Result]:
        """The same as a result of the task; the camera is of no use here."""
        spec = NYU_TASKS[TASK]
        assert isinstance(spec, LabelsSpec)
        return {TASK: LabelMap(spec, self.segment(image))}

    def _prepared(self, frame: Array) -> Array:
        if frame.shape[:2] != self.size:
            frame = cv2.resize(frame, self.size[::-1], interpolation=cv2.INTER_LINEAR)
        factor, offset = self._scale
        pixels = frame if self._bytes else cv2.multiply(frame, (factor,) * 4, dtype=cv2.CV_32F)
        if not self._bytes and offset:
            pixels += np.float32(offset)
        return np.ascontiguousarray((pixels.transpose(2, 0, 1) if self._first else pixels)[None])

    def __enter__(self) -> ExternalNetwork:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()


Opened = tuple[str, tuple[int, ...], Any, Callable[[Array], Array], Callable[[], None]]
"""Runtime and version, shape and type of the input, what runs it, and what frees it."""


def _open_onnx(path: Path, threads: int) -> Opened:
    backend = open_backend("onnxruntime", path.read_bytes(), threads=threads)
    (name, spec), *others = backend.inputs.items()
    if others:
        backend.close()
        raise BuildError(f"{path.name} has {len(others) + 1} inputs: expected the image alone")
    wanted = next((name for name, output in backend.outputs.items() if len(output.shape) == 4), next(iter(backend.outputs)))
    runtime = f"{backend.info.name} {backend.info.version}"
    return runtime, spec.shape, spec.dtype, lambda image: backend.run({name: image})[wanted], backend.close


def _open_tflite(path: Path, threads: int) -> Opened:
    try:
        interpreters = import_module("ai_edge_litert.interpreter")
        version = import_module("importlib.metadata").version("ai-edge-litert")
    except ImportError as exc:
        raise BackendUnavailable(
            f"{path.name} is a TFLite file, which needs the package ai-edge-litert, not installed here. "
            "Install it with: pip install ai-edge-litert"
        ) from exc
    try:
        interpreter = interpreters.Interpreter(str(path), num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as exc:
        raise BuildError(f"{path} is not a TFLite file that runs here ({str(exc).strip().splitlines()[0]})") from exc
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    if len(inputs) != 1:
        raise BuildError(f"{path.name} has {len(inputs)} inputs: expected the image alone")
    wanted = next((one for one in outputs if len(one["shape"]) == 4), outputs[0])

    def run(image: Array) -> Array:
        interpreter.set_tensor(inputs[0]["index"], image)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(wanted["index"]))

    shape = tuple(int(side) for side in inputs[0]["shape"])
    return f"litert {version}", shape, np.dtype(inputs[0]["dtype"]), run, lambda: None
