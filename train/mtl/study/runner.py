"""Training every run of a study, some at a time: what is finished is skipped, what was stopped continues, what fails is noted.

Knows the order of runs and what to show of them; knows nothing about training or reports.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from edge_mtl.console import Console
from edge_mtl.device import fingerprint
from edge_mtl.remedies import told
from mtl.resume import check_same_settings
from mtl.revision import described_commit
from mtl.study.definition import PlannedRun
from mtl.study.process import RunProcess, is_trained_elsewhere
from mtl.study.records import Outcome, read_records
from mtl.study.toml_tables import StudyError

__all__ = ["Tally", "check_jobs", "is_finished", "train_all"]

_POLL_S = 0.25
_LOOK_EVERY_S = 2.0
_GRACE_S = 120.0


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the runs, by name."""

    skipped: tuple[str, ...]
    trained: tuple[str, ...]
    failed: tuple[str, ...]


def check_jobs(jobs: int) -> None:
    """Raises StudyError: nothing would ever be trained."""
    if jobs < 1:
        raise StudyError(f"--jobs should be 1 or more, found {jobs}")


def is_finished(run: PlannedRun) -> bool:
    """Whether the run came to its end with these settings.

    Raises:
        StudyError: it holds a run with other settings.
    """
    records = read_records(run.folder)
    described = run.folder / "config.json"
    if described.is_file():
        try:
            stored = described.read_text(encoding="utf-8")
        except OSError as exc:
            raise StudyError(f"{described} cannot be read {told(exc)}") from exc
        steps = run.settings.steps if records.finished else records.step
        check_same_settings(stored, steps, run.settings, where=str(run.folder))
    return records.finished


def train_all(runs: Sequence[PlannedRun], *, jobs: int, console: Console) -> Tally:
    """Train what is not finished, `jobs` processes at a time.

    Raises:
        StudyError, CheckpointError: a folder holds a run with other settings; checked for all before any is started.
        KeyboardInterrupt: after SIGINT or SIGTERM, when every process has written its checkpoint.
    """
    wanted = [run for run in runs if run.row.run]
    skipped = [run for run in wanted if is_finished(run)]
    waiting = [run for run in wanted if run not in skipped]
    if skipped:
        console.print(f"{len(skipped)} of {len(wanted)} runs are finished already", highlight=False)
    pool = _Pool(jobs=jobs, machine=fingerprint().describe(), commit=described_commit())
    with _terminated_as_interrupted(), _Display(console, waiting) as display:
        try:
            while waiting or pool.active:
                for run, outcome in pool.collect():
                    display.ended(run, outcome, active=pool.active)
                pool.fill(waiting, display)
                display.look(pool.active)
                time.sleep(_POLL_S)
        except BaseException:
            display.say("stopping: every run writes its checkpoint; run the same command again to go on")
            pool.stop()
            raise
    trained = tuple(run.name for run, outcome in pool.outcomes if outcome.exit_code == 0)
    failed = tuple(run.name for run, outcome in pool.outcomes if outcome.exit_code != 0)
    return Tally(tuple(run.name for run in skipped), trained, failed)


