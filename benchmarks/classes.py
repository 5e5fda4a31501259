"""What does it cost to choose among many classes, on the host or in the graph? The figures behind decision 0021.

    python benchmarks/classes.py --out benchmarks/results/NAME.json

Logits (1, C, H/4, W/4) become classes of every pixel in four ways: on the host as Engine does it, which upsamples a plane
only where it may win; on the host with every plane upsampled; and by the last nodes of a graph that ends in labels (Resize,
ArgMax, Cast), in ONNX Runtime and in OpenVINO. The confidence is timed with each plane upsampled once, and twice. All
of one table are interleaved; ratios are against the host as it is.

Two kinds of logits: "regions" are as a trained network answers (about 87 % of the cells have one possible class: on the
evaluation frames of rooms-b0 it is 81 to 93 %), "smooth" are as uncertain as it gets: every class is likely somewhere.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from arguments import size
from conditions import Conditions

from edge_mtl.backends import available, open_backend
from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.files import write_atomic
from edge_mtl.image import OUTPUT_STRIDE, VOID, upsample
from edge_mtl.image.buffer_pool import BufferPool
from edge_mtl.image.upsample import upsampled_argmax, upsampled_confidence
from edge_mtl.onnx_graph.model import import_onnx

Array = np.ndarray

HOST, EVERY_PLANE, ONE_PASS, TWO_PASSES = "host", "host, every plane", "confidence", "confidence, two passes"
_RUNTIMES = ("onnxruntime", "openvino")
_OPSET, _IR_VERSION = 20, 10


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, nargs="+", default=[13, 19, 40, 150, 255], metavar="N")
    parser.add_argument("--network", type=size, default=(288, 384), metavar="HxW", help="input size (default: 288x384)")
    parser.add_argument("--frame", type=size, default=(480, 640), metavar="HxW", help="frame size (default: 480x640)")
    parser.add_argument("--threads", type=int, default=1, help="of runtimes and OpenCV (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=Path, help="where the figures go, JSON")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    tables = []
    print(f"{'classes':>7} {'logits':8} {'result':>9}  median ms, and how many times as fast as the host", flush=True)
    for count in asked.classes:
        for kind, make in (("regions", regions), ("smooth", smooth)):
            logits = make(count, (asked.network[0] // OUTPUT_STRIDE, asked.network[1] // OUTPUT_STRIDE), seed=count)
            for result in dict.fromkeys((asked.network, asked.frame)):
                report, agreed = measure(logits, asked.network, result, threads=asked.threads, rounds=asked.rounds)
                tables.append({"classes": count, "logits": kind, "size": result, "possible": possible(logits)})
                tables[-1] |= {"agreement": agreed, "rows": [asdict(row) for row in report.rows], "disturbed": report.disturbed}
                shown = "  ".join(f"{row.name} {row.median_ms:.2f} ({row.ratio:.2f})" for row in report.rows)
                print(f"{count:7} {kind:8} {result[0]:4}x{result[1]:4}  {shown}", flush=True)
    if asked.out is not None:
        content = {"question": __doc__.splitlines()[0], **conditions.describe(), "network": asked.network, "tables": tables}
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def measure(
    logits: Array, network: tuple[int, int], result: tuple[int, int], *, threads: int, rounds: int
) -> tuple[LatencyReport, dict[str, float]]:
    """Times of every way, and the share of pixels in which each agrees with the host's classes."""
    pool = BufferPool()
    with ExitStack() as stack:
        ways: dict[str, Callable[[], Array]] = {
            HOST: partial(upsampled_argmax, logits, result, pool=pool),
            EVERY_PLANE: partial(every_plane, logits, result, pool),
        }
        for runtime, found in available().items():
            if runtime in _RUNTIMES and found.usable:
                model = ending_in_labels(len(logits), network)
                backend = stack.enter_context(closing(open_backend(runtime, model, threads=threads)))
                ways[f"graph, {runtime}"] = partial(in_graph, backend, logits[None], result)
        expected = ways[HOST]().copy()
        agreed = {name: float((way() == expected).mean()) for name, way in ways.items()}
        ways[ONE_PASS] = partial(upsampled_confidence, logits, result, pool=pool)
        ways[TWO_PASSES] = partial(two_passes, logits, result, pool)
        return measure_interleaved(ways, baseline=HOST, rounds=rounds), agreed


