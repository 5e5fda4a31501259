"""Commands about what integers cost and how they are calibrated.

Each imports what it needs when it runs, so that `edge-mtl --help` starts no runtime.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP,
    BackendOption,
    BundleArgument,
    BundleOption,
    CountOption,
    EmbeddingOption,
    EveryOption,
    JsonOption,
    MaxDropOption,
    RecipeOption,
    SeedOption,
    ThreadsOption,
    TopicOption,
    UsageError,
    block,
    check_choice,
    parse_budget,
    parse_embedding,
)
from edge_mtl.commands.terminal import Terminal

__all__ = ["calibrate", "recalibrate", "sensitivity", "verify"]


@app.command(
    short_help="Measure every engine of a bundle against FP32 and a budget.",
    epilog=block(
        "Examples:",
        "edge-mtl verify bundles/rooms-b0",
        "edge-mtl verify bundles/rooms-b0 --data my-labelled-frames --max-drop miou=0.005,normal=0.3",
        "edge-mtl verify bundles/rooms-b0 --no-write --json | jq .passed",
    ),
)
def verify(
    bundle: BundleArgument = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Frames to measure on; default: the bundle's evaluation frames."),
    ] = None,
    max_drop: MaxDropOption = MAX_DROP,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    write: Annotated[bool, typer.Option("--write/--no-write", help="Put the card into the bundle.")] = True,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Also write card and worst frames there, whatever the verdict."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure every engine of a bundle against FP32 and a budget, and write the accuracy card.

    Accuracy per head and class, calibration error, noise block by block and the worst frames go into the bundle, where one
    is named, as a new revision; the old one is kept. Fails with exit code 8 where a head loses more than --max-drop; the
    bundle is then left as it was.

    \b
    DIR holds NAME.jpg or .png, and beside it, where labelled:
    NAME.label.png    class index, 255 void
    NAME.depth.png    16 bits, fifths of a millimetre, 0 unknown
    NAME.normals.png  128 + 127 n as RGB, 0 unknown
    intrinsics.json   {"NAME": [fx, fy, cx, cy]}

    Without labels only the difference from FP32's own answers is judged.
    """
    from edge_mtl.commands.verify import run

    run(
        Terminal(json_output=json),
        bundle,
        data=data,
        budget=parse_budget(max_drop),
        backend=backend,
        threads=threads,
        write=write,
        out=out,
    )


