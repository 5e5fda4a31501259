"""Reads mutants of one target in a process of its own, so that a death or a hang is this process's; started by `driver`.

python -m tests.reliability.fuzz.worker JOB.json
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.reliability.fuzz.slot import Phase, Slot
from tests.reliability.fuzz.target import Target

__all__ = ["FAULTS", "Job"]

INSTRUMENTED = ("edge_mtl", "mtl", "edge_mtl_ros")
"""Packages whose branches guide the mutations."""

MEMORY_BYTES = 6 << 30
_SAVE_LOG_BYTES = 1 << 20
_RECENT = 256
_WARM_UP = 32
_LEARNT = 500


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is to do.

    Attributes:
        module, target: the target and the module that has it.
        folder: private to the run: slot, log, scratch folders.
        seeds: folder of the seeds, made by the first worker that needs them.
        corpus: what coverage found worth keeping; lasts.
        finds: where finds are written; lasts.
        seconds, mutants: whichever ends first ends the work.
        seed: of the mutations.
        replay: files to read as they are, in place of mutants.
        fault: put in on purpose, one of `FAULTS`; "" for none.
        guided: False mutates without coverage: it would guide nothing, or atheris is not here.
        memory: bytes of address space that the worker may have.
    """

    module: str
    target: str
    folder: str
    seeds: str
    corpus: str
    finds: str
    seconds: float = 60.0
    mutants: int = 1000
    seed: int = 0
    replay: tuple[str, ...] = ()
    fault: str = ""
    guided: bool = True
    memory: int = MEMORY_BYTES

    def write(self, path: Path) -> None:
        """As JSON."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def _raise_key_error(mutant: bytes) -> None:
    """As a reader that does not expect a key to be missing."""
    raise KeyError(f"a fault put in, {len(mutant)} bytes")


def _abort(mutant: bytes) -> None:
    """As a native library that ends the process."""
    os.abort()


def _hang(mutant: bytes) -> None:
    """As a loop that never ends."""
    while True:
        time.sleep(0.01)


def _take_memory(mutant: bytes) -> None:
    """As a reader that believes a size it finds in a file."""
    bytearray(1 << 46)


FAULTS: dict[str, Callable[[bytes], None]] = {
    "KeyError": _raise_key_error,
    "abort": _abort,
    "hang": _hang,
    "MemoryError": _take_memory,
}
"""Positive controls: put into a reader for one mutant of eight."""


class _Reader:
    """Reads one mutant after another, tells the slot, and keeps what must not be."""

    def __init__(self, job: Job, read: Callable[[bytes], None], slot: Slot) -> None:
        from edge_mtl.errors import EdgeMtlError
        from tests.reliability.fuzz.finds import kept

        self._job, self._slot, self._allowed = job, slot, EdgeMtlError
        self._read = read if not job.fault else _with_fault(read, FAULTS[job.fault])
        self._known = set(kept(Path(job.finds)))
        self._began = time.monotonic()
        self._log = os.fstat(2).st_size

    def over(self) -> bool:
        """Whether the time or the mutants are used up."""
        return self._slot.mutants >= self._job.mutants or time.monotonic() - self._began > self._job.seconds

    def one(self, mutant: bytes, *, keep_it: bool = True) -> str:
        """Read a mutant: "" where it is read or refused, else the fault, of which the smallest mutant is kept."""
        from tests.reliability.fuzz.finds import Find, fault_of, keep, minimised

        self._slot.reading(mutant)
        exc = self._violation(mutant)
        self._slot.mutants += 1
        fault = ""
        if exc is not None:
            fault = fault_of(exc)
            if keep_it and fault not in self._known:
                self._known.add(fault)
                self._slot.enter(Phase.MINIMISING)
                smaller = minimised(mutant, lambda candidate: self._shows(candidate, fault))
                keep(Path(self._job.finds), Find(fault, smaller, "".join(traceback.format_exception(exc))))
        self._slot.enter(Phase.IDLE)
        if self._slot.mutants % 500 == 0 and os.fstat(2).st_size > _SAVE_LOG_BYTES:
            os.ftruncate(2, 0)
        return fault

    def _violation(self, mutant: bytes) -> BaseException | None:
        """What the reader raised that it must not."""
        try:
            self._read(mutant)
        except self._allowed:
            self._slot.refused += 1
        except BaseException as exc:  # SystemExit of a reader too
            return exc
        return None

    def _shows(self, mutant: bytes, fault: str) -> bool:
        from tests.reliability.fuzz.finds import fault_of

        refused = self._slot.refused
        self._slot.reading(mutant)
        exc = self._violation(mutant)
        self._slot.refused = refused
        self._slot.enter(Phase.MINIMISING)
        return exc is not None and fault_of(exc) == fault


def _with_fault(read: Callable[[bytes], None], fault: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def faulty(mutant: bytes) -> None:
        if zlib.crc32(mutant) % 8 == 0:
            fault(mutant)
        read(mutant)

    return faulty


def _seeds(target: Target, folder: Path) -> list[bytes]:
    """The target's seeds, made once a run."""
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            seeds = target.seeds(Path(scratch))
        folder.mkdir()
        for number, seed in enumerate(seeds):
            (folder / f"{number:05d}").write_bytes(seed)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def _random(target: Target, seeds: Sequence[bytes], job: Job, reader: _Reader) -> None:
    """Mutants of the seeds, of what coverage found worth keeping in runs before, and of mutants before."""
    from tests.reliability.fuzz.mutations import mutate_bytes

    mutate = target.mutate or mutate_bytes
    rng = random.Random(job.seed)
    recent: list[bytes] = []
    learnt = [path.read_bytes() for path in sorted(Path(job.corpus).iterdir())[:_LEARNT] if path.is_file()]
    seeds = [*seeds, *learnt]
    for seed in seeds:
        reader.one(seed)
    while not reader.over():
        pool = recent if recent and rng.random() < 0.25 else seeds
        mutant = mutate(rng.choice(pool), rng.choice(seeds), rng)
        reader.one(mutant)
        if len(recent) < _RECENT:
            recent.append(mutant)
        else:
            recent[rng.randrange(_RECENT)] = rng.choice(seeds) if rng.random() < 0.5 else mutant


