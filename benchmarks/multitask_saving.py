"""What sharing saves on this machine: one engine of three tasks against three engines of one task each.

    python benchmarks/multitask_saving.py --networks pvt_v2_b2:128 --work out/saving-b2 --out benchmarks/results/NAME

Networks are built from `mtl.settings.ModelSettings` and exported by the project's own export. Their weights are random, which
changes no time and no memory: both are decided by the architecture. INT8 ranges come from a few calibration frames of
--frames, for the same reason. Graphs and compiled code are kept in --work: they can be made before, with --prepare, and a run
that was stopped continues.
Times are whole frames, image to maps, all engines of all networks in one interleaved run; three engines answer one after the
other, each preparing the image for itself, as three programs would. Memory is that of fresh processes. Writes NAME.json and
NAME.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Conditions
from multitask_graphs import ENGINES, Exported, quantized
from multitask_rows import measure
from work_folder import WorkFolder

from edge_mtl.bundle import find
from edge_mtl.calibration.frames import load_calibration
from edge_mtl.cli.terminal import Terminal
from edge_mtl.errors import EdgeMtlError
from edge_mtl.files import write_atomic

Array = np.ndarray
_FRAMES = 4
"""Calibration frames: weights are random, ranges need not fit anything."""
LIMIT = 0.45
"""Aim: at most this share of the time and the memory of three engines."""


def export_network(
    backbone: str,
    width: int,
    tasks: tuple[str, ...],
    frames: Sequence[Array],
    size: tuple[int, int],
    *,
    decoder: str,
    precisions: Sequence[str],
    work: WorkFolder,
) -> Exported:
    """A network with random weights: its optimized ONNX, and that in every precision for every runtime that is here."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "train"))
    from mtl.settings import ModelSettings, RunSettings, Stage

    wanted = ModelSettings(backbone=backbone, width=width, tasks=tasks, decoder=decoder)  # type: ignore[arg-type]
    what = decided_by(wanted, size)
    counted = work.place(f"{backbone}-{'-'.join(tasks)}.parameters", what)

    def make() -> bytes:
        import torch
        from mtl.models import model_from
        from mtl.models.export import export_deploy

        torch.manual_seed(0)
        model = model_from(RunSettings(model=wanted, stages=(Stage(*size, steps=1),)), pretrained=False).eval()
        work.keep(counted, f"{sum(value.numel() for value in model.parameters())}\n".encode())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.deploy.onnx"
            export_deploy(model, path, height=size[0], width=size[1])
            return path.read_bytes()

    deploy = work.kept(f"{backbone}-{'-'.join(tasks)}.deploy.onnx", what, make).read_bytes()
    parameters = int(counted.read_text())
    return quantized(deploy, tasks, frames, parameters=parameters, precisions=precisions, work=work)


def decided_by(settings: Any, size: tuple[int, int]) -> dict[str, Any]:
    """What a kept graph depends on: every value of `mtl.settings.ModelSettings`, defaults too, as they may change."""
    return {"model": asdict(settings), "size": size}


def judged(row: Mapping[str, Any]) -> dict[str, str]:
    """By what is aimed at: "held", "missed", or "not shown" where the limit lies within the interval of the time's share."""
    low, high = row["time"]["share_sure"]
    found = {"time": "held" if high <= LIMIT else "missed" if low > LIMIT else "not shown"}
    if row.get("memory"):
        found["memory"] = "held" if row["memory"]["share"] <= LIMIT else "missed"
    return found


def _memory_missed(row: Mapping[str, Any]) -> str:
    """By how much, and what of it are the graphs."""
    memory = row["memory"]
    shared, single = memory["shared"], memory["single"]
    over_bytes = shared["above_empty_bytes"] - LIMIT * single["above_empty_bytes"]
    return (
        f"- {row['network']}, {row['precision']} on {row['backend']}: memory misses the aim by {over_bytes / 2**20:.1f} MiB, "
        f"{shared['above_empty_bytes'] / 2**20:.1f} MiB being {memory['share']:.3f} of "
        f"{single['above_empty_bytes'] / 2**20:.1f} MiB; {shared['runtime_bytes'] / 2**20:.1f} MiB are the runtime's own, and "
        f"the share of the graphs alone is {memory['graphs_share']:.3f}."
    )


