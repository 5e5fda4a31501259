"""Runtimes of phones and small computers on our optimized graph, as rows of the peers table: MNN, ncnn, LiteRT, ExecuTorch.

What they are converted and quantized to is kept in a work folder. Their packages are imported where their rows are opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import peer_executorch
import peer_litert
import peer_mnn
import peer_ncnn
from peer_graphs import Signature, apart, planes, signature
from work_folder import WorkFolder

from edge_mtl.backends import Backend
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.calibration.frames import CalibrationSet
from edge_mtl.evaluation.labelled_frames import evaluation_frames

__all__ = ["mobile"]

_MNN_METHODS = ("KL", "ADMM", "EMA")
_FLOATS: Sequence[peer_ncnn.Floats] = ("fp32", "bf16", "fp16")


def mobile(
    bundle: Bundle, source: Path, calibration: Callable[[], CalibrationSet], *, threads: int, work: WorkFolder
) -> dict[str, Callable[[], Backend]]:
    """What opens each row, by the row's name.

    Args:
        source: the bundle's folder or its checkpoint, of which torch makes the network.
        calibration: loads the frames for INT8 when they are first needed.
    """
    rows = _Rows(bundle, source, calibration, threads=threads, work=work)
    opened: dict[str, Callable[[], Backend]] = {
        "MNN fp32, plain export": partial(rows.mnn, "high", plain=True),
        "MNN fp32, optimized export": partial(rows.mnn, "high"),
        "MNN low precision, optimized export": partial(rows.mnn, "low"),
    }
    opened |= {"MNN INT8 (dynamic), optimized export": rows.mnn_dynamic}
    opened |= {f"MNN INT8 ({method}), optimized export": partial(rows.mnn_int8, method) for method in _MNN_METHODS}
    opened |= {f"ncnn {floats}, optimized export": partial(rows.ncnn, floats) for floats in _FLOATS}
    return opened | {
        "ncnn INT8, optimized export": peer_ncnn.quantized,
        "LiteRT fp32, optimized export": partial(rows.litert, integers=False),
        "LiteRT INT8, optimized export": partial(rows.litert, integers=True),
        "ExecuTorch fp32, optimized export": partial(rows.executorch, integers=False),
        "ExecuTorch INT8, optimized export": partial(rows.executorch, integers=True),
    }


class _Rows:
    """Opens each; see `mobile`."""

    def __init__(
        self, bundle: Bundle, source: Path, calibration: Callable[[], CalibrationSet], *, threads: int, work: WorkFolder
    ) -> None:
        self._bundle, self._source, self._calibration = bundle, source, calibration
        self._threads, self._work = threads, work

    @cached_property
    def _signature(self) -> Signature:
        return signature(self._bundle)

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._signature.outputs)

    def mnn(self, precision: peer_mnn.Precision, *, plain: bool = False) -> Backend:
        model = self._mnn(plain=plain).read_bytes()
        form = signature(self._bundle, place="graph") if plain else self._signature
        options: dict[str, Any] = {"threads": self._threads}
        high = peer_mnn.MnnRuntime(model, form, name="fp32", **options)
        if precision == "high":
            return high
        low = peer_mnn.MnnRuntime(model, form, precision="low", name="low", **options)
        frame = next(evaluation_frames(self._bundle)).frame
        peer_mnn.refuse_unless_shorter(low, high, {form.feed: planes(frame)})
        high.close()
        return low

    def mnn_dynamic(self) -> Backend:
        model = self._mnn(weight_bits=8).read_bytes()
        return peer_mnn.MnnRuntime(model, self._signature, threads=self._threads, name="int8", dynamic=True)

    def mnn_int8(self, method: str) -> Backend:
        frames = self._calibration()
        model = self._mnn().read_bytes()

        def make() -> bytes:
            return apart(peer_mnn.quantized, model, frames.images(), method)

        decided_by = self._decided_by(OPTIMIZED_ONNX, peer_mnn.mnn_version(), calibration=frames.digest, method=method)
        kept = self._work.kept("int8.mnn", decided_by, make)
        return peer_mnn.MnnRuntime(kept.read_bytes(), self._signature, threads=self._threads, name="int8")

    def ncnn(self, floats: peer_ncnn.Floats) -> Backend:
        make = partial(apart, peer_ncnn.converted, self._source, self._names)
        kept = self._work.kept("ncnn.zip", self._decided_by(OPTIMIZED_ONNX, peer_ncnn.ncnn_version()), make)
        return peer_ncnn.NcnnRuntime(kept.read_bytes(), self._signature, threads=self._threads, floats=floats)

    def litert(self, *, integers: bool) -> Backend:
        tools = peer_litert.litert_version()
        convert = partial(apart, peer_litert.converted, self._source, self._names)
        kept = self._work.kept("converted.tflite", self._decided_by(OPTIMIZED_ONNX, tools), convert)
        if integers:
            frames, model = self._calibration(), kept.read_bytes()
            decided_by = self._decided_by(OPTIMIZED_ONNX, tools, calibration=frames.digest)
            kept = self._work.kept("int8.tflite", decided_by, lambda: apart(peer_litert.quantized, model, frames.images()))
        precision = "int8" if integers else "fp32"
        return peer_litert.LiteRtRuntime(kept.read_bytes(), self._signature, threads=self._threads, precision=precision)

    def executorch(self, *, integers: bool) -> Backend:
        tools = peer_executorch.executorch_version()
        frames: Sequence[np.ndarray] = ()
        decided_by = self._decided_by(OPTIMIZED_ONNX, tools)
        if integers:
            found = self._calibration()
            frames, decided_by = found.images(), {**decided_by, "calibration": found.digest}
        make = partial(apart, peer_executorch.converted, self._source, self._names, frames)
        kept = self._work.kept("xnnpack.pte", decided_by, make)
        precision = "int8" if integers else "fp32"
        return peer_executorch.ExecuTorchRuntime(kept.read_bytes(), self._signature, threads=self._threads, precision=precision)

    def _mnn(self, *, plain: bool = False, weight_bits: int | None = None) -> Path:
        graph = REFERENCE_ONNX if plain else OPTIMIZED_ONNX
        make = partial(apart, peer_mnn.converted, self._bundle.read(graph), weight_bits)
        bits = {} if weight_bits is None else {"weight_bits": str(weight_bits)}
        return self._work.kept("converted.mnn", self._decided_by(graph, peer_mnn.mnn_version(), **bits), make)

    def _decided_by(self, graph: str, tools: str, **more: str) -> dict[str, str]:
        return {"model": self._bundle.entry(graph).sha256, "tools": tools, **more}
