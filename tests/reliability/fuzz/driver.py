"""Runs a target's worker, watches it, and goes on after its death: which mutant did it, and what of that is worth keeping."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.reliability.fuzz.finds import ROOT, Find, fault_of_dump, keep, kept, minimised
from tests.reliability.fuzz.slot import Phase, Slot
from tests.reliability.fuzz.target import Target
from tests.reliability.fuzz.worker import Job

__all__ = ["WATCHDOG_S", "Outcome", "fuzz", "has_atheris", "replay"]

WATCHDOG_S = 20.0
"""One mutant may take this long; then it hangs."""

_OPENING_S = 300.0
_MINIMISING_S = 120.0
_POLL_S = 0.05
_BUSY = 5
"""A busy machine gives a process at least one part in so many of its time."""

_MOST_DEATHS = 200

Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Outcome:
    """What became of a target.

    Attributes:
        mutants, refused: how many were read, and how many of them an EdgeMtlError refused.
        finds: file of the smallest mutant by fault, of this run.
        unavailable: why the target cannot be opened here; empty where it can.
        guided: whether coverage guided the mutations.
        notes: what else a reader should know.
    """

    mutants: int = 0
    refused: int = 0
    finds: dict[str, Path] = field(default_factory=dict)
    unavailable: str = ""
    guided: bool = False
    notes: list[str] = field(default_factory=list)


def has_atheris() -> bool:
    """Whether coverage can guide mutations here."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(
    module: str,
    target: Target,
    out: Path,
    *,
    seconds: float,
    mutants: int,
    seed: int = 0,
    watchdog_s: float = WATCHDOG_S,
    fault: str = "",
    first: bool = False,
    guided: bool = True,
    progress: Progress = lambda mutants, finds: None,
) -> Outcome:
    """Read mutants of `target` until the time or their number is used up, whatever dies on the way.

    Args:
        module: that has the target.
        out: its folders `corpus/TARGET` and `finds/TARGET` last from run to run.
        fault: a positive control, see `worker.FAULTS`.
        first: end with the first find, which is not made small.
        guided: False mutates without coverage where coverage could guide, which starts sooner.
        progress: told of mutants and finds.
    """
    guided = guided and not target.native and has_atheris()
    outcome = Outcome(guided=guided)
    out = out.resolve()  # a worker is somewhere else
    corpus, finds = out / "corpus" / target.name, out / "finds" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    finds.mkdir(parents=True, exist_ok=True)
    before = set(kept(finds))
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="edge-mtl-fuzz-") as place:
        job = Job(
            module,
            target.name,
            place,
            f"{place}/seeds",
            str(corpus),
            str(finds),
            seconds,
            mutants,
            seed,
            fault=fault,
            guided=guided,
        )
        deaths = 0
        while outcome.mutants < mutants and (left := until - time.monotonic()) > 0:
            part = replace(job, seconds=left, mutants=mutants - outcome.mutants, seed=seed + 1_000_003 * deaths)
            worker = _Worker(part, watchdog_s)
            base = outcome.mutants

            def tell(read: int, base: int = base) -> bool:
                found = len(kept(finds).keys() - before)
                progress(base + read, found)
                return first and found > 0

            end = worker.watch(tell)
            outcome.mutants += worker.slot.counts[0]
            outcome.refused += worker.slot.counts[1]
            outcome.unavailable = worker.unavailable
            if end is None:
                break
            deaths += 1
            if first:
                keep(finds, end)
            elif end.fault not in kept(finds):
                _confirm(end, job, watchdog_s, finds, outcome)
            if first or not worker.opened or deaths >= _MOST_DEATHS:
                break
    outcome.finds = {each: path for each, path in kept(finds).items() if each not in before}
    return outcome


def replay(
    module: str, target: Target, files: Sequence[Path], *, watchdog_s: float = WATCHDOG_S, fault: str = ""
) -> dict[Path, str]:
    """Read files as they are, in one process and after a death in another; the violations by file."""
    found: dict[Path, str] = {}
    left = list(files)
    while left:
        with tempfile.TemporaryDirectory(prefix="edge-mtl-fuzz-") as place:
            paths = tuple(str(path.resolve()) for path in left)
            job = Job(module, target.name, place, f"{place}/seeds", place, f"{place}/finds", replay=paths, fault=fault)
            worker = _Worker(job, watchdog_s)
            end = worker.watch()
            if worker.unavailable:
                return {}
            answers = [json.loads(line) for line in (Path(place) / "replayed.jsonl").read_text().splitlines()]
            found |= {path: answer for path, answer in zip(left, answers, strict=False) if answer}
            if end is None:
                break
            found[left[min(len(answers), len(left) - 1)]] = end.fault
            left = left[len(answers) + 1 :]
    return found


