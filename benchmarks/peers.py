"""The same weights and frames through everything that runs them on this CPU, in one interleaved run, accuracy beside speed.

    python benchmarks/peers.py edge_mtl/bundles/rooms-b0 --checkpoint runs/rooms-b0-tuned/best.safetensors --out NAME

Peers: PyTorch eager and torch.compile (the checkpoint that the bundle was exported from; without it they are left out), plain
ONNX Runtime and plain OpenVINO (model.onnx), NNCF INT8 of model.onnx (if the package nncf is installed). Ours: every engine
that `edge-mtl build-engine` makes here, built in a temporary copy of the bundle. Times are whole frames, picture to maps;
accuracy is that of the bundle's evaluation frames. Writes NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from conditions import Conditions
from peer_runtimes import NncfRuntime, TorchRuntime, load_network
from peers_page import markdown

from edge_mtl.backends import Backend, open_backend
from edge_mtl.bench.statistics import distribution, ratio_interval, verdict
from edge_mtl.bench.turns import take_turns
from edge_mtl.build.calibration import load_calibration
from edge_mtl.build.evaluation import Score, evaluate, evaluation_frames
from edge_mtl.build.frame_path import FramePath
from edge_mtl.build.gate.budget import DEFAULT_BUDGET, judge
from edge_mtl.build.pipeline import build_engine
from edge_mtl.build.store.engines import EngineStore
from edge_mtl.bundle import ENGINES, PLAIN_MODEL, Bundle
from edge_mtl.errors import AccuracyError, BackendUnavailable, BuildError, EdgeMtlError
from edge_mtl.files import write_atomic
from edge_mtl.metrics import agreement
from edge_mtl.recipes import load_recipe

BASELINE = "ONNX Runtime fp32, plain export"
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
_SAME_WEIGHTS = 0.999
"""Share of equal labels between torch and model.onnx below which the checkpoint is that of another network."""


@dataclass(frozen=True, slots=True)
class Row:
    """Who runs the network, whether that is us, and how."""

    name: str
    ours: bool
    open: Callable[[], Backend]


def peers(bundle: Bundle, checkpoint: Path | None, *, threads: int) -> list[Row]:
    """Everybody else; what is not here says so when it is opened."""
    plain = bundle.read(PLAIN_MODEL)
    recipe = load_recipe()

    def torch_row(floats: Any, compiled: bool) -> Backend:
        if checkpoint is None:
            raise BackendUnavailable("no checkpoint of this bundle is here: name it with --checkpoint")
        network, size = load_network(checkpoint)
        return TorchRuntime(network, size, threads=threads, floats=floats, compiled=compiled)

    def nncf_row(floats: Any) -> Backend:
        frames = load_calibration(bundle, count=recipe.calibration.frames, unreadable_share=0.0).frames
        return NncfRuntime(plain, frames, threads=threads, floats=floats)

    def plain_row(backend: str, precision: str) -> Backend:
        return open_backend(backend, plain, threads=threads, precision=precision)

    return [
        Row(BASELINE, False, partial(plain_row, "onnxruntime", "fp32")),
        Row("PyTorch eager fp32", False, partial(torch_row, "fp32", False)),
        Row("PyTorch eager bf16", False, partial(torch_row, "bf16", False)),
        Row("torch.compile fp32", False, partial(torch_row, "fp32", True)),
        Row("torch.compile bf16", False, partial(torch_row, "bf16", True)),
        Row("OpenVINO fp32, plain export", False, partial(plain_row, "openvino", "fp32")),
        Row("OpenVINO bf16, plain export", False, partial(plain_row, "openvino", "bf16")),
        Row("NNCF INT8, plain export", False, partial(nncf_row, "fp32")),
        Row("NNCF INT8 + bf16, plain export", False, partial(nncf_row, "bf16")),
    ]


def ours(bundle: Bundle, *, precisions: Sequence[str], threads: int, left_out: list[str]) -> list[Row]:
    """Every engine that can be built here; `bundle` is a copy that may be built in."""
    store = EngineStore(bundle)
    for precision in precisions:
        try:
            build_engine(bundle, precision=precision, threads=threads, store=store, budget=None)
        except (AccuracyError, BackendUnavailable, BuildError) as error:
            left_out.append(f"our {precision}: {error}")

    def open_engine(record: Any) -> Backend:
        compiled = store.compiled.load(record)[0]
        model = store.load(record)
        return open_backend(record.backend, model, threads=threads, precision=record.precision, compiled=compiled)

    return [
        Row(f"edge_mtl {record.precision} on {record.backend}", True, partial(open_engine, record)) for record in store.list()
    ]


def measure(
    bundle: Bundle, checkpoint: Path | None, *, precisions: Sequence[str], without: Sequence[str], threads: int, rounds: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Open all that can be opened, score it, time it in turns; rows and what was left out."""
    left_out: list[str] = []
    frame = next(evaluation_frames(bundle)).frame
    with contextlib.ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        os.environ["XDG_CACHE_HOME"] = str(temporary / "cache")
        copy = temporary / bundle.path.name
        shutil.copytree(bundle.path, copy, ignore=shutil.ignore_patterns(ENGINES))
        rows: list[Row] = []
        paths: dict[str, FramePath] = {}
        candidates = peers(bundle, checkpoint, threads=threads)
        for row in candidates + ours(Bundle.open(copy), precisions=precisions, threads=threads, left_out=left_out):
            if row.name != BASELINE and any(row.name.startswith(prefix) for prefix in without):
                left_out.append(f"{row.name}: not asked for")
                continue
            _say(f"opening {row.name}")
            try:
                backend = row.open()
                stack.callback(backend.close)
                path = FramePath(backend, bundle.manifest)
                path(frame)  # torch.compile compiles now
            except Exception as error:  # a rival that does not run here is a row of the report, not the end of it
                if row.ours or row.name == BASELINE:
                    raise
                left_out.append(f"{row.name}: {(str(error).strip().splitlines() or [type(error).__name__])[0]}")
                continue
            rows.append(row)
            paths[row.name] = path
        _check_same_weights(paths, frame, checkpoint)
        _say("scoring")
        scores = evaluate(bundle, paths, reference=BASELINE)
        _say("timing")
        turns = take_turns({row.name: partial(_frame, paths[row.name], frame) for row in rows}, rounds=rounds)
        times = {name: turn.seconds for name, turn in turns.items()}
    return [_described(row, times, scores) for row in rows], left_out