def every_plane(logits: Array, result: tuple[int, int], pool: BufferPool) -> Array:
    """The same classes without looking where a plane may win."""
    labels, best, plane = pool.take(result, np.uint8), pool.take(result), pool.take(result)
    labels.fill(0)
    cv2.resize(logits[0], result[::-1], dst=best, interpolation=cv2.INTER_LINEAR)
    for index in range(1, len(logits)):
        cv2.resize(logits[index], result[::-1], dst=plane, interpolation=cv2.INTER_LINEAR)
        wins = cv2.compare(plane, best, cv2.CMP_GT)
        cv2.max(best, plane, dst=best)
        np.bitwise_and(wins, np.uint8(index), out=wins)
        cv2.max(labels, wins, dst=labels)
    return labels


def two_passes(logits: Array, result: tuple[int, int], pool: BufferPool) -> Array:
    """The confidence as it is computed for few classes."""
    with patch.object(upsample, "_MANY", VOID):
        return upsampled_confidence(logits, result, pool=pool)


def in_graph(backend: Any, logits: Array, result: tuple[int, int]) -> Array:
    """Labels of the network's size by a graph, and by the nearest pixel at another size, as Engine does it."""
    labels: Array = backend.run({"logits": logits})["labels"][0]
    return labels if labels.shape == result else cv2.resize(labels, result[::-1], interpolation=cv2.INTER_NEAREST_EXACT)


def ending_in_labels(classes: int, network: tuple[int, int]) -> bytes:
    """What a graph that ends in labels does with its logits, as ONNX: float32 (1, C, H/4, W/4) -> uint8 (1, H, W)."""
    onnx = import_onnx()
    helper, types = onnx.helper, onnx.TensorProto
    quarter = [network[0] // OUTPUT_STRIDE, network[1] // OUTPUT_STRIDE]
    scales = onnx.numpy_helper.from_array(np.array([1, 1, OUTPUT_STRIDE, OUTPUT_STRIDE], np.float32), "scales")
    nodes = [
        helper.make_node("Resize", ["logits", "", "scales"], ["full"], mode="linear"),
        helper.make_node("ArgMax", ["full"], ["index"], axis=1, keepdims=0),
        helper.make_node("Cast", ["index"], ["labels"], to=types.UINT8),
    ]
    given = helper.make_tensor_value_info("logits", types.FLOAT, [1, classes, *quarter])
    made = helper.make_tensor_value_info("labels", types.UINT8, [1, *network])
    graph = helper.make_graph(nodes, "labels", [given], [made], [scales])
    opset = helper.make_opsetid("", _OPSET)
    return bytes(helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION).SerializeToString())


def smooth(classes: int, shape: tuple[int, int], *, seed: int) -> Array:
    """(C, h, w) float32: every class rises and falls by itself over about eight samples."""
    random = np.random.default_rng(seed)
    coarse = random.normal(0.0, 3.0, (classes, max(2, shape[0] // 8), max(2, shape[1] // 8))).astype(np.float32)
    return np.stack([cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])


def regions(classes: int, shape: tuple[int, int], *, seed: int) -> Array:
    """(C, h, w) float32: forty regions of at most a dozen classes, steep at their borders; the others far below."""
    random = np.random.default_rng(seed)
    seen = random.choice(classes, min(12, classes), replace=False)
    places, owners = random.uniform(0.0, 1.0, (40, 2)) * shape, random.choice(seen, 40)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    distances = np.stack([np.hypot(rows - y, columns - x) for y, x in places])
    floor = random.normal(-4.0, 1.5, classes)[:, None, None]
    logits = (floor + 0.4 * smooth(classes, shape, seed=seed + 1)).astype(np.float32)
    for region, owner in enumerate(owners):
        nearest_other = np.delete(distances, region, axis=0).min(axis=0)
        height = 2.0 + 0.9 * np.clip(nearest_other - distances[region], -8.0, 8.0)
        np.maximum(logits[owner], height, out=logits[owner], casting="same_kind")
    return logits


def possible(logits: Array) -> float:
    """How many classes may win in a cell between four samples, in the mean."""
    return float(upsample._candidates(logits, BufferPool()).sum(axis=0).mean())


if __name__ == "__main__":
    sys.exit(main())
