"""Train networks in few conditions, measure them in many, and say in one report how far they reach and whether they know.

Trainings that are finished are skipped, those that were stopped go on; runs are in --out, the report is in --out/report.

python train/outdoors.py train/studies/outdoors.toml --out runs/outdoors
python train/outdoors.py STUDY.toml --report-only              measure what is finished, train nothing
python train/outdoors.py STUDY.toml --stages.0.steps 50        any setting, for all rows
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mtl.config import split_arguments
from mtl.surroundings import require_surroundings

from edge_mtl.console import Console
from edge_mtl.device import fingerprint
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, measure, report; the exit code."""
    open_standard_streams()
    asked, rest = _parser().parse_known_args(sys.argv[1:] if arguments is None else arguments)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        require_surroundings()
        return _work(asked, split_arguments(rest), console)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"outdoors: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("outdoors: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _work(asked: argparse.Namespace, extra: dict[str, str], console: Console) -> int:
    from mtl.outdoors.definition import load_outdoors
    from mtl.outdoors.document import Surroundings, build_document, numbers_of
    from mtl.outdoors.findings import measure_study, networks_of
    from mtl.revision import described_commit
    from mtl.study.records import read_outcome
    from mtl.study.report import write_files
    from mtl.study.runner import check_jobs, is_finished, train_all
    from mtl.study.toml_tables import StudyError

    study = load_outdoors(asked.study)
    folder = asked.out or Path("runs") / study.study.name
    every = study.study.runs(folder, extra=extra)
    check_jobs(asked.jobs)
    if asked.threads < 0:
        raise StudyError(f"--threads should be 0 or more, found {asked.threads}")
    failed = () if asked.report_only else train_all(every, jobs=asked.jobs, console=console).failed
    finished = [run for run in every if is_finished(run)]
    if not any(run.row.name in study.cells.rows for run in finished):
        raise StudyError(f"no row of [cells] is finished in {folder}: leave out --report-only, or see {folder}/<run>/train.log")
    threads = asked.threads or fingerprint().cores
    _use_threads(threads)
    networks = networks_of(study, finished, threads=threads)
    named = {one.target.path: name for name, one in networks.items()}
    zooms = {named[run.folder]: _zoom(*run.settings.augment.scale) for run in finished}
    minutes = {named[run.folder]: one.seconds / 60 for run in finished if (one := read_outcome(run.folder)) is not None}
    found = measure_study(
        study,
        networks,
        zooms=zooms,
        workers=asked.workers,
        say=lambda line: console.print(f"measuring {line}", highlight=False),
    )
    about = Surroundings(
        command=_command(asked, folder, extra),
        machine=fingerprint().describe(),
        commit=described_commit(),
        threads=threads,
        minutes=minutes,
        unfinished=[run.name for run in every if run not in finished],
    )
    document = build_document(study, found, about)
    for path in write_files(asked.report or folder / "report", document, numbers=numbers_of(study, found, about)):
        console.print(f"report: {path}", highlight=False)
    if failed:
        raise StudyError(f"not every run finished: {', '.join(failed)} failed. What they said is in {folder}/<run>/train.log")
    return 0


def _zoom(low: float, high: float) -> tuple[float, float]:
    """How far training zooms, as not every frame is zoomed."""
    return min(1.0, low), max(1.0, high)


def _command(asked: argparse.Namespace, folder: Path, extra: dict[str, str]) -> list[str]:
    """What repeats it, whatever was finished already."""
    command = ["python", "train/outdoors.py", str(asked.study), "--out", str(folder)]
    return command + [text for key, value in extra.items() for text in (f"--{key}", value)]


def _use_threads(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("study", type=Path, help="TOML file: what is trained, and which frames it is measured on")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of the runs (default: runs/<name of the study>)")
    parser.add_argument("--report", type=Path, metavar="DIR", help="folder of the report (default: report in --out)")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    parser.add_argument("--report-only", action="store_true", help="train nothing; measure and report what is finished")
    parser.add_argument("--threads", type=int, default=0, help="threads that measure (default: one per usable core)")
    parser.add_argument("--workers", type=int, default=1, help="processes that render (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
