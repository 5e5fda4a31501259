"""One command made to fail at one step, judged, and run once more with nothing in its way."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from edge_mtl.unfinished import TEMPORARY_PREFIX
from tests.reliability.system_errors.forked import forked, import_beforehand
from tests.reliability.system_errors.steps import CALLS, Step, met, read_steps
from tests.reliability.trials import (
    COMMANDS,
    ROOT,
    Command,
    Found,
    Normal,
    alike,
    faults,
    patience,
    prepare,
    snapshot,
    wrong_bundle,
)

__all__ = ["PAGE", "Site", "shorten", "site"]

PAGE = 4096


def shorten() -> None:
    """In the child: a benchmark measures nothing in processes of its own, and hardly at all; how it writes stays."""
    from edge_mtl.bench import benchmark, interleaved

    benchmark.add_footprints = lambda *arguments, **options: None  # type: ignore[assignment]
    benchmark.add_streams = lambda *arguments, **options: None  # type: ignore[assignment]
    interleaved._WARM_UP_S = 0.1  # type: ignore[misc]


@dataclass
class Site:
    """Where the trials of one command run: always the same folder, so that paths in results are the same.

    Attributes:
        folder: of the trial; `template` is what it is copied from.
        normal: what undisturbed runs make of it.
        room: bytes, in whole pages, and files that one makes.
        steps: the write steps of an undisturbed run.
    """

    command: Command
    template: Path
    folder: Path
    normal: Normal = field(init=False)
    room: tuple[int, int] = (0, 0)
    steps: list[Step] = field(default_factory=list)

    def fresh(self) -> None:
        """Put the template's content into the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder, symlinks=True)

    @property
    def timeout_s(self) -> float:
        """After which a run hangs."""
        return patience(self.normal.seconds)

    def learn(self, *, traced: bool = True) -> None:
        """Run undisturbed twice, once with its steps counted."""
        self.fresh()
        before = snapshot(self.folder)
        import_beforehand(self.command, self.folder)
        first = self._undisturbed()
        time.sleep(1.1)  # files that state when they were made, in seconds, are not what two runs make alike
        log = self.folder.parent / "strace.log"
        self.fresh()
        trace = ["-e", f"trace={','.join(CALLS)}"] if traced else []
        second, seconds = forked(self.command, self.folder, trace=trace, log=log, before=shorten)
        if second.code != 0:
            raise RuntimeError(f"{self.command.name} failed undisturbed, traced: {second.code} {second.err}")
        if traced:
            self.steps = read_steps(log, self.folder)
        after = second.content
        self.normal = Normal(before, after, alike(first.content, after), seconds)
        self.room = self._needed()

    def _undisturbed(self) -> Found:
        self.fresh()
        found, _ = forked(self.command, self.folder, before=shorten)
        if found.code != 0:
            raise RuntimeError(f"{self.command.name} failed undisturbed: {found.code} {found.err}")
        return found

    def _needed(self) -> tuple[int, int]:
        """Bytes, in whole pages, and files that a run has just made."""
        changed = [self.folder / name for name, content in self.normal.after.items() if content != self.normal.before.get(name)]
        there = [path.stat().st_size for path in changed if path.is_file()]
        return sum(-(-size // PAGE) * PAGE for size in there), len(changed)

    def fail_at(self, step: Step, error: str, *, again: bool = True, before: Callable[[], None] = shorten) -> list[str] | None:
        """What must not be, after `step` failed with `error`; None where it was not met in this run.

        Args:
            again: whether it is run once more, with nothing in its way.
            before: what the child does first.
        """
        self.fresh()
        log = self.folder.parent / "strace.log"
        trace = step.injection(error)
        found, _ = forked(self.command, self.folder, trace=trace, log=log, timeout_s=self.timeout_s, before=before)
        return self.judged(found, may_leave=lambda name: step.deletes, again=again) if met(log) else None

    def fail_to_read(self, name: str) -> list[str] | None:
        """The same where an input cannot be read: every read of it is an I/O error."""
        self.fresh()
        log = self.folder.parent / "strace.log"
        calls = "read,pread64,readv,getdents64"
        trace = ["-P", str(self.folder / name), "-e", f"trace={calls}", "-e", f"inject={calls}:error=EIO"]
        found, _ = forked(self.command, self.folder, trace=trace, log=log, timeout_s=self.timeout_s, before=shorten)
        return self.judged(found, complete=False) if met(log) else None

    def judged(
        self,
        found: Found,
        *,
        may_leave: Callable[[str], bool] = lambda name: False,
        complete: bool = True,
        again: bool = True,
    ) -> list[str]:
        """What is wrong with a disturbed run, and with the one after it, for which nothing is disturbed any more.

        Args:
            complete: whether exit code 0 promises every result; a folder goes on without an image that cannot be read.
            again: whether there is one after it.
        """
        if found.code == 0 and not complete:
            said = [] if found.err else ["an input was left out without a word"]
        else:
            said = faults(self.command, self.normal, found, self.folder, may_leave=may_leave)
        if not again:
            return said
        after, _ = forked(self.command.second, self.folder, timeout_s=self.timeout_s, before=shorten)
        if self.command.once or after.code in self.command.refuses:
            said += [f"afterwards: {text}" for text in wrong_bundle(self.folder / "bundle")]
            said += [f"afterwards left: {name}" for name in after.content if TEMPORARY_PREFIX in name and not may_leave(name)]
        elif after.code != 0:
            said.append(f"the next run fails: {after.code} {after.err.strip()[-200:]}")
        else:
            said += [
                f"after the next run: {text}"
                for text in faults(self.command, self.normal, after, self.folder, may_leave=may_leave)
            ]
        return said


@contextmanager
def site(name: str, *, traced: bool = True, work: Path | None = None) -> Iterator[Site]:
    """The trials of a command, prepared."""
    command = COMMANDS[name]
    if str(ROOT / "train") not in sys.path:
        sys.path.insert(0, str(ROOT / "train"))
    if command.trains:
        import_module("mtl.run")
        import_module("mtl.bundling")
    with tempfile.TemporaryDirectory(prefix="trials-", dir=work) as place:
        made = Site(command, Path(place) / "template", Path(place) / "trial")
        prepare(command, Path(place) / "trial", start=_start)  # where it will run, for paths in what ran before
        (Path(place) / "trial").rename(made.template)
        made.learn(traced=traced)
        yield made


def _start(command: Command, folder: Path) -> None:
    found, _ = forked(command, folder, before=shorten)
    if found.code != 0:
        raise RuntimeError(f"{command.name} failed with nothing disturbed: {found.code}\n{found.err}")
