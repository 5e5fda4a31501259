"""`edge-mtl verify`: what every graph of a bundle scores, whether it is within its budget, and the card in the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from edge_mtl.cli.application import app
from edge_mtl.cli.arguments import (
    MAX_DROP,
    BackendOption,
    BundleArgument,
    JsonOption,
    MaxDropOption,
    QuietOption,
    ThreadsOption,
    UsageError,
    block,
    parse_budget,
)
from edge_mtl.cli.terminal import Terminal, table
from edge_mtl.files import require_writable, write_atomic
from edge_mtl.tasks import headlines

if TYPE_CHECKING:
    from edge_mtl.evaluation.budget import Check
    from edge_mtl.evaluation.scores import Score
    from edge_mtl.evaluation.verify import Verification

__all__ = ["STEPS", "show", "verify"]

STEPS: Mapping[str, str] = {
    "calibrate": "running calibration frames",
    "equalise": "looking at scales",
    "evaluate": "scoring on frames",
    "worst": "drawing the worst frames",
    "noise": "measuring noise, block by block",
}

_CARD_FILE = "card.json"


@app.command(
    short_help="Measure every engine of a bundle against FP32 and a budget.",
    epilog=block(
        "Examples:",
        "edge-mtl verify bundles/rooms-b0",
        "edge-mtl verify bundles/rooms-b0 --data my-labelled-frames --max-drop miou=0.005,normal=0.3",
        "edge-mtl verify bundles/rooms-b0 --no-write --json | jq .passed",
        "edge-mtl verify bundles/rooms-b0 --signature --public-key edge-mtl.pub",
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
    signature: Annotated[
        bool, typer.Option("--signature", help="Measure nothing: check who signed the bundle, and every file.")
    ] = False,
    public_key: Annotated[
        str | None,
        typer.Option(
            "--public-key", metavar="FILE|TEXT", help="For --signature: the signer's, a file or its Base64.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Measure every engine of a bundle against FP32 and a budget, and write the accuracy card.

    Accuracy per head and class, calibration error, noise block by block and the worst frames go into the bundle, where one
    is named, as a new revision; the old one is kept. Fails with exit code 8 where a head loses more than --max-drop; the
    bundle is then left as it was.

    \b
    DIR holds NAME.jpg or .png, and beside it, where labelled:
    NAME.label.png    class index, 255 void
    NAME.depth.png    16 bits, 0 unknown; in the unit that it states (those of predict do), else fifths of a millimetre;
                      of a task that reaches beyond 13 m it states one
    NAME.normals.png  128 + 127 n as RGB, 0 unknown
    NAME.TASK.json    of boxes {"boxes": [{"class": "chair", "xyxy": [10, 20, 99, 80]}]}, of a class {"class": "office"}
                      edges in pixels, whose centres are at whole numbers: all of 640x480 is [-0.5, -0.5, 639.5, 479.5]
    intrinsics.json   {"NAME": [fx, fy, cx, cy]}, with or without the image's suffix

    Without labels only the difference from FP32's own answers is judged. Where FP32 itself is no better than a guess on the
    labels, nothing is judged.
    """
    if signature != (public_key is not None):
        raise UsageError("--signature and --public-key FILE belong together; found one of them.")
    if public_key is not None:
        _check_signature(Terminal(json_output=json, quiet=quiet), bundle, public_key)
        return
    from edge_mtl.bundle import find
    from edge_mtl.evaluation.budget import DEFAULT_BUDGET
    from edge_mtl.evaluation.labelled_frames import labelled_folder
    from edge_mtl.evaluation.verify import verify as measure
    from edge_mtl.evaluation.verify import write_card

    terminal, budget = Terminal(json_output=json, quiet=quiet), parse_budget(max_drop)
    opened = find(bundle)
    if out is not None:
        require_writable(out)
    frames = None if data is None else labelled_folder(data, opened.manifest.input, opened.manifest.tasks)
    with terminal.steps() as step:
        found = measure(
            opened,
            frames=frames,
            budget=budget or DEFAULT_BUDGET,
            backend=backend,
            threads=threads,
            progress=lambda name, done, total: step(STEPS.get(name, name), done, total),
        )
    # A bundle that nobody named, or only by its name, is only measured: it may be one that every project here shares.
    accepted = found.passed or (budget is None and not found.failed and not found.unfit)
    written = write_card(opened, found) if write and opened.path == bundle and accepted and found.verdicts else None
    if terminal.json_output:
        revision = written.manifest.revision if written is not None else None
        terminal.record({"bundle": str(opened.path), "passed": found.passed, "revision": revision, "card": found.card})
    show(terminal, opened.name, found)
    if out is not None:
        _write(found, out)
        terminal.show(f"{out / _CARD_FILE} and {len(found.images)} images of the worst frames written.")
    if written is not None:
        terminal.show(f"The card is in {opened.path}, revision {written.manifest.revision}.")
    if not accepted:
        found.require()
    for graph, verdict in found.verdicts.items():
        for line in verdict.failures:
            terminal.warn(f"{graph} loses more than it should: {line}")


