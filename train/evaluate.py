"""Measure checkpoints, runs or bundles on held-out frames, in the columns of the study.

python train/evaluate.py bundles/rooms-quick --engines               the bundle's FP32 graph and the engines built here
python train/evaluate.py bundles/rooms-b0 --engines --root data/nyuv2 --classes --depth   on NYUv2's 654 test frames
python train/evaluate.py bundles/mine --engines --root data/nyuv2 --record   the same figures, kept in the bundle
python train/evaluate.py runs/rooms-b0                               last weights, and those chosen on validation frames
python train/evaluate.py runs/all --single runs/seg runs/depth       with delta-m against single-task models
python train/evaluate.py runs/all --out reports/all                  table and cosines of gradients as a report with images
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.arguments import size_argument
from mtl.surroundings import require_surroundings
from rich.progress import Progress

from edge_mtl.bench.conditions import Conditions
from edge_mtl.console import Console
from edge_mtl.errors import BuildError
from edge_mtl.files import write_atomic
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.remedies import told
from edge_mtl.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from mtl.datasets.frame import FrameSource
    from mtl.evaluation_targets import Chosen, EvaluationTarget, FrameChoice

    from edge_mtl.bundle import Bundle
    from edge_mtl.tasks import Specs

Metrics = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured of several models, by name; on a mixture also by name and source, "last, rooms".

    Attributes:
        metrics: the measures, with "step", "epoch" and "parameters" where known; not finite ones are None.
        details: "data", "split", how many "frames", their "size", "through" what they ran, how their "truths" were made, of
            which "source" of a mixture they are, "near_chance" (sentences) where answers are no better than guesses, and
            what metrics say besides.
    """

    metrics: dict[str, Metrics] = field(default_factory=dict)
    details: dict[str, dict[str, Any]] = field(default_factory=dict)


def main(arguments: list[str] | None = None) -> int:
    """Parse, measure, print; the exit code."""
    open_standard_streams()
    asked = _parser().parse_args(_with_save(sys.argv[1:] if arguments is None else arguments))
    console = Console(width=None if sys.stdout.isatty() else 160, stderr=asked.json)
    try:
        require_surroundings()
        from mtl.evaluation_targets import FrameChoice

        conditions = Conditions(["python", *sys.argv])
        frames = FrameChoice(asked.split, root=asked.root, count=asked.count, size=asked.size)
        bundle = _to_record(asked) if asked.record else None
        opened: dict[Any, FrameSource] = {}
        alone = measure(asked.single, frames=frames, weights="last", opened=opened)
        single = {name: one for name, one in alone.metrics.items() if "source" not in alone.details[name]}
        measured = measure(
            asked.models, frames=frames, weights=asked.weights, engines=asked.engines, threads=asked.threads, opened=opened
        )
        metrics = measured.metrics
        records = recorded(asked.models, average=asked.average)
        specs = {name: spec for source in opened.values() for name, spec in source.tasks.items()}
        _report(measured, single, records, specs, asked=asked, console=console)
        if bundle is not None:
            _record(bundle, measured, specs, conditions, console)
        if asked.out is not None:
            every = {**{f"single: {name}": one for name, one in single.items()}, **metrics}
            _write_report(asked, Measured(every, measured.details), records, specs, console)
        if asked.save is not None or asked.json:
            numbers = {"metrics": metrics, "details": measured.details, "single": single, "recorded_on_validation": records}
            models = list(map(str, asked.models))
            text = _text({"models": models, "split": asked.split, **conditions.describe(), **numbers})
            if asked.save is not None:
                _write(asked.save, text)
            if asked.json:
                sys.stdout.write(text)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"evaluate: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _to_record(asked: argparse.Namespace) -> Bundle:
    """The one bundle that figures are recorded in. Raises BundleError, BuildError where there is none, or none can be."""
    from edge_mtl.bundle import Bundle

    if len(asked.models) != 1:
        raise BuildError(f"--record is for one bundle, found {len(asked.models)} models. Measure them one after the other")
    if asked.split != "test":
        raise BuildError("--record is for test frames: validation frames chose the weights. Leave out --split")
    return Bundle.open(asked.models[0])


def _record(bundle: Bundle, measured: Measured, specs: Specs, conditions: Conditions, console: Console) -> None:
    from mtl.bundle_record import describe_record, put_record
    from mtl.study.truths import pseudo_keys

    pseudo = pseudo_keys((one["truths"] for one in measured.details.values()), specs)
    calibration = bundle.manifest.calibration.get("digest")
    name, record = describe_record(
        measured.metrics, measured.details, pseudo=pseudo, conditions=conditions.describe(), calibration=calibration
    )
    made = put_record(bundle, name, record)
    console.print(f"recorded in {made.path}, revision {made.manifest.revision}: {name}", highlight=False)


