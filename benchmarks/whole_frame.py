"""Whole frames, image to maps: every precision and runtime of this machine against plain FP32 ONNX Runtime, interleaved.

    python benchmarks/whole_frame.py edge_mtl/bundles/rooms-b0 --threads 2 --out benchmarks/results/NAME

Builds the engines in a temporary copy of the bundle, so that nothing that was built before is used or changed, then
measures all of them side by side in one run: each round times every engine once, directly after an untimed call of the
same engine, every other round in reverse order, and a ratio is the median over rounds of baseline / engine. Writes
NAME.json and NAME.md with device, date, commit, versions, load and command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from arguments import size
from built_copy import built_copy
from conditions import Conditions

from edge_mtl.backends import open_backend
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.bundle import OPTIMIZED_ONNX, REFERENCE_ONNX, Bundle
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import write_atomic
from edge_mtl.inference_pipeline import InferencePipeline

BASELINE = "onnxruntime fp32, model.onnx"
PRECISIONS = ("fp32", "bf16", "int8")


def measure(
    bundle: Bundle, *, threads: int, rounds: int, frame_size: tuple[int, int] | None
) -> tuple[LatencyReport, tuple[int, int]]:
    """Build what can be built here and time all of it; also the size (H, W) of the frame that was used."""
    frame = next(evaluation_frames(bundle)).frame
    if frame_size is not None:
        frame = cv2.resize(frame, frame_size[::-1], interpolation=cv2.INTER_LINEAR)
    with contextlib.ExitStack() as stack:
        store = EngineStore(built_copy(stack, bundle, PRECISIONS, threads=threads))
        calls: dict[str, Any] = {}

        def add(name: str, backend: str, model: bytes, precision: str, compiled: Any = None) -> None:
            opened = open_backend(backend, model, threads=threads, precision=precision, compiled=compiled)
            stack.callback(opened.close)
            calls[name] = partial(InferencePipeline(opened, bundle.manifest), frame)

        add(BASELINE, "onnxruntime", bundle.read(REFERENCE_ONNX), "fp32")
        for record in store.list():
            suffix = f", {OPTIMIZED_ONNX}" if record.precision in ("fp32", "bf16") else ""
            add(
                f"{record.backend} {record.precision}{suffix}",
                record.backend,
                store.load(record),
                record.precision,
                store.compiled.load(record)[0],
            )
        report = measure_interleaved(calls, baseline=BASELINE, rounds=rounds)
    return report, (frame.shape[0], frame.shape[1])


def markdown(content: dict[str, Any]) -> str:
    """The same figures as a page."""
    (height, width), threads = content["frame"], content["threads"]
    versions = ", ".join(f"{name} {version}" for name, version in content["versions"].items())
    lines = [
        f"# Whole frames: {content['bundle']['name']} revision {content['bundle']['revision']}",
        "",
        f"{content['date']}, commit {content['commit']}, {content['device']['description']}; {threads['runtime']} threads "
        f"(OpenCV {threads['opencv']}), batch 1, frames of {height}x{width}, {content['rounds']} interleaved rounds; load "
        f"{content['load']['before']} before, {content['load']['after']} after. {versions}.",
        "",
        "| engine | median ms | p90 ms | fastest ms | times faster | 95 % of the median | quartiles of rounds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(content["rows"], key=lambda row: row["ratio"]):
        sure = "{:.2f} to {:.2f}".format(*row["ratio_sure"])
        lines.append(
            f"| {row['name']} | {row['median_ms']:.2f} | {row['p90_ms']:.2f} | {row['minimum_ms']:.2f} | {row['ratio']:.2f} "
            f"| {sure} | {row['ratio_low']:.2f} to {row['ratio_high']:.2f} |"
        )
    return "\n".join([*lines, "", f"`{content['command']}`", ""])


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--frame", type=size, metavar="HxW", help="size of the frames (default: the network's)")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        bundle = Bundle.open(asked.bundle)
        report, frame = measure(bundle, threads=asked.threads, rounds=asked.rounds, frame_size=asked.frame)
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    content = {
        "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
        **conditions.describe(),
        "network": [bundle.manifest.input.height, bundle.manifest.input.width],
        "frame": list(frame),
        "rounds": asked.rounds,
        "baseline": report.baseline,
        "rows": [asdict(row) for row in report.rows],
    }
    name = asked.out.name
    write_atomic(asked.out.with_name(f"{name}.json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(json.loads(json.dumps(content)))
    write_atomic(asked.out.with_name(f"{name}.md"), page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
