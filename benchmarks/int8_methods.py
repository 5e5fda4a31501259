"""What INT8 costs each head, by range method, equalization and bias correction, for every emission.

    python benchmarks/int8_methods.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json

One pass over the calibration frames serves all methods. Accuracy is that of the graphs in ONNX Runtime (the CPU emission
and TensorRT's) and OpenVINO (its own emission), on rendered rooms of the test split, or without --rooms on the bundle's
evaluation frames. SQNR is against FP32, of the raw maps.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conditions import Conditions
from rendered_rooms import open_rooms

from edge_mtl.backends import available, open_backend
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.device import fingerprint
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, judge
from edge_mtl.evaluation.labelled_frames import LabelledFrame, evaluation_frames
from edge_mtl.evaluation.scores import drops
from edge_mtl.evaluation.sensitivity.score import Measured, ReferenceEvaluator
from edge_mtl.files import write_atomic
from edge_mtl.quantization.quantize import choose_ranges, insert_qdq, observe_activations
from edge_mtl.quantization.recipes import CPU_INT8, TENSORRT_INT8, Activations, Recipe, load_recipe
from edge_mtl.quantization.weights import weight_bits
from edge_mtl.tasks import DEPTH, NORMALS, NYU_TASKS, SEGMENTATION

METHODS = (
    Activations("minmax"),
    Activations("percentile", 99.99),
    Activations("entropy"),
    Activations("mse"),
)
THREADS = 1
STRIDE = 3
"""Every so many pixels along both axes are scored; SQNR is of all."""

EMISSIONS = (("cpu-int8", "onnxruntime"), ("cpu-int8", "openvino"), ("tensorrt-int8", "tensorrt"))


def rooms(root: Path, count: int, size: tuple[int, int]) -> Iterator[LabelledFrame]:
    """Rooms of the test split, rendered at network size."""
    for number, room in enumerate(open_rooms(root, "test", count, size)):
        truth = {SEGMENTATION: room.label, DEPTH: room.depth_m.astype("float32"), NORMALS: room.normals.astype("float32")}
        fx, fy, cx, cy = (float(value) for value in room.intrinsics)
        yield LabelledFrame(room.image, (fx, fy, cx, cy), truth, f"{number:04d}")


def measure_bundle(bundle: Bundle, frames: list[LabelledFrame], *, methods: tuple[Activations, ...]) -> dict[str, Any]:
    """Every method on one bundle."""
    deploy = bundle.read(OPTIMIZED_ONNX)
    recipes = {"cpu-int8": load_recipe(CPU_INT8), "tensorrt-int8": load_recipe(TENSORRT_INT8)}
    calibration = load_calibration(bundle, count=recipes["cpu-int8"].calibration.frames, unreadable_share=0.0)
    float_graph = open_backend("onnxruntime", deploy, threads=THREADS)
    evaluator = ReferenceEvaluator(bundle, frames, lambda planes: float_graph.run({"image": planes}), stride=STRIDE)
    reference = evaluator.reference()
    float_graph.close()
    emissions = [(name, target) for name, target in EMISSIONS if target != "openvino" or available()["openvino"].usable]
    rows: list[dict[str, Any]] = []
    seconds = {}
    for equalise in (True, False):
        changed = {name: _equalised(recipe, equalise) for name, recipe in recipes.items()}
        begin = time.perf_counter()
        observed = observe_activations(deploy, calibration.material, recipes=list(changed.values()), threads=THREADS)
        seconds["equalise and observe" if equalise else "observe"] = round(time.perf_counter() - begin, 2)
        tried = [(name, target, recipes[name], True) for name, target in emissions] if equalise else []
        for activations, correct in itertools.product(methods, (False, True)):
            for name, target in emissions:
                weights = dataclasses.replace(changed[name].weights, bias_correction=correct)
                plain = dataclasses.replace(changed[name], activations=activations, weights=weights, layers=())
                tried.append((name, target, plain, False))
        for _, target, recipe, shipped in tried:
            bits = weight_bits("auto", target, fingerprint())[0]  # 8 where the runtime is right with them here
            model = insert_qdq(deploy, choose_ranges(deploy, observed, recipe=recipe), recipe=recipe, target=target, bits=bits)
            found = _measured(evaluator, model, "openvino" if target == "openvino" else "onnxruntime")
            rows.append(
                {
                    "emission": target,
                    "shipped": shipped,
                    "method": recipe.activations.method,
                    "percentile": recipe.activations.percentile if recipe.activations.method == "percentile" else None,
                    "equalisation": equalise,
                    "bias_correction": recipe.weights.bias_correction,
                    "overridden_layers": [override.match for override in recipe.layers],
                    **_summary(reference, found),
                }
            )
            print(_line(rows[-1]), flush=True)
    return {
        "bundle": f"{bundle.name} revision {bundle.manifest.revision}",
        "frames": len(frames),
        "calibration": {"count": len(calibration), "source": calibration.source},
        "seconds": seconds,
        "fp32": _metrics(reference),
        "rows": rows,
    }


def _equalised(recipe: Recipe, enabled: bool) -> Recipe:
    return dataclasses.replace(recipe, equalisation=dataclasses.replace(recipe.equalisation, enabled=enabled))


def _measured(evaluator: ReferenceEvaluator, model: bytes, backend: str) -> Measured:
    opened = open_backend(backend, model, threads=THREADS, precision="int8")
    try:
        return evaluator.measure(lambda number: opened.run({"image": evaluator.planes(number)}))
    finally:
        opened.close()


def _metrics(measured: Measured) -> dict[str, float]:
    names = ("miou", "depth_rel", "normal_mean_deg")
    return {name: round(measured.score.accuracy[name], 6) for name in names if name in measured.score.accuracy}


def _summary(reference: Measured, found: Measured) -> dict[str, Any]:
    lost = drops(reference.score, found.score)
    return {
        **_metrics(found),
        "lost": {name: [round(value, 6) for value in (drop.value, drop.low, drop.high)] for name, drop in lost.items()},
        "agreement": {name: round(value, 6) for name, value in found.score.agreement.items()},
        "sqnr_db": {task: round(value, 2) for task, value in found.sqnr_db.items()},
        "within_budget": judge(reference.score, found.score, name="int8", budget=DEFAULT_BUDGET).passed,
    }


def _line(row: dict[str, Any]) -> str:
    method = row["method"] if row["percentile"] is None else f"{row['method']} {row['percentile']:g}"
    marks = f"{'eq' if row['equalisation'] else '--'} {'bc' if row['bias_correction'] else '--'}"
    lost = "  ".join(f"{name} {values[0]:+.4f}" for name, values in row["lost"].items())
    verdict = "ok" if row["within_budget"] else "OUT"
    noise = " ".join(f"{value:5.1f}" for value in row["sqnr_db"].values())
    return f"{'*' if row['shipped'] else ' '} {row['emission']:12} {method:18} {marks}  {lost}  dB {noise}  {verdict}"


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--rooms", type=Path, help="folder of rendered rooms; default: each bundle's evaluation frames")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--methods", default=",".join(item.method for item in METHODS), help="which (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    conditions = Conditions(threads=THREADS)
    try:
        results = []
        for path in asked.bundles:
            bundle = Bundle.open(path)
            size = (bundle.manifest.input.height, bundle.manifest.input.width)
            frames = list(rooms(asked.rooms, asked.count, size) if asked.rooms else evaluation_frames(bundle))
            print(f"{bundle.name}: {len(frames)} frames", flush=True)
            methods = tuple(item for item in METHODS if item.method in asked.methods.split(","))
            results.append(measure_bundle(bundle, frames, methods=methods))
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    content = {
        "what": "accuracy lost by INT8, by range method, equalization and bias correction",
        **conditions.describe(),
        "note": "accuracy does not depend on load; other processes were running",
        "runtimes": {name: found.version for name, found in available().items() if found.usable},
        "frames_from": f"{asked.rooms}, test split" if asked.rooms else "the bundles' evaluation frames",
        "scored_pixels": f"every {STRIDE}rd along both axes",
        "budget": {name: DEFAULT_BUDGET.to_dict(NYU_TASKS)[name] for name in ("miou", "rel", "normal")},
        "bundles": results,
    }
    write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
