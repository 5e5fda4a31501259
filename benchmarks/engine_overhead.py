"""What `Engine.predict` costs beyond the same steps written inline: OpenCV, one ONNX Runtime session, OpenCV.

    python benchmarks/engine_overhead.py edge_mtl/bundles/rooms-b0

Both run the same graph bytes with the same session settings, in turns. The inline version is what a careful engineer
writes in a script: plane by plane, buffers reused, no checks, no geometry, no threads.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge_mtl import Engine
from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.build.evaluation import evaluation_frames
from edge_mtl.bundle import Bundle
from edge_mtl.choice import choose


def inline(model: bytes, threads: int, height: int, width: int) -> Any:
    """A function from a picture of the network's size to (labels, depth, normals)."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the module is imported
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    image = np.empty((1, 3, height, width), np.float32)

    def predict(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def main() -> int:
    """Parse, check that both answer alike, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--precision", default="int8")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=100)
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    height, width = bundle.manifest.input.height, bundle.manifest.input.width
    frame = next(evaluation_frames(bundle)).frame
    choice = choose(bundle, backend="onnxruntime", precision=asked.precision, threads=asked.threads)
    by_hand = inline(choice.model, asked.threads, height, width)
    with Engine(bundle, backend="onnxruntime", precision=asked.precision, threads=asked.threads) as engine:
        prediction, (labels, metres, _) = engine.predict(frame), by_hand(frame)
        same = float((prediction.segmentation == labels).mean())
        if same < 0.9999 or prediction.depth is None or not np.allclose(prediction.depth, metres, rtol=1e-3):
            print(f"the two versions disagree: {same:.4%} of the labels are the same", file=sys.stderr)
            return 1
        report = measure_interleaved(
            {"inline": lambda: by_hand(frame), "Engine.predict": lambda: engine.predict(frame)},
            baseline="inline",
            rounds=asked.rounds,
        )
    for row in report.rows:
        print(f"{row.name:16} median {row.median_ms:7.2f} ms  p90 {row.p90_ms:7.2f} ms")
    ratio = report["Engine.predict"].ratio
    print(f"Engine.predict takes {1 / ratio:.3f} of the inline version's time (median of {asked.rounds} rounds in turns)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
