"""INT8 weights of 7 and of 8 bits on this processor: how right and how fast each runtime is with them.

    python benchmarks/byte_products.py edge_mtl/bundles/rooms-b0 --out benchmarks/results/NAME.json
    python benchmarks/byte_products.py edge_mtl/bundles/rooms-b0 --frames DIR --judge DIR --out NAME.json

Every graph is compared with FP32 as it is written (see `edge_mtl.evaluation.exact_arithmetic`), as it runs here, and for
ONNX Runtime as it would run without what `edge_mtl.backends.int8_saturation` does where byte products saturate.
Then all of them and FP32 are timed interleaved: inference only, one frame of the network's size. `--frames` are images to
calibrate with in place of the bundle's, `--judge` images to compare answers on in place of its labelled frames.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from conditions import Conditions

from edge_mtl.backends import Backend, available, int8_saturation, open_backend, open_unguarded
from edge_mtl.backends.onnxruntime.backend import OnnxRuntimeBackend
from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import OWN_FRAMES, load_calibration
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import labelled_folder, labelled_set
from edge_mtl.evaluation.metrics import agreement, mean_agreement
from edge_mtl.files import write_atomic
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.quantization.learned import int8_graph
from edge_mtl.quantization.quantize import choose_ranges, insert_qdq, observe_activations
from edge_mtl.quantization.recipes import TENSORRT_INT8, Target, load_recipe
from edge_mtl.tasks.finishing import Answer

Array = np.ndarray
Answers = list[Answer]

GRAPHS: tuple[tuple[Target, int, str], ...] = (
    ("onnxruntime", 7, "onnxruntime"),
    ("onnxruntime", 8, "onnxruntime"),
    ("openvino", 7, "openvino"),
    ("openvino", 8, "openvino"),
    ("tensorrt", 8, "onnxruntime"),
)
"""For which runtime a graph was written, bits of its weights, and what runs it here."""


def graphs(bundle: Bundle, frames: Path | None) -> dict[tuple[Target, int, str], bytes]:
    """INT8 graphs of the bundle, all from one pass over the calibration frames."""
    calibration = load_calibration(bundle, frames, count=32, unreadable_share=0.05)
    source = int8_graph(bundle, own_frames=calibration.source == OWN_FRAMES)
    plan, cpu = replace(load_recipe(TENSORRT_INT8), targets=("tensorrt",)), load_recipe()
    observed = observe_activations(source, calibration.material, recipes=[plan, cpu])
    found = {}
    for target, bits, runtime in GRAPHS:
        recipe = plan if target == "tensorrt" else cpu
        calibrated = choose_ranges(source, observed, recipe=recipe)
        found[target, bits, runtime] = insert_qdq(source, calibrated, recipe=recipe, target=target, bits=bits)
    return found


def answers(bundle: Bundle, backend: Backend, frames: Sequence[Array]) -> Answers:
    """What it answers to every frame; closes `backend`."""
    with contextlib.closing(backend):
        return list(map(InferencePipeline(backend, bundle.manifest), frames))


def rounded_agreement(bundle: Bundle, found: Answers, expected: Answers) -> dict[str, float]:
    """With `expected`, in the mean of the frames."""
    tasks = bundle.manifest.tasks
    each = [agreement(tasks, one.results, other.results) for one, other in zip(found, expected, strict=True)]
    return {name: round(value, 5) for name, value in mean_agreement(each).items()}


@contextlib.contextmanager
def as_any_session() -> Iterator[None]:
    """ONNX Runtime as it comes: without the exact way."""
    with mock.patch.object(int8_saturation, "products_saturate", return_value=False):
        yield


def measure(bundle: Bundle, *, frames: Path | None, judge: Path | None, threads: int, rounds: int) -> list[dict[str, Any]]:
    """One row a graph."""
    items = labelled_set(bundle) if judge is None else labelled_folder(judge, bundle.manifest.input, bundle.manifest.tasks)
    images = [item.frame for item in items]
    deploy = bundle.read(OPTIMIZED_ONNX)
    reference = answers(bundle, open_backend("onnxruntime", deploy, threads=threads), images)
    rows: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        calls: dict[str, Callable[[], object]] = {}
        planes = np.ascontiguousarray(images[0].transpose(2, 0, 1)[None]).astype(np.float32)

        def time_too(name: str, backend: Backend) -> None:
            stack.enter_context(contextlib.closing(backend))
            calls[name] = partial(backend.run, {next(iter(backend.inputs)): planes})

        time_too("fp32", open_backend("onnxruntime", deploy, threads=threads))
        for (target, bits, runtime), graph in graphs(bundle, frames).items():
            if not available()[runtime].usable:
                continue
            name = f"{target}, {bits} bits"
            print(name, file=sys.stderr, flush=True)
            exact = OnnxRuntimeBackend(graph, threads=threads, precision="int8", optimize=False)
            row: dict[str, Any] = {
                "graph": name,
                "runtime": runtime,
                "exact": rounded_agreement(bundle, answers(bundle, exact, images), reference),
            }
            row["as_run"] = rounded_agreement(
                bundle, answers(bundle, open_unguarded(runtime, graph, threads=threads), images), reference
            )
            time_too(name, open_unguarded(runtime, graph, threads=threads))
            if runtime == "onnxruntime" and int8_saturation.products_saturate() and int8_saturation.saturating_weights(graph):
                with as_any_session():
                    plain = open_backend(runtime, graph, threads=threads, precision="int8")
                    row["saturating"] = rounded_agreement(bundle, answers(bundle, plain, images), reference)
                    time_too(f"{name}, saturating", open_backend(runtime, graph, threads=threads, precision="int8"))
            rows.append(row)
        report = measure_interleaved(calls, baseline="fp32", rounds=rounds)
    latencies = {row.name: asdict(row) for row in report.rows}
    for measured in rows:
        measured["latency"] = latencies[measured["graph"]]
        measured["latency_saturating"] = latencies.get(f"{measured['graph']}, saturating")
    return [{"graph": "fp32", "runtime": "onnxruntime", "latency": latencies["fp32"]}, *rows]


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--frames", type=Path, help="folder of images to calibrate with")
    parser.add_argument("--judge", type=Path, help="folder of images to compare answers on")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        bundle = Bundle.open(asked.bundle)
        rows = measure(bundle, frames=asked.frames, judge=asked.judge, threads=asked.threads, rounds=asked.rounds)
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    content = {
        "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
        **conditions.describe(),
        "saturates": int8_saturation.products_saturate(),
        "rows": rows,
    }
    write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    for row in rows:
        print(
            json.dumps({key: value for key, value in row.items() if not key.startswith("latency")}), row["latency"]["median_ms"]
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
