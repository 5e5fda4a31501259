"""Runs one ONNX graph with ONNX Runtime on a CUDA GPU; never on the CPU instead. Knows nothing about tasks or images.

Inputs and outputs are bound to memory of the GPU that is allocated once. ONNX Runtime falls back to the CPU in two ways,
both of them silent unless it is asked: where the provider does not load, which is refused here, and node by node, which is
reported in `Backend.info.device`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

# See edge_mtl.backends.onnxruntime.backend: without this the official builds report to their maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from edge_mtl.backends import Backend, BackendInfo, OpenOptions, TensorSpec
from edge_mtl.backends.forks import never_free_in_children
from edge_mtl.backends.onnxruntime.backend import first_line, tensor_spec
from edge_mtl.cuda import Cuda, CudaError, CudaOutOfMemory, Stream, installed_binding, open_cuda
from edge_mtl.cuda.errors import STICKY
from edge_mtl.cuda.letterbox import DeviceFrame, LetterboxKernel
from edge_mtl.errors import BackendUnavailable, BundleError, EdgeMtlError, EngineClosed, InferenceError

__all__ = ["OnnxRuntimeCudaBackend", "open_graph"]

Array = np.ndarray

_PROVIDER = "CUDAExecutionProvider"
_NO_CPU = "session.disable_cpu_ep_fallback"
_PRECISIONS = ("fp32", "tf32", "fp16")
_FATAL_ONLY = 4
_LOST = (
    "illegal memory access",
    "unspecified launch failure",
    "device-side assert",
    "misaligned address",
    "cudaErrorLaunchFailure",
)
_FULL = ("out of memory", "Failed to allocate memory", "CUDA_ERROR_OUT_OF_MEMORY")
_LOG = logging.getLogger("edge_mtl")


def open_graph(model: bytes, options: OpenOptions) -> Backend:
    """See `edge_mtl.backends.open_backend`."""
    return OnnxRuntimeCudaBackend(model, precision=options.precision, device=options.device)


class OnnxRuntimeCudaBackend:
    """One session on a GPU, with one set of buffers; several threads take turns."""

    def __init__(self, model: bytes, *, precision: str = "fp32", device: int = 0) -> None:
        """Load `model`.

        Args:
            precision: "fp32" computes products in full, "tf32" rounds what enters them to 10 bits, "fp16" is for graphs that
                hold halves.
            device: index of the GPU.
        Raises:
            BackendUnavailable: the provider, the GPU or the precision is not there.
            BundleError: ONNX Runtime refuses the graph.
        """
        if precision not in _PRECISIONS:
            raise BackendUnavailable(
                f"onnxruntime-cuda computes {', '.join(_PRECISIONS)}, not {precision}. Use backend tensorrt, or a CPU for int8."
            )
        if _PROVIDER not in ort.get_available_providers():
            raise BackendUnavailable(
                f"This onnxruntime has no {_PROVIDER}; found {ort.get_available_providers()}. "
                'Install it with: pip uninstall -y onnxruntime && pip install "edge-mtl[gpu]"'
            )
        _find_libraries()
        self._session, on_cpu = _load(model, precision, device)
        try:
            self.inputs: Mapping[str, TensorSpec] = {entry.name: tensor_spec(entry) for entry in self._session.get_inputs()}
            self.outputs: Mapping[str, TensorSpec] = {entry.name: tensor_spec(entry) for entry in self._session.get_outputs()}
        except Exception as exc:
            raise BundleError(f"onnxruntime {ort.__version__} cannot load this graph: {first_line(exc)}") from exc
        self._pid, self._device = os.getpid(), device
        self._lock = threading.Lock()
        self._lost: CudaError | None = None
        self._cuda: Cuda | None = None
        self._stream: Stream | None = None
        self._letterbox: LetterboxKernel | None = None
        self._held = {name: self._allocate(spec) for name, spec in (*self.inputs.items(), *self.outputs.items())}
        self._binding: Any = self._session.io_binding()
        for name in self.inputs:
            self._binding.bind_ortvalue_input(name, self._held[name])
        for name in self.outputs:
            self._binding.bind_ortvalue_output(name, self._held[name])
        never_free_in_children(self)
        place = f"cuda:{device}" + (f", and the CPU for what the GPU has no kernel for ({on_cpu})" if on_cpu else "")
        frames = installed_binding() is not None
        self.info = BackendInfo("onnxruntime-cuda", ort.__version__, place, precision, 1, "the graph", frames)

    def run(self, feeds: Mapping[str, Array | DeviceFrame]) -> dict[str, Array]:
        """See `Backend.run`. Raises CudaError, with `sticky` set where the process has to be started again."""
        with self._lock:
            self._refuse()
            self._check(feeds)
            try:
                for name, feed in feeds.items():
                    if isinstance(feed, DeviceFrame):
                        self._letterboxed(feed, name)
                    else:
                        self._held[name].update_inplace(np.ascontiguousarray(feed))
                self._session.run_with_iobinding(self._binding)
                # `numpy` copies into fresh memory, which is the caller's.
                return {name: self._held[name].numpy() for name in self.outputs}
            except EdgeMtlError as exc:
                self._note(exc)
                raise
            except Exception as exc:
                error = _failure(exc)
                self._note(error)
                raise error from exc

    def close(self) -> None:
        """See `Backend.close`."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._binding, self._session, self._held = None, None, {}
            if self._cuda is not None:
                with suppress(EdgeMtlError):
                    with self._cuda.active():
                        if self._letterbox is not None:
                            self._letterbox.free()
                        if self._stream is not None:
                            self._stream.free()
                    self._cuda.close()
                self._cuda = None

    def _allocate(self, spec: TensorSpec) -> Any:
        try:
            return ort.OrtValue.ortvalue_from_shape_and_type(list(spec.shape), spec.dtype.type, "cuda", self._device)
        except Exception as exc:
            raise _failure(exc) from exc

    def _letterboxed(self, frame: DeviceFrame, name: str) -> None:
        """Bring a frame on the GPU to the network's input, which is ready when this returns."""
        if self._cuda is None:
            self._cuda = open_cuda(self._device)
        cuda = self._cuda
        with cuda.active():
            if self._stream is None or self._letterbox is None:
                self._stream, self._letterbox = cuda.stream(), LetterboxKernel(cuda)
            cuda.wait_for(frame.array.stream)
            self._letterbox(frame, self._held[name].data_ptr(), self.inputs[name], self._stream)
            self._stream.synchronize()

    def _check(self, feeds: Mapping[str, Array | DeviceFrame]) -> None:
        if feeds.keys() != self.inputs.keys():
            raise InferenceError(f"onnxruntime-cuda: the graph takes {list(self.inputs)}; found {list(feeds)}")
        for name, feed in feeds.items():
            spec = self.inputs[name]
            if not isinstance(feed, DeviceFrame) and (tuple(feed.shape) != spec.shape or feed.dtype != spec.dtype):
                raise InferenceError(
                    f"onnxruntime-cuda: {name} should be {spec.shape} {spec.dtype}; found {tuple(feed.shape)} {feed.dtype}"
                )

    def _refuse(self) -> None:
        if os.getpid() != self._pid:
            raise EngineClosed("This engine was inherited by a forked process, which cannot use its GPU. Open one there.")
        if self._session is None:
            raise EngineClosed("This onnxruntime session is closed. Open the engine again.")
        if self._lost is not None:
            raise CudaError(f"The GPU failed before: {self._lost}", code=self._lost.code, sticky=True)

    def _note(self, error: Exception) -> None:
        if isinstance(error, CudaError) and error.sticky:
            self._lost = error


