"""Latency of a study's rows as FP32 and as INT8 in every runtime of this processor, all in one interleaved run, kept in a file.

Knows exported graphs, quantization and clocks; knows nothing about accuracy or reports. The size is that of deployment and may
differ from the one the rows were trained at: how long a graph takes depends on shapes, not on what its weights learnt.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from edge_mtl.backends import available, open_backend
from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.backends.selection import AUTO, check_any, on_kind
from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.statistics import distribution, ratio_interval
from edge_mtl.builder.candidates import Candidate, candidates, target_of
from edge_mtl.console import Console
from edge_mtl.device import fingerprint
from edge_mtl.errors import BuildError
from edge_mtl.files import sha256_bytes
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import load_recipe
from mtl.checkpoint import load_weights
from mtl.config import describe
from mtl.datasets.augment import apply_view, whole_view
from mtl.datasets.sources import train_frames
from mtl.models import MultiTaskModel
from mtl.models.configured import model_from
from mtl.models.export import export_deploy
from mtl.settings import RunSettings, Stage
from mtl.study.definition import LatencyRequest
from mtl.study.results import RowResult
from mtl.study.timings import EngineLatency, Latencies, RowLatency, read_latencies, write_latencies
from mtl.study.toml_tables import StudyError

__all__ = ["giga_macs", "measure_latencies"]

_CALIBRATION_FRAMES = 8
_ROUNDS = 121
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
    here = on_kind(available(), "cpu")
    check_any(here, "cpu")
    engines = (Candidate(REFERENCE_RUNTIME, "fp32"), *candidates("int8", backend=AUTO, available=here, device=fingerprint()))
    asked = _digest(ready, request, threads, engines)
    known = read_latencies(path)
    if known is not None and known.asked == asked:
        return known
    images = _images(ready[0].runs[0].run.settings, request)
    graphs, gmacs = {}, {}
    for number, row in enumerate(ready):
        console.print(f"latency: exporting and quantizing {row.row.name} ({number + 1}/{len(ready)})", highlight=False)
        model = _model(row, request)
        gmacs[row.row.name] = giga_macs(model, (request.height, request.width))
        graphs[row.row.name] = _graphs(model, request, images, engines, threads=threads)
    latencies = _time(graphs, gmacs, engines, images[0], request, threads=threads, asked=asked, console=console)
    write_latencies(path, latencies)
    return latencies


def _digest(rows: Sequence[RowResult], request: LatencyRequest, threads: int, engines: Sequence[Candidate]) -> str:
    models = {row.row.name: describe(row.runs[0].run.settings)["model"] for row in rows}
    machine, found = fingerprint().key, available()
    versions = {engine.name: found[engine.backend].version for engine in engines}
    content = [models, request.height, request.width, threads, machine, versions, load_recipe().digest, "gmacs"]
    return sha256_bytes(json.dumps(content, sort_keys=True).encode())[:16]


def _images(settings: RunSettings, request: LatencyRequest) -> list[np.ndarray]:
    """A few training images of the size (H, W, 3) uint8, to calibrate with and to time on."""
    size = (request.height, request.width)
    data = dataclasses.replace(settings.data, height=size[0], width=size[1], train=_CALIBRATION_FRAMES)
    stage = Stage(height=size[0], width=size[1], steps=1, train=_CALIBRATION_FRAMES)
    frames = train_frames(data, stage).open(workers=data.workers, progress=True)
    images = []
    for index in range(min(_CALIBRATION_FRAMES, len(frames))):
        frame = frames[index]
        view = whole_view(frame.size, aspect=size[1] / size[0])
        images.append(apply_view(frame, view, {}, size=size, canonical=False).image)
    return images


def _model(row: RowResult, request: LatencyRequest) -> MultiTaskModel:
    """The network of the row's first finished run, at the size of the request."""
    run = row.finished[0].run
    stages = tuple(dataclasses.replace(stage, height=request.height, width=request.width) for stage in run.settings.stages)
    model = model_from(dataclasses.replace(run.settings, stages=stages), pretrained=False)
    weights, _ = load_weights(run.folder / _WEIGHTS)
    try:
        model.load_state_dict(weights)
    except RuntimeError as exc:
        raise BuildError(f"{run.folder / _WEIGHTS} does not fit at {request.height}x{request.width}: {exc}") from exc
    return model


