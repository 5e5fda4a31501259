"""ncnn as an `edge_mtl.backends.Backend`: the network traced by torch, converted by pnnx.

Knows ncnn, pnnx and torch, and imports them when asked; knows nothing about bundles' files.
"""

from __future__ import annotations

import io
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from peer_graphs import Signature, expect, load_optimized, version

from edge_mtl.backends import BackendInfo, TensorSpec
from edge_mtl.errors import BackendUnavailable, BuildError, InferenceError

__all__ = ["NcnnRuntime", "converted", "ncnn_version", "quantized"]

Array = np.ndarray
Floats = Literal["fp32", "bf16", "fp16"]
_GRAPH, _WEIGHTS = "network.ncnn.param", "network.ncnn.bin"


def ncnn_version() -> str:
    """Of ncnn and its converter. Raises BackendUnavailable without them."""
    expect("ncnn", "pnnx")
    return version("ncnn", "pnnx")


def converted(source: Path, names: Sequence[str]) -> bytes:
    """The optimized network of a bundle or checkpoint, an archive for `NcnnRuntime`; to be called by `apart`.

    Raises:
        BackendUnavailable: pnnx or torch is not installed.
        BuildError: pnnx makes no file.
    """
    expect("pnnx", "torch")
    import pnnx
    import torch

    network, example = load_optimized(source, names)
    content = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(content, "w") as archive:
        torch.jit.trace(network, example, check_trace=False).save(str(Path(folder) / "network.pt"))
        shape = ",".join(str(side) for side in example.shape)
        command = [pnnx.EXEC_PATH, "network.pt", f"inputshape=[{shape}]", "fp16=0"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        for name in (_GRAPH, _WEIGHTS):
            if not (Path(folder) / name).is_file():
                raise BuildError(f"pnnx ended with {done.returncode} and made no {name}")
            archive.write(Path(folder) / name, name)
    return content.getvalue()


def quantized() -> bytes:
    """Raises BackendUnavailable: INT8 needs ncnn2table and ncnn2int8, which are in no Python package."""
    expect("ncnn", "pnnx")
    raise BackendUnavailable("ncnn's INT8 needs its tools ncnn2table and ncnn2int8, which its Python packages do not have")


class NcnnRuntime:
    """What `converted` made.

    Args:
        floats: what numbers between layers are kept in.
    Raises:
        BackendUnavailable: ncnn is not installed.
        BuildError: ncnn cannot load the graph.
    """

    def __init__(self, model: bytes, signature: Signature, *, threads: int, floats: Floats) -> None:
        expect("ncnn")
        import ncnn

        self._ncnn, self._signature = ncnn, signature
        self._net: Any = ncnn.Net()
        options = self._net.opt
        options.num_threads, options.openmp_blocktime = threads, 0
        options.use_vulkan_compute = False
        options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = floats == "fp16"
        options.use_bf16_packed = options.use_bf16_storage = floats == "bf16"
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(io.BytesIO(model)) as archive:
            archive.extractall(folder)
            codes = self._net.load_param(str(Path(folder) / _GRAPH)), self._net.load_model(str(Path(folder) / _WEIGHTS))
        if any(codes):
            raise BuildError(f"ncnn does not load what pnnx made (it answered {codes[0]} and {codes[1]})")
        self.inputs: Mapping[str, TensorSpec] = signature.inputs
        self.outputs: Mapping[str, TensorSpec] = signature.outputs
        self.info = BackendInfo("ncnn", ncnn.__version__, "cpu", floats, threads)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """See `Backend.run`."""
        image = np.ascontiguousarray(feeds[self._signature.feed][0])
        extractor = self._net.create_extractor()
        extractor.input("in0", self._ncnn.Mat(image))
        answers = {}
        for number, (name, spec) in enumerate(self.outputs.items()):
            code, found = extractor.extract(f"out{number}")
            if code != 0:
                raise InferenceError(f"ncnn cannot run what pnnx made of this graph (extract answered {code})")
            answers[name] = np.array(found, np.float32).reshape(spec.shape)
        return answers

    def close(self) -> None:
        """See `Backend.close`."""
        if self._net is not None:
            self._net.clear()
        self._net = None
