"""Train every row of a study, then compare them in one report: `python train/study.py train/studies/rooms-small.toml`.

Rows that are finished are skipped, rows that were stopped go on, a row that fails is noted and costs no other row.

python train/study.py train/studies/rooms-small.toml --jobs 2       two runs at a time
python train/study.py STUDY.toml --only "three tasks" --latency     some rows; time the decoders as INT8 too
python train/study.py STUDY.toml --report-only                      from what is finished
python train/study.py STUDY.toml --stages.0.steps 50                any setting, for all rows
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.config import split_arguments
from mtl.surroundings import require_surroundings

from edge_mtl.console import Console
from edge_mtl.device import fingerprint
from edge_mtl.packages import FAILURES, package_error
from edge_mtl.standard_streams import open_standard_streams

if TYPE_CHECKING:
    from mtl.study.definition import PlannedRun, Study


def main(arguments: list[str] | None = None) -> int:
    """Parse, train, report; the exit code."""
    open_standard_streams()
    parser = _parser()
    given = sys.argv[1:] if arguments is None else arguments
    asked, rest = parser.parse_known_args(given)
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        require_surroundings()
        return _study(asked, split_arguments(rest), console)
    except FAILURES as exc:
        error = package_error(exc, install="edge-mtl[train]")
        print(f"study: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("study: stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _study(asked: argparse.Namespace, extra: dict[str, str], console: Console) -> int:
    from mtl.study.definition import load_study
    from mtl.study.runner import check_jobs, is_finished, train_all
    from mtl.study.toml_tables import StudyError

    study = load_study(asked.study)
    runs_folder = asked.runs or Path("runs") / study.name
    every = study.runs(runs_folder, extra=extra)
    chosen = study.runs(runs_folder, only=asked.only, extra=extra) if asked.only else every
    check_jobs(asked.jobs)
    failed: tuple[str, ...] = ()
    if asked.report_only:
        for run in every:
            is_finished(run)  # refuses runs of other settings
    else:
        failed = train_all(chosen, jobs=asked.jobs, console=console).failed
    out = asked.out or Path("reports") / study.name
    paths = _report(asked, study, every, out, extra, console)
    for path in paths:
        console.print(f"report: {path}", highlight=False)
    if failed:
        listed = ", ".join(failed)
        raise StudyError(f"not every run finished: {listed} failed. What they said is in {runs_folder}/<run>/train.log")
    return 0


def _report(
    asked: argparse.Namespace, study: Study, every: list[PlannedRun], out: Path, extra: dict[str, str], console: Console
) -> list[Path]:
    from mtl.study.predictions import prediction_figure
    from mtl.study.report import build_document, write_report
    from mtl.study.results import collect_results
    from mtl.study.timings import read_latencies

    results = collect_results(study, every)
    latencies = read_latencies(out / "latency.json")
    if asked.latency:
        from mtl.study.latency import measure_latencies  # the exporter is heavy

        rows = [results[name] for name in study.latency.rows]
        threads = asked.threads or fingerprint().cores
        latencies = measure_latencies(rows, study.latency, path=out / "latency.json", threads=threads, console=console)
    images = None if asked.no_images else prediction_figure(results)
    command = ["python", "train/study.py", str(asked.study)]
    command += ["--latency"] if latencies is not None else []
    command += [text for key, value in extra.items() for text in (f"--{key}", value)]
    document = build_document(results, latencies=latencies, images=images, command=command)
    return write_report(out, document, results, latencies=latencies)


def _parser() -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=layout, allow_abbrev=False)
    parser.add_argument("study", type=Path, help="TOML file: a base configuration and rows that change it")
    parser.add_argument("--out", type=Path, help="folder of the report (default: reports/<name of the study>)")
    parser.add_argument("--runs", type=Path, help="folder of the runs (default: runs/<name of the study>)")
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="train these rows only")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    parser.add_argument("--report-only", action="store_true", help="train nothing; report what is finished")
    parser.add_argument("--latency", action="store_true", help="time the rows of [latency] as FP32 and INT8; once, then kept")
    parser.add_argument("--threads", type=int, default=0, help="threads of --latency (default: one per usable core)")
    parser.add_argument("--no-images", action="store_true", help="leave out the images of predictions")
    return parser


if __name__ == "__main__":
    sys.exit(main())