def measure(
    models: Sequence[Path],
    *,
    frames: FrameChoice,
    weights: Chosen,
    opened: dict[Any, FrameSource],
    engines: bool = False,
    threads: int | None = None,
) -> Measured:
    """Every model on the same frames: one confusion matrix over all their pixels, errors over all valid pixels.

    Args:
        frames: what to measure on.
        weights: which of a run's.
        engines: whether to measure a bundle's engines too.
        threads: of runtimes, by default one per core.
        opened: frames that are open already, by what they are; added to.
    Raises:
        EdgeMtlError: a model, the frames or a runtime cannot be used.
    """
    from mtl.datasets.frame import described_truths
    from mtl.datasets.sources import data_set, held_out_frames
    from mtl.evaluate import evaluate_fully
    from mtl.evaluation_targets import evaluation_targets
    from mtl.study.columns import EPOCH, PARAMETERS, STEP

    measured = Measured()
    named = _names(models)
    for path in models:
        for subject in evaluation_targets(path, weights=weights, engines=engines, frames=frames, threads=threads):
            request = held_out_frames(subject.data, frames.split)
            if request not in opened:
                opened[request] = request.open(workers=subject.data.workers, progress=True)
            source, canonical = opened[request], subject.data.canonical
            with _progress(subject, len(source)) as advance:
                found = evaluate_fully(
                    subject.predict,
                    source,
                    subject.specs,
                    size=subject.size,
                    canonical=canonical,
                    answers_for=subject.answers_for,
                    progress=advance,
                )
            about = {STEP: subject.step, EPOCH: subject.epoch, PARAMETERS: subject.parameters}
            name = _name(subject, named[path], alone=len(models) == 1)
            rows = {name: found, **{f"{name}, {one}": every for one, every in found.sources.items()}}
            for (row, one), part in zip(rows.items(), ("", *found.sources), strict=True):
                own: Metrics = {key: value if value == value else None for key, value in one.measures.items()}
                measured.metrics[row] = {**own, **about}
                measured.details[row] = {
                    "data": data_set(subject.data).title(subject.data),
                    "split": frames.split,
                    "frames": one.frames,
                    "size": list(subject.size),
                    "through": subject.through,
                    "truths": described_truths(source, subject.specs),
                    **({"source": part} if part else {}),
                    **({"near_chance": list(one.near_chance)} if one.near_chance else {}),
                    **one.details,
                }
    return measured


@contextmanager
def _progress(subject: EvaluationTarget, frames: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal, for as long as the context lasts; what it gives takes the number of frames that are done."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"{subject.path.name} {subject.name}".strip(), total=frames)
        yield lambda done: bar.update(task, completed=done)


def recorded(models: Sequence[Path], *, average: int) -> dict[str, Metrics]:
    """What runs wrote down themselves: their best evaluation, and the mean of the last `average` ones."""
    from mtl.study.choices import best_validation, mean_of_last
    from mtl.study.records import read_records

    rows: dict[str, Metrics] = {}
    named = _names(models)
    for path in models:
        records = read_records(path) if path.is_dir() else None
        if records is None or not records.validations:
            continue
        best, mean = best_validation(records), mean_of_last(records, count=average)
        last = min(average, len(records.validations))
        for name, found in ((f"{named[path]}, best", best), (f"{named[path]}, mean of the last {last}", mean)):
            if found is not None:
                rows[name] = dict(found)
    return rows


def _report(
    measured: Measured,
    single: Mapping[str, Metrics],
    records: Mapping[str, Metrics],
    specs: Specs,
    *,
    asked: argparse.Namespace,
    console: Console,
) -> None:
    from mtl.study.columns import DELTA_M, study_table, terminal_table
    from mtl.study.delta import delta_m
    from mtl.study.full_tables import class_cells, depth_cells
    from mtl.study.truths import pseudo_keys, truth_remarks
    from mtl.tasks.columns import one_metric

    from edge_mtl.tasks import remarks

    metrics, details = measured.metrics, measured.details
    truths = [one["truths"] for one in details.values()]

    baseline: dict[str, float] = {}
    for one in single.values():
        baseline.update({key: value for key, value in one.items() if value is not None})
    for name, one in metrics.items() if baseline else ():
        if "source" in details[name]:  # the baseline is of all sources together
            continue
        one[DELTA_M] = delta_m({key: value for key, value in one.items() if value is not None}, baseline, by=one_metric(specs))
    rows = {**{f"single: {name}": one for name, one in single.items()}, **metrics}
    console.print(study_table(rows, title=_title(measured, asked.split), pseudo=pseudo_keys(truths, specs)))
    for remark in (*remarks(specs), *truth_remarks(truths), *_unfit(measured)):
        console.print(remark, markup=False, highlight=False)
    for task, (headings, lines) in (class_cells(details) if asked.classes else {}).items():
        console.print(terminal_table(headings, lines, title=task))
    for task, (headings, lines) in (depth_cells(metrics, details) if asked.depth else {}).items():
        console.print(terminal_table(headings, lines, title=task))
    if records:
        console.print(study_table(records, title="validation frames, as the runs recorded them"))


def _unfit(measured: Measured) -> list[str]:
    """Of each model that does not fit the frames it was measured on, why."""
    guesses = {name: one.get("near_chance", ()) for name, one in measured.details.items() if "source" not in one}
    return [f"{name} does not fit the data. {' '.join(reasons)}" for name, reasons in guesses.items() if reasons]


def _title(measured: Measured, split: str) -> str:
    """Which frames, and how many where all models saw the same."""
    found = {(str(one["data"]), int(one["frames"])) for one in measured.details.values() if "source" not in one}
    return ", ".join(f"{count} {split} frames of {data}" for data, count in sorted(found)) or f"{split} frames"


def _write_report(
    asked: argparse.Namespace,
    measured: Measured,
    records: Mapping[str, Metrics],
    specs: Specs,
    console: Console,
) -> None:
    from mtl.study.cosines import cosines_of
    from mtl.study.evaluation import evaluation_document
    from mtl.study.full_tables import class_cells, depth_cells
    from mtl.study.records import read_records
    from mtl.study.report import write_files
    from mtl.study.truths import pseudo_keys, truth_remarks

    from edge_mtl.tasks import remarks

    named = _names(asked.models)
    runs = {named[path]: read_records(path) for path in asked.models if path.is_dir()}
    cosines = {name: cosines_of([one]) for name, one in runs.items() if one.validations or one.cosines}
    command = ["python", *sys.argv]
    metrics, details = measured.metrics, measured.details
    truths = [one["truths"] for one in details.values()]
    document = evaluation_document(
        metrics,
        records,
        cosines,
        frames=_title(measured, asked.split),
        command=command,
        remarks=(*remarks(specs), *truth_remarks(truths)),
        pseudo=pseudo_keys(truths, specs),
        tables={
            **{f"IoU of every class{task and f' of {task}'}": one for task, one in class_cells(details).items()},
            **{f"all measures of {task or 'depth'}": one for task, one in depth_cells(metrics, details).items()},
        },
    )
    found = {name: [asdict(pair) for pair in pairs] for name, pairs in cosines.items()}
    numbers = {
        "split": asked.split,
        "metrics": metrics,
        "details": details,
        "recorded_on_validation": records,
        "cosines": found,
    }
    for path in write_files(asked.out, document, numbers=numbers):
        console.print(f"report: {path}", highlight=False)


def _names(models: Sequence[Path]) -> dict[Path, str]:
    """What each model is called: as few last parts of its path as tell it from the others."""
    parts = {path: path.resolve().parts for path in models}
    found = {}
    for path, own in parts.items():
        count = 1 if path.is_dir() else 2
        others = [other for model, other in parts.items() if model != path]
        while count < len(own) and any(other[-count:] == own[-count:] for other in others):
            count += 1
        found[path] = "/".join(own[-count:])
    return found


def _name(subject: EvaluationTarget, own: str, *, alone: bool) -> str:
    if alone:
        return subject.name or subject.path.name
    return f"{own} {subject.name}".strip()


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2, sort_keys=True) + "\n"


