"""`edge-mtl verify`: what every graph of a bundle scores, whether it is within its budget, and the card in the bundle.

Knows tables; what is measured and allowed is decided in edge_mtl.builder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from edge_mtl.bundle import find
from edge_mtl.commands.out_folder import require_writable
from edge_mtl.commands.terminal import Terminal, table
from edge_mtl.evaluation.budget import DEFAULT_BUDGET, Budget, Check
from edge_mtl.evaluation.labelled_frames import labelled_folder
from edge_mtl.evaluation.scores import Score
from edge_mtl.evaluation.verify import REFERENCE, Verification, verify, write_card
from edge_mtl.files import write_atomic
from edge_mtl.tasks import headlines

__all__ = ["STEPS", "run", "show"]

STEPS: Mapping[str, str] = {
    "calibrate": "running calibration frames",
    "equalise": "looking at scales",
    "evaluate": "scoring on frames",
    "worst": "drawing the worst frames",
    "noise": "measuring noise, block by block",
}

_CARD_FILE = "card.json"


def run(
    terminal: Terminal,
    path: Path | None,
    *,
    data: Path | None,
    budget: Budget | None,
    backend: str,
    threads: int | None,
    write: bool,
    out: Path | None = None,
) -> None:
    """Measure, show, write the card if everything passed and the bundle was named.

    Args:
        budget: None takes any loss, with a warning; the card says what is out of the usual budget.
        out: folder for card and images, also where something did not pass: that is when one wants to look.
    Raises:
        BuildError: `out` cannot be written to.
        AccuracyError: a head of a graph is out of budget; the bundle is as it was.
        BundleError: the bundle or the frames cannot be used, or the card cannot be written.
    """
    bundle = find(path)
    if out is not None:
        require_writable(out)
    frames = None if data is None else labelled_folder(data, bundle.manifest.input, bundle.manifest.tasks)
    with terminal.steps() as step:
        found = verify(
            bundle,
            frames=frames,
            budget=budget or DEFAULT_BUDGET,
            backend=backend,
            threads=threads,
            progress=lambda name, done, total: step(STEPS.get(name, name), done, total),
        )
    # A bundle that nobody named is only measured: it may be the one that every project on this machine shares.
    accepted = found.passed or (budget is None and not found.failed)
    written = write_card(bundle, found) if write and path is not None and accepted and found.verdicts else None
    if terminal.json_output:
        revision = written.manifest.revision if written is not None else None
        terminal.record({"bundle": str(bundle.path), "passed": found.passed, "revision": revision, "card": found.card})
    show(terminal, bundle.name, found)
    if out is not None:
        _write(found, out)
        terminal.show(f"{out / _CARD_FILE} and {len(found.images)} images of the worst frames written.")
    if written is not None:
        terminal.show(f"The card is in {bundle.path}, revision {written.manifest.revision}.")
    if not accepted:
        found.require()
    for graph, verdict in found.verdicts.items():
        for line in verdict.failures:
            terminal.note(f"warning: {graph} loses more than it should: {line}")


def _write(found: Verification, out: Path) -> None:
    """The card as JSON and its images, beside one another."""
    for name, payload in found.images.items():
        write_atomic(out / Path(name).name, payload)
    write_atomic(out / _CARD_FILE, (json.dumps(found.card, indent=2) + "\n").encode())


def show(terminal: Terminal, name: str, found: Verification) -> None:
    """Scores, noise and verdicts."""
    frames = found.card["measured"]["frames"]
    kind = "labelled" if found.labelled else "unlabelled"
    terminal.show(_scores(f"{name}: {frames['count']} {kind} frames ({frames['source']})", found))
    for graph, verdict in found.verdicts.items():
        state = "within budget" if verdict.passed else "OUT OF BUDGET"
        terminal.show(f"{graph}: {state}. {'; '.join(map(_check, verdict.checks)) or 'nothing to compare'}")
    for graph, why in found.failed.items():
        terminal.show(f"{graph}: could not be run. {why}")
    if not found.verdicts and not found.failed:
        terminal.show("There is nothing to verify but FP32: the bundle has neither engines here nor calibration frames.")
    if found.sqnr:
        terminal.show(_noise(found.sqnr))


def _scores(title: str, found: Verification) -> Table:
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
    for block in dict.fromkeys(name for blocks in sqnr.values() for name in blocks):
        result.add_row(block, *(_number(sqnr[graph].get(block), 1.0, ".1f") for graph in graphs))
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
