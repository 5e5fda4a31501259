"""What a training step costs with each weighting of the losses, against fixed weights.

    python benchmarks/weighting_cost.py --out benchmarks/results/weighting-cost-DEVICE-DATE

Whole steps (forward, losses, weighting, optimiser, moving average) on one batch of noise, the methods interleaved, each with
a model of its own. `--clock cpu` counts the processor's seconds instead of the wall's, for a machine with other work to
do. Prints a table; writes NAME.json with the device and the versions.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import torch
from conditions import Conditions
from mtl.config import parse_config
from mtl.datasets.frame import Batch
from mtl.loop import Training
from mtl.losses import MultiTaskLoss
from mtl.models.configured import model_from
from mtl.settings import RunSettings, Weighting
from mtl.weighting import WeightingError, make_weighting

from edge_mtl.bench.latency import measure_interleaved
from edge_mtl.files import write_atomic

BASELINE = "fixed"


def settings_of(method: str, asked: argparse.Namespace) -> RunSettings:
    """Settings of a run with a method; 1e9 steps, so that the schedule plays no part."""
    height, width = asked.size
    stage = {"height": height, "width": width, "steps": 10**9, "batch": asked.batch}
    content = {
        "stages": [stage],
        "model": {"backbone": asked.backbone, "decoder": asked.decoder},
        "losses": {"weighting": method},
        "loop": {"precision": asked.precision},
    }
    return parse_config(content, source="benchmark")


def noise(asked: argparse.Namespace, stride: int) -> Batch:
    """Images and truth of the right shapes, one pixel per cell as `losses.supervision` "phase" has them."""
    height, width = asked.size
    generator = torch.Generator().manual_seed(0)
    cells = (asked.batch, height // stride, width // stride)
    normals = torch.nn.functional.normalize(torch.randn(*cells, 3, generator=generator), dim=-1)
    targets = {
        "segmentation": torch.randint(0, 13, cells, generator=generator, dtype=torch.uint8),
        "depth": torch.rand(cells, generator=generator) * 5 + 0.5,
        "normals": normals,
    }
    image = torch.randint(0, 256, (asked.batch, height, width, 3), generator=generator, dtype=torch.uint8)
    return Batch(image, targets, (0, 0))


def stepper(method: str, asked: argparse.Namespace) -> Callable[[], object]:
    """A function that takes one step."""
    settings = settings_of(method, asked)
    torch.manual_seed(0)
    model = model_from(settings)
    loss = MultiTaskLoss(settings.losses, model.specs, stride=model.stride)
    weighting = make_weighting(settings.losses, tasks=model.tasks)
    training = Training(model, loss, weighting, settings)
    batch = noise(asked, model.stride)
    return lambda: training.advance(batch)


def main() -> int:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="*", default=[name for name in get_args(Weighting) if name != BASELINE])
    parser.add_argument("--backbone", default="pvt_v2_b0")
    parser.add_argument("--decoder", default="edge")
    parser.add_argument("--size", nargs=2, type=int, default=(96, 128), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    conditions = Conditions(threads=asked.threads)
    steps: dict[str, Callable[[], object]] = {}
    for method in (BASELINE, *asked.methods):
        try:
            steps[method] = stepper(method, asked)
        except WeightingError as exc:
            print(exc, file=sys.stderr)
            return exc.exit_code
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
    report = measure_interleaved(steps, baseline=BASELINE, rounds=asked.rounds, clock=clock)
    rows: dict[str, dict[str, Any]] = {
        row.name: {
            "median_ms": round(row.median_ms, 1),
            "times_fixed": round(1 / row.ratio, 3),
            "quartiles": [round(1 / row.ratio_high, 3), round(1 / row.ratio_low, 3)],
        }
        for row in report.rows
    }
    for name, row in rows.items():
        low, high = row["quartiles"]
        print(f"{name:12} {row['median_ms']:8.1f} ms  {row['times_fixed']:.3f} of fixed ({low:.3f} to {high:.3f})")
    if asked.out is not None:
        content = {
            **conditions.describe(),
            "torch": torch.__version__,
            "clock": asked.clock,
            "model": f"{asked.backbone}, {asked.decoder}, {asked.size[0]}x{asked.size[1]}, batch {asked.batch}",
            "rounds": report.rows[0].count,
            "methods": rows,
        }
        write_atomic(asked.out.with_suffix(".json"), (json.dumps(content, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
