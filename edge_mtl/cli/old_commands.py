"""Commands that had another name in 0.1: they are hidden, do the same, and name the new form. All of them go away in 0.3."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP,
    BackendOption,
    BundleArgument,
    BundleOption,
    CountOption,
    DeviceOption,
    EmbeddingOption,
    EngineOptions,
    EveryOption,
    JsonOption,
    LimitOption,
    MaxDropOption,
    PrecisionOption,
    RecipeOption,
    SeedOption,
    ThreadsOption,
    TopicOption,
    UsageError,
    check_choice,
    parse_budget,
    parse_embedding,
    parse_intrinsics,
)
from edge_mtl.cli.calibrate import SamplingOptions, calibrate_with, go_back
from edge_mtl.cli.predict import (
    STORAGES,
    CameraInfoOption,
    ConnectOption,
    IntrinsicsOption,
    PointsOption,
    RectifiedOption,
    StabilityOption,
    StorageOption,
    check_places,
    parse_files,
)
from edge_mtl.cli.predict_loop import BAG, PredictOptions, run
from edge_mtl.cli.renamed import say_renamed
from edge_mtl.cli.terminal import Terminal

__all__ = ["infer", "recalibrate", "run_bag", "view"]

_SourceArgument = Annotated[str, typer.Argument(metavar="SOURCE")]


def _renamed(name: str, new: str) -> Any:
    return app.command(name, hidden=True, short_help=f"The old name of edge-mtl {new}.")


@_renamed("infer", "predict")
def infer(
    source: _SourceArgument,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR")] = None,
    save: Annotated[str, typer.Option("--save", metavar="LIST")] = "panel",
    intrinsics: IntrinsicsOption = None,
    limit: LimitOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """The old name of `edge-mtl predict`; its --save LIST is --files LIST there."""
    files = "" if save == "panel" else f" --files {save}"
    say_renamed("edge-mtl infer", f"edge-mtl predict{files}")
    kinds, camera = parse_files("--save", save), parse_intrinsics(intrinsics)
    folder = out if out is not None or json else Path("out")
    options = PredictOptions(out=folder, files=kinds, intrinsics=camera, limit=limit)
    run(Terminal(json_output=json), source, EngineOptions(bundle, backend, precision, threads, device), options)


@_renamed("view", "predict --view")
def view(
    source: _SourceArgument,
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE")] = None,
    connect: ConnectOption = None,
    intrinsics: IntrinsicsOption = None,
    topic: TopicOption = None,
    limit: LimitOption = None,
    points: PointsOption = 2,
    stability: StabilityOption = False,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """The old name of `edge-mtl predict --view`, or with --save FILE.rrd, of `edge-mtl predict --save FILE.rrd`."""
    where = (
        " --view" if save is None and connect is None else f" --save {save}" if save is not None else f" --connect {connect}"
    )
    say_renamed("edge-mtl view", f"edge-mtl predict{where}")
    check_places(save, connect)
    options = PredictOptions(
        view=True,
        save=save,
        connect=connect,
        points=points,
        intrinsics=parse_intrinsics(intrinsics),
        topic=topic,
        stability=stability,
        limit=limit,
        summary=True,
    )
    run(Terminal(json_output=json), source, EngineOptions(bundle, backend, precision, threads, device), options)


@_renamed("run-bag", "predict")
def run_bag(
    bag: Annotated[Path, typer.Argument(metavar="BAG")],
    bundle: BundleOption = None,
    backend: BackendOption = "auto",
    precision: PrecisionOption = "auto",
    device: DeviceOption = "auto",
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR")] = None,
    topic: TopicOption = None,
    camera_info: CameraInfoOption = None,
    rectified: RectifiedOption = False,
    storage: StorageOption = "same",
    stability: StabilityOption = False,
    limit: LimitOption = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """The old name of `edge-mtl predict BAG`."""
    say_renamed("edge-mtl run-bag", "edge-mtl predict")
    check_choice("--storage", storage, STORAGES)
    from edge_mtl.outputs.annotated_bag import default_target

    options = PredictOptions(
        out=out or default_target(bag),
        files=(BAG,),
        topic=topic,
        camera_info=camera_info,
        rectified=rectified,
        storage=storage,
        stability=stability,
        limit=limit,
        summary=True,
    )
    run(Terminal(json_output=json), str(bag), EngineOptions(bundle, backend, precision, threads, device), options)


@_renamed("recalibrate", "calibrate --engines")
def recalibrate(
    bundle: BundleArgument = None,
    bag: Annotated[Path | None, typer.Option("--bag", metavar="BAG")] = None,
    folder: Annotated[Path | None, typer.Option("--folder", metavar="DIR")] = None,
    video: Annotated[Path | None, typer.Option("--video", metavar="FILE")] = None,
    rollback: Annotated[bool, typer.Option("--rollback", help="Go back to the revision before.")] = False,
    to: Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="With --rollback: this revision.")] = None,
    recipe: RecipeOption = None,
    count: CountOption = None,
    seed: SeedOption = 0,
    embedding: EmbeddingOption = "network",
    topic: TopicOption = None,
    every: EveryOption = 1,
    max_drop: MaxDropOption = MAX_DROP,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """The old name of `edge-mtl calibrate SOURCE --engines` and of `edge-mtl calibrate --rollback`."""
    given = {"--bag": bag, "--folder": folder, "--video": video}
    sources = [(option, path) for option, path in given.items() if path is not None]
    named = "" if bundle is None else f" --bundle {bundle}"
    terminal = Terminal(json_output=json)
    if rollback:
        if sources or recipe is not None:
            raise UsageError("expected either --rollback, or frames and perhaps a recipe; found both.")
        say_renamed("edge-mtl recalibrate", f"edge-mtl calibrate{named} --rollback")
        go_back(terminal, bundle, to=to)
        return
    if len(sources) != 1 or to is not None:
        found = "--to without --rollback" if to is not None else f"{len(sources)} of them"
        raise UsageError(f"expected one of --bag, --folder, --video, or --rollback; found {found}.")
    options, budget = SamplingOptions(count, seed, parse_embedding(embedding)), parse_budget(max_drop)
    from edge_mtl.calibration.source import open_calibration_source

    option, path = sources[0]
    say_renamed("edge-mtl recalibrate", f"edge-mtl calibrate {path}{named} --engines")
    frames = open_calibration_source(path, topic=topic, every=every, on_end=terminal.early_end)
    kind = "folder" if frames.kind == "train split" else frames.kind
    if option != f"--{kind}":
        raise UsageError(f"{option} was given, and {path} is for --{kind}. Give it with that.")
    calibrate_with(
        terminal, bundle, frames, options, budget=budget, engines=True, backend=backend, threads=threads, recipe=recipe
    )
    terminal.finish()
