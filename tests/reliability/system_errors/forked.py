"""Runs a command in a forked process that has imported everything before, so that a trial costs the command's work alone.

The parent makes no thread and loads no engine: children are as fresh processes are. With strace attached, system calls are
logged, or made to fail (`strace -e inject=`).
"""

from __future__ import annotations

import importlib
import itertools
import os
import runpy
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.reliability.trials import Command, Found, environment, snapshot

__all__ = ["attach_works", "forked", "import_beforehand"]

_ATTACH_S = 20.0


def attach_works() -> str:
    """Why strace cannot be attached here; "" where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (apt install strace)"
    sleeper = subprocess.Popen(["sleep", "5"])
    try:
        words = ["strace", "-qq", "-e", "trace=read", "-e", "inject=read:error=EIO:when=9", "-o", os.devnull]
        tracer = subprocess.Popen([*words, "-p", str(sleeper.pid)], stderr=subprocess.PIPE, text=True)
        attached = _wait_for_tracer(sleeper.pid, tracer)
        tracer.terminate()
        _, said = tracer.communicate(timeout=10)
        return "" if attached else f"strace cannot be attached: {said.strip()[:200]}"
    finally:
        sleeper.kill()
        sleeper.wait()


def forked(
    command: Command,
    folder: Path,
    *,
    trace: Sequence[str] = (),
    log: Path | None = None,
    timeout_s: float = 1200.0,
    before: Callable[[], None] | None = None,
) -> tuple[Found, float]:
    """Run a command in `folder`; what it left, and how many seconds it took.

    Args:
        trace: arguments of strace, besides where it logs to; empty for no strace.
        log: what strace logs to.
        before: called in the child first: what is monkeypatched for it alone.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        release, go = os.pipe()
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                os.close(go)
                _become(command, folder, release, out.fileno(), err.fileno(), before)
            finally:
                os._exit(98)  # never back into the parent's code
        os.close(release)
        tracer = None
        try:
            if trace:
                words = ["strace", "-f", "-qq", "-y", "-o", str(log), *trace, "-p", str(child)]
                tracer = subprocess.Popen(words, stderr=subprocess.DEVNULL)
                if not _wait_for_tracer(child, tracer):
                    raise RuntimeError("strace did not attach")
            os.write(go, b"g")
            code = _wait(child, timeout_s)
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        finally:
            os.close(go)
            if tracer is not None:
                _end(tracer)
        seconds = time.monotonic() - began
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode(errors="replace"))
    return Found(code, *said, snapshot(folder)), seconds


def import_beforehand(command: Command, folder: Path) -> None:
    """Import here what a command imports while it runs: found out in a child, so that nothing but modules is loaded here."""
    noted = folder.parent / "modules"
    forked(command, folder, before=lambda: _note_modules_at_exit(noted))
    for name in noted.read_text().splitlines() if noted.exists() else ():
        if name not in sys.modules and not name.startswith(("__", "edge_mtl.cli.__main__")):
            try:
                importlib.import_module(name)
            except ImportError:
                continue
    noted.unlink(missing_ok=True)


def _note_modules_at_exit(noted: Path) -> None:
    leave = os._exit

    def noting(code: int) -> None:
        noted.write_text("\n".join(name for name, module in sys.modules.items() if getattr(module, "__spec__", None)))
        leave(code)

    os._exit = noting  # type: ignore[assignment]


def _become(
    command: Command,
    folder: Path,
    release: int,
    out: int,
    err: int,
    before: Callable[[], None] | None,
) -> None:
    """The child: waits to be traced, runs the command and leaves; never returns."""
    code = 99
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdin = open(os.devnull)  # noqa: SIM115
        sys.stdout = open(1, "w", closefd=False, errors="replace")  # noqa: SIM115
        sys.stderr = open(2, "w", closefd=False, errors="replace", buffering=1)  # noqa: SIM115
        os.environ.clear()
        os.environ.update(environment(folder))
        _name_temporaries_in_turn()
        os.chdir(folder.parent)
        if before is not None:
            before()
        main = _main(command, folder)
        os.read(release, 1)
        code = main(command.arguments(folder))
    except SystemExit as exc:
        code = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except OSError:
            code = code or 120
        os._exit(code)


def _name_temporaries_in_turn() -> None:
    """Temporary names are the same in every run, so that a step can be told by its path."""
    names = itertools.count()
    tempfile.tempdir = None
    tempfile._name_sequence = (f"step{number:04}" for number in names)  # type: ignore[attr-defined]
    secrets.token_hex = lambda count=None: f"step{next(names):04}"  # type: ignore[assignment]


def _main(command: Command, folder: Path) -> Callable[[list[str]], int]:
    if command.program == "edge-mtl":
        from edge_mtl.cli import main

        return main
    if command.program == "script":
        content: Callable[[list[str]], int] = runpy.run_path(str(folder / "script.py"))["main"]
        return content
    found: Callable[[list[str]], int] = importlib.import_module(command.program).main
    return found


def _wait_for_tracer(pid: int, tracer: subprocess.Popen[str] | subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + _ATTACH_S
    while time.monotonic() < deadline and tracer.poll() is None:
        status = Path(f"/proc/{pid}/status").read_text()
        if "TracerPid:\t0" not in status:
            return True
        time.sleep(0.005)
    return False


def _wait(pid: int, timeout_s: float) -> int | None:
    """Its exit code, negative for a signal, None where it had to be killed."""
    deadline = time.monotonic() + timeout_s
    pause = 0.005
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(0.05, pause * 1.2)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def _end(tracer: subprocess.Popen[bytes]) -> None:
    try:
        tracer.wait(timeout=10)
    except subprocess.TimeoutExpired:
        tracer.terminate()
        tracer.wait(timeout=10)
