"""Benchmarks made of numbers, as their JSON: for tests of what reads them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edge_mtl.bench.conditions import Conditions
from edge_mtl.bench.energy import EnergyRow
from edge_mtl.bench.fixed_rate import FixedRateRow
from edge_mtl.bench.interleaved import WarmUp
from edge_mtl.bench.report import BenchmarkReport, BenchmarkRow, Memory, StartUp, differences
from edge_mtl.bench.statistics import Interval, distribution, ratio_interval, verdict
from edge_mtl.files import plain

BASELINE = "fp32 on onnxruntime, plain"
EVIL = 'int8 on <b>"openvino"</b> & more'


def row(name: str, seconds: np.ndarray, baseline: np.ndarray, **more: Any) -> BenchmarkRow:
    total, ratio = distribution(seconds), ratio_interval(baseline, seconds)
    stages = {"prepare": distribution(seconds * 0.1), "infer": distribution(seconds * 0.8), "total": total}
    fields: dict[str, Any] = {
        "name": name,
        "bundle": "rooms",
        "precision": "int8",
        "backend": "openvino",
        "runtime_version": "1",
        "device": "cpu",
        "threads": 2,
        "engine_key": None,
        "size_bytes": 5_000_000,
        "batch": 1,
        "p50_ms": total.p50_ms,
        "p90_ms": total.p90_ms,
        "p99_ms": total.p99_ms,
        "max_ms": total.max_ms,
        "jitter_ms": total.jitter_ms,
        "ratio": ratio.value,
        "ratio_low": ratio.low,
        "ratio_high": ratio.high,
        "ratio_sure": (ratio.low, ratio.high),
        "verdict": verdict(ratio),
        "prepare_ms": 1.0,
        "infer_ms": 8.0,
        "postprocess_ms": None,
        "stages": stages | {"engine": stages["infer"]},
        "warm_up": WarmUp(5, 0.1, 0.05, True),
        "load_s": 0.5,
        "samples_ms": tuple(seconds * 1e3),
    }
    return BenchmarkRow(**{**fields, **more})


def report(*, gain: float = 2.0, noise: float = 0.03, full: bool = False, rounds: int = 200) -> dict[str, Any]:
    """A benchmark of two rows, as its JSON."""
    found = measured(gain=gain, noise=noise, full=full, rounds=rounds)
    content: dict[str, Any] = json.loads(json.dumps(plain(found.to_dict()), allow_nan=False))
    return content


def measured(*, gain: float = 2.0, noise: float = 0.03, full: bool = False, rounds: int = 200) -> BenchmarkReport:
    """The same, as what a benchmark found."""
    random = np.random.default_rng(0)
    slow = 0.040 * random.lognormal(0.0, noise, rounds)
    fast = 0.040 / gain * random.lognormal(0.0, noise, rounds)
    fast[5] = 0.9  # an outlier
    more: dict[str, Any] = {}
    if full:
        more = {
            "start_up": StartUp(1.5, 0.8, 0.030),
            "memory": Memory(300_000_000, 200_000_000, 50_000_000),
            "stream_fps": Interval(60.0, 55.0, 65.0),
            "paced": FixedRateRow(30.0, 60, 55, 5, distribution([0.05] * 55), 27.0),
            "energy": (EnergyRow("RAPL", "processor package", Interval(0.5, 0.4, 0.6), 0.3, 12.0, 5.0, 100),),
            "accuracy": {"miou": 0.71, "depth_rel": 0.16, "normal_mean_deg": 20.0, "frames": 20},
        }
    conditions = Conditions(["edge-mtl", "benchmark"]).describe() | {"throttling": ["the processor was hot"]}
    for look in conditions["state"].values():
        look.pop("cpu_ticks", None)  # what others take of the machine that tests run on is not part of this report
    rows = (row(BASELINE, slow, slow, verdict=None), row(EVIL, fast, slow, **more))
    return BenchmarkReport(
        bundles=[{"name": "rooms", "revision": 1, "digest": "0" * 64, "tasks": []}],
        baseline=BASELINE,
        frame_size=(288, 384),
        rounds=rounds,
        rows=rows,
        differences=differences({BASELINE: slow, EVIL: fast}),
        unavailable=[] if full else [{"name": "energy from RAPL", "reason": "no such thing"}],
        conditions=conditions,
    )


def stolen(share: float, *, others: float = 0.0, idle: float = 0.0) -> dict[str, Any]:
    """The state of a machine: shares of other guests, of other processes, and of nobody; the rest is this process."""
    own = 1.0 - share - others - idle
    before = {"cpu_ticks": 500, "idle_ticks": 100, "stolen_ticks": 7, "own_ticks": 30}
    gained = {"cpu_ticks": 1000, "idle_ticks": 1000 * idle, "stolen_ticks": 1000 * share, "own_ticks": 1000 * own}
    return {"before": before, "after": {name: before[name] + round(ticks) for name, ticks in gained.items()}}
