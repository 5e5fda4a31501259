"""The steps of a command that change files below a folder, as the kernel sees them, and death at one of them, by strace.

A process that is killed when it enters a system call dies before the call takes effect. Calls are counted by thread, as
strace does.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Step", "chosen", "missing", "read_steps", "struck", "tracing"]

_CALLS = (
    "open,openat,creat,write,writev,pwrite64,pwritev,sendfile,copy_file_range,truncate,ftruncate,fallocate,fsync,fdatasync,"
    "rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,link,linkat,symlink,symlinkat,chmod,fchmod,fchmodat,"
    "utimensat,setxattr"
)
_LINE = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_OPENS = ("open", "openat")
_ATTACH_S = 30.0


@dataclass(frozen=True, slots=True)
class Step:
    """A system call that changes a file.

    Attributes:
        call: its name.
        number: the how-manieth of that name in its thread.
        kind: call and file, without what differs from run to run.
        count: how many of the kind there are in the whole run.
    """

    call: str
    number: int
    kind: str
    count: int


def missing() -> str:
    """Why steps cannot be struck here; empty if they can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    probe = ["strace", "-qq", "-e", "trace=getpid", "-e", "inject=getpid:signal=KILL:when=1000", "true"]
    tried = subprocess.run(probe, capture_output=True, text=True, check=False)
    return f"strace does not work here: {tried.stderr.strip()[:200]}" if tried.returncode else ""


def tracing(pid: int, log: Path, strike: Step | None = None) -> subprocess.Popen[bytes]:
    """Follow a process from now on; with `strike` it is killed at that step. Returns strace, which ends with the process."""
    inject = [] if strike is None else ["-e", f"inject={strike.call}:signal=KILL:when={strike.number}"]
    command = ["strace", "-f", "-qq", "-y", "-s", "0", "-e", f"trace={_CALLS}", *inject, "-o", str(log), "-p", str(pid)]
    tracer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end_s = time.monotonic() + _ATTACH_S
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None or time.monotonic() > end_s:
            tracer.kill()
            raise RuntimeError(f"strace cannot follow {pid}: {tracer.communicate()[1].decode()}")
        time.sleep(0.002)
    return tracer


def read_steps(log: Path, folder: Path) -> list[Step]:
    """The steps of a run that changed files below `folder`, in their order."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in log.read_text(errors="replace").splitlines():
        matched = _LINE.match(line)
        if matched is None:
            continue
        thread, call, rest = matched.groups()
        counts[thread, call] += 1
        if " = -1 E" not in rest and (kind := _kind(call, rest, folder)):
            found.append((call, counts[thread, call], kind))
    kinds = Counter(kind for _, _, kind in found)
    return [Step(call, number, kind, kinds[kind]) for call, number, kind in found]


def chosen(steps: list[Step]) -> list[Step]:
    """The first, the middle and the last step of each kind."""
    by_kind: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        by_kind[step.kind].append(step)
    return [own[index] for own in by_kind.values() for index in sorted({0, len(own) // 2, len(own) - 1})]


def struck(log: Path, folder: Path) -> str:
    """The kind of the step at which a process was killed; empty if it was at none."""
    last: dict[str, str] = {}
    for line in log.read_text(errors="replace").splitlines():
        matched = _LINE.match(line)
        if matched is not None:
            last[matched[1]] = _kind(matched[2], matched[3], folder) if "= ?" in line or "unfinished" in line else ""
    return next((kind for kind in last.values() if kind), "")


def _kind(call: str, rest: str, folder: Path) -> str:
    """Call and file of what changes something below `folder`; empty for anything else."""
    place, rest = re.escape(str(folder)), rest.rpartition(" = ")[0] or rest
    paths = re.findall(rf'["<]{place}/([^">]*)[">]', rest)
    base = re.match(rf'\d+<{place}(/[^>]*)?>, "([^"/][^"]*)"', rest)  # a name in an open folder
    if base:
        paths = [f"{(base[1] or '').lstrip('/')}/{base[2]}"]
    if not paths or (call in _OPENS and not re.search(r"O_CREAT|O_TRUNC", rest)):
        return ""
    return f"{call} {' '.join(_pattern(path) for path in paths)}"


def _pattern(path: str) -> str:
    """A path without what differs from run to run, nor what lies where inside an unfinished folder, which nobody reads."""
    folder, _, name = re.sub(r"(\.tmp-edge-mtl-(?:[^/.]+\.)?)[^/.]+", r"\1*", path).rpartition("/")
    if not name.startswith("."):
        name = f"*{Path(name).suffix}"
    return re.sub(r"[0-9a-f]{10,}|\d+", "*", re.sub(r"(\.tmp-edge-mtl-[^/]+/).+", r"\1**", f"{folder}/{name}".lstrip("/")))
