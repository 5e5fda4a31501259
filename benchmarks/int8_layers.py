"""Where the time goes in FP32, bfloat16 and INT8, by operator: why integers pay here, or do not.

    python benchmarks/int8_layers.py edge_mtl/bundles/rooms-b0 --threads 2 --out benchmarks/results/NAME.json

Whole graphs are timed interleaved first; then each runs again under its runtime's own profiler, on one thread, and every
node counts with its fastest run, which other processes on the machine disturb least. Profilers differ between runtimes:
compare precisions of one runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions

from edge_mtl.backends import available, open_backend
from edge_mtl.backends.int8_saturation import keep_exact
from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.device import fingerprint
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import write_atomic
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import load_recipe

GROUPS: Mapping[str, tuple[str, ...]] = {
    "convolutions": ("Conv", "FusedConv", "QLinearConv", "NhwcFusedConv", "Convolution", "GroupConvolution"),
    "products": ("Gemm", "QGemm", "FusedGemm", "MatMul", "FusedMatMul", "FullyConnected", "ScaledDotProductAttention"),
    "to and from integers": ("QuantizeLinear", "DequantizeLinear", "FakeQuantize", "Convert"),
    "GELU": ("Gelu", "BiasGelu", "QLinearSigmoid", "QLinearMul"),
    "LayerNorm and softmax": ("LayerNormalization", "SkipLayerNormalization", "Softmax", "MVN", "RMSNorm"),
    "moving data": ("Transpose", "Reshape", "Reorder", "ReorderInput", "ReorderOutput", "Gather", "Concat", "QLinearConcat",
                    "Resize", "Interpolate", "Concatenation", "Unsqueeze", "NhwcTranspose", "Interaction", "Permute"),
}  # fmt: skip


PAIRS = (("onnxruntime fp32", "onnxruntime int8"), ("openvino fp32", "openvino int8"), ("openvino bf16", "openvino int8+bf16"))
"""What INT8 is held against, by runtime: the same floats around the integers."""


def group_of(operator: str) -> str:
    """Which group of `GROUPS` an operator belongs to."""
    return next((name for name, operators in GROUPS.items() if operator in operators), "other element-wise")


def profile_onnxruntime(model: bytes, planes: np.ndarray, *, runs: int) -> dict[str, tuple[float, int]]:
    """Milliseconds per run and number of nodes, by operator."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        options.log_severity_level = 4
        keep_exact(options, model)
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = session.get_inputs()[0].name
        for _ in range(runs):
            session.run(None, {feed: planes})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times.setdefault((event["args"]["op_name"], event["name"]), []).append(event["dur"] / 1e3)
    return _by_operator({key: min(values) for key, values in times.items()})


def profile_openvino(model: bytes, planes: np.ndarray, *, floats: str, runs: int) -> dict[str, tuple[float, int]]:
    """The same of OpenVINO; nodes that were fused into others take no time and are left out."""
    from edge_mtl.backends.openvino.backend import _core, ov

    core = _core()
    settings = {"INFERENCE_PRECISION_HINT": floats, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "PERF_COUNT": True}
    compiled = core.compile_model(core.read_model(model, b""), "CPU", settings)
    request = compiled.create_infer_request()
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(runs):
        request.infer({0: ov.Tensor(planes)})
        for node in request.get_profiling_info():
            if node.real_time.total_seconds() > 0:
                times.setdefault((node.node_type, node.node_name), []).append(node.real_time.total_seconds() * 1e3)
    return _by_operator({key: min(values) for key, values in times.items()})


def _by_operator(times: Mapping[tuple[str, str], float]) -> dict[str, tuple[float, int]]:
    found: dict[str, tuple[float, int]] = {}
    for (operator, _), milliseconds in times.items():
        total, count = found.get(operator, (0.0, 0))
        found[operator] = total + milliseconds, count + 1
    return found


def table(found: Mapping[str, tuple[float, int]]) -> dict[str, Any]:
    """Operators from the costliest, and sums by group."""
    total = sum(milliseconds for milliseconds, _ in found.values())
    groups: dict[str, float] = {}
    for operator, (milliseconds, _) in found.items():
        groups[group_of(operator)] = groups.get(group_of(operator), 0.0) + milliseconds
    return {
        "total_ms": round(total, 3),
        "groups_ms": {name: round(value, 3) for name, value in sorted(groups.items(), key=lambda item: -item[1])},
        "operators": [
            {"operator": operator, "nodes": count, "ms": round(milliseconds, 3), "share": round(milliseconds / total, 4)}
            for operator, (milliseconds, count) in sorted(found.items(), key=lambda item: -item[1][0])[:14]
        ],
    }