def _load(model: bytes, precision: str, device: int) -> tuple[Any, str]:
    """The session, and what is said of nodes that are not on the GPU, "" where all are."""
    try:
        return _session(model, precision, device, strict=True), ""
    except BackendUnavailable:
        raise
    except Exception as exc:
        if _NO_CPU not in str(exc) and "fallback" not in str(exc).lower():
            raise _not_loaded(exc) from exc
        why = first_line(exc)
    try:
        session = _session(model, precision, device, strict=False)
    except BackendUnavailable:
        raise
    except Exception as exc:
        raise _not_loaded(exc) from exc
    _LOG.warning("onnxruntime runs parts of this graph on the CPU, which takes copies to and fro: %s", why)
    return session, why


def _session(model: bytes, precision: str, device: int, *, strict: bool) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _FATAL_ONLY
    if strict:
        options.add_session_config_entry(_NO_CPU, "1")
    settings = {
        "device_id": str(device),
        "use_tf32": "1" if precision == "tf32" else "0",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "arena_extend_strategy": "kSameAsRequested",
    }
    session = ort.InferenceSession(model, options, providers=[(_PROVIDER, settings)], enable_fallback=0)
    if _PROVIDER not in session.get_providers():
        raise BackendUnavailable(
            f"onnxruntime {ort.__version__} did not load {_PROVIDER} but {session.get_providers()}: its CUDA or cuDNN "
            'libraries are missing or of another version. Install them with: pip install "onnxruntime-gpu[cuda,cudnn]"'
        )
    return session


def _find_libraries() -> None:
    """Load the CUDA libraries that are installed as wheels, where this version can; the system's serve otherwise."""
    preload = getattr(ort, "preload_dlls", None)
    if preload is not None:
        with suppress(Exception):  # it prints and raises for libraries that are not there; the session tells what it lacks
            preload(directory="")


def _not_loaded(exc: Exception) -> EdgeMtlError:
    said = first_line(exc)
    if any(text in str(exc) for text in _FULL):
        return CudaOutOfMemory(f"onnxruntime {ort.__version__}: {said}. Free memory of the GPU (nvidia-smi tells who uses it).")
    if "CUDA" in said or "cuda" in said:
        return BackendUnavailable(f"onnxruntime {ort.__version__} cannot use CUDA here: {said}. Run: edge-mtl doctor")
    return BundleError(f"onnxruntime {ort.__version__} cannot load this graph: {said}")


def _failure(exc: Exception) -> EdgeMtlError:
    """What a failed run means: lost GPU, full memory, or this run only."""
    text = str(exc)
    said = f"onnxruntime {ort.__version__} failed: {first_line(exc)}"
    if any(sign in text for sign in _LOST) or any(code in text for code in STICKY):
        message = f"{said}. CUDA cannot be used again in this process: end it and start it again."
        return CudaError(message, code="CUDA_ERROR_LAUNCH_FAILED", sticky=True)
    if any(sign in text for sign in _FULL):
        return CudaOutOfMemory(f"{said}. Free memory of the GPU (nvidia-smi tells who uses it) or use a smaller engine.")
    return InferenceError(said)
