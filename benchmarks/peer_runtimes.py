"""Other ways to run the same network, each as an `edge_mtl.backends.Backend`: PyTorch, torch.compile, NNCF in OpenVINO.

All take what model.onnx takes, uint8 (1, H, W, 3) RGB, and answer with finished maps, so that the same
`InferencePipeline` drives them.
Knows torch and NNCF, and imports them when asked; knows nothing about bundles' files.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from peer_graphs import trained_network

from edge_mtl.backends import BackendInfo, TensorSpec
from edge_mtl.errors import BackendUnavailable

__all__ = ["NncfRuntime", "TorchRuntime", "load_network", "nncf_version", "quantized_by_nncf"]

Array = np.ndarray
Floats = Literal["fp32", "bf16"]

_KINDS = {"segmentation": np.uint8, "depth": np.float32, "normals": np.float32}


def load_network(checkpoint: Path) -> tuple[Any, tuple[int, int]]:
    """The trained network as torch runs it, from bytes of a frame to finished maps, and its input size (H, W).

    Raises:
        BackendUnavailable: torch or what training needs is not installed.
        CheckpointError: no such file, or none of this package.
    """
    trained = trained_network(checkpoint)
    from mtl.models.placement import GraphPlacement, PlainModel

    network = GraphPlacement(PlainModel(trained.model.float().eval().requires_grad_(False)))
    return network.eval(), trained.size


class TorchRuntime:
    """A network in torch, channels last, with autocast where `floats` is bf16; compiled or as it is.

    Args:
        network: of `load_network`; it is changed to channels last.
        compiled: through torch.compile with its default settings; the first call compiles.
    """

    def __init__(self, network: Any, size: tuple[int, int], *, threads: int, floats: Floats, compiled: bool) -> None:
        import torch

        self._torch, self._floats = torch, floats
        torch.set_num_threads(threads)
        self._names: tuple[str, ...] = network.output_names
        eager = network.to(memory_format=torch.channels_last)
        self._call = torch.compile(eager) if compiled else eager
        name = "torch.compile" if compiled else "PyTorch eager"
        self.info = BackendInfo(name, torch.__version__, "cpu", floats, threads)
        self.inputs: Mapping[str, TensorSpec] = {"image": TensorSpec((1, *size, 3), np.dtype(np.uint8))}
        shapes = {"segmentation": (1, *size), "depth": (1, *size), "normals": (1, *size, 3)}
        self.outputs: Mapping[str, TensorSpec] = {
            name: TensorSpec(shapes[name], np.dtype(_KINDS[name])) for name in self._names
        }

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        torch = self._torch
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._floats == "bf16"):
            maps = self._call(torch.from_numpy(feeds["image"]))
        return {name: np.array(value.numpy()) for name, value in zip(self._names, maps, strict=True)}

    def close(self) -> None:
        """See `Backend.close`."""
        self._call = None


class NncfRuntime:
    """What `quantized_by_nncf` made, in OpenVINO.

    Args:
        quantized: of `quantized_by_nncf`.
        floats: what OpenVINO computes in where NNCF left floats.
    Raises:
        BackendUnavailable: OpenVINO is not installed, or this CPU has no bf16.
    """

    def __init__(self, quantized: bytes, *, threads: int, floats: Floats) -> None:
        _expect("openvino")
        from edge_mtl.backends.openvino.backend import ov  # imported without its telemetry

        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[floats],
        }
        core = _core(ov)
        if floats == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise BackendUnavailable("this CPU has no bf16")
        self._ov = ov
        with zipfile.ZipFile(io.BytesIO(quantized)) as archive:
            graph = core.read_model(archive.read(_GRAPH), archive.read(_WEIGHTS))
        self._graph = core.compile_model(graph, "CPU", options)
        self._request = self._graph.create_infer_request()
        self.inputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in self._graph.inputs}
        self.outputs: Mapping[str, TensorSpec] = {port.get_any_name(): _spec(port) for port in self._graph.outputs}
        self.info = BackendInfo("NNCF in OpenVINO", ov.__version__, "cpu", f"int8, {floats}", threads)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        for name, array in feeds.items():
            self._request.set_tensor(name, self._ov.Tensor(np.ascontiguousarray(array), shared_memory=True))
        self._request.infer()
        return {name: np.array(self._request.get_tensor(name).data) for name in self.outputs}

    def close(self) -> None:
        """See `Backend.close`."""
        self._request = self._graph = None


def nncf_version() -> str:
    """Of the installed package. Raises BackendUnavailable without one."""
    _expect("nncf")
    return importlib.metadata.version("nncf")


def quantized_by_nncf(model: bytes, frames: Sequence[Array]) -> bytes:
    """NNCF's post-training INT8 of the plain export, the usual recipe for a transformer: an archive for `NncfRuntime`.

    One thing is not usual: its smoothing of scales is off. With it, 95 % of the classes differed from FP32's on rooms-b0,
    and a rival that cannot answer is none.

    Args:
        model: the file model.onnx.
        frames: calibration frames, (H, W, 3) uint8 RGB of the network's size.
    Raises:
        BackendUnavailable: NNCF or OpenVINO is not installed.
    """
    _expect("openvino")
    _expect("nncf")
    os.environ.setdefault("NNCF_CI", "1")  # NNCF reports its use over the network unless this says that nobody uses it
    from edge_mtl.backends.openvino.backend import ov  # imported without its telemetry

    import nncf  # isort: skip

    graph = _core(ov).read_model(model, b"")
    dataset = nncf.Dataset([np.ascontiguousarray(frame)[None] for frame in frames])
    preset, kind = nncf.QuantizationPreset.MIXED, nncf.ModelType.TRANSFORMER
    off = nncf.AdvancedSmoothQuantParameters(convolution=-1, matmul=-1)
    options = nncf.AdvancedQuantizationParameters(smooth_quant_alphas=off)
    made = nncf.quantize(graph, dataset, preset=preset, model_type=kind, subset_size=len(frames), advanced_parameters=options)
    content = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(content, "w") as archive:
        ov.save_model(made, str(Path(folder) / _GRAPH), compress_to_fp16=False)
        for name in (_GRAPH, _WEIGHTS):
            archive.write(Path(folder) / name, name)
    return content.getvalue()


_GRAPH, _WEIGHTS = "graph.xml", "graph.bin"
_CORES: list[Any] = []
"""One OpenVINO core for the whole process: several that come and go break signal handlers on processors with AMX."""


def _core(ov: Any) -> Any:
    if not _CORES:
        _CORES.append(ov.Core())
    return _CORES[0]


def _expect(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise BackendUnavailable(f"{package} is not installed: pip install {package}")


def _spec(port: Any) -> TensorSpec:
    return TensorSpec(tuple(port.get_shape()), np.dtype(port.get_element_type().to_dtype()))
