"""What a training step costs beyond a plain PyTorch loop over the same model, and how much of a run waits for data.

    python benchmarks/training_step.py                       steps, interleaved: ratios of their times
    python benchmarks/training_step.py --run-steps 150       then a real run on rendered rooms: share of time spent waiting

The plain loop is what a script would hold: the same model, losses, batch, bf16 autocast and channels-last layout, the sum
of the losses, gradient clipping, AdamW as PyTorch builds it by default; no average of the weights, no weighting, no check
for numbers that are not finite. With `--fused` its AdamW is the fused one, as ours.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))

import torch
from arguments import size
from conditions import Conditions
from mtl.config import apply_overrides, describe, parse_config
from mtl.datasets.frame import Batch
from mtl.loop import Training
from mtl.losses import MultiTaskLoss
from mtl.machine import prepared
from mtl.models.configured import model_from
from mtl.settings import RunSettings
from mtl.weighting import make_weighting

from edge_mtl.console import Console
from edge_mtl.files import write_atomic


def batch_of(settings: RunSettings, stride: int) -> Batch:
    """Noise with truth everywhere, one target per cell."""
    stage = settings.stages[0]
    draws = torch.Generator().manual_seed(0)
    full, cells = (stage.height, stage.width), (stage.height // stride, stage.width // stride)
    image = torch.randint(0, 256, (stage.batch, *full, 3), generator=draws, dtype=torch.uint8)
    label = torch.randint(0, 13, (stage.batch, *cells), generator=draws, dtype=torch.uint8)
    depth = torch.rand((stage.batch, *cells), generator=draws) * 4 + 0.5
    normals = torch.nn.functional.normalize(torch.randn((stage.batch, *cells, 3), generator=draws), dim=-1)
    return Batch(image, {"segmentation": label, "depth": depth, "normals": normals}, (1, 2))


def ours(settings: RunSettings, device: torch.device) -> Callable[[], float]:
    """A function that takes one step of `Training`, loss returned."""
    model = model_from(settings)
    loss = MultiTaskLoss(settings.losses, model.specs, stride=model.stride)
    weighting = make_weighting(settings.losses, tasks=model.tasks)
    training = Training(model, loss, weighting, settings, device=device)
    batch = batch_of(settings, model.stride)
    return lambda: training.advance(batch).total


def plain(settings: RunSettings, device: torch.device, *, fused: bool) -> Callable[[], float]:
    """A function that takes one step of a loop as a script would hold it, loss returned."""
    model = model_from(settings).to(device).to(memory_format=torch.channels_last).train()
    loss_of = MultiTaskLoss(settings.losses, model.specs, stride=model.stride).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.optimizer.lr, fused=fused or None)
    batch = batch_of(settings, model.stride)

    def step() -> float:
        images = batch.image.to(device).permute(0, 3, 1, 2).float() / 255
        targets = {task: value.to(device) for task, value in batch.targets.items()}
        optimizer.zero_grad()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=settings.loop.precision == "bf16"):
            maps = model(images)
        total = sum(loss_of(maps, targets, batch.phase).values())
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimizer.clip)
        optimizer.step()
        return float(total.detach())

    return step


def ratios(
    first: Callable[[], float], second: Callable[[], float], *, rounds: int, clock: Callable[[], float]
) -> dict[str, float]:
    """Times of both, interleaved whose order alternates, and the median of the ratios first / second of the turns."""

    def timed(work: Callable[[], float]) -> float:
        began = clock()
        work()
        return clock() - began

    for work in (first, second) * 2:
        work()
    pairs = []
    for turn in range(rounds):
        if turn % 2:
            late = timed(second)
            pairs.append((timed(first), late))
        else:
            pairs.append((timed(first), timed(second)))
    quartiles = statistics.quantiles([a / b for a, b in pairs], n=4)
    ours_s, plain_s = (statistics.median(values) for values in zip(*pairs, strict=True))
    return {"ours_s": ours_s, "plain_s": plain_s, "ratio": quartiles[1], "ratio_q1": quartiles[0], "ratio_q3": quartiles[2]}


def data_wait(settings: RunSettings) -> dict[str, float]:
    """A real run: its `done` record."""
    from mtl.run import Run

    with tempfile.TemporaryDirectory() as folder:
        content = {"folder": folder, "name": "run", "loop.pictures": "0", "data.validation": "4"}
        quoted = {key: f"'{value}'" if key in ("folder", "name") else value for key, value in content.items()}
        run = Run(parse_config(apply_overrides(describe(settings), quoted)), console=Console(stderr=True))
        run.train()
        records = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    return {key: records[-1][key] for key in ("seconds", "images_per_s", "data_wait")}


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="turns (default: %(default)s)")
    parser.add_argument(
        "--size", type=size, default="96x128", metavar="HxW", help="of the network's input (default: %(default)s)"
    )
    parser.add_argument("--batch", type=int, default=8, help="frames a step (default: %(default)s)")
    parser.add_argument("--backbone", default="pvt_v2_b0", help="timm name (default: %(default)s)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--threads", type=int, default=0, help="of PyTorch (default: one per core)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: time of this process, on a busy machine")
    parser.add_argument("--fused", action="store_true", help="the plain loop has the fused AdamW too")
    parser.add_argument("--run-steps", type=int, default=0, help="steps of a real run, 0 for none")
    parser.add_argument("--root", default="data/rooms", help="rooms of the real run (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="where the result goes as JSON")
    asked = parser.parse_args()
    conditions = Conditions(threads=asked.threads or os.cpu_count() or 1)
    height, width = asked.size
    stages = f"[{{height={height}, width={width}, steps={asked.run_steps or 1000}, batch={asked.batch}}}]"
    given = {"stages": stages, "model.backbone": asked.backbone, "data.root": asked.root, "data.height": str(height)}
    given |= {"data.width": str(width), "loop.threads": str(asked.threads), "loop.device": asked.device}
    settings = parse_config(apply_overrides({}, {**given, "loop.precision": asked.precision}))
    clock = time.process_time if asked.clock == "cpu" else time.perf_counter
    with prepared(settings.loop) as device:
        found = ratios(ours(settings, device), plain(settings, device, fused=asked.fused), rounds=asked.rounds, clock=clock)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    about = {"trained_on": name, "torch": torch.__version__, "clock": asked.clock, "fused": asked.fused}
    result = {**about, "size": f"{height}x{width}", "batch": asked.batch, "backbone": asked.backbone, **found}
    result["run"] = data_wait(settings) if asked.run_steps else {}
    print(json.dumps(result))
    if asked.out is not None:
        write_atomic(asked.out, (json.dumps(conditions.describe() | result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
