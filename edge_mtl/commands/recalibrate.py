"""`edge-mtl calibrate` and `edge-mtl recalibrate`: new calibration frames for a bundle, checked, and the way back.

Knows what to say; choosing, gating and swapping are in edge_mtl.builder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_mtl.builder.recalibrate import Recalibration, recalibrate
from edge_mtl.bundle import find
from edge_mtl.calibration.sampling import Chosen, Embedding
from edge_mtl.commands.terminal import Terminal
from edge_mtl.commands.verify import STEPS as VERIFY_STEPS
from edge_mtl.commands.verify import show as show_verification
from edge_mtl.engine_store.revision import rollback
from edge_mtl.evaluation.budget import Budget
from edge_mtl.sources.recordings import FrameSource, open_frames
from edge_mtl.tasks import headlines

__all__ = ["STEPS", "ChoiceOptions", "go_back", "report_choice", "run", "run_source"]

STEPS: Mapping[str, str] = {
    **VERIFY_STEPS,
    "wait": "waiting for another process that changes this bundle",
    "look": "looking at frames",
    "read": "reading the chosen frames",
    "quantize": "quantizing",
    "self-test": "self-test on golden frames",
    "time": "timing whole frames, interleaved",
    "store": "storing engines",
}

_MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class ChoiceOptions:
    """How frames are chosen: see `edge_mtl.calibration.sampling.choose_frames` and `open_frames`."""

    count: int | None = None
    seed: int = 0
    embedding: Embedding = "network"
    topic: str | None = None
    every: int = 1


def run(
    terminal: Terminal,
    path: Path | None,
    source: Path,
    options: ChoiceOptions,
    *,
    budget: Budget | None,
    engines: bool,
    backend: str,
    threads: int | None,
    recipe: Path | None = None,
) -> None:
    """Calibrate with frames of `source`. Raises as `edge_mtl.builder.recalibrate.recalibrate` does."""
    frames = open_frames(source, topic=options.topic, every=options.every)
    run_source(terminal, path, frames, options, budget=budget, engines=engines, backend=backend, threads=threads, recipe=recipe)


def run_source(
    terminal: Terminal,
    path: Path | None,
    source: FrameSource,
    options: ChoiceOptions,
    *,
    budget: Budget | None,
    engines: bool,
    backend: str = "auto",
    threads: int | None = None,
    recipe: Path | None = None,
) -> None:
    """As `run`, with frames from anywhere."""
    bundle = find(path)
    with terminal.steps() as step:
        done = recalibrate(
            bundle.path,
            source,
            recipe=recipe,
            count=options.count,
            seed=options.seed,
            embedding=options.embedding,
            budget=budget,
            engines=engines,
            backend=backend,
            threads=threads,
            progress=lambda name, number, total: step(STEPS.get(name, name), number, total),
        )
    _report(terminal, done)


def go_back(terminal: Terminal, path: Path | None, *, to: int | None) -> None:
    """Put the revision before, or a named one, back in place. Raises BundleError where there is none."""
    bundle = rollback(path if path is not None else find().path, to=to)
    if terminal.json_output:
        terminal.record({"bundle": str(bundle.path), "revision": bundle.manifest.revision})
    terminal.show(f"{bundle.path} is revision {bundle.manifest.revision} again. Restart what uses it.")


def report_choice(terminal: Terminal, chosen: Chosen) -> None:
    """How many frames were used, and what was wrong with others."""
    terminal.show(
        f"{len(chosen.frames)} of {chosen.considered} frames of {chosen.source} chosen by {chosen.embedding}, "
        f"seed {chosen.seed}; the others are at most {chosen.reach:.2f} of the spread from one of them."
    )
    kinds = Counter(entry.reason.partition(":")[0].partition(" of ")[0] for entry in chosen.dropped)
    if kinds:
        terminal.show("Left out: " + ", ".join(f"{number} {kind}" for kind, number in kinds.items()) + ".")
    for entry in chosen.dropped[:_MOST_NAMED]:
        terminal.show(f"  {entry.name}: {entry.reason}")
    if len(chosen.dropped) > _MOST_NAMED:
        terminal.show(f"  and {len(chosen.dropped) - _MOST_NAMED} more; --json names all")


def _report(terminal: Terminal, done: Recalibration) -> None:
    for warning in done.warnings:
        terminal.note(f"warning: {warning}")
    if terminal.json_output:
        terminal.record(_content(done))
        return
    report_choice(terminal, done.chosen)
    if done.labelled is not None:
        show_verification(terminal, done.bundle.name, done.labelled)
    before = f"; before {_agreement(done.before)}" if done.before else ""
    frames = done.field.card["measured"]["frames"]["count"]
    terminal.show(f"Agreement with FP32 on {frames} frames of {done.chosen.source}: {_agreement(done.after)}{before}.")
    if done.build is not None:
        engine = done.build.chosen
        terminal.show(f"Engine: {engine.name} on {engine.backend}, {engine.latency_ms:.1f} ms a frame. {engine.reason}.")
    path, revision = done.bundle.path, done.bundle.manifest.revision
    back = f"edge-mtl recalibrate {path} --rollback --to {done.previous}"
    terminal.show(f"{path} is now revision {revision}; restart what uses it. Back: {back}")


def _content(done: Recalibration) -> dict[str, Any]:
    return {
        "bundle": str(done.bundle.path),
        "revision": done.bundle.manifest.revision,
        "previous": done.previous,
        "calibration": done.bundle.manifest.calibration,
        "dropped": done.chosen.dropped,
        "reach": done.chosen.reach,
        "agreement": done.after,
        "agreement_before": done.before,
        "card": done.bundle.manifest.card,
        "engine": done.build.record if done.build is not None else None,
        "warnings": done.warnings,
    }


def _agreement(values: Mapping[str, float]) -> str:
    return ", ".join(f"{measure.title} {measure.show(values[key])}" for key, measure in headlines(values).items())
