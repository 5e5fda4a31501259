"""Accuracy against time on NYUv2: bundles with all their engines, and networks of others, in one interleaved run.

    python benchmarks/accuracy_time.py bundles/indoor-b0 bundles/indoor-lite0 --accuracy b0.json lite0.json \\
        --external DeepLabV3-MobileNetV2 deeplab.tflite --nyuv2 data/nyuv2 --out benchmarks/results/NAME

Rows are each bundle's graph in FP32 and every engine that `edge-mtl build-engine` made of it here. A frame goes from image to
maps through `edge_mtl.Engine.predict`, on one thread and on all cores; ratios are to the first row.

Accuracy is that of `train/evaluate.py BUNDLE --engines --root data/nyuv2 --save FILE.json`; files of that are taken by
--accuracy, and what they do not have is measured with --nyuv2 and written to NAME-accuracy-NETWORK.json. An external network is
one of segmentation with the classes of ADE20K, in ONNX or TFLite: it runs at its own input size, resizing included, and its
classes become those of NYUv2 by a table (`train/mtl/datasets/nyuv2/ade20k.py`), without training.

Writes NAME.json, NAME.md and a figure for each number of threads, NAME-THREADS.svg.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from accuracy_files import Accuracy, accuracy_of_bundle, accuracy_of_external, read_files, same_frames
from accuracy_time_page import MEASURES, figure, markdown
from arguments import size
from conditions import Conditions
from external_networks import SCALES, ExternalNetwork
from nyuv2_frames import open_nyuv2

from edge_mtl.bench.latency import LatencyReport, measure_interleaved
from edge_mtl.bundle import Bundle
from edge_mtl.errors import BundleError, EdgeMtlError
from edge_mtl.evaluation.labelled_frames import evaluation_frames
from edge_mtl.files import sha256_bytes, write_atomic


def measure(
    bundles: Mapping[str, Bundle],
    externals: Mapping[str, Path],
    frame: Any,
    *,
    scale: str,
    threads: int,
    rounds: int,
) -> tuple[LatencyReport, dict[str, tuple[str, str]]]:
    """Open everything with so many threads and time it, interleaved; also network and engine by the name of their row."""
    from mtl.engine_predictor import EngineFrames
    from mtl.evaluation_targets import engines_here

    cv2.setNumThreads(threads)
    calls: dict[str, Callable[[], object]] = {}
    parts: dict[str, tuple[str, str]] = {}

    def add(network: str, engine: str, call: Callable[[], object]) -> None:
        calls[f"{network} {engine}"], parts[f"{network} {engine}"] = call, (network, engine)

    with contextlib.ExitStack() as stack:
        for name, bundle in bundles.items():
            for engine, record in engines_here(bundle).items():
                opened = stack.enter_context(EngineFrames(bundle, record, threads=threads))
                add(name, engine, partial(opened.results, frame, None))
        for name, path in externals.items():
            network = stack.enter_context(ExternalNetwork(path, scale=scale, threads=threads))
            add(name, network.engine, partial(network.segment, frame))
        return measure_interleaved(calls, rounds=rounds), parts


def rows_of(
    report: LatencyReport, parts: Mapping[str, tuple[str, str]], accuracies: Mapping[str, Accuracy]
) -> list[dict[str, Any]]:
    """Times with the accuracy of the same engine beside them."""
    rows = []
    for row in report.rows:
        network, engine = parts[row.name]
        values = accuracies[network].row(engine)
        measured = {one.key: values.get(one.key) for one in MEASURES}
        rows.append({"network": network, "engine": engine, **measured, **asdict(row)})
    return rows


def main() -> int:
    """Parse, take or measure the accuracies, time, write."""
    asked = _parser().parse_args()
    counts = sorted(set(asked.threads))
    conditions = Conditions(threads=counts[-1])
    try:
        bundles = _opened(asked.bundles)
        externals = {name: Path(path) for name, path in asked.external}
        if len(bundles.keys() | externals.keys()) < len(asked.bundles) + len(asked.external):
            raise BundleError("two of the networks have one name, which rows are called by. Rename a bundle's folder")
        known = read_files(asked.accuracy)
        accuracies = {
            name: accuracy_of_bundle(name, bundle, known, nyuv2=asked.nyuv2, keep=_beside(asked.out, f"accuracy-{name}.json"))
            for name, bundle in bundles.items()
        }
        first = next(iter(bundles.values()))
        compared = (first.manifest.input.height, first.manifest.input.width)
        for name, path in externals.items():
            keep = _beside(asked.out, f"accuracy-{name}.json")
            with ExternalNetwork(path, scale=asked.external_input, threads=counts[-1]) as network:
                accuracies[name] = accuracy_of_external(name, network, known, nyuv2=asked.nyuv2, size=compared, keep=keep)
        data, frames = same_frames(list(accuracies.values()))
        frame = _frame(first, asked.nyuv2, asked.frame)
        tables = []
        for threads in counts:
            report, parts = measure(bundles, externals, frame, scale=asked.external_input, threads=threads, rounds=asked.rounds)
            rows = rows_of(report, parts, accuracies)
            tables.append({"threads": threads, "baseline": report.baseline, "disturbed": report.disturbed, "rows": rows})
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    content = {
        "question": __doc__.splitlines()[0],
        **conditions.describe(),
        "data": data,
        "frames": frames,
        "frame": list(asked.frame),
        "rounds": asked.rounds,
        "networks": [_described(one, bundles.get(one.network), externals.get(one.network)) for one in accuracies.values()],
        "tables": tables,
    }
    _write(content, asked.out)
    return 0


def _write(content: dict[str, Any], out: Path) -> None:
    content = json.loads(json.dumps(content))
    figures = {}
    for table in content["tables"]:
        path = _beside(out, f"{table['threads']}.svg")
        write_atomic(path, figure(content, table).encode())
        figures[table["threads"]] = path.name
    write_atomic(out.with_name(f"{out.name}.json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(content, figures)
    write_atomic(out.with_name(f"{out.name}.md"), page.encode())
    print(page)


def _beside(out: Path, rest: str) -> Path:
    return out.with_name(f"{out.name}-{rest}")


def _opened(paths: Sequence[Path]) -> dict[str, Bundle]:
    return {path.resolve().name: Bundle.open(path) for path in paths}


def _frame(bundle: Bundle, nyuv2: Path | None, wanted: tuple[int, int]) -> Any:
    """(H, W, 3) uint8: NYUv2's first test frame, or without the data the bundle's first evaluation frame."""
    found = open_nyuv2(nyuv2, 1)[0].image if nyuv2 is not None else next(evaluation_frames(bundle)).frame
    return cv2.resize(found, wanted[::-1], interpolation=cv2.INTER_LINEAR)


def _described(accuracy: Accuracy, bundle: Bundle | None, path: Path | None) -> dict[str, Any]:
    common = {"name": accuracy.network, "accuracy_from": accuracy.source}
    if bundle is None:
        assert path is not None
        about = f"{path.name}, {path.stat().st_size / 1e6:.1f} MB, segmentation of ADE20K, not trained on NYUv2"
        return {**common, "about": about, "size": list(accuracy.input), "sha256": sha256_bytes(path.read_bytes())}
    manifest = bundle.manifest
    told = manifest.provenance
    millions = f"{int(told['parameters']) / 1e6:.2f} M parameters, " if "parameters" in told else ""
    about = f"{told.get('backbone', 'unknown backbone')}, {millions}{', '.join(manifest.tasks)}, revision {manifest.revision}"
    return {**common, "about": about, "size": [manifest.input.height, manifest.input.width], "digest": bundle.digest}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE", help="folders; ratios are to the first one")
    parser.add_argument("--accuracy", type=Path, nargs="+", default=[], metavar="JSON", help="evaluations, in any order")
    parser.add_argument("--nyuv2", type=Path, metavar="DIR", help="measure the accuracies that are missing on these frames")
    external = "a network of others; may be given again"
    parser.add_argument("--external", nargs=2, action="append", default=[], metavar=("NAME", "FILE"), help=external)
    pixels = "what external networks take: -1..1, 0..1 or 0..255 (default: %(default)s)"
    parser.add_argument("--external-input", choices=tuple(SCALES), default="symmetric", help=pixels)
    default = sorted({1, os.cpu_count() or 1})
    parser.add_argument(
        "--threads", type=int, nargs="+", default=default, help="one table for each (default: 1, and all cores)"
    )
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--frame", type=size, metavar="HxW", default=(480, 640), help="size of the camera's frames (480x640)")
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    return parser


if __name__ == "__main__":
    sys.exit(main())