@app.command(
    short_help="Choose calibration frames for a bundle, and check the accuracy of the result.",
    epilog=block(
        "Examples:",
        "edge-mtl calibrate my-dataset --bundle bundles/rooms-b0",
        "edge-mtl calibrate tour.mp4 --bundle bundles/rooms-b0 --every 10 --count 48",
        "edge-mtl calibrate tour.mp4 --out chosen-frames",
    ),
)
def calibrate(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="A folder (of a dataset its train folder), a video or a ROS bag.")
    ],
    bundle: BundleOption = None,
    recipe: RecipeOption = None,
    count: CountOption = None,
    seed: SeedOption = 0,
    embedding: EmbeddingOption = "network",
    topic: TopicOption = None,
    every: EveryOption = 1,
    max_drop: MaxDropOption = MAX_DROP,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Only write the chosen frames there, as images.")
    ] = None,
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Choose calibration frames for a bundle, and check the accuracy of the result.

    Frames are chosen so that they cover the source; black, blurred and doubled ones are left out and named. INT8 graphs
    made with them must stay within the budget; then frames, graphs and card go into the bundle as a new revision. A run
    that was interrupted goes on where it stopped.
    """
    from edge_mtl.commands.recalibrate import ChoiceOptions, run

    options = ChoiceOptions(count, seed, parse_embedding(embedding), topic, every)
    terminal, budget = Terminal(json_output=json), parse_budget(max_drop)
    if out is not None:
        if recipe is not None:
            raise UsageError("--recipe says how to quantize, and --out only writes the chosen frames. Give one of them.")
        from edge_mtl.commands.calibrate import write_choice
        from edge_mtl.sources.recordings import open_frames

        write_choice(terminal, bundle, open_frames(source, topic=topic, every=every), options, out, threads=threads)
        return
    run(terminal, bundle, source, options, budget=budget, engines=False, backend="auto", threads=threads, recipe=recipe)


@app.command(
    short_help="Calibrate a bundle on this device with its own frames.",
    epilog=block(
        "Examples:",
        "edge-mtl recalibrate bundles/rooms-b0 --bag tour.mcap --topic /camera/image_raw",
        "edge-mtl recalibrate bundles/rooms-b0 --folder images-of-my-robot",
        "edge-mtl recalibrate bundles/rooms-b0 --rollback",
    ),
)
def recalibrate(
    bundle: BundleArgument = None,
    bag: Annotated[Path | None, typer.Option("--bag", metavar="BAG", help="A ROS 1 or ROS 2 bag, a file or a folder.")] = None,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="A folder of images (of a dataset its train folder).")
    ] = None,
    video: Annotated[Path | None, typer.Option("--video", metavar="FILE", help="A video.")] = None,
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
    """Calibrate a bundle on this device with its own frames, check it against FP32, and swap it in one step.

    As `calibrate`, and the engines of this device are built as well. Until the last step nothing is changed: whatever
    happens before, the bundle is as it was. The revision before stays beside it, and --rollback puts it back.
    """
    from edge_mtl.commands.recalibrate import ChoiceOptions, go_back, run_source

    given = {"--bag": bag, "--folder": folder, "--video": video}
    sources = [(option, path) for option, path in given.items() if path is not None]
    terminal = Terminal(json_output=json)
    if rollback:
        if sources or recipe is not None:
            raise UsageError("expected either --rollback, or frames and perhaps a recipe; found both.")
        go_back(terminal, bundle, to=to)
        return
    if len(sources) != 1 or to is not None:
        found = "--to without --rollback" if to is not None else f"{len(sources)} of them"
        raise UsageError(f"expected one of --bag, --folder, --video, or --rollback; found {found}.")
    options, budget = ChoiceOptions(count, seed, parse_embedding(embedding), topic, every), parse_budget(max_drop)
    from edge_mtl.sources.recordings import open_frames

    option, path = sources[0]
    frames = open_frames(path, topic=topic, every=every)
    kind = "folder" if frames.kind == "train split" else frames.kind
    if option != f"--{kind}":
        raise UsageError(f"{option} was given, and {path} is for --{kind}. Give it with that.")
    run_source(
        terminal,
        bundle,
        frames,
        options,
        budget=budget,
        engines=True,
        backend=backend,
        threads=threads,
        recipe=recipe,
    )


@app.command(
    short_help="Rank a network's blocks by what integers cost and gain.",
    epilog=block(
        "Examples:",
        "edge-mtl sensitivity",
        "edge-mtl sensitivity bundles/rooms-b0 --target tensorrt --level layer",
    ),
)
def sensitivity(
    bundle: BundleArgument = None,
    target: Annotated[
        str, typer.Option("--target", metavar="NAME", help="Q/DQ style: onnxruntime, openvino, tensorrt, or a plug-in's.")
    ] = "onnxruntime",
    level: Annotated[str, typer.Option("--level", metavar="NAME", help="block, or layer.")] = "block",
    recipe: RecipeOption = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", metavar="DIR", help="Images for the INT8 ranges; default: those of the bundle."),
    ] = None,
    frames: Annotated[int, typer.Option("--frames", metavar="N", min=1, help="Labelled frames to score on.")] = 16,
    rounds: Annotated[int, typer.Option("--rounds", metavar="N", min=0, help="Timed runs per block; 0: none.")] = 12,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the JSON file and the image.")] = Path("out"),
    threads: ThreadsOption = None,
    json: JsonOption = False,
) -> None:
    """Rank a network's blocks by what integers cost and gain.

    Each block is quantized alone; its noise at every head, the accuracy that is lost and the time that is saved go into
    a table, an image and a JSON file. A run that was stopped goes on where it was.
    """
    from edge_mtl.backends import qdq_styles

    check_choice("--target", target, tuple(qdq_styles()))
    check_choice("--level", level, ("block", "layer"))
    from edge_mtl.commands.sensitivity import run

    run(
        Terminal(json_output=json),
        bundle,
        target=target,
        level=level,
        recipe=recipe,
        calibration=calibration,
        frames=frames,
        rounds=rounds,
        threads=threads,
        out=out,
    )
