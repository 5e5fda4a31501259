"""What `Engine.predict` costs beyond the same steps written inline, and what `Engine.stream` gains over a loop of predict.

    python benchmarks/engine_overhead.py edge_mtl/bundles/rooms-b0 --out benchmarks/results/NAME.json

The inline version is what a careful engineer writes in a script: OpenCV, one ONNX Runtime session with the same graph
bytes and settings, OpenCV; plane by plane, buffers reused, no checks, no geometry, no threads. Both versions, and both
ways of reading a recording, are timed interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from conditions import Conditions

from edge_mtl import Engine
from edge_mtl.backends.int8_saturation import keep_exact
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.bundle import Bundle
from edge_mtl.engine_store.resolve import resolve_engine
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import write_atomic

RECORDING = 8
"""Frames of a recording; one round goes through all of them."""


def inline(model: bytes, threads: int, height: int, width: int) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """A function from an image of the network's size to (labels, depth, normals)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the module is imported
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    keep_exact(options, model)
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = np.empty((1, 3, height, width), np.float32)

    def predict(frame: np.ndarray) -> tuple[np.ndarray, ...]:
        for plane, colour in zip(image[0], cv2.split(frame), strict=True):
            np.copyto(plane, colour)
        logits, depth, normals = session.run(["segmentation_logits", "depth_quarter", "normals_quarter"], {"image": image})
        best = cv2.resize(logits[0, 0], (width, height), interpolation=cv2.INTER_LINEAR)
        labels = np.zeros((height, width), np.uint8)
        for number, plane in enumerate(logits[0][1:], start=1):
            wide = cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR)
            labels[wide > best] = number
            cv2.max(best, wide, dst=best)
        metres = cv2.resize(depth[0, 0], (width, height), interpolation=cv2.INTER_LINEAR)
        x, y, z = (cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in normals[0])
        length = cv2.magnitude(cv2.magnitude(x, y), z)
        return labels, metres, cv2.merge([cv2.divide(x, length), cv2.divide(y, length), cv2.divide(z, length)])

    return predict


def overhead(bundle: Bundle, *, precision: str, threads: int, rounds: int) -> tuple[str, LatencyReport]:
    """`Engine.predict` against the inline version; also what runs.

    Raises:
        ValueError: the two do not answer alike, so that their times would mean nothing.
    """
    height, width = bundle.manifest.input.height, bundle.manifest.input.width
    frame = next(evaluation_frames(bundle)).frame
    choice = resolve_engine(bundle, backend="onnxruntime", precision=precision, threads=threads)
    by_hand = inline(choice.model, threads, height, width)
    with Engine(bundle, backend="onnxruntime", precision=precision, threads=threads) as engine:
        prediction, (labels, metres, _) = engine.predict(frame), by_hand(frame)
        same = float(np.mean(prediction.segmentation == labels))
        if same < 0.9999 or prediction.depth is None or not np.allclose(prediction.depth, metres, rtol=1e-3):
            raise ValueError(f"the two versions disagree: {same:.4%} of the labels are the same")
        calls = {"inline": lambda: by_hand(frame), "Engine.predict": lambda: engine.predict(frame)}
        return _name(engine), measure_interleaved(calls, baseline="inline", rounds=rounds)


def streaming(bundle: Bundle, *, precision: str, threads: int, rounds: int, size: tuple[int, int]) -> tuple[str, LatencyReport]:
    """A recording of `RECORDING` frames of `size` through a loop of `predict` and through `stream`; also what runs."""
    frames = [cv2.resize(item.frame, size[::-1]) for item in islice(evaluation_frames(bundle), RECORDING)]
    with Engine(bundle, precision=precision, threads=threads) as engine:

        def loop() -> None:
            for frame in frames:
                engine.predict(frame)

        calls = {"loop of predict": loop, "stream": lambda: deque(engine.stream(frames), maxlen=0)}
        return _name(engine), measure_interleaved(calls, baseline="loop of predict", rounds=rounds)


def _name(engine: Engine) -> str:
    return f"{engine.info.precision} on {engine.info.backend}"


def main() -> int:
    """Parse, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path, metavar="JSON", help="write the figures there")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    common: dict[str, Any] = {"precision": asked.precision, "threads": asked.threads}
    try:
        bundle = Bundle.open(asked.bundle)
        reports = {
            "overhead of Engine.predict": overhead(bundle, rounds=asked.rounds, **common),
            f"stream, {RECORDING} frames of 480x640": streaming(
                bundle, rounds=max(5, asked.rounds // RECORDING), size=(480, 640), **common
            ),
        }
    except (EdgeMtlError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    for title, (engine, report) in reports.items():
        print(f"{title}, {engine}, {asked.threads} threads")
        for row in report.rows:
            low, high = row.ratio_sure
            print(
                f"  {row.name:16} median {row.median_ms:8.2f} ms  p90 {row.p90_ms:8.2f} ms  {row.ratio:.3f} times as fast "
                f"as {report.baseline} ({low:.3f} to {high:.3f})"
            )
    if asked.out is not None:
        content = {
            "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
            **conditions.describe(),
            "measurements": {
                title: {"engine": engine, "baseline": report.baseline, "rows": [asdict(row) for row in report.rows]}
                for title, (engine, report) in reports.items()
            },
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