def giga_macs(model: nn.Module, size: tuple[int, int]) -> float:
    """Multiplications with an addition that one frame of a size (H, W) takes, in 10^9: convolutions, linear layers, attention.

    Counted by PyTorch's `FlopCounterMode`, which counts both halves; the plain network, not its optimized graph.
    """
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, 3, *size))
    return counter.get_total_flops() / 2e9


def _graphs(
    model: MultiTaskModel, request: LatencyRequest, images: list[np.ndarray], engines: Sequence[Candidate], *, threads: int
) -> dict[str, bytes]:
    """The optimized ONNX of a network for each engine, by the engine's name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "deploy.onnx"
        export_deploy(model, path, height=request.height, width=request.width)
        fp32 = path.read_bytes()
    calibrated = calibrate(fp32, images, recipe=load_recipe(), threads=threads)
    integers: dict[tuple[str, int], bytes] = {}
    for engine in engines:
        key = (engine.backend, engine.weight_bits)
        if engine.precision != "fp32" and key not in integers:
            target = target_of(engine.backend)
            integers[key] = insert_qdq(fp32, calibrated, recipe=load_recipe(), target=target, bits=engine.weight_bits)
    return {
        engine.name: fp32 if engine.precision == "fp32" else integers[engine.backend, engine.weight_bits] for engine in engines
    }


def _time(
    graphs: dict[str, dict[str, bytes]],
    gmacs: Mapping[str, float],
    engines: Sequence[Candidate],
    image: np.ndarray,
    request: LatencyRequest,
    *,
    threads: int,
    asked: str,
    console: Console,
) -> Latencies:
    feeds = {"image": np.ascontiguousarray(image.transpose(2, 0, 1)[None]).astype(np.float32)}
    load = os.getloadavg()[0]
    console.print(f"latency: timing {len(graphs)} rows in {len(engines)} engines, interleaved", highlight=False)
    with contextlib.ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {}
        for engine in engines:  # rows of one engine are neighbours in time: what disturbs one disturbs the other
            for row, of_row in graphs.items():
                backend = open_backend(engine.backend, of_row[engine.name], threads=threads, precision=engine.precision)
                stack.callback(backend.close)
                calls[_call(row, engine)] = partial(backend.run, feeds)
        turns = run_interleaved(calls, rounds=_ROUNDS)
    seconds = {name: found.seconds for name, found in turns.items()}
    first = next(iter(graphs))
    found = available()
    return Latencies(
        height=request.height,
        width=request.width,
        machine=fingerprint().describe(),
        runtimes=tuple(f"{name} {found[name].version}" for name in dict.fromkeys(engine.backend for engine in engines)),
        threads=threads,
        rounds=_ROUNDS,
        load=round(load, 1),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        asked=asked,
        rows=tuple(
            RowLatency(
                row,
                tuple(_engine(engine.name, seconds[_call(row, engine)], seconds[_call(first, engine)]) for engine in engines),
                round(gmacs[row], 3),
            )
            for row in graphs
        ),
    )


def _call(row: str, engine: Candidate) -> str:
    return f"{row}: {engine.name}"


def _engine(name: str, seconds: Sequence[float], first: Sequence[float]) -> EngineLatency:
    spread, ratio = distribution(seconds), ratio_interval(first, seconds)
    return EngineLatency(
        engine=name,
        median_ms=round(spread.p50_ms, 2),
        p10_p90_ms=(round(float(np.percentile(seconds, 10)) * 1e3, 2), round(spread.p90_ms, 2)),
        ratio=round(ratio.value, 3),
        ratio_sure=(round(ratio.low, 3), round(ratio.high, 3)),
    )
