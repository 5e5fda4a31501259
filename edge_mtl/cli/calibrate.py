"""`edge-mtl calibrate`: new calibration frames for a bundle, INT8 graphs that are checked, and the way back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP,
    BackendOption,
    BitsOption,
    BundleOption,
    CountOption,
    EmbeddingOption,
    EveryOption,
    JsonOption,
    MaxDropOption,
    QuietOption,
    RecipeOption,
    SeedOption,
    ThreadsOption,
    TopicOption,
    UsageError,
    block,
    parse_budget,
    parse_embedding,
)
from edge_mtl.cli.terminal import Terminal
from edge_mtl.cli.verify import STEPS as VERIFY_STEPS
from edge_mtl.cli.verify import show as show_verification
from edge_mtl.errors import BuildError
from edge_mtl.files import atomic_directory
from edge_mtl.remedies import told
from edge_mtl.tasks import headlines

if TYPE_CHECKING:
    from edge_mtl.builder.recalibrate import Recalibration
    from edge_mtl.calibration.sampling import Chosen, Embedding
    from edge_mtl.evaluation.budget import Budget
    from edge_mtl.sources.frame_source import FrameSource

__all__ = ["SamplingOptions", "calibrate", "calibrate_with", "go_back", "write_choice"]

_STEPS: Mapping[str, str] = {
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
class SamplingOptions:
    """How frames are chosen: see `edge_mtl.calibration.sampling.choose_frames`."""

    count: int | None = None
    seed: int = 0
    embedding: Embedding = "network"


@app.command(
    short_help="Calibrate a bundle with frames like those it will see.",
    epilog=block(
        "Examples:",
        "edge-mtl calibrate my-dataset --bundle bundles/rooms-b0",
        "edge-mtl calibrate tour.mp4 --bundle bundles/rooms-b0 --every 10 --count 48",
        "edge-mtl calibrate tour.mcap --bundle bundles/rooms-b0 --topic /camera/image_raw --engines",
        "edge-mtl calibrate tour.mp4 --out chosen-frames",
        "edge-mtl calibrate --bundle bundles/rooms-b0 --rollback",
    ),
)
def calibrate(
    source: Annotated[
        Path | None,
        typer.Argument(metavar="[SOURCE]", help="A folder (of a dataset its train folder), a video or a ROS bag."),
    ] = None,
    bundle: BundleOption = None,
    engines: Annotated[
        bool, typer.Option("--engines", help="Also build the engines of this device, and swap all in in one step.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the revision before.")] = False,
    to: Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="With --rollback: this revision.")] = None,
    recipe: RecipeOption = None,
    count: CountOption = None,
    seed: SeedOption = 0,
    embedding: EmbeddingOption = "network",
    topic: TopicOption = None,
    every: EveryOption = 1,
    bits: BitsOption = 16,
    max_drop: MaxDropOption = MAX_DROP,
    backend: BackendOption = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Only write the chosen frames there, as images.")
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Choose calibration frames for a bundle, make INT8 graphs with them, and check the accuracy of the result.

    Frames are chosen so that they cover the source; black, blurred and doubled ones are left out and named. INT8 graphs
    made with them must stay within the budget; then frames, graphs and card go into the bundle as a new revision, with
    --engines together with the engines of this device. Until that last step nothing is changed: whatever happens before, the
    bundle is as it was. The revision before stays beside it, and --rollback puts it back. A run that was interrupted
    continues where it stopped.
    """
    terminal = Terminal(json_output=json, quiet=quiet)
    if rollback:
        if source is not None or recipe is not None or engines or out is not None:
            raise UsageError("expected either --rollback, or frames and perhaps a recipe; found both.")
        go_back(terminal, bundle, to=to)
        return
    if source is None or to is not None:
        found = "--to without --rollback" if to is not None else "neither"
        raise UsageError(f"expected SOURCE, a folder, a video or a ROS bag, or --rollback; found {found}.")
    if backend != "auto" and not engines:
        raise UsageError(f"--backend is of the engines that --engines builds: give both, or leave --backend {backend} away.")
    if out is not None and (recipe is not None or engines):
        raise UsageError(
            "--recipe and --engines say what becomes of the chosen frames, and --out only writes them. Choose one."
        )
    options = SamplingOptions(count, seed, parse_embedding(embedding))
    budget = parse_budget(max_drop)
    from edge_mtl.calibration.source import open_calibration_source

    frames = open_calibration_source(source, topic=topic, every=every, bits=bits, on_end=terminal.early_end)
    if out is not None:
        write_choice(terminal, bundle, frames, options, out, threads=threads)
    else:
        calibrate_with(
            terminal, bundle, frames, options, budget=budget, engines=engines, backend=backend, threads=threads, recipe=recipe
        )
    terminal.finish()


