"""Which way of choosing calibration frames covers a source best? Random, farthest first by the network, or by pixels.

    python benchmarks/frame_choice.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json

Two pools: rooms of the train split as they are, and a patrol, in which a few rooms are seen many times, moved and noisy, as
a robot's recording does. For every choice: how far the tensors of held-out rooms leave the ranges that the chosen frames
span (cheap, so over many seeds), and for some seeds how well an INT8 graph calibrated with them agrees with FP32.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from conditions import Conditions
from rendered_rooms import open_rooms

from edge_mtl.backends import open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frame_features import colour_and_gradient, network_embedder
from edge_mtl.calibration.sampling import farthest_first
from edge_mtl.evaluation.metrics import agreement, mean_agreement
from edge_mtl.evaluation.sqnr import block_ends
from edge_mtl.files import write_atomic
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import load_recipe

Array = np.ndarray

_TAILS = (0.01, 99.99)
_STRIDE = 7
"""Every so many values of a tensor are looked at."""

_INT8_FRAMES = 12


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rooms", type=Path, required=True, help="folder of rendered rooms")
    parser.add_argument("--pool", type=int, default=200, help="rooms of the train split (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=50, help="rooms of the test split (default: %(default)s)")
    parser.add_argument("--count", type=int, default=16, help="frames to choose (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=50, help="seeds for coverage (default: %(default)s)")
    parser.add_argument("--int8-seeds", type=int, default=2, help="seeds that are quantized with (default: %(default)s)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    conditions = Conditions(threads=1)
    bundle = Bundle.open(asked.bundle)
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    rooms = load_rooms(asked.rooms, "train", asked.pool, size)
    held_out = load_rooms(asked.rooms, "test", asked.held_out, size)
    spans = Spans(bundle.read(OPTIMIZED_ONNX))
    wanted = np.stack([spans(frame) for frame in held_out])
    embedders = {"network": network_embedder(bundle.read(OPTIMIZED_ONNX), threads=1), "colour": colour_and_gradient()}
    judge = Int8(bundle, held_out[:: max(1, len(held_out) // _INT8_FRAMES)][:_INT8_FRAMES])
    rows = []
    for pool_name, pool in (("rooms", rooms), ("patrol", patrol(rooms))):
        found = np.stack([spans(frame) for frame in pool])
        vectors = {name: np.stack([embedder.embed(frame) for frame in pool]) for name, embedder in embedders.items()}
        for method in ("random", *embedders):
            beyond = []
            for seed in range(asked.seeds):
                beyond.append(outside(found[chosen(method, vectors, len(pool), asked.count, seed)], wanted))
            row: dict[str, Any] = {"pool": pool_name, "frames": len(pool), "method": method, "count": asked.count}
            row |= {"outside_mean": float(np.mean(beyond)), "outside_worst_seed": float(np.max(beyond)), "seeds": asked.seeds}
            row["int8"] = [
                judge([pool[index] for index in sorted(chosen(method, vectors, len(pool), asked.count, seed))])
                for seed in range(asked.int8_seeds)
            ]
            rows.append(row)
            print(json.dumps(row), flush=True)
    if asked.out is not None:
        content = {
            "question": "coverage of held-out rooms by calibration frames; outside: share of a range by which tensors leave it",
            **conditions.describe(),
            "bundle": {"name": bundle.name, "digest": bundle.digest},
            "rows": rows,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def chosen(method: str, vectors: dict[str, Array], pool: int, count: int, seed: int) -> list[int]:
    """Indices of the chosen frames."""
    if method == "random":
        return [int(index) for index in np.random.default_rng(seed).choice(pool, count, replace=False)]
    return farthest_first(vectors[method], count, seed=seed)[0]


def outside(spanned: Array, wanted: Array) -> float:
    """Mean over frames and tensors of how far a tensor leaves the range that the chosen frames span, as a share of it.

    Args:
        spanned: (chosen, tensors, 2) low and high ends; wanted: (held out, tensors, 2).
    """
    low, high = spanned[..., 0].min(axis=0), spanned[..., 1].max(axis=0)
    below, above = np.maximum(low - wanted[..., 0], 0), np.maximum(wanted[..., 1] - high, 0)
    return float(((below + above) / (high - low)).mean())


class Spans:
    """The range that each block's end takes on a frame, tails cut as the default recipe does."""

    def __init__(self, deploy: bytes) -> None:
        onnx, runtime = import_onnx(), __import__("onnxruntime")
        model = parse(deploy, name="the optimized ONNX")
        self._names = list(block_ends(GraphIndex(model)))
        present = {value.name for value in model.graph.output}
        for name in self._names:
            if name not in present:
                model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def __call__(self, frame: Array) -> Array:
        """(tensors, 2) float64."""
        planes = np.ascontiguousarray(frame.transpose(2, 0, 1)[None]).astype(np.float32)
        found = self._session.run(self._names, {"image": planes})
        return np.array([np.percentile(value.ravel()[::_STRIDE], _TAILS) for value in found])


class Int8:
    """How well an INT8 graph from given calibration frames agrees with FP32, mean over held-out frames."""

    def __init__(self, bundle: Bundle, frames: Sequence[Array]) -> None:
        self._bundle, self._frames = bundle, frames
        reference = InferencePipeline(
            open_backend("onnxruntime", bundle.read(OPTIMIZED_ONNX), threads=1, precision="fp32"), bundle.manifest
        )
        self._expected = [reference(frame) for frame in frames]

    def __call__(self, calibration: Sequence[Array]) -> dict[str, float]:
        """argmax_agreement, depth_relative_difference, normal_angle_deg."""
        deploy, recipe = self._bundle.read(OPTIMIZED_ONNX), load_recipe()
        model = insert_qdq(
            deploy, calibrate(deploy, calibration, recipe=recipe, threads=1), recipe=recipe, target="onnxruntime"
        )
        backend = open_backend("onnxruntime", model, threads=1, precision="int8")
        path = InferencePipeline(backend, self._bundle.manifest)
        agreed = [
            agreement(self._bundle.manifest.tasks, path(frame).results, expected.results)
            for frame, expected in zip(self._frames, self._expected, strict=True)
        ]
        backend.close()
        return mean_agreement(agreed)


def patrol(rooms: Sequence[Array]) -> list[Array]:
    """Twelve rooms seen twelve times each, moved, brighter or darker, noisy; then twenty rooms seen once."""
    random = np.random.default_rng(1)
    seen = [rooms[number * 20 % len(rooms)] for number in range(12)]
    again = [_again(frame, random) for frame in seen for _ in range(12)]
    return [*again, *rooms[-20:]]


def _again(frame: Array, random: np.random.Generator) -> Array:
    move = np.array([[1, 0, random.uniform(-6, 6)], [0, 1, random.uniform(-6, 6)]], np.float32)
    moved = cv2.warpAffine(frame, move, frame.shape[1::-1], borderMode=cv2.BORDER_REFLECT).astype(np.float32)
    return np.clip(moved * random.uniform(0.92, 1.08) + random.normal(0, 2, moved.shape), 0, 255).astype(np.uint8)


def load_rooms(root: Path, split: str, count: int, size: tuple[int, int]) -> list[Array]:
    """Images of rendered rooms."""
    return [room.image for room in open_rooms(root, split, count, size)]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
