"""INT8 on real frames: what does it lose when it was calibrated with NYUv2, with rendered rooms, or by what the bundle holds?

    python benchmarks/calibration_domains.py BUNDLE --nyuv2 data/nyuv2 --rooms data/rooms --work out/domains \\
        --out benchmarks/results/NAME

Writes NAME.json and NAME.md. Calibration frames are chosen from either training set as `edge-mtl calibrate` chooses them; the
graphs are those that `edge-mtl verify` makes, and TensorRT's, run by ONNX Runtime. Each is judged by the default budget against
FP32 twice: on the bundle's labelled frames, as `edge-mtl verify` does, and on NYUv2's test frames by the protocol of
docs/guides/nyuv2.md. So the page says whether an engine of the wrong domain passes on rooms and fails on real frames. Beside
that: agreement, calibration error of the confidence (ECE), and what the consistency says about the true errors.

Every row is kept in `--work` once it was measured: a run that was stopped continues there. Two rows are measured at a time
(`--jobs`), each on one thread. Accuracy does not depend on load.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from calibration_page import markdown
from calibration_rows import (
    BUNDLE,
    CALIBRATIONS,
    FP32,
    NYUV2,
    Row,
    Sources,
    calibration_of,
    check_tasks,
    frames_digests,
    measure,
    rows_of,
)
from conditions import Conditions
from kept_scores import unpack
from nyuv2_frames import open_nyuv2
from work_folder import WorkFolder

from edge_mtl.backends.reference import REFERENCE_RUNTIME
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.errors import EdgeMtlError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, judge
from edge_mtl.evaluation.labelled_frames import labelled_set, stand_ins
from edge_mtl.files import sha256_bytes, write_atomic
from edge_mtl.tasks import Specs


def main() -> int:
    """Parse, measure, write."""
    asked = _parser().parse_args()
    if asked.out is None and not asked.prepare:
        raise SystemExit("--out is needed, or --prepare")
    conditions = Conditions(threads=asked.threads)
    sources = Sources(asked.nyuv2, asked.rooms, asked.count, asked.pool)
    with ExitStack() as stack:
        work = WorkFolder(asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory())))
        try:
            bundle = Bundle.open(asked.bundle)
            check_tasks(bundle)
            test = open_nyuv2(sources.nyuv2, sources.count)
            from mtl.datasets.frame import described_truths  # found by `open_nyuv2`

            reference = work.kept("fp32.onnx", {"bundle": bundle.digest}, lambda: bundle.read(OPTIMIZED_ONNX))
            rows, calibrations = [Row("", FP32, REFERENCE_RUNTIME, FP32, None, reference)], {}
            for name in asked.calibrations:
                found = calibration_of(name, bundle, sources, cache=work.path / "looks", threads=asked.threads)
                calibrations[name] = found.facts
                rows += rows_of(bundle, found, work, threads=asked.threads)
            if asked.prepare:
                return 0
            kept = measured(rows, bundle, sources, work, jobs=asked.jobs, threads=asked.threads)
        except EdgeMtlError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
        except KeyboardInterrupt:
            print("stopped; the same command continues", file=sys.stderr)
            return 130
        content = {
            "question": "what INT8 loses against FP32 on real frames, by the frames that it was calibrated with",
            "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
            **conditions.describe(),
            "kept_of": work.commits(),
            "network": [bundle.manifest.input.height, bundle.manifest.input.width],
            "frames": {BUNDLE: len(labelled_set(bundle)), NYUV2: len(test)},
            "stand_ins": bool(stand_ins(bundle)),
            "truths": described_truths(test, bundle.manifest.tasks),
            "calibrations": calibrations,
            "pool": asked.pool,
            "budget": DEFAULT_BUDGET.to_dict(bundle.manifest.tasks),
            "rows": judged(rows, kept, bundle.manifest.tasks),
        }
    write_atomic(asked.out.with_name(f"{asked.out.name}.json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(json.loads(json.dumps(content)))
    write_atomic(asked.out.with_name(f"{asked.out.name}.md"), page.encode())
    print(page)
    return 0


def measured(
    rows: Sequence[Row], bundle: Bundle, sources: Sources, work: WorkFolder, *, jobs: int, threads: int
) -> list[dict[str, Any]]:
    """What `measure` says of each row: kept in `work`, or measured now, `jobs` rows at a time."""
    frames = frames_digests(bundle, sources)
    places = [
        work.place(
            f"row-{row.calibration or 'none'}-{row.engine.replace(', ', '-')}.json",
            {"graph": sha256_bytes(row.graph.read_bytes()), "runtime": row.runtime, "bundle": bundle.digest, **frames},
        )
        for row in rows
    ]
    missing = [(row, place) for row, place in zip(rows, places, strict=True) if not place.is_file()]
    print(f"{len(rows) - len(missing)} of {len(rows)} rows are kept; measuring {len(missing)}", file=sys.stderr, flush=True)

    def keep(place: Path, found: Mapping[str, Any]) -> None:
        work.keep(place, json.dumps(found).encode())
        print(f"{sum(one.is_file() for one in places)} of {len(rows)} rows done", file=sys.stderr, flush=True)

    if jobs == 1 or len(missing) < 2:
        for row, place in missing:
            keep(place, measure(row, bundle.path, sources, threads=threads))
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            running = {pool.submit(measure, row, bundle.path, sources, threads=threads): place for row, place in missing}
            try:
                for future in as_completed(running):
                    keep(running[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [json.loads(place.read_bytes()) for place in places]


def judged(rows: Sequence[Row], kept: Sequence[Mapping[str, Any]], specs: Specs) -> list[dict[str, Any]]:
    """Rows for JSON: on either set of frames what was measured, and the verdict against the first row, FP32."""
    found = []
    for row, content in zip(rows, kept, strict=True):
        on = {}
        for frames, one in content.items():
            score, expected = unpack(one["score"], specs), unpack(kept[0][frames]["score"], specs)
            details = dict(score.details)
            on[frames] = {
                "accuracy": dict(score.accuracy),
                "ece": details.pop("ece", None),
                "class_iou": details.get("class_iou", {}),
                "agreement": dict(score.agreement),
                "bad_values": score.bad_values,
                "verdict": None if row is rows[0] else judge(expected, score, name=row.name, budget=DEFAULT_BUDGET).to_dict(),
                "consistency": one["consistency"],
            }
        found.append({"calibration": row.calibration, "engine": row.engine, "weight_bits": row.bits, "on": on})
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--nyuv2", type=Path, required=True, help="NYUv2 as train/prepare_nyuv2.py writes it")
    parser.add_argument("--rooms", type=Path, required=True, help="folder of rendered rooms; missing ones are rendered")
    parser.add_argument("--count", type=int, default=0, help="test frames of NYUv2, from the first (default: all 654)")
    parser.add_argument("--pool", type=int, default=128, help="training frames to choose from (default: %(default)s)")
    parser.add_argument(
        "--calibrations", nargs="+", choices=CALIBRATIONS, default=list(CALIBRATIONS), help="which (default: all)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="rows measured at a time (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each row's runtime (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder that graphs and rows are kept in (default: a temporary one)")
    parser.add_argument("--prepare", action="store_true", help="make the graphs that --work should hold, and measure nothing")
    parser.add_argument("--out", type=Path, help="results without suffix")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