def conclusion(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Our fastest INT8 engine within the accuracy budget beside the fastest peer that is within it too."""
    fit = [row for row in rows if row["within_budget"]]
    integers = [row for row in fit if row["ours"] and " int8" in row["name"]]
    others = [row for row in fit if not row["ours"]]
    if not integers or not others:
        return {}
    best, rival = max(integers, key=lambda row: row["ratio"]), max(others, key=lambda row: row["ratio"])
    return {"ours": best["name"], "ratio": best["ratio"], "rival": rival["name"], "rival_ratio": rival["ratio"]}


def _frame(path: FramePath, frame: Any) -> None:
    """One frame; its maps are not kept."""
    path(frame)


def _described(row: Row, times: Mapping[str, Sequence[float]], scores: Mapping[str, Score]) -> dict[str, Any]:
    ratio = ratio_interval(times[BASELINE], times[row.name])
    judged = judge(scores[BASELINE], scores[row.name], name=row.name, budget=DEFAULT_BUDGET)
    accuracy = scores[row.name].accuracy
    return {
        "name": row.name,
        "ours": row.ours,
        "times": asdict(distribution(times[row.name])),
        "ratio": ratio.value,
        "ratio_sure": [ratio.low, ratio.high],
        "verdict": "" if row.name == BASELINE else verdict(ratio),
        "miou": accuracy.get("miou"),
        "depth_rel": accuracy.get("depth_rel"),
        "normal_mean_deg": accuracy.get("normal_mean_deg"),
        "agreement": dict(scores[row.name].agreement),
        "within_budget": judged.passed,
        "failures": list(judged.failures),
    }


def _check_same_weights(paths: Mapping[str, FramePath], frame: Any, checkpoint: Path | None) -> None:
    name = "PyTorch eager fp32"
    if name not in paths:
        return
    expected = paths[BASELINE](frame)
    same = agreement(paths[name](frame), expected).argmax_agreement  # type: ignore[arg-type]
    if same is not None and same < _SAME_WEIGHTS:
        raise BuildError(
            f"{checkpoint} is not what {PLAIN_MODEL} was exported from: {same:.1%} of the labels are equal. "
            "Name the checkpoint in the bundle's provenance (edge-mtl inspect), or export it again."
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument(
        "--checkpoint", type=Path, help="what the bundle was exported from (default: runs/RUN/best.safetensors)"
    )
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="of our engines")
    parser.add_argument("--without", default="", help="peers to leave out, by the beginning of their names, with commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--out", type=Path, required=True, help="results without suffix")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads)
    try:
        bundle = Bundle.open(asked.bundle)
        usual = Path("runs") / str(bundle.manifest.provenance.get("run", "")) / "best.safetensors"
        checkpoint = asked.checkpoint or (usual if usual.is_file() else None)
        rows, left_out = measure(
            bundle,
            checkpoint,
            precisions=asked.precisions.split(","),
            without=[name for name in asked.without.split(",") if name],
            threads=asked.threads,
            rounds=asked.rounds,
        )
    except EdgeMtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    content = {
        "bundle": {"name": bundle.name, "revision": bundle.manifest.revision, "digest": bundle.digest},
        **conditions.describe(),
        "size": [bundle.manifest.input.height, bundle.manifest.input.width],
        "rounds": asked.rounds,
        "baseline": BASELINE,
        "budget": ", ".join(f"{name}={value:g}" for name, value in DEFAULT_BUDGET.to_dict().items()),
        "rows": rows,
        "conclusion": conclusion(rows),
        "left_out": left_out,
    }
    name = asked.out.name
    write_atomic(asked.out.with_name(f"{name}.json"), (json.dumps(content, indent=1) + "\n").encode())
    page = markdown(content)
    write_atomic(asked.out.with_name(f"{name}.md"), page.encode())
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