def _write(path: Path, text: str) -> None:
    try:
        write_atomic(path, text.encode())
    except OSError as exc:
        raise BuildError(f"{path} could not be written {told(exc)}") from exc


def _with_save(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--save FILE.json` for what was `--json FILE.json` until 0.2; that goes away in 0.3."""
    found = list(arguments)
    for place, word in enumerate(found):
        follows = found[place + 1] if place + 1 < len(found) else ""
        if word.startswith("--json=") or (word == "--json" and follows.endswith(".json")):
            found[place] = word.replace("--json", "--save", 1)
            print("evaluate: `--json FILE` is now `--save FILE`; the old name goes away in 0.3", file=sys.stderr)
    return found


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    known = "runs/<name>, one of its .safetensors, or the folder of a bundle"
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help=known)
    parser.add_argument("--single", type=Path, nargs="+", default=[], metavar="MODEL", help="single-task models, for delta-m")
    parser.add_argument("--weights", choices=("last", "best", "both"), default="both", help="of runs (default: %(default)s)")
    parser.add_argument("--average", type=int, default=5, metavar="K", help="evaluations to average (default: %(default)s)")
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which frames (default: %(default)s)")
    parser.add_argument("--count", type=int, help="how many rooms (default: those the model was made with, 200 for bundles)")
    parser.add_argument("--root", help="folder of the frames: rooms, NYUv2 or a folder of your own (default: the model's)")
    parser.add_argument("--size", type=size_argument, metavar="HxW", help="size rooms are rendered at (default: the network's)")
    engines = "measure the bundle in FP32 and the engines built here, through Engine, too"
    parser.add_argument("--engines", action="store_true", help=engines)
    parser.add_argument("--threads", type=int, metavar="N", help="of the runtimes of bundles (default: one per core)")
    parser.add_argument("--classes", action="store_true", help="show the IoU of every class")
    parser.add_argument("--depth", action="store_true", help="show all measures of depth, also after median scaling")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a report there: table, gradients' cosines, numbers")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the numbers there as JSON")
    record = "put the figures into the bundle, as a new revision: edge-mtl inspect shows them"
    parser.add_argument("--record", action="store_true", help=record)
    parser.add_argument("--json", action="store_true", help="JSON on standard output, and nothing else there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