class _Worker:
    """One worker's process."""

    def __init__(self, job: Job, watchdog_s: float) -> None:
        self._folder = Path(job.folder)
        self._watchdog_s = watchdog_s
        self._since, self._cpu_s = 0, 0.0
        for name in ("slot", "death.txt", "unavailable.txt", "replayed.jsonl"):
            (self._folder / name).unlink(missing_ok=True)
        self.slot = Slot(self._folder / "slot")
        self.slot.enter(Phase.OPENING)
        job.write(self._folder / "job.json")
        (self._folder / "replayed.jsonl").touch()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_python_path()), "PYTHONHASHSEED": "0"}
        environment |= {"OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1", "XDG_CACHE_HOME": str(self._folder / "cache")}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.reliability.fuzz.worker", str(self._folder / "job.json")],
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def opened(self) -> bool:
        """Whether the target was opened."""
        return self.slot.phase is not Phase.OPENING

    @property
    def unavailable(self) -> str:
        """Why the target cannot be opened here."""
        path = self._folder / "unavailable.txt"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def watch(self, tell: Callable[[int], bool] = lambda read: False) -> Find | None:
        """Wait for the end, with a kill where a mutant takes too long: the find it is, None where all is done.

        Args:
            tell: told how many mutants were read; whether that was enough.
        """
        hung = False
        try:
            while self._process.poll() is None:
                if tell(self.slot.counts[0]):
                    return None
                if self._too_long():
                    hung = True
                    self._stop()
                    break
                time.sleep(_POLL_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        tell(self.slot.counts[0])
        if not hung and (self.unavailable or (code == 0 and self.slot.phase is Phase.DONE)):
            return None
        dump = self._folder / "death.txt"
        trace = dump.read_text(encoding="utf-8", errors="replace") if dump.exists() else ""
        if not self.opened:
            return Find(f"the target cannot be opened (exit {code})", b"", f"{trace}\n{self._log()}")
        what = "hang" if hung else _signal_name(code)
        return Find(fault_of_dump(what, trace), self.slot.mutant, f"{trace}\n{self._log()}")

    def _too_long(self) -> bool:
        """On a busy machine a mutant may wait longer than it works: it hangs if it works, or waits far too long."""
        limit = {Phase.OPENING: _OPENING_S, Phase.MINIMISING: _MINIMISING_S}.get(self.slot.phase, self._watchdog_s)
        if self.slot.since != self._since:
            self._since, self._cpu_s = self.slot.since, self._used_s()
        if self.slot.seconds <= limit:
            return False
        return self.slot.seconds > _BUSY * limit or self._used_s() - self._cpu_s > limit / _BUSY

    def _used_s(self) -> float:
        """Processor time of the process, all threads; 0 where it is gone."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _stop(self) -> None:
        """SIGABRT has faulthandler write where the process is."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._process.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(3)

    def _log(self) -> str:
        return (self._folder / "log").read_bytes()[-4000:].decode(errors="replace")


def _confirm(find: Find, job: Job, watchdog_s: float, finds: Path, outcome: Outcome) -> None:
    """Keep a death or hang, made small. A hang must be seen twice: the machine may have been busy."""
    hang = find.fault.startswith("hang")
    if find.fault.startswith("the target"):
        keep(finds, find)
        return

    def shows(mutant: bytes) -> bool:
        end = _alone(job, mutant, watchdog_s)
        return end is not None and end.fault.split(" at ")[0] == find.fault.split(" at ")[0]

    if shows(find.mutant):
        smallest = minimised(find.mutant, shows, tries=6 if hang else 40, seconds=60.0)
        keep(finds, replace(find, mutant=smallest))
    elif hang:
        outcome.notes.append(f"a mutant of {job.target} took over {watchdog_s:.0f} s once, and not when it was read again")
    else:
        keep(finds, replace(find, trace=f"Not seen when the mutant was read by itself.\n{find.trace}"))


def _alone(job: Job, mutant: bytes, watchdog_s: float) -> Find | None:
    """Read one mutant in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="edge-mtl-fuzz-") as place:
        path = Path(place) / "mutant"
        path.write_bytes(mutant)
        alone = replace(job, folder=place, finds=f"{place}/finds", replay=(str(path),))
        return _Worker(alone, watchdog_s).watch()


def _python_path() -> list[str]:
    """Of workers: this checkout first, whatever is installed."""
    return [
        str(ROOT),
        str(ROOT / "train"),
        str(ROOT / "ros2_ws" / "src" / "edge_mtl"),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit {code}"
    except ValueError:
        return f"exit {code}"
