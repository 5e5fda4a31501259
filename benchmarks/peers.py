"""The same weights and frames through everything that runs them on this CPU, in one interleaved run, accuracy beside speed.

    python benchmarks/peers.py edge_mtl/bundles/rooms-b0 --work out/peers-b0 --out NAME

Peers: PyTorch eager and torch.compile (the bundle's weights, or --checkpoint), plain ONNX Runtime and plain OpenVINO
(model.onnx), NNCF INT8 of model.onnx, and of our optimized graph MNN, ncnn, LiteRT and ExecuTorch in floats and INT8; what is
not installed is left out, with the command that installs it. Peers are calibrated with the bundle's frames; where it has
statistics in their place, with the images of --calibration. Ours: the graph of every engine that `edge-mtl build-engine`
makes here. Times are whole frames, image to maps; accuracy is that of the bundle's evaluation frames. What takes long to make
(our INT8, what peers convert and quantize, what torch.compile makes) is kept in --work: that can be done before, with
--prepare, and a run that was stopped continues. Writes NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conditions import Conditions
from peers_conclusion import conclusion, paired
from peers_page import markdown
from peers_reasons import AIMS, time_by_kind
from peers_rows import BASELINE, EAGER, PRECISIONS, Row, ours, peers
from work_folder import WorkFolder

from edge_mtl.bench.interleaved import run_interleaved
from edge_mtl.bench.statistics import distribution
from edge_mtl.bundle import REFERENCE_ONNX, Bundle
from edge_mtl.cli.terminal import Terminal
from edge_mtl.errors import AccuracyError, BuildError, EdgeMtlError
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, judge
from edge_mtl.evaluation.labelled_frames import Score, evaluate, evaluation_frames
from edge_mtl.evaluation.metrics import agreement
from edge_mtl.files import write_atomic
from edge_mtl.inference_pipeline import InferencePipeline
from edge_mtl.tasks import LabelsSpec, Specs

Step = Callable[[str, int, int], None]
_PROFILED = 20
"""Frames that layer times are medians of."""
_SAME_WEIGHTS = 0.999
"""Share of equal labels between torch and model.onnx below which the checkpoint is that of another network."""


@dataclass(frozen=True, slots=True)
class BenchmarkConfig:
    """How much is measured.

    Attributes:
        rounds, duration_s: whichever is over first ends the timing.
        prepare: build only.
    """

    rounds: int
    duration_s: float
    prepare: bool = False


def measure(
    bundle: Bundle,
    candidates: Sequence[Row],
    left_out: list[str],
    *,
    depth: BenchmarkConfig,
    checkpoint: Path | None,
    step: Step,
) -> tuple[list[dict[str, Any]], dict[str, tuple[float, ...]]]:
    """Open all that can be opened, score it, time it interleaved: the rows, and by name the seconds of every round.

    What was left out is appended to `left_out`.

    With `depth.prepare` everything is opened, so that it is built and kept, and nothing is measured.
    """
    frame = next(evaluation_frames(bundle)).frame
    with contextlib.ExitStack() as stack:
        rows: list[Row] = []
        paths: dict[str, InferencePipeline] = {}
        runtimes: dict[str, str] = {}
        for number, row in enumerate(candidates):
            step(f"opening {row.name}", number, len(candidates))
            try:
                backend = row.open()
                stack.callback(backend.close)
                path = InferencePipeline(backend, bundle.manifest)
                path(frame)  # torch.compile compiles now
            except Exception as error:  # a rival that does not run here is a row of the report, not the end of it
                refused = isinstance(error, AccuracyError)  # nor is an engine of ours that build-engine refuses, too
                if (row.ours and not refused) or row.name == BASELINE:
                    raise
                left_out.append(f"{row.name}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}")
                continue
            rows.append(row)
            paths[row.name] = path
            runtimes[row.name] = f"{backend.info.name} {backend.info.version}"
        _check_same_weights(bundle.manifest.tasks, paths, frame, checkpoint or bundle.path)
        if depth.prepare:
            return [], {}
        scores = evaluate(
            bundle, paths, reference=BASELINE, progress=lambda _, done, total: step("accuracy, frames", done, total)
        )
        turns = run_interleaved(
            {row.name: partial(_frame, paths[row.name], frame) for row in rows},
            rounds=depth.rounds,
            duration_s=depth.duration_s,
            progress=lambda done, total: step("timing whole frames, interleaved", done, total),
        )
        times = {name: turn.seconds for name, turn in turns.items()}
    return [{**_described(row, times, scores), "runtime": runtimes[row.name]} for row in rows], times


def _frame(path: InferencePipeline, frame: Any) -> None:
    """One frame; its maps are not kept."""
    path(frame)


def _described(row: Row, times: Mapping[str, Sequence[float]], scores: Mapping[str, Score]) -> dict[str, Any]:
    ratio, judgement = paired(times[BASELINE], times[row.name])
    judged = judge(scores[BASELINE], scores[row.name], name=row.name, budget=DEFAULT_BUDGET)
    accuracy = scores[row.name].accuracy
    return {
        "name": row.name,
        "ours": row.ours,
        "times": asdict(distribution(times[row.name])),
        "ratio": ratio.value,
        "ratio_sure": [ratio.low, ratio.high],
        "verdict": "" if row.name == BASELINE else judgement,
        "miou": accuracy.get("miou"),
        "depth_rel": accuracy.get("depth_rel"),
        "normal_mean_deg": accuracy.get("normal_mean_deg"),
        "agreement": dict(scores[row.name].agreement),
        "within_budget": judged.passed,
        "failures": list(judged.failures),
    }


def _check_same_weights(tasks: Specs, paths: Mapping[str, InferencePipeline], frame: Any, source: Path) -> None:
    if EAGER not in paths:
        return
    expected = paths[BASELINE](frame)
    same = agreement(tasks, paths[EAGER](frame).results, expected.results).get("argmax_agreement")
    if same is not None and same < _SAME_WEIGHTS:
        raise BuildError(
            f"{source} is not what {REFERENCE_ONNX} was exported from: {same:.1%} of the labels are equal. "
            "Name the checkpoint in the bundle's provenance (edge-mtl inspect), or export it again."
        )


def main() -> int:
    """Parse, build what is not kept, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--checkpoint", type=Path, help="what the bundle was exported from (default: runs/RUN/best.safetensors, or the bundle)"
    )
    parser.add_argument("--calibration", type=Path, help="images that peers are calibrated with (default: the bundle's)")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="of our engines")
    parser.add_argument("--without", default="", help="peers to leave out, by the beginning of their names, with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60, help="most rounds of interleaved timing")
    parser.add_argument("--duration", type=float, default=240.0, help="seconds of timing after which no round begins")
    parser.add_argument("--work", type=Path, help="folder that what is built is kept in (default: a temporary one)")
    parser.add_argument("--prepare", action="store_true", help="build all that --work should hold, and measure nothing")
    parser.add_argument("--out", type=Path, help="results without suffix")
    asked = parser.parse_args()
    if asked.out is None and not asked.prepare:
        parser.error("--out is needed, or --prepare")
    if asked.work is None and asked.prepare:
        parser.error("--prepare needs --work")
    conditions = Conditions(threads=asked.threads)
    left_out: list[str] = []
    with contextlib.ExitStack() as stack:
        folder = asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        step = stack.enter_context(Terminal().steps())
        try:
            work = WorkFolder(folder)
            bundle = Bundle.open(asked.bundle)
            usual = Path("runs") / str(bundle.manifest.provenance.get("run", "")) / "best.safetensors"
            checkpoint = asked.checkpoint or (usual if usual.is_file() else None)
            candidates = _asked_for(
                peers(bundle, checkpoint, asked.calibration, threads=asked.threads, work=work), asked.without, left_out
            )
            precisions = asked.precisions.split(",")
            engines = ours(bundle, precisions=precisions, threads=asked.threads, work=work, step=step, left_out=left_out)
            depth = BenchmarkConfig(asked.rounds, asked.duration, asked.prepare)
            rows, times = measure(bundle, candidates + engines, left_out, depth=depth, checkpoint=checkpoint, step=step)
            found = conclusion(rows, times)
            step("layers of our fastest INT8 engine", 0, 0)
            kinds = _kinds(bundle, engines, found, threads=asked.threads) if found else []
            built = work.commits()
        except EdgeMtlError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    if asked.prepare:
        print("\n".join([f"built in {asked.work}", *(f"left out: {reason}" for reason in left_out)]))
        return 0
    content = {
        "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
        **conditions.describe(),
        "built_by": built,
        "size": [bundle.manifest.input.height, bundle.manifest.input.width],
        "rounds": rows[0]["times"]["count"],
        "baseline": BASELINE,
        "classes": sum(len(spec.classes) for spec in bundle.manifest.tasks.values() if isinstance(spec, LabelsSpec)),
        "budget": ", ".join(f"{name}={value:g}" for name, value in DEFAULT_BUDGET.to_dict(bundle.manifest.tasks).items()),
        "rows": rows,
        "conclusion": found,
        "aim": AIMS.get(str(bundle.manifest.provenance.get("backbone", ""))),
        "kinds": kinds,
        "left_out": left_out,
    }
    name = asked.out.name
    write_atomic(asked.out.with_name(f"{name}.json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(content)
    write_atomic(asked.out.with_name(f"{name}.md"), page.encode())
    print(page)
    return 0


def _kinds(bundle: Bundle, engines: Sequence[Row], found: Mapping[str, Any], *, threads: int) -> list[dict[str, Any]]:
    row = next(row for row in engines if row.name == found["ours"])
    assert row.candidate is not None
    assert row.graph is not None
    item = row.candidate
    return time_by_kind(
        bundle, row.graph.read_bytes(), backend=item.backend, precision=item.precision, threads=threads, runs=_PROFILED
    )


def _asked_for(rows: Sequence[Row], without: str, left_out: list[str]) -> list[Row]:
    """All rows whose names do not begin with one of the names in `without`; the baseline always."""
    prefixes = tuple(name for name in without.split(",") if name)
    refused = [row for row in rows if row.name != BASELINE and prefixes and row.name.startswith(prefixes)]
    left_out += [f"{row.name}: not asked for" for row in refused]
    return [row for row in rows if row not in refused]


if __name__ == "__main__":
    sys.exit(main())
