"""How far good engines stray from FP32 on a frame, and how far broken ones do: what the self-test's tolerances rest on.

    python benchmarks/self_test_tolerance.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json

Good: every precision and runtime here, on held-out rooms, one agreement per frame and head. Broken: INT8 graphs with one
scale of one layer wrong by a factor, each on a golden frame as at load and on all of them as at build; and FP32 graphs that
see red and blue swapped, or whose answers are shifted. For every fault: what it costs, and whether the tolerance sees it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from edge_mtl.backends import available, open_backend
from edge_mtl.build.calibration import decode_picture, load_calibration
from edge_mtl.build.candidates import candidates
from edge_mtl.build.frame_path import FramePath
from edge_mtl.build.graphs import import_onnx
from edge_mtl.build.quantization.quantize import calibrate, emit
from edge_mtl.build.selftest import TOLERANCES, run_self_test
from edge_mtl.bundle import DEPLOY_MODEL, GOLDEN, Bundle
from edge_mtl.device import fingerprint
from edge_mtl.errors import AccuracyError, BuildError, EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.metrics import agreement
from edge_mtl.recipes import load_recipe

Array = np.ndarray

_NAMES = ("argmax_agreement", "depth_relative_difference", "normal_angle_deg")
_FACTORS = (0.5, 2.0, 4.0)


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rooms", type=Path, required=True, help="folder of rendered rooms")
    parser.add_argument("--count", type=int, default=100, help="rooms of the test split (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=20, help="layers to break, per factor (default: %(default)s)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    bundle = Bundle.open(asked.bundle)
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    frames = load_rooms(asked.rooms, asked.count, size)
    golden = [decode_picture(bundle.read(name)) for name in bundle.list(GOLDEN, suffixes=(".png",))]
    deploy, recipe = bundle.read(DEPLOY_MODEL), load_recipe()
    calibration = load_calibration(bundle, count=recipe.calibration.frames, unreadable_share=0.0).frames
    calibrated = calibrate(deploy, calibration, recipe=recipe, threads=1)
    int8 = {target: emit(deploy, calibrated, recipe=recipe, target=target) for target in ("onnxruntime", "openvino")}
    expected = answers(bundle, deploy, "onnxruntime", "fp32", [*frames, *golden])
    good = []
    for precision in ("fp32", "bf16", "fp16", "int8"):
        try:
            found = candidates(precision, backend="auto", available=available(), device=fingerprint())
        except EdgeMtlError as exc:
            print(f"{precision}: {exc}", file=sys.stderr)
            continue
        for candidate in found:
            model = int8[candidate.backend] if candidate.precision.startswith("int8") else deploy
            if candidate.precision == "fp32" and candidate.backend == "onnxruntime":
                continue
            row = {"graph": candidate.name, "precision": candidate.precision}
            row |= spread(answers(bundle, model, candidate.backend, candidate.precision, frames), expected)
            good.append(row)
            print(json.dumps(row), flush=True)
    broken = []
    for name, model in faults(int8["onnxruntime"], deploy, asked.faults):
        precision = "fp32" if name.startswith("fp32") else "int8"
        row = {"fault": name, **cost(bundle, model, precision, golden, expected[len(frames) :])}
        broken.append(row)
        print(json.dumps(row), flush=True)
    if asked.out is not None:
        content = {
            "question": "agreement with FP32 per frame of good and of broken engines",
            "command": "python " + shlex.join(sys.argv),
            "date": date.today().isoformat(),
            "device": fingerprint().describe(),
            "bundle": {"name": bundle.name, "digest": bundle.digest},
            "rooms": asked.count,
            "good": good,
            "broken": broken,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def answers(bundle: Bundle, model: bytes, runtime: str, precision: str, frames: Sequence[Array]) -> list[SimpleNamespace]:
    """Copies of a graph's maps."""
    with closing(open_backend(runtime, model, threads=1, precision=precision)) as backend:
        path = FramePath(backend, bundle.manifest)
        return [SimpleNamespace(**{task: getattr(maps, task).copy() for task in bundle.tasks}) for maps in map(path, frames)]


def spread(found: list[SimpleNamespace], expected: list[SimpleNamespace]) -> dict[str, Any]:
    """Quantiles of agreement over frames, the worst one last."""
    agreed = [agreement(one, other).as_dict() for one, other in zip(found, expected, strict=False)]
    result = {}
    for name in _NAMES:
        values = np.array([entry[name] for entry in agreed if name in entry])
        if values.size:
            shares = (50, 5, 1, 0) if name == "argmax_agreement" else (50, 95, 99, 100)
            result[name] = {f"p{share}": float(np.percentile(values, share)) for share in shares}
    return result


def cost(
    bundle: Bundle, model: bytes, precision: str, golden: Sequence[Array], expected: list[SimpleNamespace]
) -> dict[str, Any]:
    """Worst agreement over golden frames, and what the self-test says with one frame and with all."""
    agreed = [
        agreement(a, b).as_dict()
        for a, b in zip(answers(bundle, model, "onnxruntime", precision, golden), expected, strict=True)
    ]
    row: dict[str, Any] = {}
    for name in _NAMES:
        pick = min if name == "argmax_agreement" else max
        row[name] = pick(entry[name] for entry in agreed)
    with closing(open_backend("onnxruntime", model, threads=1, precision=precision)) as backend:
        for label, count in (("caught_at_load", 1), ("caught_at_build", None)):
            try:
                run_self_test(backend, bundle, frames=count, tolerance=TOLERANCES[precision])
                row[label] = False
            except AccuracyError:
                row[label] = True
    return row


def faults(quantized: bytes, deploy: bytes, count: int) -> list[tuple[str, bytes]]:
    """Broken graphs by name."""
    onnx = import_onnx()
    proto = onnx.load_model_from_string(quantized)
    scales = {
        "weights": [item.name for item in proto.graph.initializer if item.name.endswith("_weight_scales")],
        "activation": [item.name for item in proto.graph.initializer if item.name.endswith("_scale")],
    }
    random = np.random.default_rng(0)
    found = [("int8 none", quantized)]
    for kind, names in scales.items():
        if not names:
            raise BuildError("the quantized graph has no scales by the names expected here")
        drawn = random.choice(sorted(names), min(count, len(names)), replace=False)
        for factor in _FACTORS:
            found += [(f"int8 {kind} of {name} times {factor:g}", scaled(quantized, str(name), factor)) for name in drawn]
    found.append(("fp32 red and blue swapped", swapped(deploy)))
    return found


def scaled(model: bytes, name: str, factor: float) -> bytes:
    """`model` with one constant multiplied."""
    onnx = import_onnx()
    proto = onnx.load_model_from_string(model)
    tensor = next(item for item in proto.graph.initializer if item.name == name)
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array((values * factor).astype(values.dtype), name))
    return bytes(proto.SerializeToString())


def swapped(model: bytes) -> bytes:
    """`model` that takes its input's first channel for the last."""
    onnx = import_onnx()
    proto = onnx.load_model_from_string(model)
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "image_swapped"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2, 1, 0], np.int64), "order"))
    proto.graph.node.insert(0, onnx.helper.make_node("Gather", ["image", "order"], ["image_swapped"], axis=1))
    return bytes(proto.SerializeToString())


def load_rooms(root: Path, count: int, size: tuple[int, int]) -> list[Array]:
    """Pictures of the test split."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
    from mtl.data.sources import RoomsRequest

    frames = RoomsRequest(str(root), "test", count, *size).open()
    return [frames[index].image for index in range(count)]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