def _check_signature(terminal: Terminal, named: Path | None, public_key: str) -> None:
    """Say who signed the bundle, once every file was found to be what was signed."""
    from edge_mtl.bundle import find

    bundle = find(named, public_key=public_key)
    with terminal.steps() as step:
        names = list(bundle.manifest.files)
        bundle.verify(progress=lambda name: step("checking files", names.index(name) + 1, len(names)))
    assert bundle.signed is not None
    if terminal.json_output:
        content = {"bundle": str(bundle.path), "revision": bundle.manifest.revision, "files": len(bundle.manifest.files)}
        terminal.record({**content, "key": bundle.signed.key, "comment": bundle.signed.comment})
    terminal.show(
        f"{bundle.path}: signed by the key {bundle.signed.key}; its {len(bundle.manifest.files)} files are what was signed.",
        f"Trusted comment: {bundle.signed.comment}",
    )


def _write(found: Verification, out: Path) -> None:
    """The card as JSON and its images, beside one another."""
    for name, payload in found.images.items():
        write_atomic(out / Path(name).name, payload)
    write_atomic(out / _CARD_FILE, (dumps(found.card, indent=2) + "\n").encode())


def show(terminal: Terminal, name: str, found: Verification) -> None:
    """Scores, noise and verdicts."""
    frames = found.card["measured"]["frames"]
    kind = "labelled" if found.labelled else "unlabelled"
    terminal.show(_scores(f"{name}: {frames['count']} {kind} frames ({frames['source']})", found))
    for graph, verdict in found.verdicts.items():
        state = "NOT COMPARABLE" if found.unfit else "within budget" if verdict.passed else "OUT OF BUDGET"
        terminal.show(f"{graph}: {state}. {'; '.join(map(_check, verdict.checks)) or 'nothing to compare'}")
    if found.unfit:
        terminal.show(found.unfit)
    for graph, why in found.failed.items():
        terminal.show(f"{graph}: could not be run. {why}")
    for remark in found.card["measured"].get("remarks", ()):
        terminal.show(remark)
    if not found.verdicts and not found.failed:
        terminal.show("There is nothing to verify but FP32: the bundle has neither engines here nor calibration frames.")
    if found.sqnr:
        terminal.show(_noise(found.sqnr))


def _scores(title: str, found: Verification) -> Table:
    from edge_mtl.evaluation.verify import REFERENCE

    metrics = headlines(*(score.accuracy for score in found.scores.values()))
    errors = list(dict.fromkeys(key for score in found.scores.values() for key in score.details if key.endswith("ece")))
    headers = [measure.title for measure in metrics.values()] + [f"{key[:-3]}ECE %" for key in errors]
    result = table(title, "graph", "agreement with FP32", *headers, right=tuple(headers))
    for graph, score in found.scores.items():
        cells = [measure.show(score.accuracy[key]) if key in score.accuracy else "–" for key, measure in metrics.items()]
        cells += [_number(score.details.get(key), 100.0, ".2f") for key in errors]
        result.add_row(graph, "" if graph == REFERENCE else _agreement(score), *cells)
    return result


def _noise(sqnr: Mapping[str, Mapping[str, float]]) -> Table:
    graphs = tuple(sqnr)
    result = table("Signal to quantization noise, dB", "block", *graphs, right=graphs)
    for name in dict.fromkeys(name for blocks in sqnr.values() for name in blocks):
        result.add_row(name, *(_number(sqnr[graph].get(name), 1.0, ".1f") for graph in graphs))
    return result


def _agreement(score: Score) -> str:
    shown = headlines(score.agreement)
    return " / ".join(measure.show(score.agreement[key]) for key, measure in shown.items()) or "–"


def _check(check: Check) -> str:
    factor, unit = (1.0, "°") if check.unit == "°" else (100.0, "")
    interval = ""
    if check.low is not None and check.high is not None:
        interval = f" ({factor * check.low:+.2f} to {factor * check.high:+.2f})"
    found = f"{factor * check.found:+.2f}" if check.low is not None else f"{factor * check.found:.2f}"
    return f"{check.name} {found}{unit}{interval} of {factor * check.allowed:g}{unit}"


def _number(value: float | None, factor: float, form: str) -> str:
    return "–" if value is None else f"{value * factor:{form}}"
