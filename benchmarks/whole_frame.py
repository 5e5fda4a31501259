"""Whole frames, picture to maps: every precision and runtime of this machine against plain FP32 ONNX Runtime, in turns.

    python benchmarks/whole_frame.py edge_mtl/bundles/rooms-b0 --threads 2 --out benchmarks/results/NAME

Builds the engines in a temporary copy of the bundle, so that nothing that was built before is used or changed, then
measures all of them side by side in one run. Writes NAME.json and NAME.md with the device, the versions and the command.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import sys
import tempfile
from dataclasses import asdict
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from edge_mtl.backends import available, open_backend
from edge_mtl.bench.latency import LatencyReport, LatencyRow, measure_interleaved
from edge_mtl.build.engines import EngineStore
from edge_mtl.build.evaluation import evaluation_frames
from edge_mtl.build.frame_path import FramePath
from edge_mtl.build.pipeline import build_engine
from edge_mtl.bundle import DEPLOY_MODEL, ENGINES, PLAIN_MODEL, Bundle
from edge_mtl.device import fingerprint
from edge_mtl.errors import BackendUnavailable, EdgeMtlError
from edge_mtl.files import write_atomic

BASELINE = "onnxruntime fp32, model.onnx"
PRECISIONS = ("fp32", "bf16", "int8")


def measure(bundle: Bundle, *, threads: int | None, rounds: int) -> LatencyReport:
    """Build what can be built here and time all of it."""
    frame = next(evaluation_frames(bundle)).frame
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / bundle.path.name
        shutil.copytree(bundle.path, folder, ignore=shutil.ignore_patterns(ENGINES))
        store = EngineStore(Bundle.open(folder))
        for precision in PRECISIONS:
            try:
                build_engine(Bundle.open(folder), precision=precision, threads=threads, store=store)
            except BackendUnavailable as error:
                print(f"{precision}: {error}", file=sys.stderr)
        calls: dict[str, Any] = {}

        def add(name: str, backend: str, model: bytes, precision: str) -> None:
            opened = open_backend(backend, model, threads=threads, precision=precision)
            stack.callback(opened.close)
            calls[name] = partial(FramePath(opened, bundle.manifest), frame)

        add(BASELINE, "onnxruntime", bundle.read(PLAIN_MODEL), "fp32")
        for record in store.list():
            suffix = f", {DEPLOY_MODEL}" if record.precision in ("fp32", "bf16") else ""
            add(f"{record.backend} {record.precision}{suffix}", record.backend, store.load(record), record.precision)
        return measure_interleaved(calls, baseline=BASELINE, rounds=rounds)


def markdown(content: dict[str, Any]) -> str:
    """The same figures as a page."""
    rows = [LatencyRow(**row) for row in content["rows"]]
    lines = [
        f"# Whole frames: {content['bundle']}",
        "",
        f"{content['date']}, {content['device']['description']}; {content['threads']} threads, batch 1, "
        f"{content['input'][0]}x{content['input'][1]}, {content['rounds']} rounds in turns. "
        f"{', '.join(f'{name} {version}' for name, version in content['runtimes'].items())}.",
        "",
        "| engine | median ms | p90 ms | times faster | quartiles |",
        "|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row.ratio):
        lines.append(
            f"| {row.name} | {row.median_ms:.2f} | {row.p90_ms:.2f} | {row.ratio:.2f} "
            f"| {row.ratio_low:.2f} to {row.ratio_high:.2f} |"
        )
    return "\n".join([*lines, "", f"`{content['command']}`", ""])


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    asked = parser.parse_args()
    try:
        bundle = Bundle.open(asked.bundle)
        report = measure(bundle, threads=asked.threads, rounds=asked.rounds)
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    device = fingerprint()
    content = {
        "bundle": f"{bundle.name} revision {bundle.manifest.revision}",
        "commit": bundle.manifest.provenance.get("commit"),
        "input": [bundle.manifest.input.height, bundle.manifest.input.width],
        "date": date.today().isoformat(),
        "device": {**device.to_dict(), "description": device.describe()},
        "runtimes": {name: found.version for name, found in available().items() if found.usable},
        "threads": asked.threads,
        "rounds": asked.rounds,
        "command": shlex.join(["python", *sys.argv]),
        "rows": [asdict(row) for row in report.rows],
    }
    write_atomic(asked.out.with_suffix(".json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(content)
    write_atomic(asked.out.with_suffix(".md"), page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
