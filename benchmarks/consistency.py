"""What does `Prediction.consistency` say about the true error? Rank correlations on held-out frames, FP32 and INT8.

    python benchmarks/consistency.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json
    python benchmarks/consistency.py edge_mtl/bundles/rooms-b0 --nyuv2 data/nyuv2 --count 654 --out benchmarks/results/NAME.json

NYUv2's normals are planes fitted to its depth where the copy has none of its own: the result says so, and then the consistency
with them is measured against pseudo-truth.

Spearman's rho with the angle to the true normals and with the relative depth error: over all sampled pixels, within rooms
(mean and standard error), and between rooms (of their means). Beside it the softmax confidence, which needs segmentation,
the ranks of both added, and the plain central differences that the windows of `edge_mtl.tasks.consistency` replace. `kept_half`
is the mean error of the half of the pixels that a measure trusts most, as a share of the mean over all.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions
from nyuv2_frames import open_nyuv2
from rendered_rooms import open_rooms

from edge_mtl.backends import open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.files import write_atomic
from edge_mtl.image.frames import Intrinsics
from edge_mtl.image.geometry import normals_of_depth
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import load_recipe
from edge_mtl.tasks import DepthMap, LabelMap, NormalMap, Result
from edge_mtl.tasks.consistency import depth_normal_angle
from edge_mtl.tasks.normals import angles_deg
from edge_mtl.tasks.points import first_of

Array = np.ndarray

_PIXELS = 2000
"""Sampled per room, among those of known depth and normals."""


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    frames_of = parser.add_mutually_exclusive_group(required=True)
    frames_of.add_argument("--rooms", type=Path, help="folder of rendered rooms")
    frames_of.add_argument("--nyuv2", type=Path, help="NYUv2 as train/prepare_nyuv2.py writes it, at the network's size")
    parser.add_argument("--count", type=int, default=100, help="frames of the test split (default: %(default)s)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    conditions = Conditions(threads=1)
    bundle = Bundle.open(asked.bundle)
    deploy, recipe = bundle.read(OPTIMIZED_ONNX), load_recipe()
    frames = load_calibration(bundle, count=recipe.calibration.frames, unreadable_share=0.0).material
    int8 = insert_qdq(deploy, calibrate(deploy, frames, recipe=recipe, threads=1), recipe=recipe, target="onnxruntime")
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    rooms = open_rooms(asked.rooms, "test", asked.count, size) if asked.rooms else open_nyuv2(asked.nyuv2, asked.count)
    if rooms[0].size != size:
        raise SystemExit(f"frames of {size[0]}x{size[1]} are needed, found {rooms[0].size[0]}x{rooms[0].size[1]}")
    results = {}
    for name, model in (("fp32", deploy), ("int8", int8)):
        with closing(open_backend("onnxruntime", model, threads=1, precision=name)) as backend:
            path = InferencePipeline(backend, bundle.manifest)
            sampled = [sample(path, rooms[seed], seed) for seed in range(len(rooms))]
        results[name] = summary(sampled)
        print(json.dumps({name: results[name]}, indent=1), flush=True)
    if asked.out is not None:
        content = {
            "question": "rank correlation of consistency with the true errors of normals and depth",
            **conditions.describe(),
            "bundle": {"name": bundle.name, "digest": bundle.digest},
            "data": "rooms" if asked.rooms else "NYU Depth v2",
            "truths": {task: asdict(note) for task, note in getattr(rooms, "truth_notes", {}).items()},
            "rooms": len(rooms),
            "pixels_per_room": _PIXELS,
            "results": results,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def sample(path: InferencePipeline, room: Any, seed: int) -> dict[str, Array]:
    """Measures of trust (larger is worse) and true errors at random pixels of one room, (P,) each."""
    camera = Intrinsics.of(room.intrinsics)
    return sampled_from(path(room.image, camera.as_tuple()).results, room.truths, camera, seed)


def sampled_from(results: Mapping[str, Result], truths: Mapping[str, Any], camera: Intrinsics, seed: int) -> dict[str, Array]:
    """As `sample`, of an answer that is there already.

    Args:
        truths: of "depth" and "normals".
        camera: of answer and truths.
    """
    found = first_of(results, LabelMap), first_of(results, DepthMap), first_of(results, NormalMap)
    labels, distances, directions = found
    if labels is None or distances is None or directions is None or (confidence := labels.confidence) is None:
        raise SystemExit("a bundle with segmentation, depth and normals is needed")
    depth, normals = distances.depth_m, directions.normals
    truth, facing = (np.asarray(truths[task], np.float32) for task in ("depth", "normals"))
    with np.errstate(invalid="ignore", divide="ignore"):
        fields = {
            "consistency": depth_normal_angle(depth, normals, camera),
            "central_differences": angles_deg(normals, normals_of_depth(depth, camera)),
            "unconfidence": 1.0 - confidence,
            "normal_error": angles_deg(normals, facing),
            "depth_error": np.abs(depth - truth) / truth,
        }
    known = (truth > 0) & facing.any(axis=2) & np.all([np.isfinite(field) for field in fields.values()], axis=0)
    places = np.flatnonzero(known)
    chosen = np.random.default_rng(seed).choice(places, min(_PIXELS, len(places)), replace=False)
    return {name: field.ravel()[chosen].astype(np.float64) for name, field in fields.items()}


def summary(sampled: list[dict[str, Array]]) -> dict[str, Any]:
    """Correlations of every measure with every error."""
    together = {name: np.concatenate([room[name] for room in sampled]) for name in sampled[0]}
    found: dict[str, Any] = {
        "pixels": len(together["normal_error"]),
        "mean": {name: float(together[name].mean()) for name in ("normal_error", "depth_error", "consistency")},
    }
    for measure in ("consistency", "central_differences", "unconfidence", "both"):
        found[measure] = {
            error: {
                "spearman": spearman(trust(together, measure), together[error]),
                **within([spearman(trust(room, measure), room[error]) for room in sampled]),
                "between_rooms": spearman(means(sampled, measure), means(sampled, error)),
                "kept_half": kept_half(trust(together, measure), together[error]),
            }
            for error in ("normal_error", "depth_error")
        }
    return found


def trust(values: Mapping[str, Array], measure: str) -> Array:
    """A measure by name; "both" adds the ranks of consistency and confidence."""
    return ranks(values["consistency"]) + ranks(values["unconfidence"]) if measure == "both" else values[measure]


def means(sampled: list[dict[str, Array]], name: str) -> Array:
    """One mean per room."""
    if name == "both":
        return ranks(means(sampled, "consistency")) + ranks(means(sampled, "unconfidence"))
    return np.array([room[name].mean() for room in sampled])


def within(correlations: list[float]) -> dict[str, float]:
    """Mean over rooms and its standard error."""
    return {
        "within_rooms": float(np.mean(correlations)),
        "within_rooms_error": float(np.std(correlations, ddof=1) / np.sqrt(len(correlations))),
    }


def kept_half(measure: Array, error: Array) -> float:
    """Mean error where `measure` is below its median, as a share of the mean error."""
    return float(error[measure <= np.median(measure)].mean() / error.mean())


def spearman(first: Array, second: Array) -> float:
    """Rank correlation; ties share their mean rank."""
    return float(np.corrcoef(ranks(first), ranks(second))[0, 1])


def ranks(values: Array) -> Array:
    """(N,) float64 ranks from 0; equal values get their mean rank."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + ends - 1) / 2.0)[where]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