def calibrate_with(
    terminal: Terminal,
    path: Path | None,
    source: FrameSource,
    options: SamplingOptions,
    *,
    budget: Budget | None,
    engines: bool,
    backend: str = "auto",
    threads: int | None = None,
    recipe: Path | None = None,
) -> None:
    """Calibrate with the frames of `source`. Raises as `edge_mtl.builder.recalibrate.recalibrate` does."""
    from edge_mtl.builder.recalibrate import recalibrate
    from edge_mtl.bundle import find

    bundle = find(path)
    terminal.note_left_out(source.left_out)
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
            progress=lambda name, number, total: step(_STEPS.get(name, name), number, total),
        )
    _report(terminal, done)


def write_choice(
    terminal: Terminal,
    path: Path | None,
    source: FrameSource,
    options: SamplingOptions,
    out: Path,
    *,
    threads: int | None = None,
) -> None:
    """Choose frames of `source` for a bundle and write them to the new folder `out`, all or none.

    Raises:
        BuildError: `out` exists, or cannot be written.
    """
    from edge_mtl.bundle import find
    from edge_mtl.calibration.sampling import choose_frames, encode_frames
    from edge_mtl.quantization.learned import int8_recipe

    bundle = find(path)
    if out.exists():
        raise BuildError(f"{out} exists already. Remove it or name another folder.")
    terminal.note_left_out(source.left_out)
    rules = int8_recipe(bundle)
    with terminal.steps() as step:
        chosen, _ = choose_frames(
            source,
            bundle,
            count=options.count or rules.calibration.frames,
            seed=options.seed,
            embedding=options.embedding,
            unreadable_share=rules.calibration.unreadable_share,
            threads=threads,
            progress=lambda name, done, total: step(_STEPS.get(name, name), done, total),
        )
    files, digest = encode_frames(chosen.frames)
    try:
        with atomic_directory(out) as folder:
            for name, payload in files.items():
                (folder / Path(name).name).write_bytes(payload)
    except (OSError, FileExistsError) as exc:
        raise BuildError(f"{out} could not be written {told(exc)} Nothing was left behind.") from exc
    if terminal.json_output:
        facts = {"count": len(files), "digest": digest, **chosen.facts()}
        terminal.record({"out": str(out), "calibration": facts, "dropped": chosen.dropped, "reach": chosen.reach})
    _report_choice(terminal, chosen)
    terminal.show(f"{len(files)} images in {out}. Use them: edge-mtl build-engine {bundle.path} --int8 --calibration {out}")


def go_back(terminal: Terminal, path: Path | None, *, to: int | None) -> None:
    """Put the revision before, or a named one, back in place. Raises BundleError where there is none."""
    from edge_mtl.bundle import find
    from edge_mtl.engine_store.revision import rollback

    bundle = rollback(path if path is not None else find().path, to=to)
    if terminal.json_output:
        terminal.record({"bundle": str(bundle.path), "revision": bundle.manifest.revision})
    terminal.show(f"{bundle.path} is revision {bundle.manifest.revision} again. Restart what uses it.")


def _report_choice(terminal: Terminal, chosen: Chosen) -> None:
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
        terminal.warn(warning)
    if terminal.json_output:
        terminal.record(_content(done))
        return
    _report_choice(terminal, done.chosen)
    if done.labelled is not None:
        show_verification(terminal, done.bundle.name, done.labelled)
    before = f"; before {_agreement(done.before)}" if done.before else ""
    frames = done.field.card["measured"]["frames"]["count"]
    terminal.show(f"Agreement with FP32 on {frames} frames of {done.chosen.source}: {_agreement(done.after)}{before}.")
    if done.build is not None:
        engine = done.build.chosen
        terminal.show(f"Engine: {engine.name} on {engine.backend}, {engine.latency_ms:.1f} ms a frame. {engine.reason}.")
    path, revision = done.bundle.path, done.bundle.manifest.revision
    back = f"edge-mtl calibrate --bundle {path} --rollback --to {done.previous}"
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
