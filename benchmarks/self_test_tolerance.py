"""How far good engines stray from FP32 on a frame, and how far broken ones do: what the self-test's tolerances rest on.

    python benchmarks/self_test_tolerance.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json
    python benchmarks/self_test_tolerance.py bundles/rooms-b2-brief edge_mtl/bundles/rooms-b0 --rooms data/rooms --faults 0

Good: every precision and runtime here, for every bundle, on held-out rooms, one agreement per frame and head; for TensorRT the
engines that the bundle has for this device (edge-mtl build-engine). Broken: INT8 graphs with one
scale of one layer wrong by a factor, each on a golden frame as at load and on all of them as at build; and an FP32 graph that
sees red and blue swapped. For every fault: what it costs, whether the tolerance sees it, and whether an engine that was whole
when it was built and is broken now would be seen.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions
from rendered_rooms import open_rooms

from edge_mtl.backends import available, open_backend, spec_of
from edge_mtl.builder.candidates import candidates
from edge_mtl.bundle import GOLDEN, OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.device import fingerprint
from edge_mtl.engine_store.engines import EngineStore
from edge_mtl.errors import AccuracyError, BuildError, EdgeMtlError
from edge_mtl.evaluation.metrics import agreement
from edge_mtl.evaluation.self_test import run_self_test, since_build, tolerance_of
from edge_mtl.files import write_atomic
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.onnx_graph.model import import_onnx
from edge_mtl.quantization.learned import int8_graph, int8_recipe
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.sources.images import decode_image
from edge_mtl.tasks import NYU_TASKS, measure_names
from edge_mtl.tasks.finishing import Answer

Array = np.ndarray

_TASKS = NYU_TASKS
_NAMES = tuple(measure_names(_TASKS, agreement=True))
_FACTORS = (0.5, 2.0, 4.0)


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="bundle")
    parser.add_argument("--rooms", type=Path, required=True, help="folder of rendered rooms")
    parser.add_argument("--count", type=int, default=100, help="rooms of the test split (default: %(default)s)")
    parser.add_argument("--faults", type=int, default=20, help="layers to break, per factor (default: %(default)s)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    conditions = Conditions(threads=1)
    measured = [measure(Bundle.open(path), asked.rooms, rooms_count=asked.count, layers=asked.faults) for path in asked.bundles]
    if asked.out is not None:
        content = {
            "question": "agreement with FP32 per frame of good and of broken engines",
            **conditions.describe(),
            "rooms": asked.count,
            "bundles": measured,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def measure(bundle: Bundle, rooms: Path, *, rooms_count: int, layers: int) -> dict[str, Any]:
    """Good and broken graphs of one bundle."""
    size = (bundle.manifest.input.height, bundle.manifest.input.width)
    frames = load_rooms(rooms, rooms_count, size)
    stored = (decode_image(bundle.read(name)) for name in bundle.list(GOLDEN, suffixes=(".png",)))
    golden = [frame for frame in stored if frame is not None]
    deploy = bundle.read(OPTIMIZED_ONNX)
    expected = answers(bundle, deploy, "onnxruntime", "fp32", [*frames, *golden])
    int8 = integers(bundle)
    good = []
    for name, model, backend, precision in graphs(bundle, deploy, int8):
        row: dict[str, Any] = {"bundle": bundle.name, "graph": name, "precision": precision}
        try:
            row |= spread(answers(bundle, model, backend, precision, frames), expected)
        except EdgeMtlError as exc:
            print(f"{bundle.name}, {name}: {exc}", file=sys.stderr)
            continue
        good.append(row)
        print(json.dumps(row), flush=True)
    broken: list[dict[str, Any]] = []
    for name, model in faults(int8["onnxruntime", 8], deploy, layers) if layers else ():
        precision = "fp32" if name.startswith("fp32") else "int8"
        row = {"fault": name, **cost(bundle, model, precision, golden, expected[len(frames) :])}
        if precision == "int8":
            row["caught_since_build"] = worsened(row, broken[0] if broken else row)
        broken.append(row)
        print(json.dumps(row), flush=True)
    return {"bundle": {"name": bundle.name, "digest": bundle.digest}, "good": good, "broken": broken}


def integers(bundle: Bundle) -> dict[tuple[str, int], bytes]:
    """The INT8 graphs of a bundle by runtime and bits of the weights."""
    source, recipe = int8_graph(bundle), int8_recipe(bundle)
    calibration = load_calibration(bundle, count=recipe.calibration.frames, unreadable_share=0.0).material
    calibrated = calibrate(source, calibration, recipe=recipe, threads=1)
    kinds = [(target, bits) for target in ("onnxruntime", "openvino") for bits in (7, 8)]
    return {(target, bits): insert_qdq(source, calibrated, recipe=recipe, target=target, bits=bits) for target, bits in kinds}


def graphs(bundle: Bundle, deploy: bytes, int8: Mapping[tuple[str, int], bytes]) -> Iterator[tuple[str, bytes, str, str]]:
    """(name, graph, runtime, precision) of everything that is compared with FP32 in ONNX Runtime."""
    for precision in ("fp32", "bf16", "fp16", "int8"):
        try:
            found = candidates(precision, backend="auto", available=available(), device=fingerprint())
        except EdgeMtlError as exc:
            print(f"{precision}: {exc}", file=sys.stderr)
            continue
        for candidate in found:
            integer = candidate.precision.startswith("int8")
            itself = candidate.precision == "fp32" and candidate.backend == "onnxruntime"
            if not itself and spec_of(candidate.backend).device == "cpu":
                model = int8[candidate.backend, candidate.weight_bits] if integer else deploy
                yield candidate.name, model, candidate.backend, candidate.precision
    store = EngineStore(bundle)
    for record in store.find():
        if spec_of(record.backend).device != "cpu" and store.mismatch(record) is None and record.backend in store.runtimes:
            yield f"{record.precision} on {record.backend}", store.load(record), record.backend, record.precision


def answers(bundle: Bundle, model: bytes, runtime: str, precision: str, frames: Sequence[Array]) -> list[Answer]:
    """What a graph answers to every frame."""
    with closing(open_backend(runtime, model, threads=1, precision=precision)) as backend:
        return list(map(InferencePipeline(backend, bundle.manifest), frames))


def spread(found: list[Answer], expected: list[Answer]) -> dict[str, Any]:
    """Quantiles of agreement over frames, the worst one last."""
    agreed = [agreement(_TASKS, one.results, other.results) for one, other in zip(found, expected, strict=False)]
    result = {}
    for name in _NAMES:
        values = np.array([entry[name] for entry in agreed if name in entry])
        if values.size:
            shares = (50, 5, 1, 0) if name == "argmax_agreement" else (50, 95, 99, 100)
            result[name] = {f"p{share}": float(np.percentile(values, share)) for share in shares}
    return result


def cost(bundle: Bundle, model: bytes, precision: str, golden: Sequence[Array], expected: list[Answer]) -> dict[str, Any]:
    """Worst agreement over golden frames, and what the self-test says with one frame and with all."""
    agreed = [
        agreement(bundle.manifest.tasks, a.results, b.results)
        for a, b in zip(answers(bundle, model, "onnxruntime", precision, golden), expected, strict=True)
    ]
    row: dict[str, Any] = {}
    for name in _NAMES:
        pick = min if name == "argmax_agreement" else max
        row[name] = pick(entry[name] for entry in agreed)
    with closing(open_backend("onnxruntime", model, threads=1, precision=precision)) as backend:
        for label, count in (("caught_at_load", 1), ("caught_at_build", None)):
            try:
                run_self_test(backend, bundle, frames=count, tolerance=tolerance_of(bundle.manifest.tasks, precision))
                row[label] = False
            except AccuracyError:
                row[label] = True
    return row


def worsened(row: Mapping[str, Any], whole: Mapping[str, Any]) -> bool:
    """Whether the self-test at load refuses the graph of `row` where the engine was `whole` when it was built."""
    allowed = since_build(_TASKS, tolerance_of(_TASKS, "int8"), {"worst": whole})
    measures = measure_names(_TASKS, agreement=True)
    return any(measures[name].loss(limit, row[name]) > 0 for name, limit in allowed.items())


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
    """Images of the test split."""
    return [room.image for room in open_rooms(root, "test", count, size)]


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
