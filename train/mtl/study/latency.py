"""Latency of a study's rows as FP32 and INT8 in ONNX Runtime on this machine, all in one interleaved run, kept in a file.

Knows exported graphs, quantization and clocks; knows nothing about accuracy or reports. The size is that of deployment and may
differ from the one the rows were trained at: how long a graph takes depends on shapes, not on what its weights learnt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console

from edge_mtl.backends import available, open_backend
from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.build.quantization.quantize import quantize_for_cpu
from edge_mtl.device import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes
from edge_mtl.recipes import load_recipe
from mtl.checkpoint import load_weights
from mtl.config import describe
from mtl.data.augment import see, whole_view
from mtl.data.sources import train_frames
from mtl.model.configured import model_from
from mtl.model.export import export_deploy
from mtl.settings import RunSettings, Stage
from mtl.study.definition import LatencyRequest
from mtl.study.results import RowResult
from mtl.study.timings import Latencies, RowLatency, read_latencies, write_latencies
from mtl.study.toml_tables import StudyError

__all__ = ["measure_latencies"]

_CALIBRATION_FRAMES = 8
_ROUNDS = 21
_RUNTIME = "onnxruntime"
_WEIGHTS = "last.safetensors"


def measure_latencies(
    rows: Sequence[RowResult], request: LatencyRequest, *, path: Path, threads: int, console: Console
) -> Latencies:
    """Export, quantize and time the rows that are finished; numbers of the same rows on this machine are taken from `path`.

    Args:
        rows: to be timed; one that is not finished is left out.
        path: the file to read from and to write to.
        threads: of the runtime, at least 1.
    Raises:
        StudyError: no row is finished, or the file cannot be written.
        EdgeMtlError: a graph cannot be made, quantized or run.
    """
    ready = [row for row in rows if row.finished]
    if not ready:
        raise StudyError("no row of [latency] is finished: train first")
    asked = _digest(ready, request, threads)
    known = read_latencies(path)
    if known is not None and known.asked == asked:
        return known
    pictures = _pictures(ready[0].runs[0].run.settings, request)
    graphs = {}
    for number, row in enumerate(ready):
        console.print(f"latency: exporting and quantizing {row.row.name} ({number + 1}/{len(ready)})", highlight=False)
        graphs[row.row.name] = _graphs(row, request, pictures, threads=threads)
    latencies = _time(graphs, pictures[0], request, threads=threads, asked=asked, console=console)
    write_latencies(path, latencies)
    return latencies


def _digest(rows: Sequence[RowResult], request: LatencyRequest, threads: int) -> str:
    models = {row.row.name: describe(row.runs[0].run.settings)["model"] for row in rows}
    machine, version = fingerprint().key, available()[_RUNTIME].version
    content = [models, request.height, request.width, threads, machine, version, sha256_bytes(repr(load_recipe()).encode())]
    return sha256_bytes(json.dumps(content, sort_keys=True).encode())[:16]


def _pictures(settings: RunSettings, request: LatencyRequest) -> list[np.ndarray]:
    """A few training pictures of the size (H, W, 3) uint8, to calibrate with and to time on."""
    size = (request.height, request.width)
    data = dataclasses.replace(settings.data, height=size[0], width=size[1], train=_CALIBRATION_FRAMES)
    stage = Stage(height=size[0], width=size[1], steps=1, train=_CALIBRATION_FRAMES)
    frames = train_frames(data, stage).open(workers=data.workers, progress=True)
    pictures = []
    for index in range(min(_CALIBRATION_FRAMES, len(frames))):
        frame = frames[index]
        view = whole_view(frame.label.shape, aspect=size[1] / size[0])
        pictures.append(see(frame, view, size=size, stride=max(size), canonical=False)[0])
    return pictures


def _graphs(row: RowResult, request: LatencyRequest, pictures: list[np.ndarray], *, threads: int) -> tuple[bytes, bytes]:
    """The deploy graph of the row's first finished run, FP32 and INT8."""
    run = row.finished[0].run
    stages = tuple(dataclasses.replace(stage, height=request.height, width=request.width) for stage in run.settings.stages)
    model = model_from(dataclasses.replace(run.settings, stages=stages), pretrained=False)
    weights, _ = load_weights(run.folder / _WEIGHTS)
    try:
        model.load_state_dict(weights)
    except RuntimeError as exc:
        raise BuildError(f"{run.folder / _WEIGHTS} does not fit at {request.height}x{request.width}: {exc}") from exc
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deploy.onnx"
        export_deploy(model, path, height=request.height, width=request.width)
        fp32 = path.read_bytes()
    return fp32, quantize_for_cpu(fp32, pictures, recipe=load_recipe(), threads=threads)


def _time(
    graphs: dict[str, tuple[bytes, bytes]],
    picture: np.ndarray,
    request: LatencyRequest,
    *,
    threads: int,
    asked: str,
    console: Console,
) -> Latencies:
    feeds = {"image": np.ascontiguousarray(picture.transpose(2, 0, 1)[None]).astype(np.float32)}
    load = os.getloadavg()[0]
    console.print(f"latency: timing {len(graphs)} rows as FP32 and INT8, taking turns", highlight=False)
    with contextlib.ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {}
        for name, pair in graphs.items():
            for precision, model in zip(("fp32", "int8"), pair, strict=True):
                backend = open_backend(_RUNTIME, model, threads=threads, precision=precision)
                stack.callback(backend.close)
                calls[f"{precision} {name}"] = partial(backend.run, feeds)
        report = measure_interleaved(calls, rounds=_ROUNDS)
    rows = []
    for name in graphs:
        fp32, int8 = report[f"fp32 {name}"], report[f"int8 {name}"]
        rows.append(
            RowLatency(
                name=name,
                fp32_ms=round(fp32.median_ms, 2),
                int8_ms=round(int8.median_ms, 2),
                fp32_p10_p90_ms=(round(fp32.p10_ms, 2), round(fp32.p90_ms, 2)),
                int8_p10_p90_ms=(round(int8.p10_ms, 2), round(int8.p90_ms, 2)),
            )
        )
    return Latencies(
        height=request.height,
        width=request.width,
        machine=fingerprint().describe(),
        runtime=f"{_RUNTIME} {available()[_RUNTIME].version}",
        threads=threads,
        rounds=_ROUNDS,
        load=round(load, 1),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        asked=asked,
        rows=tuple(rows),
    )