class _Pool:
    """The processes that run now, and how the others ended."""

    def __init__(self, *, jobs: int, machine: str, commit: str) -> None:
        self._jobs, self._machine, self._commit = jobs, machine, commit
        self.active: list[RunProcess] = []
        self.outcomes: list[tuple[PlannedRun, Outcome]] = []

    def fill(self, waiting: list[PlannedRun], display: _Display) -> None:
        """Start what there is room for; a run that a killed study left training is waited for, and then looked at again."""
        for run in list(waiting):
            if len(self.active) >= self._jobs:
                return
            if is_trained_elsewhere(run.folder):
                display.waits_for(run)
                continue
            if run.after is not None and not self._has_start(run, waiting, display):
                continue
            waiting.remove(run)
            if is_finished(run):
                display.found(run)
                continue
            self.active.append(RunProcess(run, machine=self._machine, commit=self._commit))

    def _has_start(self, run: PlannedRun, waiting: list[PlannedRun], display: _Display) -> bool:
        """Whether the run that another one starts from is finished; one whose start failed, or is nobody's task, fails."""
        assert run.after is not None
        if read_records(run.after).finished:
            return True
        if not any(one.folder == run.after for one in (*waiting, *(process.run for process in self.active))):
            waiting.remove(run)
            outcome = Outcome(1, f"it starts from {run.after}, which is not finished")
            self.outcomes.append((run, outcome))
            display.ended(run, outcome, active=self.active)
        return False

    def collect(self) -> Iterator[tuple[PlannedRun, Outcome]]:
        """Runs that have ended since the last look."""
        for process in list(self.active):
            outcome = process.ended()
            if outcome is not None:
                self.active.remove(process)
                self.outcomes.append((process.run, outcome))
                yield process.run, outcome

    def stop(self) -> None:
        """Let every process write its checkpoint and end; a second interruption ends them at once."""
        try:
            for process in self.active:
                process.stop()
            deadline = time.monotonic() + _GRACE_S
            for process in self.active:
                if not process.wait(max(0.0, deadline - time.monotonic())):
                    process.kill()
        except KeyboardInterrupt:
            for process in self.active:
                process.kill()
        for process in self.active:
            process.wait(_GRACE_S)
            process.ended()


class _Display:
    """A bar over the steps of all runs on a terminal; elsewhere a line when a run ends."""

    def __init__(self, console: Console, runs: Sequence[PlannedRun]) -> None:
        self._console = console
        self._steps = {run.name: read_records(run.folder).step for run in runs}
        self._total = sum(run.settings.steps for run in runs)
        self._before = sum(self._steps.values())
        self._count, self._left = len(runs), len(runs)
        self._began = self._looked = time.monotonic()
        self._waited: set[str] = set()
        columns = (BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeElapsedColumn(), TextColumn("{task.description}"))
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=max(1, self._total), completed=self._before)

    def __enter__(self) -> _Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def look(self, active: Sequence[RunProcess]) -> None:
        """Read how far the processes are, now and then."""
        if time.monotonic() - self._looked < _LOOK_EVERY_S:
            return
        self._looked = time.monotonic()
        for process in active:
            self._steps[process.run.name] = process.step()
        self._update(active)

    def ended(self, run: PlannedRun, outcome: Outcome, *, active: Sequence[RunProcess]) -> None:
        """One run is over."""
        self._left -= 1
        self._steps[run.name] = run.settings.steps
        ending = "finished" if outcome.exit_code == 0 else f"[red]failed[/red] ({outcome.exit_code}): {escape(outcome.message)}"
        number = self._count - self._left
        self.say(f"{number}/{self._count} {run.name} {ending} after {outcome.seconds:.0f} s{self._remaining()}")
        self._update(active)

    def found(self, run: PlannedRun) -> None:
        """An earlier process has finished it meanwhile."""
        self._left -= 1
        self._steps[run.name] = run.settings.steps
        self.say(f"{self._count - self._left}/{self._count} {run.name} was finished by an earlier process")

    def waits_for(self, run: PlannedRun) -> None:
        """Said once for each run."""
        if run.name not in self._waited:
            self._waited.add(run.name)
            self.say(f"{run.name} is still being trained by an earlier process; it is waited for")

    def say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)

    def _update(self, active: Sequence[RunProcess]) -> None:
        names = ", ".join(process.run.name for process in active)
        text = f"{self._count - self._left}/{self._count} runs{self._remaining()}  {names}"
        self._bar.update(self._task, completed=sum(self._steps.values()), description=text)

    def _remaining(self) -> str:
        """Time left at the speed so far, all processes together."""
        done = sum(self._steps.values())
        gained, left = done - self._before, self._total - done
        if gained <= 0 or left <= 0:
            return ""
        seconds = (time.monotonic() - self._began) / gained * left
        return f", about {seconds / 60:.0f} min left" if seconds >= 90 else f", about {seconds:.0f} s left"


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM stops a study as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