def where_it_pays(profiles: dict[str, Any]) -> list[dict[str, Any]]:
    """By runtime and group of operators: time in floating point, with integers, and what is saved; the largest saving first."""
    rows = []
    for floats, integers in PAIRS:
        if floats not in profiles or integers not in profiles:
            continue
        before, after = profiles[floats]["groups_ms"], profiles[integers]["groups_ms"]
        for group in dict.fromkeys([*before, *after]):
            first, second = before.get(group, 0.0), after.get(group, 0.0)
            rows.append({"floats": floats, "integers": integers, "group": group, "floats_ms": first, "integers_ms": second})
            rows[-1]["saved_share"] = round((first - second) / profiles[floats]["total_ms"], 4)
    return sorted(rows, key=lambda row: (row["floats"], row["integers"], -row["saved_share"]))


def measure(bundle: Bundle, *, threads: int, rounds: int, runs: int) -> dict[str, Any]:
    """Interleaved ratios, then profiles, of everything that this machine runs."""
    recipe, deploy = load_recipe(), bundle.read(OPTIMIZED_ONNX)
    images = load_calibration(bundle, count=recipe.calibration.frames, unreadable_share=0.0)
    calibrated = calibrate(deploy, images.material, recipe=recipe, threads=threads)
    planes = np.ascontiguousarray(next(evaluation_frames(bundle)).frame.transpose(2, 0, 1)[None]).astype(np.float32)
    graphs = [("onnxruntime", "fp32", deploy)]
    graphs.append(("onnxruntime", "int8", insert_qdq(deploy, calibrated, recipe=recipe, target="onnxruntime")))
    if available()["openvino"].usable:
        integers = insert_qdq(deploy, calibrated, recipe=recipe, target="openvino")
        graphs += [("openvino", "fp32", deploy), ("openvino", "int8", integers)]
        if fingerprint().has_bf16:
            graphs += [("openvino", "bf16", deploy), ("openvino", "int8+bf16", integers)]
    with contextlib.ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {}
        for backend, precision, model in graphs:
            opened = stack.enter_context(contextlib.closing(open_backend(backend, model, threads=threads, precision=precision)))
            calls[f"{backend} {precision}"] = partial(opened.run, {next(iter(opened.inputs)): planes})
        load = [round(value, 2) for value in os.getloadavg()]
        latency = measure_interleaved(calls, baseline="onnxruntime fp32", rounds=rounds)
    profiles = {}
    for backend, precision, model in graphs:
        if backend == "onnxruntime":
            found = profile_onnxruntime(model, planes, runs=runs)
        else:
            floats = "bf16" if precision.endswith("bf16") else "f32"
            found = profile_openvino(model, planes, floats=floats, runs=runs)
        profiles[f"{backend} {precision}"] = table(found)
    return {
        "bundle": f"{bundle.name} revision {bundle.manifest.revision}",
        "load_average": load,
        "latency": [asdict(row) for row in latency.rows],
        "where_int8_pays": where_it_pays(profiles),
        "profiles": profiles,
    }


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=20, help="profiled runs of each graph")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        options = {"threads": asked.threads, "rounds": asked.rounds, "runs": asked.runs}
        results = [measure(Bundle.open(path), **options) for path in asked.bundles]
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    content = {
        "what": "graphs timed interleaved; then time by operator, one thread, fastest of several runs per node",
        **conditions.describe(),
        "note": "the machine was shared: other processes were running (see load); ratios, not milliseconds",
        "runtimes": {name: found.version for name, found in available().items() if found.usable},
        "bundles": results,
    }
    write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    for result in results:
        print(result["bundle"], "load", result["load_average"])
        for row in result["latency"]:
            print(f"  {row['name']:22} {row['median_ms']:8.2f} ms  {row['ratio']:.2f}x")
        for row in result["where_int8_pays"]:
            times = f"{row['floats_ms']:8.2f} -> {row['integers_ms']:8.2f} ms"
            print(f"    {row['integers']:20} {row['group']:22} {times}  {100 * row['saved_share']:+.1f} % of the whole")
    return 0


if __name__ == "__main__":
    sys.exit(main())