def _guided(atheris: Any, target: Target, seeds: Sequence[bytes], job: Job, reader: _Reader, slot: Slot) -> None:
    """Mutants by libFuzzer, guided by the branches they take; half of them by the target's own mutation where it has one."""
    arguments = [
        job.target,
        job.corpus,
        job.seeds,
        f"-seed={job.seed % (1 << 31) + 1}",
        f"-max_len={max(4096, 2 * max((len(seed) for seed in seeds), default=0))}",
        f"-artifact_prefix={job.folder}/",
        "-len_control=0",
        "-rss_limit_mb=0",
        "-timeout=1000000",
        "-verbosity=0",
        "-detect_leaks=0",
        *(f"-handle_{name}=0" for name in ("segv", "bus", "abrt", "ill", "fpe", "int", "term", "xfsz", "usr1", "usr2")),
    ]
    mutate = target.mutate

    def one(mutant: bytes) -> None:
        reader.one(mutant)
        if reader.over():
            slot.enter(Phase.DONE)
            os._exit(0)

    def by_structure(data: bytes, longest: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if mutate is None or rng.random() < 0.3:
            return bytes(atheris.Mutate(data, longest))
        mutant = mutate(data if rng.random() < 0.9 else rng.choice(seeds), rng.choice(seeds), rng)
        return mutant if len(mutant) <= longest else mutant[:longest]

    given = {"custom_mutator": by_structure} if mutate is not None else {}
    atheris.Setup(arguments, one, **given)
    atheris.Fuzz()


@contextlib.contextmanager
def _instrumented(guided: bool) -> Iterator[Any]:
    """Within it the project's modules are imported with counters of their branches; gives atheris, or None without it."""
    try:
        import atheris
    except ImportError:
        atheris = None
    if not guided or atheris is None:
        yield None
        return
    with atheris.instrument_imports(include=INSTRUMENTED):
        yield atheris


def main(path: Path) -> int:
    """Do the job that `path` describes. 0: done; 3: the target cannot be opened here, and the log says why."""
    job = Job(**json.loads(path.read_bytes()))
    folder = Path(job.folder)
    slot = Slot(folder / "slot")
    slot.enter(Phase.OPENING)
    faults = (folder / "death.txt").open("w")
    faulthandler.enable(faults)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with _instrumented(job.guided and not job.replay) as atheris:
        module = importlib.import_module(job.module)
        target: Target = next(each for each in module.TARGETS if each.name == job.target)
        from edge_mtl.errors import BackendUnavailable

        seeds = _seeds(target, Path(job.seeds))
        try:
            read = target.open(Path(tempfile.mkdtemp(prefix="scratch-", dir=folder)))
        except BackendUnavailable as exc:
            (folder / "unavailable.txt").write_text(str(exc), encoding="utf-8")
            return 3
        for seed in seeds[:_WARM_UP]:
            with contextlib.suppress(Exception):  # what is imported late is imported before anything is timed
                read(seed)
        resource.setrlimit(resource.RLIMIT_AS, (job.memory, job.memory))
        reader = _Reader(job, read, slot)
        slot.enter(Phase.IDLE)
        if job.replay:
            for each in job.replay:
                answer = reader.one(Path(each).read_bytes(), keep_it=False)
                with (folder / "replayed.jsonl").open("a", encoding="utf-8") as answers:
                    answers.write(json.dumps(answer) + "\n")
        elif atheris is None:
            _random(target, seeds, job, reader)
        else:
            _guided(atheris, target, seeds, job, reader, slot)
    slot.enter(Phase.DONE)
    return 0


if __name__ == "__main__":
    code = main(Path(sys.argv[1]))
    sys.stderr.flush()
    os._exit(code)  # native libraries' threads are not waited for
