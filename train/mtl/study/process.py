"""One run as a process of train/train.py: started, watched, stopped, and what became of it.

Knows processes and the files of a run; knows nothing about the other runs of a study.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import IO

from mtl.study.definition import PlannedRun
from mtl.study.records import Outcome, read_outcome, read_records, write_outcome
from mtl.study.toml_tables import StudyError

__all__ = ["RunProcess", "is_trained_elsewhere"]

_TRAIN = Path(__file__).parents[2] / "train.py"
_LOG = "train.log"
_LOCK = "train.lock"
_STATE = "state.pt"
_STEP = re.compile(rb"step (\d+)/\d+")


class RunProcess:
    """A training process in a session of its own, so that Ctrl-C reaches it once: from `stop`.

    It holds a lock on its folder that the kernel drops when it ends. A study that is killed leaves it training; the next
    study waits for the lock instead of training the same run twice.

    Raises:
        StudyError: another process trains this run, or its folder cannot be written.
    """

    def __init__(self, run: PlannedRun, *, machine: str, commit: str) -> None:
        self.run = run
        self._machine, self._commit = machine, commit
        self._began = time.monotonic()
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            lock = _locked(run.folder)
            if lock is None:
                raise StudyError(f"{run.folder} is being trained by another process. Wait for it, or stop it")
            try:
                with (run.folder / _LOG).open("ab") as log:
                    self._process = _start(run, log, lock)
            finally:
                os.close(lock)
        except OSError as exc:
            raise StudyError(f"{run.folder} cannot be written ({exc.strerror}). Choose another folder with --runs") from exc

    def ended(self) -> Outcome | None:
        """How the process ended, written down beside its records; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        before = read_outcome(self.run.folder)
        if code == 0 and not read_records(self.run.folder).finished:
            code, words = 1, f"{_TRAIN.name} ended without a record of its end"
        else:
            words = "" if code == 0 else self._last_words()
        seconds = time.monotonic() - self._began + (before.seconds if before is not None else 0.0)
        outcome = Outcome(code, words, round(seconds, 1), self._machine, self._commit)
        write_outcome(self.run.folder, outcome)
        if code == 0:  # nothing is left to resume, and the state is three times the weights
            (self.run.folder / _STATE).unlink(missing_ok=True)
        return outcome

    def stop(self) -> None:
        """Ask it to write a checkpoint and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it at once; what came after its last checkpoint is lost."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def wait(self, timeout_s: float) -> bool:
        """Whether it ended within this time."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def step(self) -> int:
        """Steps taken so far, as far as it has told."""
        told = _STEP.findall(_tail(self.run.folder / _LOG, 4096))
        return max(int(told[-1]) if told else 0, read_records(self.run.folder).step)

    def _last_words(self) -> str:
        lines = [line.strip() for line in _tail(self.run.folder / _LOG, 8192).decode(errors="replace").splitlines()]
        spoken = [line for line in lines if line]
        own = [line.removeprefix("train: ") for line in spoken if line.startswith("train: ")]
        return (own or spoken or [f"see {self.run.folder / _LOG}"])[-1][:500]


def is_trained_elsewhere(folder: Path) -> bool:
    """Whether a process holds the run."""
    if not folder.is_dir():
        return False
    lock = _locked(folder)
    if lock is None:
        return True
    os.close(lock)
    return False


def _start(run: PlannedRun, log: IO[bytes], lock: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(_TRAIN), *run.arguments, "--no-export", "--resume"]
    repository = str(_TRAIN.parents[1])
    path = os.pathsep.join(filter(None, (repository, os.environ.get("PYTHONPATH", ""))))
    threads = {"OMP_NUM_THREADS": str(run.settings.loop.threads)} if run.settings.loop.threads else {}
    return subprocess.Popen(  # noqa: S603  (our own script)
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={**os.environ, **threads, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,
        pass_fds=(lock,),
    )


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the folder's lock, which processes that inherit it keep; None while another one holds it."""
    try:
        fcntl = import_module("fcntl")
    except ImportError as exc:
        raise StudyError("A study needs file locks (fcntl), which this system does not have") from exc
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _tail(path: Path, size: int) -> bytes:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - size))
            return stream.read()
    except OSError:
        return b""
