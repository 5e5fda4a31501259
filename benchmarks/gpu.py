"""Everything that runs the network on a CUDA GPU, side by side: parity per head, latency, memory, and a long run.

    make bench-gpu
    python benchmarks/gpu.py edge_mtl/bundles/rooms-b0 --out benchmarks/results/NAME.json [--soak-frames 100000]

Engine only is one frame that is ready, host to host, copies included; end to end is an image to maps. TensorRT engines are
built here, in three precisions, in half precision also of the reference ONNX and in INT8 also with depthwise convolutions in
floats, and compared with the bare execution context, which is trtexec's loop. What this machine lacks is left out, and the
result lists it with the reason. All subjects are timed interleaved.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions
from gpu_targets import GpuTarget, bare_context, layer, onnxruntime, opened, pytorch, tensorrt, tensorrt_plans

from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.statistics import distribution
from edge_mtl.builder.candidates import DEPTHWISE, Candidate
from edge_mtl.bundle import Bundle
from edge_mtl.cuda import BINDINGS, open_cuda
from edge_mtl.cuda.presence import no_gpu
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.self_test import golden_frame
from edge_mtl.files import write_atomic

PLANS: Mapping[str, Candidate] = {
    "fp32": Candidate("tensorrt", "fp32"),
    "fp16": Candidate("tensorrt", "fp16"),
    "fp16 reference ONNX": Candidate("tensorrt", "fp16", plain=True),
    "int8+fp16": Candidate("tensorrt", "int8+fp16"),
    "int8+fp16 depthwise in floating point": Candidate("tensorrt", "int8+fp16", (DEPTHWISE,)),
}
WAYS = ("graph", "no graph", "stream")
_SOAK_CHECKS = 100
_SOAK_WARM_UP = 0.02


def subjects(bundle: Bundle, frame: np.ndarray, checkpoint: Path | None) -> Mapping[str, Callable[[], GpuTarget]]:
    """By name, how each is opened. Plans are built once for all that use them."""
    plans: dict[str, Any] = {}

    def built(label: str) -> Any:
        if label not in plans:
            try:
                plans[label] = tensorrt_plans(bundle, PLANS[label])
            except Exception as exc:
                plans[label] = exc
        if isinstance(plans[label], Exception):
            raise plans[label]
        return plans[label]

    def of_plan(label: str, opens: Callable[..., GpuTarget], **options: Any) -> GpuTarget:
        return opens(bundle, frame, built(label), label, **options)

    found: dict[str, Callable[[], GpuTarget]] = {
        "onnxruntime cpu fp32": partial(onnxruntime, bundle, frame, "fp32", where="onnxruntime"),
        **{f"onnxruntime cuda {kind}": partial(onnxruntime, bundle, frame, kind) for kind in ("fp32", "tf32", "fp16")},
        "pytorch eager fp16": partial(pytorch, bundle, frame, compiled=False, checkpoint=checkpoint),
        "torch.compile fp16": partial(pytorch, bundle, frame, compiled=True, checkpoint=checkpoint),
    }
    for label in PLANS:
        found[f"bare execution context {label}"] = partial(of_plan, label, bare_context)
        for way in WAYS:
            found[f"edge_mtl tensorrt {label}, {way}"] = partial(of_plan, label, tensorrt, how=way)
    return found


def measure(bundle: Bundle, checkpoint: Path | None, *, rounds: int, only: str) -> dict[str, Any]:
    """Time everything that opens; the rest is listed with its reason."""
    frame, left_out, rows = golden_frame(bundle), [], {}
    with ExitStack() as stack:
        ready: dict[str, GpuTarget] = {}
        for name, make in subjects(bundle, frame, checkpoint).items():
            if only and only not in name:
                continue
            before = _free_memory()
            try:
                ready[name] = stack.enter_context(opened(make))
                ready[name].inference()
            except Exception as exc:  # a missing runtime, library or part of a GPU must not stop the others
                ready.pop(name, None)
                left_out.append({"name": name, "reason": f"{type(exc).__name__}: {exc}"[:500]})
                print(f"left out: {name}: {exc}", file=sys.stderr)
                continue
            taken = None if before is None else before - (_free_memory() or before)
            rows[name] = {"device_memory_bytes": taken, "remarks": ready[name].remarks, "parity": ready[name].parity}
        engine = {name: subject.inference for name, subject in ready.items()}
        whole = {name: subject.frame for name, subject in ready.items() if subject.frame is not None}
        for kind, calls in (("engine_only", engine), ("end_to_end", whole)):
            for name, turn in (run_interleaved(calls, rounds=rounds) if calls else {}).items():
                share = ready[name].per_call if kind == "engine_only" else 1
                rows[name][kind] = asdict(distribution([seconds / share for seconds in turn.seconds]))
    for name, row in rows.items():
        bare = rows.get(f"bare execution context {name.partition('tensorrt ')[2].partition(',')[0]}")
        if bare is not None and "engine_only" in row:
            row["times_bare_context"] = row["engine_only"]["p50_ms"] / bare["engine_only"]["p50_ms"]
    return {"rows": rows, "left_out": left_out}


def soak(bundle: Bundle, *, frames: int) -> dict[str, Any]:
    """Run one engine for long: whether answers stay the same, and what memory of the GPU and the process does."""
    frame = golden_frame(bundle)
    makes = subjects(bundle, frame, None)
    problems = []
    for name in ("edge_mtl tensorrt fp16, graph", "onnxruntime cuda fp32"):
        try:
            subject = makes[name]()
        except Exception as exc:
            problems.append(f"{name}: {exc}"[:300])
            continue
        try:
            return {"subject": name, "skipped": problems, **_run_long(subject, frames)}
        finally:
            subject.close()
    return {"subject": None, "skipped": problems}


def _run_long(subject: GpuTarget, frames: int) -> dict[str, Any]:
    first: Any = subject.inference()
    expected = {key: value.copy() for key, value in first.items()}
    samples, different = [], 0
    began = time.perf_counter()
    for number in range(frames):
        found: Any = subject.inference()
        if number % max(1, frames // _SOAK_CHECKS) == 0:
            different += any(not np.array_equal(found[key], value, equal_nan=True) for key, value in expected.items())
            samples.append((number, _resident(), _free_memory() or 0))
    steady = [sample for sample in samples if sample[0] >= frames * _SOAK_WARM_UP]
    return {
        "frames": frames,
        "seconds": time.perf_counter() - began,
        "different_answers": different,
        "host_growth_bytes": steady[-1][1] - steady[0][1] if steady else None,
        "device_growth_bytes": steady[0][2] - steady[-1][2] if steady else None,
    }


def describe_gpu() -> dict[str, Any]:
    """The GPU, and the CUDA layer by itself through every binding that is here."""
    found: dict[str, Any] = {"layer": {}}
    for name in BINDINGS:
        try:
            cuda = open_cuda(binding=name)
            found["gpu"] = {**asdict(cuda.facts), "description": cuda.facts.describe()}
            graphs, version = cuda.graphs, cuda.binding
            cuda.close()
            found["layer"][version] = {"graphs": graphs or "yes", "seconds_of_4_MiB": layer(binding=name)}
        except Exception as exc:
            found["layer"][name] = {"left_out": str(exc)[:300]}
    return found


def _free_memory() -> int | None:
    """Of the GPU, in bytes; None without a binding."""
    try:
        cuda = open_cuda()
    except EdgeMtlError:
        return None
    try:
        with cuda.active():
            return cuda.memory()[0]
    finally:
        cuda.close()


def _resident() -> int:
    """Memory of this process, in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return 0


def main() -> int:
    """Parse, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="of the bundle's network, for PyTorch; random weights without it")
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--only", default="", metavar="TEXT", help="subjects whose name holds this")
    parser.add_argument("--soak-frames", type=int, default=0, metavar="N", help="run N frames through one engine as well")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU's runtime and OpenCV")
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the result there")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    if reason := no_gpu():
        print(f"no GPU: {reason} What needs none is measured, the rest is listed.", file=sys.stderr)
    try:
        bundle = Bundle.open(asked.bundle)
        result = measure(bundle, asked.checkpoint, rounds=asked.rounds, only=asked.only)
        long_run = soak(bundle, frames=asked.soak_frames) if asked.soak_frames else None
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    for name, row in result["rows"].items():
        shown = []
        for label, kind in (("engine", "engine_only"), ("frame", "end_to_end")):
            if kind in row:
                shown.append(f"{label} p50 {row[kind]['p50_ms']:.3f} p99 {row[kind]['p99_ms']:.3f} ms")
        print(f"{name:42} {'  '.join(shown)}")
    if long_run is not None:
        print(f"soak: {long_run}")
    if asked.out is not None:
        content = {
            "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
            **conditions.describe(),
            **describe_gpu(),
            **result,
            "soak": long_run,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
