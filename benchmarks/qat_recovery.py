"""Whether fine-tuning brings back heads that integers put out of budget: a harsh recipe, calibrated and fine-tuned.

    python benchmarks/qat_recovery.py runs/rooms-b0-tuned/best.safetensors --rooms data/rooms --out benchmarks/results/NAME.json

The recipe cuts off more of every activation than the package's does (--percentile). The network is calibrated with it, then
fine-tuned with it for a few hundred steps (train/train.py --qat does the same), and both INT8 graphs run in ONNX Runtime on
labelled rooms of the test split, through the accuracy check that `edge-mtl verify` asks. FP32 is the network before
fine-tuning, so that a head only passes if INT8 is as good as that. Other percentiles (--also) are calibrated and judged, not
fine-tuned. A run that was interrupted continues.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

from mtl.bundling import export_bundle
from mtl.checkpoint import load_weights
from mtl.config import apply_overrides, as_written, parse_config
from mtl.qat.settings import for_qat
from mtl.run import Run

from benchmarks.conditions import Conditions
from edge_mtl.bundle import OPTIMIZED_ONNX, Bundle
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.console import Console
from edge_mtl.evaluation.verify import EvaluatedGraph, Verification, verify_graphs
from edge_mtl.files import write_atomic
from edge_mtl.quantization.learned import int8_graph
from edge_mtl.quantization.quantize import calibrate, insert_qdq
from edge_mtl.quantization.recipes import CPU_INT8, Recipe, load_recipe

CALIBRATED, FINE_TUNED = "calibrated", "fine-tuned"
_GOLDEN = 3


def main() -> int:
    """Parse, fine-tune, measure, print, store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="weights that train/train.py wrote")
    parser.add_argument("--rooms", type=Path, required=True, help="folder of rendered rooms")
    parser.add_argument("--percentile", type=float, default=95.0, help="of activations that are kept (default: %(default)s)")
    parser.add_argument("--also", type=float, nargs="*", default=[], help="percentiles that are calibrated and judged only")
    parser.add_argument("--steps", type=int, default=300, help="of the fine-tuning (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="frames in a step (default: %(default)s)")
    parser.add_argument("--teacher", type=float, default=1.0, help="see qat.teacher (default: %(default)s)")
    parser.add_argument("--validation", type=int, default=32, help="rooms to choose the best step on (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=1e-4, help="of the fine-tuning (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=64, help="labelled rooms to measure on (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=Path("runs/qat-recovery"), help="of the run (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch and the runtime (default: all cores)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads or 1)
    recipe = harsh(asked.folder, asked.percentile)
    bundle = fine_tuned(asked, recipe)
    also = {f"calibrated, {percentile:g}": load_recipe(harsh(asked.folder, percentile)) for percentile in asked.also}
    found = judged(bundle, load_recipe(recipe), also, threads=asked.threads or None)
    for name, verdict in found.verdicts.items():
        state = "within budget" if verdict.passed else f"OUT OF BUDGET: {'; '.join(verdict.failures)}"
        print(f"{name}: {state}")
    for name, score in found.scores.items():
        print(name, json.dumps({key: round(value, 4) for key, value in {**score.accuracy, **score.agreement}.items()}))
    if asked.out is not None:
        content = {
            "question": "does fine-tuning recover heads that a harsh recipe puts out of budget",
            "conditions": conditions.describe(),
            "checkpoint": asked.checkpoint.parent.name,
            "percentile": {"fine-tuned with": asked.percentile, "calibrated and judged only": asked.also},
            "fine-tuning": {
                "steps": asked.steps,
                "batch": asked.batch,
                "lr": asked.lr,
                "teacher": asked.teacher,
                "validation": validated(asked.folder / run_name(asked)),
            },
            "card": found.card,
        }
        write_atomic(asked.out, (json.dumps(content, indent=1) + "\n").encode())
    return 0


def harsh(folder: Path, percentile: float) -> Path:
    """The package's recipe for CPUs with another percentile, as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    text, changed = re.subn(r"(?m)^percentile = \S+", f"percentile = {percentile}", CPU_INT8.read_text(encoding="utf-8"))
    assert changed == 1
    path = folder / f"percentile-{percentile:g}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def fine_tuned(asked: argparse.Namespace, recipe: Path) -> Bundle:
    """Fine-tune, or continue it, and export."""
    _, metadata = load_weights(asked.checkpoint)
    name = run_name(asked)
    changes: dict[str, Any] = {
        "name": f"'{name}'",
        "folder": f"'{asked.folder}'",
        "data.root": f"'{asked.rooms}'",
        "model.init": f"'{asked.checkpoint}'",
        "qat.recipe": f"'{recipe}'",
        "qat.steps": str(asked.steps),
        "qat.lr": str(asked.lr),
        "qat.teacher": str(asked.teacher),
        "data.validation": str(asked.validation),
        "loop.evaluate_every": str(max(1, asked.steps // 2)),
        "loop.pictures": "0",
        "loop.threads": str(asked.threads),
        "data.test": str(asked.frames + _GOLDEN),  # what is exported is measured on all of them
        "export.evaluation": str(asked.frames),
        "export.golden": str(_GOLDEN),
    }
    settings = parse_config(apply_overrides(as_written(metadata["config"]), changes))
    settings = replace(for_qat(settings, given={"name", "model.init"}), name=name)
    settings = replace(settings, stages=tuple(replace(stage, batch=asked.batch) for stage in settings.stages))
    console = Console(width=120)
    best = Run(settings, console=console, resume=True).train()
    return export_bundle(best, asked.folder / f"{name}-bundle", console=console, command=" ".join(sys.argv), replace=True)


def run_name(asked: argparse.Namespace) -> str:
    """Of the fine-tuning."""
    return f"{asked.checkpoint.resolve().parent.name}-percentile-{asked.percentile:g}"


def validated(folder: Path) -> list[dict[str, Any]]:
    """What every validation of the run said, with rounding and without."""
    names = ("miou", "depth_rel", "normal_mean_deg")
    found = []
    for record in map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()):
        if record["kind"] == "validation":
            plain = {name: record["without_rounding"][name] for name in names}
            found.append({"step": record["step"], **{name: record[name] for name in names}, "without_rounding": plain})
    return found


def judged(bundle: Bundle, recipe: Recipe, also: Mapping[str, Recipe], *, threads: int | None) -> Verification:
    """All INT8 graphs through the accuracy check."""
    settings = recipe.calibration
    frames = load_calibration(bundle, count=settings.frames, unreadable_share=settings.unreadable_share).images()
    subjects = []
    deploy = bundle.read(OPTIMIZED_ONNX)
    wanted = [(CALIBRATED, deploy, recipe), (FINE_TUNED, int8_graph(bundle), recipe)]
    for name, graph, rules in [*wanted, *((name, deploy, rules) for name, rules in also.items())]:
        calibrated = calibrate(graph, frames, recipe=rules, threads=threads)
        model = insert_qdq(graph, calibrated, recipe=rules, target="onnxruntime")
        subjects.append(EvaluatedGraph("onnxruntime", "int8", model, True, label=name))
    return verify_graphs(bundle, subjects, threads=threads, images=0)


if __name__ == "__main__":
    sys.exit(main())
