"""How far precisions of GPUs stray from FP32 on a frame, as far as a processor can tell: numerics emulated, no GPU needed.

    python benchmarks/gpu_tolerance.py edge_mtl/bundles/rooms-b0 --rooms data/rooms --out benchmarks/results/NAME.json

The graphs are those that plans are built from, run by ONNX Runtime on the processor, one agreement with FP32 per frame and
head. FP16 and INT8 with FP16: every value that is stored is rounded to float16; sums inside of a layer may be wider here
than on a GPU. TF32: both factors of every layer are rounded to 11 significant bits, sums stay FP32, as tensor cores do it.
What a GPU's kernels do besides (other orders of sums, fused layers) is not in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from conditions import Conditions
from self_test_tolerance import answers, load_rooms, spread

from edge_mtl.builder.candidate_graphs import candidate_graphs
from edge_mtl.builder.candidates import DEPTHWISE, Candidate
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.files import write_atomic
from edge_mtl.onnx_graph.model import GraphIndex, import_onnx, parse
from edge_mtl.quantization.recipes import TENSORRT_INT8, load_recipe

CANDIDATES = (
    Candidate("tensorrt", "fp16"),
    Candidate("tensorrt", "fp16", plain=True),
    Candidate("tensorrt", "int8+fp16"),
    Candidate("tensorrt", "int8+fp16", (DEPTHWISE,)),
)
LAYERS = ("Conv", "Gemm", "MatMul")
BITS_LOST = {"tf32": 13, "bf16": 16}
"""Of the 24 significant bits of float32."""

_HIGHEST = {"tf32": "products in TF32", "bf16": "products of bfloat16 factors"}


def split_constant(kind: str) -> float:
    """Multiplying by this and subtracting twice rounds to the bits that are left (Veltkamp 1968, Dekker 1971)."""
    return float(2 ** BITS_LOST[kind] + 1)


def rounded(values: np.ndarray, kind: str) -> np.ndarray:
    """float32 -> float32, rounded to nearest in the bits that `kind` keeps."""
    scaled = (values * np.float32(split_constant(kind))).astype(np.float32)
    return np.asarray(scaled - (scaled - values), np.float32)


def with_rounded_factors(model: bytes, kind: str) -> bytes:
    """`model`, FP32, with both factors of every layer rounded as `kind` says."""
    onnx = import_onnx()
    helper = onnx.numpy_helper
    proto = parse(model, name="the optimized ONNX")
    index, made, nodes = GraphIndex(proto), {}, []
    proto.graph.initializer.append(helper.from_array(np.array(split_constant(kind), np.float32), "split"))
    for node in list(proto.graph.node):
        for place in (0, 1) if node.op_type in LAYERS else ():
            source = node.input[place]
            result = f"{source}__{kind}"
            if source not in made:
                made[source] = result
                if source in index.weights:
                    proto.graph.initializer.append(helper.from_array(rounded(index.array(source), kind), result))
                else:
                    make = onnx.helper.make_node
                    nodes.append(make("Mul", [source, "split"], [f"{result}_scaled"]))
                    nodes.append(make("Sub", [f"{result}_scaled", source], [f"{result}_rest"]))
                    nodes.append(make("Sub", [f"{result}_scaled", f"{result}_rest"], [result]))
            node.input[place] = made[source]
        nodes.append(node)
    del proto.graph.node[:], proto.graph.value_info[:]
    proto.graph.node.extend(nodes)
    return bytes(proto.SerializeToString())


def graphs(bundle: Bundle) -> Iterator[tuple[str, bytes]]:
    """What is compared with FP32, by name."""
    for kind, name in _HIGHEST.items():
        yield f"fp32, {name}", with_rounded_factors(bundle.read(OPTIMIZED_ONNX), kind)
    recipe = load_recipe(TENSORRT_INT8)
    frames = load_calibration(bundle, count=recipe.calibration.frames, unreadable_share=0.0)
    made = candidate_graphs(bundle, CANDIDATES, frames, recipe, threads=1, progress=lambda *_: None)
    for candidate, graph in made.graphs.items():
        yield candidate.name.replace(" on tensorrt", ""), graph


def main() -> int:
    """Parse, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--rooms", type=Path, required=True, help="folder of rendered rooms")
    parser.add_argument("--count", type=int, default=40, help="rooms of the test split (default: %(default)s)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    conditions = Conditions(threads=1)
    bundle = Bundle.open(asked.bundle)
    frames = load_rooms(asked.rooms, asked.count, (bundle.manifest.input.height, bundle.manifest.input.width))
    expected = answers(bundle, bundle.read(OPTIMIZED_ONNX), "onnxruntime", "fp32", frames)
    rows = []
    for name, graph in graphs(bundle):
        rows.append({"graph": name, **spread(answers(bundle, graph, "onnxruntime", "fp32", frames), expected)})
        print(json.dumps(rows[-1]), flush=True)
    if asked.out is not None:
        content = {
            "question": "agreement with FP32 per frame of precisions of GPUs, emulated on a processor",
            **conditions.describe(),
            "rooms": len(frames),
            "bundle": {"name": bundle.name, "digest": bundle.digest},
            "rows": rows,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