def markdown(content: Mapping[str, Any]) -> str:
    """The same figures as a page."""
    (height, width), threads = content["size"], content["threads"]
    lines = [
        "# One engine of three tasks against three engines of one task",
        "",
        f"{content['date']}, commit {content['commit']}, {content['device']['description']}; {threads['runtime']} threads, "
        f"batch 1, frames of {height}x{width}, {content['rounds']} rounds, all rows in one interleaved run; load "
        f"{content['load']['before']} before, {content['load']['after']} after. Decoder: {content['decoder']}. "
        f"{content['weights']}",
        "",
        "| network | precision | runtime | one, ms | three, ms | time, share | 95 % | memory, share | of the graphs "
        "| size, share | energy, share | the aim |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in content["rows"]:
        clock, memory = row["time"], row.get("memory")
        sure = "{:.3f} to {:.3f}".format(*clock["share_sure"])
        shares = (f"{memory['share']:.3f}", f"{memory['graphs_share']:.3f}") if memory else ("", "")
        energy = ", ".join(f"{one['share']:.3f} ({one['source']})" for one in row["energy"]) or "not told"
        aim = ", ".join(f"{what} {verdict}" for what, verdict in judged(row).items())
        lines.append(
            f"| {row['network']} | {row['precision']} | {row['backend']} | {clock['shared_ms']:.1f} | {clock['single_ms']:.1f} "
            f"| {clock['share']:.3f} | {sure} | {shares[0]} | {shares[1]} | {row['size']['share']:.3f} | {energy} | {aim} |"
        )
    lines += [
        "",
        f"Shares are of one engine over three; the aim is at most {LIMIT} for time and memory; it is held where the whole "
        "interval of the time's share is within it, and not shown where the interval has both. Memory is resident, all engines "
        "loaded and having run, above an empty Python process, freed memory given back; "
        "'of the graphs' leaves out what the runtime itself takes.",
    ]
    missed = [_memory_missed(row) for row in content["rows"] if judged(row).get("memory") == "missed"]
    lines += ["", "Where memory misses the aim:", "", *missed] if missed else []
    lines += ["", "Left out:", "", *(f"- {reason}" for reason in content["left_out"])] if content["left_out"] else []
    return "\n".join([*lines, "", f"`{content['command']}`", ""])


def main() -> int:
    """Parse, export, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="pvt_v2_b0:64,pvt_v2_b2:128", help="backbone:width of the decoder, with commas")
    parser.add_argument("--decoder", default="edge", choices=("edge", "aspp", "aspp_folded"))
    parser.add_argument("--precisions", default="fp32,int8", help="any of fp32, bf16, int8, int8+bf16")
    parser.add_argument("--frames", type=Path, help="bundle whose frames and input size are used (default: rooms-b0)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40, help="most rounds of interleaved timing")
    parser.add_argument("--duration", type=float, default=150.0, help="seconds of timing after which no round begins")
    parser.add_argument("--memory-runs", type=int, default=3, help="processes per memory figure, 0 for none")
    parser.add_argument("--energy-s", type=float, default=20.0, help="seconds per energy figure, where told; 0 for none")
    parser.add_argument("--work", type=Path, help="folder that graphs are kept in (default: a temporary one)")
    parser.add_argument("--prepare", action="store_true", help="make all that --work should hold, and measure nothing")
    parser.add_argument("--out", type=Path, help="results without suffix")
    asked = parser.parse_args()
    if asked.out is None and not asked.prepare:
        parser.error("--out is needed, or --prepare")
    if asked.work is None and asked.prepare:
        parser.error("--prepare needs --work")
    conditions = Conditions(threads=asked.threads)
    with contextlib.ExitStack() as stack:
        work = WorkFolder(asked.work or Path(stack.enter_context(tempfile.TemporaryDirectory())))
        step = stack.enter_context(Terminal().steps())
        try:
            bundle = find(asked.frames or "rooms-b0")
            size = (bundle.manifest.input.height, bundle.manifest.input.width)
            frames = load_calibration(bundle, count=_FRAMES, unreadable_share=0.0).images()
            precisions = asked.precisions.split(",")
            networks: dict[str, list[Exported]] = {}
            for text in asked.networks.split(","):
                backbone, _, width = text.partition(":")
                exported = networks.setdefault(f"{backbone} D{width or 64}", [])
                for number, tasks in enumerate(ENGINES):
                    step(f"making {backbone} for {' and '.join(tasks)}", number, len(ENGINES))
                    exported.append(
                        export_network(
                            backbone,
                            int(width or 64),
                            tasks,
                            frames,
                            size,
                            decoder=asked.decoder,
                            precisions=precisions,
                            work=work,
                        )
                    )
            if asked.prepare:
                print(f"made in {asked.work}")
                return 0
            rows, left_out = measure(
                networks,
                bundle,
                precisions=precisions,
                threads=asked.threads,
                rounds=asked.rounds,
                duration_s=asked.duration,
                repeats=asked.memory_runs,
                energy_s=asked.energy_s,
                step=step,
            )
            built = work.commits()
        except EdgeMtlError as error:
            print(f"error: {error}", file=sys.stderr)
            return error.exit_code
    content = {
        **conditions.describe(),
        "size": list(size),
        "rounds": min((row["time"]["rounds"] for row in rows), default=0),
        "built_by": built,
        "decoder": asked.decoder,
        "weights": "Weights are random: times and memory are those of the architecture, accuracy is not measured here.",
        "aim": LIMIT,
        "rows": [{**row, "aim": judged(row)} for row in rows],
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
